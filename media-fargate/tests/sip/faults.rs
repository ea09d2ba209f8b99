//! Providers that do not work: another hop is tried, and a call that cannot be placed says so.

use std::{net::TcpListener, sync::Arc, time::Duration};

use domain::app::Transport;
use media::sip::{
    Agent, Event, Failure, Trunk,
    agent::Unreachable,
    target::{Srv, TargetError},
};

use crate::{
    expect,
    sipp::{SPEECH, Sipp, Step::*, free_port},
    support::{Zone, agent, config, invite, trunk},
};

fn servers(ports: &[u16]) -> Arc<Zone> {
    let server = |(index, port): (usize, &u16)| Srv {
        priority: index as u16,
        weight: 0,
        port: *port,
        target: "here.test".into(),
    };
    Arc::new(Zone(ports.iter().enumerate().map(server).collect()))
}

fn answering() -> Sipp {
    Sipp::play(&[Invite(&[]), Answer("200 OK", "a", "", SPEECH), Take("ACK"), Take("BYE"), Reply("200 OK", "", None)])
}

#[tokio::test]
async fn the_next_hop_is_tried() {
    let refusing = || {
        Sipp::play(&[
            Invite(&[]),
            Answer("100 Trying", "a", "", None),
            Answer("503 Service Unavailable", "a", "", None),
            Take("ACK"),
        ])
    };
    let (first, good) = (refusing(), answering());
    // The second says nothing at all.
    let dns = servers(&[first.port, free_port(), good.port]);
    let patience = Duration::from_millis(700);
    let agent = Agent::start(media::sip::Config { dns, patience, ..config() }).await.expect("an agent");
    let mut leg = invite(&agent, trunk("sip:trunk.test")).await;
    expect!(&mut leg, Event::Answered(_));
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
    first.played().await;
    good.played().await;
}

#[tokio::test]
async fn nobody_is_called_twice() {
    let ringing = Sipp::play(&[
        Invite(&[]),
        Answer("180 Ringing", "a", "", None),
        Answer("503 Service Unavailable", "a", "", None),
        Take("ACK"),
    ]);
    let dns = servers(&[ringing.port, free_port()]);
    let agent = Agent::start(media::sip::Config { dns, ..config() }).await.expect("an agent");
    let mut leg = invite(&agent, trunk("sip:trunk.test")).await;
    expect!(&mut leg, Event::Ringing, Event::Rejected { status: 503 });
    ringing.played().await;
}

#[tokio::test]
async fn connections_that_cannot_be_opened_are_passed_over() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let agent = agent().await;
    let refused = Trunk { transport: Transport::Tcp, ..trunk(&format!("sip:127.0.0.1:{closed}")) };
    let mut leg = invite(&agent, refused).await;
    expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
}

#[tokio::test]
async fn silence_ends_by_itself() {
    let agent = Agent::start(media::sip::Config { t1: Duration::from_millis(20), ..config() }).await.expect("an agent");
    let mut leg = invite(&agent, trunk(&format!("sip:127.0.0.1:{}", free_port()))).await;
    expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
    let mut leg = invite(&agent, trunk(&format!("sip:127.0.0.1:{}", free_port()))).await;
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
}

#[tokio::test]
async fn addresses_not_to_send_to_are_refused() {
    let reach = domain::reach::Reach::default();
    let agent = Agent::start(media::sip::Config { reach, ..config() }).await.expect("an agent");
    for uri in ["sip:127.0.0.1", "sip:trunk.test", "sip:169.254.169.254"] {
        let mut leg = invite(&agent, trunk(uri)).await;
        expect!(&mut leg, Event::Failed(Failure::Target(TargetError::Blocked)));
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_ended() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer("200 OK", "a", "", Some("m=audio [media_port] RTP/AVP 18\n")),
        Take("ACK"),
        Take("BYE"),
        Reply("200 OK", "", None),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Failed(Failure::Media(_)));
    far.played().await;
}
