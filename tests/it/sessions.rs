//! Sessions: who gets one, and what a token is worth (contract section 3).

use std::collections::BTreeMap;

use domain::{session::Session, time::Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use store::{Aws, Endpoints, Store, Vault};

use crate::support::{
    house::{MadeApp, Running, event, loaded},
    receiver::Receiver,
};

#[tokio::test]
async fn an_embed_gets_a_session_and_renews_it() {
    let house = Running::start().await;
    let app = house.app().await;
    let given = house
        .session(&app, json!({"routingKey": "sales", "context": {"page": "pricing"}, "preview": false}))
        .await
        .expect(201);
    let data = &given.body["data"];
    assert!(given.text("sessionId").starts_with("ses_"), "{data}");
    assert_eq!((&data["open"], &data["media"]["iceServers"]), (&json!(true), &json!([])));
    assert_eq!(data["widget"]["version"], 0, "no design was published yet");
    assert_eq!(data["media"]["url"], house.local().media_url.as_str());
    let expires: Timestamp = given.text("expiresAt").parse().expect("a time");
    let now: Timestamp = given.body["meta"]["timestamp"].as_str().expect("a time").parse().expect("a time");
    assert_eq!(expires.since(now).as_secs(), 900);
    assert_eq!(given.headers["cache-control"], "no-store");

    let renewed = house.public("/v1/sessions/renew", Some(&given.text("sessionToken")), &json!({})).await.expect(200);
    assert_eq!(renewed.text("sessionId"), given.text("sessionId"));
    house.public("/v1/events", Some(&renewed.text("sessionToken")), &loaded()).await.expect(202);
}

#[tokio::test]
async fn a_session_reads_the_table_once() {
    let house = Running::start().await;
    let app = house.app().await;
    let Some(stand_ins) = house.stand_ins() else { return };
    let reads = || -> BTreeMap<String, u64> {
        let of_sessions = stand_ins.uses().into_iter().filter(|(one, _)| one.by == "Session" && one.on == "APP");
        of_sessions.map(|(one, count)| (one.action, count)).collect()
    };
    let profile = json!({"name": "Sales", "destination": "sip:sales@pbx.example.com", "routingKeys": ["sales"]});
    house.manage(Method::POST, &format!("/apps/{}/profiles", app.id), Some(profile)).await.expect(201);
    // App, provider, hours, design and default; and the routing key. Whom it reaches takes another look.
    for (asked, rows, looks) in [(json!({}), 5, 0), (json!({"routingKey": "sales"}), 6, 1)] {
        let before = reads();
        house.session(&app, asked).await.expect(201);
        let more = reads().into_iter().map(|(action, count)| (count - before.get(&action).unwrap_or(&0), action));
        let more: Vec<_> = more.filter(|(count, _)| *count > 0).collect();
        let mut expected = vec![(rows, "dynamodb:BatchGetItem".to_owned())];
        expected.extend((looks > 0).then(|| (looks, "dynamodb:GetItem".to_owned())));
        assert_eq!(more, expected);
    }
}

#[tokio::test]
async fn who_gets_none_is_told_why() {
    let house = Running::start().await;
    let app = house.app().await;
    let other = house.app().await;
    let bare = house.manage(Method::POST, "/apps", Some(json!({"name": "No trunk"}))).await.expect(201);
    let bare = MadeApp { id: bare.text("appId"), key: bare.text("widgetKey") };
    let unknown = MadeApp { id: "app_00000000000000000000000000".into(), ..app.clone() };
    let nonsense = MadeApp { id: "../../etc/passwd".into(), ..app.clone() };
    let foreign = MadeApp { key: other.key.clone(), ..app.clone() };
    let long = "x".repeat(65);
    for (app, more, status, kind) in [
        (&unknown, json!({}), 404, "app_not_found"),
        (&nonsense, json!({}), 404, "app_not_found"),
        (&foreign, json!({}), 401, "unauthorized"),
        (&bare, json!({}), 409, "provider_inactive"),
        (&app, json!({"profileId": "dest_00000000000000000000000000"}), 404, "not_found"),
        (&app, json!({"routingKey": long}), 400, "validation_error"),
        (&app, json!({"routingKey": 7}), 400, "validation_error"),
        (&app, json!({"context": []}), 400, "validation_error"),
        (&app, json!({"context": {"page": 7}}), 400, "validation_error"),
        (&app, json!({"preview": 1}), 400, "validation_error"),
        (&app, json!({"preview": null}), 400, "validation_error"),
        (&app, json!({"preview": "yes"}), 410, "gone"),
        (&app, json!({"widgetkey": "typo"}), 400, "validation_error"),
    ] {
        let refused = house.session(app, more.clone()).await.expect(status);
        assert_eq!(refused.kind(), kind, "{more}");
        assert!(refused.body["error"]["requestId"].is_string() && refused.body["error"]["timestamp"].is_string());
    }
    let provider = json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "tls", "active": false});
    house.manage(Method::PUT, &format!("/apps/{}/provider", app.id), Some(provider)).await.expect(200);
    assert_eq!(house.session(&app, json!({})).await.expect(409).kind(), "provider_inactive");
}

#[tokio::test]
async fn the_context_is_the_sanitised_one_of_the_session() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let context =
        json!({"page": "pri\u{0}cing", "__proto__": "x", "key": "reserved", "1st": "x", "long": "y".repeat(300)});
    let token = house.token(&app, json!({"context": context})).await;
    let sent = event("widget_loaded", json!({"isPreview": false, "context": {"forged": "yes"}}));
    house.public("/v1/events", Some(&token), &sent).await.expect(202);
    house.settled(&app, std::time::Duration::from_secs(10)).await;
    let expected = json!({"page": "pricing", "long": "y".repeat(256)});
    assert_eq!(receiver.received()[0].body["data"]["context"], expected);
}

/// Signs with the house's own key, as only the session function can.
async fn signed(house: &Running, session: &Session, now: Timestamp, expiry: Timestamp) -> String {
    let at = &house.local().aws;
    let endpoints = Endpoints { dynamodb: at.dynamodb.clone(), sqs: at.sqs.clone(), kms: at.kms.clone() };
    let aws = Aws::local(endpoints);
    let table = house.local().tables.values().next().expect("a table");
    let key = &house.local().keys["SecretKey"];
    let store = Store::open(&aws, table.as_str());
    let signing = store.signing_key(&Vault::open(&aws, key.as_str()), now, &[0; 10]).await.expect("the key");
    signing.sign(session, now, expiry)
}

/// A token of the app that has ended.
pub async fn expired(house: &Running, app: &MadeApp) -> String {
    let given = house.session(app, json!({})).await.expect(201);
    let ends = given.text("expiresAt").parse::<Timestamp>().expect("a time").as_millis();
    let session = Session {
        id: given.text("sessionId").parse().expect("an id"),
        app: app.id.parse().expect("an id"),
        profile: None,
        routing_key: None,
        context: Default::default(),
        preview: false,
        draft: false,
    };
    let ago = |seconds: i64| Timestamp::from_millis(ends - 900_000 - seconds * 1_000);
    signed(house, &session, ago(960), ago(61)).await
}

#[tokio::test]
async fn forged_and_expired_tokens_are_refused_everywhere() {
    let house = Running::start().await;
    let app = house.app().await;
    let given = house.session(&app, json!({})).await.expect(201);
    let (token, now) = (given.text("sessionToken"), given.text("expiresAt").parse::<Timestamp>().expect("a time"));
    let now = Timestamp::from_millis(now.as_millis() - 900_000);
    let session = Session {
        id: given.text("sessionId").parse().expect("an id"),
        app: app.id.parse().expect("an id"),
        profile: None,
        routing_key: None,
        context: Default::default(),
        preview: false,
        draft: false,
    };
    let past = |seconds: i64| Timestamp::from_millis(now.as_millis() - seconds * 1000);
    let expired = signed(&house, &session, past(960), past(61)).await;
    let in_leeway = signed(&house, &session, past(930), past(30)).await;
    let parts: Vec<&str> = token.split('.').collect();
    let forged = [
        String::new(),
        "x".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86)),
        format!("{}.{}.{}", parts[0], parts[0], parts[2]),
        // {"alg":"none","typ":"JWT","kid":"x"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoieCJ9.{}.", parts[1]),
        format!("{token}x"),
        expired,
    ];
    for path in ["/v1/events", "/v1/sessions/renew"] {
        for token in &forged {
            let refused = house.public(path, Some(token), &loaded()).await.expect(401);
            assert_eq!(
                (refused.kind(), &refused.headers["www-authenticate"]),
                ("unauthorized", &"Bearer".parse().expect("a header"))
            );
        }
        assert_eq!(house.public(path, None, &loaded()).await.expect(401).kind(), "unauthorized");
    }
    house.public("/v1/events", Some(&in_leeway), &loaded()).await.expect(202);
    assert!(house.deliveries(&app).await.is_empty());
}
