use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::time::Timestamp;

fn draft(json: Value) -> Draft {
    serde_json::from_value(json).expect("a draft")
}

fn hours(json: Value) -> Hours {
    Hours::of_app(draft(json)).expect("hours")
}

fn fields(json: Value) -> Vec<String> {
    Hours::of_app(draft(json)).expect_err("wrong").into_iter().map(|error| error.field).collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn closed(opening: Opening) -> Closed {
    match opening {
        Opening::Closed(closed) => closed,
        Opening::Open => panic!("open"),
    }
}

/// What another calendar says (`tests/vectors/hours.py`).
#[derive(Deserialize)]
struct Vectors {
    schedules: Vec<Value>,
    cases: Vec<(usize, i64, Option<i64>)>,
}

#[test]
fn another_calendar_says_the_same() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../../../tests/vectors/hours.json")).expect("the vectors");
    let schedules: Vec<_> = vectors.schedules.into_iter().map(hours).collect();
    assert!(vectors.cases.len() >= 2_000);
    for (schedule, now, expected) in vectors.cases {
        let hours = &schedules[schedule];
        let said = match decide(Some(hours), None, Timestamp::from_millis(now * 1_000)) {
            Opening::Open => Some(-1),
            Opening::Closed(closed) => closed.opens_at.map(Timestamp::as_seconds),
        };
        assert_eq!(said, expected, "{now}: {hours:?}");
    }
}

#[test]
fn windows_are_half_open_to_the_millisecond() {
    let hours = hours(json!({"mode": "custom", "timezone": "Europe/Berlin",
        "weekly": {"mon": [{"open": "09:00", "close": "13:00"}, {"open": "13:00", "close": "18:00"}]}}));
    for (now, open) in [
        ("2026-11-23T07:59:59.999Z", false),
        ("2026-11-23T08:00:00.000Z", true),
        ("2026-11-23T12:00:00.000Z", true),
        ("2026-11-23T16:59:59.999Z", true),
        ("2026-11-23T17:00:00.000Z", false),
    ] {
        assert_eq!(decide(Some(&hours), None, at(now)) == Opening::Open, open, "{now}");
    }
    let closed = closed(decide(Some(&hours), None, at("2026-11-23T17:00:00.000Z")));
    assert_eq!(closed.opens_at, Some(at("2026-11-30T08:00:00.000Z")));
}

#[test]
fn a_night_ends_as_planned_also_on_a_holiday() {
    let night = json!([{"open": "20:00", "close": "02:00"}]);
    let closing = |exceptions: Value| {
        hours(json!({"mode": "custom", "timezone": "UTC", "weekly": {"thu": night, "fri": night, "sat": night},
            "exceptions": exceptions}))
    };
    // 2026-12-25 is a Friday.
    let christmas = closing(json!([{"date": "2026-12-25", "label": "Christmas", "closed": true}]));
    assert_eq!(decide(Some(&christmas), None, at("2026-12-25T01:59:59.999Z")), Opening::Open);
    let told = closed(decide(Some(&christmas), None, at("2026-12-25T02:00:00Z")));
    assert_eq!(
        (told.label.as_deref(), told.opens_at, told.message.as_str()),
        (Some("Christmas"), Some(at("2026-12-26T20:00:00Z")), "")
    );
    let also_before = closing(json!([{"date": "2026-12-25", "closed": true},
        {"date": "2026-12-24", "windows": [{"open": "20:00", "close": "00:00"}]}]));
    let told = closed(decide(Some(&also_before), None, at("2026-12-25T00:00:00Z")));
    assert_eq!((told.label, told.opens_at), (None, Some(at("2026-12-26T20:00:00Z"))));
}

#[test]
fn whose_hours_decide() {
    let never = hours(json!({"mode": "custom", "timezone": "UTC", "weekly": {}, "message": "Write to us"}));
    let always = Hours::always();
    let inherit = Hours::default();
    let now = at("2026-12-25T12:00:00Z");
    let open = |app, profile| decide(app, profile, now) == Opening::Open;
    for (app, profile, expected) in [
        (None, None, true),
        (None, Some(&inherit), true),
        (Some(&never), None, false),
        (Some(&never), Some(&inherit), false),
        (Some(&never), Some(&always), true),
        (Some(&always), Some(&never), false),
        (Some(&always), Some(&inherit), true),
        (None, Some(&never), false),
    ] {
        assert_eq!(open(app, profile), expected, "{app:?} {profile:?}");
    }
    let kept = hours(json!({"mode": "always", "timezone": "UTC", "weekly": {},
        "exceptions": [{"date": "2026-12-25", "closed": true}]}));
    assert!(open(Some(&kept), None), "always beats exceptions");
    let silent = hours(json!({"mode": "custom", "timezone": "UTC"}));
    let told = closed(decide(Some(&never), Some(&silent), now));
    assert_eq!((told.message.as_str(), told.opens_at), ("Write to us", None), "the app's words");
    assert_eq!(serde_json::to_value(closed(decide(None, Some(&silent), now))).expect("JSON"), json!({"message": ""}));
}

#[test]
fn the_end_of_time_is_no_accident() {
    let last = Timestamp::from_millis(i64::MAX);
    for (zone, weekly) in [
        ("Pacific/Kiritimati", json!({})),
        ("Pacific/Kiritimati", json!({"mon": [{"open": "23:59", "close": "23:58"}]})),
        ("Pacific/Niue", json!({"mon": [{"open": "00:00", "close": "00:00"}]})),
    ] {
        let hours = hours(json!({"mode": "custom", "timezone": zone, "weekly": weekly, "exceptions": [
            {"date": "9999-12-31", "windows": [{"open": "23:00", "close": "22:00"}]},
            {"date": "0000-01-01", "closed": true}]}));
        for now in [last, Timestamp::from_millis(last.as_millis() - 86_400_000), Timestamp::from_millis(0)] {
            if let Opening::Closed(Closed { opens_at: Some(opens_at), .. }) = decide(Some(&hours), None, now) {
                assert!(opens_at > now);
            }
        }
    }
}

#[test]
fn wrong_fields_are_named() {
    let custom = |more: Value| {
        let mut draft = json!({"mode": "custom", "timezone": "Europe/Berlin"});
        draft.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        draft
    };
    let days: Vec<_> = (0..367).map(|day| json!({"date": day_of(day), "closed": true})).collect();
    let quarters = |count: u16| -> Vec<Value> {
        (0..count).map(|at| json!({"open": clock(at * 20), "close": clock(at * 20 + 10)})).collect()
    };
    for (wrong, expected) in [
        (json!({}), vec!["mode"]),
        (json!({"mode": "inherit"}), vec!["mode"]),
        (json!({"mode": "custom"}), vec!["timezone"]),
        (json!({"mode": "always", "timezone": "Europe/Atlantis"}), vec!["timezone"]),
        (custom(json!({"timezone": null})), vec!["timezone"]),
        (
            custom(
                json!({"weekly": {"mon": [{"open": "09:00", "close": "13:00"}, {"open": "12:59", "close": "14:00"}]}}),
            ),
            vec!["weekly.mon"],
        ),
        (
            custom(
                json!({"weekly": {"mon": [{"open": "12:00", "close": "14:00"}, {"open": "09:00", "close": "09:00"}]}}),
            ),
            vec!["weekly.mon"],
        ),
        (
            custom(
                json!({"weekly": {"sun": [{"open": "22:00", "close": "02:00"}], "mon": [{"open": "01:59", "close": "05:00"}]}}),
            ),
            vec!["weekly.mon"],
        ),
        (
            custom(
                json!({"weekly": {"tue": [{"open": "22:00", "close": "02:00"}], "wed": [{"open": "00:00", "close": "05:00"}]}}),
            ),
            vec!["weekly.wed"],
        ),
        (custom(json!({"weekly": {"mon": quarters(15)}})), vec!["weekly.mon"]),
        (
            custom(
                json!({"exceptions": [{"date": "2026-12-25", "closed": true}, {"date": "2026-12-25", "closed": true}]}),
            ),
            vec!["exceptions[1].date"],
        ),
        (custom(json!({"exceptions": [{"date": "2026-12-25"}]})), vec!["exceptions[0]"]),
        (
            custom(json!({"exceptions": [{"date": "2026-12-25", "closed": true, "windows": quarters(1)}]})),
            vec!["exceptions[0]"],
        ),
        (
            custom(json!({"exceptions": [{"date": "2026-12-25", "windows": quarters(15)}]})),
            vec!["exceptions[0].windows"],
        ),
        (
            custom(json!({"exceptions": [{"date": "2026-12-25", "closed": true, "label": " "}]})),
            vec!["exceptions[0].label"],
        ),
        (custom(json!({"exceptions": days})), vec!["exceptions"]),
        (
            custom(json!({"exceptions": days[..366].iter().map(|day| {
            let mut day = day.clone();
            day["label"] = json!("x".repeat(100));
            day
        }).collect::<Vec<_>>()})),
            vec!["exceptions"],
        ),
        (custom(json!({"message": "x".repeat(301), "weekly": {"mon": quarters(15)}})), vec!["weekly.mon", "message"]),
    ] {
        assert_eq!(fields(wrong.clone()), expected, "{wrong}");
    }
    hours(custom(json!({"weekly": {"mon": quarters(14), "tue": [{"open": "00:00", "close": "00:00"}],
        "wed": [{"open": "00:00", "close": "00:00"}]}, "exceptions": days[..366], "message": "Back soon"})));
}

fn day_of(day: i16) -> String {
    let first = civil::date(2026, 1, 1);
    first.checked_add(jiff::Span::new().days(day)).expect("a date").to_string()
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

#[test]
fn no_path_is_a_time_zone() {
    for name in [
        "",
        " ",
        "..",
        "../../etc/passwd",
        "/etc/localtime",
        "Europe/../Europe/Berlin",
        "Europe/Berlin\0",
        "Europe/Berlin ",
        "Europe//Berlin",
        "Europe\\Berlin",
        "posix/Europe/Berlin",
        "right/UTC",
        "localtime",
        "posixrules",
        "Factory",
        "factory",
        "Etc/Unknown",
        "etc/unknown",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "+02:00",
        ":Europe/Berlin",
        "tzdata.zi",
        &"Europe/".repeat(9_000),
        "Ευρώπη/Αθήνα",
    ] {
        assert_eq!(fields(json!({"mode": "always", "timezone": name})), ["timezone"], "{name}");
    }
    for (name, kept) in [("europe/berlin", "Europe/Berlin"), ("utc", "UTC"), ("Asia/Calcutta", "Asia/Calcutta")] {
        assert_eq!(hours(json!({"mode": "always", "timezone": name})).timezone.as_deref(), Some(kept));
    }
}

#[test]
fn times_and_dates_have_one_spelling() {
    for wrong in ["24:00", "9:00", "09:60", "09:00:00", "0900", "+9:00", "09-00", " 9:00", "٠٩:٠٠", ""] {
        assert_eq!(wrong.parse::<TimeOfDay>(), Err(NotATimeOfDay), "{wrong}");
    }
    for wrong in
        ["2026-02-29", "20261225", "2026-W52-5", "2026-12-25T00", "+2026-12-25", "25.12.2026", "2026-13-01", ""]
    {
        assert_eq!(wrong.parse::<Date>(), Err(NotADate), "{wrong}");
    }
    assert_eq!("2028-02-29".parse::<Date>().expect("a date").to_string(), "2028-02-29");
    for wrong in [
        json!(["custom"]),
        json!({"mode": {"custom": null}}),
        json!({"mode": "custom", "zone": "UTC"}),
        json!({"mode": "custom", "weekly": {"monday": []}}),
        json!({"mode": "custom", "weekly": [[]]}),
        json!({"mode": "custom", "weekly": {"mon": [["09:00", "10:00"]]}}),
        json!({"mode": "custom", "weekly": {"mon": [{"open": "09:00"}]}}),
    ] {
        assert!(serde_json::from_value::<Draft>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn a_change_is_a_merge_patch() {
    let before = hours(json!({"mode": "custom", "timezone": "UTC", "message": "Back soon",
        "weekly": {"mon": [{"open": "09:00", "close": "17:00"}], "tue": [{"open": "09:00", "close": "17:00"}]},
        "exceptions": [{"date": "2026-12-26", "closed": true}, {"date": "2026-12-25", "closed": true}]}));
    let after = before.clone().change(draft(json!({"weekly": {"tue": null}, "message": null}))).expect("good");
    assert_eq!(
        serde_json::to_value(&after).expect("JSON"),
        json!({"mode": "custom", "timezone": "UTC", "weekly": {"mon": [{"open": "09:00", "close": "17:00"}]},
            "exceptions": [{"date": "2026-12-25", "closed": true}, {"date": "2026-12-26", "closed": true}]})
    );
    let stored: Hours = serde_json::from_value(serde_json::to_value(&after).expect("JSON")).expect("what was stored");
    assert_eq!(stored, after);
    assert_eq!(before.clone().change(Draft::default()), Ok(before.clone()));
    let empty = before.change(draft(json!({"weekly": null, "exceptions": null}))).expect("good");
    assert_eq!((empty.weekly, empty.exceptions.len()), (Weekly::default(), 0));
}

proptest! {
    /// Whatever the hours: what is closed stays closed until it opens next, and is open from then on.
    #[test]
    fn the_next_opening_is_one(
        zone in prop::sample::select(vec!["Australia/Lord_Howe", "Pacific/Apia", "Europe/Dublin", "Africa/Casablanca", "UTC"]),
        marks in prop::collection::btree_set(0u16..1440, 4),
        nights in any::<[bool; 7]>(),
        holiday in 0i16..365,
        now in 1_767_225_600i64..1_798_761_600,
    ) {
        let marks: Vec<String> = marks.into_iter().map(clock).collect();
        let mut weekly = json!({});
        for (day, night) in DAYS.into_iter().zip(nights) {
            let evening = json!({"open": marks[2], "close": marks[0]});
            let day_time = json!({"open": marks[0], "close": marks[1]});
            weekly[day] = if night { json!([day_time, evening]) } else { json!([day_time]) };
        }
        let hours = hours(json!({"mode": "custom", "timezone": zone, "weekly": weekly,
            "exceptions": [{"date": day_of(holiday), "closed": true}]}));
        let now = Timestamp::from_millis(now * 1_000);
        if let Opening::Closed(closed) = decide(Some(&hours), None, now) {
            let opens = closed.opens_at.expect("a week has windows");
            prop_assert!(opens > now);
            prop_assert_eq!(decide(Some(&hours), None, opens), Opening::Open);
            let between = now.as_millis() + (opens.as_millis() - now.as_millis()) / 2;
            for before in [opens.as_millis() - 1, between] {
                let told = decide(Some(&hours), None, Timestamp::from_millis(before));
                prop_assert!(matches!(told, Opening::Closed(told) if told.opens_at == Some(opens)));
            }
        }
    }
}
