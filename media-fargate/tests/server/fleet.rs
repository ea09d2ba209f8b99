//! Several servers over one table: one that dies is settled by another, one that is full passes calls on, and calls of an
//! app that is deleted end.

use std::time::{Duration, Instant};

use domain::{
    call::Call,
    context::Context,
    event::{Envelope, EventName},
    id::{CallId, DestinationId},
    time::Timestamp,
};
use edge::{chance, clock, env};
use media::fleet::Pace;
use reqwest::Method;
use store::calls::Stored;
use tokio::time::{sleep, timeout};

use crate::{
    ground::{Ground, PATIENCE, Server, TONE},
    visitor::{Visitor, took},
};

/// Until another server has written down what became of a dead one's calls: its lease, the next look, the questions whether
/// it is there, and a margin.
fn bound() -> Duration {
    let Pace { every, lease } = Pace::default();
    lease + every + Duration::from_secs(16)
}

/// A call that began at this moment, on a server that knows nothing of it.
async fn begun(ground: &Ground, owner: &str, at: Timestamp) -> CallId {
    let (id, session) = (CallId::mint(at, &chance::bytes()), ground.session());
    let call = Call::start(id, &session, DestinationId::mint(at, &[9; 10]), at);
    let stored = Stored { call, owner: owner.into() };
    ground.store.begin_call(&session, &stored, 20, at).await.expect("asked").expect("begun");
    id
}

/// What a new visitor's offer is answered with.
async fn status(server: &Server, ground: &Ground) -> u16 {
    let (offer, token) = (Visitor::new(TONE).await.offer().await, ground.token(&ground.session()));
    server.ask(Method::POST, "/v1/calls", &token, &offer).await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_server_that_was_killed_are_settled_by_the_others() {
    let ground = Ground::new().await;
    ground.hears_ends().await;
    let mut owner = ground.server(&[]).await;
    let session = domain::session::Session { context: Context::sanitise([("orderId", "A 1")]).0, ..ground.session() };
    let call = owner.call_of(&ground, &session).await;
    let listed = ground.store.calls_of_server(&ground.row(call.id).await.owner, 10, None).await.expect("read").items;
    assert_eq!(listed.iter().map(|running| running.call_id).collect::<Vec<_>>(), [call.id]);
    let began = Instant::now();
    owner.kill().await;
    // Both of those that are left look, and nobody calls again.
    let _others = [ground.server(&[]).await, ground.server(&[]).await];
    let settled = async {
        while ground.row(call.id).await.call.ended_at.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(bound(), settled).await.expect("settled within the bound");
    took("from SIGKILL to the end of its call", began);
    let row = ground.row(call.id).await.call;
    assert_eq!((row.error_code.as_deref(), row.reason), (Some("internal"), None));
    let Envelope { name, data, .. } = ground.next_end().await.expect("an event");
    assert_eq!(
        (name, &data["errorCode"], &data["context"]["orderId"]),
        (EventName::CallError, &"internal".into(), &"A 1".into())
    );
    // The claims are given back: one call of the app may run, and the session's next is it.
    let free = async {
        let again = Call::start(
            CallId::mint(clock::now(), &chance::bytes()),
            &session,
            DestinationId::mint(clock::now(), &[9; 10]),
            clock::now(),
        );
        let again = Stored { call: again, owner: String::new() };
        while ground.store.begin_call(&session, &again, 1, clock::now()).await.expect("asked").is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, free).await.expect("its claims are given back");
    // And nothing is left of the server.
    let forgotten = async {
        let owner = &ground.row(call.id).await.owner;
        while ground.store.servers(10, None).await.expect("read").items.iter().any(|server| server.owner == *owner) {
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(ground.store.calls_of_server(owner, 10, None).await.expect("read").items, []);
    };
    timeout(PATIENCE, forgotten).await.expect("it is forgotten");
    assert!(ground.next_end().await.is_none(), "the end is told once");
}

/// One of two servers is killed, at this place between the other's looks and after its own word that it is there; how long it
/// takes until the end of its call is written down.
async fn settled_after_a_kill(place: u32) -> Duration {
    let ground = Ground::new().await;
    let _other = ground.server(&[]).await;
    sleep(Duration::from_secs(2) * place).await;
    let mut owner = ground.server(&[]).await;
    let call = owner.call(&ground).await;
    sleep(Duration::from_secs(3) * place).await;
    let began = Instant::now();
    owner.kill().await;
    let settled = async {
        while ground.row(call.id).await.call.ended_at.is_none() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(bound(), settled).await.expect("settled within the bound");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: cargo nextest run -p media --test server --run-ignored only how_long --no-capture"]
async fn how_long_calls_of_a_killed_server_wait() {
    let mut took = futures_util::future::join_all((0..5).map(settled_after_a_kill)).await;
    took.sort_unstable();
    println!("from SIGKILL to the end of its call: {took:.1?}");
}

/// It was written down that the call was over, and the server died before it could tell.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_written_down_and_not_told_is_told_as_it_was() {
    let ground = Ground::new().await;
    ground.hears_ends().await;
    let (session, now) = (ground.session(), clock::now());
    let (id, owner) = (CallId::mint(now, &chance::bytes()), "http://127.0.0.1:9#0123456789abcdef");
    let call = Call::start(id, &session, DestinationId::mint(now, &[9; 10]), now);
    let mut stored = Stored { call, owner: owner.into() };
    ground.store.begin_call(&session, &stored, 20, now).await.expect("asked").expect("begun");
    let ended = (Some(now), Some(7), Some("remote_hangup".to_owned()));
    (stored.call.ended_at, stored.call.duration, stored.call.reason) = ended;
    ground.store.keep_call(ground.app, &stored).await.expect("kept");
    ground.store.lease_server(&store::fleet::Server::new(owner, 0, now)).await.expect("stored");
    let _server = ground.server(&[]).await;
    let Envelope { name, data, .. } = timeout(PATIENCE, async {
        loop {
            if let Some(envelope) = ground.next_end().await {
                break envelope;
            }
        }
    })
    .await
    .expect("an event");
    assert_eq!((name, &data["duration"], &data["reason"]), (EventName::CallEnded, &7.into(), &"remote_hangup".into()));
    assert_eq!(ground.row(id).await.call, stored.call, "nothing of it changes");
}

/// What is known of a dead server is that it was there until its lease ended.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_dead_server_end_with_its_lease_and_later_ones_wait() {
    let (ground, now) = (Ground::new().await, clock::now());
    let ago = |seconds: i64| Timestamp::from_millis(now.as_millis() - seconds * 1_000);
    let owner = "http://127.0.0.1:9#0123456789abcdef";
    let (known, later) = (begun(&ground, owner, ago(180)).await, begun(&ground, owner, ago(60)).await);
    ground.store.lease_server(&store::fleet::Server::new(owner, 0, ago(120))).await.expect("stored");
    let server = ground.server(&[]).await;
    server.says("fleet.buried").await;
    let row = ground.row(known).await.call;
    assert_eq!((row.ended_at, row.duration, row.error_code.as_deref()), (Some(ago(120)), Some(60), Some("internal")));
    assert_eq!(ground.row(later).await.call.ended_at, None);
    let left = ground.store.calls_of_server(owner, 10, None).await.expect("read").items;
    assert_eq!(left.iter().map(|running| running.call_id).collect::<Vec<_>>(), [later]);
}

/// The table was away for so long that the end of a call was given up, and its server lives on.
#[tokio::test(flavor = "multi_thread")]
async fn a_living_server_tries_again_to_write_down_ends_of_its_own() {
    let ground = Ground::new().await;
    let (server, now) = (ground.server(&[]).await, clock::now());
    let answer = server.ask_privately(Method::GET, "/nothing", "none").await;
    let owner = format!("{}#{}", server.private_url, answer.headers()["x-c2c-process"].to_str().expect("text"));
    let ago = |minutes: i64| Timestamp::from_millis(now.as_millis() - minutes * 60_000);
    let (over, young) = (begun(&ground, &owner, ago(70)).await, begun(&ground, &owner, ago(1)).await);
    let row = timeout(bound(), async {
        loop {
            let row = ground.row(over).await.call;
            if row.ended_at.is_some() {
                break row;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let row = row.await.expect("written down with the next look");
    assert_eq!((row.ended_at, row.error_code.as_deref()), (Some(ago(5)), Some("internal")));
    assert_eq!(ground.row(young).await.call.ended_at, None, "it may be about to run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_reads_the_list_of_servers_once_each_time_it_says_that_it_is_there() {
    let ground = Ground::new().await;
    let _server = ground.server(&[]).await;
    let said = || ground.uses("PutItem", "SERVERS");
    let thrice = async {
        while said() < 3 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Pace::default().every * 4, thrice).await.expect("it says so again and again");
    let (read, said) = (ground.uses("Query", "SERVERS"), said());
    assert!((1..=said + 1).contains(&read), "read {read} times while it said {said} times that it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_passes_calls_on_to_one_with_room() {
    let ground = Ground::new().await;
    let (other, full) = (ground.server(&[]).await, ground.server(&[(env::MEDIA_CAPACITY, "1")]).await);
    let first = full.call(&ground).await;
    // Once each has seen the other.
    let mut asked = 0;
    let second = loop {
        match full.try_call(&ground, &ground.session()).await {
            Ok(call) => break call,
            Err(answer) => {
                assert_eq!(answer.status(), 503);
                assert!(answer.headers().contains_key("retry-after"));
                asked += 1;
                assert!(asked < 100, "nobody has room");
                sleep(Duration::from_millis(300)).await;
            }
        }
    };
    second.visitor.hears(TONE).await;
    assert_eq!((full.number("c2c_calls_active").await, other.number("c2c_calls_active").await), (1.0, 1.0));
    // Requests about it reach it by either.
    let offer = second.visitor.restart().await;
    let answer = full.ask(Method::PATCH, &second.path, &second.token, &offer).await;
    assert_eq!(answer.status(), 200);
    second.visitor.take(&answer.text().await.expect("SDP")).await;
    second.visitor.hears(TONE).await;
    // What the other refuses is refused, and nothing goes on to it without a token.
    for token in [second.token.as_str(), "nonsense"] {
        let offer = Visitor::new(TONE).await.offer().await;
        let expected = if token == "nonsense" { 401 } else { 409 };
        assert_eq!(full.ask(Method::POST, "/v1/calls", token, &offer).await.status(), expected);
    }
    assert_eq!(full.ask(Method::DELETE, &second.path, &second.token, "").await.status(), 204);
    second.visitor.told("ended").await;
    first.visitor.hears(TONE).await;
    // When that one is full as well, the visitor is told so: nothing is passed on twice.
    drop(other);
    assert_eq!(status(&full, &ground).await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_end_when_their_app_is_deleted_and_not_when_its_provider_is_switched_off() {
    let ground = Ground::new().await;
    let server = ground.server(&[]).await;
    let call = server.call(&ground).await;
    ground.switch_off_provider().await;
    sleep(Pace::default().every * 2).await;
    call.visitor.hears(TONE).await;
    assert_eq!(status(&server, &ground).await, 409, "no new one");

    let began = Instant::now();
    ground.delete_app().await;
    let ended = timeout(Duration::from_secs(60), call.visitor.told("ended")).await.expect("within a minute");
    took("from the deletion of the app to the end of its call", began);
    assert_eq!(ended["errorCode"], "provider_inactive");
    ground.telephone.hears_goodbyes(1).await;
    let row = ground.over(call.id).await.call;
    assert_eq!((row.error_code.as_deref(), row.answered_at.is_some()), (Some("provider_inactive"), true));
}
