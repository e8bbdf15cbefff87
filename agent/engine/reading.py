"""Reading the rows of a backup: piece by piece in the order of the file, by one connection or two, packed in threads.

Each connection takes the first piece that nobody has taken. What is read before its turn in the file waits in memory,
packed, up to a limit: then its reader waits too, and only the piece whose turn it is goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from agent.database.errors import translating
from agent.database.export import copy_blocks
from agent.engine.errors import RowTooLarge
from protocol.cuts import Cut
from protocol.errors import FrameTooLarge
from protocol.frames import PackedBlock, pack_block

T = TypeVar("T")

# Bytes of rows in the hands of the threads: enough that two have work. Bytes that are packed and wait for their turn.
_PACKING_BYTES = 6 << 20
_WAITING_BYTES = 24 << 20
_BLOCKS_AT_TURN = 3
# So little is packed sooner than a thread is asked to: most tables are small.
_AT_ONCE = 16 << 10


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows that are had without reading them: those of frames of an earlier bundle, by their numbers; of some of these
    without ``cuts``, all that is left out of their block (:mod:`protocol.cuts`), with how many rows are left; and the
    blocks of rows ``rest``."""

    frames: range
    cuts: Mapping[int, tuple[tuple[Cut, ...], int]] = field(default_factory=dict)
    rest: tuple[PackedBlock, ...] = ()


@dataclass(eq=False, slots=True)
class Piece:
    """Some rows of a table. ``shared`` ones can be read by any connection that sees the snapshot, others need the
    temporary tables of the first one. ``part`` is the number of the part of the table whose rows they are, if that says
    which they are. Nobody reads one that is ``kept``, nor, as long as that is not decided, one that is ``held``;
    of one that was ``asked`` about it is known whether it can be kept.
    """

    table: str
    query: str
    shared: bool
    part: int | None = None
    kept: Kept | None = None
    held: bool = False
    asked: bool = False
    blocks: deque[asyncio.Future[PackedBlock]] = field(default_factory=deque)
    taken: bool = False
    complete: bool = False


class Reading:
    """Readers at work as long as the block lasts; whatever goes wrong in one is raised by :meth:`rows`.

    async with Reading(compress=True) as reading:
        reading.plan(pieces)
        reading.read(connection)
        async for block in reading.rows(pieces[0]): ...
    """

    def __init__(self, *, compress: bool) -> None:
        self._compress = compress
        self._pieces: Sequence[Piece] = ()
        self._turn: Piece | None = None
        self._packing = 0
        self._waiting = 0
        self._bell = asyncio.Event()
        self._readers: set[asyncio.Task[None]] = set()
        self._afterwards: Callable[[Any], Awaitable[object]] | None = None
        self._failure: BaseException | None = None
        self._threads = ThreadPoolExecutor(2, "backup")
        self._beside: list[asyncio.Future[Any]] = []

    async def __aenter__(self) -> Reading:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for work in (*self._readers, *self._beside):
            work.cancel()
        left = [*self._beside, *(block for piece in self._pieces for block in piece.blocks)]
        try:
            await asyncio.gather(*self._readers, *left, return_exceptions=True)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def plan(self, pieces: Sequence[Piece]) -> None:
        """All pieces from now on, in the order of the file; those taken so far must be among them."""
        self._pieces = pieces
        self._ring()

    def afterwards(self, work: Callable[[Any], Awaitable[object]]) -> None:
        """What each reader does with its connection when it finds no piece left, while others are on their way to the
        file. To be said before they begin.
        """
        self._afterwards = work

    def beside(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Have other work done by the threads that pack."""
        doing = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        self._beside.append(doing)
        return doing

    def read(self, connection: Any) -> None:
        """Read every piece that is left by this connection, which has the temporary tables."""
        self._start(self._read(connection, own=True))

    def help(
        self, beside: AbstractAsyncContextManager[Any], before: Callable[[Any], Awaitable[bool]] | None = None
    ) -> None:
        """Read pieces that can be shared by this connection, too, if there is one, and what is to be done ``before`` is
        done by it and says that it can."""
        self._start(self._help(beside, before))

    async def rows(self, piece: Piece) -> AsyncGenerator[PackedBlock, None]:
        """The blocks of a piece. To be asked for in the order of the file, from when :meth:`read` is at work."""
        self._turn = piece
        self._ring()
        while True:
            if self._failure is not None:
                raise self._failure
            if piece.blocks:
                block = await piece.blocks[0]
                piece.blocks.popleft()
                self._waiting -= len(block.data)
                self._ring()
                yield block
            elif piece.complete:
                return
            else:
                await self._bell.wait()

    async def ended(self) -> None:
        """Wait until the readers have done all that they had to."""
        await asyncio.gather(*self._readers)

    def _start(self, work: Any) -> None:
        reader = asyncio.create_task(work)
        reader.add_done_callback(self._ended)
        self._readers.add(reader)

    def _ended(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled() and self._failure is None:
            self._failure = reader.exception()
        self._ring()

    def _ring(self) -> None:
        """Something changed: whoever waits looks again."""
        self._bell.set()
        self._bell = asyncio.Event()

    async def _help(
        self, beside: AbstractAsyncContextManager[Any], before: Callable[[Any], Awaitable[bool]] | None
    ) -> None:
        async with beside as connection:
            if connection is not None and (before is None or await before(connection)):
                await self._read(connection, own=False)

    def _next(self, *, own: bool) -> Piece | None:
        free = (each for each in self._pieces if not (each.taken or each.held or each.kept))
        return next((each for each in free if own or each.shared), None)

    async def _read(self, connection: Any, *, own: bool) -> None:
        while piece := self._next(own=own):
            piece.taken = True
            with translating(f"The backup of table {piece.table}"):
                blocks = copy_blocks(connection, piece.query)
                try:
                    async for block in blocks:
                        while not self._has_room(piece):
                            await self._bell.wait()
                        self._pack(piece, block)
                finally:
                    await blocks.aclose()
            piece.complete = True
            self._ring()
        if self._afterwards is not None:
            await self._afterwards(connection)

    def _has_room(self, piece: Piece) -> bool:
        """Whether one more block may be had of the piece. The one whose turn it is may always have some, since all that
        waits waits for it."""
        few = _BLOCKS_AT_TURN if piece is self._turn else 0
        if not piece.blocks and few:
            return True
        return self._packing < _PACKING_BYTES and (self._waiting < _WAITING_BYTES or len(piece.blocks) < few)

    def _pack(self, piece: Piece, block: bytes) -> None:
        def packed(done: asyncio.Future[PackedBlock]) -> None:
            self._packing -= len(block)
            if not done.cancelled() and done.exception() is None:
                self._waiting += len(done.result().data)
            self._ring()

        loop = asyncio.get_running_loop()
        self._packing += len(block)
        if len(block) <= _AT_ONCE:
            packing = loop.create_future()
            packing.set_result(self._packed(piece.table, block))
        else:
            packing = loop.run_in_executor(self._threads, self._packed, piece.table, block)
        packing.add_done_callback(packed)
        piece.blocks.append(packing)
        self._ring()

    def _packed(self, table: str, block: bytes) -> PackedBlock:
        try:
            return pack_block(block, compress=self._compress)
        except FrameTooLarge as error:
            raise RowTooLarge(f"The backup was stopped: table {table} has a row that is too long. {error}") from error
