//! Session timers (RFC 4028): who refreshes a session, when, and when a session that nobody refreshes is dead.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// The interval we ask for (the RFC's recommendation, section 4).
pub const INTERVAL: Duration = Duration::from_secs(1_800);
/// The shortest interval anybody may ask for (section 5).
pub const MIN_INTERVAL: Duration = Duration::from_secs(90);
/// A `Min-SE` above this is not followed: a call is never that long (issue: 60 minutes at most).
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// Who sends refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// We do.
    Us,
    /// The other side does.
    Peer,
}

/// The value of a `Session-Expires` header: seconds, and which side of the transaction refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expires {
    /// How long a session lives without a refresh.
    pub interval: Duration,
    /// Whether the refresher is the side that sent the request (`uac`); `None`: not said.
    pub by_sender: Option<bool>,
}

impl Expires {
    /// Reads `1800;refresher=uac`. `None`: no number, or one beyond all bounds.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let interval = seconds(parts.next()?)?;
        let mut by_sender = None;
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name.trim().eq_ignore_ascii_case("refresher") {
                by_sender = match value.trim().to_ascii_lowercase().as_str() {
                    "uac" => Some(true),
                    "uas" => Some(false),
                    _ => return None,
                };
            }
        }
        Some(Self { interval, by_sender })
    }
}

impl fmt::Display for Expires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.interval.as_secs())?;
        match self.by_sender {
            Some(true) => f.write_str(";refresher=uac"),
            Some(false) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

/// The interval to ask for after a 422 that names the shortest one accepted in `Min-SE`; `None`: not to be followed.
pub fn raised(min_se: &str) -> Option<Duration> {
    seconds(min_se.split(';').next()?.trim())
}

fn seconds(text: &str) -> Option<Duration> {
    let interval = Duration::from_secs(text.parse().ok()?);
    (interval <= MAX_INTERVAL).then_some(interval)
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A refresh by us.
    Refresh,
    /// The end: nobody refreshed the session.
    Expiry,
}

/// The interval asked for is below [`MIN_INTERVAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// The timer of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    interval: Duration,
    refresher: Refresher,
    refreshed: Instant,
    /// Not to refresh again before this: one attempt at a time.
    asked: Option<Instant>,
}

impl SessionTimer {
    /// Of the 2xx to a request of ours; `None`: the session has no timer. Who the answer names refreshes; when it names
    /// nobody, the one who asked does (table 2).
    pub fn answered(expires: Option<Expires>, now: Instant) -> Option<Self> {
        let Expires { interval, by_sender } = expires?;
        let refresher = if by_sender.unwrap_or(true) { Refresher::Us } else { Refresher::Peer };
        Some(Self::new(interval, refresher, now))
    }

    /// Of a request of the other side, and what to answer it. When it names nobody, it keeps the duty itself, for its
    /// clock is the one that runs already.
    ///
    /// # Errors
    /// When the interval is below [`MIN_INTERVAL`], which an answer may not raise: 422.
    pub fn asked(Expires { interval, by_sender }: Expires, now: Instant) -> Result<(Self, Expires), TooSmall> {
        let by_sender = by_sender.unwrap_or(true);
        let refresher = if by_sender { Refresher::Peer } else { Refresher::Us };
        if interval < MIN_INTERVAL {
            return Err(TooSmall);
        }
        Ok((Self::new(interval, refresher, now), Expires { interval, by_sender: Some(by_sender) }))
    }

    fn new(interval: Duration, refresher: Refresher, now: Instant) -> Self {
        Self { interval, refresher, refreshed: now, asked: None }
    }

    /// Who refreshes.
    pub fn refresher(&self) -> Refresher {
        self.refresher
    }

    /// What a refresh of ours asks for.
    pub fn request(&self) -> Expires {
        Expires { interval: self.interval, by_sender: Some(self.refresher == Refresher::Us) }
    }

    /// What comes next, and when: half the interval for a refresh, and before the end of the interval, by a third of it
    /// or 32 seconds, whichever is shorter, for the end (section 10).
    pub fn next(&self) -> (Instant, Due) {
        let expiry = self.refreshed + self.interval.saturating_sub((self.interval / 3).min(Duration::from_secs(32)));
        match (self.refresher, self.asked) {
            (Refresher::Us, None) => (self.refreshed + self.interval / 2, Due::Refresh),
            (Refresher::Us, Some(_)) | (Refresher::Peer, _) => (expiry, Due::Expiry),
        }
    }

    /// A refresh of ours is on its way.
    pub fn refreshing(&mut self, now: Instant) {
        self.asked = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_HOUR: Duration = Duration::from_secs(1_800);

    fn expires(text: &str) -> Option<Expires> {
        Expires::parse(text)
    }

    #[test]
    fn headers() {
        for (text, seconds, by_sender) in [
            ("1800", 1_800, None),
            (" 90 ; refresher=uac", 90, Some(true)),
            ("90;refresher=UAS;x=1", 90, Some(false)),
            ("0", 0, None),
        ] {
            let read = expires(text).expect(text);
            assert_eq!((read.interval.as_secs(), read.by_sender), (seconds, by_sender), "{text}");
        }
        for text in ["", "x", "-1", "90;refresher=both", "999999999999", "99999999999999999999999"] {
            assert_eq!(expires(text), None, "{text}");
        }
        assert_eq!(expires("90;refresher=uas").expect("good").to_string(), "90;refresher=uas");
        assert_eq!((raised("300"), raised("300;x"), raised("soon")), (Some(HALF_HOUR / 6), Some(HALF_HOUR / 6), None));
    }

    /// Columns: the header; of the 2xx to our request: who refreshes, when what is due; of their request: the same.
    #[test]
    fn who_refreshes_and_when() {
        use {Due::*, Refresher::*};
        let now = Instant::now();
        for (text, ours, theirs) in [
            ("1800", (Us, 900, Refresh), (Peer, 1_768, Expiry)),
            ("1800;refresher=uac", (Us, 900, Refresh), (Peer, 1_768, Expiry)),
            ("1800;refresher=uas", (Peer, 1_768, Expiry), (Us, 900, Refresh)),
            ("90;refresher=uas", (Peer, 60, Expiry), (Us, 45, Refresh)),
        ] {
            let timer = SessionTimer::answered(expires(text), now).expect(text);
            let (at, due) = timer.next();
            assert_eq!((timer.refresher(), (at - now).as_secs(), due), ours, "{text}");
            let (timer, answer) = SessionTimer::asked(expires(text).expect(text), now).expect(text);
            assert_eq!(answer.by_sender, Some(timer.refresher() == Peer), "{text}");
            let (at, due) = timer.next();
            assert_eq!((timer.refresher(), (at - now).as_secs(), due), theirs, "{text}");
        }
        assert_eq!(SessionTimer::answered(None, now), None);
        assert_eq!(SessionTimer::asked(expires("89").expect("good"), now), Err(TooSmall));
        // An answer decides; a far side may answer less than it may be asked.
        let timer = SessionTimer::answered(expires("6;refresher=uac"), now).expect("a timer");
        assert_eq!(timer.next(), (now + Duration::from_secs(3), Refresh));
    }

    #[test]
    fn a_refresh_is_sent_once_and_its_silence_ends_the_session() {
        let now = Instant::now();
        let mut timer = SessionTimer::answered(expires("1800"), now).expect("a timer");
        assert_eq!(timer.request().to_string(), "1800;refresher=uac");
        timer.refreshing(now + HALF_HOUR / 2);
        assert_eq!(timer.next(), (now + Duration::from_secs(1_768), Due::Expiry));
    }
}
