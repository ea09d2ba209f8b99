//! Traces, for whoever asks for them by OpenTelemetry's own variables; without `OTEL_EXPORTER_OTLP_ENDPOINT` nothing here
//! is made or done.
//!
//! A span is another reading of a log line that tells what was done in a session (`SPANS`): its name, how long it took,
//! and of the line's facts those that `ATTRIBUTES` lists, under the names that OpenTelemetry has for them. Nothing else
//! leaves. Which trace it belongs to, the session's id says ([`Trace`]); which sessions are traced is decided by that id
//! alone, so that every function decides alike.
//!
//! Spans wait in memory until [`flush`]. A function flushes after its answer has gone out and before Lambda freezes it, a
//! server once a second. What a collector does not take in time waits for the next flush; nothing but spans ever depends
//! on it.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use domain::{id::SessionId, time::Timestamp, trace::Trace};
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::{
    chance,
    client::Client,
    clock,
    env::{DEPLOYMENT, Env, OTLP_ENDPOINT, StartError, TRACES_SAMPLER, TRACES_SAMPLER_ARG, Var},
    line::Line,
};

/// How long a function waits for a collector after an invocation, at most; its answer has gone out by then.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// How long a server gives a collector, which nobody waits for.
const SERVER_PATIENCE: Duration = Duration::from_secs(5);
/// How long one sending may take in all. It goes on when a flush no longer waits for it, a function's beside the next
/// invocation: to reach a far collector takes several patiences, and one that was cut short would begin anew each time.
const SENDING: Duration = Duration::from_secs(30);
/// Between two flushes of a server.
const EVERY: Duration = Duration::from_secs(1);
/// After a flush that failed, the collector is left alone for this long: one that is dead costs next to nothing.
const QUIET: Duration = Duration::from_secs(10);
/// Spans that may wait. What comes when so many do is dropped, and counted.
const MOST: usize = 2_048;

/// What a line's span is, beside what the line says.
struct Shape {
    /// The line's message, and the span's name.
    name: &'static str,
    kind: SpanKind,
    /// Attributes that are always the same.
    fixed: &'static [(&'static str, &'static str)],
}

/// Every line that is a span.
const SPANS: &[Shape] = &[
    Shape {
        name: "session.created",
        kind: SpanKind::Server,
        fixed: &[("http.request.method", "POST"), ("http.route", "/v1/sessions")],
    },
    Shape {
        name: "session.renewed",
        kind: SpanKind::Server,
        fixed: &[("http.request.method", "POST"), ("http.route", "/v1/sessions/renew")],
    },
    Shape {
        name: "event.accepted",
        kind: SpanKind::Server,
        fixed: &[("http.request.method", "POST"), ("http.route", "/v1/events")],
    },
    Shape {
        name: "form.kept",
        kind: SpanKind::Server,
        fixed: &[("http.request.method", "PUT"), ("http.route", "/v1/form")],
    },
    Shape {
        name: "survey.kept",
        kind: SpanKind::Server,
        fixed: &[("http.request.method", "POST"), ("http.route", "/v1/surveys")],
    },
    Shape {
        name: "call.begun",
        kind: SpanKind::Server,
        fixed: &[("http.request.method", "POST"), ("http.route", "/v1/calls")],
    },
    // From its beginning to its end: the whole call.
    Shape { name: "call.ended", kind: SpanKind::Internal, fixed: &[] },
    Shape { name: "delivery.attempted", kind: SpanKind::Client, fixed: &[("http.request.method", "POST")] },
];

/// The facts of a line that a span tells, and what it calls them: OpenTelemetry's semantic conventions where they have a
/// word. No address of a visitor is among them, and of a customer's URL the host alone.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("app", "c2c.app"),
    ("session", "session.id"),
    ("event.id", "c2c.event.id"),
    ("event.name", "c2c.event.name"),
    ("deliveries", "c2c.deliveries"),
    ("delivery", "c2c.delivery"),
    ("integration", "c2c.integration"),
    ("attempt", "c2c.attempt"),
    ("verdict", "c2c.verdict"),
    ("host", "server.address"),
    ("status_code", "http.response.status_code"),
    ("error_class", "error.type"),
    ("call", "c2c.call"),
    ("call.id", "c2c.call"),
    ("reason", "c2c.call.reason"),
    ("error.code", "error.type"),
    ("sip.status", "c2c.sip.status"),
    ("preview", "c2c.preview"),
];

/// The process's own, if it was asked to trace.
static TRACES: OnceLock<Arc<Traces>> = OnceLock::new();

struct Traces {
    sampler: Sampler,
    exporter: SpanExporter,
    waiting: Mutex<Waiting>,
    /// One batch goes out at a time.
    sending: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Waiting {
    spans: Vec<SpanData>,
    dropped: u64,
    quiet_until: Option<Instant>,
}

/// What became of the wish to trace.
pub struct Started {
    /// Reads spans out of log lines, for the subscriber; nothing, when nobody asked.
    pub spans: Option<Spans>,
    /// Why there are none although somebody asked. A wrong variable of tracing stops nothing but traces.
    pub fault: Option<String>,
}

/// Reads what the process's variables ask for; only the first call in a process counts. `function` is who tells.
pub fn start(env: &Env, function: &'static str) -> Started {
    match Traces::open(env, function) {
        Ok(None) => Started { spans: None, fault: None },
        Ok(Some(traces)) => {
            // Whoever came first has the same variables.
            let _ = TRACES.set(Arc::new(traces));
            Started { spans: Some(Spans), fault: None }
        }
        Err(error) => Started { spans: None, fault: Some(error.to_string()) },
    }
}

/// A span for something that is done in a session, to be told of by the field `trace` of its line and to whom it causes;
/// `None`, when it is not traced.
pub fn begin(session: SessionId) -> Option<Trace> {
    let root = Trace::of_session(session);
    TRACES.get()?.samples(root).then(|| root.beside(chance::bytes()))
}

/// Sends what waits, and returns once it is sent, or after this long.
pub async fn flush(patience: Duration) {
    if let Some(traces) = TRACES.get() {
        traces.flush(patience).await;
    }
}

/// Flushes again and again; for a server, in a task of its own. Returns at once where nothing is traced.
pub async fn keep_flushing() {
    let Some(traces) = TRACES.get() else { return };
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        traces.flush(SERVER_PATIENCE).await;
    }
}

tokio::task_local! {
    /// When the request that this task serves came in.
    static BEGAN: Timestamp;
}

/// Serves a request; spans of lines that it writes begin now, unless they say how long they took.
pub(crate) async fn timed<T>(serve: impl Future<Output = T>) -> T {
    if TRACES.get().is_none() {
        return serve.await;
    }
    BEGAN.scope(clock::now(), serve).await
}

impl Traces {
    fn open(env: &Env, function: &'static str) -> Result<Option<Self>, StartError> {
        let Some(endpoint) = env.text(OTLP_ENDPOINT) else { return Ok(None) };
        let invalid = |var: Var, why: &str| StartError::Invalid { var, why: why.to_owned() };
        let unusable = || invalid(OTLP_ENDPOINT, "must be an address such as https://collector.example.com:4318");
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(unusable());
        }
        // Headers and what else the standard names are read by the exporter itself.
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::default())
            // Tried again with the next flush.
            .with_retry_policy(RetryPolicy::disabled())
            .build();
        // What is wrong is not repeated: an address may hold a password.
        let mut exporter = exporter.map_err(|_| unusable())?;
        let mut about = vec![KeyValue::new("service.namespace", "click-to-call")];
        about.extend(env.text(DEPLOYMENT).map(|name| KeyValue::new("deployment.environment.name", name)));
        exporter.set_resource(&Resource::builder().with_service_name(function).with_attributes(about).build());
        let sampler = sampler(env)?;
        Ok(Some(Self { sampler, exporter, waiting: Mutex::default(), sending: Arc::default() }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this trace is among those that are recorded.
    fn samples(&self, trace: Trace) -> bool {
        let id = TraceId::from_bytes(trace.trace_id());
        let result = self.sampler.should_sample(None, id, "", &SpanKind::Internal, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn keep(&self, span: SpanData) {
        let mut waiting = self.waiting();
        if waiting.spans.len() < MOST {
            waiting.spans.push(span);
        } else {
            waiting.dropped += 1;
        }
    }

    async fn flush(self: &Arc<Self>, patience: Duration) {
        // What waits while a batch is on its way goes with the next.
        let Ok(turn) = self.sending.clone().try_lock_owned() else { return };
        let Some(spans) = self.waiting().take(Instant::now()) else { return };
        let batch = Batch { traces: self.clone(), spans };
        let sending = tokio::spawn(async move {
            batch.send().await;
            drop(turn);
        });
        if tokio::time::timeout(patience, sending).await.is_err() {
            self.waiting().quiet_until = Some(Instant::now() + QUIET);
            tracing::info!(waited_ms = patience.as_millis(), "traces.late");
        }
    }
}

impl Waiting {
    fn take(&mut self, now: Instant) -> Option<Vec<SpanData>> {
        let quiet = self.quiet_until.is_some_and(|until| now < until);
        (!quiet && !self.spans.is_empty()).then(|| mem::take(&mut self.spans))
    }
}

/// Spans on their way.
struct Batch {
    traces: Arc<Traces>,
    spans: Vec<SpanData>,
}

impl Batch {
    async fn send(mut self) {
        let export = self.traces.exporter.export(self.spans.clone());
        let sent = tokio::time::timeout(SENDING, export).await.is_ok_and(|exported| exported.is_ok());
        if sent {
            self.spans.clear();
            self.traces.waiting().quiet_until = None;
            return;
        }
        let traces = self.traces.clone();
        drop(self);
        let (waiting, dropped) = {
            let mut waiting = traces.waiting();
            waiting.quiet_until = Some(Instant::now() + QUIET);
            (waiting.spans.len(), mem::take(&mut waiting.dropped))
        };
        tracing::warn!(waiting, dropped, "traces.not_sent");
    }
}

impl Drop for Batch {
    /// What was not sent waits again, before what came since.
    fn drop(&mut self) {
        let mut waiting = self.traces.waiting();
        self.spans.append(&mut waiting.spans);
        waiting.dropped += self.spans.len().saturating_sub(MOST) as u64;
        self.spans.truncate(MOST);
        mem::swap(&mut self.spans, &mut waiting.spans);
    }
}

/// The sampler that the standard's variables name. Nothing is above a session's trace, and everything in it is decided by
/// its id: what follows a parent decides as the parent did.
fn sampler(env: &Env) -> Result<Sampler, StartError> {
    let name = env.text(TRACES_SAMPLER).unwrap_or_else(|| "always_on".to_owned());
    let share = env.optional::<f64>(TRACES_SAMPLER_ARG)?.unwrap_or(1.0);
    match name.strip_prefix("parentbased_").unwrap_or(&name) {
        "always_on" => Ok(Sampler::AlwaysOn),
        "always_off" => Ok(Sampler::AlwaysOff),
        "traceidratio" if (0.0..=1.0).contains(&share) => Ok(Sampler::TraceIdRatioBased(share)),
        "traceidratio" => Err(StartError::Invalid { var: TRACES_SAMPLER_ARG, why: "must be from 0 to 1".to_owned() }),
        _ => {
            let why = "must be always_on, always_off or traceidratio, or one of these after parentbased_".to_owned();
            Err(StartError::Invalid { var: TRACES_SAMPLER, why })
        }
    }
}

/// Reads spans out of log lines.
#[derive(Clone, Copy, Debug)]
pub struct Spans;

impl<S: Subscriber> Layer<S> for Spans {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(traces) = TRACES.get().filter(|_| *event.metadata().level() <= Level::INFO) else { return };
        let name = Line::name(event);
        let Some(shape) = SPANS.iter().find(|shape| shape.name == name) else { return };
        let scope = event.metadata().target().split("::").next().unwrap_or_default();
        let began = BEGAN.try_with(|began| *began).ok();
        let span = span(shape, &Line::read(event), scope, (began, clock::now()), |trace| traces.samples(trace));
        if let Some(span) = span {
            traces.keep(span);
        }
    }
}

/// The span of a line that was written now; `None`, when it is about no session, or about one that is not traced.
fn span(
    shape: &Shape,
    line: &Line,
    scope: &str,
    (began, now): (Option<Timestamp>, Timestamp),
    samples: impl Fn(Trace) -> bool,
) -> Option<SpanData> {
    let root = line.text("session").and_then(|session| session.parse().ok()).map(Trace::of_session);
    let cause = line.text("trace.parent").and_then(|text| text.parse::<Trace>().ok());
    let parent = cause.or(root)?;
    let own = line.text("trace").and_then(|text| text.parse::<Trace>().ok());
    let own = own.unwrap_or_else(|| if shape.name == ROOT { parent } else { parent.beside(chance::bytes()) });
    // Whoever was told of a span was told by somebody who records it.
    if cause.is_none() && !samples(own) {
        return None;
    }
    let took = line.number("took_ms").or_else(|| line.number("duration_ms")).map(Duration::from_millis);
    let took = took.or_else(|| began.map(|began| now.since(began))).unwrap_or_default();
    let failed = line.has("error_class") || line.has("error.code");
    let parent_id = if own == parent { SpanId::INVALID } else { SpanId::from_bytes(parent.span_id()) };
    let context = SpanContext::new(
        TraceId::from_bytes(own.trace_id()),
        SpanId::from_bytes(own.span_id()),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    Some(SpanData {
        span_context: context,
        parent_span_id: parent_id,
        parent_span_is_remote: own != parent,
        span_kind: shape.kind.clone(),
        name: shape.name.into(),
        start_time: system(now) - took,
        end_time: system(now),
        attributes: attributes(shape, line),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder(scope.to_owned()).build(),
    })
}

/// The line whose span is the first of its session's trace.
const ROOT: &str = "session.created";

fn attributes(shape: &Shape, line: &Line) -> Vec<KeyValue> {
    let fixed = shape.fixed.iter().map(|(name, value)| KeyValue::new(*name, *value));
    let told = ATTRIBUTES.iter().filter_map(|(field, name)| {
        let number = line.number(field).and_then(|number| i64::try_from(number).ok()).map(Value::I64);
        let value = number.or_else(|| line.text(field).map(|text| Value::String(text.to_owned().into())));
        let value = value.or_else(|| line.has(field).then(|| Value::Bool(line.holds(field))))?;
        Some(KeyValue::new(*name, value))
    });
    fixed.chain(told).collect()
}

fn system(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const SESSION: &str = "ses_01jd3v9zk0abcdefghjkmnpqrs";

    /// Reads spans as [`Spans`] does, of a test's own lines.
    struct Reader {
        read: Arc<Mutex<Vec<SpanData>>>,
        samples: bool,
    }

    impl<S: Subscriber> Layer<S> for Reader {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let name = Line::name(event);
            let shape = SPANS.iter().find(|shape| shape.name == name).expect("a line that is a span");
            let times = (Some(Timestamp::from_millis(60_000)), Timestamp::from_millis(60_250));
            let read = span(shape, &Line::read(event), "ingest", times, |_| self.samples);
            self.read.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
        }
    }

    fn spans(samples: bool, tell: impl FnOnce()) -> Vec<SpanData> {
        let read = Arc::<Mutex<Vec<SpanData>>>::default();
        let reader = Reader { read: Arc::clone(&read), samples };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(reader), tell);
        read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn told(span: &SpanData) -> Vec<(String, String)> {
        let mut told: Vec<_> =
            span.attributes.iter().map(|one| (one.key.to_string(), one.value.as_str().into_owned())).collect();
        told.sort();
        told
    }

    #[test]
    fn lines_of_a_session_are_spans_of_its_trace() {
        let root = Trace::of_session(SESSION.parse().expect("an id"));
        let event = root.beside([7; 8]);
        let spans = spans(true, || {
            tracing::info!(session = SESSION, preview = false, client = "203.0.113.0", "session.created");
            tracing::info!(session = SESSION, event.name = "widget_loaded", trace = %event, "event.accepted");
            tracing::info!(
                delivery = "dlv_1", trace.parent = %event, attempt = 2_u32, host = "example.com", status_code = 503_u16,
                error_class = "http_5xx", duration_ms = 100_u64, "delivery.attempted"
            );
            tracing::info!(session = SESSION, call = "call_1", error.code = "busy", took_ms = 1_u64, "call.ended");
        });
        let parents = [SpanId::INVALID, SpanId::from_bytes(root.span_id()), SpanId::from_bytes([7; 8])];
        let kinds = [SpanKind::Server, SpanKind::Server, SpanKind::Client, SpanKind::Internal];
        let millis = [250, 250, 100, 1].map(Duration::from_millis);
        for (number, span) in spans.iter().enumerate() {
            assert_eq!(span.span_context.trace_id(), TraceId::from_bytes(root.trace_id()), "{span:?}");
            assert_eq!(span.parent_span_id, parents[if number == 3 { 1 } else { number }], "{span:?}");
            assert_eq!(span.span_kind, kinds[number]);
            assert_eq!(span.end_time.duration_since(span.start_time).expect("in order"), millis[number], "{span:?}");
            assert_eq!(span.status == Status::error(""), number >= 2, "{span:?}");
        }
        let ids: Vec<_> = spans.iter().map(|span| span.span_context.span_id()).collect();
        assert_eq!(ids[..2], [SpanId::from_bytes(root.span_id()), SpanId::from_bytes([7; 8])]);
        assert!(ids.len() == 4 && !ids[..2].contains(&ids[2]) && !ids[..3].contains(&ids[3]));
        // Nothing but what is listed: no visitor's address, not even a shortened one.
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            told(&spans[0]),
            [
                pair("c2c.preview", "false"),
                pair("http.request.method", "POST"),
                pair("http.route", "/v1/sessions"),
                pair("session.id", SESSION)
            ]
        );
        assert_eq!(
            told(&spans[2]),
            [
                pair("c2c.attempt", "2"),
                pair("c2c.delivery", "dlv_1"),
                pair("error.type", "http_5xx"),
                pair("http.request.method", "POST"),
                pair("http.response.status_code", "503"),
                pair("server.address", "example.com")
            ]
        );
    }

    #[test]
    fn who_is_not_sampled_is_not_traced() {
        let trace = Trace::of_session(SESSION.parse().expect("an id"));
        let tell = || {
            tracing::info!(session = SESSION, "session.created");
            tracing::info!("session.created");
            tracing::info!(session = "ses_1", "event.accepted");
            tracing::info!(delivery = "dlv_1", "delivery.attempted");
            tracing::info!(delivery = "dlv_1", trace.parent = %trace, "delivery.attempted");
        };
        // What a message says was decided by who sent it.
        let names = |samples| spans(samples, tell).iter().map(|span| span.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(false), ["delivery.attempted"]);
        assert_eq!(names(true), ["session.created", "delivery.attempted"]);
    }

    fn env(more: &[(&str, &str)]) -> Env {
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
        Env::from_pairs(endpoint.iter().chain(more).copied())
    }

    #[test]
    fn the_standards_variables() {
        let (some, other) = ("ses_01jd3v9zk00000000000000000", "ses_01jd3v9zk0zzzzzzzzzzzzzzzz");
        let share = |name, share| {
            let env = env(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", share)]);
            let traces = Traces::open(&env, "ingest").map_err(|error| error.to_string())?.expect("asked for");
            let samples = |session: &str| traces.samples(Trace::of_session(session.parse().expect("an id")));
            Ok::<_, String>((samples(some), samples(other)))
        };
        for (name, arg, sampled) in [
            ("", "", (true, true)),
            ("always_on", "", (true, true)),
            ("parentbased_always_off", "", (false, false)),
            ("traceidratio", "", (true, true)),
            ("traceidratio", "0.5", (true, false)),
            ("parentbased_traceidratio", "0", (false, false)),
        ] {
            assert_eq!(share(name, arg), Ok(sampled), "{name} {arg}");
        }
        for (name, arg, var) in [
            ("jaeger_remote", "", "OTEL_TRACES_SAMPLER: "),
            ("traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG: "),
            ("traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG: "),
        ] {
            let error = share(name, arg).expect_err(name);
            assert!(error.starts_with(var), "{error}");
        }
        let none: [(&str, &str); 0] = [];
        assert!(Traces::open(&Env::from_pairs(none), "ingest").expect("nothing wrong").is_none());
        for wrong in ["collector:4318", "http://a b:pass@word/"] {
            let env = Env::from_pairs([("OTEL_EXPORTER_OTLP_ENDPOINT", wrong)]);
            let error = Traces::open(&env, "ingest").map(|_| ()).expect_err(wrong).to_string();
            assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: ") && !error.contains(wrong), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_collector_costs_a_moment_and_its_spans_wait() {
        // It takes connections and never answers.
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
        let traces = Traces::open(&env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]), "ingest");
        let traces = Arc::new(traces.expect("good").expect("asked for"));
        for span in spans(true, || tracing::info!(session = SESSION, "session.created")) {
            traces.keep(span);
        }
        let began = tokio::time::Instant::now();
        traces.flush(PATIENCE).await;
        let took = began.elapsed();
        assert!((PATIENCE..PATIENCE * 2).contains(&took), "{took:?}");
        // From then on it is left alone for a while, and nothing is lost.
        let began = tokio::time::Instant::now();
        traces.flush(PATIENCE).await;
        assert!(began.elapsed().is_zero(), "{:?}", began.elapsed());
        let _over = traces.sending.lock().await;
        assert_eq!(traces.waiting().spans.len(), 1);
        let later = Instant::now() + QUIET;
        assert_eq!(traces.waiting().take(later).map(|spans| spans.len()), Some(1));
    }

    #[tokio::test]
    async fn a_far_collector_is_reached_although_nobody_waits_so_long() {
        let far = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let endpoint = format!("http://{}", far.local_addr().expect("an address"));
        let traces = Traces::open(&env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]), "ingest");
        let traces = Arc::new(traces.expect("good").expect("asked for"));
        for span in spans(true, || tracing::info!(session = SESSION, "session.created")) {
            traces.keep(span);
        }
        traces.flush(Duration::ZERO).await;
        let (mut stream, _) = far.accept().await.expect("it goes on");
        let mut request = [0; 4];
        stream.read_exact(&mut request).await.expect("a request");
        assert_eq!(&request, b"POST");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("answered");
        let _over = traces.sending.lock().await;
        let waiting = traces.waiting();
        assert_eq!((waiting.spans.len(), waiting.quiet_until), (0, None), "sent, and the next may go at once");
    }

    #[tokio::test]
    async fn what_waits_has_an_end() {
        let traces = Arc::new(Traces::open(&env(&[]), "ingest").expect("good").expect("asked for"));
        let spans = spans(true, || tracing::info!(session = SESSION, "session.created"));
        for _ in 0..MOST + 3 {
            traces.keep(spans[0].clone());
        }
        let dropped = traces.waiting().dropped;
        assert_eq!((traces.waiting().spans.len(), dropped), (MOST, 3));
        // Nobody listens there: refused at once, and all of it still waits.
        traces.flush(PATIENCE).await;
        assert_eq!(traces.waiting().spans.len(), MOST);
    }
}
