"""What a restore is about to do, told to the recorder: the same merges and verdicts that are then written."""

from __future__ import annotations

from collections.abc import Sequence

from agent.database.merge import UPDATES, Merge, Verdict
from agent.database.merge_write import by_table
from agent.database.mirror import TID, going
from agent.database.names import qualified, quote
from agent.database.placeholders import missing_keys
from agent.database.undo import Change, Recorder
from agent.engine.apply import due_placeholders
from agent.engine.apply_work import Work
from agent.engine.plan import RestorePlan
from agent.tables.schema import Table


def as_in_bundle(work: Work, plan: RestorePlan) -> dict[str, int]:
    """The tables whose rows are all new and exactly those of one entry of the bundle, with the entry's index.

    Told only where rows are loaded: then the schemas are equal, and nobody's trigger has a say in what is written.
    """
    if not any(merge.stage.loaded for merge in work.merges):
        return {}
    cleared = {each.table for each in plan.cleared}
    alone = {name: merges[0] for name, merges in by_table(work.merges).items() if len(merges) == 1}
    return {name: merge.stage.index for name, merge in alone.items() if merge.fresh and name not in cleared}


async def record(work: Work, plan: RestorePlan, recorder: Recorder) -> None:
    """Keep what will be updated as it is, and note where the new rows will be, but for those that need not be read
    again (:func:`as_in_bundle`). Before anything is written."""
    for wanted in await due_placeholders(work, plan):
        await recorder.will_insert(wanted.table, wanted.columns, missing_keys(work.schema, wanted))
    for victims in work.victims.values():
        await recorder.before(victims.table, Change.DELETED, going(victims))
    grouped = by_table(work.merges)
    for name, table in work.schema.tables.items():
        if work.renames.reading(table) and table.identity:
            await _changing_ids(work, table, grouped.get(name, ()), recorder)
    for merge in work.merges:
        table = merge.stage.table
        counts = plan.tables[table.name]
        if counts.update and not merge.stub and merge.identity and not merge.reading:
            await recorder.before(table, Change.UPDATED, _pairs(merge, *UPDATES, Verdict.RAISED))
        if counts.insert and not merge.fresh:
            recorder.inserted(table, _pairs(merge, Verdict.INSERT) if merge.identity else _staged(merge))
    known = as_in_bundle(work, plan)
    for name, merges in grouped.items():
        if merges[0].fresh and plan.tables[name].insert and name not in known:
            recorder.inserted(work.schema.tables[name], f"{qualified(work.schema.tables[name])} l")


async def _changing_ids(work: Work, table: Table, merges: Sequence[Merge], recorder: Recorder) -> None:
    """Keep the rows that take another id, refer to one that does, or are updated beside that; each once."""
    reading = work.renames.reading(table)
    which = [work.renames.changed(table, "l")]
    which += [
        f"EXISTS (SELECT FROM {merge.stage.relation} s WHERE {merge.same_row('r', 's')} "
        f"AND {merge.chosen(*UPDATES, Verdict.RAISED)})"
        for merge in merges
        if not merge.stub and merge.identity
    ]
    going_rows = work.victims.get(table.name)
    stays = f" AND l.ctid NOT IN (SELECT {TID} FROM {going_rows.relation})" if going_rows else ""
    rows = f"{qualified(table)} l JOIN {reading} r ON r.ctid = l.ctid WHERE ({' OR '.join(which)}){stays}"
    await recorder.before(table, Change.UPDATED, rows, now=[f"r.{quote(name)}" for name in table.identity])


def _pairs(merge: Merge, *verdicts: Verdict) -> str:
    """A FROM clause with the live rows ``l`` of the staged rows ``s`` with these verdicts."""
    return f"{merge.live} l JOIN {merge.stage.relation} s ON {merge.same_row()} WHERE {merge.chosen(*verdicts)}"


def _staged(merge: Merge) -> str:
    """Without an identity new rows cannot be found again, but they are as staged. A column that the bundle lacks is
    taken for NULL: such a row will not be recognised by an undo, which then leaves it."""
    written = set(merge.stage.written)
    columns = ", ".join(
        f"s.{quote(column.name)}" if column.name in written else f"NULL::{column.type} AS {quote(column.name)}"
        for column in merge.stage.table.stored_columns
    )
    return f"(SELECT {columns} FROM {merge.stage.relation} s WHERE {merge.chosen(Verdict.INSERT)}) l"
