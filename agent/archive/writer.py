"""Writing one bundle: temp file, fsync, rename. Whatever happens, there is a complete file or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from agent.archive import files
from agent.archive.errors import FileExistsAlreadyError, WriteError
from agent.archive.flushing import Flusher
from agent.archive.steps import Steps, to_the_end
from agent.growing import Growing
from agent.home import Home

T = TypeVar("T")

PARTIAL = ".partial"
BUFFER = 1024 * 1024


class Encoder(Protocol):
    """Changes what is written on its way to the file, piece by piece: seals it. May block."""

    def update(self, data: bytes, /) -> bytes: ...

    def finish(self) -> bytes: ...


class Writer:
    """``async with archive.writer(...) as w: await w.write(data) ...; path = await w.commit(name)``.

    Leaving the block without :meth:`commit` (an error, a cancelled task) removes what was written. Data is collected to
    about 1 MB, hashed and written in threads. ``size`` (bytes) and ``sha256`` (hex) are of the file: with ``encoder``
    what that made of the data.
    """

    def __init__(
        self,
        home: Home,
        folder: Path,
        *,
        target: Path | None = None,
        expected: int | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        self._home = home
        self._folder = folder
        self._target = target
        self._expected = expected
        self._encoder = encoder
        self._fd: int | None = None
        self._flusher: Flusher | None = None
        self._temporary = folder
        self._digest = hashlib.sha256()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._steps = Steps()
        self._placed: Path | None = None
        self._delivered = False
        self._growing: Growing | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes so far that have left the buffer: after :meth:`commit`, of the file."""
        return self._digest.hexdigest()

    async def __aenter__(self) -> Writer:
        try:
            await self._run(self._open)
        except BaseException:
            await self._discard()
            raise
        return self

    def growing(self) -> Growing | None:
        """What others may read the file by while it is written, once the block is entered; None where what is written
        is not what they should read, or they would be in the way."""
        if self._encoder is None and os.name != "nt":  # an open file cannot be renamed there
            self._growing = Growing(self._temporary)
        return self._growing

    async def write(self, data: bytes) -> None:
        """Append ``data``. Raises :class:`~agent.archive.errors.DiskFullError` or ``WriteError``, with nothing left."""
        if self._encoder is None:
            self.size += len(data)
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFER:
            await self._flush()

    async def commit(self, name: str | None = None) -> Path:
        """Finish the file under ``name`` (``-2`` and so on where taken; with an encoder ``.age`` behind it).

        A writer for a file of the user's own choice takes its name from that and needs none.
        """
        await self._flush()
        if self._encoder is not None:
            await self._run(self._end_encoding)
            name = None if name is None else name + files.SEALED_SUFFIX
        path = await self._run(lambda: self._finish(name))
        self._delivered = True
        if self._growing is not None:
            self._growing.end(path)
        return path

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._discard()

    async def _flush(self) -> None:
        data, self._buffer, self._buffered = b"".join(self._buffer), [], 0
        if data:
            await self._run(lambda: self._append(data))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._steps.run(work)
        except OSError as error:
            raise files.failure(error, self._temporary, self.size) from error

    async def _discard(self) -> None:
        """Remove what nobody was given, after a thread that may still write has ended."""
        if self._growing is not None:
            self._growing.fail()
        if not self._delivered:
            await to_the_end(self._steps.run(self._remove))

    # In threads from here on.

    def _open(self) -> None:
        if not self._folder.is_dir():
            raise WriteError(f"There is no folder {self._folder}.", "Make it first, or choose another one.")
        if self._target is not None and self._target.exists():
            raise _exists(self._target)
        clean_partials(self._home, self._folder)
        if self._expected is not None:
            files.check_space(self._folder, self._expected)
        self._temporary = self._folder / f".{self._home.process}.{secrets.token_hex(4)}{PARTIAL}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self._temporary, flags, 0o600)
        self._flusher = Flusher(self._fd)

    def _append(self, data: bytes) -> None:
        fd, flusher = self._opened()
        if self._encoder is not None:
            data = self._encoder.update(data)
            self.size += len(data)
        self._write(fd, flusher, data)

    def _end_encoding(self) -> None:
        fd, flusher = self._opened()
        if self._encoder is not None:
            data = self._encoder.finish()
            self.size += len(data)
            self._write(fd, flusher, data)

    def _opened(self) -> tuple[int, Flusher]:
        if self._fd is None or self._flusher is None:
            raise WriteError("This file is closed.", "This is an error in Backroom: please report it.")
        return self._fd, self._flusher

    def _write(self, fd: int, flusher: Flusher, data: bytes) -> None:
        files.write_all(fd, data)
        flusher.wrote(len(data))
        self._digest.update(data)
        if self._growing is not None:
            self._growing.grew(self._growing.size + len(data))

    def _finish(self, name: str | None) -> Path:
        _, flusher = self._opened()
        if name is not None:
            files.check_name(name)
        elif self._target is None:
            raise WriteError("This file has no name.", "This is an error in Backroom: please report it.")
        flusher.sync()
        self._close()
        if self._target is not None:
            if not files.rename_new(self._temporary, self._target):
                raise _exists(self._target)
            files.sync_folder(self._folder)
            self._placed = self._target
        elif name is not None:
            self._placed = files.place(self._temporary, self._folder, name)
        if self._placed is None:
            raise WriteError("The file has no name.")
        return self._placed

    def _close(self) -> None:
        if self._flusher is not None:
            self._flusher.close()
            self._flusher = None
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _remove(self) -> None:
        self._close()
        with contextlib.suppress(OSError):
            if self._placed is not None:
                self._placed.unlink(missing_ok=True)
            elif self._temporary.name.endswith(PARTIAL):
                self._temporary.unlink(missing_ok=True)


def clean_partials(home: Home, folder: Path, foreign_age: float | None = None) -> list[Path]:
    """Remove partial files in ``folder`` that dead processes of ``home`` left. Returns them.

    Those of other data folders are left alone, or with ``foreign_age`` (seconds) removed when older than that.
    """
    removed = []
    for path in folder.glob(f".*{PARTIAL}"):
        token = path.name.split(".")[1]
        with contextlib.suppress(OSError):
            old = foreign_age is not None and path.stat().st_mtime < time.time() - foreign_age
            if home.alive(token) if token.startswith(f"{home.tag}-") else not old:
                continue
            path.unlink()
            removed.append(path)
    return removed


def _exists(path: Path) -> FileExistsAlreadyError:
    return FileExistsAlreadyError(f"{path} exists already.", "Choose another name: Backroom never overwrites a file.")
