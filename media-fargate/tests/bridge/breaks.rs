//! Calls by themselves: one that breaks ends alone, and an outage loses no end.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use domain::{
    app::{Codec, Transport},
    call::Call,
    context::Context,
    event::EventName,
    id::{AppId, CallId, DestinationId, SessionId},
    session::Session,
    time::Timestamp,
};
use embedded::Service;
use media::{
    bridge::{self, Bridge},
    browser::{AcceptError, Accepted, BrowserLeg, Event, Offer, Stats},
    calls::Calls,
    metrics::Metrics,
    record::Recorder,
    rtp::Packet,
    sip::{Invite, Leg, SipLeg, Trunk},
};
use store::{Events, calls::Stored};
use tokio::sync::mpsc;

use crate::ground::{Ground, until};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\n\
    a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:0 PCMU/8000\r\n";

/// A browser's leg that does as it is told; `None`: it breaks.
struct Puppet {
    wires: mpsc::UnboundedReceiver<Option<Event>>,
    said: mpsc::UnboundedSender<String>,
}

#[async_trait]
impl BrowserLeg for Puppet {
    async fn recv(&mut self) -> Event {
        match self.wires.recv().await {
            Some(event) => event.expect("a leg that breaks, as the test wants it"),
            None => std::future::pending().await,
        }
    }

    async fn send_rtp(&self, _: Packet) {}

    async fn send_control(&self, message: String) {
        let _ = self.said.send(message);
    }

    async fn restart(&self, _: &str) -> Result<String, AcceptError> {
        Err(AcceptError::NoCandidate)
    }

    async fn stats(&self) -> Stats {
        Stats::default()
    }

    async fn close(&self) {}
}

/// A trunk without a port.
struct Deaf;

#[async_trait]
impl SipLeg for Deaf {
    async fn invite(&self, _: Invite) -> io::Result<Leg> {
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// The ground, and calls on it.
struct Field {
    ground: Ground,
    calls: Calls,
}

/// A call of the ground.
struct Running {
    id: CallId,
    pull: mpsc::UnboundedSender<Option<Event>>,
    said: mpsc::UnboundedReceiver<String>,
}

fn session(app: AppId, id: SessionId) -> Session {
    Session { id, app, profile: None, routing_key: None, context: Context::default(), preview: false, draft: false }
}

impl Field {
    async fn new() -> Self {
        Self { ground: Ground::new().await, calls: Calls::new(100) }
    }

    async fn begin(&self, number: u8) -> Running {
        let now = edge::clock::now();
        let session = session(self.ground.app, SessionId::mint(now, &[number; 10]));
        let id = CallId::mint(now, &[number; 10]);
        let call = Call::start(id, &session, DestinationId::mint(now, &[9; 10]), now);
        let stored = Stored { call, owner: "here".into() };
        self.ground.store.begin_call(&session, &stored, 20, now).await.expect("asked").expect("begun");
        let (pull, wires) = mpsc::unbounded_channel();
        let (says, said) = mpsc::unbounded_channel();
        let format = Offer::read(OFFER, Codec::Pcmu).expect("an offer").format();
        let accepted = Accepted { answer: String::new(), format, leg: Box::new(Puppet { wires, said: says }) };
        let mut place = self.calls.admit().expect("room");
        let commands = place.occupy(id, session.app, session.id);
        let trunk = Trunk {
            uri: "sip:127.0.0.1".into(),
            transport: Transport::Udp,
            caller_id: None,
            credential: None,
            protected: false,
        };
        let (destination, codecs) = ("sip:a@127.0.0.1".into(), vec![Codec::Pcmu]);
        let invite = Invite { trunk, destination, codecs, extras: Vec::new() };
        let started = Instant::now();
        let recorder = Recorder {
            store: self.ground.store.clone(),
            events: Events::open(self.ground.store.clone(), self.ground.queue.clone()),
            metrics: Metrics::default(),
            session,
            stored,
        };
        bridge::start(Bridge::new(started, accepted, commands, Arc::new(Deaf), invite), recorder, place);
        Running { id, pull, said }
    }

    async fn none_left(&self) {
        until("calls are left", async || (self.calls.count() == 0).then_some(())).await;
    }
}

fn said(text: &str) -> (String, String) {
    let message: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let field = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    (field("type"), field("errorCode"))
}

#[tokio::test]
async fn a_call_that_breaks_ends_alone() {
    let field = Field::new().await;
    let ground = &field.ground;
    let (broken, mut sound) = (field.begin(1).await, field.begin(2).await);
    broken.pull.send(None).expect("it listens");
    let event = ground.queued().await;
    assert_eq!((event.name, &event.data["errorCode"]), (EventName::CallError, &"internal".into()));
    assert_eq!(event.id.to_string()[4..], broken.id.to_string()[5..]);

    sound.pull.send(Some(Event::Connected)).expect("it listens");
    let message = sound.said.recv().await.expect("the other call goes on");
    assert_eq!(said(&message), ("ended".into(), "destination_unavailable".into()));
    assert_eq!(ground.queued().await.data["errorCode"], "destination_unavailable");
    field.none_left().await;
    let listed = ground.store.calls_of_server("here", 10, None).await.expect("read");
    assert_eq!(listed.items, [], "nobody needs to look after them");
    for (id, code) in [(broken.id, "internal"), (sound.id, "destination_unavailable")] {
        let row = ground.row(id).await;
        assert_eq!(row.error_code.as_deref(), Some(code));
        assert!(row.ended_at.is_some_and(|at: Timestamp| at >= row.started_at));
    }
}

#[tokio::test]
async fn an_outage_delays_the_end_and_loses_nothing() {
    let field = Field::new().await;
    let ground = &field.ground;
    let call = field.begin(1).await;
    ground.embedded.down(Service::DynamoDb);
    ground.embedded.down(Service::Sqs);
    call.pull.send(Some(Event::Closed)).expect("it listens");
    let written = tokio::time::timeout(Duration::from_millis(1_500), field.none_left()).await;
    assert!(written.is_err(), "it cannot be written down while the services are away");
    ground.embedded.clear(Service::DynamoDb);
    ground.embedded.clear(Service::Sqs);
    let event = ground.queued().await;
    assert_eq!((event.name, &event.data["reason"]), (EventName::CallEnded, &"user_hangup".into()));
    field.none_left().await;
    assert_eq!(ground.row(call.id).await.reason.as_deref(), Some("user_hangup"));
    // The claim is given back as well: the session may call again.
    let row = ground.row(call.id).await;
    let again = Call { id: CallId::mint(edge::clock::now(), &[7; 10]), ..row };
    let session = session(ground.app, again.session_id);
    let again = Stored { call: again, owner: "here".into() };
    assert_eq!(ground.store.begin_call(&session, &again, 1, edge::clock::now()).await.expect("asked"), Ok(()));
}
