//! When the next attempt is due (contract section 4). Jitter is drawn from the delivery and the attempt, so that a
//! schedule is a table in a test.

use std::time::Duration;

use aws_lc_rs::digest;

use crate::id::DeliveryId;

/// Attempts of one delivery at most.
pub const MAX_ATTEMPTS: u32 = 3;
const BASE_MILLIS: u64 = 5_000;
/// The factor's distance from 1, in per mille.
const JITTER: u64 = 200;
/// A receiver's `Retry-After` lengthens a wait up to this.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// How long to wait after attempt `attempt` (from 1) before the next: `5 s · 4^(attempt-1)`, times a factor within
/// ±20 %; a `Retry-After` may lengthen it up to 15 minutes, never shorten it. `None` after the last attempt.
pub fn wait(delivery: DeliveryId, attempt: u32, retry_after: Option<Duration>) -> Option<Duration> {
    if attempt >= MAX_ATTEMPTS {
        return None;
    }
    let base = BASE_MILLIS * 4u64.pow(attempt.saturating_sub(1));
    let hash = digest::digest(&digest::SHA256, format!("{delivery}/{attempt}").as_bytes());
    let drawn = u64::from(u16::from_be_bytes([hash.as_ref()[0], hash.as_ref()[1]]));
    let factor = 1_000 - JITTER + drawn * (2 * JITTER) / u64::from(u16::MAX);
    let drawn = Duration::from_millis(base * factor / 1_000);
    Some(drawn.max(retry_after.unwrap_or_default().min(LONGEST)))
}

/// The same wait in the queue's unit, whole seconds, rounded down: the queue's own delay comes on top, and the earliest
/// permitted waits (4 s and 16 s) are whole.
pub fn delay_seconds(wait: Duration) -> i32 {
    i32::try_from(wait.as_secs().min(LONGEST.as_secs())).unwrap_or(900)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{EventId, IntegrationId, SessionId},
        time::Timestamp,
    };

    fn delivery(seed: u16) -> DeliveryId {
        let [a, b] = seed.to_be_bytes();
        let at = Timestamp::from_millis(1_000);
        DeliveryId::derive(
            SessionId::mint(at, &[a; 10]),
            EventId::mint(at, &[b; 10]),
            IntegrationId::mint(at, &[1; 10]),
        )
    }

    #[test]
    fn waits_spread_over_the_whole_band_and_stay_in_it() {
        for (attempt, low, high) in [(1, 4_000, 6_000), (2, 16_000, 24_000)] {
            let waits: Vec<_> =
                (0..2_000).map(|seed| wait(delivery(seed), attempt, None).expect("a wait").as_millis()).collect();
            assert!(waits.iter().all(|wait| (low..=high).contains(wait)));
            let span = high - low;
            assert!(
                waits.iter().any(|wait| *wait < low + span / 20) && waits.iter().any(|wait| *wait > high - span / 20)
            );
        }
    }

    #[test]
    fn the_third_attempt_is_the_last() {
        assert_eq!(wait(delivery(1), 3, None), None);
        assert_eq!(wait(delivery(1), 3, Some(Duration::from_secs(60))), None);
    }

    #[test]
    fn retry_after_only_lengthens() {
        let plain = wait(delivery(1), 1, None).expect("a wait");
        let with = |seconds| wait(delivery(1), 1, Some(Duration::from_secs(seconds))).expect("a wait");
        assert_eq!(with(1), plain);
        assert_eq!(with(60), Duration::from_secs(60));
        assert_eq!(with(3_600), LONGEST);
        assert_eq!(delay_seconds(with(3_600)), 900);
    }
}
