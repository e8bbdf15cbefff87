"""What a restore is about to do, told to the recorder: the same merges and verdicts that are then written."""

from __future__ import annotations

from agent.database.merge import UPDATES, Merge, Verdict
from agent.database.names import quote
from agent.database.placeholders import missing_keys
from agent.database.undo import Change, Recorder
from agent.engine.apply import due_placeholders
from agent.engine.apply_work import Work
from agent.engine.plan import RestorePlan


async def record(work: Work, plan: RestorePlan, recorder: Recorder) -> None:
    """Keep what will be updated as it is, and note where the new rows will be. Before anything is written."""
    for wanted in await due_placeholders(work, plan):
        await recorder.will_insert(wanted.table, wanted.columns, missing_keys(work.schema, wanted))
    for merge in work.merges:
        table = merge.stage.table
        counts = plan.tables[table.name]
        if counts.update and not merge.stub and merge.identity:
            await recorder.before(table, Change.UPDATED, _pairs(merge, *UPDATES))
        if counts.insert:
            recorder.inserted(table, _pairs(merge, Verdict.INSERT) if merge.identity else _staged(merge))


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
