//! A call on a trunk: signalling in a task of its own, media straight from its sockets. [`SipLeg`] places calls, [`Leg`]
//! is one.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::{limit::shorten, reach::Reach};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use crate::rtp::{Codec, Packet, lock::Lock};

use super::{
    agent::{Agent, Unreachable},
    headers::Extra,
    media::Sockets,
    place::Signalling,
    sdp::{Crypto, Direction, Local, Media, SdpError, Suite},
    srtp::Protection,
    target::{self, TargetError, Trunk},
};

/// Events waiting for the call's owner; one who does not listen has lost the call.
const MAX_EVENTS: usize = 32;
/// A packet of audio at most: an Ethernet frame.
const MAX_PACKET: usize = 1_500;
/// How long the end of a call waits for the far side to confirm it.
pub(super) const FAREWELL: Duration = Duration::from_secs(4);

/// A call to place.
#[derive(Clone)]
pub struct Invite {
    /// The app's provider.
    pub trunk: Trunk,
    /// The profile's destination: `sip:…` or `tel:+…`.
    pub destination: String,
    /// Codecs to offer, in order.
    pub codecs: Vec<Codec>,
    /// What the contact centre is told beside the call ([`super::headers::extras`]).
    pub extras: Vec<Extra>,
}

/// What happens on a leg.
#[derive(Debug)]
pub enum Event {
    /// The provider has the call.
    Trying,
    /// It rings.
    Ringing,
    /// There is audio before the answer.
    Early(Media),
    /// Somebody answered.
    Answered(Media),
    /// The far side changed the session.
    Changed(Media),
    /// The far side no longer listens.
    Held,
    /// It listens again.
    Resumed,
    /// The far side's answer to our own hold (`true`) or resumption.
    HoldAnswered {
        /// What was asked for.
        held: bool,
        /// Whether it is so now.
        accepted: bool,
    },
    /// The call was refused. The last event.
    Rejected {
        /// The SIP status, 300 and above.
        status: u16,
    },
    /// The far side hung up. The last event.
    Bye,
    /// We hung up, and the far side knows, or had its time to know. The last event.
    Ended,
    /// The call failed. The last event.
    Failed(Failure),
    /// A packet of audio, from the source the leg is locked to.
    Rtp(Packet),
    /// A packet of RTCP of the same far side.
    Rtcp(Bytes),
}

impl Event {
    /// Whether none follows it.
    fn is_last(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Bye | Self::Ended | Self::Failed(_))
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is nowhere to send it.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No hop answered.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The answer cannot be used.
    #[error(transparent)]
    Media(#[from] SdpError),
    /// A running session was lost: nobody refreshed it, or the far side no longer knows it.
    #[error("the session was lost")]
    Lost,
}

/// Places calls on trunks.
#[async_trait]
pub trait SipLeg: Send + Sync {
    /// Begins a call; what becomes of it, its events tell. A leg that is dropped hangs up.
    ///
    /// # Errors
    /// When no port for its media is free.
    async fn invite(&self, invite: Invite) -> io::Result<Leg>;
}

#[async_trait]
impl SipLeg for Agent {
    async fn invite(&self, invite: Invite) -> io::Result<Leg> {
        let sockets = self.shared.ports.take().await?;
        let port = sockets.rtp.local_addr()?.port();
        let (events, received) = mpsc::channel(MAX_EVENTS);
        let (holds, held) = watch::channel(false);
        let ending = CancellationToken::new();
        let local = Local {
            session: u64::from_be_bytes(edge::chance::bytes()) >> 1,
            version: 1,
            address: SocketAddr::new(self.shared.public(), port),
            codecs: invite.codecs.clone(),
            crypto: if invite.trunk.protected { keys() } else { Vec::new() },
            direction: Direction::SendRecv,
        };
        let reach = self.shared.reach.clone();
        // The agent lives as long as its calls.
        let (peer, placed_with) = watch::channel(None);
        let agent = self.clone();
        let signalling = Signalling { agent, invite, local, events, holds: held, peer, ending: ending.clone() };
        tokio::spawn(signalling.run());
        Ok(Leg {
            events: received,
            over: false,
            holds,
            peer: placed_with,
            _ending: ending.clone().drop_guard(),
            ended: ending,
            sockets,
            reach,
            media: None,
            lock: Lock::default(),
            rtcp: None,
            protection: None,
            told: false,
            buffer: BytesMut::new(),
        })
    }
}

/// A fresh key for every suite.
fn keys() -> Vec<Crypto> {
    let key = |(index, suite): (usize, Suite)| {
        let key = Zeroizing::new(edge::chance::bytes::<44>()[..suite.key_len()].to_vec());
        Crypto { tag: index as u32 + 1, suite, key }
    };
    Suite::ALL.into_iter().enumerate().map(key).collect()
}

/// One call.
pub struct Leg {
    events: mpsc::Receiver<Event>,
    /// Whether the last event was given out.
    over: bool,
    /// The last wish counts, whatever became of those before it.
    holds: watch::Sender<bool>,
    /// Whom the call was placed with, which is where its audio may come from as well.
    peer: watch::Receiver<Option<IpAddr>>,
    /// Ends the call, at the latest when the leg is dropped.
    _ending: DropGuard,
    ended: CancellationToken,
    sockets: Sockets,
    reach: Reach,
    media: Option<Media>,
    lock: Lock,
    /// Where RTCP is sent: what the description names, or where it comes from.
    rtcp: Option<SocketAddr>,
    protection: Option<Protection>,
    /// Somebody else sends audio, which is told once.
    told: bool,
    buffer: BytesMut,
}

impl Leg {
    /// What happens next; `None` after the last event. May be cancelled and called again.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                // Signalling first: it says what packets mean.
                biased;
                event = self.events.recv() => {
                    let event = match event {
                        Some(event) => event,
                        // Its signalling broke.
                        None if !self.over => Event::Failed(Failure::Lost),
                        None => return None,
                    };
                    self.over = event.is_last();
                    if let Event::Early(media) | Event::Answered(media) | Event::Changed(media) = &event {
                        self.apply(media.clone());
                    }
                    return Some(event);
                }
                readable = self.sockets.rtp.readable() => {
                    if readable.is_ok() && let Some(packet) = self.take_rtp() {
                        return Some(Event::Rtp(packet));
                    }
                }
                readable = self.sockets.rtcp.readable() => {
                    if readable.is_ok() && let Some(packet) = self.take_rtcp() {
                        return Some(Event::Rtcp(packet));
                    }
                }
            }
        }
    }

    fn apply(&mut self, media: Media) {
        let admits = |address: &SocketAddr| target::admits(&self.reach, *address);
        self.lock.renamed(media.remote.filter(admits), *self.peer.borrow());
        let both_ways = |media: &Media| media.direction == Direction::SendRecv;
        if self.media.as_ref().is_some_and(|before| !both_ways(before)) && both_ways(&media) {
            self.lock.reopen();
        }
        self.rtcp = media.remote_rtcp.filter(admits);
        self.protection = match (&media.crypto, self.protection.take()) {
            (Some((ours, theirs)), Some(before)) => Some(before.renewed(ours, theirs)),
            (Some((ours, theirs)), None) => Some(Protection::new(ours, theirs)),
            (None, _) => None,
        };
        self.media = Some(media);
    }

    /// What was agreed last.
    pub fn media(&self) -> Option<&Media> {
        self.media.as_ref()
    }

    /// One packet of audio. Before there is a description nobody is heard.
    fn take_rtp(&mut self) -> Option<Packet> {
        let (data, source) = take(&self.sockets.rtp, &mut self.buffer)?;
        let format = self.media.as_ref()?.receive;
        // What others send is not even deciphered.
        if self.lock.locked().is_some_and(|locked| locked != source) && self.media.as_ref()?.remote != Some(source) {
            self.tell_foreign(source.ip());
            return None;
        }
        // Nobody's key makes us send to where no trunk may be.
        let authentic = self.protection.is_some() && target::admits(&self.reach, source);
        let data = match &mut self.protection {
            Some(protection) => protection.open_rtp(&data)?,
            None => data,
        };
        let packet = Packet::parse(data).ok()?;
        let admitted = self.lock.admits(source, &packet, &format, authentic);
        if !admitted && !authentic && !self.lock.expects(source.ip()) {
            self.tell_foreign(source.ip());
        }
        admitted.then_some(packet)
    }

    fn tell_foreign(&mut self, from: IpAddr) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(from = shorten(from), "rtp.foreign_source");
        }
    }

    /// One packet of RTCP, from the host that RTP comes from.
    fn take_rtcp(&mut self) -> Option<Bytes> {
        let (data, source) = take(&self.sockets.rtcp, &mut self.buffer)?;
        if self.lock.target()?.ip() != source.ip() {
            return None;
        }
        let data = match &mut self.protection {
            Some(protection) => protection.open_rtcp(&data)?,
            None => data,
        };
        self.rtcp = Some(source);
        Some(data)
    }

    /// Sends a packet of audio when the far side listens; otherwise, and when the network is full, it is dropped, as
    /// packets are.
    pub fn send_rtp(&mut self, packet: &Packet) {
        let sends = self.media.as_ref().is_some_and(|media| media.direction.sends());
        let Some(target) = self.lock.target().filter(|_| sends) else { return };
        let data = packet.write();
        let data = match &mut self.protection {
            Some(protection) => protection.seal_rtp(&data),
            None => Some(data),
        };
        if let Some(data) = data {
            let _ = self.sockets.rtp.try_send_to(&data, target);
        }
    }

    /// Sends a packet of RTCP, held or not.
    pub fn send_rtcp(&mut self, packet: &[u8]) {
        let Some(target) = self.rtcp else { return };
        let sealed;
        let data = match &mut self.protection {
            Some(protection) => {
                let Some(packet) = protection.seal_rtcp(packet) else { return };
                sealed = packet;
                &sealed[..]
            }
            None => packet,
        };
        let _ = self.sockets.rtcp.try_send_to(data, target);
    }

    /// Ends the call: CANCEL before the answer, BYE after it, whichever the moment needs. [`Event::Ended`] follows, or
    /// another last event that was on its way.
    pub fn hang_up(&self) {
        self.ended.cancel();
    }

    /// Tells the far side that we no longer listen, or that we do again, as soon as it may be told. Of several wishes the
    /// last one counts.
    pub fn hold(&self, held: bool) {
        self.holds.send_replace(held);
    }
}

/// One datagram.
fn take(socket: &tokio::net::UdpSocket, buffer: &mut BytesMut) -> Option<(Bytes, SocketAddr)> {
    buffer.resize(MAX_PACKET, 0);
    let (length, source) = socket.try_recv_from(buffer).ok()?;
    Some((buffer.split_to(length).freeze(), source))
}
