"""Marks on staged rows, spread along references between the stages: what must stay out, what is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agent.database.merge import Merge
from agent.database.names import quote


@dataclass(frozen=True, slots=True)
class Path:
    """From marked rows ``a`` of one table to rows ``b`` of another: where ``joins`` holds (pairs of a's and b's
    columns) and b's columns ``unset`` are empty. With ``absent`` only rows ``a`` lead on that are not here."""

    source: str
    target: str
    joins: tuple[tuple[str, str], ...]
    unset: tuple[str, ...] = ()
    absent: bool = False

    @property
    def condition(self) -> str:
        parts = [f"a.{quote(ours)} = b.{quote(theirs)}" for ours, theirs in self.joins]
        return " AND ".join(parts + [f"b.{quote(column)} IS NULL" for column in self.unset])


class Marks:
    """Marked rows of the stages of ``merges``, in one temporary table for each stage that has any."""

    def __init__(self, connection: asyncpg.Connection, purpose: str, merges: Mapping[str, Sequence[Merge]]) -> None:
        self._connection = connection
        self._purpose = purpose
        self._merges = merges
        self._made: set[int] = set()

    def relation(self, merge: Merge) -> str | None:
        """The addresses (``tid``) of the marked rows of a stage; None where there are none."""
        return f"pg_temp.{self._name(merge)}" if merge.stage.index in self._made else None

    def _name(self, merge: Merge) -> str:
        return f"backroom_{self._purpose}_{merge.stage.index}"

    async def add(self, merge: Merge, query: str) -> int:
        """Mark the staged rows whose addresses the query gives; returns how many were not marked yet."""
        if merge.stage.index not in self._made:
            if not await self._connection.fetchval(f"SELECT EXISTS ({query})"):
                return 0
            await self._connection.execute(
                f"DROP TABLE IF EXISTS pg_temp.{self._name(merge)}; "
                f"CREATE TEMP TABLE {self._name(merge)} (tid tid PRIMARY KEY) ON COMMIT DROP"
            )
            self._made.add(merge.stage.index)
        status = await self._connection.execute(
            f"INSERT INTO pg_temp.{self._name(merge)} {query} ON CONFLICT DO NOTHING"
        )
        return int(status.rpartition(" ")[2])

    async def spread(self, paths: Iterable[Path]) -> None:
        """Follow the paths until no more rows are marked."""
        paths = [path for path in paths if self._staged(path)]
        gained = set(self._merges)
        while gained:
            gains: set[str] = set()
            for path in paths:
                if path.source not in gained:
                    continue
                for source in self._merges[path.source]:
                    for target in self._merges[path.target]:
                        query = self.reached(path, source, target)
                        if query is not None and await self.add(target, f"SELECT b.ctid {query}"):
                            gains.add(path.target)
            gained = gains

    def reached(self, path: Path, source: Merge, target: Merge) -> str | None:
        """FROM and WHERE of the staged rows ``b`` that a marked row leads to; None where none is marked."""
        marks = self.relation(source)
        if marks is None:
            return None
        query = f"FROM {marks} m JOIN {source.stage.relation} a ON a.ctid = m.tid JOIN {target.stage.relation} b "
        query += f"ON {path.condition} WHERE true"
        if path.absent and source.identity:
            query += f" AND NOT EXISTS (SELECT FROM {source.rows} l WHERE {source.same_row('l', 'a')})"
        return query

    def _staged(self, path: Path) -> bool:
        """Whether the bundle has both ends of the path, with its columns."""
        sources, targets = self._merges.get(path.source, ()), self._merges.get(path.target, ())
        return bool(sources and targets) and all(
            {ours for ours, _ in path.joins} <= set(source.stage.written)
            and {*(theirs for _, theirs in path.joins), *path.unset} <= set(target.stage.written)
            for source in sources
            for target in targets
        )

    async def remove(self, *, marked: bool = True) -> dict[int, int]:
        """Take the marked rows out of their stages, or all others; returns how many of each stage."""
        removed = {}
        for merge in (merge for merges in self._merges.values() for merge in merges):
            marks = self.relation(merge)
            if marks is None and marked:
                continue
            which = f"ctid {'IN' if marked else 'NOT IN'} (SELECT tid FROM {marks})" if marks else "true"
            status = await self._connection.execute(f"DELETE FROM {merge.stage.relation} WHERE {which}")
            rows = int(status.rpartition(" ")[2])
            if rows:
                removed[merge.stage.index] = rows
        return removed

    async def clear(self, path: Path, columns: Sequence[str]) -> dict[int, int]:
        """Empty ``columns`` of unmarked rows that refer to a marked row; returns how many of each stage."""
        cleared: dict[int, int] = {}
        if not self._staged(path):
            return cleared
        for source in self._merges[path.source]:
            for target in self._merges[path.target]:
                query = self.reached(path, source, target)
                if query is None:
                    continue
                own = self.relation(target)
                query += f" AND b.ctid NOT IN (SELECT tid FROM {own})" if own else ""
                sets = ", ".join(f"{quote(column)} = NULL" for column in columns)
                status = await self._connection.execute(
                    f"UPDATE {target.stage.relation} s SET {sets} WHERE s.ctid IN (SELECT b.ctid {query})"
                )
                rows = int(status.rpartition(" ")[2])
                if rows:
                    cleared[target.stage.index] = cleared.get(target.stage.index, 0) + rows
        return cleared
