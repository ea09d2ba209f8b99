//! What a receiver's answer, or its absence, came to: how much of it is read, how long it asks us to wait, and which class
//! an error belongs to.

use std::{
    error::{self, Error as _},
    io,
    time::{Duration, Instant, UNIX_EPOCH},
};

use domain::{
    delivery::{ErrorClass, Outcome},
    time::Timestamp,
};
use reqwest::{
    Response,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::{render::Ready, resolve::Unresolved};

/// Fields of an answer's head at most.
pub(crate) const MAX_FIELDS: usize = 100;
/// Bytes of an answer's head at most.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes of an answer's body that are read at most.
const MAX_READ: usize = 16 * 1024;

/// An outcome without an answer.
pub(crate) fn failed(error: ErrorClass) -> Outcome {
    Outcome { status_code: None, error: Some(error), retry_after: None, excerpt: None, took: Duration::ZERO }
}

/// Reads an answer: its status, and the beginning of its body. A body that breaks off does not undo the status. `began`
/// was at `now`.
pub(crate) async fn read(mut response: Response, ready: &Ready, now: Timestamp, began: Instant) -> Outcome {
    let status = response.status().as_u16();
    // A head that is no end of an exchange, or too long: as little HTTP as garbage is.
    if status < 200 || head_length(response.headers()) > MAX_HEAD {
        return failed(ErrorClass::Reset);
    }
    let retry_after = retry_after(response.headers(), now.plus(began.elapsed()));
    let mut body = Vec::new();
    while body.len() < MAX_READ
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_READ - body.len())]);
    }
    Outcome {
        status_code: Some(status),
        error: Outcome::classify(status),
        retry_after,
        excerpt: ready.excerpt(&body),
        took: Duration::ZERO,
    }
}

fn head_length(headers: &HeaderMap) -> usize {
    // `: ` and the line's end.
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// The first `Retry-After` that is one: seconds, or a date in any of HTTP's three forms (RFC 9110, 5.6.7 and 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let one = |text: &str| {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let now = Duration::from_millis(u64::try_from(now.as_millis()).ok()?);
        Some(at.saturating_sub(now))
    };
    headers.get_all(RETRY_AFTER).iter().filter_map(|value| value.to_str().ok()).find_map(|text| one(text.trim()))
}

/// Classifies by the types in an error's chain, never by its text, which holds the address.
pub(crate) fn classify(error: &reqwest::Error) -> ErrorClass {
    let mut class = if error.is_timeout() {
        ErrorClass::Timeout
    } else if error.is_connect() {
        ErrorClass::Connect
    } else {
        ErrorClass::Reset
    };
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(unresolved) = cause.downcast_ref::<Unresolved>() {
            return unresolved.into();
        }
        if cause.is::<rustls::Error>() {
            return ErrorClass::Tls;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            class = match io.kind() {
                io::ErrorKind::ConnectionRefused => ErrorClass::Connect,
                io::ErrorKind::TimedOut => ErrorClass::Timeout,
                // The peer hung up in the middle of the handshake.
                io::ErrorKind::UnexpectedEof if error.is_connect() => ErrorClass::Tls,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                    ErrorClass::Reset
                }
                _ => class,
            };
        }
        // The source of an `io::Error` is its inner error's source: the inner one itself would be passed over.
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source = inner.map(|inner| inner as &dyn error::Error).or_else(|| cause.source());
    }
    class
}

impl From<&Unresolved> for ErrorClass {
    fn from(unresolved: &Unresolved) -> Self {
        match unresolved {
            Unresolved::Unknown(_) => Self::Dns,
            Unresolved::Blocked => Self::BlockedAddress,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_in_all_its_forms() {
        // 1994-11-06 08:49:37 UTC, the date of RFC 9110.
        let now = Timestamp::from_millis(784_111_777_000);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (text, expected) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 7 ", seconds(7)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", seconds(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", seconds(120)),
            ("Sunday, 06-Nov-94 08:51:37 GMT", seconds(120)),
            ("Sun Nov  6 08:51:37 1994", seconds(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", seconds(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", seconds(252_618_189_022)),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("1.5", None),
            ("1e3", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:51:37 CET", None),
            ("1994-11-06T08:51:37Z", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, now), expected, "{text:?}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers, now), None);
        headers.append(RETRY_AFTER, HeaderValue::from_bytes(b"\xff").expect("a value"));
        headers.append(RETRY_AFTER, HeaderValue::from_static("soon"));
        headers.append(RETRY_AFTER, HeaderValue::from_static("9"));
        headers.append(RETRY_AFTER, HeaderValue::from_static("1"));
        assert_eq!(retry_after(&headers, now), seconds(9));
    }
}
