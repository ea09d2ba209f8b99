//! The visitor's side of a call: ends the browser's `WebRTC` (ICE, DTLS-SRTP, a data channel for the call's control).
//!
//! [`WebRtc`] is the process's part and turns an offer into an answer and a [`BrowserLeg`]. Behind both stands the crate
//! `webrtc`; nothing of it shows. One offer carries everything and one answer comes back, no candidate follows later: ours
//! are known at once, the browser's are learnt from its checks.

mod answer;
mod net;
mod offer;
mod peer;
mod ports;
mod reports;

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
pub use offer::{MAX_BYTES as MAX_OFFER_BYTES, Offer, OfferError};
pub use peer::WebRtc;

use crate::{
    quality::Flow,
    rtp::{Format, Packet},
};

/// The data channel's label; the browser opens it.
pub const CONTROL: &str = "control";
/// Bytes of a control message at most, either way. Longer ones are left out.
pub const MAX_CONTROL_BYTES: usize = 4_096;

/// How the process reaches browsers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Local addresses to bind; an unspecified one stands for all of its family but loopback. A loopback address is bound
    /// only when it stands here itself.
    pub addresses: Vec<IpAddr>,
    /// What browsers are told instead of the local addresses, behind a one-to-one NAT. Empty: the local ones.
    pub public: Vec<IpAddr>,
    /// One of these ports for each call, UDP and TCP; none: as the operating system picks.
    pub ports: Option<RangeInclusive<u16>>,
    /// ICE-lite: this server answers checks and makes none; for servers with a public address.
    pub ice_lite: bool,
    /// Silence of the browser's checks until [`Event::Disconnected`].
    pub disconnected_after: Duration,
    /// Further silence until [`Event::Failed`]. Together with the former at most 30 s: a browser's consent (RFC 7675).
    pub failed_after: Duration,
    /// Between our own checks once connected; with ICE-lite there are none.
    pub check_every: Duration,
}

impl Config {
    /// As is right for a server with a public address of its own.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            public: Vec::new(),
            ports: None,
            ice_lite: true,
            disconnected_after: Duration::from_secs(5),
            failed_after: Duration::from_secs(24),
            check_every: Duration::from_secs(2),
        }
    }
}

/// An offer taken.
pub struct Accepted {
    /// The answer, as SDP.
    pub answer: String,
    /// How packets are marked, both ways.
    pub format: Format,
    /// The call's leg.
    pub leg: Box<dyn BrowserLeg>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The offer is at fault.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The library refused the offer, reduced as it was.
    #[error("the offer cannot be answered: {0}")]
    Refused(String),
    /// All ports of the range are taken, or cannot be bound.
    #[error("no port is free")]
    NoPort,
    /// There is no address that a browser could reach.
    #[error("there is no candidate to answer with")]
    NoCandidate,
    /// The connection could not be made.
    #[error("no connection: {0}")]
    Internal(String),
}

impl AcceptError {
    /// What HTTP says: 400 and 422 for the offer's faults, 503 for ours.
    pub fn status(&self) -> u16 {
        match self {
            Self::Offer(error) => error.status(),
            Self::Refused(_) => 422,
            Self::NoPort | Self::NoCandidate | Self::Internal(_) => 503,
        }
    }
}

/// What happens on a leg.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// ICE and DTLS are through, for the first time or again after a loss or an ICE restart.
    Connected,
    /// The browser was not heard for a while. It may come back, by itself or by an ICE restart.
    Disconnected,
    /// The browser is given up. Only closing is left.
    Failed,
    /// Audio, or a telephone event.
    Rtp(Packet),
    /// A message on the data channel.
    Control(String),
    /// The browser closed its end, or the leg was closed. Nothing follows.
    Closed,
}

/// How a leg fares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Round-trip time, once there was a report or an answered check.
    pub round_trip: Option<Duration>,
    /// From the browser to us, as we count.
    pub received: Flow,
    /// From us to the browser, as its reports say; the packets are those that we sent.
    pub sent: Flow,
}

/// One call's connection to a browser. Ends when closed or dropped.
#[async_trait]
pub trait BrowserLeg: Send + Sync {
    /// The next event; safe to cancel. After [`Event::Closed`] always that at once.
    async fn recv(&mut self) -> Event;

    /// Sends audio or a telephone event with a payload type of [`Accepted::format`]; the SSRC becomes the leg's own. Left
    /// out while there is no connection.
    async fn send_rtp(&self, packet: Packet);

    /// Sends a message on the data channel; kept until the channel is open. Left out when it is too long or nobody reads.
    async fn send_control(&self, message: String);

    /// Answers a new offer of the same browser for an ICE restart.
    ///
    /// # Errors
    /// When the offer is at fault: it may change nothing but the ICE credentials.
    async fn restart(&self, offer: &str) -> Result<String, AcceptError>;

    /// How the leg fares.
    async fn stats(&self) -> Stats;

    /// Says goodbye to the browser and frees sockets and tasks. Doing so again does nothing.
    async fn close(&self);
}
