"""Rows of the bundle that stay out, with all that cannot be without them (``--keep-local``, ``--only``, history)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from agent.database.merge_write import by_table
from agent.database.stage_marks import Marks, Path
from agent.engine.apply_work import Work
from agent.engine.restore_errors import NoSuchTable
from agent.tables.catalogue import TableClass
from agent.tables.scope import NeedEdge, need_edges, travel_edges


class Leaving:
    """Marks rows to leave out of the stages; :meth:`carry_out` adds what travels with them or requires them.

    With ``absent`` a row that is here already takes nothing with it: what refers to it finds it here.
    """

    def __init__(self, work: Work, *, absent: bool = True) -> None:
        self._work = work
        self._absent = absent
        self.marks = Marks(work.connection, "left", by_table(work.merges))

    async def carry_out(self) -> set[int]:
        """Take the marked rows out of the stages, and empty what may be without them. Notes both in the work; returns
        the stages that changed."""
        work = self._work
        await self.marks.spread(
            [*_travels(work, self._absent), *(path for path, _ in _needs(work, self._absent, required=True))]
        )
        changed: set[int] = set()
        for path, edge in _needs(work, self._absent, required=False):
            optional = tuple(column for column in edge.columns if not _required(work, edge.child, column))
            for index, rows in (await self.marks.clear(path, optional)).items():
                work.cleared[(edge.child, optional)] += rows
                changed.add(index)
        for index, rows in (await self.marks.remove()).items():
            work.left_out[index] += rows
            changed.add(index)
        return changed


def _travels(work: Work, absent: bool) -> Iterator[Path]:
    for name in by_table(work.merges):
        if work.classification.rule(name).table_class is TableClass.BUSINESS:
            for edge in travel_edges(name, work.schema, work.classification):
                joins = ((edge.parent_column, edge.column),)
                if not edge.equal or _required(work, name, edge.column):
                    yield Path(edge.parent, name, joins, edge.unset, absent)


def _needs(work: Work, absent: bool, *, required: bool) -> Iterator[tuple[Path, NeedEdge]]:
    for edge in references(work):
        must = all(_required(work, edge.child, column) for column in edge.columns)
        if must is required:
            yield (
                Path(edge.parent, edge.child, tuple(zip(edge.parent_columns, edge.columns, strict=True)), (), absent),
                edge,
            )


def references(work: Work) -> Iterator[NeedEdge]:
    """All references among the tables of the bundle, declared or not."""
    grouped = by_table(work.merges)
    for name in grouped:
        for edge in need_edges(name, work.schema, work.classification):
            if edge.parent in grouped:
                yield edge


def _required(work: Work, table: str, name: str) -> bool:
    column = work.schema.tables[table].column(name)
    return column is not None and column.not_null


def wanted_tables(work: Work) -> frozenset[str]:
    """The SQL names of the tables that were asked for. Raises ``NoSuchTable``."""
    by_name = {rule.name: name for name, rule in work.classification.rules.items()}
    found = {each: each if each in work.schema.tables else by_name.get(each) for each in work.choices.only}
    unknown = sorted(each for each, name in found.items() if name is None)
    if unknown:
        raise NoSuchTable(f"There is no table {', '.join(unknown)}.")
    return frozenset(name for name in found.values() if name is not None)


async def choose_only(work: Work, names: frozenset[str]) -> None:
    """Keep of the stages the rows of the tables ``names`` and what these need; the needed ones are only inserted."""
    grouped = by_table(work.merges)
    marks = Marks(work.connection, "only", grouped)
    for name in names:
        for merge in grouped.get(name, ()):
            if not merge.stub:
                await marks.add(merge, f"SELECT b.ctid FROM {merge.stage.relation} b")
    await marks.spread(
        Path(edge.child, edge.parent, tuple(zip(edge.columns, edge.parent_columns, strict=True)))
        for edge in references(work)
    )
    removed = Counter(await marks.remove(marked=False))
    work.not_wanted += removed
    kept = {merge.stage.index for merge in work.merges if marks.relation(merge) is not None}
    work.keep_merges(
        kept,
        insert_only={merge.stage.index for merge in work.merges}
        - {merge.stage.index for name in names for merge in grouped.get(name, ())},
    )
