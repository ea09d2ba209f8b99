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

use crate::{
    calls,
    support::{
        house::{MadeApp, Running, eventually, foreign_endpoints, loaded, options, pause},
        receiver::{Answer, Receiver},
    },
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
    let pending = format!("/apps/{}/deliveries?status=pending&limit=1", app.id);
    loop {
        let first = house.manage(Method::GET, &pending, None).await.expect(200).body;
        let none = first["data"].as_array().is_some_and(Vec::is_empty);
        // Reading all of a long log takes as long as some deliveries do.
        let all = if none { log(house, app).await } else { Vec::new() };
        if all.len() == many && all.iter().all(|delivery| delivery["status"] != "pending") {
            return all;
        }
        assert!(Instant::now() < until, "{} of {many} are settled; still pending: {first}", all.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How the deliveries of each integration ended.
type Ends<'a> = BTreeMap<(&'a str, String), usize>;

/// Three receivers, of which one fails while an outage lasts, and one says nothing to two requests in a hundred.
struct Trio {
    receivers: [(&'static str, Receiver); 3],
    ids: HashMap<String, &'static str>,
}

impl Trio {
    async fn start(house: &Running, app: &MadeApp, events: usize) -> Self {
        let receivers = [
            ("good", Receiver::start().await),
            ("failing", Receiver::start().await),
            ("silent", Receiver::start().await),
        ];
        receivers[1].1.otherwise(Answer::status(500));
        let silence = (0..2 * events).map(|at| if at % 50 == 7 { Answer::never() } else { Answer::status(200) });
        receivers[2].1.answer(silence);
        let mut ids = HashMap::new();
        for (name, receiver) in &receivers {
            ids.insert(house.integrate(app, receiver, &["widget_loaded"], json!({"timeoutMs": 1_000})).await, *name);
        }
        Self { receivers, ids }
    }

    /// The failing one's path in the management API.
    fn failing(&self, app: &MadeApp) -> String {
        let (id, _) = self.ids.iter().find(|(_, name)| **name == "failing").expect("it was made");
        format!("/apps/{}/integrations/{id}", app.id)
    }

    /// Counts how deliveries ended, and holds each to what its end allows: `rounds` of three attempts.
    fn ends(&self, all: &[Value], rounds: usize) -> Ends<'static> {
        let mut ends = Ends::new();
        for delivery in all {
            let name = self.ids[delivery["integrationId"].as_str().expect("an id")];
            let status = delivery["status"].as_str().expect("a status");
            let attempts = delivery["attempts"].as_array().expect("attempts").len();
            match status {
                "delivered" => assert!((1..=3 * rounds).contains(&attempts), "{delivery}"),
                "failed" => assert_eq!(attempts, 3, "{delivery}"),
                "skipped" => assert!(attempts < 3, "{delivery}"),
                other => panic!("{other}: {delivery}"),
            }
            *ends.entry((name, status.to_owned())).or_default() += 1;
        }
        ends
    }

    /// POSTs that came in, of each; and how many of all stand in no log: those came twice.
    fn posts(&self, all: &[Value]) -> (BTreeMap<&'static str, usize>, usize) {
        let (mut posts, mut logged) = (BTreeMap::new(), HashMap::new());
        for delivery in all {
            let attempts = delivery["attempts"].as_array().expect("attempts");
            // One that nobody answered may have ended before its receiver read it.
            let answered = attempts.iter().filter(|attempt| !attempt["statusCode"].is_null()).count();
            logged.insert(delivery["id"].as_str().expect("an id").to_owned(), (attempts.len(), answered));
        }
        let mut came: HashMap<String, usize> = HashMap::new();
        for (name, receiver) in &self.receivers {
            let received = receiver.received();
            posts.insert(*name, received.len());
            let ids = received.iter().map(|one| one.headers["webhook-id"].to_str().expect("text").to_owned());
            ids.for_each(|id| *came.entry(id).or_default() += 1);
        }
        for (id, (_, answered)) in &logged {
            assert!(came.get(id).copied().unwrap_or(0) >= *answered, "{id} has an answer that nobody gave");
        }
        (posts, came.iter().map(|(id, count)| count.saturating_sub(logged[id].0)).sum())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_delivery_ends_as_it_must() {
    // So many during the outage, so many after it.
    let (during, after, at_once) = if full() { (8_000, 2_000, 16) } else { (160, 40, 8) };
    let (outage, patience) = if full() { (60, 900) } else { (0, 60) };
    let (outage, patience) = (Duration::from_secs(outage), Duration::from_secs(patience));
    let events = during + after;
    let house = house().await;
    let app = house.app().await;
    let trio = Trio::start(&house, &app, events).await;
    let failing = trio.failing(&app);
    let token = house.token(&app, json!({})).await;
    let since = json!({"since": "2026-01-01T00:00:00Z"});

    let began = Instant::now();
    send(&house, &token, during, at_once).await;
    let accepted = began.elapsed();
    let all = none_pending(&house, &app, 3 * during, patience).await;
    let settled = began.elapsed();
    let first = trio.ends(&all, 1);
    let of = |ends: &Ends, name, status: &str| ends.get(&(name, status.to_owned())).copied().unwrap_or(0);
    // Twenty in a row stop it; those whose last attempt was under way at that moment may have failed besides.
    let (failed, skipped) = (of(&first, "failing", "failed"), of(&first, "failing", "skipped"));
    assert!(failed >= 20 && skipped > 0 && failed + skipped == during, "{first:?}");
    assert_eq!(house.manage(Method::GET, &failing, None).await.expect(200).text("status"), "paused");

    // The outage ends; an operator lets it go on.
    tokio::time::sleep(outage.saturating_sub(began.elapsed())).await;
    trio.receivers[1].1.otherwise(Answer::status(200));
    house.manage(Method::POST, &format!("{failing}/activate"), None).await.expect(200);
    send(&house, &token, after, at_once).await;
    let all = none_pending(&house, &app, 3 * events, patience).await;
    let second = trio.ends(&all, 1);
    assert_eq!(of(&second, "failing", "delivered"), after, "{second:?}");
    assert_eq!((of(&second, "failing", "failed"), of(&second, "failing", "skipped")), (failed, skipped));
    assert_eq!(of(&second, "good", "delivered"), events, "{second:?}");

    // And what it missed goes once more.
    let (mut resent, mut body) = (0, since);
    loop {
        let answer = house.manage(Method::POST, &format!("{failing}/resend"), Some(body.clone())).await.expect(202);
        resent += answer.body["data"]["resent"].as_u64().expect("a number");
        if answer.body["data"]["hasMore"] == json!(false) {
            break;
        }
        body["cursor"] = answer.body["data"]["nextCursor"].clone();
    }
    assert_eq!(usize::try_from(resent).expect("small"), failed + skipped);
    let all = none_pending(&house, &app, 3 * events, patience).await;
    let last = trio.ends(&all, 2);
    assert_eq!(of(&last, "failing", "delivered"), events, "{last:?}");
    let (posts, twice) = trio.posts(&all);
    assert_eq!(twice, 0, "came twice");

    let rate = f64::from(u32::try_from(during).expect("small")) / accepted.as_secs_f64();
    println!("{during} events accepted in {accepted:.1?} ({rate:.0} a second), settled after {settled:.1?}: {first:?}");
    println!("the outage over, {after} more: {second:?}");
    println!("{resent} sent again: {last:?} after {:.1?}", began.elapsed());
    println!("POSTs {posts:?}, {twice} of them twice");
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
            pause().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let counts = stand_ins.counts();
        let per_event = |count: u64| count as f64 / events as f64;
        let total = per_event(counts.values().sum());
        let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {:.2}", per_event(*count))).collect();
        println!("  {at_once:>2} at once: {total:.2}  ({})", each.join(", "));
        // One by one it takes seven: sent, received, its integration read, claimed, recorded, counted, deleted. What is looked
        // up every few seconds comes on top, by how slow the run is.
        assert!(total <= if at_once == 1 { 7.3 } else { 6.0 }, "{total}");
    }
}

/// Write units that calls took so far, where each row fits in one; and how many calls are out of their server's list, which
/// is the last of what is written about them.
fn calls_wrote(house: &Running) -> (u64, u64) {
    let uses = house.stand_ins().expect("stand-ins of its own").uses();
    let (mut units, mut settled) = (0, 0);
    // That a server is there, it says whether it has calls or not.
    for (one, count) in uses.iter().filter(|(one, _)| one.by == "Media" && one.on != "SERVERS") {
        match one.action.as_str() {
            "dynamodb:PutItem" | "dynamodb:UpdateItem" | "dynamodb:DeleteItem" if one.in_transaction => {
                units += 2 * count;
            }
            "dynamodb:PutItem" | "dynamodb:UpdateItem" => units += count,
            "dynamodb:DeleteItem" => {
                units += count;
                settled += if one.on == "SERVER" { *count } else { 0 };
            }
            _ => {}
        }
    }
    (units, settled)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_takes_the_write_units_that_scaling_says() {
    if foreign_endpoints().is_some() {
        return;
    }
    let house = house().await;
    let mut fewest = u64::MAX;
    for _ in 0..3 {
        let app = house.app().await;
        let (before, settled) = calls_wrote(&house);
        calls::past(&house, &app).await;
        eventually(Duration::from_secs(10), || calls_wrote(&house).1 > settled).await;
        // Beside one of the calls, a media server may ask the new provider whether it is there.
        fewest = fewest.min(calls_wrote(&house).0 - before);
    }
    let scaling = include_str!("../../infra/SCALING.md");
    let said = format!("table: {fewest} write units a call");
    assert!(scaling.contains(&said), "infra/SCALING.md does not say \"{said}\"");
}
