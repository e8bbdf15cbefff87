"""One bundle on its way in: a file of the spool that grows, and goes on where it stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from agent.archive import files
from agent.archive.errors import SpoolBusyError, SpoolError, SpoolIncompleteError, SpoolOverrunError
from agent.archive.folder import Archive
from agent.archive.steps import Steps, to_the_end
from agent.locks import names, try_lock, unlock

T = TypeVar("T")

MEMORY = ".mark"
"""How the file is named in which a few bytes are kept beside a bundle's."""
SYNC_EVERY = 16 * 1024 * 1024  # bytes between two fsyncs
BUFFER = 1024 * 1024


class Incoming:
    """One bundle that is being received, as :meth:`agent.archive.spool.Spool.open` makes it; one receiver at a time
    holds it.

    ``offset`` is how many bytes are there: the receiver asks its peer to go on from it. Leaving the ``async with``
    block keeps the bytes for the next attempt; :meth:`promote` and :meth:`discard` end it for good.
    """

    def __init__(self, path: Path, bundle_id: str, size: int) -> None:
        self.path = path
        self.bundle_id = bundle_id
        self.size = size
        self.offset = 0
        self._fd: int | None = None
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._unsynced = 0
        self._steps = Steps()

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.offset == self.size

    @property
    def written(self) -> int:
        """How many bytes whoever reads the file finds there."""
        return self.offset - self._buffered

    async def __aenter__(self) -> Incoming:
        try:
            await self._run(self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def write(self, data: bytes) -> None:
        """Append ``data`` at ``offset``. More than ``size`` bytes are refused before anything of ``data`` is kept."""
        if self.offset + len(data) > self.size:
            raise SpoolOverrunError(
                f"More bytes came for bundle {self.bundle_id} than the {self.size} that were announced.",
                "The sender is at fault: send the bundle again.",
            )
        self.offset += len(data)
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER:
            await self._flush()

    async def sync(self) -> None:
        """Bring all that was received to the disk: after this, ``offset`` survives a power cut."""
        await self._flush()
        await self._run(self._sync)

    async def remember(self, what: bytes) -> None:
        """Keep a few bytes beside what was received, for the next attempt, until it ends for good."""
        await self._run(lambda: self._write_memory(what))

    async def memory(self) -> bytes | None:
        """What was remembered last; None where there is nothing."""

        def work() -> bytes | None:
            try:
                return self._memory.read_bytes()
            except OSError:
                return None

        return await asyncio.to_thread(work)

    async def read(self, chunk: int = BUFFER, *, start: int = 0) -> AsyncGenerator[bytes, None]:
        """What is there, from ``start``, in chunks (to verify it, or to rebuild a reader's state)."""
        await self._flush()
        file = await asyncio.to_thread(self.path.open, "rb")
        try:
            await asyncio.to_thread(file.seek, start)
            while data := await asyncio.to_thread(file.read, chunk):
                yield data
        finally:
            file.close()

    async def promote(self, archive: Archive, kind: str, name: str) -> Path:
        """Move the complete bundle into the archive and return its path there."""
        if not self.complete:
            raise SpoolIncompleteError(
                f"Bundle {self.bundle_id} is not complete: {self.offset} of {self.size} bytes are here.",
                "Send it again.",
            )
        await self.sync()
        if os.name == "nt":
            await self.close()  # an open file cannot be renamed there
        path = await archive.adopt(self.path, kind, name)
        await self._run(lambda: self._memory.unlink(missing_ok=True))
        await self.close()
        return path

    async def discard(self) -> None:
        """Delete what was received."""
        self._buffer, self._buffered = [], 0
        await self._run(lambda: self._close(remove=True))

    async def close(self) -> None:
        """Keep what was received for a later attempt and let others open it."""
        await to_the_end(self._finish())

    async def _finish(self) -> None:
        await self._steps.settle()
        if self._fd is not None:
            try:
                await self._flush()
            finally:
                await self._steps.run(lambda: self._close(remove=False))

    async def _flush(self) -> None:
        data, self._buffer, self._buffered = b"".join(self._buffer), [], 0
        if not data:
            return
        try:
            await self._run(lambda: self._append(data))
        except Exception:
            self.offset = await self._steps.run(self._length)
            raise

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._steps.run(work)
        except OSError as error:
            kept = "what came so far is kept for the next attempt"
            raise files.failure(error, self.path, self.offset, kept=kept) from error

    @property
    def _memory(self) -> Path:
        return self.path.with_suffix(MEMORY)

    # In threads from here on.

    def _write_memory(self, what: bytes) -> None:
        fresh = self.path.with_suffix(f"{MEMORY}.new")
        fresh.write_bytes(what)
        fresh.replace(self._memory)

    def _open(self) -> None:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            if not try_lock(fd):
                os.close(fd)
                raise SpoolBusyError(
                    f"Bundle {self.bundle_id} is being received already.", "Wait until that ends, then try again."
                )
            if names(self.path, fd):
                break
            os.close(fd)  # removed between open and lock
        try:
            self.offset = os.fstat(fd).st_size
            if self.offset > self.size:  # not the beginning of this bundle: start again
                os.ftruncate(fd, 0)
                self.offset = 0
            files.check_space(self.path.parent, self.size - self.offset)
            os.utime(self.path)
            os.lseek(fd, 0, os.SEEK_END)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            raise SpoolError(f"Bundle {self.bundle_id} is closed.", "This is an error in Backroom: please report it.")
        files.write_all(self._fd, data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY:
            self._sync()

    def _sync(self) -> None:
        if self._fd is not None:
            files.sync_file(self._fd)
            self._unsynced = 0

    def _length(self) -> int:
        return os.fstat(self._fd).st_size if self._fd is not None else 0

    def _close(self, *, remove: bool) -> None:
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        if remove:
            self._memory.unlink(missing_ok=True)
        if remove and os.name != "nt":
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            unlock(fd)
        os.close(fd)
        if remove and os.name == "nt":
            self.path.unlink(missing_ok=True)
