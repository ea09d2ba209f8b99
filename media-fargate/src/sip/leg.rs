//! A call on a trunk: signalling in a task of its own, media straight from its sockets. [`SipLeg`] places calls, [`Leg`]
//! is one.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::reach::Reach;
use rsipstack::{
    sip::{
        Header, Headers, HeadersExt, Method, Request, Response, SipMessage, StatusCode, StatusCodeKind, Uri, Version,
        typed,
    },
    transaction::Transaction,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use crate::rtp::{Codec, Packet, lock::Lock};

use super::{
    agent::{ALLOW, Agent, Registration, SUPPORTED, Shared, Unreachable},
    dialog::{Dialog, Sequence, describe},
    headers::Extra,
    invite::{Inviting, Progress, within},
    media::Sockets,
    sdp::{Crypto, Description, Direction, Local, Media, SdpError, Suite},
    srtp::Protection,
    target::{self, Hop, TargetError, Trunk},
    timer::{self, Due, Expires, SessionTimer},
};

/// Events waiting for the call's owner; one who does not listen has lost the call.
const MAX_EVENTS: usize = 32;
/// Wishes to hold waiting for their turn.
const MAX_HOLDS: usize = 4;
/// A packet of audio at most: an Ethernet frame.
const MAX_PACKET: usize = 1_500;
/// How long the end of a call waits for the far side to confirm it.
const FAREWELL: Duration = Duration::from_secs(4);

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
        let (holds, held) = mpsc::channel(MAX_HOLDS);
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
        let signalling = Signalling { agent: self.clone(), invite, local, events, holds: held, ending: ending.clone() };
        tokio::spawn(signalling.run());
        Ok(Leg::new(received, holds, ending, sockets, reach))
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
    holds: mpsc::Sender<bool>,
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
    buffer: BytesMut,
}

impl Leg {
    fn new(
        events: mpsc::Receiver<Event>,
        holds: mpsc::Sender<bool>,
        ended: CancellationToken,
        sockets: Sockets,
        reach: Reach,
    ) -> Self {
        let (lock, buffer, _ending) = (Lock::default(), BytesMut::new(), ended.clone().drop_guard());
        Self { events, holds, _ending, ended, sockets, reach, media: None, lock, rtcp: None, protection: None, buffer }
    }

    /// What happens next; `None` after the last event. May be cancelled and called again.
    pub async fn recv(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                // Signalling first: it says what packets mean.
                biased;
                event = self.events.recv() => {
                    let event = event?;
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
        self.lock.renamed(media.remote.filter(admits));
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
            return None;
        }
        let data = match &mut self.protection {
            Some(protection) => protection.open_rtp(&data)?,
            None => data,
        };
        let packet = Packet::parse(data).ok()?;
        self.lock.admits(source, &packet, &format).then_some(packet)
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

    /// Tells the far side that we no longer listen, or that we do again. Before the answer, and with too many wishes
    /// waiting, nothing happens.
    pub fn hold(&self, held: bool) {
        let _ = self.holds.try_send(held);
    }
}

/// One datagram.
fn take(socket: &tokio::net::UdpSocket, buffer: &mut BytesMut) -> Option<(Bytes, SocketAddr)> {
    buffer.resize(MAX_PACKET, 0);
    let (length, source) = socket.try_recv_from(buffer).ok()?;
    Some((buffer.split_to(length).freeze(), source))
}

/// What became of one hop.
enum Attempt {
    /// Answered.
    Confirmed(Box<Session>),
    /// This hop is no use; the next may be.
    Next(Event),
    /// The call is over.
    Over(Event),
}

/// The signalling of one call.
struct Signalling {
    agent: Agent,
    invite: Invite,
    local: Local,
    events: mpsc::Sender<Event>,
    holds: mpsc::Receiver<bool>,
    ending: CancellationToken,
}

impl Signalling {
    async fn run(mut self) {
        let last = match self.place().await {
            Attempt::Confirmed(session) => session.talk(&self.events, &mut self.holds, &self.ending).await,
            Attempt::Next(last) | Attempt::Over(last) => last,
        };
        // Nobody listens when the leg was dropped.
        let _ = self.events.send(last).await;
    }

    /// Tries one hop after the other.
    async fn place(&mut self) -> Attempt {
        let shared = self.agent.shared.clone();
        let mut draw = |below: u32| u32::from_be_bytes(edge::chance::bytes()) % below.max(1);
        let found = self.invite.trunk.hops(shared.dns.as_ref(), &shared.reach, &mut draw).await;
        let addressed = self.invite.trunk.request_uri(&self.invite.destination);
        let (hops, uri, from) = match (found, addressed, self.invite.trunk.from()) {
            (Ok(hops), Ok(uri), Ok(from)) => (hops, uri, from),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                return Attempt::Over(Event::Failed(error.into()));
            }
        };
        let mut outcome = Attempt::Next(Event::Failed(Failure::Unreachable(Unreachable)));
        let last = hops.len().saturating_sub(1);
        for (index, hop) in hops.into_iter().enumerate() {
            if self.ending.is_cancelled() {
                return Attempt::Over(Event::Ended);
            }
            outcome = self.attempt(&shared, hop, uri.clone(), from.clone(), index == last).await;
            if !matches!(outcome, Attempt::Next(_)) {
                break;
            }
        }
        outcome
    }

    async fn attempt(&mut self, shared: &Arc<Shared>, hop: Hop, uri: Uri, from: Uri, last: bool) -> Attempt {
        let (call_id, tag) = (shared.call_id(), rsipstack::transaction::make_tag());
        let (registration, incoming) = shared.register(&call_id, tag.value());
        let sequence = Sequence::after(1);
        let from = typed::From::from(from).with_tag(tag);
        let Ok(request) = self.request(shared, &hop, uri, from, &call_id) else {
            return Attempt::Over(Event::Failed(Failure::Unreachable(Unreachable)));
        };
        let give_up = CancellationToken::new();
        let (progress, mut progressed) = mpsc::channel(8);
        let inviting = Inviting {
            shared: shared.clone(),
            hop: hop.clone(),
            credential: self.invite.trunk.credential.clone(),
            sequence: sequence.clone(),
            give_up: give_up.clone(),
            progress,
        };
        tokio::spawn(inviting.run(request.clone()));
        let mut call = Calling {
            shared: shared.clone(),
            hop,
            request,
            sequence,
            registration,
            incoming,
            early: Vec::new(),
            alerted: false,
            tried: false,
        };
        loop {
            // Only a hop that has said nothing at all is given up; and only for another one.
            let patience = (!last && !call.tried).then_some(shared.patience);
            let next = tokio::select! {
                next = within(patience, &mut progressed) => next,
                () = self.ending.cancelled() => {
                    give_up.cancel();
                    return Attempt::Over(self.farewell(call, progressed).await);
                }
                Some(_) = self.holds.recv() => continue,
                // Requests before the answer: there is no session yet that they could change or end.
                Some(early) = call.incoming.recv() => {
                    refuse_early(early);
                    continue;
                }
            };
            match next {
                Some(Some(Progress::Response(response))) => {
                    if let Some(outcome) = self.heard(&mut call, *response).await {
                        return outcome.unwrap_or_else(|media| Attempt::Confirmed(Box::new(self.session(call, media))));
                    }
                }
                Some(Some(Progress::Silence) | None) => {
                    let event = Event::Failed(Failure::Unreachable(Unreachable));
                    return if call.alerted { Attempt::Over(event) } else { Attempt::Next(event) };
                }
                None => {
                    give_up.cancel();
                    tokio::spawn(drain(call, progressed));
                    return Attempt::Next(Event::Failed(Failure::Unreachable(Unreachable)));
                }
            }
        }
    }

    fn request(
        &self,
        shared: &Shared,
        hop: &Hop,
        uri: Uri,
        from: typed::From,
        call_id: &str,
    ) -> Result<Request, Unreachable> {
        let to = typed::To { display_name: None, uri: uri.clone(), params: Vec::new() };
        let body = self.local.offer().into_bytes();
        let expires = Expires { interval: timer::INTERVAL, by_sender: None };
        let mut headers = Headers::from(vec![
            shared.via(hop.transport)?.into(),
            Header::MaxForwards(70.into()),
            from.into(),
            to.into(),
            Header::CallId(call_id.into()),
            typed::CSeq { seq: 1, method: Method::Invite }.into(),
            shared.contact(hop.transport),
            shared.user_agent(),
            Header::Allow(ALLOW.into()),
            Header::Supported(SUPPORTED.into()),
            Header::SessionExpires(expires.to_string().into()),
            min_se(),
        ]);
        headers.extend(
            self.invite
                .extras
                .iter()
                .map(|extra| Header::Other(extra.name().to_owned(), extra.value().to_owned()))
                .collect(),
        );
        describe(&mut headers, &body);
        Ok(Request { method: Method::Invite, uri, version: Version::V2, headers, body })
    }

    /// What a response means; `None`: the call goes on.
    async fn heard(&mut self, call: &mut Calling, response: Response) -> Option<Result<Attempt, Confirmed>> {
        let status = response.status_code.code();
        call.tried = true;
        match response.status_code.kind() {
            StatusCodeKind::Provisional => {
                call.alerted |= status >= 180;
                let media = self.described(&response).and_then(Result::ok);
                let event = match (status, media) {
                    (100, _) => Event::Trying,
                    (_, Some(media)) => {
                        call.remember(&response, media.clone());
                        if status == 180 {
                            self.tell(Event::Ringing).await;
                        }
                        Event::Early(media)
                    }
                    (180, None) => Event::Ringing,
                    (_, None) => return None,
                };
                self.tell(event).await;
                None
            }
            StatusCodeKind::Successful => {
                let Some(dialog) = Dialog::new(&call.request, &response, &call.sequence) else {
                    return Some(Ok(Attempt::Over(Event::Failed(Failure::Unreachable(Unreachable)))));
                };
                // Without a description it is the one a reliable response of the same branch had.
                let early = || call.early.iter().rev().find(|(tag, _)| tag == dialog.remote_tag());
                let media = self
                    .described(&response)
                    .unwrap_or_else(|| early().map(|(_, media)| media.clone()).ok_or(SdpError::NoAudio));
                match media {
                    Ok(media) => Some(Err(Confirmed { dialog, media, response })),
                    Err(error) => {
                        let hop = call.hop.clone();
                        let bye = bye(call.shared.clone(), Arc::new(dialog), hop, self.invite.trunk.clone());
                        let _ = timeout(FAREWELL, bye).await;
                        Some(Ok(Attempt::Over(Event::Failed(error.into()))))
                    }
                }
            }
            _ => {
                let event = Event::Rejected { status };
                // RFC 3263, section 4.3: another server may do better, but not once somebody was called.
                let next = matches!(status, 408 | 503) && !call.alerted;
                Some(Ok(if next { Attempt::Next(event) } else { Attempt::Over(event) }))
            }
        }
    }

    /// What the description in a response means; `None`: it has none.
    fn described(&self, response: &Response) -> Option<Result<Media, SdpError>> {
        if response.body.is_empty() {
            return None;
        }
        Some(Description::parse(&response.body).and_then(|answer| self.local.answered(&answer)))
    }

    async fn tell(&self, event: Event) {
        // A leg that is gone is noticed by the loop.
        let _ = self.events.send(event).await;
    }

    /// We hung up before the answer: waits for the far side to say so, at most [`FAREWELL`], and leaves the rest to go
    /// on alone.
    async fn farewell(&self, call: Calling, progressed: mpsc::Receiver<Progress>) -> Event {
        let _ = timeout(FAREWELL, tokio::spawn(drain(call, progressed))).await;
        Event::Ended
    }

    fn session(&self, call: Calling, Confirmed { dialog, media, response }: Confirmed) -> Session {
        let updates = response.headers.iter().any(|header| {
            matches!(header, Header::Allow(allow) if allow.value().split(',').any(|word| word.trim() == "UPDATE"))
        });
        let timer = SessionTimer::answered(expires(&response.headers), Instant::now().into_std());
        Session {
            shared: call.shared,
            hop: call.hop,
            trunk: self.invite.trunk.clone(),
            dialog: Arc::new(dialog),
            _registration: call.registration,
            incoming: call.incoming,
            local: self.local.clone(),
            far_held: !media.direction.sends(),
            media,
            updates,
            timer,
            last_number: 0,
            asking: None,
            wish: None,
            again: None,
        }
    }
}

struct Confirmed {
    dialog: Dialog,
    media: Media,
    response: Response,
}

/// An INVITE without an answer yet.
struct Calling {
    shared: Arc<Shared>,
    hop: Hop,
    request: Request,
    sequence: Sequence,
    registration: Registration,
    incoming: mpsc::Receiver<Transaction>,
    /// Descriptions before the answer, by branch.
    early: Vec<(String, Media)>,
    /// Whether somebody was called (180 and above).
    alerted: bool,
    /// Whether anything was heard.
    tried: bool,
}

impl Calling {
    fn remember(&mut self, response: &Response, media: Media) {
        if let Some(dialog) = Dialog::new(&self.request, response, &self.sequence) {
            self.early.retain(|(tag, _)| tag != dialog.remote_tag());
            self.early.push((dialog.remote_tag().to_owned(), media));
        }
    }
}

/// Waits for the end of an INVITE that was given up, and ends what it may still have begun: a 2xx that was reported in
/// that moment.
async fn drain(call: Calling, mut progressed: mpsc::Receiver<Progress>) {
    while let Some(progress) = progressed.recv().await {
        let Progress::Response(response) = progress else { return };
        match response.status_code.kind() {
            StatusCodeKind::Provisional => {}
            StatusCodeKind::Successful => {
                if let Some(dialog) = Dialog::new(&call.request, &response, &call.sequence) {
                    let via = call.shared.ask_within(&dialog, Method::Bye, Vec::new(), Vec::new(), &call.hop, None);
                    let _ = via.await;
                }
                return;
            }
            _ => return,
        }
    }
}

fn refuse_early(mut transaction: Transaction) {
    tokio::spawn(async move {
        let status = match transaction.original.method {
            Method::Bye => StatusCode::CallTransactionDoesNotExist,
            // RFC 3311, section 5.2: an offer of ours is not answered yet.
            _ => StatusCode::ServerInternalError,
        };
        let _ = transaction.reply_with(status, vec![Header::RetryAfter("2".into())], None).await;
    });
}

fn min_se() -> Header {
    Header::MinSE(timer::MIN_INTERVAL.as_secs().to_string().into())
}

fn expires(headers: &Headers) -> Option<Expires> {
    headers.iter().find_map(|header| match header {
        Header::SessionExpires(expires) => Expires::parse(expires.value()),
        _ => None,
    })
}

async fn bye(shared: Arc<Shared>, dialog: Arc<Dialog>, hop: Hop, trunk: Trunk) {
    let credential = trunk.credential.as_ref();
    // Whatever it answers, the session is over for us (RFC 3261, section 15.1.1).
    let _ = shared.ask_within(&dialog, Method::Bye, Vec::new(), Vec::new(), &hop, credential).await;
}

/// A request of ours about a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Hold(bool),
    Refresh,
}

/// Something that happened to the session from inside.
enum Inside {
    /// The answer to our request.
    Answered(Purpose, Method, Result<Box<Response>, Unreachable>),
    /// The ACK of a 2xx of ours, with the description it brought.
    Acknowledged(Vec<u8>),
    /// A 2xx of ours was never acknowledged.
    Unacknowledged,
}

/// A running session.
struct Session {
    shared: Arc<Shared>,
    hop: Hop,
    trunk: Trunk,
    dialog: Arc<Dialog>,
    _registration: Registration,
    incoming: mpsc::Receiver<Transaction>,
    local: Local,
    media: Media,
    /// Whether the far side no longer listens.
    far_held: bool,
    /// Whether the far side understands UPDATE.
    updates: bool,
    timer: Option<SessionTimer>,
    /// The number of the far side's last request.
    last_number: u32,
    /// Our request that has no answer yet.
    asking: Option<Purpose>,
    /// What to ask once there is no request on its way.
    wish: Option<Purpose>,
    /// When to ask again after two requests crossed.
    again: Option<(Instant, Purpose)>,
}

impl Session {
    /// Until the end.
    async fn talk(
        mut self,
        events: &mpsc::Sender<Event>,
        holds: &mut mpsc::Receiver<bool>,
        ending: &CancellationToken,
    ) -> Event {
        let (inside, mut insides) = mpsc::channel(8);
        if events.send(Event::Answered(self.media.clone())).await.is_err() {
            return self.hang_up().await;
        }
        loop {
            let due = self.timer.as_ref().map(SessionTimer::next);
            let again = self.again;
            let ended = tokio::select! {
                () = ending.cancelled() => return self.hang_up().await,
                Some(held) = holds.recv() => { self.want(Purpose::Hold(held), &inside); None }
                Some(transaction) = self.incoming.recv() => self.asked(transaction, events, &inside).await,
                Some(happened) = insides.recv() => self.happened(happened, events, &inside).await,
                () = until(due.map(|(at, _)| Instant::from_std(at))) => match due {
                    Some((_, Due::Refresh)) => {
                        if let Some(timer) = &mut self.timer {
                            timer.refreshing(Instant::now().into_std());
                        }
                        self.want(Purpose::Refresh, &inside);
                        None
                    }
                    _ => Some(Event::Failed(Failure::Lost)),
                },
                () = until(again.map(|(at, _)| at)) => {
                    if let Some((_, purpose)) = self.again.take() {
                        self.want(purpose, &inside);
                    }
                    None
                }
            };
            match ended {
                None => {}
                // A session that was lost is ended as well: the far side may still have it.
                Some(event @ Event::Failed(_)) => {
                    self.hang_up().await;
                    return event;
                }
                Some(event) => return event,
            }
        }
    }

    async fn hang_up(&self) -> Event {
        let bye = bye(self.shared.clone(), self.dialog.clone(), self.hop.clone(), self.trunk.clone());
        let _ = timeout(FAREWELL, tokio::spawn(bye)).await;
        Event::Ended
    }

    /// Asks now, or as soon as what is being asked is answered. A newer wish to hold replaces an older one.
    fn want(&mut self, purpose: Purpose, inside: &mpsc::Sender<Inside>) {
        if self.asking.is_some() {
            if !matches!((self.wish, purpose), (Some(Purpose::Hold(_)), Purpose::Refresh)) {
                self.wish = Some(purpose);
            }
            return;
        }
        self.asking = Some(purpose);
        self.again = None;
        let (method, body) = match purpose {
            Purpose::Refresh if self.updates => (Method::Update, Vec::new()),
            Purpose::Refresh => (Method::Invite, self.local.offer().into_bytes()),
            Purpose::Hold(held) => {
                let mut local = self.local.clone();
                local.direction = if held { Direction::SendOnly } else { Direction::SendRecv };
                local.version += 1;
                (Method::Invite, local.offer().into_bytes())
            }
        };
        let mut extra = vec![Header::Allow(ALLOW.into()), Header::Supported(SUPPORTED.into())];
        if let Some(timer) = &self.timer {
            extra.extend([Header::SessionExpires(timer.request().to_string().into()), min_se()]);
        }
        let (shared, dialog, hop) = (self.shared.clone(), self.dialog.clone(), self.hop.clone());
        let (credential, inside) = (self.trunk.credential.clone(), inside.clone());
        tokio::spawn(async move {
            let answer = shared.ask_within(&dialog, method, extra, body, &hop, credential.as_ref()).await;
            let _ = inside.send(Inside::Answered(purpose, method, answer.map(Box::new))).await;
        });
    }

    async fn happened(
        &mut self,
        happened: Inside,
        events: &mpsc::Sender<Event>,
        inside: &mpsc::Sender<Inside>,
    ) -> Option<Event> {
        match happened {
            Inside::Unacknowledged => Some(Event::Failed(Failure::Lost)),
            Inside::Acknowledged(answer) => {
                let agreed =
                    Description::parse(&answer).and_then(|answer| Ok((answer.holds(), self.local.answered(&answer)?)));
                match agreed {
                    Ok((holds, media)) => self.changed(media, holds, events).await,
                    // An answer that cannot be used ends the session (RFC 3261, section 13.2.2.4).
                    Err(error) => return Some(Event::Failed(error.into())),
                }
                None
            }
            Inside::Answered(purpose, method, answer) => {
                self.asking = None;
                let ended = self.answered(purpose, method, answer, events).await;
                if let Some(wish) = self.wish.take().filter(|_| ended.is_none()) {
                    self.want(wish, inside);
                }
                ended
            }
        }
    }

    async fn answered(
        &mut self,
        purpose: Purpose,
        method: Method,
        answer: Result<Box<Response>, Unreachable>,
        events: &mpsc::Sender<Event>,
    ) -> Option<Event> {
        let Ok(response) = answer else { return Some(Event::Failed(Failure::Lost)) };
        match response.status_code.code() {
            200..300 => {
                let now = Instant::now().into_std();
                self.timer = match (expires(&response.headers), self.timer) {
                    (None, Some(timer)) => SessionTimer::answered(Some(timer.request()), now),
                    (named, _) => SessionTimer::answered(named, now),
                };
                if let Purpose::Hold(held) = purpose {
                    self.local.direction = if held { Direction::SendOnly } else { Direction::SendRecv };
                    self.local.version += 1;
                }
                if method == Method::Invite && !response.body.is_empty() {
                    match Description::parse(&response.body).and_then(|answer| self.local.answered(&answer)) {
                        Ok(media) => self.agreed(media, events).await,
                        Err(error) => return Some(Event::Failed(error.into())),
                    }
                }
                self.tell_hold(purpose, true, events).await;
                None
            }
            // Both asked at once: the one who called waits longer (RFC 3261, section 14.1).
            491 => {
                let wait = 2_100 + u64::from(u16::from_be_bytes(edge::chance::bytes())) % 1_900;
                self.again = Some((Instant::now() + Duration::from_millis(wait), purpose));
                None
            }
            422 => {
                let raised = response.headers.iter().find_map(|header| match header {
                    Header::MinSE(least) => timer::raised(least.value()),
                    _ => None,
                });
                let timer = self.timer.zip(raised).and_then(|(timer, interval)| {
                    let asked = Expires { interval: interval.max(timer.request().interval), ..timer.request() };
                    SessionTimer::answered(Some(asked), Instant::now().into_std())
                });
                self.timer = timer.or(self.timer);
                self.again = timer.map(|_| (Instant::now(), purpose));
                None
            }
            // The far side does not know the session, or does not answer at all.
            408 | 481 => Some(Event::Failed(Failure::Lost)),
            // It keeps the session as it was.
            _ => {
                self.tell_hold(purpose, false, events).await;
                None
            }
        }
    }

    async fn tell_hold(&self, purpose: Purpose, accepted: bool, events: &mpsc::Sender<Event>) {
        if let Purpose::Hold(held) = purpose {
            let _ = events.send(Event::HoldAnswered { held, accepted }).await;
        }
    }

    async fn agreed(&mut self, media: Media, events: &mpsc::Sender<Event>) {
        if media != self.media {
            self.media = media.clone();
            let _ = events.send(Event::Changed(media)).await;
        }
    }

    /// Takes over what both sides agreed on, and tells what changed by it.
    async fn changed(&mut self, media: Media, holds: bool, events: &mpsc::Sender<Event>) {
        self.agreed(media, events).await;
        if holds != self.far_held {
            self.far_held = holds;
            let _ = events.send(if holds { Event::Held } else { Event::Resumed }).await;
        }
    }

    /// A request of the far side.
    async fn asked(
        &mut self,
        mut transaction: Transaction,
        events: &mpsc::Sender<Event>,
        inside: &mpsc::Sender<Inside>,
    ) -> Option<Event> {
        let number = transaction.original.cseq_header().and_then(|cseq| cseq.seq()).unwrap_or_default();
        if number <= self.last_number {
            let _ = transaction.reply(StatusCode::ServerInternalError).await;
            return None;
        }
        self.last_number = number;
        if transaction.original.method == Method::Bye {
            let _ = transaction.reply(StatusCode::OK).await;
            return Some(Event::Bye);
        }
        let Reply { status, mut headers, body, agreed } = self.reply(&transaction.original);
        if status == StatusCode::OK {
            headers.extend([
                self.shared.contact(self.hop.transport),
                Header::Allow(ALLOW.into()),
                Header::Supported(SUPPORTED.into()),
            ]);
        }
        if body.is_some() {
            headers.push(Header::ContentType("application/sdp".into()));
        }
        let offers = transaction.original.method == Method::Invite && transaction.original.body.is_empty();
        tokio::spawn(acknowledge(transaction, status, headers, body, offers, inside.clone()));
        if let Some((media, holds)) = agreed {
            self.changed(media, holds, events).await;
        }
        None
    }

    /// What to reply to a re-INVITE or an UPDATE (RFC 3261, section 14.2; RFC 3311; RFC 4028, section 9).
    fn reply(&mut self, request: &Request) -> Reply {
        if matches!(self.asking, Some(Purpose::Hold(_))) || (self.asking.is_some() && !self.updates) {
            return Reply::refusal(StatusCode::RequestPending);
        }
        let mut headers = Vec::new();
        if let Some(asked) = expires(&request.headers) {
            match SessionTimer::asked(asked, Instant::now().into_std()) {
                Ok((timer, answer)) => {
                    self.timer = Some(timer);
                    headers.push(Header::SessionExpires(answer.to_string().into()));
                    if answer.by_sender == Some(true) {
                        headers.push(Header::Require("timer".into()));
                    }
                }
                Err(timer::TooSmall) => {
                    return Reply { headers: vec![min_se()], ..Reply::refusal(StatusCode::SessionIntervalTooSmall) };
                }
            }
        }
        if request.body.is_empty() {
            let body = (request.method == Method::Invite).then(|| self.local.offer().into_bytes());
            return Reply { status: StatusCode::OK, headers, body, agreed: None };
        }
        let described = request.headers.iter().all(|header| match header {
            Header::ContentType(kind) => kind.value().trim().to_ascii_lowercase().starts_with("application/sdp"),
            _ => true,
        });
        if !described {
            return Reply {
                headers: vec![Header::Accept("application/sdp".into())],
                ..Reply::refusal(StatusCode::UnsupportedMediaType)
            };
        }
        let mut local = self.local.clone();
        local.version += 1;
        let answer = Description::parse(&request.body).and_then(|offer| Ok((offer.holds(), local.answer(&offer)?)));
        match answer {
            Ok((holds, (text, media))) => {
                self.local = local;
                Reply { status: StatusCode::OK, headers, body: Some(text.into_bytes()), agreed: Some((media, holds)) }
            }
            Err(_) => Reply::refusal(StatusCode::NotAcceptableHere),
        }
    }
}

struct Reply {
    status: StatusCode,
    headers: Vec<Header>,
    body: Option<Vec<u8>>,
    agreed: Option<(Media, bool)>,
}

impl Reply {
    fn refusal(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: None, agreed: None }
    }
}

/// Sends a reply and, for a 2xx to an INVITE, waits for its ACK.
async fn acknowledge(
    mut transaction: Transaction,
    status: StatusCode,
    headers: Vec<Header>,
    body: Option<Vec<u8>>,
    offers: bool,
    inside: mpsc::Sender<Inside>,
) {
    let confirmed = status == StatusCode::OK && transaction.original.method == Method::Invite;
    if transaction.reply_with(status, headers, body).await.is_err() || !confirmed {
        return;
    }
    while let Some(message) = transaction.receive().await {
        if let SipMessage::Request(ack) = message
            && ack.method == Method::Ack
        {
            if offers {
                let _ = inside.send(Inside::Acknowledged(ack.body)).await;
            }
            return;
        }
    }
    let _ = inside.send(Inside::Unacknowledged).await;
}

/// Never, when there is no time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
