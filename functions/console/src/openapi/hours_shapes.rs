//! The shapes of business hours: an app's, and those of a profile.
#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::shapes::texts;

texts! {
    /// A time of day by the clock on the wall.
    TimeOfDay: "^([01][0-9]|2[0-3]):[0-5][0-9]$", "09:00";
    /// A date by the calendar on the wall.
    Date: "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "2026-12-25";
    /// An IANA time zone.
    TimeZone: "^[A-Za-z0-9_+/-]{1,64}$", "Europe/Berlin";
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum AppHoursMode {
    Custom,
    Always,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum HoursMode {
    Inherit,
    Custom,
    Always,
}

/// Open from `open` to just before `close`; where `close` is not later, it is the next day's.
#[derive(ToSchema)]
pub(super) struct HoursWindow {
    open: TimeOfDay,
    close: TimeOfDay,
}

/// The windows of each day. No two may overlap, past midnight neither.
#[derive(ToSchema)]
pub(super) struct HoursWeek {
    #[schema(required = false, min_items = 1, max_items = 14)]
    mon: Vec<HoursWindow>,
    #[schema(required = false, min_items = 1, max_items = 14)]
    tue: Vec<HoursWindow>,
    #[schema(required = false, min_items = 1, max_items = 14)]
    wed: Vec<HoursWindow>,
    #[schema(required = false, min_items = 1, max_items = 14)]
    thu: Vec<HoursWindow>,
    #[schema(required = false, min_items = 1, max_items = 14)]
    fri: Vec<HoursWindow>,
    #[schema(required = false, min_items = 1, max_items = 14)]
    sat: Vec<HoursWindow>,
    #[schema(required = false, min_items = 1, max_items = 14)]
    sun: Vec<HoursWindow>,
}

/// Days as they are set; in a change `null` takes a day's windows away.
#[derive(ToSchema)]
pub(super) struct HoursWeekDraft {
    #[schema(max_items = 14)]
    mon: Option<Vec<HoursWindow>>,
    #[schema(max_items = 14)]
    tue: Option<Vec<HoursWindow>>,
    #[schema(max_items = 14)]
    wed: Option<Vec<HoursWindow>>,
    #[schema(max_items = 14)]
    thu: Option<Vec<HoursWindow>>,
    #[schema(max_items = 14)]
    fri: Option<Vec<HoursWindow>>,
    #[schema(max_items = 14)]
    sat: Option<Vec<HoursWindow>>,
    #[schema(max_items = 14)]
    sun: Option<Vec<HoursWindow>>,
}

/// A date with windows of its own in place of the week's, or closed.
#[derive(ToSchema)]
pub(super) struct HoursExceptionDraft {
    date: Date,
    /// What visitors are told that day.
    #[schema(min_length = 1, max_length = 100)]
    label: Option<String>,
    #[schema(required = false)]
    closed: bool,
    #[schema(required = false, max_items = 14)]
    windows: Vec<HoursWindow>,
}

#[derive(ToSchema)]
pub(super) struct HoursException {
    date: Date,
    #[schema(required = false)]
    label: String,
    #[schema(required = false)]
    closed: bool,
    #[schema(required = false, min_items = 1, max_items = 14)]
    windows: Vec<HoursWindow>,
}

#[derive(ToSchema)]
pub(super) struct AppHoursDraft {
    mode: AppHoursMode,
    /// Needed for `custom`.
    timezone: Option<TimeZone>,
    weekly: Option<HoursWeekDraft>,
    #[schema(max_items = 366)]
    exceptions: Option<Vec<HoursExceptionDraft>>,
    /// What visitors read while it is closed; the widget has words of its own.
    #[schema(min_length = 1, max_length = 300)]
    message: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct AppHours {
    mode: AppHoursMode,
    #[schema(required = false)]
    timezone: TimeZone,
    weekly: HoursWeek,
    exceptions: Vec<HoursException>,
    #[schema(required = false)]
    message: String,
}

/// A profile's own hours: what is given changes, `null` takes away, and the rest stays.
#[derive(ToSchema)]
pub(super) struct HoursDraft {
    mode: Option<HoursMode>,
    /// Needed for `custom`.
    timezone: Option<TimeZone>,
    weekly: Option<HoursWeekDraft>,
    #[schema(max_items = 366)]
    exceptions: Option<Vec<HoursExceptionDraft>>,
    /// What visitors read while it is closed; else the app's message.
    #[schema(min_length = 1, max_length = 300)]
    message: Option<String>,
}

#[derive(ToSchema)]
pub(super) struct Hours {
    mode: HoursMode,
    #[schema(required = false)]
    timezone: TimeZone,
    weekly: HoursWeek,
    exceptions: Vec<HoursException>,
    #[schema(required = false)]
    message: String,
}
