"""Rows out of the database as they travel: row-aligned blocks of PostgreSQL's COPY text (DESIGN section 11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import asyncpg

BLOCK_BYTES = 1 << 20
_QUEUED_CHUNKS = 8


async def copy_blocks(
    connection: asyncpg.Connection, query: str, *, block_bytes: int = BLOCK_BYTES
) -> AsyncGenerator[tuple[bytes, int], None]:
    """The rows of ``query`` as blocks of about ``block_bytes``, each with its number of rows.

    A block ends with a row's newline; a row longer than a block makes a longer one. The generator must be closed or
    read to its end; leaving it early terminates the connection, since COPY cannot be stopped politely.
    """
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_CHUNKS)

    async def copy() -> None:
        try:
            await connection.copy_from_query(query, output=chunks.put, format="text")
        finally:
            # A consumer that has left no longer empties the queue.
            with suppress(asyncio.QueueFull):
                chunks.put_nowait(None)

    copying = asyncio.create_task(copy())
    finished = False
    try:
        pending: list[bytes] = []
        size = 0
        while True:
            chunk = await _next(chunks, copying)
            if chunk is None:
                break
            if size and size + len(chunk) > 2 * block_bytes and pending[-1].endswith(b"\n"):
                # A long row in a block of its own: it may fill the largest frame that a reader takes.
                block = b"".join(pending)
                yield block, block.count(b"\n")
                pending, size = [], 0
            pending.append(chunk)
            size += len(chunk)
            if size >= block_bytes:
                data = b"".join(pending)
                end = data.rfind(b"\n") + 1
                rest = data[end:]
                pending, size = ([rest], len(rest)) if rest else ([], 0)
                if end:
                    block = data[:end]
                    yield block, block.count(b"\n")
        await copying
        finished = True
        if size:
            block = b"".join(pending)
            yield block, block.count(b"\n")
    finally:
        if not finished:
            connection.terminate()
            copying.cancel()
            with suppress(BaseException):
                await copying


async def _next(chunks: asyncio.Queue[bytes | None], copying: asyncio.Task[None]) -> bytes | None:
    """The next chunk; None at the end, also where the task died while the queue was full."""
    if chunks.empty() and copying.done():
        return None
    return await chunks.get()
