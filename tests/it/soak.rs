//! A run of many events to three integrations, one of which fails at first and one of which sometimes says nothing: every
//! delivery ends, none is lost, none comes twice. And what a delivered event costs in requests to AWS.
//!
//! `C2C_FULL=1` makes the runs as long as the figures in the README were measured with.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{MadeApp, Running, foreign_endpoints, loaded, options},
    receiver::{Answer, Receiver},
};

/// Whether the long runs are wanted.
pub fn full() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a switch of the suite")]
    std::env::var_os("C2C_FULL").is_some_and(|value| value == "1")
}

async fn house() -> Running {
    let limits = ["C2C_LIMIT_EVENTS_IP", "C2C_LIMIT_EVENTS_APP", "C2C_LIMIT_SESSION_IP"];
    Running::with(options(&limits.map(|name| (name, "1000000")))).await
}

/// Sends this many events, `at_once` at a time.
async fn send(house: &Running, token: &str, many: usize, at_once: usize) {
    let events: Vec<_> = (0..many).map(|_| loaded()).collect();
    let sent = stream::iter(&events).map(|event| house.public("/v1/events", Some(token), event));
    sent.buffer_unordered(at_once).for_each(|answer| async move { drop(answer.expect(202)) }).await;
}

/// Every delivery of the app.
async fn log(house: &Running, app: &MadeApp) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/apps/{}/deliveries?limit=100{cursor}", app.id);
        let page = house.manage(Method::GET, &path, None).await.expect(200).body;
        all.extend(page["data"].as_array().expect("a list").iter().cloned());
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

async fn none_pending(house: &Running, app: &MadeApp, many: usize, within: Duration) -> Vec<Value> {
    let until = Instant::now() + within;
    loop {
        let all = log(house, app).await;
        let pending = all.iter().filter(|delivery| delivery["status"] == "pending").count();
        if all.len() == many && pending == 0 {
            return all;
        }
        assert!(Instant::now() < until, "{} of {many} are there, {pending} pending", all.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_delivery_ends_as_it_must() {
    let (events, at_once) = if full() { (10_000, 16) } else { (300, 8) };
    let house = house().await;
    let app = house.app().await;
    let (good, failing, silent) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    // One fails as long as an outage lasts, one says nothing to two in a hundred.
    failing.answer((0..events / 4).map(|_| Answer::status(500)));
    silent.answer((0..events).map(|at| if at % 50 == 7 { Answer::never() } else { Answer::status(200) }));
    let mut names = HashMap::new();
    for (name, receiver) in [("good", &good), ("failing", &failing), ("silent", &silent)] {
        let id = house.integrate(&app, receiver, &["widget_loaded"], json!({"timeoutMs": 1_000})).await;
        names.insert(id, name);
    }
    let token = house.token(&app, json!({})).await;
    let began = Instant::now();
    send(&house, &token, events, at_once).await;
    let accepted = began.elapsed();
    let within = if full() { Duration::from_secs(600) } else { Duration::from_secs(90) };
    let all = none_pending(&house, &app, 3 * events, within).await;

    let mut table: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut posts: HashMap<&str, usize> = HashMap::new();
    for delivery in &all {
        let name = names[delivery["integrationId"].as_str().expect("an id")];
        let status = delivery["status"].as_str().expect("a status");
        let attempts = delivery["attempts"].as_array().expect("attempts").len();
        match status {
            "delivered" => assert!((1..=3).contains(&attempts), "{delivery}"),
            "failed" => assert_eq!(attempts, 3, "{delivery}"),
            "skipped" => assert!(attempts < 3, "{delivery}"),
            other => panic!("{other}: {delivery}"),
        }
        *table.entry((name, status)).or_default() += 1;
        *posts.entry(name).or_default() += attempts;
    }
    assert_eq!(table[&("good", "delivered")], events);
    // Every POST stands in the log, and none but those were made: no duplicates.
    for (name, receiver) in [("good", &good), ("failing", &failing), ("silent", &silent)] {
        assert_eq!(receiver.received().len(), posts[name], "{name}");
    }
    println!("{events} events accepted in {accepted:.1?}, settled in {:.1?}: {table:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivered_event_costs_few_requests() {
    if foreign_endpoints().is_some() {
        return;
    }
    let events = if full() { 5_000 } else { 300 };
    let house = house().await;
    let app = house.app().await;
    let receiver = Receiver::start().await;
    house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let token = house.token(&app, json!({})).await;
    send(&house, &token, 20, 4).await;
    none_pending(&house, &app, 20, Duration::from_secs(20)).await;
    println!("requests per delivered event, {events} events, one integration:");
    for at_once in [1, 4, 16] {
        let stand_ins = house.stand_ins().expect("stand-ins of its own");
        let before = receiver.received().len();
        stand_ins.forget_counts();
        send(&house, &token, events, at_once).await;
        let until = Instant::now() + Duration::from_secs(60);
        while receiver.received().len() < before + events {
            assert!(Instant::now() < until, "{} of {events}", receiver.received().len() - before);
            crate::support::house::pause().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let counts = stand_ins.counts();
        let per_event = |count: u64| count as f64 / events as f64;
        let total = per_event(counts.values().sum());
        let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {:.2}", per_event(*count))).collect();
        println!("  {at_once:>2} at once: {total:.2}  ({})", each.join(", "));
        // One by one, each event pays for a batch of its own.
        assert!(total <= if at_once == 1 { 7.5 } else { 6.0 }, "{total}");
    }
}
