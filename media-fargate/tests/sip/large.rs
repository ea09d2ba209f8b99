//! Requests too long for a datagram (RFC 3261, section 18.1.1).

use std::time::Duration;

use domain::context::Context;
use media::sip::{Agent, Config, Credential, Event, Invite, SipLeg, headers::extras};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

use crate::{
    attacks::message,
    expect,
    far::{Far, PATIENCE, header, response},
    support::{call, config, over, trunk},
};

/// A call that tells much of a visitor.
fn talkative(far: &Far) -> Invite {
    let keys: Vec<_> = ('a'..='h').map(String::from).collect();
    let value = "x".repeat(200);
    let context = Context::sanitise(keys.iter().map(|key| (key.as_str(), value.as_str()))).0;
    Invite { extras: extras("call_1", None, &context, &keys), ..call(trunk(&far.uri())) }
}

/// A provider over UDP, and whoever listens at the same port over TCP.
async fn both() -> (Far, TcpListener) {
    for _ in 0..100 {
        let far = Far::new().await;
        if let Ok(listener) = TcpListener::bind(far.address()).await {
            return (far, listener);
        }
    }
    panic!("a port that is free over both");
}

async fn impatient() -> Agent {
    let patience = Duration::from_millis(700);
    Agent::start(Config { patience, ..config() }).await.expect("an agent")
}

async fn refused_over_udp(agent: &Agent, far: &Far, invite: Invite) -> String {
    let mut leg = agent.invite(invite).await.expect("ports");
    let (asked, from) = far.take("INVITE").await;
    assert!(header(&asked, "Via").starts_with("SIP/2.0/UDP"), "{asked}");
    far.send(response(&asked, "486 Busy Here", "a", "", ""), from).await;
    expect!(&mut leg, Event::Rejected { status: 486 });
    over(&mut leg).await;
    asked
}

#[tokio::test]
async fn long_requests_travel_over_tcp_where_that_is_taken() {
    let ((far, listener), agent) = (both().await, impatient().await);
    let mut leg = agent.invite(talkative(&far)).await.expect("ports");
    let (mut connection, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    let asked = message(&mut connection).await;
    assert!(asked.len() > 1_300 && asked.starts_with("INVITE"), "{asked}");
    assert!(header(&asked, "Via").starts_with("SIP/2.0/TCP"), "{asked}");
    assert!(header(&asked, "Contact").contains(";transport=TCP"), "{asked}");
    connection.write_all(far.accept(&asked, "a").as_bytes()).await.expect("sent");
    expect!(&mut leg, Event::Answered(_));
    assert!(message(&mut connection).await.starts_with("ACK"));
    leg.hang_up();
    let bye = message(&mut connection).await;
    assert!(bye.starts_with("BYE"), "{bye}");
    connection.write_all(response(&bye, "200 OK", "", "", "").as_bytes()).await.expect("sent");
    expect!(&mut leg, Event::Ended);
    assert!(far.heard_nothing(), "nothing of it came over UDP");

    // Short ones do not.
    let asked = refused_over_udp(&agent, &far, call(trunk(&far.uri()))).await;
    assert!(asked.len() <= 1_300, "{}", asked.len());
    // Unless they become too long once a challenge is answered.
    let mut asking = trunk(&far.uri());
    asking.credential = Some(Credential { username: "joe".into(), password: "secret".to_owned().into() });
    let middling = Invite { extras: talkative(&far).extras.into_iter().take(2).collect(), ..call(asking) };
    let mut leg = agent.invite(middling).await.expect("ports");
    let asked = message(&mut connection).await;
    assert!(asked.len() <= 1_300 && asked.starts_with("INVITE"), "{}", asked.len());
    connection.write_all(response(&asked, "486 Busy Here", "a", "", "").as_bytes()).await.expect("sent");
    expect!(&mut leg, Event::Rejected { status: 486 });
}

#[tokio::test]
async fn without_a_listener_they_travel_over_udp_all_the_same() {
    let (far, agent) = (Far::new().await, impatient().await);
    let asked = refused_over_udp(&agent, &far, talkative(&far)).await;
    assert!(asked.len() > 1_300, "{}", asked.len());
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_tried_once() {
    let ((far, listener), agent) = (both().await, impatient().await);
    for _ in 0..2 {
        refused_over_udp(&agent, &far, talkative(&far)).await;
    }
    timeout(PATIENCE, listener.accept()).await.expect("in time").expect("the first call's connection");
    let again = timeout(Duration::from_millis(200), listener.accept()).await;
    assert!(again.is_err(), "the second call did not try");
}
