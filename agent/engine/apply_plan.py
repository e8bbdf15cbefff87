"""Judging the staged rows: what a restore will do, counted (DESIGN section 5). The first half of an apply."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace

from agent.database.merge import WRITTEN, Judged, Verdict, judge
from agent.database.merge_keys import Collision, collisions
from agent.database.merge_write import by_table, count_missing_parents
from agent.database.placeholders import Wanted, count_placeholders
from agent.engine.apply_identity import find_all_renames
from agent.engine.apply_work import Work
from agent.engine.plan import (
    Cleared,
    Duplicate,
    Placeholder,
    Reidentified,
    RestorePlan,
    TableCounts,
    Unclear,
    plan_digest,
)
from agent.engine.progress import Step
from agent.engine.restore_errors import MissingReferences, listed
from agent.tables.catalogue import TableClass


@dataclass(slots=True)
class _Findings:
    """What the stages hold, by entry, and what was found to stand in the way."""

    judged: dict[int, Judged] = field(default_factory=dict)
    met: dict[int, list[Collision]] = field(default_factory=dict)


async def make_plan(work: Work) -> RestorePlan:
    """Judge every staged row and count. Raises ``MissingReferences`` where rows refer to rows that never came."""
    unclear = await find_all_renames(work)
    found = await _judge_all(work)
    await _check_references(work)
    placeholders = [
        Placeholder(wanted.table.name, wanted.columns, rows)
        for wanted in wanted_placeholders(work)
        if (rows := await count_placeholders(work.connection, work.schema, wanted))
    ]
    return _plan(work, found, unclear, tuple(placeholders), tuple(await _cleared(work)))


async def _judge_all(work: Work) -> _Findings:
    found = _Findings()
    for place, merge in enumerate(work.merges):
        work.progress(Step("comparing", place, len(work.merges), merge.stage.table.name))
        found.judged[merge.stage.index] = await judge(work.connection, merge)
    await _meet_all(work, found)
    return found


async def _meet_all(work: Work, found: _Findings) -> None:
    """Look what the rows to be written meet, once it is known what becomes of all others of their table."""
    grouped = by_table(work.merges)
    work.parkings = []
    for merge in work.merges:
        index = merge.stage.index
        found.met[index] = []
        if any(found.judged[index].rows.get(verdict) for verdict in WRITTEN):
            met, parkings = await collisions(work.connection, merge, grouped[merge.stage.table.name], "")
            found.met[index] = met
            work.parkings += parkings


def _plan(
    work: Work,
    found: _Findings,
    unclear: tuple[Unclear, ...],
    placeholders: tuple[Placeholder, ...],
    cleared: tuple[Cleared, ...],
) -> RestorePlan:
    tables: dict[str, TableCounts] = {}
    duplicates = []
    for merge in work.merges:
        name, index = merge.stage.table.name, merge.stage.index
        met = found.met[index]
        rows = work.manifest.tables[index].rows
        counts = _counts(found.judged[index], rows, sum(each.rows for each in met))
        tables[name] = tables.get(name, TableCounts()) + counts
        duplicates += [Duplicate(name, each.key.name, each.key.columns, each.rows, each.examples) for each in met]
    renames = work.renames.found
    for name, rename in renames.items():
        tables[name] = replace(tables[name], reidentified=rename.rows)
    parts = {
        "bundle": work.manifest.bundle_id,
        "conflicts": work.conflicts,
        "tables": {name: asdict(counts) for name, counts in tables.items()},
        "rows": [f"{merge.stage.table.name}:{found.judged[merge.stage.index].fingerprint}" for merge in work.merges],
        "ids": {name: rename.fingerprint for name, rename in renames.items()},
        "placeholders": [asdict(item) for item in placeholders],
        "cleared": [asdict(item) for item in cleared],
        "choices": work.choices.as_dict(),
    }
    return RestorePlan(
        bundle_id=work.manifest.bundle_id,
        kind=work.manifest.kind,
        business=work.manifest.business,
        conflicts=work.conflicts,
        digest=plan_digest(parts),
        tables=dict(sorted(tables.items())),
        duplicates=tuple(duplicates),
        placeholders=placeholders,
        cleared=cleared,
        skipped=work.selection.skipped,
        warnings=(*(str(skipped) for skipped in work.selection.skipped), *_undated_warning(tables)),
        reidentified=tuple(Reidentified(name, each.rows, each.examples) for name, each in sorted(renames.items())),
        unclear=unclear,
        choices=work.choices.as_dict(),
    )


def _counts(judged: Judged, rows: int, duplicate: int) -> TableCounts:
    found = {verdict: judged.rows.get(verdict, 0) for verdict in Verdict}
    return TableCounts(
        insert=found[Verdict.INSERT],
        update=found[Verdict.UPDATE] + found[Verdict.UNDATED] + found[Verdict.RAISED],
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


def wanted_placeholders(work: Work) -> list[Wanted]:
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
    found: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for merge in work.merges:
        for reference in work.references[merge.stage.table.name]:
            if reference.clears:
                rows = await count_missing_parents(work.connection, work.schema, merge, reference.key, Verdict.INSERT)
                found[(reference.table, reference.clears)] += rows
    return [Cleared(table, columns, rows) for (table, columns), rows in sorted(found.items()) if rows]
