//! A call until it is answered: its provider's hops one after the other, and what each of them says.

use std::{net::IpAddr, sync::Arc};

use domain::app::Transport;
use rsipstack::{
    sip::{Header, Headers, Method, Request, Response, StatusCode, StatusCodeKind, Uri, Version, typed},
    transaction::Transaction,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    agent::{ALLOW, Agent, Registration, SUPPORTED, Shared, Unreachable},
    dialog::{Dialog, Sequence, describe},
    invite::{Inviting, MAX_BRANCHES, Progress, within},
    leg::{Event, FAREWELL, Failure, Invite},
    requests::Requests,
    sdp::{Description, Local, Media, SdpError},
    session::{MAX_UNACKNOWLEDGED, Session, bye, expires, min_se},
    target::Hop,
    timer::{self, Expires, SessionTimer},
};

/// Bytes of a request over UDP at most: what surely fits into one packet (RFC 3261, section 18.1.1).
const MAX_DATAGRAM: usize = 1_300;
/// Bytes that the answer to a challenge adds, about.
const CREDENTIALS: usize = 400;

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
pub(super) struct Signalling {
    pub(super) agent: Agent,
    pub(super) invite: Invite,
    pub(super) local: Local,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) holds: watch::Receiver<bool>,
    /// Whom the call is being placed with.
    pub(super) peer: watch::Sender<Option<IpAddr>>,
    pub(super) ending: CancellationToken,
}

impl Signalling {
    pub(super) async fn run(mut self) {
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
        // Whichever of them takes the call, another may speak for it later.
        let peers: Vec<_> = hops.iter().map(|hop| hop.address.ip()).collect();
        let hops = self.roomy(&shared, hops, &uri, &from);
        let mut outcome = Attempt::Next(Event::Failed(Failure::Unreachable(Unreachable)));
        let last = hops.len().saturating_sub(1);
        for (index, hop) in hops.into_iter().enumerate() {
            if self.ending.is_cancelled() {
                return Attempt::Over(Event::Ended);
            }
            let optional = hop.transport != self.invite.trunk.transport();
            if optional && !shared.takes_tcp(&hop).await {
                continue;
            }
            outcome = self.attempt(&shared, hop.clone(), &peers, (uri.clone(), from.clone()), index == last).await;
            match outcome {
                Attempt::Next(Event::Failed(_)) if optional => shared.avoid_tcp(&hop),
                Attempt::Next(_) => {}
                Attempt::Confirmed(_) | Attempt::Over(_) => break,
            }
        }
        outcome
    }

    /// The hops, before each one over UDP the same over TCP when the request is too long for a datagram (RFC 3261, section
    /// 18.1.1). Who does not take that gets it over UDP all the same.
    fn roomy(&self, shared: &Shared, hops: Vec<Hop>, uri: &Uri, from: &Uri) -> Vec<Hop> {
        let challenged = if self.invite.trunk.credential.is_some() { CREDENTIALS } else { 0 };
        let too_long = |hop: &Hop| {
            let from = typed::From::from(from.clone()).with_tag(rsipstack::transaction::make_tag());
            let request = self.request(shared, hop, uri.clone(), from, &shared.call_id());
            hop.transport == Transport::Udp
                && request.is_ok_and(|request| request.to_string().len() + challenged > MAX_DATAGRAM)
        };
        let with_tcp = |hop: Hop| {
            let tcp = too_long(&hop).then(|| Hop { transport: Transport::Tcp, ..hop.clone() });
            tcp.into_iter().chain([hop])
        };
        hops.into_iter().flat_map(with_tcp).collect()
    }

    async fn attempt(
        &mut self,
        shared: &Arc<Shared>,
        hop: Hop,
        peers: &[IpAddr],
        (uri, from): (Uri, Uri),
        last: bool,
    ) -> Attempt {
        // Before anything can come of it: audio of that host is then known.
        self.peer.send_replace(Some(hop.address.ip()));
        let (call_id, tag) = (shared.call_id(), rsipstack::transaction::make_tag());
        let (registration, incoming) = shared.register(&call_id, tag.value(), peers);
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
                // Requests before the answer: there is no session yet that they could change or end.
                Some(early) = call.incoming.recv() => {
                    match early.original.method {
                        // It overtook the answer, which it is to end.
                        Method::Bye => call.incoming.put_aside(early),
                        _ => refuse_early(early),
                    }
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
                    // 181 or 182, or 183 without a description: from here on the INVITE can be taken back.
                    (_, None) => Event::Trying,
                };
                self.tell(event).await;
                None
            }
            StatusCodeKind::Successful => {
                let Some(dialog) = Dialog::new(&call.request, &response, &call.sequence) else {
                    return Some(Ok(Attempt::Over(Event::Failed(Failure::Unreachable(Unreachable)))));
                };
                call.registration.follow(&dialog);
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
            unacknowledged: Arc::new(Semaphore::new(MAX_UNACKNOWLEDGED)),
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
    incoming: Requests,
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
            self.early.truncate(MAX_BRANCHES - 1);
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

/// RFC 3311, section 5.2: an offer of ours is not answered yet.
fn refuse_early(mut transaction: Transaction) {
    tokio::spawn(async move {
        let later = vec![Header::RetryAfter("2".into())];
        let _ = transaction.reply_with(StatusCode::ServerInternalError, later, None).await;
    });
}
