//! Whether business hours are open at a moment, and when they open next.

use std::{iter, sync::LazyLock};

use jiff::{
    civil::{self, DateTime},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use serde::Serialize;

use super::{Hours, Mode, wall::MINUTES_OF_DAY};
use crate::time::Timestamp;

/// Whether calls are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// They are.
    Open,
    /// They are not.
    Closed(Closed),
}

/// What a visitor is told who comes outside business hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// The operator's words; empty when there are none, and the widget's own stand there in the visitor's language.
    pub message: String,
    /// What the day is called, if it is an exception with a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When it opens next; none, when never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
}

/// Whether calls to this profile of this app are taken now. Hours that were never set are none.
pub fn decide(app: Option<&Hours>, profile: Option<&Hours>, now: Timestamp) -> Opening {
    let own = profile.filter(|own| own.mode != Mode::Inherit);
    let Some(hours) = own.or(app).filter(|hours| hours.mode == Mode::Custom) else { return Opening::Open };
    let calendar = Calendar::of(hours);
    let Ok(at) = jiff::Timestamp::from_millisecond(now.as_millis()) else { return Opening::Open };
    let today = calendar.zone.to_datetime(at).date();
    if calendar.is_open(today, at) {
        return Opening::Open;
    }
    Opening::Closed(Closed {
        message: hours.message.clone().or_else(|| app?.message.clone()).unwrap_or_default(),
        label: hours.exception(today).and_then(|exception| exception.label.clone()),
        opens_at: calendar.next(today, at).map(|at| Timestamp::from_millis(at.as_millisecond())),
    })
}

/// The database that is built in.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of this name.
fn zone(name: &str) -> Option<TimeZone> {
    // Two entries stand for a place that nobody has said.
    ZONES.get(name).ok().filter(|zone| !zone.is_unknown() && zone.iana_name() != Some("Factory"))
}

/// How the database spells this name; `None` for what is no zone.
pub(super) fn zone_name(name: &str) -> Option<String> {
    zone(name)?.iana_name().map(ToOwned::to_owned)
}

/// The names that may be chosen from, in order.
pub fn zone_names() -> Vec<String> {
    let mut names: Vec<String> = ZONES.available().filter_map(|name| zone_name(name.as_str())).collect();
    names.sort();
    names.dedup();
    names
}

/// What clocks say at a moment in this zone, for people: `Mon 23 Nov 2026, 09:00`. In UTC where there is no such zone.
pub fn clock(zone_name: &str, at: Timestamp) -> String {
    let zone = zone(zone_name).unwrap_or(TimeZone::UTC);
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    zone.to_datetime(at).strftime("%a %-d %b %Y, %H:%M").to_string()
}

/// Hours in their time zone.
struct Calendar<'a> {
    hours: &'a Hours,
    zone: TimeZone,
}

impl<'a> Calendar<'a> {
    fn of(hours: &'a Hours) -> Self {
        // A name was known when it was saved, and the database never loses one.
        let zone = hours.timezone.as_deref().and_then(zone).unwrap_or(TimeZone::UTC);
        Self { hours, zone }
    }

    /// Whether a window holds `at`, on whose date it is `today`. The clock may have been set back over midnight.
    fn is_open(&self, today: civil::Date, at: jiff::Timestamp) -> bool {
        let days = [today.yesterday().ok(), Some(today), today.tomorrow().ok()];
        days.into_iter().flatten().any(|date| self.spans(date).any(|(start, end)| start <= at && at < end))
    }

    /// The first opening after `at`. Dates and their windows are in order, and so are the instants they begin at.
    fn next(&self, today: civil::Date, at: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let from = today.yesterday().unwrap_or(today);
        let starts = |date| self.spans(date).map(|(start, _)| start).find(|start| *start > at);
        if self.hours.weekly.days().iter().all(|windows| windows.is_empty()) {
            let dates = self.hours.exceptions.iter().map(|exception| exception.date.civil());
            return dates.filter(|date| *date >= from).find_map(starts);
        }
        // Were each exception to close the one open day of its week, and a gap that of one more, there would still be one.
        let most = 7 * (self.hours.exceptions.len() + 3);
        iter::successors(Some(from), |date| date.tomorrow().ok()).take(most).find_map(starts)
    }

    /// From when to when a date's windows are open; those that lie in a gap are left out.
    fn spans(&self, date: civil::Date) -> impl Iterator<Item = (jiff::Timestamp, jiff::Timestamp)> {
        let windows = match self.hours.exception(date) {
            Some(exception) => &exception.windows,
            None => self.hours.weekly.days()[date.weekday().to_monday_zero_offset() as usize],
        };
        windows.iter().filter_map(move |window| {
            let (open, close) = window.span();
            let start = self.first(date, open)?;
            // Beyond the end of time it stays open.
            let end = self.first(date, close).unwrap_or(jiff::Timestamp::MAX);
            (start < end).then_some((start, end))
        })
    }

    /// The first instant at which it is so many minutes past the midnight that `date` begins with, or later; `None` after
    /// the year 9999.
    fn first(&self, date: civil::Date, minutes: u16) -> Option<jiff::Timestamp> {
        let date = if minutes < MINUTES_OF_DAY { date } else { date.tomorrow().ok()? };
        let minutes = minutes % MINUTES_OF_DAY;
        let local: DateTime = date.at((minutes / 60) as i8, (minutes % 60) as i8, 0, 0);
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                let before = after.to_timestamp(local).ok()?;
                let changes = self.zone.following(before).map(|change| change.timestamp());
                changes.take(3).find(|at| self.zone.to_datetime(*at) >= local)
            }
        }
    }
}
