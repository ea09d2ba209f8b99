use proptest::prelude::*;

use super::*;

const INPUTS: [(&str, Input); 29] = [
    ("connected", Input::Browser(Browser::Connected)),
    ("lost", Input::Browser(Browser::Disconnected)),
    ("browser-failed", Input::Browser(Browser::Failed)),
    ("closed", Input::Browser(Browser::Closed)),
    ("trying", Input::Trunk(Trunk::Trying)),
    ("ringing", Input::Trunk(Trunk::Ringing)),
    ("early", Input::Trunk(Trunk::Early)),
    ("answered", Input::Trunk(Trunk::Answered)),
    ("held", Input::Trunk(Trunk::Held)),
    ("resumed", Input::Trunk(Trunk::Resumed)),
    ("on-hold", Input::Trunk(Trunk::OnHold(true))),
    ("off-hold", Input::Trunk(Trunk::OnHold(false))),
    ("486", Input::Trunk(Trunk::Rejected(486))),
    ("487", Input::Trunk(Trunk::Rejected(487))),
    ("503", Input::Trunk(Trunk::Rejected(503))),
    ("bye", Input::Trunk(Trunk::Bye)),
    ("trunk-failed", Input::Trunk(Trunk::Failed)),
    ("over", Input::Trunk(Trunk::Over)),
    ("hang-up", Input::Widget(FromWidget::HangUp(None))),
    ("gives-up", Input::Widget(FromWidget::HangUp(Some(ErrorCode::NoAudio)))),
    ("hold", Input::Widget(FromWidget::Hold(true))),
    ("unhold", Input::Widget(FromWidget::Hold(false))),
    ("delete", Input::Delete(None)),
    ("delete-lost", Input::Delete(Some(ErrorCode::MediaFailed))),
    ("hear-browser", Input::Media(Leg::Browser)),
    ("hear-trunk", Input::Media(Leg::Trunk)),
    ("drain", Input::Drain),
    ("tick", Input::Tick),
    ("press", Input::Tick), // Digits are no constant: see `input`.
];

fn input(word: &str) -> Input {
    if word == "press" {
        return Input::Widget(FromWidget::Digits(Digits::new("1#", 100).expect("digits")));
    }
    INPUTS.iter().find(|(name, _)| *name == word).map(|(_, input)| input.clone()).expect(word)
}

/// A call that is driven as a driver should: woken at its deadlines, exactly.
struct Play {
    call: Call,
    start: Instant,
    /// Milliseconds since the start.
    now: u64,
    log: Vec<(u64, Output)>,
}

impl Play {
    fn new() -> Self {
        let start = Instant::now();
        Self { call: Call::new(start), start, now: 0, log: Vec::new() }
    }

    fn step(&mut self, at: u64, input: Input) {
        self.now = at;
        let outputs = self.call.input(input, self.start + Duration::from_millis(at));
        self.log.extend(outputs.into_iter().map(|output| (at, output)));
    }

    fn input(&mut self, at: u64, input: Input) {
        while let Some(due) = self.deadline().filter(|due| *due <= at) {
            self.step(due, Input::Tick);
        }
        self.step(at, input);
    }

    fn finish(&mut self) {
        while let Some(due) = self.deadline() {
            self.step(due.max(self.now), Input::Tick);
        }
    }

    fn deadline(&self) -> Option<u64> {
        let millis = (self.call.deadline()? - self.start).as_millis();
        Some(u64::try_from(millis).expect("a short call"))
    }

    fn count(&self, wanted: impl Fn(&Output) -> bool) -> usize {
        self.log.iter().filter(|(_, output)| wanted(output)).count()
    }

    fn emitted(&self) -> Option<(u64, End)> {
        self.log.iter().find_map(|(at, output)| match output {
            Output::Emit(end) => Some((*at, *end)),
            _ => None,
        })
    }
}

/// Plays a script such as `0 connected, 1.5 ringing` and writes down what came out; `…` at its end plays on to the
/// call's own end.
fn play(script: &str) -> String {
    let mut play = Play::new();
    for line in script.split(", ") {
        match line.split_once(' ') {
            None => play.finish(),
            Some((at, word)) => {
                let at = Duration::from_secs_f64(at.parse().expect(line));
                play.input(u64::try_from(at.as_millis()).expect("short"), input(word));
            }
        }
    }
    let words =
        play.log.iter().map(|(at, output)| format!("{} {}", Duration::from_millis(*at).as_secs_f64(), word(output)));
    words.collect::<Vec<_>>().join(", ")
}

fn word(output: &Output) -> String {
    match output {
        Output::SendInvite => "INVITE".into(),
        Output::Cancel => "CANCEL".into(),
        Output::Bye => "BYE".into(),
        Output::Hold(on) => format!("HOLD {on}"),
        Output::Digits(digits) => format!("digits {}", digits.chars().collect::<String>()),
        Output::ToWidget(ToWidget::Ended(_)) => "told".into(),
        Output::ToWidget(message) => format!("tell {message:?}"),
        Output::StartRelay => "relay".into(),
        Output::StopRelay => "stop".into(),
        Output::CloseBrowser => "close".into(),
        Output::WriteRow(Row::Answered { after }) => format!("row {}", after.as_secs_f64()),
        Output::WriteRow(Row::Ended { answered, status, .. }) => {
            let answered = answered.map_or("-".to_owned(), |after| after.as_secs_f64().to_string());
            format!("row end {answered} {}", status.unwrap_or(0))
        }
        Output::Emit(End::Hangup { duration, reason }) => format!("ended {duration} {reason:?}"),
        Output::Emit(End::Error { duration, code }) => format!("error {duration} {code:?}"),
        Output::Ended => "END".into(),
    }
}

#[track_caller]
fn assert_plays(script: &str, expected: &str) {
    assert_eq!(play(script), expected, "\nof: {script}");
}

#[test]
fn a_call_from_tap_to_hang_up() {
    assert_plays(
        "0.1 connected, 0.2 trying, 1 ringing, 5.5 answered, 6 hear-browser, 6 hear-trunk, 20 hang-up, 20.1 over, 20.2 closed",
        "0.1 INVITE, 1 tell Ringing, 5.5 relay, 5.5 tell Answered, 5.5 row 5.5, \
         20 stop, 20 BYE, 20 row end 5.5 0, 20 ended 20 UserHangup, 20 told, 20.2 close, 20.2 END",
    );
    assert_plays(
        "0 connected, 1 early, 1.1 ringing, 1.2 press, 2 answered, 9.9 bye, …",
        "0 INVITE, 1 relay, 1 tell Early, 1.2 digits 1#, 2 tell Answered, 2 row 2, \
         9.9 stop, 9.9 row end 2 0, 9.9 ended 9 RemoteHangup, 9.9 told, 11.9 close, 11.9 END",
    );
}

#[test]
fn the_ways_a_start_fails() {
    for (script, expected) in [
        ("…", "15 row end - 0, 15 error 15 NetworkUnreachable, 15 close, 15 END"),
        ("1 lost, 2 browser-failed, …", "2 row end - 0, 2 error 2 NetworkUnreachable, 2 close, 2 END"),
        ("3 delete, …", "3 row end - 0, 3 ended 3 UserHangup, 3 close, 3 END"),
        ("3 delete-lost, …", "3 row end - 0, 3 error 3 MediaFailed, 3 close, 3 END"),
        ("3 closed, …", "3 close, 3 row end - 0, 3 ended 3 UserHangup, 3 END"),
        ("3 drain, …", "3 row end - 0, 3 error 3 Internal, 3 close, 3 END"),
        // Nothing of the trunk is possible before the INVITE; a browser that comes after the end comes too late.
        ("1 answered, 2 bye, 3 delete, 4 connected", "3 row end - 0, 3 ended 3 UserHangup, 3 close, 3 END"),
        ("1 connected, 2 486, …", "1 INVITE, 2 row end - 486, 2 error 2 Busy, 2 told, 4 close, 4 END"),
        (
            "1 connected, 2 ringing, 3 503, 3.5 closed",
            "1 INVITE, 2 tell Ringing, 3 row end - 503, 3 error 3 DestinationUnavailable, 3 told, 3.5 close, 3.5 END",
        ),
        (
            "1 connected, 2 trunk-failed, …",
            "1 INVITE, 2 row end - 0, 2 error 2 DestinationUnavailable, 2 told, 4 close, 4 END",
        ),
        // A far side may not hang up what it has not answered; if it does, it was no conversation.
        (
            "1 connected, 2 ringing, 3 bye, …",
            "1 INVITE, 2 tell Ringing, 3 row end - 0, 3 error 3 DestinationUnavailable, 3 told, 5 close, 5 END",
        ),
        (
            "1 connected, 1 trying, 2 ringing, 61.5 487, …",
            "1 INVITE, 2 tell Ringing, 61 CANCEL, 61 row end - 0, 61 error 61 NoAnswer, 61 told, 63 close, 63 END",
        ),
    ] {
        assert_plays(script, expected);
    }
}

#[test]
fn hanging_up_before_an_answer_takes_the_invite_back() {
    for (script, expected) in [
        (
            "0 connected, 1 ringing, 2 hang-up, 2.1 487, …",
            "0 INVITE, 1 tell Ringing, 2 CANCEL, 2 row end - 0, 2 ended 2 UserHangup, 2 told, 4 close, 4 END",
        ),
        // CANCEL must wait for a provisional answer.
        (
            "0 connected, 2 hang-up, 2.5 trying, 2.6 487, …",
            "0 INVITE, 2 row end - 0, 2 ended 2 UserHangup, 2 told, 2.5 CANCEL, 4 close, 4 END",
        ),
        ("0 connected, 2 hang-up, 2.5 486, …", "0 INVITE, 2 row end - 0, 2 ended 2 UserHangup, 2 told, 4 close, 4 END"),
        // The answer crosses the CANCEL, or comes where a CANCEL was not allowed yet.
        (
            "0 connected, 1 ringing, 2 hang-up, 2.1 answered, 2.2 487, 2.3 over, …",
            "0 INVITE, 1 tell Ringing, 2 CANCEL, 2 row end - 0, 2 ended 2 UserHangup, 2 told, 2.1 BYE, 4 close, 4 END",
        ),
        (
            "0 connected, 2 hang-up, 2.5 answered, 2.6 over, …",
            "0 INVITE, 2 row end - 0, 2 ended 2 UserHangup, 2 told, 2.5 BYE, 4 close, 4 END",
        ),
        // A provider that says nothing at all.
        ("0 connected, …", "0 INVITE, 60 row end - 0, 60 error 60 NoAnswer, 60 told, 62 close, 92 END"),
        (
            "0 connected, 1 ringing, 2 delete, 2 hang-up, …",
            "0 INVITE, 1 tell Ringing, 2 CANCEL, 2 row end - 0, 2 ended 2 UserHangup, 2 told, 4 close, 34 END",
        ),
        // The browser goes while it rings.
        (
            "0 connected, 1 ringing, 2 closed, 2.1 487",
            "0 INVITE, 1 tell Ringing, 2 close, 2 CANCEL, 2 row end - 0, 2 ended 2 UserHangup, 2.1 END",
        ),
        (
            "0 connected, 1 ringing, 2 lost, 27.1 487, …",
            "0 INVITE, 1 tell Ringing, 27 CANCEL, 27 row end - 0, 27 error 27 MediaFailed, 27 told, 29 close, 29 END",
        ),
        (
            "0 connected, 1 early, 2 browser-failed, 2.1 487, …",
            "0 INVITE, 1 relay, 1 tell Early, 2 stop, 2 CANCEL, 2 row end - 0, 2 error 2 MediaFailed, 2 told, \
             4 close, 4 END",
        ),
    ] {
        assert_plays(script, expected);
    }
}

const UP: &str = "0 INVITE, 0 relay, 0 tell Answered, 0 row 0";

/// Columns: what happens after an answer at 0 s; what comes of it.
#[test]
fn a_conversation_and_its_ends() {
    for (script, expected) in [
        // Glare: both hang up at once, in either order.
        ("5 hang-up, 5 bye, …", "5 stop, 5 BYE, 5 row end 0 0, 5 ended 5 UserHangup, 5 told, 7 close, 7 END"),
        ("5 bye, 5 hang-up, …", "5 stop, 5 row end 0 0, 5 ended 5 RemoteHangup, 5 told, 7 close, 7 END"),
        ("5 hang-up, …", "5 stop, 5 BYE, 5 row end 0 0, 5 ended 5 UserHangup, 5 told, 7 close, 37 END"),
        // The widget gives up: the first word counts, and as it says both ways, only the way is another.
        (
            "5 gives-up, 5 delete, 5.1 over, 6 closed",
            "5 stop, 5 BYE, 5 row end 0 0, 5 error 5 NoAudio, 5 told, 6 close, 6 END",
        ),
        (
            "5 delete-lost, 5 gives-up, 5.1 over, 6 closed",
            "5 stop, 5 BYE, 5 row end 0 0, 5 error 5 MediaFailed, 5 told, 6 close, 6 END",
        ),
        ("5 bye, 5 gives-up, …", "5 stop, 5 row end 0 0, 5 ended 5 RemoteHangup, 5 told, 7 close, 7 END"),
        ("5 closed, 5.1 over", "5 close, 5 stop, 5 BYE, 5 row end 0 0, 5 ended 5 UserHangup, 5.1 END"),
        ("5 drain, 6 over, …", "5 stop, 5 BYE, 5 row end 0 0, 5 error 5 Internal, 5 told, 7 close, 7 END"),
        ("5 trunk-failed, …", "5 stop, 5 row end 0 0, 5 error 5 DestinationUnavailable, 5 told, 7 close, 7 END"),
        // Nothing that repeats or comes late changes anything.
        (
            "1 answered, 1 ringing, 1 early, 1 486, 1 connected, 2 bye, 2 bye, 2 over, 2 hold, 2 press, 3 closed, 4 bye",
            "2 stop, 2 row end 0 0, 2 ended 2 RemoteHangup, 2 told, 3 close, 3 END",
        ),
        // Lost and back, lost for good.
        (
            "1 lost, 20 connected, 31 bye, 31 closed",
            "31 stop, 31 row end 0 0, 31 ended 31 RemoteHangup, 31 told, 31 close, 31 END",
        ),
        (
            "1 lost, 10 hear-trunk, 25 hear-trunk, 26.1 over, …",
            "26 stop, 26 BYE, 26 row end 0 0, 26 error 26 MediaFailed, 26 told, 28 close, 28 END",
        ),
        // Silence: of the contact centre, of the browser.
        (
            "15 hear-browser, 21 over, …",
            "20 stop, 20 BYE, 20 row end 0 0, 20 error 20 NoAudio, 20 told, 22 close, 22 END",
        ),
        (
            "15 hear-trunk, 21 over, …",
            "20 stop, 20 BYE, 20 row end 0 0, 20 error 20 MediaFailed, 20 told, 22 close, 22 END",
        ),
        (
            "19 hear-trunk, 19 hear-browser, 38 hear-browser, 40 over, …",
            "39 stop, 39 BYE, 39 row end 0 0, 39 error 39 NoAudio, 39 told, 41 close, 41 END",
        ),
        // On hold the contact centre may be silent: put there by the visitor, by itself, by both.
        (
            "1 hold, 1 hold, 19 hear-browser, 38 hear-browser, 39 unhold, 57 hear-browser, 59.5 over, …",
            "1 HOLD true, 1 HOLD true, 39 HOLD false, 59 stop, 59 BYE, 59 row end 0 0, 59 error 59 NoAudio, 59 told, 61 close, 61 END",
        ),
        (
            "1 held, 1 held, 19 hear-browser, 30 hold, 31 resumed, 49 hear-browser, 60 bye, 60 closed",
            "1 tell Held { on: true }, 30 HOLD true, 31 tell Held { on: false }, 60 stop, 60 row end 0 0, \
             60 ended 60 RemoteHangup, 60 told, 60 close, 60 END",
        ),
        // The far side agrees to be put on hold, or refuses, and then has to be heard.
        (
            "1 hold, 1.1 on-hold, 2 unhold, 2.1 off-hold, 3 bye, 3 closed",
            "1 HOLD true, 1.1 tell Hold { on: true }, 2 HOLD false, 2.1 tell Hold { on: false }, 3 stop, \
             3 row end 0 0, 3 ended 3 RemoteHangup, 3 told, 3 close, 3 END",
        ),
        (
            "1 hold, 2 off-hold, 15 hear-browser, 15 hold, 15.1 off-hold, 34 hear-browser, 36 over, …",
            "1 HOLD true, 2 tell Hold { on: false }, 15 HOLD true, 15.1 tell Hold { on: false }, 35.1 stop, 35.1 BYE, \
             35.1 row end 0 0, 35.1 error 35 NoAudio, 35.1 told, 37.1 close, 37.1 END",
        ),
        (
            "2 press, 3 bye, 3 closed",
            "2 digits 1#, 3 stop, 3 row end 0 0, 3 ended 3 RemoteHangup, 3 told, 3 close, 3 END",
        ),
    ] {
        assert_plays(&format!("0 connected, 0 answered, {script}"), &format!("{UP}, {expected}"));
    }
}

#[test]
fn an_answer_while_the_browser_is_lost_is_an_answer() {
    assert_plays(
        "0 connected, 1 ringing, 2 lost, 3 answered, 4 connected, 5 bye, 5 closed",
        "0 INVITE, 1 tell Ringing, 3 relay, 3 tell Answered, 3 row 3, 5 stop, 5 row end 3 0, 5 ended 5 RemoteHangup, \
         5 told, 5 close, 5 END",
    );
}

#[test]
fn the_longest_call() {
    let mut play = Play::new();
    play.input(0, input("connected"));
    play.input(0, input("answered"));
    for second in (0..4_000).step_by(10) {
        play.input(second * 1_000, input("hear-browser"));
        play.input(second * 1_000, input("hear-trunk"));
    }
    assert_eq!(play.emitted(), Some((3_600_000, End::Error { duration: 3_600, code: ErrorCode::CallLimit })));
    assert_eq!(play.log.last(), Some(&(3_632_000, Output::Ended)));
}

#[test]
fn a_late_driver_does_not_make_a_late_answer_good() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut call = Call::new(start);
    assert_eq!(call.input(input("connected"), at(0)), [Output::SendInvite]);
    assert_eq!(call.input(input("trying"), at(1)), []);
    let outputs = call.input(input("answered"), at(70));
    let end = End::Error { duration: 70, code: ErrorCode::NoAnswer };
    assert!(outputs.contains(&Output::Emit(end)) && outputs.last() == Some(&Output::Bye), "{outputs:?}");
    assert_eq!(call.state(), State::Ending);
}

#[test]
fn what_it_looks_like() {
    let mut play = Play::new();
    assert_eq!(play.call.state(), State::Connecting);
    for (at, word, state) in [
        (0, "lost", State::Connecting),
        (1, "connected", State::Dialling),
        (2, "trying", State::Dialling),
        (3, "ringing", State::Ringing),
        (4, "lost", State::Reconnecting),
        (5, "early", State::Reconnecting),
        (6, "connected", State::EarlyMedia),
        (7, "answered", State::Connected),
        (8, "lost", State::Reconnecting),
        (9, "connected", State::Connected),
        (10, "hang-up", State::Ending),
        (11, "over", State::Ending),
        (12, "closed", State::Ended(End::Hangup { duration: 0, reason: Reason::UserHangup })),
    ] {
        play.input(at, input(word));
        assert_eq!(play.call.state(), state, "{word}");
    }
    assert_eq!(play.call.deadline(), None);
}

/// Scripts that go deep: often along the way of a good call, with anything in between.
fn scripts() -> impl Strategy<Value = Vec<(u64, &'static str)>> {
    let any_word = prop::sample::select(INPUTS.map(|(word, _)| word).to_vec());
    let good = prop::sample::select(vec!["connected", "trying", "ringing", "answered", "hear-browser", "hear-trunk"]);
    let word = prop_oneof![3 => good, 2 => any_word];
    let pause = prop_oneof![4 => 0..500u64, 2 => 0..10_000u64, 1 => 0..40_000u64];
    prop::collection::vec((pause, word), 0..40)
}

fn check(play: &Play, script: &[(u64, &str)]) -> Result<(), TestCaseError> {
    let log = &play.log;
    let first = |wanted: &Output| log.iter().position(|(_, output)| output == wanted);

    // One end, said once each way, and the same each way.
    let (ended_at, end) = play.emitted().expect("an end");
    prop_assert_eq!(play.count(|output| matches!(output, Output::Emit(_))), 1);
    prop_assert_eq!(
        play.count(|output| matches!(output, Output::WriteRow(Row::Ended { end: row, .. }) if *row == end)),
        1
    );
    prop_assert_eq!(play.count(|output| matches!(output, Output::WriteRow(Row::Ended { .. }))), 1);
    let told = play.count(|output| matches!(output, Output::ToWidget(ToWidget::Ended(_))));
    prop_assert_eq!(told, play.count(|output| *output == Output::ToWidget(end.for_widget())));
    prop_assert!(told <= 1);
    prop_assert_eq!(end.duration(), ended_at / 1_000);

    // Once each, and nothing after the end.
    for once in [Output::CloseBrowser, Output::Ended] {
        prop_assert_eq!(play.count(|output| *output == once), 1, "{:?}", once);
    }
    for at_most_once in [Output::SendInvite, Output::Cancel, Output::Bye, Output::StartRelay] {
        prop_assert!(play.count(|output| *output == at_most_once) <= 1, "{:?}", at_most_once);
    }
    prop_assert_eq!(
        play.count(|output| *output == Output::StartRelay),
        play.count(|output| *output == Output::StopRelay)
    );
    prop_assert_eq!(first(&Output::Ended), Some(log.len() - 1));
    let closed = first(&Output::CloseBrowser);
    let last_word = log.iter().rposition(|(_, output)| matches!(output, Output::ToWidget(_)));
    prop_assert!(last_word < closed);

    // In bounded time.
    let limit = (CALL_LIMIT + LEAVE_LIMIT).as_millis();
    prop_assert!(u128::from(log[log.len() - 1].0) <= limit);

    // The INVITE: never before the browser is there, and taken back, hung up or ended by the far side.
    let invited = first(&Output::SendInvite);
    let said = |words: &[&str]| script.iter().any(|(_, word)| words.contains(word));
    if invited.is_some() {
        let left = first(&Output::Cancel).or(first(&Output::Bye)).is_some();
        let over = log[log.len() - 1].0;
        let while_dialled = script.iter().scan(0, |at, (pause, word)| {
            *at += pause;
            Some((*at, *word))
        });
        let dialled = while_dialled.skip_while(|(_, word)| *word != "connected");
        let heard = |words: &[&str], until: u64| dialled.clone().any(|(at, word)| at < until && words.contains(&word));
        // What comes in the moment of the end may have brought it, or have come too late.
        let silent = !heard(&["trying", "ringing", "early", "answered"], over);
        let ended = heard(&["486", "487", "503", "bye", "over", "trunk-failed"], over + 1);
        prop_assert!(left || silent || ended);
    } else {
        prop_assert!(told == 0 && play.count(|output| matches!(output, Output::Cancel | Output::Bye)) == 0);
        let visitor = said(&["hang-up", "delete", "closed"]);
        let failed = matches!(end, End::Error { .. });
        prop_assert!(visitor || failed);
    }
    prop_assert!(invited.is_none() || said(&["connected"]));

    // Who hung up really did.
    match end {
        End::Hangup { reason: Reason::UserHangup, .. } => prop_assert!(said(&["hang-up", "delete", "closed"])),
        End::Hangup { reason: Reason::RemoteHangup, .. } => {
            prop_assert!(said(&["bye", "over"]) && first(&Output::StartRelay).is_some());
            prop_assert_eq!(first(&Output::Bye), None);
        }
        End::Error { .. } => {}
    }
    // An answered call that the far side did not end is hung up.
    let answered = log.iter().any(|(_, output)| *output == Output::ToWidget(ToWidget::Answered));
    if answered && !said(&["bye", "over", "trunk-failed"]) {
        prop_assert!(first(&Output::Bye).is_some());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_happens_a_call_ends_once_and_properly(script in scripts()) {
        let mut play = Play::new();
        let mut now = 0;
        for (pause, word) in &script {
            now += pause;
            play.input(now, input(word));
            prop_assert_eq!(play.call.deadline().is_none(), matches!(play.call.state(), State::Ended(_)));
        }
        play.finish();
        check(&play, &script)?;

        let ended = play.log.len();
        for (word, _) in INPUTS {
            play.input(play.now + 1, input(word));
        }
        prop_assert_eq!(play.log.len(), ended);
    }

    /// A driver that wakes late, or never but for what happens, loses no end and reports none twice.
    #[test]
    fn a_driver_may_be_late(script in scripts()) {
        let mut play = Play::new();
        let mut now = 0;
        for (pause, word) in &script {
            now += pause;
            play.step(now, input(word));
        }
        play.step(now + 4_000_000, Input::Tick);
        play.step(now + 8_000_000, Input::Tick);
        prop_assert_eq!(play.count(|output| matches!(output, Output::Emit(_))), 1);
        prop_assert_eq!(play.log.last().map(|(_, output)| output), Some(&Output::Ended));
    }
}
