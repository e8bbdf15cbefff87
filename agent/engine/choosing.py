"""Which pieces of a backup are read, and which are taken over from an earlier bundle, as it turns out on the way.

Two connections find that out. The first looks for what comes along with the rows of the backup, and checks; a second
one, which may come early, late or never, meanwhile decides how large tables are read, and reads them. Each step is done
once, by whichever comes to it first, and the first connection does at last what is not done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from agent.database.errors import DatabaseError, translating
from agent.database.part_marks import Marking, Standings
from agent.engine.again import keep
from agent.engine.begun import Begun
from agent.engine.known import Earlier
from agent.engine.reading import Piece, Reading
from agent.engine.touched import Touched
from agent.log import get_logger

log = get_logger(__name__)

Beside = AbstractAsyncContextManager[Any]
"""A second connection that sees the snapshot, or None where there is none to be had."""


class Choosing:
    """The pieces ``begun`` of one backup, in parts of ``part_pages``: what is ``reading`` them, what tells how the
    tables stand, and the ``earlier`` bundle, if one fits, with what finds rows that were ``touched`` since."""

    def __init__(
        self,
        begun: Begun,
        reading: Reading,
        marking: Marking,
        part_pages: int,
        earlier: Earlier | None = None,
        touched: Touched | None = None,
    ) -> None:
        self._begun = begun
        self._reading = reading
        self._marking = marking
        self._part_pages = part_pages
        self._earlier = earlier
        self._touched = touched
        self._standings: Standings | None = None
        self._looked = asyncio.Event()
        self._settled = False

    async def compare(self, connection: Any, beside: Beside | None) -> bool:
        """Look at how the tables stand, with the second connection if there is one. Where none of them was touched
        since the earlier bundle nothing is read; returns whether there is something to read."""
        assert self._earlier is not None
        self._help(beside)
        await self._marking.go_on(connection)
        await self._marking.ended()
        self._standings = now = self._marking.standings()
        if now is not None and now.untouched(self._earlier.known.mark) == now.tables.keys():
            return False
        self._arrange()
        self._looked.set()
        return True

    def begin(self, beside: Beside | None, *, marks: bool) -> None:
        """Have everything read, for a start by the second connection alone; how the tables stand is looked at when
        nothing is left to be read, if it is to be known (``marks``)."""
        self._arrange()
        if marks:
            self._reading.afterwards(self._mark)
        self._help(beside)

    async def decide(self, connection: Any) -> dict[str, int]:
        """Do what is not done; returns how many rows are in by themselves, of tables in which they were counted.

        Raises errors of the database, and ``Unreadable`` where the earlier bundle is not what it was.
        """
        await self._begun.decide(connection)
        self._arrange()
        if self._touched is not None:
            await self._touched.find(connection)
            await self._touched.settled()
        return self._standings.counted if self._standings is not None else {}

    def settle(self, pieces: Sequence[Piece]) -> None:
        """These are all, in the order of the file. A second connection that comes later adds nothing to them."""
        self._settled = True
        self._reading.plan(pieces)

    def standings(self) -> Standings | None:
        """How the tables stand, if all were looked at; to be asked for when everything has been read."""
        return self._standings or self._marking.standings()

    def _help(self, beside: Beside | None) -> None:
        if beside is not None:
            self._reading.help(beside, self._before_reading)

    def _arrange(self) -> None:
        """Have all pieces read that there are by now, but those that the earlier bundle holds."""
        if self._earlier is not None and self._touched is not None and self._standings is not None:
            keep(self._earlier, self._standings, self._begun.pieces, self._part_pages, self._touched)
        if not self._settled:
            self._reading.plan(self._begun.in_order())

    async def _before_reading(self, connection: Any) -> bool:
        """What the second connection does before it reads; whether it can."""
        if self._earlier is not None:
            if not await self._mark(connection):
                return False
            await self._looked.wait()
        if not (await self._find(connection) and await self._decide(connection)):
            return False
        self._arrange()
        if not await self._find(connection):
            return False
        if self._touched is not None:
            await self._touched.settled()
            self._arrange()
        return True

    async def _mark(self, connection: Any) -> bool:
        return await _could("Marking the tables", self._marking.go_on(connection))

    async def _decide(self, connection: Any) -> bool:
        return await _could("Looking which rows are in", self._begun.decide(connection))

    async def _find(self, connection: Any) -> bool:
        if self._touched is None:
            return True
        return await _could("Looking for the rows that were touched", self._touched.find(connection))


async def _could(doing: str, work: Awaitable[None]) -> bool:
    """Do work without which no backup is worse: the first connection has to do it then, or the next backup reads
    everything. Whether it could be done."""
    try:
        with translating(doing):
            await work
    except DatabaseError as error:
        log.info("a backup goes on without", doing=doing, reason=str(error))
        return False
    return True
