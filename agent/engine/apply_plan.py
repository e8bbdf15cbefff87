"""Judging the staged rows: what a restore will do, counted (DESIGN section 5). The first half of an apply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from agent.database.merge import WRITTEN, Judged, Merge, Verdict, empty_tables, judge
from agent.database.merge_keys import Collision, collisions
from agent.database.merge_write import by_table, count_missing_parents
from agent.database.placeholders import Wanted, count_placeholders
from agent.database.renumber import number_column, renumber
from agent.engine.apply_clone import make_second_business
from agent.engine.apply_identity import find_all_renames
from agent.engine.apply_leave import Leaving, choose_only, wanted_tables
from agent.engine.apply_mirror import find_all_victims
from agent.engine.apply_work import Work
from agent.engine.plan import (
    Cleared,
    Deleted,
    Duplicate,
    Placeholder,
    Reidentified,
    Renumbered,
    RestorePlan,
    TableCounts,
    Unclear,
    plan_digest,
)
from agent.engine.progress import Step
from agent.engine.restore_errors import MissingReferences, listed
from agent.tables.catalogue import TableClass

_ROUNDS = 10
# Small tables are compared several at a time; what is large ends such a group, so that progress is told.
_TABLES_AT_ONCE, _ROWS_AT_ONCE = 16, 10_000


@dataclass(slots=True)
class _Findings:
    """What the stages hold, by entry, what was found to stand in the way, and the numbers that were changed."""

    judged: dict[int, Judged] = field(default_factory=dict)
    met: dict[int, list[Collision]] = field(default_factory=dict)
    renumbered: dict[tuple[str, str, str], Renumbered] = field(default_factory=dict)


async def make_plan(work: Work) -> RestorePlan:
    """Judge every staged row and count. Raises ``MissingReferences`` where rows refer to rows that never came."""
    await _find_empty(work)
    if work.choices.only:
        await choose_only(work, wanted_tables(work))
    if work.choices.as_new is not None:
        await make_second_business(work, work.choices.as_new)
    unclear = await find_all_renames(work)
    if work.choices.mirror:
        await find_all_victims(work)
    found = await _judge_all(work)
    await _settle(work, found)
    await _check_references(work)
    placeholders = [
        Placeholder(wanted.table.name, wanted.columns, rows)
        for wanted in wanted_placeholders(work)
        if (rows := await count_placeholders(work.connection, work.schema, wanted))
    ]
    return _plan(work, found, unclear, tuple(placeholders), tuple(await _cleared(work)))


async def _find_empty(work: Work) -> None:
    """Note which merges have no live rows to meet. What was loaded was loaded into empty tables."""
    loaded = {merge.stage.table.name for merge in work.merges if merge.stage.loaded}
    others = [merge.stage.table for merge in work.merges if not merge.stage.loaded]
    empty = loaded | await empty_tables(work.connection, others)
    work.merges = tuple(replace(merge, fresh=merge.stage.table.name in empty) for merge in work.merges)


async def _judge_all(work: Work) -> _Findings:
    found = _Findings()
    several: list[Merge] = []
    rows = 0
    for place, merge in enumerate(work.merges):
        work.progress(Step("comparing", place, len(work.merges), merge.stage.table.name))
        several.append(merge)
        rows += work.staged_rows(merge.stage.index)
        if rows >= _ROWS_AT_ONCE or len(several) == _TABLES_AT_ONCE or place == len(work.merges) - 1:
            await _judge(work, several, found)
            several, rows = [], 0
    await _meet_all(work, found)
    return found


async def _judge(work: Work, merges: Iterable[Merge], found: _Findings, *, again: bool = False) -> None:
    staged = [(merge, work.staged_rows(merge.stage.index)) for merge in merges]
    found.judged |= await judge(work.connection, staged, again=again)


async def _settle(work: Work, found: _Findings) -> None:
    """Make room for rows that collide, if that is wanted, until none does or nothing helps. What is left out may be
    what freed the number of another row, so all is looked at again. A second business is always given room."""
    for _ in range(_ROUNDS):
        met = [collision for each in found.met.values() for collision in each]
        if not met:
            return
        changed: set[int] = set()
        if work.choices.renumber or work.choices.as_new is not None:
            changed = await _renumber(work, met, found)
        if not changed and (work.choices.keep_local or work.choices.as_new is not None):
            changed = await _leave_out(work, met)
        if not changed:
            return
        await _judge(work, (merge for merge in work.merges if merge.stage.index in changed), found, again=True)
        await _meet_all(work, found)


async def _leave_out(work: Work, met: list[Collision]) -> set[int]:
    leaving = Leaving(work)
    for collision in met:
        await leaving.marks.add(collision.merge, f"SELECT c.staged FROM {collision.relation} c GROUP BY 1")
    return await leaving.carry_out()


async def _renumber(work: Work, met: list[Collision], found: _Findings) -> set[int]:
    changed = set()
    grouped = by_table(work.merges)
    for collision in met:
        name = collision.merge.stage.table.name
        rule = work.classification.rule(name)
        fixed = frozenset(column for columns in rule.same_when or () for column in columns) | set(rule.references)
        column = number_column(collision, fixed)
        if column is None:
            continue
        for each in await renumber(work.connection, collision, column, grouped[name]):
            place = (name, each.row, column)
            first = found.renumbered.get(place)
            found.renumbered[place] = Renumbered(name, each.row, column, first.old if first else each.old, each.new)
            changed.add(collision.merge.stage.index)
    return changed


async def _meet_all(work: Work, found: _Findings) -> None:
    """Look what the rows to be written meet, once it is known what becomes of all others of their table."""
    grouped = by_table(work.merges)
    work.parkings = []
    for merge in work.merges:
        index = merge.stage.index
        found.met[index] = []
        if any(found.judged[index].rows.get(verdict) for verdict in WRITTEN):
            name = merge.stage.table.name
            victims = work.victims[name].relation if name in work.victims else ""
            met, parkings = await collisions(work.connection, merge, grouped[name], victims)
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
        counts = _counts(found.judged[index], work.staged_rows(index), sum(each.rows for each in met))
        counts = replace(counts, left_out=work.left_out[index])
        tables[name] = tables.get(name, TableCounts()) + counts
        duplicates += [Duplicate(name, each.key.name, each.key.columns, each.rows, each.examples) for each in met]
    fingerprints = {
        merge.stage.index: f"{merge.stage.table.name}:{found.judged[merge.stage.index].fingerprint}"
        for merge in work.merges
    }
    for index in work.known:
        entry = work.manifest.tables[index]
        tables[entry.table] = TableCounts(unchanged=entry.rows)
        fingerprints[index] = f"{entry.table}:"
    for name, victims in work.victims.items():
        tables[name] = replace(tables.get(name, TableCounts()), delete=victims.rows)
    renumbered = tuple(found.renumbered[place] for place in sorted(found.renumbered))
    renames = work.renames.found
    for name, rename in renames.items():
        tables[name] = replace(tables[name], reidentified=rename.rows)
    parts = {
        "bundle": work.manifest.bundle_id,
        "content": work.content,
        "conflicts": work.conflicts,
        "tables": {name: asdict(counts) for name, counts in tables.items()},
        "rows": [fingerprints[index] for index in sorted(fingerprints)],
        "ids": {name: rename.fingerprint for name, rename in renames.items()},
        "placeholders": [asdict(item) for item in placeholders],
        "cleared": [asdict(item) for item in cleared],
        "deleted": {name: victims.fingerprint for name, victims in work.victims.items()},
        "renumbered": [asdict(item) for item in renumbered],
        "choices": work.choices.as_dict(),
    }
    return RestorePlan(
        bundle_id=work.manifest.bundle_id,
        kind=work.manifest.kind,
        business=work.business,
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
        deleted=tuple(Deleted(name, each.rows, each.examples) for name, each in sorted(work.victims.items())),
        renumbered=renumbered,
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
    found = Counter(work.cleared)
    for merge in work.merges:
        for reference in work.references[merge.stage.table.name]:
            if reference.clears:
                rows = await count_missing_parents(work.connection, work.schema, merge, reference.key, Verdict.INSERT)
                found[(reference.table, reference.clears)] += rows
    return [Cleared(table, columns, rows) for (table, columns), rows in sorted(found.items()) if rows]
