"""Rows out of the database as they travel: row-aligned blocks of PostgreSQL's COPY text (DESIGN section 11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from zlib import crc32

import asyncpg

BLOCK_BYTES = 1 << 20
_QUEUED_BLOCKS = 2
_SLACK = 8
"""A block is longer or shorter than asked for by up to this part of it."""
_MARKED, _MARKS = 48, 32
"""Of how many rows one may begin a block, and by how many of its first bytes it is told."""
# The server sends 8 KB at a time, and being woken for each costs as much as packing what came. So after a small chunk
# the next is left to gather: the shortest wait that the loop can make brings about 100 KB.
_GATHER_BELOW = 64 << 10
_GATHER_SECONDS = 0.001


async def copy_blocks(
    connection: asyncpg.Connection, query: str, *, block_bytes: int = BLOCK_BYTES
) -> AsyncGenerator[bytes, None]:
    """The rows of ``query`` as blocks of about ``block_bytes``, read ahead while a block is worked on.

    A block ends with a row's newline; a row longer than a block makes a longer one. The generator must be closed or
    read to its end; leaving it early terminates the connection, since COPY cannot be stopped politely.
    """
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_BLOCKS)

    async def copy() -> None:
        try:
            cutter = Cutter(blocks.put, block_bytes)
            begun = False

            async def take(chunk: bytes) -> None:
                nonlocal begun
                await cutter.take(chunk)
                if begun and len(chunk) < _GATHER_BELOW:
                    await asyncio.sleep(_GATHER_SECONDS)
                begun = True

            await connection.copy_from_query(query, output=take, format="text")
            await cutter.end()
        finally:
            # A consumer that has left no longer empties the queue.
            with suppress(asyncio.QueueFull):
                blocks.put_nowait(None)

    copying = asyncio.create_task(copy())
    finished = False
    try:
        while (block := await _next(blocks, copying)) is not None:
            yield block
        await copying
        finished = True
    finally:
        if not finished:
            connection.terminate()
            copying.cancel()
            with suppress(BaseException):
                await copying


class Cutter:
    """Makes blocks of the driver's chunks, which are many and small.

    Where a block ends is told by the rows alone: by a mark of the row that would begin the next one. So rows that
    nobody touched are in the same blocks again the next time, but for those around a changed row.
    """

    def __init__(self, put: Callable[[bytes], Awaitable[None]], block_bytes: int) -> None:
        self._put = put
        self._low = block_bytes - block_bytes // _SLACK
        self._high = block_bytes + block_bytes // _SLACK
        self._enough = self._high + _MARKED
        self._pending: list[bytes] = []
        self._size = 0
        self._wanted = self._enough

    async def take(self, chunk: bytes) -> None:
        """The next chunk."""
        self._pending.append(chunk)
        self._size += len(chunk)
        if self._size < self._wanted:
            return
        rest = await self._put_blocks()
        self._pending, self._size = [rest], len(rest)
        # In the middle of a long row its end is looked for now and then, not with each chunk.
        self._wanted = self._enough if self._size < self._enough else 2 * self._size

    async def end(self) -> None:
        """No more rows come: what is left is a block."""
        rest = await self._put_blocks()
        self._pending, self._size, self._wanted = [], 0, self._enough
        if rest:
            await self._put(rest)

    async def _put_blocks(self) -> bytes:
        """All blocks whose end is known; returns what is left."""
        data, start = b"".join(self._pending), 0
        while len(data) - start >= self._enough and (end := self._cut(data, start)):
            await self._put(data[start:end])
            start = end
        return data[start:]

    def _cut(self, data: bytes, start: int) -> int:
        """Where the block that begins at ``start`` ends; 0 where that cannot be told yet."""
        low, high = start + self._low, start + self._high
        first = at = data.find(b"\n", low, high) + 1
        while at:
            if at < high and not crc32(data[at : at + _MARKED]) % _MARKS:
                return at
            at = data.find(b"\n", at, high) + 1
        if first:
            return first
        # A row longer than a block is a block of its own: it may fill the largest frame that a reader takes.
        return data.rfind(b"\n", start, low) + 1 or data.find(b"\n", high) + 1


async def _next(blocks: asyncio.Queue[bytes | None], copying: asyncio.Task[None]) -> bytes | None:
    """The next block; None at the end, also where the task died while the queue was full."""
    if blocks.empty() and copying.done():
        return None
    return await blocks.get()
