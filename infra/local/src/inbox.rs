//! A pretended customer's server: takes every POST, keeps what came, shows it as it comes.
//!
//! - `POST` anywhere but below `/api/`: kept, answered 200.
//! - `GET /api/received`: `{"data": [{"receivedAt", "path", "headers", "body"}], "notices": [{"at", "appId",
//!   "integrationId", "name", "reason"}]}`, oldest first. `body` is JSON when what came is JSON, else text. A notice says
//!   that an integration was paused. `DELETE` forgets all.
//! - `GET /api/stream`: the same, one Server-Sent Event (`received`, `notice`) each, what is kept first; `forgotten` when
//!   all was forgotten.
//! - `GET` anywhere else: the page.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_stream::stream;
use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse, sse},
    routing::get,
};
use dispatch::notice::Notice;
use domain::time::Timestamp;
use futures_util::Stream;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::front::{file, host_name, is_reading, misdirected};

/// Receptions kept; the oldest go first.
const MOST: usize = 10_000;
/// Bytes of bodies kept.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one body. Deliveries have at most 64 KB.
const MOST_BODY: usize = 1024 * 1024;
/// Notices kept.
const MOST_NOTICES: usize = 100;
/// Receptions that a page is shown when it opens.
const SHOWN: usize = 200;
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// One POST.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// When it came.
    pub received_at: Timestamp,
    /// The path it was sent to.
    pub path: String,
    /// Its headers, names in lower case; values of one name joined by commas.
    pub headers: BTreeMap<String, String>,
    /// Its body: the very JSON that came, byte for byte, or text.
    pub body: Box<RawValue>,
}

/// The inbox. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    kept: Arc<Mutex<Kept>>,
    /// Tells streams that something changed.
    changed: watch::Sender<()>,
    stopping: CancellationToken,
    links: Links,
}

/// What the page links to.
#[derive(Clone, Debug)]
pub struct Links {
    /// The demo page.
    pub demo: String,
    /// The console.
    pub console: String,
}

/// Receptions and notices are numbered together from 1 on; clearing goes on counting.
#[derive(Debug)]
struct Kept {
    /// Tells streams of an earlier process that their numbers mean nothing here.
    life: String,
    received: VecDeque<(u64, usize, Arc<Received>)>,
    notices: VecDeque<(u64, Arc<Notice>)>,
    bytes: usize,
    next: u64,
    /// The number of the first one after the last clearing.
    since: u64,
}

/// What a stream tells of.
enum Entry {
    Received(Arc<Received>),
    Notice(Arc<Notice>),
}

impl Kept {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Receptions after `seen` and notices after `told`, in their order.
    fn after(&self, seen: u64, told: u64) -> Vec<(u64, Entry)> {
        let received = self.received.iter().filter(|(number, ..)| *number > seen);
        let received = received.map(|(number, _, one)| (*number, Entry::Received(Arc::clone(one))));
        let notices = self.notices.iter().filter(|(number, _)| *number > told);
        let notices = notices.map(|(number, one)| (*number, Entry::Notice(Arc::clone(one))));
        let mut entries: Vec<_> = received.chain(notices).collect();
        entries.sort_by_key(|(number, _)| *number);
        entries
    }
}

impl Entry {
    /// As an event of the stream.
    fn event(&self, id: String) -> sse::Event {
        let (name, data) = match self {
            Self::Received(received) => ("received", serde_json::to_string(&**received)),
            Self::Notice(notice) => ("notice", serde_json::to_string(&**notice)),
        };
        sse::Event::default().event(name).id(id).data(data.unwrap_or_default())
    }
}

impl Inbox {
    /// An empty inbox. Streams end when `stopping` is cancelled.
    pub fn new(links: Links, stopping: CancellationToken) -> Self {
        let life = edge::chance::hex::<4>();
        let kept = Kept { life, received: VecDeque::new(), notices: VecDeque::new(), bytes: 0, next: 1, since: 1 };
        Self { kept: Arc::new(Mutex::new(kept)), changed: watch::Sender::new(()), stopping, links }
    }

    /// Everything that came and is still kept, oldest first.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.kept().received.iter().map(|(_, _, received)| Arc::clone(received)).collect()
    }

    /// Every notice that is still kept, oldest first.
    pub fn notices(&self) -> Vec<Arc<Notice>> {
        self.kept().notices.iter().map(|(_, notice)| Arc::clone(notice)).collect()
    }

    /// Forgets all.
    pub fn clear(&self) {
        {
            let mut kept = self.kept();
            kept.received.clear();
            kept.notices.clear();
            kept.bytes = 0;
            kept.since = kept.next;
        }
        self.changed.send_replace(());
    }

    fn keep(&self, received: Received, size: usize) {
        {
            let mut kept = self.kept();
            let number = kept.number();
            kept.bytes += size;
            kept.received.push_back((number, size, Arc::new(received)));
            while kept.received.len() > MOST || kept.bytes > MOST_BYTES {
                let Some((_, size, _)) = kept.received.pop_front() else { break };
                kept.bytes -= size;
            }
        }
        self.changed.send_replace(());
    }

    /// Shows that an integration was paused.
    pub fn tell(&self, notice: Notice) {
        {
            let mut kept = self.kept();
            let number = kept.number();
            kept.notices.push_back((number, Arc::new(notice)));
            if kept.notices.len() > MOST_NOTICES {
                kept.notices.pop_front();
            }
        }
        self.changed.send_replace(());
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inbox's routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/received", get(list).delete(forget))
            .route("/api/stream", get(follow))
            .route("/inbox.css", get(async || file("text/css", POLICY, include_str!("inbox.css").to_owned())))
            .route("/inbox.js", get(async || file("text/javascript", POLICY, include_str!("inbox.js").to_owned())))
            .fallback(take)
            .layer(middleware::from_fn(only_here))
            .with_state(self)
    }

    /// Everything from the reception after `last` on, for ever.
    fn stream(self, last: Option<&str>) -> impl Stream<Item = Result<sse::Event, Infallible>> + use<> {
        let mut changes = self.changed.subscribe();
        let (life, mut seen, mut told, mut since) = {
            let kept = self.kept();
            let seen = last.and_then(|last| last.strip_prefix(&kept.life)?.strip_prefix('.')?.parse::<u64>().ok());
            // Whoever comes anew, or from before a clearing, is told to start afresh, and shown the latest receptions and
            // every notice.
            let latest = kept.next.saturating_sub(u64::try_from(SHOWN).unwrap_or(0) + 1);
            let goes_on = seen.filter(|seen| seen + 1 >= kept.since);
            (
                kept.life.clone(),
                seen.unwrap_or(latest).max(latest),
                goes_on.unwrap_or(0),
                goes_on.map_or(0, |_| kept.since),
            )
        };
        stream! {
            loop {
                let (new, cleared) = {
                    let kept = self.kept();
                    let cleared = kept.since != since;
                    since = kept.since;
                    let new = kept.after(seen, told);
                    seen = kept.next - 1;
                    told = seen;
                    (new, cleared)
                };
                if cleared {
                    let before = new.first().map_or(seen, |(number, _)| number - 1);
                    yield Ok(sse::Event::default().event("forgotten").id(format!("{life}.{before}")).data("{}"));
                }
                for (number, entry) in new {
                    yield Ok(entry.event(format!("{life}.{number}")));
                }
                match self.stopping.run_until_cancelled(changes.changed()).await {
                    Some(Ok(())) => {}
                    _ => return,
                }
            }
        }
    }
}

/// What customers sent is for this machine's eyes: a name that an attacker points here is refused.
async fn only_here(request: Request, next: Next) -> Response {
    match host_name(request.headers(), request.uri()).as_deref() {
        Some("localhost" | "127.0.0.1" | "[::1]") => next.run(request).await,
        _ => misdirected(),
    }
}

async fn list(State(inbox): State<Inbox>) -> Response {
    // No `json!` here: it would read the bodies and write them anew.
    #[derive(Serialize)]
    struct List<'a> {
        data: Vec<&'a Received>,
        notices: Vec<&'a Notice>,
    }
    let (received, notices) = (inbox.received(), inbox.notices());
    let data = received.iter().map(|one| &**one).collect();
    axum::Json(List { data, notices: notices.iter().map(|one| &**one).collect() }).into_response()
}

async fn forget(State(inbox): State<Inbox>) -> StatusCode {
    inbox.clear();
    StatusCode::NO_CONTENT
}

async fn follow(State(inbox): State<Inbox>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let stream = Sse::new(inbox.stream(last)).keep_alive(sse::KeepAlive::default());
    ([(header::CACHE_CONTROL, "no-store")], stream).into_response()
}

async fn take(State(inbox): State<Inbox>, request: Request) -> Response {
    if is_reading(request.method()) {
        let page = include_str!("inbox.html");
        let page = page.replace("{demo}", &inbox.links.demo).replace("{console}", &inbox.links.console);
        return file("text/html; charset=utf-8", POLICY, page);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_BODY).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = headers.entry(name.as_str().to_owned()).or_default();
        if !known.is_empty() {
            known.push_str(", ");
        }
        known.push_str(&value);
    }
    let body = match serde_json::from_slice::<Box<RawValue>>(&body) {
        Ok(json) => json,
        Err(_) => serde_json::value::to_raw_value(&String::from_utf8_lossy(&body)).unwrap_or_default(),
    };
    let size = body.get().len();
    let received = Received { received_at: edge::clock::now(), path: parts.uri.to_string(), headers, body };
    inbox.keep(received, size);
    axum::Json(json!({"received": true})).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Method;
    use domain::{
        breaker::Pause,
        id::{AppId, IntegrationId},
    };
    use futures_util::StreamExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    fn inbox() -> Inbox {
        let links =
            Links { demo: "http://demo.localhost/".to_owned(), console: "http://console.localhost/".to_owned() };
        Inbox::new(links, CancellationToken::new())
    }

    async fn ask(inbox: &Inbox, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:1");
        let request = request.header("X-Test", "a").header("x-test", "b").body(Body::from(body.to_owned()));
        let answer = inbox.clone().router().oneshot(request.expect("a request")).await.expect("an answer");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), MOST_BODY).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn what_came_is_listed_oldest_first_until_it_is_forgotten() {
        let inbox = inbox();
        for (path, body) in [("/in", r#"{"b":1,"a": [1]}"#), ("/in/there?x=1", "plain"), ("/", "")] {
            assert_eq!(ask(&inbox, Method::POST, path, body).await.0, StatusCode::OK);
        }
        let (_, listed) = ask(&inbox, Method::GET, "/api/received", "").await;
        assert!(listed.contains(r#"{"b":1,"a": [1]}"#), "as it came: {listed}");
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let listed = listed["data"].as_array().expect("a list");
        let bodies: Vec<_> = listed.iter().map(|one| (one["path"].clone(), one["body"].clone())).collect();
        let expected = [
            (json!("/in"), json!({"b": 1, "a": [1]})),
            (json!("/in/there?x=1"), json!("plain")),
            (json!("/"), json!("")),
        ];
        assert_eq!(bodies, expected);
        assert_eq!(listed[0]["headers"]["x-test"], "a, b");
        assert!(listed[0]["receivedAt"].is_string());
        assert_eq!(ask(&inbox, Method::DELETE, "/api/received", "").await.0, StatusCode::NO_CONTENT);
        assert!(inbox.received().is_empty());
    }

    fn notice(name: &str) -> Notice {
        let at = Timestamp::from_millis(0);
        let (app, integration) = (AppId::mint(at, &[1; 10]), IntegrationId::mint(at, &[2; 10]));
        Notice::paused(at, (app, integration), name, Pause::Failures)
    }

    #[tokio::test]
    async fn notices_stand_beside_what_came_and_all_are_shown_to_who_comes_later() {
        let inbox = inbox();
        inbox.tell(notice("CRM"));
        for _ in 0..SHOWN + 1 {
            ask(&inbox, Method::POST, "/in", "1").await;
        }
        let (_, listed) = ask(&inbox, Method::GET, "/api/received", "").await;
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(SHOWN + 1));
        assert_eq!((&listed["notices"][0]["name"], &listed["notices"][1]), (&json!("CRM"), &Value::Null));

        let mut fresh = Box::pin(inbox.clone().stream(None));
        let events = next(&mut fresh, SHOWN + 2).await;
        assert!(events[0].contains("forgotten") && events[1].contains("notice"), "{}", events[1]);
        let count = |name: &str| events.iter().filter(|event| event.contains(&format!("event: {name}"))).count();
        assert_eq!((count("received"), count("notice")), (SHOWN, 1));
        let life = inbox.kept().life.clone();
        let mut resumed = Box::pin(inbox.clone().stream(Some(&format!("{life}.{}", SHOWN + 2))));
        (0..MOST_NOTICES).for_each(|_| inbox.tell(notice("ERP")));
        assert!(next(&mut resumed, 1).await[0].contains("ERP"), "what was told is not told again");
        assert_eq!((inbox.notices().len(), inbox.notices()[0].name.as_str()), (MOST_NOTICES, "ERP"));
        inbox.clear();
        assert!(inbox.notices().is_empty());
    }

    #[tokio::test]
    async fn a_browser_gets_the_page_and_a_stranger_nothing() {
        let inbox = inbox();
        let (status, page) = ask(&inbox, Method::GET, "/in", "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("http://demo.localhost/") && !page.contains("{demo}") && !page.contains("{console}"));
        let request = Request::get("/api/received").header(header::HOST, "evil.example").body(Body::empty());
        let answer = inbox.clone().router().oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    }

    #[tokio::test]
    async fn at_most_so_many_are_kept() {
        let inbox = inbox();
        let received = |path: usize| Received {
            received_at: Timestamp::from_millis(0),
            path: path.to_string(),
            headers: BTreeMap::new(),
            body: Box::default(),
        };
        (0..MOST + 2).for_each(|path| inbox.keep(received(path), 1));
        assert_eq!(inbox.received().len(), MOST);
        assert_eq!(inbox.received()[0].path, "2");
        inbox.keep(received(0), MOST_BYTES);
        assert_eq!(inbox.received().len(), 1);
    }

    /// The names and numbers of the next `count` events of a stream.
    async fn next(
        stream: &mut (impl Stream<Item = Result<sse::Event, Infallible>> + Unpin),
        count: usize,
    ) -> Vec<String> {
        let events: Vec<_> = stream.take(count).collect().await;
        let text = |event: &Result<sse::Event, Infallible>| format!("{event:?}");
        events.iter().map(text).collect()
    }

    #[tokio::test]
    async fn a_stream_goes_on_where_it_stopped() {
        let inbox = inbox();
        for body in ["1", "2"] {
            ask(&inbox, Method::POST, "/in", body).await;
        }
        let mut fresh = Box::pin(inbox.clone().stream(None));
        let events = next(&mut fresh, 3).await;
        assert!(events[0].contains("forgotten") && events[1].contains("received") && events[2].contains("received"));
        ask(&inbox, Method::POST, "/in", "3").await;
        assert!(next(&mut fresh, 1).await[0].contains("received"));

        let life = inbox.kept().life.clone();
        let mut resumed = Box::pin(inbox.clone().stream(Some(&format!("{life}.2"))));
        assert!(next(&mut resumed, 1).await[0].contains(&format!("{life}.3")));
        inbox.clear();
        assert!(next(&mut resumed, 1).await[0].contains("forgotten"));
        let mut stale = Box::pin(inbox.clone().stream(Some("0000.2")));
        assert!(next(&mut stale, 1).await[0].contains("forgotten"));
        inbox.stopping.cancel();
        assert!(resumed.next().await.is_none());
    }
}
