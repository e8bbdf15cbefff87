"""What is due, when the next time is, and what is missing. Pure: clock, zone and past are passed in.

A slot is one moment at which an entry is due: one for each of its times on each of its days, whatever the clocks do.
A time that daylight saving leaves out is due as long after the change as it lies behind it; one that comes twice is
due the first time. Slots that were slept through are made up for once, not one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RETRIES = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=4))
COMEBACK_GAP = timedelta(hours=1)
CLOCK_TOLERANCE = timedelta(hours=1)
AWAKE = timedelta(hours=1)
_HORIZON = 70  # days in which every day of the month comes up, the 31st too
# What is done first where several are due: the backups that the others are about.
_ORDER = ("backup", "push", "verify", "drill", "prune")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the schedule, as in the settings. ``days`` are weekdays or days of the month, () for every day.

    ``device`` is set where another device must be online; ``when_online``: due also when it comes back. ``added``:
    no slot before it counts (see :func:`latest_slot`).
    """

    name: str
    task: str
    at: tuple[time, ...]
    days: tuple[str, ...] = ()
    device: str | None = None
    when_online: bool = False
    jitter: timedelta = timedelta(0)
    alarm_after: timedelta = timedelta(hours=12)
    added: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the past. ``slot`` is None where a person or a comeback started it; ``ok``: it ended well."""

    started: datetime
    slot: datetime | None
    ok: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What an entry's runs come down to. ``slot``: the newest that was run at all; ``failures``: since the last
    success."""

    slot: datetime | None = None
    attempted: datetime | None = None
    succeeded: datetime | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """An entry that is to be run now, for ``slot`` (None: because its device came online), and why."""

    entry: Entry
    slot: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Missing:
    """An entry whose slot passed without a success for longer than it may."""

    entry: Entry
    slot: datetime
    succeeded: datetime | None


def past_of(runs: Iterable[Run], now: datetime) -> Past:
    """What the runs come down to. Runs of a clock that was ahead are left out, or nothing would be due for long."""
    slot = attempted = succeeded = None
    failures = 0
    for run in sorted(runs, key=lambda run: run.started):
        if run.started > now + CLOCK_TOLERANCE:
            continue
        attempted = run.started
        if run.slot is not None and run.slot <= now:
            slot = run.slot if slot is None else max(slot, run.slot)
        if run.ok:
            succeeded, failures = run.started, 0
        else:
            failures += 1
    return Past(slot, attempted, succeeded, failures)


def due(
    entries: Iterable[Entry],
    pasts: Mapping[str, Past],
    *,
    now: datetime,
    zone: tzinfo,
    online: Mapping[str, datetime],
    seed: str = "",
) -> tuple[Due, ...]:
    """What is to be run now, in the order in which it is to be run: one after another, never two at once.

    ``pasts`` by entry name; ``online``: since when each device is there, by the words in which entries name it;
    ``seed`` makes the jitter of this laptop its own.
    """
    found = [
        each
        for entry in entries
        if (each := _due(entry, pasts.get(entry.name, Past()), now, zone, online, seed)) is not None
    ]
    return tuple(sorted(found, key=lambda each: (_ORDER.index(each.entry.task), each.slot or now, each.entry.name)))


def _due(
    entry: Entry, past: Past, now: datetime, zone: tzinfo, online: Mapping[str, datetime], seed: str
) -> Due | None:
    since = online.get(entry.device) if entry.device is not None else None
    if entry.device is not None and since is None:
        return None
    if past.failures and past.attempted is not None:
        wait = RETRIES[min(past.failures, len(RETRIES)) - 1]
        if now < past.attempted + wait:
            return None
    slot = latest_slot(entry, now, zone)
    if slot is not None:
        fresh = past.slot is None or past.slot < slot
        if fresh and now >= slot + jitter(entry, slot, zone, seed):
            return Due(entry, slot, "its time" if now - slot < AWAKE + entry.jitter else "catching up")
        if not fresh and past.failures and (past.succeeded is None or past.succeeded < slot):
            return Due(entry, slot, "trying again")
    if entry.when_online and since is not None and _came_back(past, since, now):
        return Due(entry, None, "its device came online")
    return None


def _came_back(past: Past, since: datetime, now: datetime) -> bool:
    return past.succeeded is None or (past.succeeded < since and now - past.succeeded >= COMEBACK_GAP)


def jitter(entry: Entry, slot: datetime, zone: tzinfo, seed: str) -> timedelta:
    """How long after ``slot`` it is started: the same whenever asked, and never beyond half the way to the next one."""
    if not entry.jitter:
        return timedelta(0)
    digest = hashlib.sha256(f"{seed}|{entry.name}|{slot.astimezone(UTC).isoformat()}".encode()).digest()
    following = next_slot(entry, slot, zone)
    most = min(entry.jitter, (following - slot) / 2) if following else entry.jitter
    return most * (int.from_bytes(digest[:4], "big") / 2**32)


def latest_slot(entry: Entry, now: datetime, zone: tzinfo, *, present: datetime | None = None) -> datetime | None:
    """The newest slot at or before ``now``, UTC; None where there is none since the entry was added.

    ``present`` is the real time, where ``now`` is another. An entry that was added later than that was added by a clock
    that was ahead: that does not count, or nothing would be due for long.
    """
    added = entry.added
    if added is not None and added > (present or now) + CLOCK_TOLERANCE:
        added = None
    today = now.astimezone(zone).date()
    for back in range(-1, _HORIZON):
        passed = [slot for slot in slots_of(entry, today - timedelta(days=back), zone) if slot <= now]
        if passed:
            newest = max(passed)
            return newest if added is None or newest >= added else None
    return None


def next_slot(entry: Entry, now: datetime, zone: tzinfo) -> datetime | None:
    """The first slot after ``now``, UTC."""
    today = now.astimezone(zone).date()
    for ahead in range(-1, _HORIZON):
        coming = [slot for slot in slots_of(entry, today + timedelta(days=ahead), zone) if slot > now]
        if coming:
            return min(coming)
    return None


def slots_of(entry: Entry, day: date, zone: tzinfo) -> Iterator[datetime]:
    """The slots of one day of the calendar, UTC."""
    if entry.days and WEEKDAYS[day.weekday()] not in entry.days and str(day.day) not in entry.days:
        return
    for at in entry.at:
        # fold=0: the first of two; where the time does not exist, the offset before the change.
        yield datetime.combine(day, at, zone).astimezone(UTC)


def missing(
    entries: Iterable[Entry], pasts: Mapping[str, Past], *, now: datetime, zone: tzinfo, awake_since: datetime | None
) -> tuple[Missing, ...]:
    """The entries that are to raise an alarm: a success is missing, whether it was tried or not.

    ``awake_since`` is since when this laptop could have done something: right after it was opened nothing is an alarm.
    None: say what is missing, whoever's fault it is.
    """
    if awake_since is not None and now - awake_since < AWAKE:
        return ()
    found = []
    for entry in entries:
        slot = latest_slot(entry, now - entry.alarm_after, zone, present=now)
        past = pasts.get(entry.name, Past())
        if slot is not None and (past.succeeded is None or past.succeeded < slot):
            found.append(Missing(entry, slot, past.succeeded))
    return tuple(found)
