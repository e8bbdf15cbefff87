"""Comparing with another laptop: what is asked of it (PEER.md, "Comparing"). Its answers are in ``compare_answers``.

What travels are digests: of tables; of ranges of a table that differs, coarse ones first; and keys with digests of the
rows in ranges that differ. Never the rows. All questions of one comparison are about one moment over there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from agent.database.digests import Digest, Question
from agent.engine.compare_shapes import TableShape
from protocol.requests import (
    COARSE_RANGES,
    FINE_RANGES,
    MAX_ROW_HASHES,
    CompareRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    TableDigest,
)

FINE_IN_COARSE = FINE_RANGES // COARSE_RANGES
_KEYS_BYTES = 500_000

AskDigests = Callable[[CompareRequest], Awaitable[Sequence[TableDigest]]]
AskRanges = Callable[[RangeRequest], Awaitable[RangeDigests]]
AskRows = Callable[[RowHashRequest], AsyncIterator[RowHashes]]


class PeerSide:
    """The same business on another laptop, seen through the three questions that it answers."""

    def __init__(self, business: str, ask_digests: AskDigests, ask_ranges: AskRanges, ask_rows: AskRows) -> None:
        self._business = business
        self._ask_digests = ask_digests
        self._ask_ranges = ask_ranges
        self._ask_rows = ask_rows
        self._session = secrets.token_hex(12)
        self._known: dict[str, TableDigest] = {}
        self._asking: asyncio.Future[Sequence[TableDigest]] | None = None

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[PeerSide]:
        """This side, which is asked for its tables right away: it looks for the business while we do."""
        asking = asyncio.ensure_future(self._ask_digests(CompareRequest(self._business, session=self._session)))
        self._asking = asking
        try:
            yield self
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def shapes(self) -> Mapping[str, TableShape]:
        asking, self._asking = self._asking, None
        found = await (asking or self._ask_digests(CompareRequest(self._business, session=self._session)))
        self._known = {digest.table: digest for digest in found}
        return {
            digest.table: TableShape(digest.table, dict(zip(digest.columns, digest.types, strict=True)), digest.key)
            for digest in found
        }

    async def digests(self, questions: Sequence[Question]) -> Mapping[str, Digest]:
        """Asked again are only the tables that have to be digested in another way than they were with the shapes."""
        other = [each for each in questions if each.numbers or self._known[each.table].columns != each.columns]
        if other:
            columns = {question.table: question.columns for question in other}
            numbers = {question.table: question.numbers for question in other if question.numbers}
            again = await self._ask_digests(CompareRequest(self._business, columns, numbers, self._session))
            self._known |= {digest.table: digest for digest in again}
        return {
            question.table: Digest(known.rows, known.digest.decode("ascii"))
            for question in questions
            if (known := self._known[question.table])
        }

    async def ranges(self, question: Question, other: Awaitable[Mapping[int, Digest]]) -> Mapping[int, Digest]:
        """Fine ranges are asked for only where the coarse ones differ; elsewhere they are what ``other`` has."""
        theirs = await self._ranges(question, ())
        ours = await other
        coarse = summed(ours)
        differing = tuple(place for place in range(COARSE_RANGES) if theirs.get(place) != coarse.get(place))
        same = {place: digest for place, digest in ours.items() if place // FINE_IN_COARSE not in differing}
        return {**same, **(await self._ranges(question, differing) if differing else {})}

    async def _ranges(self, question: Question, within: tuple[int, ...]) -> dict[int, Digest]:
        found = await self._ask_ranges(
            RangeRequest(
                self._business, question.table, question.columns, question.key, question.numbers, within, self._session
            )
        )
        listed = zip(found.places, found.rows, found.digests, strict=True)
        return {place: Digest(rows, digest.decode("ascii")) for place, rows, digest in listed}

    async def rows(self, question: Question, ranges: Sequence[int]) -> Mapping[str, str]:
        request = RowHashRequest(
            self._business,
            question.table,
            question.columns,
            question.key,
            question.numbers,
            tuple(ranges),
            session=self._session,
        )
        return {
            key: digest.hex() if question.key else digest.decode("ascii")
            async for hashes in self._ask_rows(request)
            for key, digest in zip(hashes.keys, hashes.hashes, strict=True)
        }

    async def needed(self, question: Question, keys: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for some in _portions(keys):
            request = RowHashRequest(
                self._business,
                question.table,
                question.columns,
                question.key,
                question.numbers,
                keys=some,
                session=self._session,
            )
            found |= {key async for hashes in self._ask_rows(request) for key in hashes.keys}
            await asyncio.sleep(0)
        return frozenset(found)


def summed(fine: Mapping[int, Digest]) -> dict[int, Digest]:
    """The digests of coarse ranges: sums of those of their fine ones."""
    sums: dict[int, list[int]] = {}
    for place, digest in fine.items():
        total = sums.setdefault(place // FINE_IN_COARSE, [0, 0, 0])
        left, right = digest.sum.split(":")
        for index, number in enumerate((digest.rows, int(left), int(right))):
            total[index] += number
    return {place: Digest(rows, f"{left}:{right}") for place, (rows, left, right) in sums.items()}


def _portions(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    portion: list[str] = []
    size = 0
    for key in keys:
        if len(portion) == MAX_ROW_HASHES or (portion and size + len(key) > _KEYS_BYTES):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(key)
        size += len(key.encode())
    if portion:
        yield tuple(portion)
