//! Two servers over one table: a request about a call reaches the one that runs it.

use std::time::{Duration, Instant};

use domain::{
    call::Call,
    event::{Envelope, EventName},
    id::{CallId, DestinationId},
    session::Session,
    time::Timestamp,
};
use edge::{chance, clock, env};
use reqwest::{Method, Response};
use serde_json::json;
use store::calls::{Busy, Stored};
use tokio::net::TcpListener;

use crate::{
    ground::{Ground, PATIENCE, Server, TONE},
    visitor::Visitor,
};

/// A call whose row names this owner, and that runs nowhere.
async fn orphan(ground: &Ground, owner: &str) -> (CallId, String, Session) {
    orphan_of_age(ground, owner, 0).await
}

/// The same, started so many seconds ago.
async fn orphan_of_age(ground: &Ground, owner: &str, seconds: i64) -> (CallId, String, Session) {
    let (session, now) = (ground.session(), Timestamp::from_millis(clock::now().as_millis() - seconds * 1_000));
    let id = CallId::mint(now, &chance::bytes());
    let call = Call::start(id, &session, DestinationId::mint(now, &[9; 10]), now);
    let stored = Stored { call, owner: owner.to_owned() };
    assert_eq!(ground.store.begin_call(&session, &stored, 20, now).await.expect("asked"), Ok(()));
    (id, format!("/v1/calls/{id}"), session)
}

async fn status(server: &Server, method: Method, path: &str, token: &str) -> u16 {
    server.ask(method, path, token, "v=0").await.status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_restarted_and_hung_up_through_another_server() {
    let ground = Ground::new().await;
    let (owner, other) = (ground.server(&[]).await, ground.server(&[]).await);
    let call = owner.call(&ground).await;
    call.visitor.hears(TONE).await;

    let offer = call.visitor.restart().await;
    let answer = other.ask(Method::PATCH, &call.path, &call.token, &offer).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/sdp".parse().expect("text"))
    );
    // What browsers may read is said as of any other answer.
    assert_eq!(answer.headers()["access-control-allow-origin"], "http://localhost");
    assert!(!answer.headers().contains_key("x-c2c-process"));
    call.visitor.take(&answer.text().await.expect("SDP")).await;
    call.visitor.hears(TONE).await;
    // What the owner refuses is refused here.
    assert_eq!(status(&other, Method::PATCH, &call.path, &call.token).await, 400);

    // Nobody else's token leads anywhere, and a made-up id is nobody's call.
    let stranger = ground.token(&ground.session());
    let forged = format!("/v1/calls/{}", CallId::mint(clock::now(), &[7; 10]));
    for (path, token) in [(&call.path, &stranger), (&forged, &call.token), (&forged, &stranger)] {
        for method in [Method::DELETE, Method::PATCH] {
            assert_eq!(status(&other, method.clone(), path, token).await, 404);
            assert_eq!(status(&owner, method, path, token).await, 404);
        }
    }
    call.visitor.hears(TONE).await;

    assert_eq!(status(&other, Method::DELETE, &call.path, &call.token).await, 204);
    call.visitor.told("ended").await;
    ground.telephone.hears_goodbyes(1).await;
    assert_eq!(ground.over(call.id).await.call.reason.as_deref(), Some("user_hangup"));
    assert_eq!(other.number("c2c_calls_started_total").await, 0.0);
    // It is over everywhere.
    for server in [&owner, &other] {
        assert_eq!(status(server, Method::DELETE, &call.path, &call.token).await, 204);
        assert_eq!(status(server, Method::PATCH, &call.path, &call.token).await, 410);
    }
}

/// On the channel, at the server that runs the call, or at another one.
#[derive(Clone, Copy, Debug)]
enum Way {
    Channel,
    Owner,
    Other,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_widget_gives_up_is_noted_as_it_is_told_and_told_once() {
    let ground = Ground::new().await;
    ground.hears_ends().await;
    let (owner, other) = (ground.server(&[]).await, ground.server(&[]).await);
    for (way, says, noted) in [
        (Way::Channel, "no_audio", "no_audio"),
        (Way::Owner, "mic_missing", "mic_missing"),
        (Way::Other, "media_failed", "media_failed"),
        // Not the widget's to say: it hangs up.
        (Way::Channel, "busy", "user_hangup"),
        (Way::Owner, "provider_inactive", "user_hangup"),
        (Way::Other, "%22", "user_hangup"),
    ] {
        let call = owner.call(&ground).await;
        let path = format!("{}?lang=en&errorCode={says}", call.path);
        match way {
            Way::Channel => {
                call.visitor.say(&json!({"type": "hang_up", "errorCode": says})).await;
                // As a widget does, should its word on the channel be lost.
                assert_eq!(status(&owner, Method::DELETE, &path, &call.token).await, 204);
            }
            Way::Owner => assert_eq!(status(&owner, Method::DELETE, &path, &call.token).await, 204),
            Way::Other => assert_eq!(status(&other, Method::DELETE, &path, &call.token).await, 204),
        }
        let ended = call.visitor.told("ended").await;
        let row = ground.over(call.id).await.call;
        let Envelope { name, data, .. } = ground.next_end().await.expect("an event");
        let (event, fields) = if noted == "user_hangup" {
            (EventName::CallEnded, [&ended["reason"], &data["reason"]])
        } else {
            (EventName::CallError, [&ended["errorCode"], &data["errorCode"]])
        };
        assert_eq!((name, fields), (event, [&noted.into(), &noted.into()]), "{way:?} {says}");
        assert_eq!(row.error_code.or(row.reason).as_deref(), Some(noted), "{way:?} {says}");
        assert!(ground.next_end().await.is_none(), "{way:?} {says}: told twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_is_passed_on_once() {
    let ground = Ground::new().await;
    let (owner, other) = (ground.server(&[]).await, ground.server(&[]).await);
    let call = owner.call(&ground).await;
    let private = call.path.strip_prefix("/v1").expect("an address");
    // As if passed on to the wrong one: it does not pass it on, and the call goes on.
    assert_eq!(other.ask_privately(Method::DELETE, private, &call.token).await.status(), 204);
    call.visitor.hears(TONE).await;
    // A token is needed there as well, and its session's call.
    assert_eq!(owner.ask_privately(Method::DELETE, private, "nonsense").await.status(), 401);
    let stranger = ground.token(&ground.session());
    assert_eq!(owner.ask_privately(Method::DELETE, private, &stranger).await.status(), 204);
    call.visitor.hears(TONE).await;
    // None of it is known where browsers ask.
    for (path, method) in [(private, Method::DELETE), ("/metrics", Method::GET)] {
        assert_eq!(owner.ask(method, path, &call.token, "").await.status(), 404);
    }
    assert_eq!(owner.ask_privately(Method::DELETE, private, &call.token).await.status(), 204);
    call.visitor.told("ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_in_the_owners_place_proves_that_the_call_is_over() {
    let ground = Ground::new().await;
    let (asked, place) = (ground.server(&[]).await, ground.server(&[]).await);
    for method in [Method::DELETE, Method::PATCH] {
        let (id, path, session) = orphan(&ground, &format!("{}#0123456789abcdef", place.private_url)).await;
        let expected = if method == Method::DELETE { 204 } else { 410 };
        assert_eq!(status(&asked, method, &path, &ground.token(&session)).await, expected);
        let row = ground.over(id).await.call;
        assert_eq!((row.error_code.as_deref(), row.reason), (Some("internal"), None));
        // The session may call again at once.
        let again =
            Call::start(CallId::mint(clock::now(), &chance::bytes()), &session, row.destination_id, clock::now());
        let again = Stored { call: again, owner: String::new() };
        let until = Instant::now() + PATIENCE;
        while ground.store.begin_call(&session, &again, 20, clock::now()).await.expect("asked") == Err(Busy::Session) {
            assert!(Instant::now() < until, "its claim is kept");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_says_nothing_proves_nothing() {
    let ground = Ground::new().await;
    let server = ground.server(&[]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let silent = silent.local_addr().map(|at| (silent, at)).expect("an address");
    for owner in [
        format!("http://{}#0123456789abcdef", silent.1),
        format!("http://{closed}#0123456789abcdef"),
        // Somebody else's server, that is no media server.
        format!("{}#0123456789abcdef", server.url),
        // Where no request of ours may ever go.
        "http://169.254.169.254:80#0123456789abcdef".to_owned(),
        "http://198.51.100.7:80#0123456789abcdef".to_owned(),
        "here".to_owned(),
    ] {
        let (id, path, session) = orphan(&ground, &owner).await;
        let token = ground.token(&session);
        let began = Instant::now();
        for method in [Method::DELETE, Method::PATCH] {
            let answer = server.ask(method, &path, &token, "v=0").await;
            assert_eq!(answer.status(), 503, "{owner}");
            assert!(answer.headers().contains_key("retry-after"));
        }
        assert!(began.elapsed() < Duration::from_secs(12), "{owner}: {:?}", began.elapsed());
        assert_eq!(ground.row(id).await.call.ended_at, None, "{owner}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_counted_by_address() {
    let ground = Ground::new().await;
    let server = ground.server(&[(env::LIMIT_EVENTS_IP, "3")]).await;
    let call = server.call(&ground).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(server.ask(Method::PATCH, &call.path, &call.token, "v=0").await);
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [400, 400, 400, 429]);
    assert!(answers[3].headers().contains_key("retry-after"));
    // The visitor hangs up on the channel, which is not counted.
    call.visitor.say(&json!({"type": "hang_up"})).await;
    call.visitor.told("ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_whose_server_died_calls_again() {
    let ground = Ground::new().await;
    let (server, place) = (ground.server(&[]).await, ground.server(&[]).await);
    let process = |answer: &Response| answer.headers()["x-c2c-process"].to_str().expect("text").to_owned();
    let of = async |server: &Server| process(&server.ask_privately(Method::GET, "/nothing", "none").await);
    let (own, others) = (of(&server).await, of(&place).await);
    let offer = Visitor::new(TONE).await.offer().await;
    for (owner, age, status) in [
        // Silent; gone; there, but it forgot the call; we did so ourselves.
        ("http://127.0.0.1:9#0123456789abcdef".to_owned(), 60, 201),
        (format!("{}#0123456789abcdef", place.private_url), 60, 201),
        (format!("{}#{others}", place.private_url), 60, 201),
        (format!("{}#{own}", server.private_url), 60, 201),
        // It may be about to run.
        (format!("{}#{own}", server.private_url), 1, 409),
        ("http://127.0.0.1:9#0123456789abcdef".to_owned(), 1, 409),
    ] {
        let (_, _, session) = orphan_of_age(&ground, &owner, age).await;
        let answer = server.ask(Method::POST, "/v1/calls", &ground.token(&session), &offer).await;
        assert_eq!(answer.status(), status, "{owner}, {age} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_keeps_its_session() {
    let ground = Ground::new().await;
    let (owner, other) = (ground.server(&[]).await, ground.server(&[]).await);
    let call = owner.call(&ground).await;
    let private = call.path.strip_prefix("/v1").expect("an address");
    for (token, status) in [(&call.token, 204), (&ground.token(&ground.session()), 404)] {
        assert_eq!(owner.ask_privately(Method::GET, private, token).await.status(), status);
    }
    // Past the time in which a call may be about to run.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let offer = Visitor::new(TONE).await.offer().await;
    for server in [&owner, &other] {
        let answer = server.ask(Method::POST, "/v1/calls", &call.token, &offer).await;
        assert_eq!(answer.status(), 409);
    }
    call.visitor.hears(TONE).await;
}
