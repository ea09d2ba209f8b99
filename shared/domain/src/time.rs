//! One moment in time: UTC, milliseconds. Passed in as an argument; nothing here reads a clock.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, in whole milliseconds since the Unix epoch; written as RFC 3339 in UTC with milliseconds (contract,
/// notation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// The text is not an RFC 3339 time with an offset, or lies outside the years 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time, such as 2026-01-31T12:00:00.000Z")]
pub struct NotATime;

impl Timestamp {
    /// From milliseconds since the epoch; outside the years 1970 to 9999 it is the nearest end.
    pub fn from_millis(millis: i64) -> Self {
        Self(jiff::Timestamp::from_millisecond(millis.max(0)).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Milliseconds since the epoch.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Whole seconds since the epoch, rounded down: the unit of TTL attributes and token claims.
    pub fn as_seconds(self) -> i64 {
        self.as_millis().div_euclid(1000)
    }

    /// This moment, later by `by`.
    pub fn plus(self, by: Duration) -> Self {
        Self::from_millis(self.as_millis().saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.as_millis() - earlier.as_millis()).unwrap_or(0))
    }

    /// The day in UTC as `yyyymmdd`: the part of a key that spreads busy rows.
    pub fn day(self) -> String {
        self.0.strftime("%Y%m%d").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        // The parser knows other dialects of ISO 8601, too.
        if !is_rfc_3339(text.as_bytes()) {
            return Err(NotATime);
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        if parsed.as_millisecond() < 0 { Err(NotATime) } else { Ok(Self::from_millis(parsed.as_millisecond())) }
    }
}

/// `yyyy-mm-ddThh:mm:ss`, a fraction of up to nine digits or none, `Z` or an offset `±hh:mm` (RFC 3339, section 5.6).
fn is_rfc_3339(text: &[u8]) -> bool {
    let fits = |text: &[u8], pattern: &[u8]| {
        text.len() == pattern.len()
            && text.iter().zip(pattern).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'T' => matches!(byte, b'T' | b't' | b' '),
                b'+' => matches!(byte, b'+' | b'-'),
                _ => byte == wanted,
            })
    };
    let Some((moment, rest)) = text.split_at_checked(19) else { return false };
    let digits = match rest.strip_prefix(b".") {
        Some(fraction) => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        None => 0,
    };
    let offset = rest.get(digits..).unwrap_or_default();
    fits(moment, b"0000-00-00T00:00:00")
        && (digits == 0 || (2..=10).contains(&digits))
        && (matches!(offset, b"Z" | b"z") || fits(offset, b"+00:00"))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_in_utc_with_milliseconds() {
        for (given, written) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000Z"),
            ("2026-01-31T12:00:00.1234567+02:00", "2026-01-31T10:00:00.123Z"),
            ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(given.parse::<Timestamp>().expect(given).to_string(), written);
        }
    }

    #[test]
    fn refuses_what_is_no_rfc_3339_time() {
        for text in
            ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"]
        {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn never_leaves_its_range() {
        assert_eq!(Timestamp::from_millis(-5).as_millis(), 0);
        assert!(Timestamp::from_millis(i64::MAX).plus(Duration::MAX).to_string().starts_with("9999-"));
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }
}
