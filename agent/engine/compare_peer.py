"""Comparing with another laptop: its answers to our questions, and ours to its (PEER.md, "Compare").

What travels are digests, and keys with digests of rows in tables that differ; never the rows. Each answer is from a
snapshot of its own: a business that is worked on meanwhile is compared again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence

from agent.database.digests import RANGES, Digest, Question
from agent.engine.compare import TableShape
from agent.engine.compare_sides import live_side
from agent.tables.catalogue import Catalogue
from protocol.requests import MAX_ROW_HASHES, CompareRequest, RowHashes, RowHashRequest, TableDigest

_HALF = 1 << 64
_SIGN = 1 << 63

AskDigests = Callable[[CompareRequest], Awaitable[Sequence[TableDigest]]]
AskRows = Callable[[RowHashRequest], AsyncIterator[RowHashes]]


class PeerSide:
    """The same business on another laptop, seen through the two requests that it answers."""

    def __init__(self, business: str, ask_digests: AskDigests, ask_rows: AskRows) -> None:
        self._business = business
        self._ask_digests = ask_digests
        self._ask_rows = ask_rows
        self._known: dict[str, TableDigest] = {}

    async def shapes(self) -> Mapping[str, TableShape]:
        found = await self._ask_digests(CompareRequest(self._business))
        self._known = {digest.table: digest for digest in found}
        return {
            digest.table: TableShape(digest.table, dict.fromkeys(digest.columns, ""), digest.key) for digest in found
        }

    async def digests(self, questions: Sequence[Question]) -> Mapping[str, Digest]:
        other = {
            question.table: question.columns
            for question in questions
            if self._known[question.table].columns != question.columns
        }
        if other:
            again = await self._ask_digests(CompareRequest(self._business, other))
            self._known |= {digest.table: digest for digest in again}
        return {
            question.table: Digest(known.rows, known.digest.decode("ascii"))
            for question in questions
            if (known := self._known[question.table])
        }

    async def ranges(self, question: Question) -> Mapping[int, Digest]:
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        async for key, digest in self._rows(question):
            total = sums[_range(key)]
            repeated = 1 if question.key else int(digest)
            content = digest if question.key else key
            total[0] += repeated
            total[1] += repeated * _signed(content[:16])
            total[2] += repeated * _signed(content[16:])
        return {place: Digest(rows, f"{left}:{right}") for place, (rows, left, right) in sums.items()}

    async def rows(self, question: Question, ranges: Sequence[int]) -> Mapping[str, str]:
        wanted = set(ranges)
        return {key: digest async for key, digest in self._rows(question) if _range(key) in wanted}

    async def needed(self, question: Question, keys: Sequence[str]) -> frozenset[str]:
        wanted = set(keys)
        request = RowHashRequest(self._business, question.table, (), question.key or question.columns)
        return frozenset({key async for hashes in self._ask_rows(request) for key in hashes.keys if key in wanted})

    async def _rows(self, question: Question) -> AsyncGenerator[tuple[str, str], None]:
        request = RowHashRequest(self._business, question.table, question.columns, question.key)
        async for hashes in self._ask_rows(request):
            for key, digest in zip(hashes.keys, hashes.hashes, strict=True):
                yield key, digest.hex() if question.key else digest.decode("ascii")


def _range(key: str) -> int:
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:3], 16) % RANGES


def _signed(half: str) -> int:
    number = int(half, 16)
    return number - _HALF if number >= _SIGN else number


async def answer_digests(url: str, catalogue: Catalogue, request: CompareRequest) -> AsyncGenerator[TableDigest, None]:
    """The digests of the tables asked for (all, if none is named), over those of the columns that exist here."""
    async with live_side(url, catalogue, request.business) as side:
        for name, shape in sorted((await side.shapes()).items()):
            comparable = sorted(set(shape.columns) - shape.local)
            if request.columns:
                comparable = [column for column in request.columns.get(name, ()) if column in comparable]
            if not comparable:
                continue
            question = Question(name, tuple(comparable), shape.key)
            digest = (await side.digests([question]))[name]
            yield TableDigest(name, digest.rows, digest.sum.encode("ascii"), question.columns, shape.key)


async def answer_rows(url: str, catalogue: Catalogue, request: RowHashRequest) -> AsyncGenerator[RowHashes, None]:
    """Key and digest of each row of the table. Without columns: the keys of the rows that the business itself has or
    needs (a table without a key names all its columns as the key)."""
    async with live_side(url, catalogue, request.business) as side:
        shape = (await side.shapes()).get(request.table)
        known = frozenset(shape.columns) if shape else frozenset()
        if shape is None or not {*request.columns, *request.key} <= known:
            return
        keyed = bool(shape.key) and request.key == shape.key
        question = Question(request.table, request.columns or request.key, request.key if keyed else ())
        found = side.stream(question) if request.columns else side.stream_needed(question)
        async for batch in _batches(found):
            hashes = tuple(bytes.fromhex(digest) if keyed else digest.encode("ascii") for _, digest in batch)
            yield RowHashes(tuple(key for key, _ in batch), hashes)


async def _batches(rows: AsyncIterator[tuple[str, str]]) -> AsyncGenerator[list[tuple[str, str]], None]:
    batch: list[tuple[str, str]] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == MAX_ROW_HASHES:
            yield batch
            batch = []
    if batch:
        yield batch
