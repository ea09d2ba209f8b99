//! The breaker: twenty deliveries in a row that failed pause an integration, exactly, and what follows (contract section
//! 4, "Circuit breaker").

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{MadeApp, Running, client, eventually, loaded, options, pause},
    receiver::{Answer, Receiver},
};

const SOON: Duration = Duration::from_secs(20);

struct Place {
    house: Running,
    receiver: Receiver,
    app: MadeApp,
    integration: String,
    token: String,
}

impl Place {
    async fn start() -> Self {
        let house = Running::with(options(&[("C2C_LIMIT_EVENTS_IP", "10000")])).await;
        let receiver = Receiver::start().await;
        let app = house.app().await;
        let integration = house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
        let token = house.token(&app, json!({})).await;
        Self { house, receiver, app, integration, token }
    }

    /// Sends this many events at once.
    async fn events(&self, many: usize) {
        let events: Vec<_> = (0..many).map(|_| loaded()).collect();
        let sent = events.iter().map(|event| self.house.public("/v1/events", Some(&self.token), event));
        join_all(sent).await.into_iter().for_each(|answer| drop(answer.expect(202)));
    }

    /// Waits until this many deliveries have settled, and gives how many ended which way: delivered, failed, skipped.
    async fn settled(&self, many: usize) -> (usize, usize, usize) {
        let until = tokio::time::Instant::now() + SOON;
        loop {
            let deliveries = self.house.deliveries(&self.app).await;
            let count = |status: &str| deliveries.iter().filter(|delivery| delivery["status"] == status).count();
            if deliveries.len() - count("pending") == many {
                return (count("delivered"), count("failed"), count("skipped"));
            }
            assert!(tokio::time::Instant::now() < until, "not settled: {deliveries:?}");
            pause().await;
        }
    }

    async fn integration(&self) -> Value {
        let path = format!("/apps/{}/integrations/{}", self.app.id, self.integration);
        self.house.manage(Method::GET, &path, None).await.expect(200).body["data"].clone()
    }

    async fn command(&self, command: &str) {
        let path = format!("/apps/{}/integrations/{}/{command}", self.app.id, self.integration);
        self.house.manage(Method::POST, &path, None).await.expect(200);
    }

    fn fails(&self, times: usize) {
        self.receiver.answer((0..times).map(|_| Answer::status(400)));
    }
}

#[tokio::test]
async fn the_twentieth_failure_in_a_row_pauses_and_not_the_nineteenth() {
    let place = Place::start().await;
    place.fails(19);
    place.events(19).await;
    assert_eq!(place.settled(19).await, (0, 19, 0));
    assert_eq!(place.integration().await["status"], "active");
    // One success begins the count again.
    place.events(1).await;
    assert_eq!(place.settled(20).await, (1, 19, 0));
    place.fails(19);
    place.events(19).await;
    assert_eq!(place.settled(39).await, (1, 38, 0));
    assert_eq!(place.integration().await["status"], "active");
    place.fails(1);
    place.events(1).await;
    assert_eq!(place.settled(40).await, (1, 39, 0));
    let paused = place.integration().await;
    assert_eq!(paused["status"], "paused", "{paused}");
    assert_eq!(paused["pausedReason"], "20 deliveries in a row failed.");
    assert!(paused["pausedAt"].is_string(), "{paused}");

    // Nothing more is sent; what comes is kept.
    place.events(2).await;
    assert_eq!(place.settled(42).await, (1, 39, 2));
    assert_eq!(place.receiver.received().len(), 40);
}

#[tokio::test]
async fn many_at_once_trip_it_once() {
    let place = Place::start().await;
    place.fails(100);
    place.events(60).await;
    let (delivered, failed, skipped) = place.settled(60).await;
    // Those under way when it tripped end as they end; none begins afterwards.
    assert_eq!((delivered, failed + skipped), (0, 60));
    assert!(failed >= 20, "{failed}");
    assert_eq!(place.receiver.received().len(), failed);
    assert_eq!(place.integration().await["status"], "paused");
    // The place that it took among the active ones is free, once.
    for _ in 0..3 {
        place.house.integrate(&place.app, &place.receiver, &[], Value::Null).await;
    }
    let draft = json!({"name": "Fourth", "url": place.receiver.url("/in")});
    let path = format!("/apps/{}/integrations", place.app.id);
    place.house.manage(Method::POST, &path, Some(draft)).await.expect(409);
}

#[tokio::test]
async fn activating_begins_again_at_zero() {
    let place = Place::start().await;
    place.fails(20);
    place.events(20).await;
    assert_eq!(place.settled(20).await, (0, 20, 0));
    assert_eq!(place.integration().await["status"], "paused");
    place.command("activate").await;
    let active = place.integration().await;
    assert_eq!(
        (&active["status"], &active["pausedReason"], &active["pausedAt"]),
        (&json!("active"), &Value::Null, &Value::Null)
    );
    place.fails(19);
    place.events(19).await;
    assert_eq!(place.settled(39).await, (0, 39, 0));
    assert_eq!(place.integration().await["status"], "active");
    // So does switching it off and on.
    place.command("deactivate").await;
    place.command("activate").await;
    place.fails(19);
    place.events(19).await;
    assert_eq!(place.settled(58).await, (0, 58, 0));
    assert_eq!(place.integration().await["status"], "active");
}

#[tokio::test]
async fn gone_pauses_at_once() {
    let place = Place::start().await;
    place.receiver.answer([Answer::status(410)]);
    place.events(1).await;
    assert_eq!(place.settled(1).await, (0, 1, 0));
    let paused = place.integration().await;
    assert_eq!(paused["status"], "paused");
    assert!(paused["pausedReason"].as_str().expect("a reason").contains("410"), "{paused}");
    place.events(1).await;
    assert_eq!(place.settled(2).await, (0, 1, 1));
    assert_eq!(place.receiver.received().len(), 1);
}

#[tokio::test]
async fn the_inbox_tells_of_a_pause_once() {
    let place = Place::start().await;
    place.fails(25);
    place.events(25).await;
    place.settled(25).await;
    let demo = place.house.local().demo.as_ref().expect("a demo");
    let until = tokio::time::Instant::now() + SOON;
    let notices = loop {
        let listed = client(None).get(&demo.inbox_api).send().await.expect("an answer");
        let listed: Value = listed.json().await.expect("JSON");
        assert!(listed["data"].is_array());
        let notices = listed["notices"].as_array().expect("a list").clone();
        if !notices.is_empty() {
            break notices;
        }
        assert!(tokio::time::Instant::now() < until, "nothing is told");
        pause().await;
    };
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!((&notice["appId"], &notice["integrationId"]), (&json!(place.app.id), &json!(place.integration)));
    assert_eq!((&notice["name"], &notice["reason"]), (&json!("CRM"), &json!("20 deliveries in a row failed.")));
    assert_eq!(notice["at"], place.integration().await["pausedAt"]);
}

#[tokio::test]
async fn results_of_an_older_life_neither_trip_nor_reset() {
    let place = Place::start().await;
    place.fails(19);
    place.events(19).await;
    assert_eq!(place.settled(19).await, (0, 19, 0));
    // The twentieth is under way while the integration is switched off and on.
    place.receiver.answer([Answer::status(400).after(Duration::from_millis(1_500))]);
    place.events(1).await;
    eventually(SOON, || place.receiver.received().len() == 20).await;
    place.command("deactivate").await;
    place.command("activate").await;
    assert_eq!(place.settled(20).await, (0, 20, 0));
    assert_eq!(place.integration().await["status"], "active");

    // And a success of before does not forgive what failed since.
    place.receiver.answer([Answer::status(200).after(Duration::from_millis(4_500))]);
    place.events(1).await;
    eventually(SOON, || place.receiver.received().len() == 21).await;
    place.command("deactivate").await;
    place.command("activate").await;
    // A function knows of the new life within two seconds.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    place.fails(19);
    place.events(19).await;
    assert_eq!(place.settled(40).await, (1, 39, 0));
    assert_eq!(place.integration().await["status"], "active");
    place.fails(1);
    place.events(1).await;
    assert_eq!(place.settled(41).await, (1, 40, 0));
    assert_eq!(place.integration().await["status"], "paused");
}

#[tokio::test]
async fn waiting_retries_are_skipped_when_it_pauses() {
    let place = Place::start().await;
    place.receiver.answer([Answer::status(503)]);
    place.events(1).await;
    eventually(SOON, || place.receiver.received().len() == 1).await;
    place.fails(20);
    place.events(20).await;
    // The retry comes after about five seconds.
    assert_eq!(place.settled(21).await, (0, 20, 1));
    assert_eq!(place.receiver.received().len(), 21);
}
