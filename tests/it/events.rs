//! Events: what is accepted, what is refused, and that each reaches each integration once (contract section 3, "Events").

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{Running, event, eventually, loaded, options},
    receiver::Receiver,
};

const SOON: Duration = Duration::from_secs(10);

fn all_six() -> Vec<Value> {
    vec![
        loaded(),
        event("call_started", json!({"destinationId": null, "routingKey": "sales", "hasFormValues": false})),
        event("call_ended", json!({"duration": 61, "reason": "user_hangup"})),
        event("call_error", json!({"errorCode": "mic_denied", "errorMessage": "Refused"})),
        event("survey_submitted", json!({"rating": 4.5, "answerCount": 2, "hasComment": true})),
        event("custom_button_clicked", json!({"label": "Mail", "action": "email"})),
    ]
}

#[tokio::test]
async fn every_event_arrives_as_the_contract_says() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let names: Vec<String> = all_six().iter().map(|event| event["name"].as_str().expect("a name").to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let headers = json!({"headers": [{"name": "X-Shop", "value": "42"}]});
    house.integrate(&app, &receiver, &names, headers).await;
    let token = house.token(&app, json!({"context": {"page": "pricing"}})).await;
    let sent = all_six();
    for event in &sent {
        let accepted = house.public("/v1/events", Some(&token), event).await.expect(202);
        assert_eq!(accepted.body["data"], json!({"id": event["id"], "deliveries": 1}));
    }
    eventually(SOON, || receiver.received().len() >= 6).await;
    let received = receiver.received();
    for event in &sent {
        let mut expected = event.clone();
        expected["data"]["context"] = json!({"page": "pricing"});
        let found = received.iter().find(|request| request.body["id"] == event["id"]).expect("it arrived");
        assert_eq!(found.body, expected);
        let header = |name: &str| found.headers[name].to_str().expect("text").to_owned();
        assert_eq!(
            (header("content-type"), header("user-agent")),
            ("application/json".into(), "ClickToCall-Webhooks/1".into())
        );
        assert!(header("webhook-id").starts_with("dlv_") && header("webhook-timestamp").parse::<u64>().is_ok());
        assert_eq!((header("x-shop"), found.path.as_str()), ("42".into(), "/in"));
    }
    assert_eq!(received.len(), 6);
}

#[tokio::test]
async fn only_selected_events_of_real_visits_go_out() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    house.integrate(&app, &receiver, &["call_error"], Value::Null).await;
    house.integrate(&app, &receiver, &[], Value::Null).await;
    let visit = house.token(&app, json!({})).await;
    let preview = house.token(&app, json!({"preview": true})).await;
    let error = |code: &str| event("call_error", json!({"errorCode": code, "errorMessage": "x"}));
    for (token, sent, deliveries) in
        [(&preview, error("busy"), 0), (&visit, loaded(), 0), (&visit, error("no_answer"), 1)]
    {
        let accepted = house.public("/v1/events", Some(token), &sent).await.expect(202);
        assert_eq!(accepted.body["data"]["deliveries"], deliveries);
    }
    house.settled(&app, SOON).await;
    let received = receiver.received();
    assert_eq!((received.len(), &received[0].body["data"]["errorCode"]), (1, &json!("no_answer")));
}

#[tokio::test]
async fn a_repeat_is_accepted_and_delivered_once() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let token = house.token(&app, json!({})).await;
    let other = house.token(&app, json!({})).await;
    let sent = loaded();
    let repeats = (0..10).map(|_| house.public("/v1/events", Some(&token), &sent));
    for answer in join_all(repeats).await {
        assert_eq!(answer.expect(202).body["data"]["deliveries"], 1);
    }
    // The same id in another session is another event.
    house.public("/v1/events", Some(&other), &sent).await.expect(202);
    let last = loaded();
    house.public("/v1/events", Some(&token), &last).await.expect(202);
    eventually(SOON, || receiver.received().iter().any(|request| request.body["id"] == last["id"])).await;
    eventually(SOON, || receiver.received().len() >= 3).await;
    assert_eq!(house.deliveries(&app).await.len(), 3);
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn what_is_refused_stores_nothing() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let token = house.token(&app, json!({})).await;
    let with = |field: &str, value: Value| {
        let mut event = loaded();
        event[field] = value;
        event.to_string().into_bytes()
    };
    let without = |field: &str| {
        let mut event = loaded();
        event.as_object_mut().expect("an object").remove(field);
        event.to_string().into_bytes()
    };
    let large = with("data", json!({"isPreview": false, "context": {"x": "x".repeat(66_000)}}));
    for (body, status, kind, field) in [
        (b"{".to_vec(), 400, "validation_error", ""),
        (b"".to_vec(), 400, "validation_error", ""),
        (b"\xff\xfe".to_vec(), 400, "validation_error", ""),
        (b"[]".to_vec(), 400, "validation_error", ""),
        (b"null".to_vec(), 400, "validation_error", ""),
        ("[".repeat(5_000).into_bytes(), 400, "validation_error", ""),
        (without("id"), 400, "validation_error", "id"),
        (without("name"), 400, "validation_error", "name"),
        (without("data"), 400, "validation_error", "data"),
        (without("timestamp"), 400, "validation_error", "timestamp"),
        (with("id", json!("evt_short")), 400, "validation_error", "id"),
        (with("id", json!(7)), 400, "validation_error", "id"),
        (with("name", json!("call_begun")), 400, "validation_error", "name"),
        (with("name", json!("custom.hello")), 400, "validation_error", "name"),
        (with("timestamp", json!("yesterday")), 400, "validation_error", "timestamp"),
        (with("more", json!(1)), 400, "validation_error", "more"),
        (with("data", json!({})), 400, "validation_error", "data.isPreview"),
        (with("data", json!({"isPreview": "no"})), 400, "validation_error", "data.isPreview"),
        (with("data", json!({"isPreview": true, "x": 1})), 400, "validation_error", "data.x"),
        (large, 413, "payload_too_large", ""),
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let shown = String::from_utf8_lossy(&body).chars().take(80).collect::<String>();
        let refused = house.send("localhost", Method::POST, "/v1/events", &headers, Some(body)).await;
        assert_eq!(
            (refused.status, refused.kind(), refused.field()),
            (status, kind, field),
            "{shown}: {}",
            refused.body
        );
    }
    let plain = [("content-type", "text/plain"), ("authorization", "Bearer x")];
    house.send("localhost", Method::POST, "/v1/events", &plain, Some(b"{}".to_vec())).await.expect(401);
    // One good event after all the bad ones is the only row there is.
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    house.settled(&app, SOON).await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn two_hundred_events_of_twenty_sessions_arrive_once_each() {
    let limits = [("C2C_LIMIT_EVENTS_IP", "1000"), ("C2C_LIMIT_SESSION_IP", "1000")];
    let house = Running::with(options(&limits)).await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let sessions = (0..20).map(|_| async {
        let token = house.token(&app, json!({})).await;
        let mut accepted = 0;
        for _ in 0..10 {
            house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
            accepted += 1;
        }
        accepted
    });
    assert_eq!(join_all(sessions).await.iter().sum::<u32>(), 200);
    eventually(Duration::from_secs(60), || receiver.received().len() >= 200).await;
    // An event after all others: when it has arrived, a double of an earlier one had its chance.
    let token = house.token(&app, json!({})).await;
    let last = loaded();
    house.public("/v1/events", Some(&token), &last).await.expect(202);
    eventually(SOON, || receiver.received().iter().any(|request| request.body["id"] == last["id"])).await;
    let mut times = BTreeMap::<String, u32>::new();
    for request in receiver.received() {
        *times.entry(request.body["id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    assert_eq!((times.len(), times.values().max()), (201, Some(&1)));
}
