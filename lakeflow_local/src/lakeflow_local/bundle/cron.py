"""Quartz cron expressions, as schedules of jobs write them.

Not croniter's: it repeats a time of day when clocks go back, which Quartz does not, and knows neither `L-3` nor `LW`.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

# fmt: off
_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
# fmt: on
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 1, 7, _DAYS),
    ("year", 1970, 2199, {}),
)
_LAST_YEAR = 2199
# Days that count from the end of the month, the working day nearest to one, the nth weekday; the group is the day.
_SPECIAL = {
    "day of month": re.compile(r"(?:L(?:-\d{1,2})?W?|(\w+)W)"),
    "day of week": re.compile(r"(?:L|(\w+)L|(\w+)#[1-5])"),
}


def check(expression: str) -> str | None:
    """What is wrong with a Quartz expression of six or seven fields, or None."""
    parts = expression.upper().split()
    if len(parts) not in (6, 7):
        return f"a Quartz expression has 6 or 7 fields, seconds first; this has {len(parts)}"
    for part, (name, low, high, names) in zip(parts, _FIELDS, strict=False):
        if part == "?" and name.startswith("day"):
            continue
        for item in part.split(","):
            if fault := _item(item, name, low, high, names):
                return f"{name}: {fault}"
    if (parts[3] == "?") == (parts[5] == "?"):
        return "write `?` for exactly one of day of month and day of week"
    return None


def _item(item: str, name: str, low: int, high: int, names: dict[str, int]) -> str | None:
    if name in _SPECIAL and (special := _SPECIAL[name].fullmatch(item)):
        day = next(filter(None, special.groups()), None)
        return _number(day, low, high, names) if day else None
    span, slash, step = item.partition("/")
    if slash and not (step.isdigit() and 0 < int(step) <= high):
        return f"`{item}` has no step between 1 and {high}"
    if span == "*":
        return None
    return next((fault for number in span.split("-", 1) if (fault := _number(number, low, high, names))), None)


def _number(text: str, low: int, high: int, names: dict[str, int]) -> str | None:
    if text in names or (text.isdigit() and low <= int(text) <= high):
        return None
    return f"`{text}` is not between {low} and {high}"


class Schedule:
    """The moments of a Quartz expression, which `check` finds no fault in, in a time zone.

    Times are those of the wall clock, as in Quartz: one that the clock skips comes an hour later, one that it shows
    twice comes once.
    """

    def __init__(self, expression: str, zone: str):
        self._zone = ZoneInfo(zone)
        parts = [*expression.upper().split(), "*"][:7]
        self._days_of_month, self._days_of_week = parts[3].split(","), parts[5].split(",")
        numbers = {
            name: sorted({value for item in part.split(",") for value in _values(item, low, high, names)})
            for part, (name, low, high, names) in zip(parts, _FIELDS, strict=True)
            if not name.startswith("day")
        }
        self._hours, self._minutes, self._seconds = (numbers[name] for name in ("hour", "minute", "second"))
        self._months, self._years = set(numbers["month"]), set(numbers["year"])

    def after(self, moment: datetime) -> datetime | None:
        """The first moment after an aware one, in UTC; None where there is none any more."""
        local = moment.astimezone(self._zone)
        day, hours = local.date(), [hour for hour in self._hours if hour >= local.hour - 1]
        while day.year <= _LAST_YEAR:
            if day.year in self._years and day.month in self._months and self._has(day):
                for hour, minute, second in product(hours, self._minutes, self._seconds):
                    found = datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=self._zone)
                    if (found := found.astimezone(UTC)) > moment:
                        return found
            day, hours = day + timedelta(days=1), self._hours
        return None

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The moments in `(start, end]`, in UTC."""
        moment = self.after(start)
        while moment is not None and moment <= end:
            yield moment
            moment = self.after(moment)

    def _has(self, day: date) -> bool:
        if self._days_of_week != ["?"]:
            return any(_is_weekday(item, day) for item in self._days_of_week)
        return any(_is_day(item, day) for item in self._days_of_month)


def _values(item: str, low: int, high: int, names: dict[str, int]) -> Iterator[int]:
    span, slash, step = item.partition("/")
    first, dash, last = span.partition("-")
    start = low if first == "*" else names.get(first) or int(first)
    end = (names.get(last) or int(last)) if dash else high if slash or first == "*" else start
    if end < start:  # a range may pass the end, such as FRI-MON
        end += high - low + 1
    for value in range(start, end + 1, int(step or 1)):
        yield (value - low) % (high - low + 1) + low


def _is_weekday(item: str, day: date) -> bool:
    number = day.isoweekday() % 7 + 1
    if item == "L":
        return number == 7
    if item.endswith("L"):
        return number in _values(item[:-1], 1, 7, _DAYS) and day.day + 7 > _length(day)
    weekday, hash_, nth = item.partition("#")
    return number in _values(weekday, 1, 7, _DAYS) and (not hash_ or (day.day + 6) // 7 == int(nth))


def _is_day(item: str, day: date) -> bool:
    if not item.endswith(("L", "W")) and not item.startswith("L"):
        return day.day in _values(item, 1, 31, {})
    back = re.fullmatch(r"L(?:-(\d+))?W?", item)
    wanted = _length(day) - int(back[1] or 0) if back else int(item[:-1])
    if wanted < 1 or wanted > _length(day):
        return False
    if item.endswith("W"):
        weekday = day.replace(day=wanted).weekday()
        if weekday == 5:
            wanted += -1 if wanted > 1 else 2
        elif weekday == 6:
            wanted += 1 if wanted < _length(day) else -2
    return day.day == wanted


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]
