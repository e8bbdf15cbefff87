"""A file that is still being written, read by others meanwhile."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

_BUFFER = 1 << 16


class Unfinished(OSError):
    """The file was given up by whoever wrote it."""


class Growing:
    """One file on its way: its writer tells how long it is, its readers wait, in threads, for what is not there yet.

    ``path`` is where it lies now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = 0
        self._complete = self._failed = False
        self._changed = threading.Condition()

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return self._size

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self._complete

    @property
    def failed(self) -> bool:
        """Whether no more come although some are missing."""
        return self._failed

    def grew(self, size: int) -> None:
        """The file has so many bytes now."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def end(self, path: Path) -> None:
        """All is there, and lies at ``path`` from now on."""
        with self._changed:
            self.path, self._complete = path, True
            self._changed.notify_all()

    def fail(self) -> None:
        """Nothing more comes. Readers raise :class:`Unfinished`; without effect on a complete file."""
        with self._changed:
            self._failed = not self._complete
            self._changed.notify_all()

    def open(self, _path: Path | None = None) -> io.BufferedReader:
        """A reader (an ``agent.reading.Opener`` for this file alone). Its ``read`` waits for what it was asked for; at
        the end of a complete file it gives less. Seeking to the end is not for it."""
        try:
            return io.BufferedReader(_Reader(self, self.path), _BUFFER)
        except FileNotFoundError:
            self.wait(sys.maxsize)  # it is just being moved to where it will lie
            return io.BufferedReader(_Reader(self, self.path), _BUFFER)

    def wait(self, position: int) -> int:
        """How many bytes there are, once that is more than ``position`` or all. Blocking; raises ``Unfinished``."""
        with self._changed:
            while not (self._failed or self._complete or self._size > position):
                self._changed.wait()
            if self._failed:
                raise Unfinished("The file was not finished.")
            return self._size


class _Reader(io.RawIOBase):
    def __init__(self, growing: Growing, path: Path) -> None:
        super().__init__()
        self._growing = growing
        self._file = path.open("rb", buffering=0)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("nobody knows yet where the end is")
        self._position = self._file.seek(offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        there = max(0, self._growing.wait(self._position) - self._position)
        read = self._file.readinto(view[: min(there, len(view))]) or 0
        self._position += read
        return read

    def close(self) -> None:
        self._file.close()
        super().close()
