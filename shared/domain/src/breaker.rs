//! When an integration is paused by itself, and whose fault a failure is (contract section 4, "Circuit breaker").
//!
//! A breaker counts deliveries in a row that ended `failed`. Its life is numbered: every change of the integration's
//! status begins the next generation with nothing counted. A result belongs to the generation that was read when its
//! attempt began, so what an older life still brings neither trips nor resets a newer one.
//!
//! Only outcomes come here. That we could not try (the table, the key service, the outgoing client, or our own resolver)
//! is no outcome: the message goes back to its queue, nothing is recorded and nothing counted.

use serde::{Deserialize, Serialize};

use crate::delivery::{ErrorClass, Outcome};

/// Deliveries in a row that must fail.
pub const THRESHOLD: u32 = 20;
/// The status by which a receiver says that it wants nothing any more.
const GONE: u16 = 410;

/// The count of one integration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Deliveries in a row that failed in this life.
    pub failures: u32,
    /// Which life it is.
    pub generation: u64,
}

/// What a failed delivery does to its integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it belongs to an older life.
    Late,
    /// One more in a row.
    Counted,
    /// The integration is paused, and a new life begins.
    Paused(Pause),
}

/// Why the service pauses an integration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// [`THRESHOLD`] deliveries in a row failed.
    Failures,
    /// The receiver answered 410.
    Gone,
}

impl Pause {
    /// In words for an operator.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Failures => "20 deliveries in a row failed.",
            Self::Gone => "The receiver answered 410 Gone: it wants no more events.",
        }
    }

    /// Whether this outcome pauses by itself, whatever the count.
    pub fn demanded(outcome: &Outcome) -> Option<Self> {
        (outcome.status_code == Some(GONE)).then_some(Self::Gone)
    }
}

impl Breaker {
    /// A delivery failed whose attempt began in `generation`. `pause`: it asks for a pause by itself.
    #[must_use]
    pub fn failed(self, generation: u64, pause: Option<Pause>) -> (Self, Effect) {
        if generation != self.generation {
            return (self, Effect::Late);
        }
        let failures = self.failures.saturating_add(1);
        match pause.or((failures >= THRESHOLD).then_some(Pause::Failures)) {
            Some(pause) => (self.renewed(), Effect::Paused(pause)),
            None => (Self { failures, ..self }, Effect::Counted),
        }
    }

    /// A delivery succeeded whose attempt began in `generation`; `None` when nothing changes.
    #[must_use]
    pub fn succeeded(self, generation: u64) -> Option<Self> {
        (generation == self.generation && self.failures > 0).then_some(Self { failures: 0, ..self })
    }

    /// The integration's status changes: a new life.
    #[must_use]
    pub fn renewed(self) -> Self {
        Self { failures: 0, generation: self.generation + 1 }
    }
}

/// Whether an error is the receiver's (or its owner's) and counts. Each class is decided here by name, so that a new one
/// cannot be forgotten.
///
/// `Dns` counts: the name does not exist, has no address, or its own servers do not answer, and either way every event is
/// lost until somebody mends it. When it is our resolver that fails, the attempt is given back before there is an outcome.
/// `SecretMissing` and `BlockedAddress` count: both are the integration's own settings, which only its owner can change.
pub fn blames_receiver(error: ErrorClass) -> bool {
    match error {
        ErrorClass::Dns
        | ErrorClass::Connect
        | ErrorClass::Tls
        | ErrorClass::Timeout
        | ErrorClass::Reset
        | ErrorClass::Http4xx
        | ErrorClass::Http5xx
        | ErrorClass::Redirect
        | ErrorClass::BlockedAddress
        | ErrorClass::SecretMissing => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn trips_exactly_at_the_threshold() {
        let mut breaker = Breaker { failures: 0, generation: 7 };
        for failures in 1..THRESHOLD {
            let effect;
            (breaker, effect) = breaker.failed(7, None);
            assert_eq!((breaker, effect), (Breaker { failures, generation: 7 }, Effect::Counted));
        }
        assert_eq!(breaker.failed(7, None), (Breaker { failures: 0, generation: 8 }, Effect::Paused(Pause::Failures)));
    }

    #[test]
    fn what_a_result_does() {
        let at = |failures, generation| Breaker { failures, generation };
        for (before, generation, pause, expected) in [
            (at(0, 3), 3, None, (at(1, 3), Effect::Counted)),
            (at(19, 3), 2, None, (at(19, 3), Effect::Late)),
            (at(19, 3), 4, None, (at(19, 3), Effect::Late)),
            (at(0, 3), 3, Some(Pause::Gone), (at(0, 4), Effect::Paused(Pause::Gone))),
            (at(19, 3), 3, Some(Pause::Gone), (at(0, 4), Effect::Paused(Pause::Gone))),
            (at(5, 3), 2, Some(Pause::Gone), (at(5, 3), Effect::Late)),
            // More than the threshold in one life cannot be counted; if it stands there all the same, the next one trips.
            (at(40, 3), 3, None, (at(0, 4), Effect::Paused(Pause::Failures))),
        ] {
            assert_eq!(before.failed(generation, pause), expected, "{before:?} {generation} {pause:?}");
        }
        for (before, generation, expected) in
            [(at(19, 3), 3, Some(at(0, 3))), (at(0, 3), 3, None), (at(19, 3), 2, None), (at(19, 3), 4, None)]
        {
            assert_eq!(before.succeeded(generation), expected, "{before:?} {generation}");
        }
        assert_eq!(at(12, 3).renewed(), at(0, 4));
    }

    #[test]
    fn one_success_in_between_begins_again() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            for _ in 0..THRESHOLD - 1 {
                breaker = breaker.failed(0, None).0;
            }
            breaker = breaker.succeeded(0).expect("it had counted");
        }
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn only_410_pauses_by_itself() {
        let outcome = |status_code| Outcome {
            status_code,
            error: status_code.and_then(Outcome::classify),
            retry_after: None,
            excerpt: None,
            took: Duration::ZERO,
        };
        assert_eq!(Pause::demanded(&outcome(Some(410))), Some(Pause::Gone));
        for other in [None, Some(200), Some(404), Some(409), Some(411), Some(500)] {
            assert_eq!(Pause::demanded(&outcome(other)), None, "{other:?}");
        }
    }
}
