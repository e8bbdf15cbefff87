"""The schedule as it stands, for commands and the page: see ``operations.scheduling``."""

from __future__ import annotations

from agent.archive.records import RunRecord
from agent.operations.scheduling import EntrySeen, entry_named
from agent.operations.workspace import Workspace, utc_now
from agent.schedule.due import Past, missing, next_slot
from agent.schedule.tasks import entry_of, pasts, run_entry
from agent.zone import LOCAL


class Seen:
    """The ``Planner`` of this package."""

    async def look(self, workspace: Workspace) -> tuple[EntrySeen, ...]:
        """Every entry of the schedule with its times."""
        now = utc_now()
        settings = workspace.config.schedule
        async with workspace.history() as history:
            known = await pasts(history, now)
            last = {each.name: await history.runs(entry=each.name, limit=1) for each in settings}
        entries = {each.name: entry_of(each) for each in settings if not each.off}
        late = {each.entry.name for each in missing(entries.values(), known, now=now, zone=LOCAL, awake_since=None)}
        found = []
        for each in settings:
            past = known.get(each.name, Past())
            found.append(
                EntrySeen(
                    entry=each,
                    succeeded=past.succeeded,
                    next=next_slot(entries[each.name], now, LOCAL) if each.name in entries else None,
                    missing=each.name in late,
                    failures=past.failures,
                    last=last[each.name][0] if last[each.name] else None,
                )
            )
        return tuple(found)

    async def run(self, workspace: Workspace, name: str) -> RunRecord:
        """Do what the entry says now."""
        entry = entry_named(workspace, name)
        async with workspace.history() as history:
            return await run_entry(workspace, history, entry)
