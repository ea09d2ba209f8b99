//! The binaries that ship: each compiled function under a stand-in of the Lambda Runtime API, given real API Gateway and
//! SQS events.

use std::{collections::BTreeSet, process::Stdio, sync::Arc};

use domain::{
    app::{App, Codec, Provider, ProviderKind, Transport},
    event::EventName,
    integration::{Draft, Integration, Surroundings},
    reach::Reach,
    time::Timestamp,
};
use embedded::{Config, Embedded};
use serde_json::{Value, json};
use store::{
    Aws, Endpoints, Queue, Store,
    provision::{self, QueueSpec, TableSpec},
};

use crate::support::{receiver::Receiver, runtime_api::Function};

const NOW: i64 = 1_800_000_000_000;

/// Table, queue, key and one app, over stand-ins of the services.
struct Ground {
    embedded: Arc<Embedded>,
    variables: Vec<(&'static str, String)>,
    queue: Queue,
    store: Store,
    app: App,
}

async fn ground(more: &[(&'static str, String)]) -> Ground {
    let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
    let [dynamodb, sqs, kms] = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
    let aws = Aws::local(Endpoints { dynamodb: dynamodb.clone(), sqs: sqs.clone(), kms: kms.clone() });
    let expiry = Some("expiresAt".to_owned());
    let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
    provision::table(&aws, &spec).await.expect("a table");
    let made = provision::queue(&aws, &QueueSpec { name: "deliveries".into(), attributes: Vec::new() })
        .await
        .expect("a queue");
    let key = provision::key(&aws, "alias/test").await.expect("a key");
    let store = Store::open(&aws, "table");
    let app = App::create("Shop", Timestamp::from_millis(NOW), &[1; 10], &[2; 20]).expect("an app");
    store.create_app(&app, None).await.expect("stored");
    let provider = Provider {
        kind: ProviderKind::Sip,
        uri: "sip:trunk.example.com".into(),
        transport: Transport::Udp,
        username: None,
        caller_id: None,
        codecs: vec![Codec::Pcmu],
        srtp: false,
        context_headers: Vec::new(),
        active: true,
    };
    store.seed_provider(app.id, &provider).await.expect("stored");
    let mut variables = vec![
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb),
        ("AWS_ENDPOINT_URL_SQS", sqs),
        ("AWS_ENDPOINT_URL_KMS", kms),
        ("C2C_TABLE", "table".to_owned()),
        ("C2C_DELIVERY_QUEUE_URL", made.url.clone()),
        ("C2C_KMS_KEY_ID", key),
        ("C2C_WIDGET_ORIGIN", "https://calls.example.net".to_owned()),
        ("C2C_CODE_ORIGIN", "https://code.example.net".to_owned()),
        ("C2C_CONSOLE_ORIGIN", "https://console.example.net".to_owned()),
        ("C2C_MEDIA_URL", "https://media.example.net".to_owned()),
    ];
    variables.extend(more.iter().cloned());
    Ground { embedded: Arc::new(embedded), variables, queue: Queue::open(&aws, made.url), store, app }
}

/// An event as API Gateway's HTTP API (payload 2.0) sends it.
fn api_event(method: &str, path: &str, headers: &Value, body: Option<&str>) -> Value {
    json!({
        "version": "2.0",
        "routeKey": format!("{method} {path}"),
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "domainName": "calls.example.net",
            "domainPrefix": "calls",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "198.51.100.7", "userAgent": "test"},
            "requestId": "request-1",
            "routeKey": format!("{method} {path}"),
            "stage": "$default",
            "time": "12/Mar/2027:19:03:58 +0000",
            "timeEpoch": 1_804_000_000_000_u64
        },
        "body": body,
        "isBase64Encoded": false
    })
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().expect("a text body")).expect("a JSON body")
}

fn post(path: &str, token: Option<&str>, body: &Value) -> Value {
    let mut headers = json!({"content-type": "application/json"});
    if let Some(token) = token {
        headers["authorization"] = json!(format!("Bearer {token}"));
    }
    api_event("POST", path, &headers, Some(&body.to_string()))
}

fn session_asked(ground: &Ground) -> Value {
    json!({"appId": ground.app.id, "widgetKey": ground.app.widget_key.to_string(), "context": {"page": "pricing"}})
}

#[tokio::test]
async fn a_session_is_given_and_its_event_queued() {
    let ground = ground(&[]).await;
    let session = Function::start("session", &ground.variables).await;
    let answer = session.invoke(post("/v1/sessions", None, &session_asked(&ground))).await.expect("an answer");
    assert_eq!(answer["statusCode"], 201, "{answer}");
    let token = body(&answer)["data"]["sessionToken"].as_str().expect("a token").to_owned();

    let draft: Draft = serde_json::from_value(
        json!({"name": "CRM", "url": "https://receiver.example.com/in", "events": ["widget_loaded"]}),
    )
    .expect("a draft");
    let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &BTreeSet::new() };
    let integration =
        Integration::create(draft, around, Timestamp::from_millis(NOW), &[3; 10]).expect("an integration");
    ground.store.create_integration(ground.app.id, &integration, None).await.expect("stored");

    let ingest = Function::start("ingest", &ground.variables).await;
    let event = json!({
        "id": "evt_01jd3v9zk0abcdefghjkmnpqrs", "name": "widget_loaded",
        "data": {"isPreview": false}, "timestamp": "2027-01-15T08:00:00.000Z"
    });
    let answer = ingest.invoke(post("/v1/events", Some(&token), &event)).await.expect("an answer");
    assert_eq!((&answer["statusCode"], &body(&answer)["data"]["deliveries"]), (&json!(202), &json!(1)), "{answer}");
    let queued = ground.queue.receive(10, std::time::Duration::ZERO).await.expect("the queue answers");
    let due: Value = serde_json::from_str(&queued[0].body).expect("a message");
    assert_eq!(due["envelope"]["data"]["context"], json!({"page": "pricing"}));
    assert_eq!(due["envelope"]["name"], EventName::WidgetLoaded.as_str());
}

#[tokio::test]
async fn a_dead_collector_delays_no_answer_and_the_next_invocation_a_moment() {
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let ground = ground(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
    let session = Function::start("session", &ground.variables).await;
    let mut took = Vec::new();
    for _ in 0..4 {
        let began = std::time::Instant::now();
        let answer = session.invoke(post("/v1/sessions", None, &session_asked(&ground))).await.expect("an answer");
        assert_eq!(answer["statusCode"], 201, "{answer}");
        took.push(began.elapsed());
    }
    // The first includes the start. The second waits for what the first left behind; then the collector is left alone.
    let (bound, slack) = (std::time::Duration::from_millis(200), std::time::Duration::from_millis(500));
    assert!(took[1..].iter().all(|took| *took < bound + slack), "{took:?}");
    // It was really asked.
    tokio::time::timeout(slack, silent.accept()).await.expect("somebody came").expect("a connection");
}

#[tokio::test]
async fn the_widget_and_the_console_answer() {
    let ground = ground(&[]).await;
    let widget = Function::start("widget", &ground.variables).await;
    let path = format!("/widget/{}", ground.app.id);
    let answer = widget.invoke(api_event("GET", &path, &json!({}), None)).await.expect("an answer");
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert!(answer["headers"]["content-security-policy"].as_str().expect("a policy").contains("frame-ancestors"));
    let loader =
        widget.invoke(api_event("GET", "/embed.js", &json!({"accept-encoding": "br"}), None)).await.expect("an answer");
    assert_eq!((&loader["statusCode"], &loader["isBase64Encoded"]), (&json!(200), &json!(true)), "{loader}");

    let console = Function::start("console", &ground.variables).await;
    let health = console.invoke(api_event("GET", "/healthz", &json!({}), None)).await.expect("an answer");
    assert_eq!(health["statusCode"], 200, "{health}");
    let refused = console.invoke(api_event("GET", "/api/v1/apps", &json!({}), None)).await.expect("an answer");
    assert_eq!((&refused["statusCode"], &body(&refused)["error"]["type"]), (&json!(401), &json!("unauthorized")));
}

#[tokio::test]
async fn bad_requests_are_refused_by_the_binary_too() {
    let ground = ground(&[]).await;
    let session = Function::start("session", &ground.variables).await;
    let json_type = json!({"content-type": "application/json"});
    for (headers, sent, status, kind) in [
        (&json_type, Some("{"), 400, "validation_error"),
        (&json_type, None, 400, "validation_error"),
        (&json!({"content-type": "text/plain"}), Some("{}"), 415, "unsupported_media_type"),
        (&json_type, Some(r#"{"appId":"app_00000000000000000000000000","widgetKey":"k"}"#), 404, "app_not_found"),
        (&json_type, Some("x".repeat(66_000).leak() as &str), 413, "payload_too_large"),
    ] {
        let answer = session.invoke(api_event("POST", "/v1/sessions", headers, sent)).await.expect("an answer");
        assert_eq!(
            (&answer["statusCode"], &body(&answer)["error"]["type"]),
            (&json!(status), &json!(kind)),
            "{answer}"
        );
        assert_eq!(body(&answer)["error"]["requestId"], "request-1", "{answer}");
    }
}

#[tokio::test]
async fn malformed_events_get_an_error_and_the_function_lives_on() {
    let ground = ground(&[]).await;
    for name in ["widget", "session", "ingest", "console", "dispatch"] {
        let mut function = Function::start(name, &ground.variables).await;
        for event in ["null", "[]", "\"x\"", "{\"Records\": 7}", "{\"version\": \"2.0\", \"requestContext\": 7}"] {
            let error = function.invoke(event).await.expect_err(event);
            assert!(error["errorType"].is_string() && error["errorMessage"].is_string(), "{name} {event}: {error}");
            assert!(!error.to_string().contains("panicked"), "{name} {event}: {error}");
        }
        assert!(function.is_running(), "{name}");
    }
}

#[tokio::test]
async fn a_missing_variable_is_named_and_ends_the_start() {
    for name in ["widget", "session", "ingest", "console", "dispatch"] {
        let mut function = Function::start_logging(name, &[], Stdio::piped()).await;
        let (well, log) = function.ended().await;
        assert!(!well && log.contains("must be set") && log.contains("C2C_"), "{name}: {log}");
    }
}

fn sqs_record(id: &str, body: &str) -> Value {
    json!({
        "messageId": id, "receiptHandle": "r", "body": body, "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {}, "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:deliveries", "awsRegion": "us-east-1"
    })
}

#[tokio::test]
async fn dispatch_delivers_and_hands_back_only_what_it_could_not_do() {
    let receiver = Receiver::start().await;
    let allowed = format!("127.0.0.1/32:{}", receiver.port());
    let ground = ground(&[("C2C_ALLOW_DESTINATIONS", allowed.clone())]).await;
    let reach = Reach::with(vec![allowed.parse().expect("a network")]);
    let around = Surroundings { reach: &reach, own_hosts: &[], secrets: &BTreeSet::new() };
    let draft = json!({"name": "CRM", "url": receiver.url("/in"), "events": ["widget_loaded"]});
    let draft: Draft = serde_json::from_value(draft).expect("a draft");
    let integration =
        Integration::create(draft, around, Timestamp::from_millis(NOW), &[3; 10]).expect("an integration");
    ground.store.create_integration(ground.app.id, &integration, None).await.expect("stored");
    let due = json!({
        "v": 1, "delivery": "dlv_01jd3v9zk0abcdefghjkmnpqrs", "app": ground.app.id, "integration": integration.id,
        "envelope": {"id": "evt_01jd3v9zk0abcdefghjkmnpqrs", "name": "widget_loaded",
            "data": {"isPreview": false, "context": {}}, "timestamp": "2027-01-15T08:00:00.000Z"},
        "acceptedAt": "2027-01-15T08:00:00.000Z", "attempt": 1
    });
    let mut newer = due.clone();
    newer["v"] = json!(99);
    let dispatch = Function::start("dispatch", &ground.variables).await;
    let batch = json!({"Records": [
        sqs_record("good", &due.to_string()),
        sqs_record("malformed", "not a delivery"),
        sqs_record("newer", &newer.to_string()),
    ]});
    let answer = dispatch.invoke(batch).await.expect("an answer");
    let mut failed: Vec<_> = answer["batchItemFailures"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|failure| failure["itemIdentifier"].as_str().expect("an id"))
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, ["malformed", "newer"]);
    assert_eq!(receiver.received().len(), 1);
    let delivery = "dlv_01jd3v9zk0abcdefghjkmnpqrs".parse().expect("an id");
    let row = ground.store.delivery(ground.app.id, delivery).await.expect("read").expect("a row");
    assert_eq!((row.status, row.attempts.len()), (domain::delivery::Status::Delivered, 1));

    // The same message once more, as SQS may deliver it: nothing is sent.
    let again = dispatch.invoke(json!({"Records": [sqs_record("good", &due.to_string())]})).await.expect("an answer");
    assert_eq!(again["batchItemFailures"], json!([]));
    assert_eq!(receiver.received().len(), 1);
    assert!(ground.embedded.counts().values().sum::<u64>() > 0);
}
