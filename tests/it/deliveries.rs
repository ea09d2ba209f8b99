//! Deliveries: attempts, retries, verdicts, the log (contract section 4).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{Running, StateDir, eventually, loaded, options},
    receiver::{Answer, Receiver},
};

const SOON: Duration = Duration::from_secs(10);

async fn one_event(house: &Running, receiver: &Receiver, more: Value) -> crate::support::house::MadeApp {
    let app = house.app().await;
    house.integrate(&app, receiver, &["widget_loaded"], more).await;
    let token = house.token(&app, json!({})).await;
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    app
}

#[tokio::test]
async fn a_failing_receiver_is_tried_again_after_about_five_seconds() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    receiver.answer([Answer::status(500)]);
    let app = one_event(&house, &receiver, Value::Null).await;
    let delivery = house.settled(&app, Duration::from_secs(20)).await;
    assert_eq!(delivery["status"], "delivered");
    let attempts = delivery["attempts"].as_array().expect("attempts");
    let codes: Vec<_> = attempts.iter().map(|attempt| attempt["statusCode"].clone()).collect();
    assert_eq!(codes, [json!(500), json!(200)]);
    assert_eq!((&attempts[0]["errorClass"], &attempts[1]["errorClass"]), (&json!("http_5xx"), &Value::Null));
    let received = receiver.received();
    let waited = received[1].at.duration_since(received[0].at);
    assert!((Duration::from_millis(3_900)..Duration::from_millis(7_500)).contains(&waited), "{waited:?}");
    assert_eq!(received[0].headers["webhook-id"], received[1].headers["webhook-id"]);
    assert_eq!(received[0].body, received[1].body);
}

#[tokio::test]
async fn after_three_attempts_it_is_given_up() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    receiver.answer([Answer::status(503), Answer::status(500), Answer::status(599)]);
    let app = one_event(&house, &receiver, Value::Null).await;
    let delivery = house.settled(&app, Duration::from_secs(45)).await;
    assert_eq!((&delivery["status"], delivery["attempts"].as_array().map(Vec::len)), (&json!("failed"), Some(3)));
    let received = receiver.received();
    let waited = received[2].at.duration_since(received[1].at);
    assert!((Duration::from_millis(15_900)..Duration::from_millis(25_500)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn what_another_try_would_not_help_is_final() {
    let house = Running::start().await;
    let elsewhere = Receiver::start().await;
    for (answer, class) in [
        (Answer::status(400), "http_4xx"),
        (Answer::status(429).with("retry-after", 1), "http_4xx"),
        (Answer::status(301).with("location", elsewhere.url("/in")), "redirect"),
        (Answer::status(307).with("location", elsewhere.url("/in")), "redirect"),
    ] {
        let receiver = Receiver::start().await;
        receiver.answer([answer.clone()]);
        let app = one_event(&house, &receiver, Value::Null).await;
        let delivery = house.settled(&app, SOON).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"][0]["errorClass"]),
            (&json!("failed"), &json!(class)),
            "{answer:?}"
        );
        assert_eq!(receiver.received().len(), 1);
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn answers_are_retried_that_the_integration_opted_in_to() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    receiver.answer([Answer::status(429).with("retry-after", 1)]);
    let app = one_event(&house, &receiver, json!({"retryStatuses": [429]})).await;
    let delivery = house.settled(&app, Duration::from_secs(20)).await;
    assert_eq!((&delivery["status"], delivery["attempts"].as_array().map(Vec::len)), (&json!("delivered"), Some(2)));
    assert_eq!(delivery["attempts"][0]["errorClass"], "http_4xx");
    // A `Retry-After` below the schedule's wait shortens nothing.
    let received = receiver.received();
    let waited = received[1].at.duration_since(received[0].at);
    assert!((Duration::from_millis(3_900)..Duration::from_millis(7_500)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn retry_after_lengthens_the_wait() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    receiver.answer([Answer::status(503).with("retry-after", 9)]);
    let app = one_event(&house, &receiver, Value::Null).await;
    let delivery = house.settled(&app, Duration::from_secs(25)).await;
    assert_eq!(delivery["status"], "delivered");
    let received = receiver.received();
    let waited = received[1].at.duration_since(received[0].at);
    assert!((Duration::from_millis(8_900)..Duration::from_millis(12_500)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn time_limits_and_dead_ports_are_classified_and_retried() {
    let house = Running::start().await;
    let silent = Receiver::start().await;
    silent.answer([Answer::never()]);
    let app = one_event(&house, &silent, json!({"timeoutMs": 1_000})).await;
    let delivery = house.settled(&app, Duration::from_secs(20)).await;
    assert_eq!((&delivery["status"], &delivery["attempts"][0]["errorClass"]), (&json!("delivered"), &json!("timeout")));
    let took = delivery["attempts"][0]["durationMs"].as_u64().expect("a number");
    assert!((990..3_000).contains(&took), "{took}");

    let app = house.app().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/in", dead.local_addr().expect("an address"));
    drop(dead);
    let draft = json!({"name": "Dead", "url": url, "events": ["widget_loaded"]});
    house.manage(Method::POST, &format!("/apps/{}/integrations", app.id), Some(draft)).await.expect(201);
    let token = house.token(&app, json!({})).await;
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    let first = async {
        loop {
            if let [delivery] = house.deliveries(&app).await.as_slice()
                && delivery["attempts"][0].is_object()
            {
                return delivery.clone();
            }
            crate::support::house::pause().await;
        }
    };
    let delivery = tokio::time::timeout(SOON, first).await.expect("an attempt");
    assert_eq!((&delivery["status"], &delivery["attempts"][0]["errorClass"]), (&json!("pending"), &json!("connect")));
    assert!(delivery["nextAttemptAt"].is_string());
}

#[tokio::test]
async fn an_integration_switched_off_gets_nothing_more() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    receiver.answer([Answer::status(500)]);
    let app = house.app().await;
    let integration = house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let token = house.token(&app, json!({})).await;
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    eventually(SOON, || receiver.received().len() == 1).await;
    house
        .manage(Method::POST, &format!("/apps/{}/integrations/{integration}/deactivate", app.id), None)
        .await
        .expect(200);
    let delivery = house.settled(&app, Duration::from_secs(20)).await;
    assert_eq!((&delivery["status"], delivery["attempts"].as_array().map(Vec::len)), (&json!("skipped"), Some(1)));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn addresses_that_are_not_allowed_are_never_dialled() {
    let mut closed = options(&[]);
    closed.allow_destinations.clear();
    let house = Running::with(closed).await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    for url in [receiver.url("/in"), "https://169.254.169.254/latest".into(), "http://example.com/".into()] {
        let draft = json!({"name": "x", "url": url, "events": ["widget_loaded"]});
        let refused =
            house.manage(Method::POST, &format!("/apps/{}/integrations", app.id), Some(draft)).await.expect(400);
        assert_eq!(refused.field(), "url");
    }
}

#[tokio::test]
async fn what_was_accepted_outlives_the_house() {
    let state = StateDir::new("restart");
    let persistent = || {
        let mut options = options(&[]);
        options.state = Some(state.path());
        options.ephemeral = false;
        options.stack_name = format!("restart-{}", std::process::id());
        options
    };
    let receiver = Receiver::start().await;
    receiver.answer([Answer::status(500)]);
    let house = Running::with(persistent()).await;
    let app = one_event(&house, &receiver, Value::Null).await;
    let token = house.token(&app, json!({})).await;
    let demo = house.local().demo.as_ref().expect("a demo").app_id;
    eventually(SOON, || receiver.received().len() == 1).await;
    house.stop().await;

    let house = Running::with(persistent()).await;
    assert_eq!(house.local().demo.as_ref().expect("a demo").app_id, demo);
    let delivery = house.settled(&app, Duration::from_secs(20)).await;
    assert_eq!((&delivery["status"], delivery["attempts"].as_array().map(Vec::len)), (&json!("delivered"), Some(2)));
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    house.stop().await;
}
