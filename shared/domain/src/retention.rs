//! How many days what is about visitors is kept, per app (contract section 6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{field::FieldError, strict, time::Timestamp};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days that calls and surveys may be kept.
pub const MAX_DAYS: u16 = 365;
/// Days that deliveries may be kept: the log is read room by room, four a day.
pub const MAX_DELIVERY_DAYS: u16 = 90;

/// Days. What is stored is told its end when it is made: a change holds for what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Retention {
    /// Of calls and form values.
    pub calls: u16,
    /// Of survey answers.
    pub surveys: u16,
    /// Of deliveries, with what was sent.
    pub deliveries: u16,
}

strict::objects!(Retention);

impl Default for Retention {
    fn default() -> Self {
        Self { calls: 30, surveys: 30, deliveries: 30 }
    }
}

impl Retention {
    /// Checks the days.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(self) -> Result<Self, Vec<FieldError>> {
        let fields = [
            ("calls", self.calls, MAX_DAYS),
            ("surveys", self.surveys, MAX_DAYS),
            ("deliveries", self.deliveries, MAX_DELIVERY_DAYS),
        ];
        let wrong = fields.into_iter().filter(|(_, days, most)| !(1..=*most).contains(days));
        let errors: Vec<_> = wrong
            .map(|(field, _, most)| FieldError::invalid(field, format!("must be from 1 to {most} days")))
            .collect();
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }
}

/// When what is made now is to be forgotten.
pub fn until(now: Timestamp, days: u16) -> Timestamp {
    now.plus(DAY * u32::from(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_bounds() {
        let fields = |calls, surveys, deliveries| {
            let checked = Retention { calls, surveys, deliveries }.check();
            checked.map_err(|errors| errors.into_iter().map(|error| error.field).collect::<Vec<_>>())
        };
        assert!(fields(1, 365, 90).is_ok());
        assert_eq!(fields(0, 366, 91), Err(vec!["calls".into(), "surveys".into(), "deliveries".into()]));
        assert_eq!(until(Timestamp::from_millis(0), 2).as_seconds(), 172_800);
    }
}
