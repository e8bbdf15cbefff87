"""Times as the platform writes them, ``YYYY-MM-DDTHH:MM:SS.mmmZ``, and as PostgreSQL's text (DateStyle ISO, UTC)."""

from __future__ import annotations

import re
from datetime import date

from protocol.platform_json.errors import ValueMisfit

_STORED = re.compile(
    r"([0-9]{4,6})-([0-9]{2}-[0-9]{2})(?: ([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?(?:\+00)?)?( BC)?", re.ASCII
)
_CLOCK = re.compile(r"([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,6}))?", re.ASCII)
_WRITTEN = re.compile(
    r"([+-][0-9]{6}|[0-9]{4})-([0-9]{2})-([0-9]{2})T(([0-9]{2}):([0-9]{2}):([0-9]{2}))\.([0-9]{3})Z", re.ASCII
)
_MIDNIGHT = ("1970-01-02", "24:00:00")
INFINITE = ("infinity", "-infinity")


def written(stored: str) -> tuple[str, bool]:
    """The platform's text of a timestamp or date, and whether nothing was lost (it has milliseconds only).

    ``infinity`` stays as it is: the platform refuses it, instead of taking something else. Raises ``ValueMisfit``.
    """
    found = _STORED.fullmatch(stored)
    if found is None:
        if stored in INFINITE:
            return stored, True
        raise ValueMisfit(f"is no time: {stored[:60]!r}")
    year, day, clock, fraction, before = found.groups()
    if before:
        number = 1 - int(year)
        year = f"-{-number:06}" if number else "0000"
    elif len(year) > 4:
        year = f"+{int(year):06}"
    milliseconds, exact = _milliseconds(fraction)
    return f"{year}-{day}T{clock or '00:00:00'}.{milliseconds}Z", exact


def written_clock(stored: str) -> tuple[str, bool]:
    """The same for a time of day, which the platform keeps as a moment of 1970-01-01."""
    found = _CLOCK.fullmatch(stored)
    if found is None:
        raise ValueMisfit(f"is no time of day: {stored[:60]!r}")
    milliseconds, exact = _milliseconds(found[2])
    if found[1] == _MIDNIGHT[1]:
        return f"{_MIDNIGHT[0]}T00:00:00.000Z", exact
    return f"1970-01-01T{found[1]}.{milliseconds}Z", exact


def _milliseconds(fraction: str | None) -> tuple[str, bool]:
    if fraction is None:
        return "000", True
    return fraction[:3].ljust(3, "0"), not fraction[3:].strip("0")


def stored(text: str, base: str, digits: int | None) -> str:
    """PostgreSQL's text of the platform's time ``text`` for a column of type ``base`` with ``digits`` of a second.

    Raises ``ValueMisfit`` for any form but the platform's own, and for what the column would round.
    """
    if text in INFINITE and base.startswith(("timestamp", "date")):
        return text
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueMisfit(f"is no time in the platform's form (YYYY-MM-DDTHH:MM:SS.mmmZ): {text[:60]!r}")
    year, month, day, clock, hours, minutes, seconds, milliseconds = found.groups()
    number = int(year)
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59 or not _is_day(number, int(month), int(day)):
        raise ValueMisfit(f"is a time that does not exist: {text[:60]!r}")
    fraction = milliseconds.rstrip("0")
    if digits is not None and len(fraction) > digits:
        raise ValueMisfit(f"is more exact than the column, which keeps {digits} digits of a second: {text!r}")
    moment = clock + (f".{fraction}" if fraction else "")
    if base == "time without time zone":
        if text == f"{_MIDNIGHT[0]}T00:00:00.000Z":
            return _MIDNIGHT[1]
        if (number, month, day) != (1970, "01", "01"):
            raise ValueMisfit(f"is a moment where the column holds a time of day: {text!r}")
        return moment
    before = " BC" if number <= 0 else ""
    head = f"{1 - number if before else number:04}-{month}-{day}"
    if base == "date":
        if moment != "00:00:00":
            raise ValueMisfit(f"has a time of day where the column holds a date: {text!r}")
        return head + before
    return f"{head} {moment}{'+00' if base == 'timestamp with time zone' else ''}{before}"


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(2000 + year % 400, month, day)  # the calendar repeats every 400 years
    except ValueError:
        return False
    return True
