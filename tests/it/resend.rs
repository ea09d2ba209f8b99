//! Sending again, trying out, and reading the log: what operators do with deliveries (contract section 6).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{MadeApp, Running, loaded, options, pause},
    receiver::{Answer, Receiver},
};

const SOON: Duration = Duration::from_secs(10);

async fn place() -> (Running, Receiver, MadeApp, String, String) {
    let house = Running::with(options(&[("C2C_LIMIT_EVENTS_IP", "10000")])).await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let integration = house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let token = house.token(&app, json!({"context": {"page": "pricing"}})).await;
    (house, receiver, app, integration, token)
}

async fn get(house: &Running, path: String) -> Value {
    house.manage(Method::GET, &path, None).await.expect(200).body
}

/// Waits until nothing is pending among `many` deliveries.
async fn all_settled(house: &Running, app: &MadeApp, many: usize) -> Vec<Value> {
    let until = tokio::time::Instant::now() + SOON;
    loop {
        let deliveries = house.deliveries(app).await;
        if deliveries.len() == many && deliveries.iter().all(|delivery| delivery["status"] != "pending") {
            return deliveries;
        }
        assert!(tokio::time::Instant::now() < until, "not settled: {deliveries:?}");
        pause().await;
    }
}

#[tokio::test]
async fn a_resend_is_the_same_event_in_another_round() {
    let (house, receiver, app, _, token) = place().await;
    receiver.answer([Answer::status(400)]);
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    let failed = house.settled(&app, SOON).await;
    assert_eq!(failed["status"], "failed");
    let one = format!("/apps/{}/deliveries/{}", app.id, failed["id"].as_str().expect("an id"));
    let shown = get(&house, one.clone()).await;
    assert_eq!(shown["data"]["envelope"]["data"]["context"], json!({"page": "pricing"}));
    assert_eq!(shown["data"]["envelope"], receiver.received()[0].body);

    // The first answer of the new round is a 500: it is tried again, as in the first round.
    receiver.answer([Answer::status(500)]);
    let resent = house.manage(Method::POST, &format!("{one}/resend"), None).await.expect(202);
    assert_eq!(resent.body["data"]["id"], failed["id"]);
    let refused = house.manage(Method::POST, &format!("{one}/resend"), None).await.expect(409);
    assert_eq!(refused.kind(), "conflict");
    let delivered = house.settled(&app, Duration::from_secs(15)).await;
    assert_eq!(delivered["status"], "delivered");
    let attempts = delivered["attempts"].as_array().expect("attempts");
    let numbers: Vec<_> = attempts.iter().map(|attempt| (&attempt["number"], &attempt["statusCode"])).collect();
    assert_eq!(numbers, [(&json!(1), &json!(400)), (&json!(2), &json!(500)), (&json!(3), &json!(200))]);
    let received = receiver.received();
    assert!(received.iter().all(|one| one.headers["webhook-id"] == received[0].headers["webhook-id"]));
    assert!(received.iter().all(|one| one.body == received[0].body));

    // What was delivered can be sent again, too. Of an integration that is not active, nothing.
    house.manage(Method::POST, &format!("{one}/resend"), None).await.expect(202);
    house.settled(&app, SOON).await;
    let integration = format!("/apps/{}/integrations/{}", app.id, delivered["integrationId"].as_str().expect("an id"));
    house.manage(Method::POST, &format!("{integration}/deactivate"), None).await.expect(200);
    house.manage(Method::POST, &format!("{one}/resend"), None).await.expect(409);
    house.manage(Method::DELETE, &integration, None).await.expect(204);
    house.manage(Method::POST, &format!("{one}/resend"), None).await.expect(409);
    assert_eq!(receiver.received().len(), 4);
    for unknown in ["dlv_00000000000000000000000000", "nonsense"] {
        let path = format!("/apps/{}/deliveries/{unknown}/resend", app.id);
        assert_eq!(house.manage(Method::POST, &path, None).await.expect(404).kind(), "not_found");
    }
}

#[tokio::test]
async fn two_resends_at_once_are_one_round() {
    let (house, receiver, app, _, token) = place().await;
    receiver.answer([Answer::status(400)]);
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    let failed = house.settled(&app, SOON).await;
    let path = format!("/apps/{}/deliveries/{}/resend", app.id, failed["id"].as_str().expect("an id"));
    let many = futures_util::future::join_all((0..8).map(|_| house.manage(Method::POST, &path, None))).await;
    assert!(many.iter().all(|answer| [202, 409].contains(&answer.status)), "{many:?}");
    house.settled(&app, SOON).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A request that read the delivery when it had been delivered begins a round of its own; none is posted twice.
    let rounds = receiver.received().len();
    assert!((2..=9).contains(&rounds), "{rounds}");
    assert_eq!(house.settled(&app, SOON).await["attempts"].as_array().map(Vec::len), Some(rounds));
}

#[tokio::test]
async fn everything_that_failed_or_was_skipped_since_a_time_goes_again() {
    let (house, receiver, app, integration, token) = place().await;
    let other = Receiver::start().await;
    other.answer((0..100).map(|_| Answer::status(400)));
    house.integrate(&app, &other, &["widget_loaded"], Value::Null).await;
    receiver.answer((0..65).map(|_| Answer::status(400)));
    // Twenty fail, the rest is skipped.
    for _ in 0..30 {
        house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    }
    let before = all_settled(&house, &app, 60).await;
    let of = |deliveries: &[Value], status: &str| {
        deliveries.iter().filter(|one| one["integrationId"] == json!(integration) && one["status"] == status).count()
    };
    assert_eq!(of(&before, "failed") + of(&before, "skipped"), 30);
    assert!(of(&before, "skipped") > 0);
    receiver.forget_answers();
    let one = format!("/apps/{}/integrations/{integration}", app.id);
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    house.manage(Method::POST, &format!("{one}/resend"), Some(since.clone())).await.expect(409);
    house.manage(Method::POST, &format!("{one}/activate"), None).await.expect(200);
    let later =
        house.manage(Method::POST, &format!("{one}/resend"), Some(json!({"since": "2999-01-01T00:00:00Z"}))).await;
    assert_eq!(later.expect(202).body["data"]["resent"], 0);
    let received = receiver.received().len();
    let (mut resent, mut body) = (0, since);
    loop {
        let answer = house.manage(Method::POST, &format!("{one}/resend"), Some(body.clone())).await.expect(202);
        resent += answer.body["data"]["resent"].as_u64().expect("a number");
        if answer.body["data"]["hasMore"] == json!(false) {
            break;
        }
        body["cursor"] = answer.body["data"]["nextCursor"].clone();
    }
    assert_eq!(resent, 30);
    let after = all_settled(&house, &app, 60).await;
    assert_eq!(of(&after, "delivered"), 30);
    assert_eq!(receiver.received().len(), received + 30);
    for (wrong, field) in [
        (json!({}), "since"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"since": "2026-01-01T00:00:00Z", "cursor": "x"}), "cursor"),
    ] {
        let refused = house.manage(Method::POST, &format!("{one}/resend"), Some(wrong)).await.expect(400);
        assert_eq!(refused.field(), field);
    }
}

#[tokio::test]
async fn the_test_button_tells_what_came_of_one_attempt() {
    let (house, receiver, app, integration, _) = place().await;
    let one = format!("/apps/{}/integrations/{integration}", app.id);
    let path = format!("{one}/test");
    let test = |body: Option<Value>| house.manage(Method::POST, &path, body);
    let good = test(None).await.expect(200);
    assert_eq!(
        (&good.body["data"]["status"], &good.body["data"]["attempt"]["statusCode"]),
        (&json!("delivered"), &json!(200))
    );
    receiver.answer([Answer::status(503).with("retry-after", 1)]);
    let bad = test(Some(json!({"event": "call_ended"}))).await.expect(200);
    assert_eq!(
        (&bad.body["data"]["status"], &bad.body["data"]["attempt"]["errorClass"]),
        (&json!("failed"), &json!("http_5xx"))
    );
    let received = receiver.received();
    let names: Vec<_> = received.iter().map(|one| one.body["name"].clone()).collect();
    assert_eq!(names, [json!("widget_loaded"), json!("call_ended")]);
    assert_eq!(received[0].headers["webhook-id"].to_str().expect("text"), good.text("deliveryId"));
    assert_eq!(test(Some(json!({"event": "nope"}))).await.expect(400).field(), "event");
    // Also before it is switched on; it never counts.
    house.manage(Method::POST, &format!("{one}/deactivate"), None).await.expect(200);
    test(None).await.expect(200);
    house.manage(Method::POST, &format!("{one}/activate"), None).await.expect(200);
    receiver.answer((0..21).map(|_| Answer::status(410)));
    test(None).await.expect(200);
    assert_eq!(get(&house, one.clone()).await["data"]["status"], "active");
    let log = house.deliveries(&app).await;
    assert!(log.len() == 4 && log.iter().all(|delivery| delivery["test"] == json!(true)), "{log:?}");
}

#[tokio::test]
async fn the_log_has_filters_and_pages() {
    let (house, receiver, app, integration, token) = place().await;
    let other = Receiver::start().await;
    let second = house.integrate(&app, &other, &["widget_loaded"], Value::Null).await;
    receiver.answer((0..7).map(|_| Answer::status(400)));
    for _ in 0..13 {
        house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    }
    all_settled(&house, &app, 26).await;
    for (query, many) in [
        (String::new(), 26),
        (format!("&integrationId={integration}"), 13),
        (format!("&integrationId={second}"), 13),
        ("&status=failed".to_owned(), 7),
        ("&status=delivered".to_owned(), 19),
        ("&status=pending".to_owned(), 0),
        (format!("&integrationId={second}&status=failed"), 0),
        ("&integrationId=int_00000000000000000000000000".to_owned(), 0),
    ] {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = get(&house, format!("/apps/{}/deliveries?limit=4{query}{cursor}", app.id)).await;
            let items = page["data"].as_array().expect("a list").clone();
            assert!(items.len() <= 4);
            ids.extend(items.into_iter().map(|one| one["id"].as_str().expect("an id").to_owned()));
            if page["pagination"]["hasMore"] == json!(false) {
                break;
            }
            cursor = format!("&cursor={}", page["pagination"]["nextCursor"].as_str().expect("a cursor"));
        }
        let mut sorted = ids.clone();
        sorted.sort_by(|a, b| b.cmp(a));
        sorted.dedup();
        assert_eq!((ids.len(), ids), (many, sorted), "{query}");
    }
    for (query, field) in [("status=lost", "status"), ("integrationId=x", "integrationId"), ("state=failed", "state")] {
        let path = format!("/apps/{}/deliveries?{query}", app.id);
        assert_eq!(house.manage(Method::GET, &path, None).await.expect(400).field(), field);
    }
    // How often it went well.
    let rates = |integration: &str| get(&house, format!("/apps/{}/integrations/{integration}", app.id));
    let read = rates(&integration).await["data"].clone();
    let (day, week) = ("24h", "7d");
    let of = |window: &str| json!({"window": window, "delivered": 6, "failed": 7});
    assert_eq!((&read["successRate"], &read["successRates"]), (&of(day), &json!([of(day), of(week)])));
    let listed = get(&house, format!("/apps/{}/integrations", app.id)).await;
    assert_eq!(listed["data"][1]["successRate"], json!({"window": "24h", "delivered": 13, "failed": 0}));
}
