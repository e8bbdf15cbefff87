"""Writing the judged rows as planned: the second half of an apply (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Sequence

from agent.database.change_ids import change_ids
from agent.database.merge import Merge
from agent.database.merge_keys import park
from agent.database.merge_write import (
    Clear,
    Filling,
    advance_sequences,
    by_table,
    clear_loaded,
    insert_rows,
    update_rows,
)
from agent.database.placeholders import Wanted, make_placeholders
from agent.engine.apply_mirror import delete_first, delete_last
from agent.engine.apply_plan import wanted_placeholders
from agent.engine.apply_work import Work
from agent.engine.plan import RestorePlan
from agent.engine.progress import Step
from agent.engine.restore_errors import CountsDiffer
from agent.tables.order import insert_order


async def write(work: Work, plan: RestorePlan) -> tuple[str, ...]:
    """Do what the plan says; returns the sequences that moved. Raises ``CountsDiffer`` if the database did other."""
    _check_deleted(plan, await delete_first(work))
    if work.renames.found:
        work.progress(Step("changing ids"))
        for name, rows in (await change_ids(work.connection, work.schema, work.renames)).items():
            _compare(name, "take another id", plan.tables[name].reidentified, rows)
    for placeholder, wanted in zip(plan.placeholders, await due_placeholders(work, plan), strict=True):
        made = await make_placeholders(work.connection, work.schema, wanted)
        _compare(placeholder.table, "placeholder", placeholder.rows, made)
    for parking in work.parkings:
        await park(work.connection, parking)
    grouped = by_table(work.merges)
    order = insert_order(work.schema, grouped)
    done = await _loaded(work, plan)
    changes = plan.totals.changes
    for component in order:
        new = [name for name in component if plan.tables[name].insert and not grouped[name][0].stage.loaded]
        fillings = [_filling(work, name, grouped[name]) for name in new]
        if not fillings:
            continue
        work.progress(Step("writing", done, changes, ", ".join(component)))
        for name, rows in (await insert_rows(work.connection, work.schema, fillings)).items():
            _compare(name, "insert", plan.tables[name].insert, rows)
            done += rows
    for name in (name for component in order for name in component):
        work.progress(Step("writing", done, changes, name))
        rows = 0
        if plan.tables[name].update:
            rows = sum([await update_rows(work.connection, merge) for merge in grouped[name] if not merge.stub])
        _compare(name, "update", plan.tables[name].update, rows)
        done += rows
    _check_deleted(plan, await delete_last(work))
    moved: list[str] = []
    for name, merges in grouped.items():
        if plan.tables[name].insert or plan.tables[name].update or plan.tables[name].reidentified:
            moved += await advance_sequences(work.connection, work.schema.tables[name], merges[0].stage.written)
    return tuple(moved)


async def _loaded(work: Work, plan: RestorePlan) -> int:
    """Finish the rows that are in place already; returns how many those are."""
    done = 0
    for merge in work.merges:
        if merge.stage.loaded:
            name = merge.stage.table.name
            _compare(name, "insert", plan.tables[name].insert, work.staged_rows(merge.stage.index))
            await clear_loaded(work.connection, work.schema, _filling(work, name, (merge,)))
            done += plan.tables[name].insert
    return done


def _check_deleted(plan: RestorePlan, done: dict[str, int]) -> None:
    for name, rows in done.items():
        _compare(name, "delete", plan.tables[name].delete, rows)


async def due_placeholders(work: Work, plan: RestorePlan) -> Sequence[Wanted]:
    """What the placeholders of the plan stand for."""
    places = {(placeholder.table, placeholder.columns) for placeholder in plan.placeholders}
    return [wanted for wanted in wanted_placeholders(work) if (wanted.table.name, wanted.columns) in places]


def _filling(work: Work, name: str, merges: tuple[Merge, ...]) -> Filling:
    clears = tuple(Clear(reference.key, reference.clears) for reference in work.references[name] if reference.clears)
    return Filling(work.schema.tables[name], merges, clears)


def _compare(table: str, what: str, planned: int, done: int) -> None:
    if planned != done:
        raise CountsDiffer(f"Of {planned} rows to {what} in {table}, the database took {done}. Nothing was changed.")
