//! The one door to the clock. A request's moment is read once, by the [`Now`](crate::extract::Now) extractor.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::time::Timestamp;

/// The time.
#[expect(clippy::disallowed_methods, reason = "this is the one door")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
