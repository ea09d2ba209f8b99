//! Business hours: when an app, or one profile of it, takes calls (contract section 7).
//!
//! - A window belongs to the date on which it opens, also when it runs past midnight. An exception replaces the windows of
//!   its own date alone: the evening before ends as planned, after midnight too. Who closes at midnight sharp gives the
//!   day before an exception as well.
//! - Windows of one date, and of the week, may not overlap. Those of an exception may overlap its neighbours'; open is
//!   then whenever either is.
//! - A boundary is the first instant at which the clock on the wall has come to it or gone past it: a local time that does
//!   not exist is the first instant after the gap, one that exists twice is its first. A window that lies in a gap is none.
//! - A profile's mode decides: `custom` its own hours, `inherit` the app's. `always`, in whichever decides, beats week and
//!   exceptions. An app that never said anything is always open.
//! - What a session says about being a preview changes nothing here: anybody can say it.
//!
//! Time zones are those of the database that is built in: nothing is read from the machine.

mod calendar;
mod wall;

use std::{fmt, iter};

use jiff::civil;
use serde::{Deserialize, Serialize};

pub use self::{
    calendar::{Closed, Opening, clock, decide, zone_names},
    wall::{Date, NotADate, NotATimeOfDay, TimeOfDay},
};
use crate::{
    app::given,
    field::{self, FieldError},
    strict,
};
use wall::MINUTES_OF_DAY;

/// Windows of one date at most.
pub const MAX_WINDOWS: usize = 14;
/// Exceptions at most.
pub const MAX_EXCEPTIONS: usize = 366;
/// Characters of an exception's label at most.
pub const MAX_LABEL: usize = 100;
/// Characters of what visitors read while it is closed, at most.
pub const MAX_MESSAGE: usize = 300;
/// Bytes of all of it, as JSON: it is read with every session, and lists of profiles hold a hundred.
pub const MAX_BYTES: usize = 32 * 1024;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Mode {
    /// A profile does as its app.
    #[default]
    Inherit,
    /// The week and the exceptions given here.
    Custom,
    /// Open at every time.
    Always,
}

/// Open from the first moment of `open` to just before `close`; where `close` is not later, it is the next day's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub struct Window {
    pub open: TimeOfDay,
    pub close: TimeOfDay,
}

/// The windows of each day of the week.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Weekly {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mon: Vec<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tue: Vec<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wed: Vec<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    thu: Vec<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fri: Vec<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sat: Vec<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sun: Vec<Window>,
}

/// A date with windows of its own, or none: a holiday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Exception {
    /// Which date.
    pub date: Date,
    /// What visitors are told that day: "Christmas".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether it has no windows at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// Its windows, in place of the week's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

/// The business hours of an app or a profile; a profile's are inherited until it has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(default)]
    weekly: Weekly,
    /// In the order of their dates.
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// What an operator sets, or changes as a merge patch does: `null` takes something away.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of Hours")]
pub struct Draft {
    #[serde(default, deserialize_with = "given")]
    pub mode: Option<Option<Mode>>,
    #[serde(default, deserialize_with = "given")]
    pub timezone: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    pub weekly: Option<Option<WeeklyDraft>>,
    #[serde(default, deserialize_with = "given")]
    pub exceptions: Option<Option<Vec<Exception>>>,
    /// What visitors read while it is closed.
    #[serde(default, deserialize_with = "given")]
    pub message: Option<Option<String>>,
}

impl Draft {
    /// What a profile is set to whose own hours are taken away.
    pub fn inherited() -> Self {
        Self { mode: Some(None), timezone: Some(None), weekly: Some(None), exceptions: Some(None), message: Some(None) }
    }
}

type DayDraft = Option<Option<Vec<Window>>>;

/// The days of a [`Draft`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[expect(missing_docs, reason = "the days of the week")]
pub struct WeeklyDraft {
    #[serde(default, deserialize_with = "given")]
    pub mon: DayDraft,
    #[serde(default, deserialize_with = "given")]
    pub tue: DayDraft,
    #[serde(default, deserialize_with = "given")]
    pub wed: DayDraft,
    #[serde(default, deserialize_with = "given")]
    pub thu: DayDraft,
    #[serde(default, deserialize_with = "given")]
    pub fri: DayDraft,
    #[serde(default, deserialize_with = "given")]
    pub sat: DayDraft,
    #[serde(default, deserialize_with = "given")]
    pub sun: DayDraft,
}

strict::words!(Mode);
strict::objects!(Window, Exception);
strict::inputs!(Draft, WeeklyDraft);

impl Hours {
    /// An app that never said anything.
    pub fn always() -> Self {
        Self { mode: Mode::Always, ..Self::default() }
    }

    /// An app's hours out of a whole draft.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn of_app(draft: Draft) -> Result<Self, Vec<FieldError>> {
        let wrong = match draft.mode {
            None | Some(None) => Some(FieldError::required("mode")),
            Some(Some(Mode::Inherit)) => {
                Some(FieldError::invalid("mode", "must be custom or always: an app has nothing to inherit from"))
            }
            Some(Some(_)) => None,
        };
        match (Self::default().change(draft), wrong) {
            (made, None) => made,
            (Ok(_), Some(wrong)) => Err(vec![wrong]),
            (Err(errors), Some(wrong)) => Err(iter::once(wrong).chain(errors).collect()),
        }
    }

    /// The same hours with what a draft gives changed.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn change(mut self, draft: Draft) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        self.mode = draft.mode.map_or(self.mode, Option::unwrap_or_default);
        match draft.timezone {
            None => {}
            Some(None) => self.timezone = None,
            Some(Some(name)) => match calendar::zone_name(&name) {
                Some(name) => self.timezone = Some(name),
                None => errors.push(FieldError::unknown("timezone", "must be an IANA time zone such as Europe/Berlin")),
            },
        }
        if self.mode == Mode::Custom && self.timezone.is_none() && errors.is_empty() {
            errors.push(FieldError::required("timezone"));
        }
        match draft.weekly {
            None => {}
            Some(None) => self.weekly = Weekly::default(),
            Some(Some(days)) => self.weekly.change(days),
        }
        errors.extend(self.weekly.check());
        if let Some(exceptions) = draft.exceptions {
            match in_order(exceptions.unwrap_or_default()) {
                Ok(exceptions) => self.exceptions = exceptions,
                Err(more) => errors.extend(more),
            }
        }
        if let Some(message) = draft.message {
            match message.map(|message| field::label("message", &message, MAX_MESSAGE)).transpose() {
                Ok(message) => self.message = message,
                Err(error) => errors.push(error),
            }
        }
        let bytes = serde_json::to_vec(&self).map_or(usize::MAX, |json| json.len());
        if errors.is_empty() && bytes > MAX_BYTES {
            let message = format!("must take at most {} KB together with all the rest", MAX_BYTES / 1024);
            errors.push(FieldError { code: "too_long", ..FieldError::invalid("exceptions", message) });
        }
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    fn exception(&self, date: civil::Date) -> Option<&Exception> {
        let at = self.exceptions.binary_search_by_key(&Date::from(date), |exception| exception.date).ok()?;
        self.exceptions.get(at)
    }
}

impl Weekly {
    /// Monday's first.
    fn days(&self) -> [&[Window]; 7] {
        [&self.mon, &self.tue, &self.wed, &self.thu, &self.fri, &self.sat, &self.sun]
    }

    fn change(&mut self, draft: WeeklyDraft) {
        let WeeklyDraft { mon, tue, wed, thu, fri, sat, sun } = draft;
        let Self { mon: a, tue: b, wed: c, thu: d, fri: e, sat: f, sun: g } = self;
        for (day, windows) in [(a, mon), (b, tue), (c, wed), (d, thu), (e, fri), (f, sat), (g, sun)] {
            if let Some(windows) = windows {
                *day = windows.unwrap_or_default();
                // What overlaps is found by `check`, wherever it stands.
                day.sort_by_key(|window| window.open);
            }
        }
    }

    fn check(&self) -> Vec<FieldError> {
        let days = self.days();
        let mut errors = Vec::new();
        for (at, windows) in days.into_iter().enumerate() {
            let field = format!("weekly.{}", DAYS[at]);
            let before = days[(at + 6) % 7].iter().map(|window| window.span().1).max().unwrap_or(0);
            if windows.first().is_some_and(|first| first.open.minutes() + MINUTES_OF_DAY < before) {
                let message = format!("overlaps a window of {} that runs past midnight", DAYS[(at + 6) % 7]);
                errors.push(FieldError::invalid(field.clone(), message));
            }
            errors.extend(check_date(&field, windows));
        }
        errors
    }
}

/// Checks the windows of one date; they are in order.
fn check_date(field: &str, windows: &[Window]) -> Option<FieldError> {
    if windows.len() > MAX_WINDOWS {
        let message = format!("must be at most {MAX_WINDOWS} windows");
        return Some(FieldError { code: "too_long", ..FieldError::invalid(field, message) });
    }
    let pairs = windows.iter().zip(windows.iter().skip(1));
    let mut overlaps = pairs.filter(|(one, next)| next.open.minutes() < one.span().1);
    overlaps.next().map(|(one, next)| {
        let message = format!("has windows that overlap: {one} and {next}");
        FieldError::invalid(field, message)
    })
}

/// Checks exceptions and puts them into the order of their dates.
fn in_order(mut exceptions: Vec<Exception>) -> Result<Vec<Exception>, Vec<FieldError>> {
    if exceptions.len() > MAX_EXCEPTIONS {
        let message = format!("must be at most {MAX_EXCEPTIONS}");
        return Err(vec![FieldError { code: "too_long", ..FieldError::invalid("exceptions", message) }]);
    }
    let mut errors = Vec::new();
    let mut dates = std::collections::BTreeSet::new();
    for (at, exception) in exceptions.iter_mut().enumerate() {
        let field = format!("exceptions[{at}]");
        if !dates.insert(exception.date) {
            errors.push(FieldError::invalid(format!("{field}.date"), "stands more than once"));
        }
        if let Some(label) = &exception.label {
            match field::label(&format!("{field}.label"), label, MAX_LABEL) {
                Ok(label) => exception.label = Some(label),
                Err(error) => errors.push(error),
            }
        }
        if exception.closed != exception.windows.is_empty() {
            let message = "must have windows, or say closed: true";
            errors.push(FieldError::invalid(field.clone(), message));
        }
        exception.windows.sort_by_key(|window| window.open);
        errors.extend(check_date(&format!("{field}.windows"), &exception.windows));
    }
    exceptions.sort_by_key(|exception| exception.date);
    if errors.is_empty() { Ok(exceptions) } else { Err(errors) }
}

impl Window {
    /// Minutes from the midnight of its date to its two ends; the second may lie in the next day.
    fn span(self) -> (u16, u16) {
        let (open, close) = (self.open.minutes(), self.close.minutes());
        (open, if close <= open { close + MINUTES_OF_DAY } else { close })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.open, self.close)
    }
}

#[cfg(test)]
mod tests;
