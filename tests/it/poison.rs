//! What dispatch cannot do by no fault of a receiver: it comes back, counts nowhere, and is put aside only when it can never
//! be done (contract section 4: our own faults never count).

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use embedded::{Embedded, Fault, Injection, Service};
use reqwest::Method;
use serde_json::{Value, json};
use store::{Aws, Queue};

use crate::support::{
    house::{MadeApp, Running, eventually, loaded, pause},
    receiver::Receiver,
    runtime_api::Function,
};

const SOON: Duration = Duration::from_secs(30);
/// Longer than the queue hides a message in hand (template.yaml, VisibilityTimeout).
const HIDDEN: Duration = Duration::from_secs(151);
/// More than the breaker would forgive.
const EVENTS: usize = 25;

/// Another emulator of AWS cannot be broken or moved in time from here.
fn stand_ins(house: &Running) -> &Embedded {
    house.stand_ins().expect("a house with stand-ins of its own")
}

fn queue(house: &Running, name: &str) -> Queue {
    let aws = &house.local().aws;
    let endpoints = store::Endpoints { dynamodb: aws.dynamodb.clone(), sqs: aws.sqs.clone(), kms: aws.kms.clone() };
    Queue::open(&Aws::local(endpoints), &house.local().queues[name])
}

/// How often the key service was asked to open something.
fn asked(house: &Running) -> u64 {
    stand_ins(house).counts().get("kms.Decrypt").copied().unwrap_or(0)
}

async fn all_delivered(house: &Running, app: &MadeApp) -> Vec<Value> {
    let until = Instant::now() + SOON;
    loop {
        let deliveries = house.deliveries(app).await;
        if deliveries.len() == EVENTS && deliveries.iter().all(|delivery| delivery["status"] == "delivered") {
            return deliveries;
        }
        assert!(Instant::now() < until, "{deliveries:?}");
        pause().await;
    }
}

#[tokio::test]
async fn without_the_key_service_deliveries_wait_and_nobody_is_blamed() {
    let (house, receiver) = (Running::start().await, Receiver::start().await);
    let app = house.app().await;
    let id = house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let path = format!("/apps/{}/integrations/{id}", app.id);
    house.manage(Method::POST, &format!("{path}/signing-key"), Some(json!({}))).await.expect(201);
    let token = house.token(&app, json!({})).await;

    // Nothing is held open yet: as when the service is away for longer than an opened key is held.
    stand_ins(&house).inject(Service::Kms, Injection::of(Fault::Unavailable));
    for _ in 0..EVENTS {
        house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    }
    for _ in 0..2 {
        let before = asked(&house);
        let each = u64::try_from(EVENTS).expect("small");
        eventually(SOON, || asked(&house) >= before + each).await;
        stand_ins(&house).advance(HIDDEN);
    }
    // No attempt was made, so none is in the log, and none counts.
    assert!(receiver.received().is_empty());
    let deliveries = house.deliveries(&app).await;
    assert!(deliveries.iter().all(|delivery| delivery["attempts"] == json!([])), "{deliveries:?}");
    assert_eq!(house.manage(Method::GET, &path, None).await.expect(200).text("status"), "active");

    stand_ins(&house).clear(Service::Kms);
    let until = Instant::now() + SOON;
    while receiver.received().len() < EVENTS {
        // What came back meanwhile is hidden once more.
        stand_ins(&house).advance(HIDDEN);
        assert!(Instant::now() < until, "{} of {EVENTS} arrived", receiver.received().len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let deliveries = all_delivered(&house, &app).await;
    assert!(deliveries.iter().all(|delivery| delivery["attempts"].as_array().map(Vec::len) == Some(1)));
    assert!(receiver.received().iter().all(|received| received.headers.contains_key("webhook-signature")));
    let integration = house.manage(Method::GET, &path, None).await.expect(200).body["data"].clone();
    assert_eq!((&integration["status"], &integration["successRate"]["failed"]), (&json!("active"), &json!(0)));
}

#[tokio::test]
async fn a_message_that_is_no_delivery_is_put_aside_alone() {
    let (house, receiver) = (Running::start().await, Receiver::start().await);
    let app = house.app().await;
    house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    queue(&house, "DeliveryQueue").send(&[(json!("poison"), 0)]).await.expect("sent");
    let token = house.token(&app, json!({})).await;
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    assert_eq!(house.settled(&app, SOON).await["status"], "delivered");

    let dead = queue(&house, "DeadDeliveryQueue");
    let until = Instant::now() + SOON;
    let aside = loop {
        stand_ins(&house).advance(HIDDEN);
        let aside = dead.receive(10, Duration::from_secs(1)).await.expect("the queue answers");
        if !aside.is_empty() {
            break aside;
        }
        assert!(Instant::now() < until, "it is still tried");
    };
    assert_eq!(aside.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), [r#""poison""#]);
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn the_log_says_why_a_message_is_put_aside() {
    let variables = ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_KMS"]
        .map(|name| (name, "http://127.0.0.1:9".to_owned()));
    let more = [
        ("C2C_TABLE", "table"),
        ("C2C_DELIVERY_QUEUE_URL", "http://127.0.0.1:9/000000000000/deliveries"),
        ("C2C_KMS_KEY_ID", "key"),
    ];
    let variables: Vec<_> = variables.into_iter().chain(more.map(|(name, value)| (name, value.to_owned()))).collect();
    let mut dispatch = Function::start_logging("dispatch", &variables, Stdio::piped()).await;
    let record =
        |id: &str, body: &str| json!({"messageId": id, "body": body, "attributes": {"ApproximateReceiveCount": "7"}});
    let batch = json!({"Records": [
        record("malformed", r#"{"v": 1, "delivery": "canary"}"#),
        record("newer", r#"{"v": 99}"#),
    ]});
    let answer = dispatch.invoke(batch).await.expect("an answer");
    let failures = answer["batchItemFailures"].as_array().expect("a list");
    assert_eq!(failures.len(), 2, "{answer}");
    dispatch.kill().await;
    let (_, log) = dispatch.ended().await;
    let line = |id: &str| log.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id}: {log}"));
    for (id, cause) in [("malformed", "not a delivery"), ("newer", "of version 99")] {
        let line = line(id);
        assert!(line.contains("delivery.poison") && line.contains(cause) && line.contains('7'), "{line}");
    }
    assert!(!log.contains("canary"), "{log}");
}
