//! SIP messages (RFC 3261, section 7) as far as a telephone on this machine meets them: from our own trunk alone.

use std::fmt::Write as _;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The request line or the status line.
    pub(super) start: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Reads a datagram; `None`: it is no SIP.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let end = datagram.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&datagram[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let header = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().into(), value.trim().into()));
        Some(Self { start, headers: lines.filter_map(header).collect(), body: datagram[end + 4..].to_vec() })
    }

    /// What is asked for: `INVITE`, `BYE`; of a response: `SIP/2.0`.
    pub(super) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The status of a response.
    pub(super) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The user part of the request's address.
    pub(super) fn user(&self) -> &str {
        let address = self.start.split(' ').nth(1).unwrap_or_default();
        let address = address.split_once(':').map_or(address, |(_, rest)| rest);
        address.split_once('@').map_or("", |(user, _)| user)
    }

    /// The first header of this name; names of more than one form are asked for in each.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The number in `CSeq`.
    pub(super) fn number(&self) -> u32 {
        let number = self.header("CSeq").and_then(|value| value.split(' ').next()?.parse().ok());
        number.unwrap_or_default()
    }

    /// Whether it is part of a dialog.
    pub(super) fn is_within(&self) -> bool {
        self.header("To").is_some_and(|to| to.contains(";tag="))
    }

    /// A response to this request (RFC 3261, section 8.2.6).
    pub(super) fn response(&self, status: &str, tag: &str, more: &[(&str, &str)], body: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for (name, value) in &self.headers {
            let tagged = if name.eq_ignore_ascii_case("To") && !self.is_within() {
                format!(";tag={tag}")
            } else {
                String::new()
            };
            if ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
            {
                // Writing to a string cannot fail.
                let _ = write!(text, "{name}: {value}{tagged}\r\n");
            }
        }
        finish(text, more, body)
    }
}

/// The rest of a message: more headers, and the body.
pub(super) fn finish(mut text: String, more: &[(&str, &str)], body: &str) -> String {
    for (name, value) in more {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:echo@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5;branch=z9hG4bK1\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:echo@127.0.0.1>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\nX-Other: y\r\n\r\nbody";

    #[test]
    fn what_is_asked_and_how_it_is_answered() {
        let invite = Message::parse(INVITE.as_bytes()).expect("SIP");
        assert_eq!((invite.method(), invite.user(), invite.number(), invite.is_within()), ("INVITE", "echo", 7, false));
        assert_eq!(invite.body, b"body");
        let answer = invite.response("486 Busy Here", "t", &[("Allow", "BYE")], "");
        let answer = Message::parse(answer.as_bytes()).expect("SIP");
        assert_eq!((answer.status(), answer.header("to")), (Some(486), Some("<sip:echo@127.0.0.1>;tag=t")));
        assert_eq!((answer.header("X-Other"), answer.header("Content-Length")), (None, Some("0")));
        assert_eq!((invite.status(), Message::parse(b"\r\n\r")), (None, None));
    }
}
