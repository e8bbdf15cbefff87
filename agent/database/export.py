"""Rows out of the database as they travel: row-aligned blocks of PostgreSQL's COPY text (DESIGN section 11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

import asyncpg

BLOCK_BYTES = 1 << 20
_QUEUED_BLOCKS = 2


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
            await connection.copy_from_query(query, output=cutter.take, format="text")
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
    """Makes blocks of the driver's chunks, which are many and small: they are joined once and go no further."""

    def __init__(self, put: Callable[[bytes], Awaitable[None]], block_bytes: int) -> None:
        self._put = put
        self._block_bytes = block_bytes
        self._pending: list[bytes] = []
        self._size = 0

    async def take(self, chunk: bytes) -> None:
        """The next chunk."""
        if self._size and self._size + len(chunk) > 2 * self._block_bytes and self._pending[-1].endswith(b"\n"):
            # A long row in a block of its own: it may fill the largest frame that a reader takes.
            await self.end()
        self._pending.append(chunk)
        self._size += len(chunk)
        if self._size < self._block_bytes:
            return
        if chunk.endswith(b"\n"):
            await self.end()
        elif end := (data := b"".join(self._pending)).rfind(b"\n") + 1:
            self._pending, self._size = [data[end:]], len(data) - end
            await self._put(data[:end])

    async def end(self) -> None:
        """What is pending is a block."""
        if self._size:
            block = b"".join(self._pending)
            self._pending, self._size = [], 0
            await self._put(block)


async def _next(blocks: asyncio.Queue[bytes | None], copying: asyncio.Task[None]) -> bytes | None:
    """The next block; None at the end, also where the task died while the queue was full."""
    if blocks.empty() and copying.done():
        return None
    return await blocks.get()
