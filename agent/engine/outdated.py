"""This laptop's own queues after a restore: entries that still wait to tell of a row as it was before are outdated.

The platform would send the old row out as news. Rows that the restore only adds have no entries yet, and entries that
have been worked off are history; both stay.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.database.merge_write import by_table
from agent.database.queues import (
    delete_marked,
    mark_entries,
    marked_entries,
    renamed_ids,
    updated_ids,
    victim_ids,
)
from agent.database.undo import Change, Recorder
from agent.engine.apply_work import Work
from agent.engine.plan import Dequeued, RestorePlan
from agent.engine.restore_entries import Selection
from agent.engine.restore_errors import CountsDiffer
from agent.tables.infer import Classification
from agent.tables.schema import Schema, Table


def queues(schema: Schema, classification: Classification, selection: Selection) -> tuple[Table, ...]:
    """The queues that a restore of the selection does not fill itself."""
    return tuple(
        table
        for name, table in sorted(schema.tables.items())
        if classification.rule(name).pending is not None and name not in selection.tables
    )


async def find_outdated(work: Work, plan: RestorePlan) -> tuple[Dequeued, ...]:
    """Mark the entries that go, and count them."""
    replaced = _replaced(work, plan)
    found = []
    for queue in queues(work.schema, work.classification, work.selection) if replaced else ():
        pending = work.classification.rule(queue.name).pending
        if pending is not None and (rows := await mark_entries(work.connection, queue, pending, replaced)):
            found.append(Dequeued(queue.name, rows))
    return tuple(found)


async def dequeue(work: Work, plan: RestorePlan, recorder: Recorder) -> None:
    """Delete the marked entries; an undo brings them back."""
    for each in plan.dequeued:
        queue = work.schema.tables[each.table]
        await recorder.before(queue, Change.DELETED, marked_entries(queue))
        if await delete_marked(work.connection, queue) != each.rows:
            raise CountsDiffer(f"The queue {each.table} has changed meanwhile. Nothing was changed.")


def _replaced(work: Work, plan: RestorePlan) -> Mapping[tuple[str, ...], list[str]]:
    """For each table of which rows are replaced, by its two names: queries for their ids as they are now."""
    found: dict[str, list[str]] = {}
    for name, merges in by_table(work.merges).items():
        if plan.tables[name].update:
            found[name] = [updated_ids(merge) for merge in merges if not merge.stub and len(merge.identity) == 1]
    for name, victims in work.victims.items():
        if len(victims.table.identity) == 1:
            found.setdefault(name, []).append(victim_ids(victims))
    for rename in work.renames.found.values():
        found.setdefault(rename.table.name, []).append(renamed_ids(rename))
    return {(name, work.classification.rule(name).name): ids for name, ids in sorted(found.items()) if ids}
