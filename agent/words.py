"""Numbers, sizes and times as people read them: the same in commands and on the page."""

from __future__ import annotations

from datetime import datetime

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def size(number: int) -> str:
    """A number of bytes for people: ``1.2 MB``."""
    amount = float(number)
    for unit in UNITS:
        if amount < 1000 or unit == UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``3 min 20 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``1,372 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def moment(at: datetime) -> str:
    """A time for people, in this laptop's zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(at: datetime, now: datetime) -> tuple[int, str]:
    """How long ago, roughly, as a number of a unit: ``(5, "minute")``, ``(3, "day")``; 0 minutes at first."""
    seconds = max(0.0, (now - at).total_seconds())
    for limit, length, noun in ((3600, 60, "minute"), (86400, 3600, "hour"), (float("inf"), 86400, "day")):
        if seconds < limit:
            return int(seconds // length), noun
    raise AssertionError
