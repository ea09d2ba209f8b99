//! Where something stands in a trace: [`Trace`], written as W3C Trace Context's `traceparent`.
//!
//! A session's id is 128 bits, as a trace's is. So whatever happens about a session joins one trace, wherever it happens,
//! and nothing has to travel through the visitor's browser. Only what a queue parts is told who caused it.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::SessionId;

/// A span of a trace that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    trace: [u8; 16],
    span: [u8; 8],
}

/// The text is no `traceparent` of a recorded span, or of a version to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 00-, 32 and 16 hexadecimal digits, and -01")]
pub struct NotATrace;

impl Trace {
    /// The first span of a session's trace. Whoever knows the session knows its id.
    pub fn of_session(session: SessionId) -> Self {
        let hash = digest::digest(&digest::SHA256, session.to_string().as_bytes());
        let mut span = [0; 8];
        span.copy_from_slice(&hash.as_ref()[..8]);
        Self { trace: session.bits().to_be_bytes(), span }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn beside(self, span: [u8; 8]) -> Self {
        Self { span, ..self }
    }

    /// The trace's id.
    pub fn trace_id(self) -> [u8; 16] {
        self.trace
    }

    /// The span's id.
    pub fn span_id(self) -> [u8; 8] {
        self.span
    }

    /// Of a message: what cannot be understood there is as good as nothing, for no delivery waits for its trace.
    ///
    /// # Errors
    /// When the message itself cannot be read.
    pub(crate) fn leniently<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let text = serde_json::Value::deserialize(deserializer)?;
        Ok(text.as_str().and_then(|text| text.parse().ok()))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-01")
    }
}

impl FromStr for Trace {
    type Err = NotATrace;

    fn from_str(text: &str) -> Result<Self, NotATrace> {
        let inside = text.strip_prefix("00-").and_then(|text| text.strip_suffix("-01")).ok_or(NotATrace)?;
        let (trace, span) = inside.split_once('-').ok_or(NotATrace)?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if (trace.len(), span.len()) != (32, 16) || !is_hex(trace) || !is_hex(span) {
            return Err(NotATrace);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| NotATrace)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| NotATrace)?;
        if trace == 0 || span == 0 {
            return Err(NotATrace);
        }
        Ok(Self { trace: trace.to_be_bytes(), span: span.to_be_bytes() })
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held fast: every function computes it for itself, also one of another version.
    #[test]
    fn a_session_is_its_trace() {
        let session: SessionId = "ses_01jd3v9zk0abcdefghjkmnpqrs".parse().expect("an id");
        let trace = Trace::of_session(session);
        assert_eq!(trace.to_string(), "00-019347b4fe6052d8d73e1194e95b5f19-d2ce1526fe7c263d-01");
    }

    #[test]
    fn text_and_back() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace: Trace = text.parse().expect("a trace");
        assert_eq!(trace.to_string(), text);
        assert_eq!(trace.beside([1; 8]).to_string(), text.replace("00f067aa0ba902b7", "0101010101010101"));
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(wrong.parse::<Trace>(), Err(NotATrace), "{wrong}");
        }
    }
}
