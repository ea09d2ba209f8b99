//! What comes in, before it is anybody's: whom we never asked gets no answer, not even that nobody is there, and of what
//! they send no more than a little is read; a message that the stack does not survive never reaches it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use domain::limit::shorten;
use rsipstack::{
    dialog::DialogId,
    platform::net::UdpSocket as Datagrams,
    sip::{Request, SipMessage, transport::Transport as Wire},
    transaction::{
        Transaction,
        endpoint::TransportEventInspector,
        key::{TransactionKey, TransactionRole},
    },
    transport::{SipConnection, TransportEvent},
};
use tokio::{net::UdpSocket, sync::mpsc, time::Instant};

/// Datagrams read in a second of those whom we sent requests to; more are dropped unread, as a full queue would drop them.
const PEERS_PER_SECOND: u32 = 2_000;
/// The same of all others together. A far side that answers from another address than ours were sent to is among them.
const STRANGERS_PER_SECOND: u32 = 200;
/// How long somebody whom we sent a request to is no stranger.
const PEER_FOR: Duration = Duration::from_secs(3_600);
/// Peers remembered at most.
const MAX_PEERS: usize = 4_096;
/// Addresses of one leg's far side at most.
const MAX_SPEAKERS: usize = 64;

/// Which leg a request is about: the call's id and our tag.
pub(super) type LegId = (String, String);

/// Who may come in.
#[derive(Default)]
pub(super) struct Door {
    legs: Mutex<HashMap<LegId, Entry>>,
    /// Whom we sent requests to, and when last.
    peers: Mutex<HashMap<IpAddr, Instant>>,
}

/// A leg that takes requests in.
struct Entry {
    requests: mpsc::Sender<Transaction>,
    /// Where its far side is. Call-ID and tags stand in many a log: whoever knows them is not believed for that.
    speakers: Vec<IpAddr>,
    /// Somebody else tried, which is told once.
    told: bool,
}

impl Entry {
    fn hears(&mut self, from: IpAddr, request: &Request) -> bool {
        let hears = self.speakers.contains(&from);
        if !hears && !std::mem::replace(&mut self.told, true) {
            tracing::warn!(method = %request.method, from = shorten(from), "sip.foreign_request");
        }
        hears
    }
}

/// The lock's value, whoever panicked with it: every update is one insertion or removal.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// Requests about a leg go there from now on, those of these addresses.
    pub(super) fn open(&self, id: LegId, requests: mpsc::Sender<Transaction>, speakers: &[IpAddr]) {
        let speakers = speakers.iter().map(IpAddr::to_canonical).collect();
        lock(&self.legs).insert(id, Entry { requests, speakers, told: false });
    }

    /// And those of this one.
    pub(super) fn hear(&self, id: &LegId, speaker: IpAddr) {
        let (mut legs, speaker) = (lock(&self.legs), speaker.to_canonical());
        if let Some(leg) = legs.get_mut(id)
            && leg.speakers.len() < MAX_SPEAKERS
            && !leg.speakers.contains(&speaker)
        {
            leg.speakers.push(speaker);
        }
    }

    /// And no longer.
    pub(super) fn close(&self, id: &LegId) {
        lock(&self.legs).remove(id);
    }

    /// Where requests about a leg go.
    pub(super) fn leg(&self, id: &LegId) -> Option<mpsc::Sender<Transaction>> {
        lock(&self.legs).get(id).map(|leg| leg.requests.clone())
    }

    /// How many legs there are.
    pub(super) fn legs(&self) -> usize {
        lock(&self.legs).len()
    }

    /// We send somebody a request.
    pub(super) fn meet(&self, ip: IpAddr) {
        let mut peers = lock(&self.peers);
        if peers.len() >= MAX_PEERS {
            peers.retain(|_, met| met.elapsed() < PEER_FOR);
            if peers.len() >= MAX_PEERS {
                peers.clear();
            }
        }
        peers.insert(ip, Instant::now());
    }

    fn knows(&self, ip: IpAddr) -> bool {
        lock(&self.peers).get(&ip).is_some_and(|met| met.elapsed() < PEER_FOR)
    }

    /// Whether a request is anything to us: it is about a call of ours and comes from that call's far side, or about none
    /// and comes from one of our peers.
    fn admits(&self, request: &Request, from: Option<IpAddr>) -> bool {
        let Some(from) = from else { return false };
        let of_leg = about(request).and_then(|leg| Some(lock(&self.legs).get_mut(&leg)?.hears(from, request)));
        of_leg.unwrap_or_else(|| self.knows(from))
    }
}

/// The leg a request is about; `None`: it is about none.
pub(super) fn about(request: &Request) -> Option<LegId> {
    let id = DialogId::try_from((request, TransactionRole::Server)).ok()?;
    (!id.local_tag.is_empty()).then_some((id.call_id, id.local_tag))
}

/// Looks at every message on its way into the stack, whatever it came over. The stack handles all of them in one task: a
/// panic there would end the process's calls.
pub(super) struct Inspector(pub(super) Arc<Door>);

#[async_trait]
impl TransportEventInspector for Inspector {
    async fn handle(&self, event: TransportEvent) -> Option<TransportEvent> {
        if let TransportEvent::Incoming(message, _, from) = &event {
            let from = from.get_socketaddr().ok().map(|from| from.ip().to_canonical());
            let admitted = unharmed(|| match message {
                SipMessage::Request(request) => is_sound(message) && self.0.admits(request, from),
                SipMessage::Response(_) => is_sound(message),
            });
            admitted?.then_some(event)
        } else {
            Some(event)
        }
    }
}

/// What `act` gives; `None`: it panicked.
fn unharmed<T>(act: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(act)).ok()
}

/// Whether the stack can tell what a message belongs to, and what it says: no status is outside these (RFC 3261, section
/// 7.2), and the stack would end a call by one that is.
fn is_sound(message: &SipMessage) -> bool {
    match message {
        SipMessage::Request(request) => {
            let _ = DialogId::try_from((request, TransactionRole::Server));
            TransactionKey::from_request(request, TransactionRole::Server).is_ok()
        }
        SipMessage::Response(response) => {
            let _ = DialogId::try_from((response, TransactionRole::Client));
            let known = (100..700).contains(&response.status_code.code());
            known && TransactionKey::from_response(response, TransactionRole::Client).is_ok()
        }
    }
}

/// Reads a datagram as the stack does.
fn read(datagram: &[u8]) -> Option<SipMessage> {
    let message = SipMessage::try_from(datagram).ok()?;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    SipConnection::update_msg_received(message, nobody, Wire::Udp).ok()
}

/// The socket, with what would hurt the stack taken out: more datagrams than it may have, and those that its parser does
/// not survive, for it reads its only socket in one task.
pub(super) struct Guarded {
    socket: UdpSocket,
    door: Arc<Door>,
    peers: Budget,
    strangers: Budget,
}

impl Guarded {
    pub(super) fn new(socket: UdpSocket, door: Arc<Door>) -> Self {
        Self { socket, door, peers: Budget::new(PEERS_PER_SECOND), strangers: Budget::new(STRANGERS_PER_SECOND) }
    }

    fn admits(&self, datagram: &[u8], from: IpAddr) -> bool {
        // Empty and white datagrams keep a way through NAT open.
        if datagram.iter().all(u8::is_ascii_whitespace) {
            return self.door.knows(from);
        }
        let budget = if self.door.knows(from) { &self.peers } else { &self.strangers };
        budget.takes() && unharmed(|| read(datagram).is_some()).unwrap_or_default()
    }
}

#[async_trait]
impl Datagrams for Guarded {
    async fn recv_from(&self, buffer: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        loop {
            let (length, from) = self.socket.recv_from(buffer).await?;
            if self.admits(&buffer[..length], from.ip()) {
                return Ok((length, from));
            }
        }
    }

    async fn send_to(&self, data: &[u8], to: SocketAddr) -> rsipstack::Result<usize> {
        Ok(self.socket.send_to(data, to).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }
}

/// So many in a second.
struct Budget {
    most: u32,
    /// When the current second began, and how many it has had.
    second: Mutex<(Instant, u32)>,
}

impl Budget {
    fn new(most: u32) -> Self {
        Self { most, second: Mutex::new((Instant::now(), 0)) }
    }

    /// Whether one more may come.
    fn takes(&self) -> bool {
        let mut second = lock(&self.second);
        if second.0.elapsed() >= Duration::from_secs(1) {
            *second = (Instant::now(), 0);
        }
        second.1 = second.1.saturating_add(1);
        second.1 <= self.most
    }
}

#[cfg(test)]
#[path = "../../tests/sip/torture.rs"]
mod torture;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of memory that the process holds.
    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4_096
    }

    /// A generator of its own, so that every run damages the same way.
    fn damage(message: &mut Vec<u8>, state: &mut u64) {
        let mut draw = |below: usize| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            (*state % below.max(1) as u64) as usize
        };
        for _ in 0..=draw(8) {
            let at = draw(message.len());
            let byte = draw(256) as u8;
            match draw(5) {
                _ if message.is_empty() => message.push(byte),
                0 => message[at] = byte,
                1 => drop(message.drain(at..(at + draw(16)).min(message.len()))),
                2 => message.insert(at, b";:,<>@\"\\\r\n =%\0\xff"[usize::from(byte) % 15]),
                3 => {
                    let piece = message[at..(at + draw(64)).min(message.len())].to_vec();
                    message.splice(at..at, piece);
                }
                _ => message.truncate(at.max(1)),
            }
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused_and_leave_nothing_behind() {
        let hook = panic::take_hook();
        // Panics of the parser are what is looked for: each would print its place.
        panic::set_hook(Box::new(|_| {}));
        let (mut state, mut sound, mut harmful) = (0x2545_f491_4f6c_dd1d_u64, 0, 0);
        let mut before = 0;
        for round in 0..20_000 {
            if round == 2_000 {
                before = resident();
            }
            let mut message = torture::MESSAGES[round % torture::MESSAGES.len()].replace('\n', "\r\n").into_bytes();
            damage(&mut message, &mut state);
            match unharmed(|| read(&message).is_some_and(|message| is_sound(&message))) {
                Some(true) => sound += 1,
                Some(false) => {}
                None => harmful += 1,
            }
        }
        panic::set_hook(hook);
        assert!(sound > 1_000, "{sound} are sound");
        assert!(harmful < 1_000, "{harmful} would have panicked");
        let grown = resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes more");
    }

    #[tokio::test]
    async fn strangers_have_a_budget_of_their_own() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let (door, options) = (Arc::<Door>::default(), torture::MESSAGES[5].replace('\n', "\r\n"));
        let guarded = Guarded::new(socket, door.clone());
        let (peer, stranger) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        door.meet(peer);
        let read = |from, times| (0..times).filter(|_| guarded.admits(options.as_bytes(), from)).count();
        assert!(read(stranger, 10 * STRANGERS_PER_SECOND) < 3 * STRANGERS_PER_SECOND as usize);
        assert_eq!(read(peer, 1_000), 1_000);
        assert!(guarded.admits(b"\r\n\r\n", peer) && !guarded.admits(b"\r\n\r\n", stranger));
    }

    #[tokio::test]
    async fn of_very_many_peers_only_the_latest_are_remembered() {
        let door = Door::default();
        for number in 0..=MAX_PEERS as u32 {
            door.meet(IpAddr::from(number.to_be_bytes()));
        }
        assert!(door.knows(IpAddr::from((MAX_PEERS as u32).to_be_bytes())));
        assert!(lock(&door.peers).len() <= MAX_PEERS);
    }
}
