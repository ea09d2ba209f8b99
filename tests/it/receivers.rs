//! Signed deliveries as their receivers see them: the examples of `tests/receivers`, each a process of its own with its
//! language's Standard Webhooks library, on the running house (contract section 4; README, "Receive events").

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use domain::{
    audit::Try,
    signature::{self, KEY_BYTES, SigningSecret},
    time::Timestamp,
};
use http::{HeaderMap, HeaderValue};
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use store::{
    Aws, Endpoints, Store, Vault,
    secrets::{Owner, Written},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use zeroize::Zeroizing;

use crate::support::{
    foreign::{Foreign, Language},
    house::{MadeApp, Running, eventually, loaded, pause},
    receiver::{Received, Receiver},
};

const SOON: Duration = Duration::from_secs(20);
/// Between two events: as many as fit into what an address may send in a minute.
const BETWEEN: Duration = Duration::from_millis(200);
/// Text that another writer of JSON would write in another way.
const CONTEXT: &str = "Zoë & 東京 😀 \u{2028} \"</q>\" \\ \u{7f} é e\u{301}";

/// An app whose one integration sends to a receiver of the test's own, until it is pointed elsewhere.
struct Place {
    house: Running,
    capture: Receiver,
    app: MadeApp,
    path: String,
    token: String,
}

impl Place {
    async fn start() -> Self {
        let (house, capture) = (Running::start().await, Receiver::start().await);
        let app = house.app().await;
        let id = house.integrate(&app, &capture, &["widget_loaded"], Value::Null).await;
        let path = format!("/apps/{}/integrations/{id}", app.id);
        let token = house.token(&app, json!({"context": {"page": CONTEXT}})).await;
        Self { house, capture, app, path, token }
    }

    /// Makes the next signing key, as its receiver is given it.
    async fn rotate(&self) -> String {
        let made = self.house.manage(Method::POST, &format!("{}/signing-key", self.path), Some(json!({}))).await;
        made.expect(201).text("key")
    }

    async fn change(&self, change: Value) {
        self.house.manage(Method::PATCH, &self.path, Some(change)).await.expect(200);
    }

    /// Sends one event, and gives its delivery when it has ended.
    async fn event(&self) -> Value {
        let before = self.house.deliveries(&self.app).await;
        self.house.public("/v1/events", Some(&self.token), &loaded()).await.expect(202);
        self.ended(|delivery| before.iter().all(|earlier| earlier["id"] != delivery["id"])).await
    }

    /// Sends a delivery once more, and gives it when it has ended.
    async fn resend(&self, id: &Value) -> Value {
        let path = format!("/apps/{}/deliveries/{}/resend", self.app.id, id.as_str().expect("an id"));
        self.house.manage(Method::POST, &path, None).await.expect(202);
        self.ended(|delivery| delivery["id"] == *id).await
    }

    /// Waits for the end of one delivery.
    async fn ended(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + SOON;
        loop {
            let deliveries = self.house.deliveries(&self.app).await;
            let ended = deliveries.iter().find(|delivery| is_it(delivery) && delivery["status"] != "pending");
            if let Some(delivery) = ended {
                return delivery.clone();
            }
            assert!(Instant::now() < until, "not ended: {deliveries:?}");
            pause().await;
        }
    }

    /// Sends events until something holds: what dispatch knows of an integration may be two seconds old.
    async fn events_until(&self, holds: impl Fn() -> bool) {
        let until = Instant::now() + SOON;
        loop {
            let delivery = self.event().await;
            assert_eq!(delivery["status"], "delivered", "{delivery}");
            if holds() {
                return;
            }
            assert!(Instant::now() < until, "still not so: {delivery}");
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Signatures of what came in last; none when nothing came or nothing was signed.
    fn signatures(&self) -> usize {
        self.capture.received().last().map_or(0, |received| signatures(&received.headers).len())
    }
}

fn signatures(headers: &HeaderMap) -> Vec<&str> {
    let value = headers.get(signature::HEADER).map(|value| value.to_str().expect("text"));
    value.into_iter().flat_map(|value| value.split(' ')).collect()
}

fn codes(delivery: &Value) -> Vec<u64> {
    let attempts = delivery["attempts"].as_array().expect("attempts").iter();
    attempts.map(|attempt| attempt["statusCode"].as_u64().unwrap_or_default()).collect()
}

fn text(received: &Received, name: &str) -> String {
    received.headers[name].to_str().expect("text").to_owned()
}

/// The headers of a request with these signatures.
fn headers(id: &str, timestamp: i64, signatures: &str) -> Vec<(&'static str, String)> {
    vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        (signature::HEADER, signatures.to_owned()),
    ]
}

/// What one receiver must do, from its integration's first delivery on.
async fn receives(language: Language) {
    let place = Place::start().await;
    let first = place.rotate().await;
    let old = Foreign::start(language, &first).await;
    place.change(json!({"url": old.url()})).await;

    // It verifies and is handled; sent once more, it is acknowledged and not handled again.
    let delivery = place.event().await;
    assert_eq!((&delivery["status"], codes(&delivery)), (&json!("delivered"), vec![204]), "{delivery}");
    assert_eq!(codes(&place.resend(&delivery["id"]).await), [204, 204]);

    // What is sent once the key was rotated, byte for byte.
    place.change(json!({"url": place.capture.url("/in")})).await;
    let second = place.rotate().await;
    place.events_until(|| place.signatures() == 2).await;
    let captured = place.capture.received().pop().expect("a request");
    let id = text(&captured, "webhook-id");
    let timestamp: i64 = text(&captured, "webhook-timestamp").parse().expect("a number");
    let signed = text(&captured, signature::HEADER);
    let body = &*captured.bytes;
    assert_eq!(captured.body["data"]["context"]["page"], CONTEXT.replace('\u{7f}', ""));
    let keys = [&second, &first].map(|key| SigningSecret::parse(key).expect("a key"));
    assert_eq!(signature::sign(&keys, &id, timestamp, body), signed);

    // Who has either key takes it, who has neither does not.
    let new = Foreign::start(language, &second).await;
    let stranger = Foreign::start(language, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await;
    let genuine = headers(&id, timestamp, &signed);
    for (receiver, status) in [(&old, 204), (&old, 204), (&new, 204), (&new, 204), (&stranger, 401)] {
        assert_eq!(receiver.post(&genuine, body).await, status);
    }
    for receiver in [&old, &new] {
        refuses(receiver, (&id, timestamp, &signed), body).await;
    }
    // What no signer of ours would send: signed well, but long ago, far ahead, or too long.
    let sign =
        |id: &str, timestamp, body: &[u8]| headers(id, timestamp, &signature::sign(&keys[..1], id, timestamp, body));
    for (seconds, status) in [(-240, 204), (240, 204), (-360, 401), (360, 401), (-timestamp, 401)] {
        let moved = sign(&id, timestamp + seconds, body);
        assert_eq!(new.post(&moved, body).await, status, "{seconds} s");
    }
    let mut long = br#"{"name": "long"}"#.to_vec();
    for (length, status) in [(65_536, 204), (65_537, 413)] {
        long.resize(length, b' ');
        assert_eq!(new.post(&sign("msg_long", timestamp, &long), &long).await, status, "{length} bytes");
    }

    let once = [format!("{id} widget_loaded"), "msg_long long".to_owned()];
    eventually(SOON, || new.handled() == once).await;

    // New deliveries verify with the new key, and with the old one as well.
    for receiver in [&new, &old] {
        let before = receiver.handled().len();
        place.change(json!({"url": receiver.url()})).await;
        place.events_until(|| receiver.handled().len() > before).await;
    }
    for receiver in [&old, &new] {
        let handled = receiver.handled();
        assert_eq!(handled.iter().collect::<BTreeSet<_>>().len(), handled.len(), "handled twice: {handled:?}");
    }
    assert_eq!(old.handled()[0], format!("{} widget_loaded", delivery["id"].as_str().expect("an id")));
    assert!(stranger.handled().is_empty());
    for receiver in [old, new, stranger] {
        receiver.stop().await;
    }
}

/// Changes one thing after the other in a genuine request: none is taken, and the receiver lives on.
async fn refuses(receiver: &Foreign, (id, timestamp, signed): (&str, i64, &str), body: &[u8]) {
    let mut changed = body.to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for forged in [&changed[..], &body[..body.len() - 1], b"\xff", &[body, b" "].concat()] {
        assert_eq!(receiver.post(&headers(id, timestamp, signed), forged).await, 401, "{forged:?}");
    }
    let other =
        signature::sign(&[SigningSecret::from_bytes(Zeroizing::new(vec![7; 32])).expect("a key")], id, timestamp, body);
    for forged in [
        headers("msg_other", timestamp, signed),
        headers(id, timestamp + 1, signed),
        headers(id, timestamp, &other),
        headers(id, timestamp, &signed.replace("v1,", "v2,")),
        headers(id, timestamp, "v1"),
        headers(id, timestamp, "v1,"),
        headers(id, timestamp, "v1,a,b nonsense"),
        headers(id, timestamp, signed)[..2].to_vec(),
        vec![
            ("webhook-timestamp", "soon".to_owned()),
            ("webhook-id", id.to_owned()),
            (signature::HEADER, signed.to_owned()),
        ],
        Vec::new(),
    ] {
        assert_eq!(receiver.post(&forged, body).await, 401, "{forged:?}");
    }
    // Without a body there is no length either, which each of ours has.
    assert!([401, 413].contains(&receiver.post(&headers(id, timestamp, signed), b"").await));
    // A request that breaks off.
    let mut broken = TcpStream::connect(("127.0.0.1", receiver.port())).await.expect("connected");
    let head = format!("POST /in HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{{", body.len());
    broken.write_all(head.as_bytes()).await.expect("sent");
    drop(broken);
    assert_eq!(receiver.post(&headers(id, timestamp, signed), body).await, 204);
}

#[tokio::test]
async fn node_receives() {
    receives(Language::Node).await;
}

#[tokio::test]
async fn python_receives() {
    receives(Language::Python).await;
}

#[tokio::test]
async fn rust_receives() {
    receives(Language::Rust).await;
}

#[tokio::test]
async fn a_receiver_without_a_key_does_not_start() {
    for language in [Language::Node, Language::Python, Language::Rust] {
        for secret in ["", "whsec_"] {
            assert!(!Foreign::refuses(language, secret).await.success(), "{language:?} with {secret:?}");
        }
    }
}

#[test]
fn the_examples_are_short_and_the_guide_shows_one() {
    let examples = [
        include_str!("../receivers/node.mjs"),
        include_str!("../receivers/python.py"),
        include_str!("../receivers/rust.rs"),
    ];
    for example in examples {
        let lines = example.lines().count();
        assert!((15..30).contains(&lines), "{lines} lines: {example}");
    }
    let guide = include_str!("../../README.md");
    assert!(guide.contains(&format!("```js\n{}```", examples[0])), "README.md shows another node.mjs");
}

#[tokio::test]
async fn without_a_key_or_with_signing_off_nothing_is_signed() {
    let place = Place::start().await;
    place.event().await;
    assert!(!place.capture.received()[0].headers.contains_key(signature::HEADER));
    place.rotate().await;
    place.events_until(|| place.signatures() == 1).await;
    place.change(json!({"signing": false})).await;
    place.events_until(|| place.signatures() == 0).await;
    let last = place.capture.received().pop().expect("a request");
    assert!(!last.headers.contains_key(signature::HEADER) && last.headers.contains_key("webhook-timestamp"));
    // The key is still there for when it is switched on again.
    place.change(json!({"signing": true})).await;
    place.events_until(|| place.signatures() == 1).await;
}

/// Rotates at a moment of the past, as the management API did then.
async fn rotate_at(house: &Running, owner: Owner, now: Timestamp, byte: u8) -> String {
    let at = &house.local().aws;
    let aws = Aws::local(Endpoints { dynamodb: at.dynamodb.clone(), sqs: at.sqs.clone(), kms: at.kms.clone() });
    let store = Store::open(&aws, house.local().tables.values().next().expect("a table").as_str());
    let vault = Vault::open(&aws, house.local().keys["SecretKey"].as_str());
    let who = Try {
        operator: "test".to_owned(),
        action: "signing_key.rotate",
        target: owner.integration.to_string(),
        ip: [127, 0, 0, 1].into(),
        reason: None,
        detail: None,
    };
    let bytes = Zeroizing::new([byte; KEY_BYTES]);
    let rotated =
        store.rotate_signing_key(&vault, owner, bytes, &who.granted(now, &[byte; 10])).await.expect("rotated");
    let Written::Done(rotated) = rotated else { panic!("not rotated") };
    rotated.key.expose().to_string()
}

#[tokio::test]
async fn a_day_after_the_rotation_the_new_key_signs_alone() {
    const DAY: i64 = 24 * 60 * 60;
    // The rotation was so many seconds ago; then so many keys sign.
    for (ago, expected) in [(0, 2), (DAY - 60, 2), (DAY, 1), (2 * DAY, 1)] {
        let place = Place::start().await;
        let made = place.house.manage(Method::GET, &place.path, None).await.expect(200);
        let now: Timestamp = made.text("createdAt").parse().expect("a time");
        let past = |seconds: i64| Timestamp::from_millis(now.as_millis() - seconds * 1_000);
        let id = made.text("id").parse().expect("an id");
        let owner = Owner { app: place.app.id.parse().expect("an id"), integration: id };
        let old = rotate_at(&place.house, owner, past(ago + 3_600), 1).await;
        let new = rotate_at(&place.house, owner, past(ago), 2).await;
        place.event().await;
        eventually(SOON, || !place.capture.received().is_empty()).await;
        let received = place.capture.received().remove(0);
        assert_eq!(signatures(&received.headers).len(), expected, "{ago} s ago");
        let verdict = |key: &str| Webhook::new(key).expect("a key").verify(&received.bytes, &received.headers).is_ok();
        assert_eq!((verdict(&new), verdict(&old)), (true, expected == 2), "{ago} s ago");
    }
}

#[test]
fn signatures_are_those_of_the_library() {
    #[expect(clippy::disallowed_methods, reason = "the library compares with the machine's clock")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let now = i64::try_from(now).expect("small");
    let bodies = ["", "{}", r#"{"test": 2432232314}"#, CONTEXT, "\u{0}\r\n.", &"🛎".repeat(16_384)];
    let ids = ["dlv_01jd3v9zk0abcdefghjkmnpqrs", "msg_p5jXN8AQM9LWM0D4loKWxJek", "x", "with.dots.1614265330."];
    let keys: Vec<_> = [(24, 0), (32, 7), (64, 255)]
        .map(|(length, byte)| SigningSecret::from_bytes(Zeroizing::new(vec![byte; length])).expect("a key"))
        .into();
    let mut verified = 0;
    for (body, id) in bodies.iter().flat_map(|body| ids.map(|id| (body.as_bytes(), id))) {
        for (at, key) in keys.iter().enumerate() {
            let library = Webhook::new(&key.expose()).expect("a key of the library's");
            for timestamp in [0, 1_614_265_330, now, 253_402_300_799] {
                let ours = signature::sign(std::slice::from_ref(key), id, timestamp, body);
                assert_eq!(library.sign(id, timestamp, body).expect("signed"), ours);
            }
            let request = |keys: &[SigningSecret]| {
                let signed = headers(id, now, &signature::sign(keys, id, now, body)).into_iter();
                let header =
                    |(name, value): (_, String)| (http::HeaderName::from_static(name), value.parse().expect("text"));
                signed.map(header).collect::<HeaderMap<HeaderValue>>()
            };
            library.verify(body, &request(&keys)).expect("one of several is its own");
            let others: Vec<_> =
                keys.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, key)| key.clone()).collect();
            assert!(library.verify(body, &request(&others)).is_err());
            verified += 1;
        }
    }
    assert_eq!(verified, 72);
}
