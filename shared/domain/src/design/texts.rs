//! The widget's texts that an app may word itself. The browser's module says what they are (`texts.js`; both sides are held to
//! `tests/vectors/texts.json`).

use crate::event::ERROR_CODES;

/// Characters of one of the widget's own texts.
pub const MAX_TEXT: usize = 300;
/// Calls that end so after a conversation are told of in other words.
const BROKEN_OFF: [&str; 2] = ["call_limit", "media_failed"];

/// Texts of what is seen when all is well.
const PLAIN: &[&str] = &[
    "asking",
    "askingBody",
    "askingTitle",
    "back",
    "best",
    "body",
    "call",
    "choose",
    "closed",
    "closedBody",
    "closedTitle",
    "comment",
    "connected",
    "connectedTitle",
    "copied",
    "device",
    "devices",
    "dialling",
    "diallingBody",
    "diallingTitle",
    "elsewhere",
    "ended",
    "endedBody",
    "formBody",
    "formStatus",
    "formTitle",
    "hangUp",
    "hear",
    "held",
    "heldBody",
    "heldTitle",
    "keypad",
    "lasted",
    "leaving",
    "loading",
    "lost",
    "lostBody",
    "lostTitle",
    "microphone",
    "microphoneNote",
    "missing",
    "mute",
    "muted",
    "notEmail",
    "notPhone",
    "notSent",
    "opens",
    "optional",
    "others",
    "owner",
    "quality1",
    "quality2",
    "quality3",
    "quality4",
    "ready",
    "reference",
    "retry",
    "ringing",
    "ringingBody",
    "send",
    "skip",
    "speaker",
    "surveyTitle",
    "thanks",
    "thanksBody",
    "title",
    "unavailable",
    "unchosen",
    "unconnected",
    "unmute",
    "unticked",
    "worst",
];

/// Their keys. What is said of a call that failed is `error.{code}.title` and `error.{code}.body`, and `broken.…` of one that
/// broke off; what is said before there is a session is no app's own, which only a session tells.
pub fn text_keys() -> impl Iterator<Item = String> {
    let failed = |kind: &'static str, codes: &'static [&'static str]| {
        let parts = codes.iter().flat_map(|code| ["title", "body"].map(|part| (code, part)));
        parts.map(move |(code, part)| format!("{kind}.{code}.{part}"))
    };
    let plain = PLAIN.iter().map(|key| (*key).to_owned());
    plain.chain(failed("error", &ERROR_CODES)).chain(failed("broken", &BROKEN_OFF))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The browser's module and these name the same texts.
    #[test]
    fn text_keys_are_the_widgets() {
        let vector: Vec<String> =
            serde_json::from_str(include_str!("../../../../tests/vectors/texts.json")).expect("a list of keys");
        assert_eq!(text_keys().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), vector);
    }
}
