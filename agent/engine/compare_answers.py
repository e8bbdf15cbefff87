"""Answering another laptop that compares a business with its own (PEER.md, "Comparing").

The questions of one comparison are answered from one snapshot, which stays open for a moment between them; what was
digested for one question is remembered for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from agent.database.digests import Digest, Question
from agent.engine.compare_peer import FINE_IN_COARSE, summed
from agent.engine.compare_sides import LiveSide, live_side
from agent.engine.errors import EngineError
from agent.tables.catalogue import Catalogue
from protocol.requests import (
    MAX_ROW_HASHES,
    CompareRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    TableDigest,
)

KEPT_SECONDS = 20.0
SESSIONS = 4


class TooManyComparisons(EngineError):
    code = "too-many-comparisons"
    hint = "Wait until the others are over, then compare again."


class NothingToDigest(EngineError):
    code = "not-comparable"
    hint = "The tables of the two laptops may differ: see `backroom doctor`."


@dataclass(slots=True, eq=False)
class _Session:
    """One comparison's snapshot, held open by a task of its own. ``lock`` is held by whoever asks it."""

    side: asyncio.Future[LiveSide]
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ranges: dict[Question, Mapping[int, Digest]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    users: int = 0


class Answering:
    """The answers of this laptop. ``opened(business)`` gives its side. Close it when no more questions come."""

    def __init__(
        self,
        opened: Callable[[str], AbstractAsyncContextManager[LiveSide]],
        *,
        kept_seconds: float = KEPT_SECONDS,
        most: int = SESSIONS,
    ) -> None:
        self._opened = opened
        self._kept = kept_seconds
        self._most = most
        self._sessions: dict[tuple[str, str, str], _Session] = {}

    @classmethod
    def of(
        cls,
        url: Callable[[], str],
        catalogue: Callable[[], Catalogue],
        *,
        kept_seconds: float = KEPT_SECONDS,
        most: int = SESSIONS,
    ) -> Answering:
        """Answers from a database, whose address and catalogue are read when a comparison begins."""
        return cls(lambda business: live_side(url(), catalogue(), business), kept_seconds=kept_seconds, most=most)

    async def close(self) -> None:
        """End all sessions."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(_end(session) for session in sessions))

    async def digests(self, peer: str, request: CompareRequest) -> AsyncGenerator[TableDigest, None]:
        """The digests of the tables asked for (all, if none is named), over those of the columns that exist here."""
        async with self._asked(peer, request.business, request.session) as session:
            side = session.side.result()
            for name, shape in sorted((await side.shapes()).items()):
                comparable = sorted(set(shape.columns) - shape.local)
                if request.columns:
                    comparable = [column for column in request.columns.get(name, ()) if column in comparable]
                if not comparable:
                    continue
                numbers = tuple(column for column in request.numbers.get(name, ()) if column in comparable)
                digest = (await side.digests([Question(name, tuple(comparable), shape.key, numbers)]))[name]
                types = tuple(shape.columns[column] for column in comparable)
                yield TableDigest(name, digest.rows, digest.sum.encode("ascii"), tuple(comparable), types, shape.key)

    async def ranges(self, peer: str, request: RangeRequest) -> RangeDigests:
        """The digests of a table's coarse ranges, or of the fine ones within those that are named."""
        async with self._asked(peer, request.business, request.session) as session:
            side = session.side.result()
            question = await _question(side, request.table, request.columns, request.key, request.numbers)
            if question is None:
                raise NothingToDigest(f"The table {request.table} cannot be digested over these columns here.")
            if question not in session.ranges:
                session.ranges[question] = await side.ranges(question, asyncio.get_running_loop().create_future())
            fine = session.ranges[question]
            chosen = (
                {place: digest for place, digest in fine.items() if place // FINE_IN_COARSE in set(request.within)}
                if request.within
                else summed(fine)
            )
        places = sorted(chosen)
        return RangeDigests(
            tuple(places),
            tuple(chosen[place].rows for place in places),
            tuple(chosen[place].sum.encode("ascii") for place in places),
        )

    async def rows(self, peer: str, request: RowHashRequest) -> AsyncGenerator[RowHashes, None]:
        """Key and digest of the rows asked for; or of these keys, those of rows that the business has or needs."""
        async with self._asked(peer, request.business, request.session) as session:
            side = session.side.result()
            question = await _question(side, request.table, request.columns, request.key, request.numbers)
            if question is None:
                raise NothingToDigest(f"The table {request.table} cannot be digested over these columns here.")
            if request.keys:
                found = sorted(await side.needed(question, request.keys))
                for start in range(0, len(found), MAX_ROW_HASHES):
                    keys = tuple(found[start : start + MAX_ROW_HASHES])
                    yield RowHashes(keys, (b"",) * len(keys))
                return
            async for batch in _batches(side.stream(question, request.ranges or None)):
                keyed = bool(question.key)
                hashes = tuple(bytes.fromhex(digest) if keyed else digest.encode("ascii") for _, digest in batch)
                yield RowHashes(tuple(key for key, _ in batch), hashes)

    @asynccontextmanager
    async def _asked(self, peer: str, business: str, name: str) -> AsyncIterator[_Session]:
        """The session for one question. After an error its snapshot may be unusable, and it is ended."""
        place = (peer, business, name)
        session = self._sessions.get(place) if name else None
        if session is None:
            if len(self._sessions) >= self._most and not await self._give_up_one():
                raise TooManyComparisons("This laptop is answering too many comparisons already.")
            session = _Session(asyncio.get_running_loop().create_future())
            session.task = asyncio.create_task(self._hold(place, session))
            self._sessions[place if name else (peer, business, f"once {id(session)}")] = session
        session.users += 1
        try:
            await asyncio.shield(session.side)
            async with session.lock:
                yield session
        except BaseException:
            await self._drop(session)
            raise
        finally:
            session.users -= 1
        if not name:
            await self._drop(session)

    async def _hold(self, place: tuple[str, str, str], session: _Session) -> None:
        try:
            async with self._opened(place[1]) as side:
                session.side.set_result(side)
                while not session.closing.is_set():
                    before = session.users
                    try:
                        async with asyncio.timeout(self._kept):
                            await session.closing.wait()
                    except TimeoutError:
                        if not before and not session.users:
                            break
        except Exception as error:
            if session.side.done():
                raise
            session.side.set_exception(error)
            session.side.exception()
        finally:
            session.side.cancel()
            for key in [key for key, each in self._sessions.items() if each is session]:
                del self._sessions[key]

    async def _give_up_one(self) -> bool:
        """End a session that nobody asks just now."""
        for session in list(self._sessions.values()):
            if not session.users:
                await self._drop(session)
                return True
        return False

    async def _drop(self, session: _Session) -> None:
        for key in [key for key, each in self._sessions.items() if each is session]:
            del self._sessions[key]
        await _end(session)


async def _end(session: _Session) -> None:
    session.closing.set()
    if session.task is not None:
        await asyncio.wait({session.task}, timeout=5)
        session.task.cancel()
        await asyncio.gather(session.task, return_exceptions=True)


async def _question(
    side: LiveSide, table: str, columns: tuple[str, ...], key: tuple[str, ...], numbers: tuple[str, ...]
) -> Question | None:
    """The question, if this database has the columns."""
    shape = (await side.shapes()).get(table)
    if shape is None or not columns or not {*columns, *key, *numbers} <= set(shape.columns) - shape.local:
        return None
    return Question(table, columns, key, numbers)


async def _batches(rows: AsyncIterator[tuple[str, str]]) -> AsyncGenerator[list[tuple[str, str]], None]:
    batch: list[tuple[str, str]] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == MAX_ROW_HASHES:
            yield batch
            batch = []
    if batch:
        yield batch
