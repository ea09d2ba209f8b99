//! Secrets: stored sealed, filled in at delivery, shown once; and signatures (contract sections 4 and 5).

use std::time::Duration;

use domain::{
    signature::{self, SigningSecret},
    time::Timestamp,
};
use embedded::Service;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{Answer, MadeApp, Running, eventually, loaded},
    receiver::Receiver,
};

const SOON: Duration = Duration::from_secs(10);
const CANARY: &str = "canary/7?x#y&z%41+=..";
const ENCODED: &str = "canary%2F7%3Fx%23y%26z%2541%2B%3D%2E%2E";

/// An app with one integration.
struct Ground {
    house: Running,
    receiver: Receiver,
    app: MadeApp,
    path: String,
}

impl Ground {
    async fn new() -> Self {
        let (house, receiver) = (Running::start().await, Receiver::start().await);
        let app = house.app().await;
        let id = house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
        let path = format!("/apps/{}/integrations/{id}", app.id);
        Self { house, receiver, app, path }
    }

    async fn put(&self, name: &str, value: &str) -> Answer {
        self.house.manage(Method::PUT, &format!("{}/secrets/{name}", self.path), Some(json!({"value": value}))).await
    }

    async fn reveal(&self, name: &str) -> Answer {
        let path = format!("{}/secrets/{name}/reveal", self.path);
        self.house.manage(Method::POST, &path, Some(json!({"reason": "a receiver moves"}))).await
    }

    async fn reveals(&self) -> Vec<Value> {
        let rows = self.audit().await;
        rows.into_iter().filter(|row| row["action"] == "secret.reveal").collect()
    }

    async fn audit(&self) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/apps/{}/audit?limit=100{cursor}", self.app.id);
            let page = self.house.manage(Method::GET, &path, None).await.expect(200).body;
            rows.extend(page["data"].as_array().expect("a list").iter().cloned());
            match page["pagination"]["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }

    async fn event(&self) {
        let token = self.house.token(&self.app, json!({})).await;
        self.house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    }
}

#[tokio::test]
async fn templates_are_filled_at_delivery_and_a_new_value_holds_at_once() {
    let ground = Ground::new().await;
    let draft = json!({"url": ground.receiver.url("/in/{secret.token}/x?k={secret.token}"),
        "headers": [{"name": "Authorization", "value": "Bearer {secret.token}"}]});
    let refused = ground.house.manage(Method::PATCH, &ground.path, Some(draft.clone())).await.expect(400);
    assert_eq!((refused.kind(), refused.field()), ("validation_error", "headers[0].value"), "{}", refused.body);
    let stored = ground.put("token", CANARY).await.expect(200);
    assert!(stored.body["data"]["version"] == json!(1) && !stored.body.to_string().contains("canary"));
    let changed = ground.house.manage(Method::PATCH, &ground.path, Some(draft.clone())).await.expect(200);
    assert_eq!(changed.body["data"]["url"], draft["url"]);
    let kept = ground.house.manage(Method::DELETE, &format!("{}/secrets/token", ground.path), None).await.expect(409);
    assert_eq!((kept.kind(), kept.field()), ("conflict", "url"), "{}", kept.body);

    ground.event().await;
    eventually(SOON, || ground.receiver.received().len() == 1).await;
    let first = ground.receiver.received().remove(0);
    assert_eq!(first.path, format!("/in/{ENCODED}/x?k={ENCODED}"));
    assert_eq!(first.headers["authorization"], format!("Bearer {CANARY}"));

    ground.put("token", "{secret.token}").await.expect(200);
    // What dispatch holds is two seconds old at most.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    ground.event().await;
    eventually(SOON, || ground.receiver.received().len() == 2).await;
    assert_eq!(ground.receiver.received()[1].headers["authorization"], "Bearer {secret.token}");
}

#[tokio::test]
async fn wrong_values_and_names_are_refused_and_never_repeated() {
    let ground = Ground::new().await;
    for value in ["", " x", "a\r\nb", "é", "..", &"x".repeat(4_097)] {
        let refused = ground.put("token", value).await.expect(400);
        assert_eq!(refused.field(), "value", "{}", refused.body);
    }
    for name in ["1a", "a-b", "_a"] {
        let refused = ground.put(name, CANARY).await.expect(400);
        assert!(refused.field() == "name" && !refused.body.to_string().contains("canary"), "{}", refused.body);
    }
    let listed = ground.house.manage(Method::GET, &format!("{}/secrets", ground.path), None).await.expect(200);
    assert_eq!(listed.body["data"], json!([]));
}

#[tokio::test]
async fn of_200_reveals_at_once_one_shows_the_value_and_each_is_written_down() {
    let ground = Ground::new().await;
    ground.put("token", CANARY).await.expect(200);
    let answers = join_all((0..200).map(|_| ground.reveal("token"))).await;
    let shown: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].text("value"), CANARY);
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 409), "{answers:?}");
    let rows = ground.reveals().await;
    let granted = rows.iter().filter(|row| row["outcome"] == "granted").count();
    assert_eq!((rows.len(), granted), (200, 1));
    assert!(rows.iter().all(|row| row["reason"] == "a receiver moves" && row["ip"] == "127.0.0.1"), "{rows:?}");
    assert!(!json!(rows).to_string().contains("canary"));
    // A new value may be shown again.
    ground.put("token", "another").await.expect(200);
    assert_eq!(ground.reveal("token").await.expect(200).text("value"), "another");
}

#[tokio::test]
async fn the_eleventh_reveal_of_an_hour_is_refused() {
    let ground = Ground::new().await;
    for number in 0..11 {
        ground.put(&format!("s{number}"), CANARY).await.expect(200);
    }
    for number in 0..10 {
        ground.reveal(&format!("s{number}")).await.expect(200);
    }
    let refused = ground.reveal("s10").await.expect(429);
    assert_eq!(
        (refused.kind(), &refused.headers["x-ratelimit-limit"]),
        ("rate_limit_exceeded", &"10".parse().expect("text"))
    );
    assert_eq!(refused.headers["x-ratelimit-window"], "3600");
    // Another try makes sense when the hour is over, not in a minute.
    let seconds =
        |name: &str| refused.headers[name].to_str().ok().and_then(|text| text.parse::<u64>().ok()).expect(name);
    let answered = refused.body["error"]["timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let reset = answered.expect("a time").plus(Duration::from_secs(seconds("retry-after")));
    assert!(reset.as_seconds().abs_diff(seconds("x-ratelimit-reset").cast_signed()) <= 1, "{:?}", refused.headers);
    ground.reveal("s0").await.expect(409);
    ground.reveal("gone").await.expect(404);
    assert_eq!(ground.reveals().await.len(), 13);
}

#[tokio::test]
async fn only_an_admin_leads_stored_secrets_to_another_host() {
    let ground = Ground::new().await;
    ground.put("token", CANARY).await.expect(200);
    let made = ground.house.manage(Method::POST, "/operators", Some(json!({"name": "Eve", "role": "editor"}))).await;
    let editor = made.expect(201).text("token");
    let change = async |draft: Value| ground.house.manage_as(&editor, Method::PATCH, &ground.path, Some(draft)).await;
    let elsewhere = "https://elsewhere.example.com/in?key={secret.token}";
    // Also together with what would be allowed.
    for url in [elsewhere, &format!("https://127.0.0.1:{}/in", ground.receiver.port() + 1)] {
        let refused = change(json!({"url": url, "name": "ERP"})).await.expect(403);
        assert_eq!((refused.kind(), refused.field()), ("forbidden", "url"));
        assert!(
            refused.body["error"]["message"].as_str().expect("words").contains("needs the role admin"),
            "{}",
            refused.body
        );
    }
    let kept = ground.house.manage(Method::GET, &ground.path, None).await.expect(200);
    assert_eq!((kept.text("name"), kept.text("url")), ("CRM".to_owned(), ground.receiver.url("/in")));
    // The same host is where they go already.
    change(json!({"name": "ERP", "url": ground.receiver.url("/in?key={secret.token}")})).await.expect(200);
    change(json!({"url": ground.receiver.url("/in")})).await.expect(200);
    ground.house.manage(Method::PATCH, &ground.path, Some(json!({"url": elsewhere}))).await.expect(200);

    let here = format!("127.0.0.1:{}", ground.receiver.port());
    let rows = ground.audit().await;
    let moves: Vec<_> =
        rows.iter().filter(|row| row["detail"] == format!("from {here} to elsewhere.example.com:443")).collect();
    let told: Vec<_> = moves.iter().map(|row| (&row["outcome"], &row["refusal"], &row["action"])).collect();
    let (granted, refused, role) = (json!("granted"), json!("refused"), json!("role"));
    let action = json!("integration.change");
    assert_eq!(told, [(&granted, &Value::Null, &action), (&refused, &role, &action)], "{rows:?}");
    assert!(!json!(rows).to_string().contains("canary"));

    // With nothing stored there is nothing to give away.
    change(json!({"url": "https://elsewhere.example.com/in"})).await.expect(200);
    ground.house.manage_as(&editor, Method::DELETE, &format!("{}/secrets/token", ground.path), None).await.expect(204);
    change(json!({"url": "https://third.example.com/in"})).await.expect(200);
}

#[tokio::test]
async fn only_an_admin_leads_a_stored_password_to_another_host() {
    let house = Running::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}/provider", app.id);
    let made = house.manage(Method::POST, "/operators", Some(json!({"name": "Eve", "role": "editor"}))).await;
    let editor = made.expect(201).text("token");
    let put = async |token: &str, uri: &str, more: Value| {
        let mut draft = json!({"kind": "sip", "uri": uri, "transport": "tls", "username": "me", "active": true});
        draft.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        house.manage_as(token, Method::PUT, &path, Some(draft)).await
    };
    let (admin, password) = (house.local().operator_token.clone(), json!({"password": CANARY}));
    put(&admin, "sip:trunk.example.com", password.clone()).await.expect(200);
    for uri in
        ["sip:elsewhere.example.com", "sips:trunk.example.com@elsewhere.example.com", "sip:trunk.example.com:5070"]
    {
        let refused = put(&editor, uri, json!({})).await.expect(403);
        assert_eq!((refused.kind(), refused.field()), ("forbidden", "uri"), "{uri}");
    }
    // The same host in another spelling; then what gives no password away.
    for (token, uri, more, has_password) in [
        (&editor, "sips:us@TRUNK.example.com", json!({"callerId": "shop"}), true),
        (&admin, "sip:second.example.com", json!({}), true),
        (&editor, "sip:third.example.com", password, true),
        (&editor, "sip:fourth.example.com", json!({"username": "you"}), false),
        (&editor, "sip:fifth.example.com", json!({"password": null}), false),
        (&editor, "sip:sixth.example.com", json!({}), false),
    ] {
        let stored = put(token, uri, more).await.expect(200);
        assert_eq!(stored.body["data"]["hasPassword"], has_password, "{uri}");
    }
    let rows = house.manage(Method::GET, &format!("/apps/{}/audit?limit=100", app.id), None).await.expect(200).body;
    let moved = json!("from trunk.example.com to second.example.com");
    let rows = rows["data"].as_array().expect("a list");
    assert!(rows.iter().any(|row| row["detail"] == moved && row["outcome"] == "granted"), "{rows:?}");
}

#[tokio::test]
async fn without_the_key_service_nothing_is_stored_or_shown() {
    let ground = Ground::new().await;
    // Another emulator of AWS cannot be broken from here.
    let stand_ins = ground.house.stand_ins().expect("a house with stand-ins of its own");
    ground.put("token", CANARY).await.expect(200);
    stand_ins.down(Service::Kms);
    ground.put("other", CANARY).await.expect(503);
    let refused = ground.reveal("token").await.expect(503);
    assert!(!refused.body.to_string().contains("canary"));
    stand_ins.clear(Service::Kms);
    let listed = ground.house.manage(Method::GET, &format!("{}/secrets", ground.path), None).await.expect(200);
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1));
    ground.reveal("token").await.expect(200);
    assert_eq!(ground.reveals().await.len(), 2);
}

#[tokio::test]
async fn deliveries_are_signed_by_both_keys_while_they_overlap() {
    let ground = Ground::new().await;
    let path = format!("{}/signing-key", ground.path);
    let mut keys = Vec::new();
    for count in 1..=2 {
        let made = ground.house.manage(Method::POST, &path, Some(json!({}))).await.expect(201).text("key");
        keys.insert(0, SigningSecret::parse(&made).expect("a key"));
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        ground.event().await;
        eventually(SOON, || ground.receiver.received().len() == count).await;
        let received = ground.receiver.received().remove(count - 1);
        let header = |name: &str| received.headers[name].to_str().expect("text").to_owned();
        let timestamp = header("webhook-timestamp").parse().expect("a number");
        let given = header("webhook-signature");
        assert_eq!(given.split(' ').count(), count, "{given}");
        let expected = signature::sign(&keys, &header("webhook-id"), timestamp, &received.bytes);
        assert_eq!(given, expected);
    }
}
