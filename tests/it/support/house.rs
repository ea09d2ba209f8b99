//! A running house, seen from outside: by HTTP and by what its `local.json` says.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use local::{House, Options};
use reqwest::{Client, Method, header::HeaderMap, redirect::Policy};
use serde_json::{Value, json};
use store::Endpoints;

use crate::support::{receiver::Receiver, uses};

/// A house in this process, on ports of its own.
pub struct Running {
    /// Until it is stopped.
    house: Option<House>,
    client: Client,
    port: u16,
}

/// An answer: status, headers, and its body as JSON (`null` when it is none).
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// The error's type; empty when it is no error.
    pub fn kind(&self) -> &str {
        self.body["error"]["type"].as_str().unwrap_or_default()
    }

    /// The first field that the error names.
    pub fn field(&self) -> &str {
        self.body["error"]["details"][0]["field"].as_str().unwrap_or_default()
    }

    /// A text of `data`.
    pub fn text(&self, name: &str) -> String {
        self.body["data"][name].as_str().unwrap_or_else(|| panic!("no {name} in {self:?}")).to_owned()
    }

    /// The same answer, once its status is as expected.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

/// An app that a test made.
#[derive(Clone, Debug)]
pub struct MadeApp {
    /// Its id.
    pub id: String,
    /// Its widget key.
    pub key: String,
}

/// A stand-in of AWS that is not ours, when the environment names one: the same suite then runs over it.
pub fn foreign_endpoints() -> Option<Endpoints> {
    #[expect(clippy::disallowed_methods, reason = "the suite is pointed elsewhere by the SDK's own variables")]
    let read = |name: &str| std::env::var(name).ok().filter(|url| !url.is_empty());
    Some(Endpoints {
        dynamodb: read("AWS_ENDPOINT_URL_DYNAMODB")?,
        sqs: read("AWS_ENDPOINT_URL_SQS")?,
        kms: read("AWS_ENDPOINT_URL_KMS")?,
    })
}

/// Options for a house with these variables, in which deliveries may reach any loopback port.
pub fn options(variables: &[(&str, &str)]) -> Options {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Options {
        stack_name: format!("test-{}-{count}", std::process::id()),
        endpoints: foreign_endpoints(),
        allow_destinations: vec!["127.0.0.1/32".parse().expect("a network")],
        environment: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Options::default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stand_ins().into_iter().for_each(uses::keep);
    }
}

impl Running {
    /// A house with nothing special about it.
    pub async fn start() -> Self {
        Self::with(options(&[])).await
    }

    /// A house with these options.
    pub async fn with(options: Options) -> Self {
        let house = House::start(options).await.expect("the house starts");
        let port = house.local.origin.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { house: Some(house), client: client(None), port }
    }

    /// What `local.json` says.
    pub fn local(&self) -> &local::LocalJson {
        &self.house.as_ref().expect("it is not stopped").local
    }

    /// The stand-ins for AWS, unless others stand in.
    pub fn stand_ins(&self) -> Option<&embedded::Embedded> {
        self.house.as_ref()?.stand_ins()
    }

    /// Stops it as Ctrl-C would.
    pub async fn stop(mut self) {
        self.stand_ins().into_iter().for_each(uses::keep);
        self.house.take().expect("it is not stopped").shutdown().await;
    }

    /// A request to one of its hosts.
    pub async fn send(
        &self,
        host: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        self.send_from(&self.client, host, method, path, headers, body).await
    }

    /// The same with a client of its own: another source address.
    pub async fn send_from(
        &self,
        client: &Client,
        host: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        let mut request = client.request(method, format!("http://127.0.0.1:{}{path}", self.port));
        request = request.header("host", format!("{host}:{}", self.port));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.expect("the house answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("a whole body");
        Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
    }

    /// A request to the public API.
    pub async fn public(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.public_from(&self.client, path, token, body).await
    }

    /// The same with a client of its own.
    pub async fn public_from(&self, client: &Client, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.send_from(client, "localhost", Method::POST, path, &headers, Some(body.to_string().into_bytes())).await
    }

    /// A request to the management API as the local operator.
    pub async fn manage(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.manage_as(&self.local().operator_token, method, path, body).await
    }

    /// The same as the holder of this token.
    pub async fn manage_as(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(|body| body.to_string().into_bytes());
        self.send("console.localhost", method, &format!("/api/v1{path}"), &headers, body).await
    }

    /// A new app with an active provider.
    pub async fn app(&self) -> MadeApp {
        let made = self.manage(Method::POST, "/apps", Some(json!({"name": "Shop"}))).await.expect(201);
        let app = MadeApp { id: made.text("appId"), key: made.text("widgetKey") };
        let provider = json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "udp", "active": true});
        self.manage(Method::PUT, &format!("/apps/{}/provider", app.id), Some(provider)).await.expect(200);
        app
    }

    /// An integration of `app` that sends these events to `receiver`.
    pub async fn integrate(&self, app: &MadeApp, receiver: &Receiver, events: &[&str], more: Value) -> String {
        let mut draft = json!({"name": "CRM", "url": receiver.url("/in"), "events": events});
        for (name, value) in more.as_object().into_iter().flatten() {
            draft[name] = value.clone();
        }
        let made = self.manage(Method::POST, &format!("/apps/{}/integrations", app.id), Some(draft)).await.expect(201);
        made.text("id")
    }

    /// A session's token.
    pub async fn token(&self, app: &MadeApp, more: Value) -> String {
        self.session(app, more).await.expect(201).text("sessionToken")
    }

    /// Asks for a session.
    pub async fn session(&self, app: &MadeApp, more: Value) -> Answer {
        let mut body = json!({"appId": app.id, "widgetKey": app.key});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        self.public("/v1/sessions", None, &body).await
    }

    /// The app's deliveries, newest first.
    pub async fn deliveries(&self, app: &MadeApp) -> Vec<Value> {
        let answer =
            self.manage(Method::GET, &format!("/apps/{}/deliveries?limit=100", app.id), None).await.expect(200);
        answer.body["data"].as_array().expect("a list").clone()
    }

    /// Waits until the app's only delivery has left `pending`.
    pub async fn settled(&self, app: &MadeApp, within: Duration) -> Value {
        let until = Instant::now() + within;
        loop {
            if let [delivery] = self.deliveries(app).await.as_slice()
                && delivery["status"] != "pending"
            {
                return delivery.clone();
            }
            assert!(Instant::now() < until, "not settled: {:?}", self.deliveries(app).await);
            pause().await;
        }
    }
}

/// A client; from this source address, if one is given. Connections are kept.
pub fn client(source: Option<IpAddr>) -> Client {
    let builder =
        Client::builder().no_proxy().redirect(Policy::none()).local_address(source).timeout(Duration::from_secs(30));
    builder.build().expect("a client")
}

/// Waits until a condition holds.
#[track_caller]
pub fn eventually<F: Fn() -> bool>(within: Duration, holds: F) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let until = Instant::now() + within;
        while !holds() {
            assert!(Instant::now() < until, "still not so after {within:?}: {caller}");
            pause().await;
        }
    }
}

/// Between two looks at a condition.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A state directory that is removed at the end.
pub struct StateDir(PathBuf);

impl StateDir {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        // What an earlier run left behind.
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An event's body, with an id of its own.
pub fn event(name: &str, data: Value) -> Value {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    json!({"id": format!("evt_01jd3v9zk0{count:016}"), "name": name, "data": data, "timestamp": "2026-01-31T12:00:00.000Z"})
}

/// The simplest event.
pub fn loaded() -> Value {
    event("widget_loaded", json!({"isPreview": false}))
}
