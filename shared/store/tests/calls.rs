//! Calls: one of a session at a time, so many of an app, and none that a dead server holds for ever.

use std::time::Duration;

use domain::{
    call::{Call, LONGEST},
    context::Context,
    id::{AppId, CallId, DestinationId, SessionId},
    session::Session,
    time::Timestamp,
};
use embedded::{Config, Embedded};
use futures_util::future::join_all;
use store::{
    Aws, Endpoints, Store,
    calls::{Busy, Stored},
    fleet::Server,
    provision::{self, TableSpec},
};

const AT_ONCE: u32 = 3;
const OWNER: &str = "http://10.0.0.1:9090#7d0c";

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

fn app() -> AppId {
    AppId::mint(at(0), &[1; 10])
}

async fn store() -> (Embedded, Store) {
    let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
    let [dynamodb, sqs, kms] = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
    let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
    let expiry = Some("expiresAt".to_owned());
    let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
    provision::table(&aws, &spec).await.expect("a table");
    (embedded, Store::open(&aws, "table"))
}

fn session(id: SessionId) -> Session {
    Session {
        id,
        app: app(),
        profile: None,
        routing_key: Some("sales".into()),
        context: Context::sanitise([("orderId", "A 1")]).0,
        preview: false,
        draft: false,
    }
}

/// The call of this number, of the session of this number.
fn call(number: u8, session_number: u8, now: Timestamp) -> Stored {
    let session = session(SessionId::mint(at(0), &[session_number; 10]));
    let profile = DestinationId::mint(at(0), &[9; 10]);
    let call = Call::start(CallId::mint(now, &[number; 10]), &session, profile, now);
    Stored { call, owner: OWNER.into() }
}

async fn begin(store: &Store, stored: &Stored, at_once: u32, now: Timestamp) -> Result<(), Busy> {
    store.begin_call(&session(stored.call.session_id), stored, at_once, now).await.expect("asked")
}

#[tokio::test]
async fn a_session_has_one_call_and_an_app_so_many() {
    let (_embedded, store) = store().await;
    let begin = async |stored: &Stored| begin(&store, stored, AT_ONCE, stored.call.started_at).await;
    let (first, rival) = (call(1, 1, at(1)), call(2, 1, at(2)));
    // What was never claimed is given back without a trace.
    store.release_call(app(), first.call.session_id, first.call.id).await.expect("released");
    assert_eq!(store.session_call(first.call.session_id).await.expect("read"), None);
    assert_eq!(begin(&first).await, Ok(()));
    assert_eq!(store.session_call(first.call.session_id).await.expect("read"), Some(first.call.id));
    assert_eq!(begin(&rival).await, Err(Busy::Session));
    assert_eq!(store.call(app(), rival.call.id).await.expect("read"), None, "nothing of it is kept");
    assert_eq!(store.call(app(), first.call.id).await.expect("read"), Some(first.clone()));

    let at_once = (3..13).map(|number| call(number, number, at(3)));
    let tries: Vec<_> = at_once.collect();
    let begun = join_all(tries.iter().map(begin)).await.into_iter();
    let (begun, refused): (Vec<_>, Vec<_>) = begun.partition(Result::is_ok);
    assert_eq!(begun.len(), 2, "with the first there are three");
    assert!(refused.iter().all(|refused| *refused == Err(Busy::App)), "{refused:?}");

    // Given back twice, and then by somebody else's word: the rival's claim stands.
    let release = async |stored: &Stored| store.release_call(app(), stored.call.session_id, stored.call.id).await;
    release(&first).await.expect("released");
    release(&first).await.expect("released");
    assert_eq!(begin(&rival).await, Ok(()));
    release(&first).await.expect("released");
    assert_eq!(begin(&call(14, 1, at(4))).await, Err(Busy::Session));
    store.withdraw_call(app(), &rival).await.expect("withdrawn");
    assert_eq!(store.call(app(), rival.call.id).await.expect("read"), None);
    assert_eq!(begin(&call(15, 1, at(4))).await, Ok(()));
}

#[tokio::test]
async fn calls_of_a_dead_server_give_way_when_they_must_be_over() {
    let (_embedded, store) = store().await;
    for number in 1..=3 {
        let stored = call(number, number, at(0));
        assert_eq!(begin(&store, &stored, AT_ONCE, at(0)).await, Ok(()));
    }
    let longest = LONGEST.as_secs();
    for (seconds, begun) in [(60, false), (longest, false), (longest + 301, true)] {
        let (same, other) = (call(10, 1, at(seconds)), call(11, 11, at(seconds)));
        let other = begin(&store, &other, AT_ONCE, at(seconds)).await;
        assert_eq!(other.is_ok(), begun, "{seconds}");
        let same = begin(&store, &same, AT_ONCE, at(seconds)).await;
        assert_eq!(same.is_ok(), begun, "{seconds}");
    }
}

#[tokio::test]
async fn what_becomes_of_a_call_is_kept_unless_it_was_erased() {
    let (_embedded, store) = store().await;
    let mut numbers = Vec::new();
    for number in 1..=5 {
        let mut stored = call(number, number, at(number.into()));
        begin(&store, &stored, 10, at(0)).await.expect("begun");
        stored.call.quality = Some(serde_json::json!({"trunk": {"mos": 4.41, "rttMs": null}}));
        stored.call.ended_at = Some(at(60));
        store.keep_call(app(), &stored).await.expect("kept");
        assert_eq!(store.call(app(), stored.call.id).await.expect("read"), Some(stored.clone()));
        numbers.push(stored.call);
    }
    numbers.reverse();
    let first = store.calls(app(), 3, None).await.expect("read");
    assert_eq!((&first.items[..], first.has_more), (&numbers[..3], true));
    let last = store.calls(app(), 3, Some(numbers[2].id)).await.expect("read");
    assert_eq!((&last.items[..], last.has_more), (&numbers[3..], false));

    let erased = Stored { call: numbers[0].clone(), owner: OWNER.into() };
    store.withdraw_call(app(), &erased).await.expect("erased");
    store.keep_call(app(), &erased).await.expect("no harm");
    assert_eq!(store.call(app(), erased.call.id).await.expect("read"), None);
}

#[tokio::test]
async fn a_servers_calls_are_found_without_looking_through_the_table() {
    let (_embedded, store) = store().await;
    let calls: Vec<_> = (1..=3).map(|number| call(number, number, at(number.into()))).collect();
    for stored in &calls {
        begin(&store, stored, 10, at(0)).await.expect("begun");
    }
    let elsewhere = Stored { owner: "http://10.0.0.2:9090#0c7d".into(), ..call(4, 4, at(4)) };
    begin(&store, &elsewhere, 10, at(0)).await.expect("begun");
    let ids = async |after| {
        let page = store.calls_of_server(OWNER, 2, after).await.expect("read");
        assert!(page.items.iter().all(|running| running.session.context.pairs().count() == 1), "{page:?}");
        (page.items.into_iter().map(|running| running.call_id).collect::<Vec<_>>(), page.has_more)
    };
    let [first, second, third] = [0, 1, 2].map(|index: usize| calls[index].call.id);
    assert_eq!(ids(None).await, (vec![first, second], true));
    assert_eq!(ids(Some(second)).await, (vec![third], false));
    // It stays there until its end is reported, not only written down.
    store.release_call(app(), calls[0].call.session_id, first).await.expect("released");
    assert_eq!(ids(None).await.0.len(), 2);
    store.settle_call(OWNER, first).await.expect("settled");
    store.settle_call(OWNER, first).await.expect("settled");
    store.withdraw_call(app(), &calls[1]).await.expect("withdrawn");
    assert_eq!(ids(None).await, (vec![third], false));
}

#[tokio::test]
async fn one_at_a_time_looks_after_a_server_that_is_overdue() {
    let (_embedded, store) = store().await;
    store.lease_server(&Server::new(OWNER, 7, at(30))).await.expect("leased");
    let found = async || store.servers(10, None).await.expect("read").items;
    assert_eq!(found().await, [Server::new(OWNER, 7, at(30))]);
    let server = found().await.remove(0);
    assert!(!server.is_overdue(at(30)) && server.is_overdue(at(31)));
    let look = async |until, now| store.look_after_server(&server, at(until), at(now)).await.expect("asked");
    assert!(!look(60, 30).await, "it is there");
    let both = tokio::join!(look(61, 31), look(62, 31));
    assert!(both.0 != both.1, "{both:?}");
    let until = if both.0 { at(61) } else { at(62) };
    // It is there again after all, and is not forgotten.
    store.lease_server(&Server::new(OWNER, 3, at(90))).await.expect("leased");
    store.forget_server(OWNER, until).await.expect("asked");
    assert_eq!(found().await, [Server::new(OWNER, 3, at(90))]);
    assert!(look(121, 91).await);
    store.forget_server(OWNER, at(121)).await.expect("asked");
    assert_eq!(found().await, []);
}
