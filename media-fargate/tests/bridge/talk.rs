//! What a visitor and a contact centre hear of each other, through the whole server.

use std::time::Duration;

use domain::event::EventName;
use media::rtp::Codec;
use reqwest::Method;
use serde_json::json;

use crate::{
    offers::{CHROMIUM, Chance},
    phone::{Line, Phone, Sound},
    server::Server,
    sound::Key,
    visitor::Visitor,
};

/// What each side says: tones that have nothing in common, within what a telephone passes.
const VISITOR: f64 = 1_000.0;
const PHONE: f64 = 700.0;
const EARLY: f64 = 400.0;

/// A call that rings.
struct Ringing {
    server: Server,
    visitor: Visitor,
    line: Line,
    path: String,
    token: String,
}

impl Ringing {
    /// A browser that speaks `browser` calls a trunk that may speak `codecs`.
    async fn new(browser: Codec, codecs: &[Codec]) -> Self {
        let phone = Phone::new().await;
        let server = Server::start(&phone.uri(), codecs).await;
        let visitor = Visitor::new(browser, VISITOR).await;
        let token = server.token();
        let (path, answer) = server.begin(&token, visitor.offer().await).await;
        visitor.take(&answer).await;
        let line = phone.rings().await;
        line.ring().await;
        assert_eq!(visitor.told().await, json!({"type": "ringing"}));
        Self { server, visitor, line, path, token }
    }

    /// Answers in a codec; both hear each other.
    async fn answered(mut self, codec: Codec) -> (Self, Sound) {
        let sound = self.line.answer(codec, PHONE).await;
        assert_eq!(self.visitor.told().await, json!({"type": "answered"}));
        self.hear_each_other(&sound).await;
        (self, sound)
    }

    async fn hear_each_other(&self, sound: &Sound) {
        tokio::join!(sound.ear.hears(VISITOR), self.visitor.ear.hears(PHONE));
    }

    /// The visitor hangs up.
    async fn ends(mut self) {
        self.visitor.say(json!({"type": "hang_up"})).await;
        self.line.hung_up().await;
        assert_eq!(self.visitor.told().await, json!({"type": "ended", "reason": "user_hangup"}));
        let row = self.server.over(&self.path).await;
        assert_eq!((row.reason.as_deref(), row.error_code), (Some("user_hangup"), None));
    }
}

/// The digit, and how long it lasted.
fn key(key: &Key) -> (u8, Duration) {
    assert!(key.ended, "{key:?}");
    (key.code, key.lasted)
}

/// Tones and keys, both ways.
async fn talk(browser: Codec, codecs: &[Codec], trunk: Codec) {
    let (call, sound) = Ringing::new(browser, codecs).await.answered(trunk).await;
    let millis = Duration::from_millis;
    // The browser's own keys travel in RTP; those that the widget names, we press.
    call.visitor.press(5, 160);
    assert_eq!(sound.ear.keys(1).await.iter().map(key).collect::<Vec<_>>(), [(5, millis(160))]);
    sound.ear.hears(VISITOR).await;
    call.visitor.say(json!({"type": "digits", "digits": "0#", "durationMs": 240})).await;
    let keys = sound.ear.keys(3).await;
    assert_eq!(keys[1..].iter().map(key).collect::<Vec<_>>(), [(0, millis(240)), (11, millis(240))]);
    sound.press(9, 120);
    assert_eq!(call.visitor.ear.keys(1).await.iter().map(key).collect::<Vec<_>>(), [(9, millis(120))]);
    call.hear_each_other(&sound).await;
    for ear in [&sound.ear, &call.visitor.ear] {
        assert_eq!(ear.streams_and_jumps(), (1, 0), "one stream without a gap, {browser:?} and {trunk:?}");
    }
    call.ends().await;
}

#[tokio::test]
async fn audio_and_keys_pass_as_they_are() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::Opus] {
        talk(codec, &[codec], codec).await;
    }
}

#[tokio::test]
async fn audio_and_keys_pass_from_one_codec_to_another() {
    for (browser, trunk) in
        [(Codec::Pcmu, Codec::Pcma), (Codec::Opus, Codec::Pcmu), (Codec::Opus, Codec::Pcma), (Codec::Pcma, Codec::Opus)]
    {
        talk(browser, &[browser, trunk], trunk).await;
    }
}

#[tokio::test]
async fn a_visitor_holds_and_resumes() {
    for (browser, trunk) in [(Codec::Pcmu, Codec::Pcmu), (Codec::Opus, Codec::Pcmu)] {
        let (mut call, sound) = Ringing::new(browser, &[browser, trunk]).await.answered(trunk).await;
        for on in [true, false] {
            call.visitor.say(json!({"type": "hold", "on": on})).await;
            let offer = call.line.changed(&sound).await;
            assert_eq!(offer.contains("a=sendrecv"), !on, "{offer}");
            assert_eq!(call.visitor.told().await, json!({"type": "hold", "on": on}));
            if on {
                sound.ear.hears_nothing().await;
            }
        }
        call.hear_each_other(&sound).await;
        // A provider that knows no hold: the visitor is told, and is heard on.
        call.visitor.say(json!({"type": "hold", "on": true})).await;
        call.line.refuses_change().await;
        assert_eq!(call.visitor.told().await, json!({"type": "hold", "on": false}));
        call.hear_each_other(&sound).await;
        call.ends().await;
    }
}

/// An impatient thumb: what it wanted last is so, for the far side and in what is heard.
#[tokio::test]
async fn a_burst_of_hold_wishes_ends_as_the_last_one() {
    let (mut call, sound) = Ringing::new(Codec::Pcmu, &[Codec::Pcmu]).await.answered(Codec::Pcmu).await;
    for number in 0..9 {
        call.visitor.say(json!({"type": "hold", "on": number % 2 == 0})).await;
    }
    let (mut offers, mut told) = (Vec::new(), Vec::new());
    let answering = async {
        loop {
            offers.push(call.line.changed(&sound).await);
        }
    };
    let settled = async {
        while let Ok(message) = tokio::time::timeout(Duration::from_secs(2), call.visitor.told()).await {
            told.push(message);
        }
    };
    tokio::select! {
        () = answering => unreachable!("it answers for ever"),
        () = settled => {}
    }
    assert_eq!(told.last(), Some(&json!({"type": "hold", "on": true})));
    assert!(offers.last().is_some_and(|offer| offer.contains("a=sendonly")), "{offers:?}");
    sound.ear.hears_nothing().await;
    call.ends().await;
}

#[tokio::test]
async fn a_contact_centre_holds_and_resumes() {
    let (mut call, sound) = Ringing::new(Codec::Pcmu, &[Codec::Pcmu]).await.answered(Codec::Pcmu).await;
    for on in [true, false] {
        call.line.hold(&sound, on).await;
        assert_eq!(call.visitor.told().await, json!({"type": "held", "on": on}));
        // Its music, if nothing else.
        call.visitor.ear.hears(PHONE).await;
    }
    call.hear_each_other(&sound).await;
    call.ends().await;
}

/// Transferred behind its switchboard, say.
#[tokio::test]
async fn a_contact_centre_goes_on_elsewhere_in_another_codec() {
    let codecs = [Codec::Opus, Codec::Pcmu, Codec::Pcma];
    let (mut call, first) = Ringing::new(Codec::Opus, &codecs).await.answered(Codec::Opus).await;
    let mut before = first;
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::Opus] {
        let sound = call.line.moves(codec, PHONE).await;
        drop(before);
        call.hear_each_other(&sound).await;
        before = sound;
    }
    assert_eq!(call.visitor.ear.streams_and_jumps(), (1, 0), "the browser notices nothing");
    call.ends().await;
}

/// A widget gone mad: nonsense, and its mind changed faster than anybody answers.
#[tokio::test]
async fn a_channel_full_of_nonsense_changes_nothing() {
    let (mut call, sound) = Ringing::new(Codec::Pcmu, &[Codec::Pcmu]).await.answered(Codec::Pcmu).await;
    for number in 0..500 {
        call.visitor.say(json!({"type": "transfer", "to": "sip:elsewhere@example.com", "number": number})).await;
        call.visitor.say(json!({"type": "digits", "digits": "9".repeat(1_000)})).await;
        call.visitor.say(json!([[[[["hold"]]]]])).await;
    }
    for number in 0..51 {
        call.visitor.say(json!({"type": "hold", "on": number % 2 == 1})).await;
    }
    let answering = async {
        loop {
            call.line.changed(&sound).await;
        }
    };
    let settled = async {
        let mut last = call.visitor.told().await;
        while let Ok(message) = tokio::time::timeout(Duration::from_secs(1), call.visitor.told()).await {
            last = message;
        }
        last
    };
    let last = tokio::select! {
        () = answering => unreachable!("it answers for ever"),
        last = settled => last,
    };
    assert_eq!(last, json!({"type": "hold", "on": false}), "what was wanted last");
    call.hear_each_other(&sound).await;
    call.ends().await;
}

/// Of another browser, and broken: the call that runs goes on.
#[tokio::test]
async fn offers_that_restart_nothing_leave_the_call_alone() {
    let (call, sound) = Ringing::new(Codec::Pcmu, &[Codec::Pcmu]).await.answered(Codec::Pcmu).await;
    let mut chance = Chance::new();
    for _ in 0..50 {
        let offer = chance.mutate(CHROMIUM);
        let shown = String::from_utf8_lossy(&offer).into_owned();
        let status = call.server.ask(Method::PATCH, &call.path, &call.token, offer).await.status().as_u16();
        assert_eq!(status, 400, "{shown}");
    }
    call.hear_each_other(&sound).await;
    call.ends().await;
}

/// A tone before the answer, the answer from another agent, another port and in another codec.
#[tokio::test]
async fn early_media_then_an_answer_from_elsewhere_then_the_far_side_hangs_up() {
    for (browser, early, late) in [
        (Codec::Pcmu, Codec::Pcmu, Codec::Pcmu),
        (Codec::Pcmu, Codec::Pcmu, Codec::Pcma),
        (Codec::Opus, Codec::Opus, Codec::Pcmu),
    ] {
        let mut call = Ringing::new(browser, &[browser, late]).await;
        let announcement = call.line.describe("183 Session Progress", early, EARLY).await;
        assert_eq!(call.visitor.told().await, json!({"type": "early"}));
        call.visitor.ear.hears(EARLY).await;
        call.line.tag = "b";
        let (mut call, sound) = call.answered(late).await;
        drop(announcement);
        call.hear_each_other(&sound).await;
        let (streams, jumps) = call.visitor.ear.streams_and_jumps();
        assert_eq!((streams, jumps), (1, 0), "the browser notices nothing, {browser:?} {early:?} {late:?}");

        call.line.hang_up().await;
        assert_eq!(call.visitor.told().await, json!({"type": "ended", "reason": "remote_hangup"}));
        let event = call.server.ground.queued().await;
        assert_eq!((event.name, &event.data["reason"]), (EventName::CallEnded, &json!("remote_hangup")));
        let row = call.server.over(&call.path).await;
        assert_eq!((row.reason.as_deref(), row.codec), (Some("remote_hangup"), Some(late)));
        assert_eq!(call.server.ground.next_queued().await, None, "the end is told once");
    }
}
