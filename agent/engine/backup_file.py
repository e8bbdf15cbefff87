"""The file of a backup on its way into its sink: blocks that were read, and frames of an earlier bundle as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.engine.progress import Progress, Step
from agent.reading import Unreadable, reading_earlier
from protocol.base import Base
from protocol.frames import EncodedFrame, PackedBlock, as_frame
from protocol.manifest import Manifest
from protocol.seal import Signer
from protocol.writer import BundleWriter


class BackupFile:
    """Makes one bundle and gives it to ``write``: ``begin``, then each row once in the order of the manifest, ``seal``.

    ``bytes`` is its size so far, ``raw_bytes`` that of its rows before compression, ``frames`` how many it has, and
    ``frames_kept`` how many of these are those of an earlier bundle.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[object]], manifest: Manifest, progress: Progress) -> None:
        self.bytes = self.raw_bytes = self.frames = self.frames_kept = 0
        self._rows = 0
        self._write = write
        self._manifest = manifest
        self._writer = BundleWriter(manifest)
        self._progress = progress

    @property
    def content(self) -> str:
        """A digest over those of all frames so far, in hex."""
        return self._writer.content

    async def begin(self) -> None:
        """What comes before the rows."""
        await self._emit(self._writer.header())

    async def block(self, position: int, block: PackedBlock) -> None:
        """Rows of the entry at that position of the manifest."""
        await self._frame(*await asyncio.to_thread(self._made, position, block))

    async def kept(self, position: int, base: Base, number: int) -> None:
        """Rows of that entry: those of a frame of an earlier bundle. Raises ``Unreadable``."""
        await self._frame(*await asyncio.to_thread(self._copied, position, base, number))
        self.frames_kept += 1

    async def seal(self, sign: Signer, certificate: bytes) -> None:
        """What comes after the rows."""
        await self._emit(await asyncio.to_thread(self._writer.seal, sign, certificate))

    def _made(self, position: int, block: PackedBlock) -> tuple[EncodedFrame, bytes]:
        frame = as_frame(position, block)
        return frame, self._writer.frame(frame)

    def _copied(self, position: int, base: Base, number: int) -> tuple[EncodedFrame, bytes]:
        with reading_earlier():
            frame = base.frame(number)
        before = base.manifest
        assert before is not None
        then, now = before.tables[frame.entry], self._manifest.tables[position]
        if (then.table, then.stub, then.columns) != (now.table, now.stub, now.columns):
            raise Unreadable(f"frame {number} does not hold rows of {now.table} as they are written now")
        if frame.entry == position:
            return frame, self._writer.frame(frame)
        return self._made(position, PackedBlock(frame.rows, frame.raw_length, frame.codec, frame.data))

    async def _frame(self, frame: EncodedFrame, record: bytes) -> None:
        await self._emit(record)
        self.frames += 1
        self.raw_bytes += frame.raw_length
        self._rows += frame.rows
        table = self._manifest.tables[frame.entry].table
        self._progress(Step("backing up", self._rows, self._manifest.total_rows, table, bytes=self.bytes))

    async def _emit(self, data: bytes) -> None:
        await self._write(data)
        self.bytes += len(data)
