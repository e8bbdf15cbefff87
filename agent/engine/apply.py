"""Judging the staged rows and writing them: the plan is the first half of the apply (DESIGN section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from agent.database.merge import WRITTEN, Conflicts, Judged, Merge, Verdict, judge
from agent.database.merge_keys import collisions
from agent.database.merge_write import (
    Clear,
    Filling,
    advance_sequences,
    by_table,
    count_missing_parents,
    insert_rows,
    update_rows,
)
from agent.database.placeholders import Wanted, count_placeholders, make_placeholders
from agent.database.staging import Stage
from agent.database.transaction import Connection
from agent.engine.plan import (
    Cleared,
    Duplicate,
    Placeholder,
    RestorePlan,
    TableCounts,
    plan_digest,
)
from agent.engine.progress import Progress, Step
from agent.engine.restore_entries import DeviceReference, Selection, device_references, row_identity
from agent.engine.restore_errors import CountsDiffer, MissingReferences, listed
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.order import insert_order
from agent.tables.schema import Schema, Table
from protocol.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Work:
    """All that a restore knows once its rows are staged."""

    connection: Connection
    manifest: Manifest
    schema: Schema
    classification: Classification
    selection: Selection
    merges: tuple[Merge, ...]
    references: dict[str, tuple[DeviceReference, ...]]
    progress: Progress

    @property
    def tables(self) -> tuple[Table, ...]:
        """The live tables, each once, by name."""
        return tuple(self.schema.tables[name] for name in sorted(by_table(self.merges)))


def prepare(
    connection: Connection,
    manifest: Manifest,
    schema: Schema,
    classification: Classification,
    selection: Selection,
    stages: dict[int, Stage],
    conflicts: Conflicts,
    progress: Progress,
) -> Work:
    """How each stage meets its table."""
    references = {
        name: device_references(schema.tables[name], classification, selection.tables) for name in selection.tables
    }
    merges = tuple(
        _merge(stages[chosen.index], chosen.entry.stub, classification, references[chosen.table.name], conflicts)
        for chosen in selection.entries
    )
    return Work(connection, manifest, schema, classification, selection, merges, references, progress)


def _merge(
    stage: Stage,
    stub: bool,
    classification: Classification,
    references: tuple[DeviceReference, ...],
    conflicts: Conflicts,
) -> Merge:
    written = frozenset(stage.written)
    identity = row_identity(stage.table, written)
    local = {name for reference in references for name in reference.clears}
    clock = classification.timestamp(stage.table)
    return Merge(
        stage=stage,
        identity=identity,
        compared=tuple(name for name in stage.written if name not in identity and name not in local),
        clock=clock if clock in written else None,
        conflicts=conflicts,
        stub=stub,
    )


async def make_plan(work: Work) -> RestorePlan:
    """Judge every staged row and count. Raises ``MissingReferences`` where rows refer to rows that never came."""
    tables: dict[str, TableCounts] = {}
    prints: list[str] = []
    duplicates: list[Duplicate] = []
    for place, merge in enumerate(work.merges):
        name = merge.stage.table.name
        work.progress(Step("comparing", place, len(work.merges), name))
        judged = await judge(work.connection, merge)
        found = await _duplicates(work, merge, judged)
        entry = work.manifest.tables[merge.stage.index]
        counts = _counts(judged, entry.rows, sum(duplicate.rows for duplicate in found))
        tables[name] = tables.get(name, TableCounts()) + counts
        prints.append(f"{name}:{judged.fingerprint}")
        duplicates += found
    await _check_references(work)
    placeholders = [
        Placeholder(wanted.table.name, wanted.columns, rows)
        for wanted in _wanted(work)
        if (rows := await count_placeholders(work.connection, work.schema, wanted))
    ]
    cleared = await _cleared(work)
    settings = work.merges[0].conflicts if work.merges else Conflicts.BUNDLE
    digest = plan_digest(
        {
            "bundle": work.manifest.bundle_id,
            "conflicts": settings,
            "tables": {name: asdict(counts) for name, counts in tables.items()},
            "rows": prints,
            "placeholders": [asdict(item) for item in placeholders],
            "cleared": [asdict(item) for item in cleared],
        }
    )
    return RestorePlan(
        bundle_id=work.manifest.bundle_id,
        kind=work.manifest.kind,
        business=work.manifest.business,
        conflicts=settings,
        digest=digest,
        tables=dict(sorted(tables.items())),
        duplicates=tuple(duplicates),
        placeholders=tuple(placeholders),
        cleared=tuple(cleared),
        skipped=work.selection.skipped,
        warnings=(*(str(skipped) for skipped in work.selection.skipped), *_undated_warning(tables)),
    )


def _counts(judged: Judged, rows: int, duplicate: int) -> TableCounts:
    found = {verdict: judged.rows.get(verdict, 0) for verdict in Verdict}
    return TableCounts(
        insert=found[Verdict.INSERT],
        update=found[Verdict.UPDATE] + found[Verdict.UNDATED],
        unchanged=rows - sum(found.values()),
        kept=found[Verdict.KEPT],
        stub=found[Verdict.STUB],
        undated=found[Verdict.UNDATED],
        duplicate=duplicate,
    )


def _undated_warning(tables: dict[str, TableCounts]) -> tuple[str, ...]:
    undated = {name: counts.undated for name, counts in tables.items() if counts.undated}
    if not undated:
        return ()
    rows = sum(undated.values())
    return (
        f"{rows} differing row{'s have' if rows > 1 else ' has'} no usable timestamp; the bundle's is taken "
        f"({', '.join(undated)}).",
    )


async def _duplicates(work: Work, merge: Merge, judged: Judged) -> list[Duplicate]:
    if not any(judged.rows.get(verdict) for verdict in WRITTEN):
        return []
    return [
        Duplicate(merge.stage.table.name, found.key.name, found.key.columns, found.rows, found.examples)
        for found in await collisions(work.connection, merge)
    ]


async def _check_references(work: Work) -> None:
    """Rows to be written must refer to rows that are here or come along. What comes along is known to be closed: the
    backup's gate saw to that. So only references into tables that this bundle does not fill are looked up."""
    missing = []
    for merge in work.merges:
        local = {reference.key.name for reference in work.references[merge.stage.table.name]}
        for key in merge.stage.table.foreign_keys:
            if key.references in work.selection.tables or not set(key.columns) <= set(merge.stage.written):
                continue
            if key.name in local and not _is_left_out(work, key.references):
                continue
            rows = await count_missing_parents(work.connection, work.schema, merge, key, *WRITTEN)
            if rows:
                missing.append(
                    f"{merge.stage.table.name}.{', '.join(key.columns)}: {rows} refer to rows of {key.references} that "
                    "are neither here nor in the bundle"
                )
    if missing:
        raise MissingReferences(listed("Rows of the bundle refer to rows that are not here:", missing), details=missing)


def _is_left_out(work: Work, table: str) -> bool:
    """Whether no placeholder can be made in the table: it is not device state, only unknown here."""
    return work.classification.rule(table).table_class is not TableClass.DEVICE


def _wanted(work: Work) -> list[Wanted]:
    """The device tables that required references point at, by referenced columns."""
    found: dict[tuple[str, tuple[str, ...]], Wanted] = {}
    for merge in work.merges:
        for reference in work.references[merge.stage.table.name]:
            key = reference.key
            if reference.clears or _is_left_out(work, key.references):
                continue
            columns = tuple(sorted(key.references_columns))
            place = (key.references, columns)
            pairs = (*(found[place].references if place in found else ()), (merge, key))
            values = work.classification.rule(key.references).placeholder or {}
            found[place] = Wanted(work.schema.tables[key.references], columns, pairs, values)
    return [found[place] for place in sorted(found)]


async def _cleared(work: Work) -> list[Cleared]:
    found: dict[tuple[str, tuple[str, ...]], int] = {}
    for merge in work.merges:
        for reference in work.references[merge.stage.table.name]:
            if reference.clears:
                rows = await count_missing_parents(work.connection, work.schema, merge, reference.key, Verdict.INSERT)
                place = (reference.table, reference.clears)
                found[place] = found.get(place, 0) + rows
    return [Cleared(table, columns, rows) for (table, columns), rows in sorted(found.items()) if rows]


async def write(work: Work, plan: RestorePlan) -> tuple[str, ...]:
    """Do what the plan says; returns the sequences that moved. Raises ``CountsDiffer`` if the database did other."""
    for placeholder, wanted in zip(plan.placeholders, await due_placeholders(work, plan), strict=True):
        made = await make_placeholders(work.connection, work.schema, wanted)
        _compare(placeholder.table, "placeholder", placeholder.rows, made)
    grouped = by_table(work.merges)
    order = insert_order(work.schema, grouped)
    done = 0
    for component in order:
        fillings = [_filling(work, name, grouped[name]) for name in component if plan.tables[name].insert]
        if not fillings:
            continue
        work.progress(Step("writing", done, plan.totals.changes, ", ".join(component)))
        for name, rows in (await insert_rows(work.connection, work.schema, fillings)).items():
            _compare(name, "insert", plan.tables[name].insert, rows)
            done += rows
    for name in (name for component in order for name in component):
        work.progress(Step("writing", done, plan.totals.changes, name))
        rows = 0
        if plan.tables[name].update:
            rows = sum([await update_rows(work.connection, merge) for merge in grouped[name] if not merge.stub])
        _compare(name, "update", plan.tables[name].update, rows)
        done += rows
    moved: list[str] = []
    for name, merges in grouped.items():
        if plan.tables[name].insert or plan.tables[name].update:
            moved += await advance_sequences(work.connection, work.schema.tables[name], merges[0].stage.written)
    return tuple(moved)


async def due_placeholders(work: Work, plan: RestorePlan) -> Sequence[Wanted]:
    """What the placeholders of the plan stand for."""
    places = {(placeholder.table, placeholder.columns) for placeholder in plan.placeholders}
    return [wanted for wanted in _wanted(work) if (wanted.table.name, wanted.columns) in places]


def _filling(work: Work, name: str, merges: tuple[Merge, ...]) -> Filling:
    clears = tuple(Clear(reference.key, reference.clears) for reference in work.references[name] if reference.clears)
    return Filling(work.schema.tables[name], merges, clears)


def _compare(table: str, what: str, planned: int, done: int) -> None:
    if planned != done:
        raise CountsDiffer(f"Of {planned} rows to {what} in {table}, the database took {done}. Nothing was changed.")
