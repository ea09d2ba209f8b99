//! One call, as a state machine without sockets and clocks: what happened goes in with its time, what to do comes out.
//!
//! A call has two sides, each with a life of its own, and an end. The *browser* connects, is lost, connects again and
//! closes. The *trunk* dials, rings, answers and is over. The end is decided once, by whoever comes first; from then on
//! nothing counts but to leave both sides properly: CANCEL or BYE on the trunk, a word to the widget. [`State`] is what
//! the three look like together.
//!
//! Time is data, too: [`Call::deadline`] says when the call next wants a [`Input::Tick`]; each `Timer` is one row of
//! one table. So every call ends, even when nobody ever says anything again.

use std::time::{Duration, Instant};

use crate::{
    codes::{ErrorCode, Reason},
    control::{self, Digits, FromWidget, ToWidget},
};

/// From the start until the browser's media is connected: ICE and DTLS.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// From the INVITE until an answer.
pub const RING_LIMIT: Duration = Duration::from_secs(60);
/// Without a packet from a side that should send.
pub const MEDIA_LIMIT: Duration = Duration::from_secs(20);
/// From losing the browser to giving it up. ICE sees the loss after about 4 s, and a dead browser's call is to be over
/// after 35.
pub const RECONNECT_LIMIT: Duration = Duration::from_secs(25);
/// From the start, whatever happens (contract section 3, "Limits").
pub const CALL_LIMIT: Duration = domain::call::LONGEST;
/// From the end until the browser is closed, unless it closes itself: the last word must reach the widget first.
pub const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
/// From the end until the trunk is given up: 64·T1, when SIP itself gives up a transaction (RFC 3261, section 17).
pub const LEAVE_LIMIT: Duration = Duration::from_secs(32);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// On the browser's side.
    Browser(Browser),
    /// On the trunk's side.
    Trunk(Trunk),
    /// The widget said something on the channel `control`.
    Widget(FromWidget),
    /// The widget asked by HTTP to end the call, for what it noticed if it says so.
    Delete(Option<ErrorCode>),
    /// A packet of audio came from a side. Once a second and side is often enough.
    Media(Leg),
    /// This server is to stop.
    Drain,
    /// The app was deleted.
    Deleted,
    /// Time passed.
    Tick,
}

/// What happened on the browser's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// ICE and DTLS are up, for the first time or again.
    Connected,
    /// Its checks are not answered at present.
    Disconnected,
    /// The connection cannot be saved.
    Failed,
    /// The browser closed the connection.
    Closed,
}

/// What happened on the trunk's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trunk {
    /// The INVITE arrived: 100, or any other provisional answer that says no more.
    Trying,
    /// 180.
    Ringing,
    /// 183 with a description: audio flows before the answer.
    Early,
    /// 200, acknowledged by the leg.
    Answered,
    /// The far side put us on hold.
    Held,
    /// The far side took us back from hold.
    Resumed,
    /// The far side answered our [`Output::Hold`]: whether it is on hold now.
    OnHold(bool),
    /// A final answer of 300 or more; no retry is left.
    Rejected(u16),
    /// The far side hung up.
    Bye,
    /// The leg broke and is over, nothing is to be sent: no way to the provider, no answer at all, a dead dialog.
    Failed,
    /// The leg is over after our [`Output::Bye`] or [`Output::Cancel`].
    Over,
}

/// A side of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// WebRTC, towards the visitor.
    Browser,
    /// SIP, towards the contact centre.
    Trunk,
}

/// What to do. In the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Call the contact centre.
    SendInvite,
    /// Take the INVITE back.
    Cancel,
    /// Hang up on the trunk.
    Bye,
    /// Put the contact centre on hold (re-INVITE), or take it back.
    Hold(bool),
    /// Press keys towards the contact centre.
    Digits(Digits),
    /// Say this on the channel `control`.
    ToWidget(ToWidget),
    /// Let audio flow between the sides.
    StartRelay,
    /// Let it flow no more.
    StopRelay,
    /// Close the connection to the browser.
    CloseBrowser,
    /// Keep this in the call's row.
    WriteRow(Row),
    /// Report the end to page, code and integrations: once per call.
    Emit(End),
    /// Nothing comes any more; everything the call held can go.
    Ended,
}

/// What the call's row learns. Times are since the visitor started the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Somebody answered.
    Answered {
        /// When.
        after: Duration,
    },
    /// It is over.
    Ended {
        /// How.
        end: End,
        /// When somebody had answered, if at all.
        answered: Option<Duration>,
        /// The final SIP status other than success, if there was one.
        status: Option<u16>,
    },
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `call_ended`.
    Hangup {
        /// Whole seconds since the visitor started the call.
        duration: u64,
        /// Who hung up.
        reason: Reason,
    },
    /// `call_error`.
    Error {
        /// Whole seconds since the visitor started the call.
        duration: u64,
        /// Why.
        code: ErrorCode,
    },
}

impl End {
    /// Whole seconds since the visitor started the call.
    pub fn duration(self) -> u64 {
        let (Self::Hangup { duration, .. } | Self::Error { duration, .. }) = self;
        duration
    }

    fn for_widget(self) -> ToWidget {
        ToWidget::Ended(match self {
            Self::Hangup { reason, .. } => control::Ended::Hangup { reason },
            Self::Error { code, .. } => control::Ended::Error { error_code: code },
        })
    }
}

/// What a call looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The browser's media is coming up.
    Connecting,
    /// The INVITE is out.
    Dialling,
    /// The contact centre rings.
    Ringing,
    /// It sends audio before it answers.
    EarlyMedia,
    /// Both sides talk.
    Connected,
    /// The browser was there, and is lost for the moment. The trunk's side goes on.
    Reconnecting,
    /// The end is decided; the sides are being left.
    Ending,
    /// Over.
    Ended(End),
}

/// The browser's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrowserSide {
    Connecting,
    Up,
    Lost,
    Closed,
}

/// The trunk's side. Ordered: while a call lives, it only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TrunkSide {
    /// No INVITE was sent.
    Idle,
    /// An INVITE, and no answer of any kind: it must not be cancelled yet (RFC 3261, section 9.1).
    Sent,
    Dialling,
    Ringing,
    Early,
    Answered,
    /// To be cancelled as soon as that is allowed.
    CancelWanted,
    /// Cancelled. A 200 may have crossed the CANCEL.
    Cancelled,
    /// Our BYE is on its way.
    Leaving,
    Over,
}

/// Why a call wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Connect,
    Ring,
    BrowserMedia,
    TrunkMedia,
    Reconnect,
    Call,
    Farewell,
    Leave,
}

/// One moment at most per [`Timer`].
#[derive(Clone, Debug, Default)]
struct Timers([Option<Instant>; 8]);

impl Timers {
    const ALL: [Timer; 8] = [
        Timer::Connect,
        Timer::Ring,
        Timer::BrowserMedia,
        Timer::TrunkMedia,
        Timer::Reconnect,
        Timer::Call,
        Timer::Farewell,
        Timer::Leave,
    ];

    fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// The earliest, and which it is.
    fn next(&self) -> Option<(Instant, Timer)> {
        let set = Self::ALL.into_iter().filter_map(|timer| Some((self.0[timer as usize]?, timer)));
        set.min_by_key(|(at, _)| *at)
    }

    /// The earliest that is due, which is then no longer set.
    fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = self.next().filter(|(at, _)| *at <= now)?;
        self.clear(timer);
        Some(timer)
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    started: Instant,
    browser: BrowserSide,
    trunk: TrunkSide,
    /// Decided once.
    end: Option<End>,
    answered: Option<Duration>,
    status: Option<u16>,
    relaying: bool,
    /// We put the contact centre on hold.
    holding: bool,
    /// It put us on hold.
    held: bool,
    finished: bool,
    timers: Timers,
    outputs: Vec<Output>,
}

impl Call {
    /// A call whose visitor started it at `started` and whose browser has our answer.
    pub fn new(started: Instant) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Connect, started + CONNECT_LIMIT);
        timers.set(Timer::Call, started + CALL_LIMIT);
        Self {
            started,
            browser: BrowserSide::Connecting,
            trunk: TrunkSide::Idle,
            end: None,
            answered: None,
            status: None,
            relaying: false,
            holding: false,
            held: false,
            finished: false,
            timers,
            outputs: Vec::new(),
        }
    }

    /// What happened at `now`, and what to do about it. Timers that are due by then go first: an answer that comes after
    /// the time to answer is late, however late the driver is.
    #[must_use]
    pub fn input(&mut self, input: Input, now: Instant) -> Vec<Output> {
        while let Some(timer) = self.timers.take_due(now) {
            self.expired(timer, now);
        }
        if !self.finished {
            self.happened(input, now);
        }
        std::mem::take(&mut self.outputs)
    }

    /// When the call wants the next [`Input::Tick`]; `None`: never again, it has ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next().map(|(at, _)| at)
    }

    /// What it looks like.
    pub fn state(&self) -> State {
        match (self.end, self.browser, self.trunk) {
            (Some(end), ..) if self.finished => State::Ended(end),
            (Some(_), ..) => State::Ending,
            (None, BrowserSide::Connecting, _) => State::Connecting,
            (None, BrowserSide::Lost | BrowserSide::Closed, _) => State::Reconnecting,
            (None, BrowserSide::Up, TrunkSide::Ringing) => State::Ringing,
            (None, BrowserSide::Up, TrunkSide::Early) => State::EarlyMedia,
            (None, BrowserSide::Up, TrunkSide::Answered) => State::Connected,
            (None, BrowserSide::Up, _) => State::Dialling,
        }
    }

    fn happened(&mut self, input: Input, now: Instant) {
        match input {
            Input::Browser(event) => self.browser_event(event, now),
            Input::Trunk(event) => self.trunk_event(event, now),
            Input::Widget(FromWidget::HangUp(noticed)) | Input::Delete(noticed) => match noticed {
                None => self.hang_up(Reason::UserHangup, now),
                Some(code) => self.fail(code, now),
            },
            Input::Widget(FromWidget::Hold(on)) => self.hold(on, now),
            Input::Widget(FromWidget::Digits(digits)) => self.press(digits),
            Input::Media(leg) => self.heard(leg, now),
            Input::Drain => self.fail(ErrorCode::Internal, now),
            Input::Deleted => self.fail(ErrorCode::ProviderInactive, now),
            Input::Tick => {}
        }
    }

    fn expired(&mut self, timer: Timer, now: Instant) {
        match timer {
            Timer::Connect => self.fail(ErrorCode::NetworkUnreachable, now),
            Timer::Ring => self.fail(ErrorCode::NoAnswer, now),
            Timer::BrowserMedia | Timer::Reconnect => self.fail(ErrorCode::MediaFailed, now),
            Timer::TrunkMedia => self.fail(ErrorCode::NoAudio, now),
            Timer::Call => self.fail(ErrorCode::CallLimit, now),
            Timer::Farewell => self.close_browser(),
            Timer::Leave => self.trunk_over(),
        }
    }

    // The browser's side.

    fn browser_event(&mut self, event: Browser, now: Instant) {
        match (event, self.browser) {
            (Browser::Connected, BrowserSide::Connecting) => self.browser_connected(now),
            (Browser::Connected, BrowserSide::Lost) => self.browser_back(now),
            (Browser::Disconnected, BrowserSide::Up) => self.browser_lost(now),
            (Browser::Failed, BrowserSide::Connecting) => self.fail(ErrorCode::NetworkUnreachable, now),
            (Browser::Failed, BrowserSide::Up | BrowserSide::Lost) => self.fail(ErrorCode::MediaFailed, now),
            (Browser::Closed, BrowserSide::Connecting | BrowserSide::Up | BrowserSide::Lost) => {
                // A page that goes away closes its connection. Nobody is left to be told.
                self.close_browser();
                self.hang_up(Reason::UserHangup, now);
            }
            (Browser::Connected | Browser::Disconnected, _)
            | (Browser::Failed | Browser::Closed, BrowserSide::Closed) => {}
        }
    }

    /// Only now is the contact centre called: a visitor whose media cannot come through makes no telephone ring.
    fn browser_connected(&mut self, now: Instant) {
        self.browser = BrowserSide::Up;
        self.timers.clear(Timer::Connect);
        self.trunk = TrunkSide::Sent;
        self.timers.set(Timer::Ring, now + RING_LIMIT);
        self.outputs.push(Output::SendInvite);
    }

    fn browser_lost(&mut self, now: Instant) {
        self.browser = BrowserSide::Lost;
        if self.end.is_none() {
            self.timers.set(Timer::Reconnect, now + RECONNECT_LIMIT);
            self.watch_media(now);
        }
    }

    fn browser_back(&mut self, now: Instant) {
        self.browser = BrowserSide::Up;
        self.timers.clear(Timer::Reconnect);
        self.watch_media(now);
    }

    fn close_browser(&mut self) {
        self.timers.clear(Timer::Farewell);
        if self.browser != BrowserSide::Closed {
            self.browser = BrowserSide::Closed;
            self.outputs.push(Output::CloseBrowser);
            self.finish();
        }
    }

    // The trunk's side.

    fn trunk_event(&mut self, event: Trunk, now: Instant) {
        if self.trunk == TrunkSide::Idle || self.trunk == TrunkSide::Over {
            return;
        }
        match event {
            Trunk::Trying => self.progress(TrunkSide::Dialling),
            Trunk::Ringing => self.progress(TrunkSide::Ringing),
            Trunk::Early => self.progress(TrunkSide::Early),
            Trunk::Answered => self.picked_up(now),
            Trunk::Held => self.set_held(true, now),
            Trunk::Resumed => self.set_held(false, now),
            Trunk::OnHold(on) => self.set_holding(on, now),
            Trunk::Rejected(status) => self.rejected(status, now),
            Trunk::Bye | Trunk::Over if self.trunk >= TrunkSide::Answered => {
                self.trunk_over();
                self.hang_up(Reason::RemoteHangup, now);
            }
            Trunk::Bye | Trunk::Over | Trunk::Failed => {
                self.trunk_over();
                self.fail(ErrorCode::DestinationUnavailable, now);
            }
        }
    }

    /// A provisional answer. Later ones that say less (180 after 183) change nothing.
    fn progress(&mut self, to: TrunkSide) {
        if self.trunk == TrunkSide::CancelWanted {
            self.trunk = TrunkSide::Cancelled;
            self.outputs.push(Output::Cancel);
        }
        if self.trunk >= to {
            return;
        }
        self.trunk = to;
        match to {
            TrunkSide::Ringing => self.outputs.push(Output::ToWidget(ToWidget::Ringing)),
            TrunkSide::Early => {
                self.start_relay();
                self.outputs.push(Output::ToWidget(ToWidget::Early));
            }
            _ => {}
        }
    }

    fn picked_up(&mut self, now: Instant) {
        match self.trunk {
            TrunkSide::CancelWanted | TrunkSide::Cancelled => {
                // It crossed our CANCEL: the call exists at the far side, so it is hung up (RFC 3261, section 15).
                self.trunk = TrunkSide::Leaving;
                self.outputs.push(Output::Bye);
            }
            earlier if earlier < TrunkSide::Answered => {
                let after = self.since_start(now);
                self.trunk = TrunkSide::Answered;
                self.answered = Some(after);
                self.timers.clear(Timer::Ring);
                self.start_relay();
                self.watch_media(now);
                self.outputs.push(Output::ToWidget(ToWidget::Answered));
                self.outputs.push(Output::WriteRow(Row::Answered { after }));
            }
            _ => {}
        }
    }

    fn rejected(&mut self, status: u16, now: Instant) {
        match self.trunk {
            // What is rejected here is no INVITE that starts a call.
            TrunkSide::Answered | TrunkSide::Leaving => {}
            TrunkSide::CancelWanted | TrunkSide::Cancelled => self.trunk_over(),
            _ => {
                self.status = Some(status);
                self.trunk_over();
                self.fail(ErrorCode::of_status(status), now);
            }
        }
    }

    fn trunk_over(&mut self) {
        self.timers.clear(Timer::Leave);
        if self.trunk != TrunkSide::Over {
            self.trunk = TrunkSide::Over;
            self.finish();
        }
    }

    /// Leaves the trunk in the way its state asks for.
    fn leave_trunk(&mut self, now: Instant) {
        match self.trunk {
            TrunkSide::Sent => self.trunk = TrunkSide::CancelWanted,
            TrunkSide::Dialling | TrunkSide::Ringing | TrunkSide::Early => {
                self.trunk = TrunkSide::Cancelled;
                self.outputs.push(Output::Cancel);
            }
            TrunkSide::Answered => {
                self.trunk = TrunkSide::Leaving;
                self.outputs.push(Output::Bye);
            }
            TrunkSide::Idle => self.trunk = TrunkSide::Over,
            TrunkSide::CancelWanted | TrunkSide::Cancelled | TrunkSide::Leaving | TrunkSide::Over => {}
        }
        if self.trunk != TrunkSide::Over {
            self.timers.set(Timer::Leave, now + LEAVE_LIMIT);
        }
    }

    // Between the sides.

    fn start_relay(&mut self) {
        if !std::mem::replace(&mut self.relaying, true) {
            self.outputs.push(Output::StartRelay);
        }
    }

    /// Every wish is passed on, also one for what seems to be so: the answer to an older one may be on its way.
    fn hold(&mut self, on: bool, now: Instant) {
        if self.trunk != TrunkSide::Answered {
            return;
        }
        if std::mem::replace(&mut self.holding, on) != on {
            self.watch_media(now);
        }
        self.outputs.push(Output::Hold(on));
    }

    /// What became of our wish; one that was refused is no longer wished.
    fn set_holding(&mut self, on: bool, now: Instant) {
        if self.trunk == TrunkSide::Answered {
            self.holding = on;
            self.watch_media(now);
            self.outputs.push(Output::ToWidget(ToWidget::Hold { on }));
        }
    }

    fn set_held(&mut self, on: bool, now: Instant) {
        if self.trunk == TrunkSide::Answered && self.held != on {
            self.held = on;
            self.watch_media(now);
            self.outputs.push(Output::ToWidget(ToWidget::Held { on }));
        }
    }

    /// A menu may want keys before anybody answers.
    fn press(&mut self, digits: Digits) {
        if matches!(self.trunk, TrunkSide::Early | TrunkSide::Answered) {
            self.outputs.push(Output::Digits(digits));
        }
    }

    fn heard(&mut self, leg: Leg, now: Instant) {
        if self.expects_media(leg) {
            self.timers.set(media_timer(leg), now + MEDIA_LIMIT);
        }
    }

    /// Begins to wait for media anew on each side that should send, and waits no more on one that need not.
    fn watch_media(&mut self, now: Instant) {
        for leg in [Leg::Browser, Leg::Trunk] {
            if self.expects_media(leg) {
                self.timers.set(media_timer(leg), now + MEDIA_LIMIT);
            } else {
                self.timers.clear(media_timer(leg));
            }
        }
    }

    /// Both sides send once somebody answered; a contact centre on hold, by us or by itself, may be silent.
    fn expects_media(&self, leg: Leg) -> bool {
        self.trunk == TrunkSide::Answered
            && match leg {
                Leg::Browser => self.browser == BrowserSide::Up,
                Leg::Trunk => !self.holding && !self.held,
            }
    }

    // The end.

    fn hang_up(&mut self, reason: Reason, now: Instant) {
        self.decide(End::Hangup { duration: self.since_start(now).as_secs(), reason }, now);
    }

    fn fail(&mut self, code: ErrorCode, now: Instant) {
        self.decide(End::Error { duration: self.since_start(now).as_secs(), code }, now);
    }

    /// The first end counts; whatever wants to end the call afterwards finds it ended.
    fn decide(&mut self, end: End, now: Instant) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.timers = Timers::default();
        if std::mem::replace(&mut self.relaying, false) {
            self.outputs.push(Output::StopRelay);
        }
        self.leave_trunk(now);
        self.outputs.push(Output::WriteRow(Row::Ended { end, answered: self.answered, status: self.status }));
        self.outputs.push(Output::Emit(end));
        self.leave_browser(end, now);
        self.finish();
    }

    /// A browser that can hear is told, and closes by itself or after a moment. The channel repeats what is lost, so one
    /// that is back in time hears it, too.
    fn leave_browser(&mut self, end: End, now: Instant) {
        match self.browser {
            BrowserSide::Up | BrowserSide::Lost => {
                self.outputs.push(Output::ToWidget(end.for_widget()));
                self.timers.set(Timer::Farewell, now + FAREWELL_LIMIT);
            }
            BrowserSide::Connecting => self.close_browser(),
            BrowserSide::Closed => {}
        }
    }

    /// Over, when the end is decided and both sides are left.
    fn finish(&mut self) {
        let left = self.browser == BrowserSide::Closed && self.trunk == TrunkSide::Over;
        if self.end.is_some() && left && !std::mem::replace(&mut self.finished, true) {
            self.outputs.push(Output::Ended);
        }
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

fn media_timer(leg: Leg) -> Timer {
    match leg {
        Leg::Browser => Timer::BrowserMedia,
        Leg::Trunk => Timer::TrunkMedia,
    }
}

#[cfg(test)]
mod tests;
