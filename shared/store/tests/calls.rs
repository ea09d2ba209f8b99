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
    provision::{self, TableSpec},
};

const AT_ONCE: u32 = 3;

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

/// The call of this number, of the session of this number.
fn call(number: u8, session: u8, now: Timestamp) -> Stored {
    let session = Session {
        id: SessionId::mint(at(0), &[session; 10]),
        app: app(),
        profile: None,
        routing_key: Some("sales".into()),
        context: Context::default(),
        preview: false,
        draft: false,
    };
    let profile = DestinationId::mint(at(0), &[9; 10]);
    let call = Call::start(CallId::mint(now, &[number; 10]), &session, profile, now);
    Stored { call, owner: "server".into() }
}

#[tokio::test]
async fn a_session_has_one_call_and_an_app_so_many() {
    let (_embedded, store) = store().await;
    let begin = async |stored: &Stored| store.begin_call(app(), stored, AT_ONCE, stored.call.started_at).await;
    let (first, rival) = (call(1, 1, at(1)), call(2, 1, at(2)));
    // What was never claimed is given back without a trace.
    store.release_call(app(), first.call.session_id, first.call.id).await.expect("released");
    assert_eq!(store.session_call(first.call.session_id).await.expect("read"), None);
    assert_eq!(begin(&first).await.expect("asked"), Ok(()));
    assert_eq!(store.session_call(first.call.session_id).await.expect("read"), Some(first.call.id));
    assert_eq!(begin(&rival).await.expect("asked"), Err(Busy::Session));
    assert_eq!(store.call(app(), rival.call.id).await.expect("read"), None, "nothing of it is kept");
    assert_eq!(store.call(app(), first.call.id).await.expect("read"), Some(first.clone()));

    let at_once = (3..13).map(|number| call(number, number, at(3)));
    let tries: Vec<_> = at_once.collect();
    let begun = join_all(tries.iter().map(begin)).await.into_iter().map(|begun| begun.expect("asked"));
    let (begun, refused): (Vec<_>, Vec<_>) = begun.partition(Result::is_ok);
    assert_eq!(begun.len(), 2, "with the first there are three");
    assert!(refused.iter().all(|refused| *refused == Err(Busy::App)), "{refused:?}");

    // Given back twice, and then by somebody else's word: the rival's claim stands.
    let release = async |stored: &Stored| store.release_call(app(), stored.call.session_id, stored.call.id).await;
    release(&first).await.expect("released");
    release(&first).await.expect("released");
    assert_eq!(begin(&rival).await.expect("asked"), Ok(()));
    release(&first).await.expect("released");
    assert_eq!(begin(&call(14, 1, at(4))).await.expect("asked"), Err(Busy::Session));
    store.withdraw_call(app(), &rival.call).await.expect("withdrawn");
    assert_eq!(store.call(app(), rival.call.id).await.expect("read"), None);
    assert_eq!(begin(&call(15, 1, at(4))).await.expect("asked"), Ok(()));
}

#[tokio::test]
async fn calls_of_a_dead_server_give_way_when_they_must_be_over() {
    let (_embedded, store) = store().await;
    for number in 1..=3 {
        let stored = call(number, number, at(0));
        assert_eq!(store.begin_call(app(), &stored, AT_ONCE, at(0)).await.expect("asked"), Ok(()));
    }
    let longest = LONGEST.as_secs();
    for (seconds, begun) in [(60, false), (longest, false), (longest + 301, true)] {
        let (same, other) = (call(10, 1, at(seconds)), call(11, 11, at(seconds)));
        let other = store.begin_call(app(), &other, AT_ONCE, at(seconds)).await.expect("asked");
        assert_eq!(other.is_ok(), begun, "{seconds}");
        let same = store.begin_call(app(), &same, AT_ONCE, at(seconds)).await.expect("asked");
        assert_eq!(same.is_ok(), begun, "{seconds}");
    }
}

#[tokio::test]
async fn what_becomes_of_a_call_is_kept_unless_it_was_erased() {
    let (_embedded, store) = store().await;
    let mut numbers = Vec::new();
    for number in 1..=5 {
        let mut stored = call(number, number, at(number.into()));
        store.begin_call(app(), &stored, 10, at(0)).await.expect("asked").expect("begun");
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

    let erased = Stored { call: numbers[0].clone(), owner: "server".into() };
    store.withdraw_call(app(), &erased.call).await.expect("erased");
    store.keep_call(app(), &erased).await.expect("no harm");
    assert_eq!(store.call(app(), erased.call.id).await.expect("read"), None);
}
