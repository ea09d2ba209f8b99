//! Secrets with unmistakable values go through everything the house does with them, well or badly. Afterwards nothing that
//! it wrote or said holds one: its log at its most talkative, its answers, every row and message, the files they lie in.
//! What visitors say and where they call from stands in no log either.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use embedded::{Fault, Injection, Service};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{
    hostile::{BREAKS, ECHOES, Hostile},
    house::{client, loaded, pause},
    process::Process,
};

const IN_PATH: &str = "pathCanaryT4mK/9z?#..pathCanaryW8vN2x";
const IN_QUERY: &str = "queryCanaryB6jR&=%41+queryCanaryL3sD7f";
const IN_HEADER: &str = "headerCanaryH5gP\"\\<&'/headerCanaryY9cQ1k";
const OF_PROVIDER: &str = "providerCanaryR6wZ\"&/providerCanaryU2kE9b";
const OF_VISITOR: &str = "visitorCanaryJ2hV8d";
const VISITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// Letters and digits that are a secret's own.
const RUN: usize = 12;

fn provider(password: impl Into<Value>) -> Value {
    json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "udp", "active": true, "username": "trunk",
        "password": password.into()})
}

fn in_long() -> String {
    "longCanaryX7pZ/".repeat(260)
}

/// A value, and the texts that betray it however it is written.
struct Canary {
    name: &'static str,
    forms: Vec<String>,
}

impl Canary {
    fn new(name: &'static str, value: &str) -> Self {
        // Escapes are made of its other characters; these stay in every one of them, and in every half of it.
        let runs = value.split(|character: char| !character.is_ascii_alphanumeric()).filter(|run| run.len() >= RUN);
        let mut plain: Vec<String> = runs.map(ToOwned::to_owned).collect();
        plain.push(value.to_owned());
        let mut forms: Vec<String> = plain.iter().map(|text| text.chars().rev().collect()).collect();
        for text in &plain {
            forms.push(text.bytes().map(|byte| format!("{byte:02x}")).collect());
            forms.push(text.bytes().map(|byte| format!("{byte:02X}")).collect());
            // What of its base64 does not depend on what stands before and after it.
            for before in 0..3 {
                let shifted = format!("{}{text}", &"\0\0"[..before]);
                let (first, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
                forms.push(STANDARD_NO_PAD.encode(&shifted)[first..end].to_owned());
                forms.push(URL_SAFE_NO_PAD.encode(&shifted)[first..end].to_owned());
            }
        }
        forms.extend(plain);
        forms.sort();
        forms.dedup();
        Self { name, forms }
    }

    /// Bytes, which are stored and shown in one writing or another.
    fn bytes(name: &'static str, bytes: &[u8]) -> Self {
        let hex = |byte: &u8| format!("{byte:02x}");
        Self { name, forms: vec![STANDARD.encode(bytes), bytes.iter().map(hex).collect()] }
    }

    fn stands_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }
}

/// What the house answered.
struct Told {
    status: u16,
    text: String,
    /// Status, headers and body.
    whole: String,
}

impl Told {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    fn data(&self, name: &str) -> String {
        self.json()["data"][name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.text)).to_owned()
    }
}

/// The house, everything that it said, and all canaries.
struct Ground {
    house: Process,
    hostile: Hostile,
    client: Client,
    visitor: Client,
    operator: String,
    told: Mutex<Vec<(String, String)>>,
    secrets: Mutex<Vec<Canary>>,
}

impl Ground {
    async fn start() -> Self {
        let hostile = Hostile::start().await;
        let allowed = ["--allow-destination".to_owned(), "127.0.0.1/32".to_owned()];
        let variables = [
            ("RUST_LOG", "trace"),
            ("RUST_BACKTRACE", "1"),
            ("C2C_LIMIT_EVENTS_IP", "100000"),
            ("C2C_LIMIT_SESSION_IP", "100000"),
        ];
        let house = Process::start("canary", &allowed, &variables).await;
        let operator = house.says("/operatorToken");
        let secrets = vec![
            Canary::new("in path", IN_PATH),
            Canary::new("in query", IN_QUERY),
            Canary::new("in header", IN_HEADER),
            Canary::new("long", &in_long()),
            Canary::new("provider's password", OF_PROVIDER),
            Canary::new("operator token", &operator),
        ];
        let visitor = client(Some(IpAddr::V4(VISITOR)));
        let (told, secrets) = (Mutex::default(), Mutex::new(secrets));
        Self { house, hostile, client: client(None), visitor, operator, told, secrets }
    }

    fn guard(&self, canary: Canary) {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).push(canary);
    }

    /// The names of the canaries that stand in a text.
    fn found(&self, text: &str) -> Vec<&'static str> {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().filter(|canary| canary.stands_in(text)).map(|canary| canary.name).collect()
    }

    /// Asks, and keeps the answer for the search.
    async fn ask(&self, asked: reqwest::RequestBuilder) -> Told {
        let (client, request) = asked.build_split();
        let request = request.expect("a request");
        let what = format!("{} {}", request.method(), request.url());
        let answer = client.execute(request).await.expect("the house answers");
        let (status, headers) = (answer.status(), format!("{:?}", answer.headers()));
        let text = answer.text().await.expect("text");
        let whole = format!("{status} {headers}\n{text}");
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push((what, whole.clone()));
        Told { status: status.as_u16(), text, whole }
    }

    /// The last answer is one that shows this secret, once and to whom it belongs: it is not searched. That it is found there
    /// proves the search.
    fn meant(&self, told: &Told, name: &str) {
        assert!(self.found(&told.whole).contains(&name), "{name} was to be shown");
        let (_, last) = self.told.lock().unwrap_or_else(PoisonError::into_inner).pop().expect("an answer");
        assert_eq!(last, told.whole);
    }

    fn at(&self, origin: &str, path: &str) -> (String, String) {
        let origin = self.house.says(origin);
        let (host, port) = origin.trim_start_matches("http://").rsplit_once(':').expect("a port");
        (format!("http://127.0.0.1:{port}{path}"), format!("{host}:{port}"))
    }

    fn console(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let (url, host) = self.at("/consoleOrigin", path);
        self.client.request(method, url).header("host", host)
    }

    async fn manage(&self, method: Method, path: &str, body: Value) -> Told {
        let mut asked = self.console(method, &format!("/api/v1{path}")).bearer_auth(&self.operator);
        if !body.is_null() {
            asked = asked.json(&body);
        }
        self.ask(asked).await
    }

    async fn public(&self, path: &str, token: Option<&str>, body: &Value) -> Told {
        let (url, host) = self.at("/origin", path);
        let asked = self.visitor.post(url).header("host", host).json(body);
        self.ask(token.into_iter().fold(asked, |asked, token| asked.bearer_auth(token))).await
    }

    async fn app(&self) -> (String, String) {
        let made = self.manage(Method::POST, "/apps", json!({"name": "Shop"})).await.expect(201);
        let (app, key) = (made.data("appId"), made.data("widgetKey"));
        self.manage(Method::PUT, &format!("/apps/{app}/provider"), provider(OF_PROVIDER)).await.expect(200);
        self.manage(Method::GET, &format!("/apps/{app}/provider"), Value::Null).await.expect(200);
        (app, key)
    }

    /// An integration that sends every secret to this address; its path in the management API.
    async fn integrate(&self, app: &str, way: &str, to: &str, more: Value) -> String {
        let mut draft = json!({"name": way, "url": to, "status": "inactive", "events": ["widget_loaded"]});
        for (name, value) in more.as_object().into_iter().flatten() {
            draft[name] = value.clone();
        }
        let made = self.manage(Method::POST, &format!("/apps/{app}/integrations"), draft).await.expect(201);
        let path = format!("/apps/{app}/integrations/{}", made.data("id"));
        let mut secrets = vec![("inPath", IN_PATH.to_owned()), ("inQuery", IN_QUERY.to_owned())];
        secrets.push(("inHeader", IN_HEADER.to_owned()));
        let mut headers = vec![
            json!({"name": "X-Key", "value": "{secret.inHeader}"}),
            json!({"name": "Authorization", "value": "Bearer {secret.inHeader}"}),
        ];
        if way == "long" {
            secrets.push(("inLong", in_long()));
            headers.push(json!({"name": "X-Long", "value": "{secret.inLong}"}));
        }
        for (name, value) in secrets {
            self.manage(Method::PUT, &format!("{path}/secrets/{name}"), json!({"value": value})).await.expect(200);
        }
        let filled = json!({"url": format!("{to}/{{secret.inPath}}?key={{secret.inQuery}}"), "headers": headers});
        self.manage(Method::PATCH, &path, filled).await.expect(200);
        path
    }

    fn address(&self, way: &str) -> String {
        format!("http://127.0.0.1:{}/{way}", self.hostile.port())
    }

    /// Presses the test button; the attempt.
    async fn test(&self, path: &str) -> Value {
        let came = self.manage(Method::POST, &format!("{path}/test"), Value::Null).await.expect(200);
        came.json()["data"]["attempt"].clone()
    }
}

/// Receivers that send back what they are sent, and those that never answer, or cannot be reached.
async fn receivers(ground: &Ground, app: &str) {
    for way in ECHOES {
        let path = ground.integrate(app, way, &ground.address(way), Value::Null).await;
        if way == "json" {
            let made = ground.manage(Method::POST, &format!("{path}/signing-key"), json!({})).await.expect(201);
            let key = made.data("key");
            let bytes = STANDARD.decode(key.trim_start_matches("whsec_")).expect("base64");
            ground.guard(Canary::new("signing key", &key));
            ground.guard(Canary::bytes("signing key's bytes", &bytes));
            ground.meant(&made, "signing key");
        }
        let attempt = ground.test(&path).await;
        let excerpt = attempt["excerpt"].as_str().unwrap_or_else(|| panic!("{way}: {attempt}"));
        assert!(excerpt.contains("[redacted]"), "{way}: {excerpt}");
        assert!(ground.found(excerpt).is_empty(), "{way} shows {:?}: {excerpt}", ground.found(excerpt));
    }
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("one").port();
    let tls = format!("https://127.0.0.1:{}/tls", ground.hostile.port());
    let quick = json!({"timeoutMs": 300});
    let mut silent: Vec<_> = BREAKS.iter().map(|way| (*way, ground.address(way), "", quick.clone())).collect();
    silent.push(("closed", format!("http://127.0.0.1:{closed}/closed"), "connect", quick.clone()));
    silent.push(("tls", tls, "tls", Value::Null));
    silent.push(("dns", "https://nobody.example.com/dns".to_owned(), "dns", Value::Null));
    for (way, to, class, more) in silent {
        let path = ground.integrate(app, way, &to, more).await;
        let attempt = ground.test(&path).await;
        let given = attempt["errorClass"].as_str().unwrap_or_else(|| panic!("{way}: {attempt}"));
        assert!(class.is_empty() || class == given, "{way}: {attempt}");
    }
    // They did get what they were meant to get: the search finds it there.
    let requests = ground.hostile.requests();
    for way in ECHOES {
        let request = requests.iter().find(|request| request.starts_with(&format!("POST /{way}/"))).expect(way);
        assert!(["in path", "in query", "in header"].iter().all(|name| ground.found(request).contains(name)), "{way}");
    }
}

/// Visits whose events go out, with what visitors said.
async fn visits(ground: &Ground, app: &str, key: &str) {
    for way in ["plain", "error"] {
        let path = ground.integrate(app, way, &ground.address(way), json!({"timeoutMs": 2_000})).await;
        ground.manage(Method::POST, &format!("{path}/activate"), Value::Null).await.expect(200);
    }
    let asked = json!({"appId": app, "widgetKey": key, "context": {"order": OF_VISITOR}});
    let begun = ground.public("/v1/sessions", None, &asked).await.expect(201);
    let token = begun.data("sessionToken");
    ground.guard(Canary::new("session token", token.rsplit('.').next().expect("a signature")));
    ground.meant(&begun, "session token");
    for _ in 0..3 {
        ground.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    }
    let bad = json!({"id": "evt_x", "name": OF_VISITOR, "data": {OF_VISITOR: 1}, "timestamp": OF_VISITOR});
    ground.public("/v1/events", Some(&token), &bad).await.expect(400);
    ground.public("/v1/events", Some(&format!("{token}x")), &loaded()).await.expect(401);
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let listed = ground.manage(Method::GET, &format!("/apps/{app}/deliveries?limit=100"), Value::Null).await;
        let listed = listed.expect(200).json();
        let deliveries = listed["data"].as_array().expect("a list");
        let tried = deliveries.iter().filter(|delivery| !delivery["attempts"].as_array().expect("some").is_empty());
        if tried.count() == 6 {
            assert!(ground.hostile.requests().iter().any(|request| request.contains(OF_VISITOR)));
            break;
        }
        assert!(Instant::now() < until, "{listed}");
        pause().await;
    }
}

/// Secrets shown, refused, and sent where they do not belong.
async fn operators(ground: &Ground, path: &str) {
    let why = json!({"reason": "a receiver moves"});
    let reveal = |name: &str| format!("{path}/secrets/{name}/reveal");
    let shown = ground.manage(Method::POST, &reveal("inPath"), why.clone()).await.expect(200);
    assert_eq!(shown.data("value"), IN_PATH);
    ground.meant(&shown, "in path");
    ground.manage(Method::POST, &reveal("inPath"), why.clone()).await.expect(409);
    ground.manage(Method::POST, &reveal("inQuery"), json!({"reason": 7})).await.expect(400);

    let ada = json!({"name": "Ada", "role": "viewer"});
    let made = ground.manage(Method::POST, "/operators", ada).await.expect(201);
    let token = made.data("token");
    ground.guard(Canary::new("viewer's token", &token));
    ground.meant(&made, "viewer's token");
    let refused = ground.console(Method::POST, &format!("/api/v1{}", reveal("inQuery"))).bearer_auth(&token);
    ground.ask(refused.json(&why)).await.expect(403);
    let form = |token: &str| {
        let asked = ground.console(Method::POST, "/sign-in").header("sec-fetch-site", "same-origin");
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        asked.body(format!("token={}", token.replace('%', "%25").replace('&', "%26").replace('+', "%2B")))
    };
    let begun = ground.ask(form(&token)).await.expect(303);
    let cookie =
        begun.whole.split("set-cookie\": \"").nth(1).and_then(|rest| rest.split(';').next()).expect("a cookie");
    ground.guard(Canary::new("cookie", cookie.split_once('=').expect("a value").1));
    ground.meant(&begun, "cookie");
    ground.ask(form(IN_QUERY)).await;
    let app = path.split('/').nth(2).expect("an app");
    for page in ["/", &format!("/apps/{app}")] {
        ground.ask(ground.console(Method::GET, page).header("cookie", cookie)).await.expect(200);
    }
    for page in ["", "/secrets", "/secrets/inPath"] {
        ground.manage(Method::GET, &format!("{path}{page}"), Value::Null).await.expect(200);
    }
    ground.manage(Method::GET, &format!("/apps/{app}/audit?limit=100"), Value::Null).await.expect(200);
}

/// A value in every field that is none for it.
async fn mistakes(ground: &Ground, app: &str, path: &str) {
    let secret = IN_HEADER;
    let integrations = format!("/apps/{app}/integrations");
    for (method, at, body) in [
        (Method::PUT, format!("{path}/secrets/inPath"), json!({"value": [secret]})),
        (Method::PUT, format!("{path}/secrets/inPath"), json!({"value": secret.repeat(200)})),
        (Method::PUT, format!("{path}/secrets/inPath"), json!({"value": secret.repeat(2_000)})),
        (Method::PUT, format!("{path}/secrets/inPath"), json!({"value": format!("{secret}\r\n")})),
        (Method::PUT, format!("{path}/secrets/pathCanaryW8vN2x%20"), json!({"value": secret})),
        (Method::POST, "/apps".to_owned(), json!({"name": {"value": secret}})),
        (Method::POST, "/apps".to_owned(), json!(secret)),
        (Method::POST, integrations.clone(), json!({"name": "x", "url": secret})),
        (Method::POST, integrations.clone(), json!({"name": "x", "url": format!("https://{secret}/")})),
        (Method::POST, integrations.clone(), json!({"name": "x", "url": format!("https://a:{secret}@example.com/")})),
        (Method::POST, integrations, json!({"name": secret.repeat(20), "url": "https://example.com/"})),
        (Method::PATCH, path.to_owned(), json!({"events": [secret]})),
        (Method::PATCH, path.to_owned(), json!({"status": secret})),
        (Method::PATCH, path.to_owned(), json!({"timeoutMs": secret})),
        (Method::PATCH, path.to_owned(), json!({"retryStatuses": [secret]})),
        (Method::PATCH, path.to_owned(), json!({"headers": [{"name": secret, "value": "x"}]})),
        (Method::PATCH, path.to_owned(), json!({"headers": [{"name": "X", "value": format!("{secret}\n")}]})),
        (Method::PATCH, path.to_owned(), json!({"headers": [{"name": "X", "value": format!("{{secret.{secret}}}")}]})),
        (Method::PATCH, path.to_owned(), json!({"headers": secret})),
        (Method::POST, format!("{path}/test"), json!({"event": secret})),
        (Method::POST, format!("{path}/secrets/inQuery/reveal"), json!({"reason": [secret]})),
        (Method::PUT, format!("/apps/{app}/provider"), json!({"kind": secret, "uri": secret, "transport": secret})),
        (Method::PUT, format!("/apps/{app}/provider"), provider(vec![OF_PROVIDER])),
        (Method::PUT, format!("/apps/{app}/provider"), provider(OF_PROVIDER.repeat(200))),
        (Method::POST, "/operators".to_owned(), json!({"name": "x", "role": secret})),
        (Method::POST, format!("/apps/{app}/profiles"), json!({"name": "x", "destination": secret})),
    ] {
        let told = ground.manage(method.clone(), &at, body).await;
        assert!((400..500).contains(&told.status), "{method} {at}: {}", told.text);
    }
    let written = IN_QUERY.replace('%', "%25").replace('&', "%26").replace('+', "%2B");
    for query in ["limit", "cursor", "status", "since"] {
        ground.manage(Method::GET, &format!("/apps/{app}/deliveries?{query}={written}"), Value::Null).await;
    }
    let broken = ground.console(Method::PATCH, &format!("/api/v1{path}")).bearer_auth(&ground.operator);
    let broken = broken.header("content-type", "application/json").body(format!("{{\"name\": \"{secret}"));
    ground.ask(broken).await.expect(400);
    ground.ask(ground.console(Method::GET, "/api/v1/apps").bearer_auth(IN_QUERY)).await.expect(401);
    ground.public("/v1/sessions", None, &json!({"appId": secret, "widgetKey": secret})).await;
    ground.public("/v1/sessions", None, &json!({"appId": app, "widgetKey": secret})).await.expect(401);
    ground.public("/v1/events", Some(IN_QUERY), &loaded()).await.expect(401);
    // An unknown field is named to whoever wrote it, and to nobody else.
    let named = ground.manage(Method::PATCH, path, json!({IN_HEADER: 1})).await.expect(400);
    ground.meant(&named, "in header");
}

/// The same work while what the house needs is away.
async fn faults(ground: &Ground, path: &str) {
    let stand_ins = &ground.house.stand_ins;
    let why = json!({"reason": "a receiver moves"});
    let attempts = async || {
        for name in ["inQuery", "inHeader"] {
            let value = if name == "inQuery" { IN_QUERY } else { IN_HEADER };
            let at = format!("{path}/secrets/{name}");
            ground.manage(Method::PUT, &at, json!({"value": value})).await;
            let told = ground.manage(Method::POST, &format!("{at}/reveal"), why.clone()).await;
            if told.status == 200 {
                ground.meant(&told, if name == "inQuery" { "in query" } else { "in header" });
            }
        }
        let app = path.split("/integrations").next().expect("an app");
        ground.manage(Method::PUT, &format!("{app}/provider"), provider(OF_PROVIDER)).await;
        ground.manage(Method::POST, &format!("{path}/test"), Value::Null).await
    };
    stand_ins.down(Service::Kms);
    attempts().await.expect(503);
    stand_ins.clear(Service::Kms);
    for fault in [Fault::InternalError, Fault::LostAnswer, Fault::Throttled] {
        for operation in ["TransactWriteItems", "UpdateItem"] {
            stand_ins.inject(Service::DynamoDb, Injection::of(fault).on(operation).times(4));
            attempts().await;
            stand_ins.clear(Service::DynamoDb);
        }
    }
    stand_ins.inject(Service::Sqs, Injection::of(Fault::Unavailable).on("SendMessageBatch"));
    attempts().await.expect(503);
    stand_ins.clear(Service::Sqs);
    stand_ins.inject(Service::DynamoDb, Injection::of(Fault::InternalError));
    attempts().await.expect(503);
    stand_ins.clear(Service::DynamoDb);
    // A message that is none.
    let queue = ground.house.says("/queues/DeliveryQueue");
    for text in [format!("{OF_VISITOR} is no delivery"), json!({"v": 99, "x": OF_VISITOR}).to_string()] {
        let body = json!({"QueueUrl": queue, "MessageBody": text});
        aws(ground, "/aws/sqs", "AmazonSQS.SendMessage", &body).await;
    }
    let until = Instant::now() + Duration::from_secs(20);
    while ground.house.logged().matches("delivery.poison").count() < 2 {
        assert!(Instant::now() < until, "the message is not read");
        pause().await;
    }
}

/// Asks a stand-in in its own words.
async fn aws(ground: &Ground, service: &str, target: &str, body: &Value) -> Value {
    let asked = ground.client.post(ground.house.says(service)).header("x-amz-target", target);
    let asked = asked.header("content-type", "application/x-amz-json-1.0").header(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/any/aws4_request, SignedHeaders=host, Signature=0",
    );
    let answer = asked.header("x-amz-date", "20260101T000000Z").body(body.to_string()).send().await.expect("an answer");
    let (status, text) = (answer.status(), answer.text().await.expect("text"));
    assert!(status.is_success(), "{target}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Everything that the house wrote or said, with its name.
async fn written(ground: &mut Ground) -> Vec<(String, String)> {
    let mut all = std::mem::take(&mut *ground.told.lock().unwrap_or_else(PoisonError::into_inner));
    let mut from = Value::Null;
    loop {
        let mut body = json!({"TableName": ground.house.says("/tables/Table"), "ConsistentRead": true});
        if !from.is_null() {
            body["ExclusiveStartKey"] = from;
        }
        let page = aws(ground, "/aws/dynamodb", "DynamoDB_20120810.Scan", &body).await;
        let rows = page["Items"].as_array().expect("rows").iter();
        all.extend(rows.map(|row| (format!("row {} {}", row["pk"], row["sk"]), row.to_string())));
        from = page["LastEvaluatedKey"].clone();
        if from.is_null() {
            break;
        }
    }
    assert!(all.iter().filter(|(name, _)| name.starts_with("row ")).count() > 100);
    for page in [ground.house.says("/demo/inboxUrl"), ground.house.says("/demo/inboxApi")] {
        let text = ground.client.get(&page).send().await.expect("an answer").text().await.expect("text");
        all.push((page, text));
    }
    // Messages lie in the queues' file, and what was deleted from it often still does. Once while it runs, with its
    // log ahead, and once when all is at rest.
    let files = |ground: &Ground| {
        let files = ground.house.files().into_iter();
        files.map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect::<Vec<_>>()
    };
    all.extend(files(ground));
    assert!(ground.house.stop().await, "{}", ground.house.logged());
    all.extend(files(ground));
    assert!(all.iter().any(|(name, text)| name.starts_with("sqs.db") && text.contains(OF_VISITOR)));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_written_or_said_anywhere() {
    let mut ground = Ground::start().await;
    let (app, _) = ground.app().await;
    receivers(&ground, &app).await;
    let (busy, key) = ground.app().await;
    visits(&ground, &busy, &key).await;
    let path = ground.integrate(&app, "plain", &ground.address("plain"), json!({"timeoutMs": 500})).await;
    operators(&ground, &path).await;
    mistakes(&ground, &app, &path).await;
    faults(&ground, &path).await;

    let all = written(&mut ground).await;
    let (log, printed) = (ground.house.logged(), ground.house.printed());
    // It was talkative, and about this.
    for line in ["delivery.attempted", "delivery.returned", "delivery.poison", "request.refused", "request.failed"] {
        assert!(log.contains(line), "nothing of {line}");
    }
    let mut leaks: Vec<String> = Vec::new();
    for (name, text) in all
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .chain([("the log", log.as_str()), ("standard output", printed.as_str())])
    {
        leaks.extend(ground.found(text).into_iter().map(|canary| format!("{canary}: {name}")));
    }
    for line in log.lines().filter(|line| !ground.found(line).is_empty()) {
        leaks.push(format!("log line: {line}"));
    }
    for personal in [OF_VISITOR.to_owned(), VISITOR.to_string()] {
        leaks.extend(log.lines().filter(|line| line.contains(&personal)).map(|line| format!("{personal}: {line}")));
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    println!("{} texts searched, {} bytes of log: no canary", all.len() + 2, log.len());
}
