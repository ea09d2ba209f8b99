//! Log lines: JSON, one object a line, on standard output. Which levels: `RUST_LOG`, else `info`; of other people's
//! crates never more than `info`. A line that counts something is a document of metrics as well ([`crate::metric`]), where
//! the deployment has a name; one that is about a session may be a span of its trace ([`crate::trace`]).

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    clock,
    env::{Env, RUST_LOG},
    line::Line,
    metric::{self, Place},
    trace,
};

/// The crates that are ours, and that know what may stand in a log.
const OURS: [&str; 11] =
    ["console", "dispatch", "domain", "edge", "embedded", "ingest", "local", "media", "session", "store", "widget"];

/// Begins logging as this function or server; only the first call in a process counts. `RUST_LOG` above `info` silences
/// metrics and traces with the lines that they are read from.
pub fn init(function: &'static str) {
    let env = Env::process();
    let lines = tracing_subscriber::fmt().fmt_fields(JsonFields::new()).event_format(Lines::of(&env, function));
    let lines = lines
        .with_max_level(LevelFilter::TRACE)
        .finish()
        .with(asked_for(&env, Targets::new().with_default(LevelFilter::INFO)));
    let traced = trace::start(&env, function);
    // Fails only when a subscriber is already there.
    let _ = lines.with(discreet()).with(traced.spans).try_init();
    if let Some(why) = traced.fault {
        tracing::warn!(why, "traces.off");
    }
}

/// Lets through what `RUST_LOG` asks for: `debug`, or `info,store=trace`; without it, or when it cannot be read, what
/// `otherwise` says. Targets and levels are all there is to ask for, so that no binary has to carry regular expressions.
pub fn asked_for(env: &Env, otherwise: Targets) -> Targets {
    env.text(RUST_LOG).and_then(|asked| asked.parse().ok()).unwrap_or(otherwise)
}

/// Lets through what may be logged at all, whatever `RUST_LOG` asks for. Below `info` the SDK prints whole requests and
/// answers, and with them rows, messages and data keys; other crates print peers' addresses.
pub fn discreet() -> Targets {
    let others = Targets::new().with_default(LevelFilter::INFO);
    // The SIP stack prints whole messages at `info`, and whom they are about above it.
    others.with_targets(OURS.map(|name| (name, LevelFilter::TRACE))).with_target("rsipstack", LevelFilter::OFF)
}

/// How a line is written.
struct Lines {
    json: Format<Json>,
    /// Where its metrics come from; none: lines are lines.
    place: Option<Place>,
}

impl Lines {
    fn of(env: &Env, function: &'static str) -> Self {
        let json = format::format().json().flatten_event(true).with_target(false);
        Self { json, place: Place::of(env, function) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let counted = |place| metric::of_line(place, &Line::name(event), || Line::read(event), clock::now());
        let Some(members) = self.place.as_ref().and_then(counted) else {
            return self.json.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.json.format_event(ctx, Writer::new(&mut line), event)?;
        let members = serde_json::Value::Object(members).to_string();
        // Both are objects with members: one is made of them.
        let opened = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writeln!(writer, "{opened},{}", &members[1..])
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use serde_json::{Value, json};
    use tracing::Level;

    use super::*;
    use crate::metric::tests::obeyed;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are written of what is told, within an invocation as Lambda's runtime makes one.
    fn written(deployment: &str, tell: impl FnOnce()) -> Vec<Value> {
        let (env, sink) = (Env::from_pairs([("C2C_DEPLOYMENT", deployment)]), Sink::default());
        let to = sink.clone();
        let lines = tracing_subscriber::fmt().fmt_fields(JsonFields::new()).event_format(Lines::of(&env, "ingest"));
        let subscriber = lines.with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("Lambda runtime invoke", requestId = "r-1").in_scope(tell);
        });
        let text = String::from_utf8(sink.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn lines_that_count_are_documents_of_metrics() {
        let lines = written("shop", || {
            tracing::info!(app = "app_1", session = "ses_1", preview = false, "session.created");
            tracing::info!(session = "ses_1", preview = false, deliveries = 2_usize, "event.accepted");
            tracing::info!(duration_ms = 61_u64, error_class = "http_5xx", verdict = "Pending", "delivery.attempted");
            tracing::info!(duration_ms = 7_u64, error_class = None::<&str>, verdict = ?Some(1), "delivery.attempted");
            tracing::info!(duration_s = 61_u64, preview = false, reason = "user_hangup", "call.ended");
            tracing::info!(duration_s = 1_u64, preview = false, error.code = "busy", "call.ended");
            tracing::error!(request.id = "r-1", status = 503, "request.failed");
        });
        let counted: Vec<_> = lines.iter().map(|line| Value::Object(obeyed(line))).collect();
        let attempt = |ms: u64| json!({"DeliveriesAttempted": 1, "AttemptTime": ms});
        let mut failed = attempt(61);
        failed["AttemptsFailed"] = 1.into();
        assert_eq!(
            counted,
            [
                json!({"SessionsCreated": 1}),
                json!({"EventsAccepted": 1, "DeliveriesQueued": 2}),
                failed,
                attempt(7),
                json!({"CallsEnded": 1, "CallTime": 61}),
                json!({"CallsEnded": 1, "CallTime": 1, "CallsFailed": 1}),
                json!({"RequestsFailed": 1}),
            ]
        );
        // A line stays what it was: time, level, message, facts, invocation.
        let first = &lines[0];
        assert_eq!((&first["message"], &first["level"]), (&json!("session.created"), &json!("INFO")));
        assert_eq!((&first["session"], &first["span"]["requestId"]), (&json!("ses_1"), &json!("r-1")));
        assert!(first["timestamp"].is_string());
        // What names an app, a session or a call is no dimension.
        let (last, others) = lines.split_last().expect("lines");
        let dimensions = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone();
        assert!(others.iter().all(|line| dimensions(line) == json!([["Deployment"]]) && line["Deployment"] == "shop"));
        assert_eq!(dimensions(last), json!([["Deployment"], ["Deployment", "Function"]]));
        assert_eq!(last["Function"], "ingest");
    }

    #[test]
    fn other_lines_are_lines() {
        let tell = || {
            tracing::info!(preview = true, deliveries = 0_usize, "event.accepted");
            tracing::info!(session = "ses_1", "session.renewed");
            tracing::info!("a word with \"quotes\" }}");
        };
        let (deployed, local) = (written("shop", tell), written("", tell));
        assert!(
            deployed.iter().chain(&local).all(|line| line.get("_aws").is_none() && line.get("Deployment").is_none())
        );
        assert_eq!(deployed.len() + local.len(), 6);
        assert!(written("", || tracing::info!("session.created"))[0].get("_aws").is_none());
    }

    #[test]
    fn what_is_asked_for_is_heard() {
        for (asked, target, level, heard) in [
            (None, "store", Level::INFO, true),
            (None, "store", Level::DEBUG, false),
            (Some("warn"), "store", Level::INFO, false),
            (Some("info,store=trace"), "store::table", Level::TRACE, true),
            (Some("info,store=trace"), "edge", Level::DEBUG, false),
            (Some("off"), "edge", Level::ERROR, false),
            (Some("store=="), "edge", Level::INFO, true),
        ] {
            let env = Env::from_pairs(asked.map(|asked| ("RUST_LOG", asked)));
            let filter = asked_for(&env, Targets::new().with_default(LevelFilter::INFO));
            assert_eq!(filter.would_enable(target, &level), heard, "{asked:?} {target} {level}");
        }
    }

    #[test]
    fn others_are_never_heard_below_info() {
        let discreet = discreet();
        for (target, level, heard) in [
            ("dispatch::attempt", Level::TRACE, true),
            ("store", Level::DEBUG, true),
            ("aws_smithy_runtime::client::orchestrator", Level::TRACE, false),
            ("aws_smithy_runtime::client::orchestrator", Level::DEBUG, false),
            ("axum::serve", Level::DEBUG, false),
            ("aws_config", Level::INFO, true),
            ("dynoxide", Level::ERROR, true),
            ("rsipstack::transport::udp", Level::INFO, false),
            ("rsipstack::dialog", Level::ERROR, false),
        ] {
            assert_eq!(discreet.would_enable(target, &level), heard, "{target} {level}");
        }
    }
}
