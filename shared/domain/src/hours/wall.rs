//! Times and dates as the clock and the calendar on the wall show them, each in one spelling.

use std::{fmt, str::FromStr};

use jiff::civil;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(super) const MINUTES_OF_DAY: u16 = 24 * 60;

/// A time of day by the clock on the wall: `00:00` to `23:59`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay {
    minutes: u16,
}

/// The text is no time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time of day from 00:00 to 23:59; a window that ends at midnight closes at 00:00")]
pub struct NotATimeOfDay;

/// A date by the calendar on the wall: `2026-12-25`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(civil::Date);

/// The text is no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a date such as 2026-12-25")]
pub struct NotADate;

impl TimeOfDay {
    /// Minutes since midnight.
    pub(super) fn minutes(self) -> u16 {
        self.minutes
    }
}

impl Date {
    pub(super) fn civil(self) -> civil::Date {
        self.0
    }
}

impl From<civil::Date> for Date {
    fn from(date: civil::Date) -> Self {
        Self(date)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minutes / 60, self.minutes % 60)
    }
}

impl FromStr for TimeOfDay {
    type Err = NotATimeOfDay;

    fn from_str(text: &str) -> Result<Self, NotATimeOfDay> {
        let [a, b, b':', c, d] = *text.as_bytes() else { return Err(NotATimeOfDay) };
        if ![a, b, c, d].iter().all(u8::is_ascii_digit) {
            return Err(NotATimeOfDay);
        }
        let number = |tens: u8, ones: u8| u16::from(tens - b'0') * 10 + u16::from(ones - b'0');
        let (hour, minute) = (number(a, b), number(c, d));
        if hour < 24 && minute < 60 { Ok(Self { minutes: hour * 60 + minute }) } else { Err(NotATimeOfDay) }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Date {
    type Err = NotADate;

    fn from_str(text: &str) -> Result<Self, NotADate> {
        let bytes = text.as_bytes();
        // The parser knows other spellings, too.
        let fits = bytes.len() == 10
            && bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() });
        if fits { text.parse().map(Self).map_err(|_| NotADate) } else { Err(NotADate) }
    }
}

macro_rules! texts {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}

texts!(TimeOfDay, Date);
