//! One task for each call. It owns both legs: tells [`Call`] what happens on them, does what it says, and moves audio
//! between them. Nothing is shared with another call, so nothing that happens in one can end another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::app::Codec;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant as Clock, sleep_until},
};

use crate::{
    browser::{self, Accepted, BrowserLeg},
    call::{Browser, Call, Input, Leg, Output, Row, State, Trunk},
    calls::{Command, Place},
    control::{Reader, ToWidget},
    path::Path,
    quality::{self, Meter, Reception},
    record::{Note, Recorder},
    rtp::{Format, Origin, Packet, rtcp::Reports},
    sip::{self, Invite, SipLeg, sdp::Media},
};

/// How often a call is told that a side sends.
const HEARD_EVERY: Duration = Duration::from_secs(1);

/// Runs a call until everything about it is done. A call that panics ends alone: its legs are dropped, which says goodbye
/// on both sides, and its end is written down as a fault of ours.
pub fn start(bridge: Bridge, recorder: Recorder, place: Place) {
    let (notes, taken) = mpsc::unbounded_channel();
    tokio::spawn(bridge.run(notes));
    tokio::spawn(async move {
        recorder.run(taken).await;
        drop(place);
    });
}

/// One call and what it holds.
pub struct Bridge {
    call: Call,
    commands: mpsc::Receiver<Command>,
    browser: Box<dyn BrowserLeg>,
    browser_open: bool,
    /// How audio is marked on the browser's side, both ways.
    format: Format,
    trunks: Arc<dyn SipLeg>,
    /// The call to place once the browser is connected.
    invite: Option<Invite>,
    trunk: Option<sip::Leg>,
    codec: Option<Codec>,
    reader: Reader,
    relaying: bool,
    /// Towards the trunk; held, when we hold.
    up: Path,
    down: Path,
    /// When the call was last told that the browser, the trunk sent.
    heard: [Option<Instant>; 2],
    judge: Option<Judge>,
}

/// How both legs sound.
struct Judge {
    next: Instant,
    browser: Meter,
    trunk: Meter,
    reception: Reception,
    reports: Reports,
    /// Our next report goes out with the next judgement, and from then on with every other one.
    reports_next: bool,
}

/// What the task woke up for.
enum Happened {
    Command(Command),
    Browser(browser::Event),
    Trunk(Option<sip::Event>),
    Time,
}

impl Bridge {
    /// A call that the visitor started at `started`, whose browser has our answer.
    pub fn new(
        started: Instant,
        Accepted { format, leg, .. }: Accepted,
        commands: mpsc::Receiver<Command>,
        trunks: Arc<dyn SipLeg>,
        invite: Invite,
    ) -> Self {
        Self {
            call: Call::new(started),
            commands,
            browser: leg,
            browser_open: true,
            format,
            trunks,
            invite: Some(invite),
            trunk: None,
            codec: None,
            reader: Reader::default(),
            relaying: false,
            up: Path::new(origin()),
            down: Path::new(origin()),
            heard: [None; 2],
            judge: None,
        }
    }

    /// Until the call has ended.
    async fn run(mut self, notes: mpsc::UnboundedSender<Note>) {
        loop {
            let happened = self.next().await;
            let now = Instant::now();
            let input = match happened {
                Happened::Command(command) => self.command(command).await,
                Happened::Browser(event) => self.browser_event(event, now),
                Happened::Trunk(event) => self.trunk_event(event, now).await,
                Happened::Time => {
                    self.time(now).await;
                    Some(Input::Tick)
                }
            };
            if let Some(input) = input
                && self.tell(input, now, &notes).await
            {
                break;
            }
        }
        if self.reader.ignored() > 0 {
            tracing::debug!(messages = self.reader.ignored(), "call.control_ignored");
        }
    }

    /// Waits for what happens next.
    async fn next(&mut self) -> Happened {
        let deadlines = [
            self.call.deadline(),
            self.up.deadline(),
            self.down.deadline(),
            self.judge.as_ref().map(|judge| judge.next),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let Self { commands, browser, browser_open, trunk, .. } = self;
        let trunk = async {
            match trunk {
                Some(leg) => leg.recv().await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match deadline {
                Some(at) => sleep_until(Clock::from_std(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(command) = commands.recv() => Happened::Command(command),
            event = browser.recv(), if *browser_open => Happened::Browser(event),
            event = trunk => Happened::Trunk(event),
            () = time => Happened::Time,
        }
    }

    async fn command(&mut self, command: Command) -> Option<Input> {
        match command {
            Command::HangUp(noticed) => Some(Input::Delete(noticed)),
            Command::Drain => Some(Input::Drain),
            Command::Deleted => Some(Input::Deleted),
            // It is over, as whoever asked learns from getting no answer.
            Command::Restart { .. } if matches!(self.call.state(), State::Ending | State::Ended(_)) => None,
            Command::Restart { offer, answer } => {
                // Nobody waits for it any more when the request was given up.
                let _ = answer.send(self.browser.restart(&offer).await);
                None
            }
        }
    }

    fn browser_event(&mut self, event: browser::Event, now: Instant) -> Option<Input> {
        use browser::Event;
        Some(match event {
            Event::Connected => Input::Browser(Browser::Connected),
            Event::Disconnected => Input::Browser(Browser::Disconnected),
            Event::Failed => Input::Browser(Browser::Failed),
            Event::Closed => {
                self.browser_open = false;
                Input::Browser(Browser::Closed)
            }
            Event::Control(text) => Input::Widget(self.reader.read(text.as_bytes())?),
            Event::Rtp(packet) => {
                self.pass_up(packet, now);
                return self.hears(Leg::Browser, now);
            }
        })
    }

    async fn trunk_event(&mut self, event: Option<sip::Event>, now: Instant) -> Option<Input> {
        use sip::Event;
        let Some(event) = event else {
            self.trunk = None;
            return None;
        };
        Some(Input::Trunk(match event {
            Event::Trying => Trunk::Trying,
            Event::Ringing => Trunk::Ringing,
            Event::Early(media) => self.negotiated(&media, Trunk::Early, now),
            Event::Answered(media) => self.negotiated(&media, Trunk::Answered, now),
            // Nothing new to the call, only to its audio.
            Event::Changed(media) => match self.negotiated(&media, Trunk::Trying, now) {
                Trunk::Trying => return None,
                failed => failed,
            },
            Event::Held => Trunk::Held,
            Event::Resumed => Trunk::Resumed,
            Event::HoldAnswered { held, accepted } => {
                // Refused, it is as it was before.
                self.hold(held == accepted, now);
                Trunk::OnHold(self.up.is_held())
            }
            Event::Rejected { status } => Trunk::Rejected(status),
            Event::Bye => Trunk::Bye,
            Event::Ended => Trunk::Over,
            Event::Failed(failure) => {
                tracing::info!(%failure, "call.trunk_failed");
                Trunk::Failed
            }
            Event::Rtp(packet) => {
                self.pass_down(packet, now).await;
                return self.hears(Leg::Trunk, now);
            }
            Event::Rtcp(bytes) => {
                if let (Some(judge), Some(sent)) = (&mut self.judge, self.up.total(now)) {
                    judge.reports.read(&bytes, sent.ssrc, now, since_epoch());
                }
                return None;
            }
        }))
    }

    /// Takes over what the trunk's side agreed to. Should there be no way between both codecs, the leg is left.
    fn negotiated(&mut self, media: &Media, then: Trunk, now: Instant) -> Trunk {
        self.codec = Some(media.codec());
        let up = self.up.negotiated(self.format, media.send, now);
        let down = self.down.negotiated(media.receive, self.format, now);
        match up.and(down) {
            Ok(()) => then,
            Err(unfit) => {
                tracing::warn!(%unfit, "call.unfit");
                if let Some(trunk) = self.trunk.take() {
                    trunk.hang_up();
                }
                Trunk::Failed
            }
        }
    }

    // Audio.

    /// Whoever is on hold hears nothing of the visitor.
    fn hold(&mut self, on: bool, now: Instant) {
        if on {
            self.up.hold();
        } else if let Err(unfit) = self.up.resume(now) {
            tracing::warn!(%unfit, "call.unfit");
        }
    }

    fn pass_up(&mut self, packet: Packet, now: Instant) {
        if !self.relaying {
            return;
        }
        if let Some(packet) = self.up.push(packet, now) {
            self.send_up(&packet);
        }
    }

    fn send_up(&mut self, packet: &Packet) {
        if let Some(trunk) = self.trunk.as_mut().filter(|_| self.relaying) {
            trunk.send_rtp(packet);
        }
    }

    async fn pass_down(&mut self, packet: Packet, now: Instant) {
        if let Some(judge) = &mut self.judge {
            judge.reception.packet(&packet, now);
        }
        if !self.relaying {
            return;
        }
        if let Some(packet) = self.down.push(packet, now) {
            self.browser.send_rtp(packet).await;
        }
    }

    /// Sends what is due, and judges when that is.
    async fn time(&mut self, now: Instant) {
        while let Some(packet) = self.up.pull(now) {
            self.send_up(&packet);
        }
        while let Some(packet) = self.down.pull(now) {
            if self.relaying {
                self.browser.send_rtp(packet).await;
            }
        }
        self.judge(now).await;
    }

    /// A side sends: the call hears of it now and then.
    fn hears(&mut self, leg: Leg, now: Instant) -> Option<Input> {
        let heard = &mut self.heard[leg as usize];
        let due = heard.is_none_or(|at| now.saturating_duration_since(at) >= HEARD_EVERY);
        if due {
            *heard = Some(now);
        }
        due.then_some(Input::Media(leg))
    }

    async fn judge(&mut self, now: Instant) {
        let Some(judge) = self.judge.as_mut().filter(|judge| judge.next <= now) else { return };
        judge.next = now + quality::INTERVAL;
        let stats = self.browser.stats().await;
        let browser = judge.browser.report(stats.received, stats.round_trip);
        let trunk = judge.trunk.report(judge.reception.flow(), judge.reports.round_trip());
        let reports = judge.reports_next;
        judge.reports_next = !reports;
        if reports && let (Some(sent), Some(leg)) = (self.up.total(now), &mut self.trunk) {
            leg.send_rtcp(&judge.reports.write(sent, &judge.reception, now, since_epoch()));
        }
        if let Some(report) = browser {
            let quality = ToWidget::Quality(report.for_widget(trunk.as_ref()));
            self.browser.send_control(quality.to_json()).await;
        }
    }

    // What the call wants.

    /// Tells the call what happened and does what it says; whether it has ended.
    async fn tell(&mut self, input: Input, now: Instant, notes: &mpsc::UnboundedSender<Note>) -> bool {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.call.input(input, now) {
                if output == Output::Ended {
                    return true;
                }
                inputs.extend(self.act(output, now, notes).await);
            }
        }
        false
    }

    /// Does one thing; what that in turn makes happen at once.
    async fn act(&mut self, output: Output, now: Instant, notes: &mpsc::UnboundedSender<Note>) -> Option<Input> {
        match output {
            Output::SendInvite => return self.invite().await,
            Output::Cancel | Output::Bye => {
                if let Some(trunk) = &self.trunk {
                    trunk.hang_up();
                }
            }
            Output::Hold(on) => {
                self.hold(on, now);
                if let Some(trunk) = &self.trunk {
                    trunk.hold(on);
                }
            }
            Output::Digits(digits) => self.up.press(&digits, now),
            Output::ToWidget(message) => self.browser.send_control(message.to_json()).await,
            Output::StartRelay => self.start_relay(now),
            Output::StopRelay => self.relaying = false,
            Output::CloseBrowser => self.browser.close().await,
            Output::WriteRow(row) => self.note(row, notes),
            // The recorder outlives the call.
            Output::Emit(end) => drop(notes.send(Note::End(end))),
            Output::Ended => {}
        }
        None
    }

    async fn invite(&mut self) -> Option<Input> {
        let invite = self.invite.take()?;
        match self.trunks.invite(invite).await {
            Ok(leg) => {
                self.trunk = Some(leg);
                None
            }
            Err(cause) => {
                tracing::error!(%cause, "call.no_trunk_ports");
                Some(Input::Trunk(Trunk::Failed))
            }
        }
    }

    fn start_relay(&mut self, now: Instant) {
        self.relaying = true;
        let trunk = self.codec.unwrap_or(self.format.codec);
        self.judge = Some(Judge {
            next: now + quality::INTERVAL,
            browser: Meter::new(self.format.codec),
            trunk: Meter::new(trunk),
            reception: Reception::new(trunk),
            reports: Reports::new(edge::chance::hex::<8>()),
            reports_next: true,
        });
    }

    fn note(&mut self, row: Row, notes: &mpsc::UnboundedSender<Note>) {
        let over = matches!(row, Row::Ended { .. });
        let judge = if over { self.judge.take() } else { None };
        let quality = judge.map(|judge| json!({"browser": judge.browser.summary(), "trunk": judge.trunk.summary()}));
        let _ = notes.send(Note::Row { row, codec: self.codec, quality });
    }
}

fn since_epoch() -> Duration {
    Duration::from_millis(u64::try_from(edge::clock::now().as_millis()).unwrap_or(0))
}

fn origin() -> Origin {
    let [a, b, c, d, e, f, g, h, i, j] = edge::chance::bytes();
    Origin {
        ssrc: u32::from_be_bytes([a, b, c, d]),
        sequence: u16::from_be_bytes([e, f]),
        timestamp: u32::from_be_bytes([g, h, i, j]),
    }
}
