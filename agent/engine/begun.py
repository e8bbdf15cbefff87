"""The rows that are in a backup by themselves, in the pieces in which they are read.

A large table comes in parts, if each of its rows tells by itself whether it is in. Where rows of other tables decide
(items, by their orders), each part would have to look all of those up anew: such a table is read as a whole, unless
every row of it is in, as it is where a laptop has one business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.database.pages import parts
from agent.database.scope import Scope
from agent.database.snapshot import Snapshot
from agent.engine.backup_rows import select_rows
from agent.engine.reading import Piece

# So many pages at both ends of a table are looked at first: in most shops businesses are mixed everywhere.
_ENDS = 4


class Begun:
    """The pieces of a backup of these tables, by name, of which ``pages`` says how large they are. ``undecided`` are
    tables that have none before :meth:`decide`."""

    def __init__(
        self, snapshot: Snapshot, scope: Scope, names: Sequence[str], pages: Mapping[str, int], part_pages: int
    ) -> None:
        self._snapshot = snapshot
        self._scope = scope
        self._names = names
        self._deciding = asyncio.Lock()
        self._pages = pages
        self._parts = {name: [part.holds("t") for part in parts(pages.get(name, 0), part_pages)] for name in names}
        self._sources = {name: source for name in names if (source := scope.begun(name, "t")) is not None}
        self.undecided = frozenset(
            name
            for name, source in self._sources.items()
            if not source.simple and not scope.ownership.all_but and len(self._parts[name]) > 1
        )
        self.pieces = {name: self._pieces(name) for name in names if name not in self.undecided}

    @property
    def conditions(self) -> dict[str, str]:
        """By which conditions on their rows alone (``t``) those are in that are, of the tables that have one."""
        return {name: source.condition for name, source in self._sources.items() if source.simple}

    async def decide(self, connection: Any) -> None:
        """Have the pieces of the undecided tables among ``pieces``, by whichever connection that sees the snapshot
        comes first; the other waits. How many rows are in is known then of tables of which all are."""
        async with self._deciding:
            for name in sorted(self.undecided):
                if await self._all_in(connection, name):
                    self._sources[name] = replace(self._sources[name], condition="true")
                self.pieces[name] = self._pieces(name)
                self.undecided -= {name}

    def in_order(self) -> list[Piece]:
        """All pieces that there are, in the order of the tables."""
        return [piece for name in self._names for piece in self.pieces.get(name, ())]

    def query(self, name: str, part: int, *conditions: str) -> str:
        """The query of the rows of that part of a table that meet these conditions (on ``t``), as they travel."""
        return select_rows(self._snapshot, name, self._sources[name], self._parts[name][part], *conditions)

    def _pieces(self, name: str) -> list[Piece]:
        source = self._sources.get(name)
        if source is None:
            return []
        if not source.simple:
            return [Piece(name, select_rows(self._snapshot, name, source), shared=True)]
        return [
            Piece(name, self.query(name, number), shared=True, part=number) for number in range(len(self._parts[name]))
        ]

    async def _all_in(self, connection: Any, name: str) -> bool:
        """Whether every row of the table is in."""
        source = self._sources[name]
        out = f"FROM {source.clause} WHERE NOT {source.condition}"
        ends = f"t.ctid < '({_ENDS},0)'", f"t.ctid >= '({self._pages[name] - _ENDS},0)'"
        if await connection.fetchval(f"SELECT {' OR '.join(f'EXISTS (SELECT {out} AND {end})' for end in ends)}"):
            return False
        # All are counted: where one is enough the planner looks for it row by row, which may be the last.
        rows, left_out = await connection.fetchrow(
            f"SELECT (SELECT count(*) FROM {source.clause}), (SELECT count(*) {out})"
        )
        if not left_out:
            self._scope.begun_rows[name] = rows
        return not left_out
