//! Traces: what a collector hears of one visitor, from the session to delivered webhooks and the call; and that one which
//! does not answer holds nobody up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use domain::{id::SessionId, trace::Trace};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    house::{client, eventually, loaded},
    process::Process,
    receiver::{Answer, Receiver},
    visitor::Visitor,
};

/// Longer than anything here takes: a retry comes after 5 s.
const PATIENCE: Duration = Duration::from_secs(40);
const KEY: &str = "collectorCanaryK4wQ8x";
const OF_VISITOR: &str = "visitorCanaryN3fT6z";
const IN_URL: &str = "urlCanaryB5hR2m";

/// A collector of the operator's: OpenTelemetry's protocol over HTTP.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    spans: Vec<Span>,
    services: Vec<String>,
    /// Everything as it came.
    bytes: Vec<u8>,
    keys: Vec<String>,
}

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let collector = Self::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, address)
    }

    fn taken<T>(&self, read: impl FnOnce(&mut Taken) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, name: &str) -> usize {
        self.taken(|taken| taken.spans.iter().filter(|span| span.name == name).count())
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let export = ExportTraceServiceRequest::decode(body.clone()).expect("an export");
    collector.taken(|taken| {
        taken.bytes.extend_from_slice(&body);
        taken.keys.push(headers["authorization"].to_str().expect("text").to_owned());
        for group in export.resource_spans {
            let resource = group.resource.expect("a resource");
            taken.services.extend(resource.attributes.iter().map(|one| format!("{} {:?}", one.key, one.value)));
            taken.spans.extend(group.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    });
}

/// The house, asked as a browser and an operator ask it.
struct Ground {
    house: Process,
    client: Client,
}

impl Ground {
    async fn ask(&self, method: Method, origin: &str, path: &str, token: Option<&str>, body: Value) -> Response {
        let origin = self.house.says(origin);
        let (host, port) = origin.trim_start_matches("http://").rsplit_once(':').expect("a port");
        let asked = self.client.request(method, format!("http://127.0.0.1:{port}{path}"));
        let asked = asked.header("host", format!("{host}:{port}")).json(&body);
        let answer = token.into_iter().fold(asked, |asked, token| asked.bearer_auth(token)).send().await;
        let answer = answer.expect("the house answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer
    }

    async fn manage(&self, method: Method, path: &str, body: Value) -> Value {
        let token = self.house.says("/operatorToken");
        let path = format!("/api/v1{path}");
        let answer = self.ask(method, "/consoleOrigin", &path, Some(&token), body).await;
        answer.json::<Value>().await.expect("JSON")["data"].take()
    }

    /// An app that calls the house's telephone and tells `receiver`; a session of it: its id and token.
    async fn session(&self, receiver: &Receiver) -> (SessionId, String) {
        let app = self.manage(Method::POST, "/apps", json!({"name": "Shop"})).await;
        let (id, key) = (app["appId"].as_str().expect("an id"), &app["widgetKey"]);
        let trunk = self.house.says("/sipTrunk");
        let provider = json!({"kind": "sip", "uri": trunk, "transport": "udp", "active": true});
        self.manage(Method::PUT, &format!("/apps/{id}/provider"), provider).await;
        let profile = json!({"name": "Echo", "destination": "sip:echo@127.0.0.1", "default": true});
        self.manage(Method::POST, &format!("/apps/{id}/profiles"), profile).await;
        let url = receiver.url(&format!("/in?key={IN_URL}"));
        let crm = json!({"name": "CRM", "url": url, "events": ["widget_loaded", "call_ended"]});
        self.manage(Method::POST, &format!("/apps/{id}/integrations"), crm).await;
        let asked = json!({"appId": id, "widgetKey": key, "context": {"mail": OF_VISITOR}});
        let given = self.ask(Method::POST, "/origin", "/v1/sessions", None, asked).await;
        let given = given.json::<Value>().await.expect("JSON")["data"].take();
        let text = |name: &str| given[name].as_str().expect("a text").to_owned();
        (text("sessionId").parse().expect("an id"), text("sessionToken"))
    }

    /// One whole call of a session.
    async fn call(&self, token: &str) {
        let visitor = Visitor::new(1_000.0).await;
        let at = self.house.says("/mediaUrl");
        let offer = self.client.post(format!("{at}/v1/calls")).bearer_auth(token);
        let offer = offer.header("content-type", "application/sdp").body(visitor.offer().await);
        let answer = offer.send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
        let call = answer.headers()["location"].to_str().expect("text").to_owned();
        visitor.take(&answer.text().await.expect("an answer")).await;
        visitor.told("quality").await;
        let ended = self.client.delete(format!("{at}{call}")).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(ended.status(), 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_visitor_is_one_trace_from_session_to_webhook_and_call() {
    let (collector, endpoint) = Collector::start().await;
    let receiver = Receiver::start().await;
    // The first webhook comes again: its attempts stand beside each other.
    receiver.answer([Answer::status(500)]);
    let header = format!("authorization=Bearer%20{KEY}");
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_HEADERS", header.as_str())];
    let allowed = ["--ephemeral".to_owned(), "--allow-destination".to_owned(), "127.0.0.1/32".to_owned()];
    let mut ground = Ground { house: Process::start("traces", &allowed, &variables).await, client: client(None) };

    let (session, token) = ground.session(&receiver).await;
    ground.ask(Method::POST, "/origin", "/v1/events", Some(&token), loaded()).await;
    ground.call(&token).await;
    let spans = [
        ("session.created", 1),
        ("event.accepted", 1),
        ("call.begun", 1),
        ("call.ended", 1),
        ("delivery.attempted", 3),
    ];
    eventually(PATIENCE, || spans.iter().all(|(name, count)| collector.count(name) >= *count)).await;
    assert!(ground.house.stop().await, "{}", ground.house.logged());

    let all = collector.taken(|taken| std::mem::take(&mut taken.spans));
    assert_eq!(all.len(), spans.iter().map(|(_, count)| count).sum::<usize>(), "{all:?}");
    let root = Trace::of_session(session);
    let one = |name: &str| all.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"));
    assert!(all.iter().all(|span| span.trace_id == root.trace_id()), "{all:?}");
    let first = one("session.created");
    assert_eq!((first.span_id.as_slice(), first.parent_span_id.as_slice()), (&root.span_id()[..], &[][..]));
    for name in ["event.accepted", "call.begun", "call.ended"] {
        assert_eq!(one(name).parent_span_id, first.span_id, "{name}");
    }
    // Each webhook hangs on what caused it: two attempts on the event, one on the call.
    let mut causes = HashMap::<&[u8], usize>::new();
    for span in all.iter().filter(|span| span.name == "delivery.attempted") {
        *causes.entry(&span.parent_span_id).or_default() += 1;
        assert_eq!(span.kind, SpanKind::Client as i32);
    }
    let (event, call) = (one("event.accepted"), one("call.ended"));
    assert_eq!(causes, HashMap::from([(event.span_id.as_slice(), 2), (call.span_id.as_slice(), 1)]));
    assert_eq!((event.kind, call.kind), (SpanKind::Server as i32, SpanKind::Internal as i32));
    assert!(all.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano && span.span_id != [0; 8]));

    // The collector is who was meant, and hears neither secrets nor what is personal; receivers are told of no trace.
    collector.taken(|taken| {
        assert!(taken.keys.iter().all(|key| *key == format!("Bearer {KEY}")), "{:?}", taken.keys);
        assert!(taken.services.iter().any(|one| one.starts_with("service.name") && one.contains("click-to-call")));
        let text = String::from_utf8_lossy(&taken.bytes).into_owned();
        assert!(text.contains("127.0.0.1") && text.contains(&session.to_string()), "the search finds what is there");
        let operator = ground.house.says("/operatorToken");
        for secret in [KEY, OF_VISITOR, IN_URL, token.as_str(), operator.as_str(), "/in", "sip:", "http://"] {
            assert!(!text.contains(secret), "{secret}");
        }
    });
    assert_eq!(receiver.received().len(), 3);
    assert!(receiver.received().iter().all(|request| !request.headers.contains_key("traceparent")));
    let log = ground.house.logged();
    assert!(log.contains("delivery.attempted") && !log.contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_nobody_up() {
    // It takes connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let receiver = Receiver::start().await;
    let allowed = ["--ephemeral".to_owned(), "--allow-destination".to_owned(), "127.0.0.1/32".to_owned()];
    let house = Process::start("silent", &allowed, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    let mut ground = Ground { house, client: client(None) };
    let (_, token) = ground.session(&receiver).await;
    let began = Instant::now();
    for _ in 0..5 {
        ground.ask(Method::POST, "/origin", "/v1/events", Some(&token), loaded()).await;
    }
    eventually(PATIENCE, || receiver.received().len() == 5).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    eventually(PATIENCE, || ground.house.logged().contains("traces.late")).await;
    assert!(ground.house.stop().await, "{}", ground.house.logged());
}
