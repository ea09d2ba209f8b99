//! Rate limits of the public routes (contract section 3, "Limits"): how much is allowed, and what a caller is told.
//!
//! A window opens with its first request and lasts a minute; within it at most `limit` are admitted. Over any minute
//! that means at most twice the limit (one window's end and the next one's beginning).

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::time::Timestamp;

/// How long a window lasts.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The routes that are limited, each on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Widget document loads.
    Widget,
    /// New and renewed sessions.
    Session,
    /// Events, form values, surveys.
    Events,
    /// Calls.
    Calls,
    /// Tries to sign in to the console; of no app.
    SignIn,
}

impl Scope {
    /// Its name in keys and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Widget => "widget",
            Self::Session => "session",
            Self::Events => "events",
            Self::Calls => "calls",
            Self::SignIn => "sign-in",
        }
    }

    /// Requests per minute per (address, app) when nothing else is configured.
    pub fn defaults(self) -> Limits {
        let (ip, app) = match self {
            Self::Widget | Self::Events => (120, 12_000),
            Self::Session => (30, 3_000),
            Self::Calls => (6, 300),
            Self::SignIn => (30, u32::MAX),
        };
        Limits { ip, app }
    }
}

/// Requests per minute from one address, and to one app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Per client address (IPv6: per /64).
    pub ip: u32,
    /// Per app.
    pub app: u32,
}

/// What a caller over the limit is told: `X-RateLimit-*` and `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Requests allowed per window.
    pub limit: u32,
    /// When the window ends.
    pub reset: Timestamp,
}

impl Exceeded {
    /// Whole seconds until another try makes sense; at least one, at most a window: another instance's clock, or a window
    /// that opened while this request was on its way, must not add to it.
    pub fn retry_after(&self, now: Timestamp) -> u64 {
        self.retry_after_in(WINDOW, now)
    }

    /// The same, where windows have another length.
    pub fn retry_after_in(&self, window: Duration, now: Timestamp) -> u64 {
        self.reset.since(now).min(window).as_millis().div_ceil(1000).max(1) as u64
    }
}

/// The address that is counted: IPv4 as it is (also when mapped into IPv6), IPv6 by its /64, since one customer line
/// holds at least that many.
pub fn subject(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The address shortened for logs: enough to see a pattern, too little to name a person.
pub fn shorten(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subject_per_line() {
        for (ip, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(subject(ip.parse().expect(ip)), expected);
        }
        assert_eq!(shorten("203.0.113.9".parse().expect("an address")), "203.0.113.0/24");
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        let now = Timestamp::from_millis(1_000);
        let after = |millis| Exceeded { limit: 1, reset: Timestamp::from_millis(millis) }.retry_after(now);
        assert_eq!((after(1_000), after(1_001), after(61_000), after(61_700)), (1, 1, 60, 60));
        let reset = Timestamp::from_millis(3_000_000);
        assert_eq!(Exceeded { limit: 1, reset }.retry_after_in(Duration::from_secs(3_600), now), 2_999);
    }
}
