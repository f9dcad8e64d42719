"""Quartz cron expressions, as schedules of jobs write them."""

from __future__ import annotations

import re

# fmt: off
_MONTHS = {
    "JAN": 1, "FEB": 2, "MAR": 3, "APR": 4, "MAY": 5, "JUN": 6,
    "JUL": 7, "AUG": 8, "SEP": 9, "OCT": 10, "NOV": 11, "DEC": 12,
}
_DAYS = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}
# fmt: on
_FIELDS = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 1, 7, _DAYS),
    ("year", 1970, 2199, {}),
)
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
