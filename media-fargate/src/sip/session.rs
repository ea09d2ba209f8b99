//! A running session: what either side asks of the other until one of them ends it (re-INVITE and UPDATE: RFC 3261,
//! section 14, and RFC 3311; refreshes: RFC 4028).

use std::{sync::Arc, time::Duration};

use rsipstack::{
    sip::{Header, Headers, HeadersExt, Method, Request, Response, SipMessage, StatusCode},
    transaction::Transaction,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    agent::{ALLOW, Registration, SUPPORTED, Shared, Unreachable},
    dialog::Dialog,
    leg::{Event, FAREWELL, Failure},
    requests::Requests,
    sdp::{Description, Direction, Local, Media},
    target::{Hop, Trunk},
    timer::{self, Due, Expires, SessionTimer},
};

/// Answers of ours that may wait for their ACK at once: a far side has one offer on its way, or lost the ACKs of a few.
pub(super) const MAX_UNACKNOWLEDGED: usize = 4;

/// A request of ours about a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Hold(bool),
    Refresh,
}

impl Purpose {
    /// What is left to ask of this one and one that has waited longer: the newer wish to hold, which refreshes as well.
    fn after(self, before: Option<Self>) -> Self {
        match (before, self) {
            (Some(hold @ Self::Hold(_)), Self::Refresh) => hold,
            _ => self,
        }
    }
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
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) hop: Hop,
    pub(super) trunk: Trunk,
    pub(super) dialog: Arc<Dialog>,
    pub(super) _registration: Registration,
    pub(super) incoming: Requests,
    pub(super) local: Local,
    pub(super) media: Media,
    /// Whether the far side no longer listens.
    pub(super) far_held: bool,
    /// Whether the far side understands UPDATE.
    pub(super) updates: bool,
    pub(super) timer: Option<SessionTimer>,
    /// The number of the far side's last request.
    pub(super) last_number: u32,
    /// Our request that has no answer yet.
    pub(super) asking: Option<Purpose>,
    /// What to ask once there is no request on its way.
    pub(super) wish: Option<Purpose>,
    /// What to ask after two requests crossed, and when.
    pub(super) again: Option<(Instant, Purpose)>,
    /// Answers of ours that may wait for their ACK.
    pub(super) unacknowledged: Arc<Semaphore>,
}

impl Session {
    /// Until the end.
    pub(super) async fn talk(
        mut self,
        events: &mpsc::Sender<Event>,
        holds: &mut watch::Receiver<bool>,
        ending: &CancellationToken,
    ) -> Event {
        let (inside, mut insides) = mpsc::channel(8);
        if events.send(Event::Answered(self.media.clone())).await.is_err() {
            return self.hang_up().await;
        }
        if let Some(goodbye) = self.incoming.goodbye()
            && let Some(ended) = self.asked(goodbye, events, &inside).await
        {
            return ended;
        }
        loop {
            let due = self.timer.as_ref().map(SessionTimer::next);
            let again = self.again;
            let ended = tokio::select! {
                () = ending.cancelled() => return self.hang_up().await,
                Ok(()) = holds.changed() => {
                    let held = *holds.borrow_and_update();
                    self.want(Purpose::Hold(held), events, &inside).await;
                    None
                }
                Some(transaction) = self.incoming.recv() => self.asked(transaction, events, &inside).await,
                Some(happened) = insides.recv() => self.happened(happened, events, &inside).await,
                () = until(due.map(|(at, _)| Instant::from_std(at))) => match due {
                    Some((_, Due::Refresh)) => {
                        if let Some(timer) = &mut self.timer {
                            timer.refreshing(Instant::now().into_std());
                        }
                        self.want(Purpose::Refresh, events, &inside).await;
                        None
                    }
                    _ => Some(Event::Failed(Failure::Lost)),
                },
                () = until(again.map(|(at, _)| at)) => {
                    if let Some((_, purpose)) = self.again.take() {
                        self.want(purpose, events, &inside).await;
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

    /// Asks now, or as soon as it may: when what is being asked is answered, and when two requests that crossed have had
    /// their time. What is so already is not asked for.
    async fn want(&mut self, purpose: Purpose, events: &mpsc::Sender<Event>, inside: &mpsc::Sender<Inside>) {
        if let Some(asking) = self.asking {
            self.wish = Some(purpose.after(self.wish)).filter(|wish| *wish != asking);
            return;
        }
        let is_so = purpose == Purpose::Hold(self.local.direction == Direction::SendOnly);
        let again = self.again.take().filter(|(_, before)| !is_so || *before == Purpose::Refresh);
        if is_so {
            self.again = again;
            return self.tell_hold(purpose, true, events).await;
        }
        if let Some((at, before)) = again {
            self.again = Some((at, purpose.after(Some(before))));
            return;
        }
        self.asking = Some(purpose);
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
                    self.want(wish, events, inside).await;
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

    /// What became of the last wish; of one that was overtaken nobody needs to hear.
    async fn tell_hold(&self, purpose: Purpose, accepted: bool, events: &mpsc::Sender<Event>) {
        if let Purpose::Hold(held) = purpose
            && !matches!(self.wish, Some(Purpose::Hold(_)))
        {
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
        // Another branch of the same call is none of this session's business.
        if !self.dialog.is_from_them(&transaction.original) {
            let _ = transaction.reply(StatusCode::CallTransactionDoesNotExist).await;
            return None;
        }
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
        let waiting = self.unacknowledged.clone().try_acquire_owned();
        let Ok(waiting) = waiting else {
            // RFC 3261, section 14.2: one offer after the other.
            let later = vec![Header::RetryAfter("2".into())];
            tokio::spawn(async move { transaction.reply_with(StatusCode::ServerInternalError, later, None).await });
            return None;
        };
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
        let acknowledged = acknowledge(transaction, status, headers, body, offers, inside.clone());
        tokio::spawn(async move {
            acknowledged.await;
            drop(waiting);
        });
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

pub(super) fn min_se() -> Header {
    Header::MinSE(timer::MIN_INTERVAL.as_secs().to_string().into())
}

pub(super) fn expires(headers: &Headers) -> Option<Expires> {
    headers.iter().find_map(|header| match header {
        Header::SessionExpires(expires) => Expires::parse(expires.value()),
        _ => None,
    })
}

pub(super) async fn bye(shared: Arc<Shared>, dialog: Arc<Dialog>, hop: Hop, trunk: Trunk) {
    let credential = trunk.credential.as_ref();
    // Whatever it answers, the session is over for us (RFC 3261, section 15.1.1).
    let _ = shared.ask_within(&dialog, Method::Bye, Vec::new(), Vec::new(), &hop, credential).await;
}
