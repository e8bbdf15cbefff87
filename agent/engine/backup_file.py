"""The file of a backup on its way into its sink: blocks that were read, and frames of an earlier bundle as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from agent.engine.progress import Progress, Step
from agent.engine.reading import Kept
from agent.reading import Unreadable, reading_earlier
from protocol.base import Base
from protocol.frames import EncodedFrame, PackedBlock, as_frame, check_data, cut_block
from protocol.limits import DEFAULT_LIMITS
from protocol.manifest import Manifest
from protocol.places import Packed
from protocol.seal import Signer
from protocol.writer import BundleWriter

# Frames of an earlier bundle are handed on several at a time: each handing on has its price.
_COPIED_BYTES = 2 << 20


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
    def places(self) -> Packed | None:
        """Where the frames so far lie in it (:mod:`protocol.places`)."""
        return self._writer.places

    @property
    def content(self) -> str:
        """A digest over those of all frames so far, in hex."""
        return self._writer.content

    async def begin(self) -> None:
        """What comes before the rows."""
        await self._emit(self._writer.header())

    async def block(self, position: int, block: PackedBlock) -> None:
        """Rows of the entry at that position of the manifest."""
        await self._frames([await asyncio.to_thread(self._made, position, block)])

    async def kept(self, position: int, base: Base, kept: Kept) -> None:
        """Rows of that entry, of frames of an earlier bundle and what comes beside them. Raises ``Unreadable``."""
        left = kept.frames
        while left:
            copied = await asyncio.to_thread(self._copied, position, base, left, kept)
            self.frames_kept += sum(number not in kept.cuts for number in left[: len(copied)])
            left = left[len(copied) :]
            await self._frames(copied)
        for block in kept.rest:
            await self.block(position, block)

    async def seal(self, sign: Signer, certificate: bytes) -> None:
        """What comes after the rows."""
        await self._emit(await asyncio.to_thread(self._writer.seal, sign, certificate))

    def _made(self, position: int, block: PackedBlock) -> tuple[EncodedFrame, bytes]:
        frame = as_frame(position, block)
        return frame, self._writer.frame(frame)

    def _copied(self, position: int, base: Base, numbers: range, kept: Kept) -> list[tuple[EncodedFrame, bytes]]:
        """The first of these frames, as many as are handed on at once."""
        copied: list[tuple[EncodedFrame, bytes]] = []
        size = 0
        for number in numbers:
            copied.append(self._copy(position, base, number, kept))
            size += len(copied[-1][1])
            if size >= _COPIED_BYTES:
                break
        return copied

    def _copy(self, position: int, base: Base, number: int, kept: Kept) -> tuple[EncodedFrame, bytes]:
        cuts = kept.cuts.get(number)
        with reading_earlier():
            frame = base.frame(number)
            less = as_frame(position, cut_block(frame, *cuts)) if cuts is not None else None
            if less is not None:
                check_data(less, DEFAULT_LIMITS)
        before = base.manifest
        assert before is not None
        then, now = before.tables[frame.entry], self._manifest.tables[position]
        if (then.table, then.stub, then.columns) != (now.table, now.stub, now.columns):
            raise Unreadable(f"frame {number} does not hold rows of {now.table} as they are written now")
        if less is not None:
            return less, self._writer.frame(less)
        if frame.entry == position:
            return frame, self._writer.frame(frame)
        return self._made(position, PackedBlock(frame.rows, frame.raw_length, frame.codec, frame.data))

    async def _frames(self, made: Sequence[tuple[EncodedFrame, bytes]]) -> None:
        """Frames of one entry, with their records."""
        await self._emit(b"".join(record for _, record in made))
        self.frames += len(made)
        self.raw_bytes += sum(frame.raw_length for frame, _ in made)
        self._rows += sum(frame.rows for frame, _ in made)
        table = self._manifest.tables[made[0][0].entry].table
        self._progress(Step("backing up", self._rows, self._manifest.total_rows, table, bytes=self.bytes))

    async def _emit(self, data: bytes) -> None:
        await self._write(data)
        self.bytes += len(data)
