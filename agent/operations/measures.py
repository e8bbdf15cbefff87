"""Numbers over time, from the history: how large backups were, how long things took, when each last went well; and
what the log has to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.archive.records import APPLIED, DONE, PASSED, BackupRecord
from agent.operations.workspace import Workspace

POINTS = 60
_READ = 256 * 1024
_WORTH = ("warning", "error", "critical")
_KNOWN = {"timestamp", "level", "event", "logger", "exception"}

BYTES, SECONDS = "bytes", "seconds"


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: ``what`` is ``size`` or what took so long, ``about`` a kind, a business or nothing. The
    points are oldest first; ``unit`` is ``bytes`` or ``seconds``."""

    what: str
    about: str
    unit: str
    points: tuple[tuple[datetime, float], ...]


@dataclass(frozen=True, slots=True)
class Measures:
    """``last`` says when each kind of work last ended well; None where it never did."""

    series: tuple[Series, ...]
    last: tuple[tuple[str, datetime | None], ...]


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log that is worth a look. ``facts`` are what it names, as text."""

    at: datetime
    level: str
    event: str
    facts: str


class _Timed(Protocol):
    @property
    def started_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...


async def measures(workspace: Workspace) -> Measures:
    """The newest numbers of this laptop's history."""
    own = workspace.store.identity().node_id
    async with workspace.history() as history:
        made = await history.backups(device=own, origin="made", removed=None, limit=400)
        pushed = await history.transfers(direction="sent", mode="push", state=DONE, limit=POINTS)
        received = await history.transfers(direction="received", mode="push", state=DONE, limit=POINTS)
        pulled = await history.transfers(direction="received", mode="pull", state=DONE, limit=POINTS)
        restored = await history.restores(state=APPLIED, limit=POINTS)
        drilled = [each for each in await history.drills(limit=POINTS) if each.state == PASSED]
        runs = await history.runs(state=DONE, limit=400)
    backups = [each for each in runs if each.task == "backup"][:POINTS]
    checked = [each for each in runs if each.task == "verify"]
    timed: tuple[tuple[str, Iterable[_Timed]], ...] = (
        ("backup", backups),
        ("push", pushed),
        ("received", received),
        ("pull", pulled),
        ("restore", restored),
        ("drill", drilled),
    )
    last: list[tuple[str, datetime | None]] = [("backup", made[0].created_at if made else None)]
    last += [(what, _last(records)) for what, records in timed if what != "backup"]
    last.append(("verify", _last(checked)))
    series = (*_sizes(made), *(each for what, records in timed if (each := _lengths(what, records)).points))
    return Measures(series, tuple(last))


def _last(records: Iterable[_Timed]) -> datetime | None:
    return next((each.ended_at or each.started_at for each in records), None)


def _sizes(made: Iterable[BackupRecord]) -> Iterable[Series]:
    """A series for each kind, and for each business."""
    groups: dict[tuple[str, str], list[tuple[datetime, float]]] = {}
    for each in made:
        points = groups.setdefault((each.kind, each.business_name or ""), [])
        if len(points) < POINTS:
            points.append((each.created_at, float(each.size)))
    for (kind, business), points in sorted(groups.items()):
        yield Series("size", business or kind, BYTES, tuple(reversed(points)))


def _lengths(what: str, records: Iterable[_Timed]) -> Series:
    found = [(each.started_at, (each.ended_at - each.started_at).total_seconds()) for each in records if each.ended_at]
    return Series(what, "", SECONDS, tuple(reversed(found)))


async def log_lines(workspace: Workspace, limit: int = 40) -> tuple[LogLine, ...]:
    """Warnings and errors of the newest log, the newest first. Secrets were masked when they were written."""
    return await asyncio.to_thread(_log_lines, workspace.home.logs / "backroom.jsonl", limit)


def _log_lines(path: Path, limit: int) -> tuple[LogLine, ...]:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _READ))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in reversed(lines):
        if (each := _log_line(line)) is not None:
            found.append(each)
        if len(found) == limit:
            break
    return tuple(found)


def _log_line(line: str) -> LogLine | None:
    """A line that is worth a look; None for others, and for one that is cut off."""
    try:
        said = json.loads(line)
        if said["level"] not in _WORTH:
            return None
        facts = ", ".join(f"{name}: {value}" for name, value in said.items() if name not in _KNOWN)
        return LogLine(datetime.fromisoformat(said["timestamp"]), said["level"], str(said["event"]), facts[:300])
    except (ValueError, KeyError, TypeError):
        return None
