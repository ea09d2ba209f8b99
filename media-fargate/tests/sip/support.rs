//! Agents of these tests, and what they see.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    app::{Codec, Transport},
    context::Context,
    reach::Reach,
};
use media::{
    rtp::Packet,
    sip::{
        Agent, Config, Event, Invite, Leg, SipLeg, Trunk,
        headers::extras,
        target::{Lookup, Srv, TargetError},
    },
};

/// A DNS in which every host is this machine.
#[derive(Clone, Default)]
pub struct Zone(pub Vec<Srv>);

#[async_trait]
impl Lookup for Zone {
    async fn srv(&self, _: &str) -> Result<Vec<Srv>, TargetError> {
        Ok(self.0.clone())
    }

    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, TargetError> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

/// How agents of these tests are set up.
pub fn config() -> Config {
    let here = Ipv4Addr::LOCALHOST;
    let reach = Reach::with(vec!["127.0.0.0/8".parse().expect("a network")]);
    Config::new(SocketAddr::from((here, 0)), here.into(), 40_000..=44_999, reach, Arc::new(Zone::default()))
}

pub async fn agent() -> Agent {
    Agent::start(config()).await.expect("an agent")
}

pub fn trunk(uri: &str) -> Trunk {
    Trunk {
        uri: uri.to_owned(),
        transport: Transport::Udp,
        caller_id: Some("shop".into()),
        credential: None,
        protected: false,
    }
}

/// A call to the sales desk behind a trunk.
pub fn call(trunk: Trunk) -> Invite {
    Invite {
        trunk,
        destination: "tel:+493012345678".into(),
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        extras: extras("call_1", None, &Context::sanitise([("orderId", "A 1")]).0, &["orderId".to_owned()]),
    }
}

pub async fn invite(agent: &Agent, trunk: Trunk) -> Leg {
    agent.invite(call(trunk)).await.expect("ports")
}

/// The next event of the signalling.
pub async fn next(leg: &mut Leg) -> Event {
    let next = async {
        loop {
            match leg.recv().await.expect("another event") {
                Event::Rtp(_) | Event::Rtcp(_) | Event::Trying => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next).await.expect("an event in time")
}

/// The next events of the signalling are these.
#[macro_export]
macro_rules! expect {
    ($leg:expr, $($pattern:pat $(if $guard:expr)?),+ $(,)?) => {
        $(match $crate::support::next($leg).await {
            $pattern $(if $guard)? => {}
            other => panic!("not {}: {other:?}", stringify!($pattern $(if $guard)?)),
        })+
    };
}

/// Nothing more comes.
pub async fn over(leg: &mut Leg) {
    let end = tokio::time::timeout(Duration::from_secs(5), async { while leg.recv().await.is_some() {} }).await;
    assert!(end.is_ok(), "the leg ends");
}

/// A packet of G.711 silence.
pub fn packet(sequence: u16) -> Packet {
    let payload = Bytes::from_static(&[0xff; 160]);
    Packet { payload_type: 0, marker: false, sequence, timestamp: u32::from(sequence) * 160, ssrc: 7, payload }
}

/// Sends packets until one comes back, and says whether it is one of those sent.
pub async fn echoed(leg: &mut Leg) -> bool {
    for number in 0..100 {
        leg.send_rtp(&packet(number));
        let heard = tokio::time::timeout(Duration::from_millis(100), async {
            loop {
                if let Some(Event::Rtp(packet)) = leg.recv().await {
                    return packet;
                }
            }
        });
        if let Ok(heard) = heard.await {
            return (0..=number).any(|sent| heard == packet(sent));
        }
    }
    false
}
