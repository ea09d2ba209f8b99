//! What the widget and we say to each other on the data channel `control`: small JSON objects, each with its `type`.
//!
//! The channel belongs to one call by construction, so nothing here names a call. What we do not know is ignored and
//! counted: an older server must live with a newer widget.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::codes::{ErrorCode, Reason};

/// Bytes of a message at most, either way.
pub const MAX_BYTES: usize = 1_024;
/// Digits of one message at most.
pub const MAX_DIGITS: usize = 32;
/// Milliseconds one digit sounds: from the shortest that is recognised (ITU-T Q.24) to the longest that fits one event of
/// a 48 kHz clock (RFC 4733, section 2.3.5).
pub const DIGIT_MS: std::ops::RangeInclusive<u16> = 40..=1_360;
/// When the message does not say.
const DEFAULT_DIGIT_MS: u16 = 120;

/// What we tell the widget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ToWidget {
    /// The contact centre rings.
    Ringing,
    /// Before an answer, the contact centre already sends audio: a tone or an announcement.
    Early,
    /// Somebody answered.
    Answered,
    /// The contact centre put the call on hold, or took it back.
    Held {
        /// Whether it is on hold now.
        on: bool,
    },
    /// The visitor's own hold, or its end, is in force, or was refused and is not.
    Hold {
        /// Whether the contact centre is on hold now.
        on: bool,
    },
    /// How the call sounds, every two seconds.
    Quality(Quality),
    /// The call is over.
    Ended(Ended),
}

/// How a call sounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// Mean opinion score, 1 to 4.5: the worse of both legs.
    pub mos: f64,
    /// Round-trip time to the browser in milliseconds, once it is known.
    pub rtt_ms: Option<u32>,
    /// Jitter of what the browser sends, in milliseconds.
    pub jitter_ms: u32,
    /// Share of the browser's packets lost since the last report, 0 to 1.
    pub loss: f64,
}

/// Exactly one of both: the end of a call is `call_ended` or `call_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Ended {
    /// As calls end.
    Hangup {
        /// Who hung up.
        reason: Reason,
    },
    /// It did not come about, or broke off.
    Error {
        /// Why.
        error_code: ErrorCode,
    },
}

impl ToWidget {
    /// The message's text.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

/// What the widget tells us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWidget {
    /// The visitor hung up; or the widget does, for what it noticed.
    HangUp(Option<ErrorCode>),
    /// The visitor puts the call on hold, or takes it back.
    Hold(bool),
    /// The visitor pressed keys.
    Digits(Digits),
}

/// Keys to press for the visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits {
    digits: String,
    /// Milliseconds each of them sounds, within [`DIGIT_MS`].
    pub duration_ms: u16,
}

impl Digits {
    /// Some digits, `0`–`9`, `*`, `#`, `A`–`D`, at most [`MAX_DIGITS`]; the duration is brought into [`DIGIT_MS`].
    pub fn new(digits: &str, duration_ms: u16) -> Option<Self> {
        let digits = digits.to_ascii_uppercase();
        let known = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D'));
        let fits = known && (1..=MAX_DIGITS).contains(&digits.len());
        fits.then(|| Self { digits, duration_ms: duration_ms.clamp(*DIGIT_MS.start(), *DIGIT_MS.end()) })
    }

    /// The digits one by one.
    pub fn chars(&self) -> impl Iterator<Item = char> {
        self.digits.chars()
    }
}

/// A message as it is written.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Message {
    HangUp {
        #[serde(default)]
        error_code: Value,
    },
    Hold {
        on: bool,
    },
    Digits {
        digits: String,
        #[serde(default = "default_digit_ms")]
        duration_ms: u16,
    },
}

fn default_digit_ms() -> u16 {
    DEFAULT_DIGIT_MS
}

/// Reads a widget's messages and counts those that say nothing to us.
#[derive(Debug, Default)]
pub struct Reader {
    ignored: u64,
}

impl Reader {
    /// Reads one message; `None`, and counted: too long, not JSON, of an unknown type, or with a value out of bounds.
    pub fn read(&mut self, message: &[u8]) -> Option<FromWidget> {
        let read = parse(message);
        self.ignored += u64::from(read.is_none());
        read
    }

    /// Messages ignored so far.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }
}

fn parse(message: &[u8]) -> Option<FromWidget> {
    if message.len() > MAX_BYTES {
        return None;
    }
    // By way of an object, for an array would pass as one, too.
    let object: Map<String, Value> = serde_json::from_slice(message).ok()?;
    Some(match serde_json::from_value(Value::Object(object)).ok()? {
        // Whatever else stands there: nobody is kept from hanging up.
        Message::HangUp { error_code } => FromWidget::HangUp(error_code.as_str().and_then(ErrorCode::noticed)),
        Message::Hold { on } => FromWidget::Hold(on),
        Message::Digits { digits, duration_ms } => FromWidget::Digits(Digits::new(&digits, duration_ms)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn digits(digits: &str, duration_ms: u16) -> Option<FromWidget> {
        Some(FromWidget::Digits(Digits { digits: digits.to_owned(), duration_ms }))
    }

    #[test]
    fn what_the_widget_says() {
        let mut ignored = 0;
        let mut reader = Reader::default();
        for (text, expected) in [
            (r#"{"type":"hang_up"}"#, Some(FromWidget::HangUp(None))),
            (r#"{"type":"hang_up","why":"later versions may say"}"#, Some(FromWidget::HangUp(None))),
            (r#"{"type":"hang_up","errorCode":"no_audio"}"#, Some(FromWidget::HangUp(Some(ErrorCode::NoAudio)))),
            (r#"{"type":"hang_up","errorCode":"busy"}"#, Some(FromWidget::HangUp(None))),
            (r#"{"type":"hang_up","errorCode":"of later versions"}"#, Some(FromWidget::HangUp(None))),
            (r#"{"type":"hang_up","errorCode":["no_audio"]}"#, Some(FromWidget::HangUp(None))),
            (r#"{"type":"hold","on":true}"#, Some(FromWidget::Hold(true))),
            (r#"{"type":"hold","on":false}"#, Some(FromWidget::Hold(false))),
            (r#"{"type":"digits","digits":"1*#d"}"#, digits("1*#D", 120)),
            (r#"{"type":"digits","digits":"5","durationMs":250}"#, digits("5", 250)),
            (r#"{"type":"digits","digits":"5","durationMs":1}"#, digits("5", 40)),
            (r#"{"type":"digits","digits":"5","durationMs":65535}"#, digits("5", 1_360)),
            (r#"{"type":"digits","digits":"5","durationMs":65536}"#, None),
            (r#"{"type":"digits","digits":"5","durationMs":-1}"#, None),
            (r#"{"type":"digits","digits":""}"#, None),
            (r#"{"type":"digits","digits":"12x"}"#, None),
            (r#"{"type":"digits","digits":"１"}"#, None),
            (r#"{"type":"digits"}"#, None),
            (r#"{"type":"hold"}"#, None),
            (r#"{"type":"hold","on":1}"#, None),
            (r#"{"type":"transfer","to":"sip:elsewhere@example.com"}"#, None),
            (r#"{"type":["hang_up"]}"#, None),
            (r#"["hang_up"]"#, None),
            ("hang_up", None),
            ("", None),
        ] {
            ignored += u64::from(expected.is_none());
            assert_eq!(reader.read(text.as_bytes()), expected, "{text}");
            assert_eq!(reader.ignored(), ignored, "{text}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let mut reader = Reader::default();
        let padded = |bytes: usize| format!("{:<bytes$}", r#"{"type":"hang_up"}"#);
        assert_eq!(reader.read(padded(MAX_BYTES).as_bytes()), Some(FromWidget::HangUp(None)));
        assert_eq!(reader.read(padded(MAX_BYTES + 1).as_bytes()), None);
        assert!(Digits::new(&"1".repeat(MAX_DIGITS), 100).is_some());
        assert_eq!(Digits::new(&"1".repeat(MAX_DIGITS + 1), 100), None);
        let deep = "[".repeat(MAX_BYTES);
        assert_eq!(reader.read(deep.as_bytes()), None);
    }

    #[test]
    fn what_the_widget_hears() {
        let quality = Quality { mos: 4.4, rtt_ms: None, jitter_ms: 2, loss: 0.01 };
        for (message, expected) in [
            (ToWidget::Ringing, json!({"type": "ringing"})),
            (ToWidget::Early, json!({"type": "early"})),
            (ToWidget::Answered, json!({"type": "answered"})),
            (ToWidget::Held { on: true }, json!({"type": "held", "on": true})),
            (ToWidget::Hold { on: false }, json!({"type": "hold", "on": false})),
            (
                ToWidget::Quality(quality),
                json!({"type": "quality", "mos": 4.4, "rttMs": null, "jitterMs": 2, "loss": 0.01}),
            ),
            (
                ToWidget::Ended(Ended::Hangup { reason: Reason::RemoteHangup }),
                json!({"type": "ended", "reason": "remote_hangup"}),
            ),
            (
                ToWidget::Ended(Ended::Error { error_code: ErrorCode::NoAnswer }),
                json!({"type": "ended", "errorCode": "no_answer"}),
            ),
        ] {
            let text = message.to_json();
            assert_eq!(serde_json::from_str::<Value>(&text).expect(&text), expected);
            assert!(text.len() <= MAX_BYTES);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>) {
            let mut reader = Reader::default();
            let read = reader.read(&bytes);
            prop_assert_eq!(reader.ignored(), u64::from(read.is_none()));
        }

        #[test]
        fn any_keys_within_the_alphabet_are_taken(keys in "[0-9*#A-Da-d]{1,32}", ms: u16) {
            let text = json!({"type": "digits", "digits": keys, "durationMs": ms}).to_string();
            let Some(FromWidget::Digits(read)) = Reader::default().read(text.as_bytes()) else { panic!("{text}") };
            prop_assert_eq!(read.chars().collect::<String>(), keys.to_ascii_uppercase());
            prop_assert!(DIGIT_MS.contains(&read.duration_ms));
        }
    }
}
