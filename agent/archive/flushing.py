"""Bringing a long file to the disk while it is written: who waits for all of it to be safe waits for little then.

The system tells a failure once. One that came up beside the writing is kept, and raised to who asks for the file to be
safe, however often.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

from agent.archive.files import sync_file

EVERY = 16 << 20
"""After so many bytes what was written is brought to the disk."""


class Flusher:
    """Brings what is written to the open file ``fd`` to its disk. Whoever writes tells it, one thread at a time, and
    closes it before the file."""

    def __init__(self, fd: int, every: int = EVERY) -> None:
        self._fd = fd
        self._every = every
        self._left = 0
        self._thread: ThreadPoolExecutor | None = None
        self._flushing: Future[None] | None = None
        self._failure: OSError | None = None

    def wrote(self, size: int) -> None:
        """So many bytes more were written. Waits for nothing; raises an error that came up beside the writing."""
        self._left += size
        if self._left < self._every or (self._flushing is not None and not self._flushing.done()):
            return
        self._settle()
        self._left = 0
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "flush")
        self._flushing = self._thread.submit(os.fsync, self._fd)

    def sync(self) -> None:
        """Have all that was written on the disk. Raises ``OSError`` if that cannot be, or could not before."""
        self._settle()
        self._left = 0
        try:
            sync_file(self._fd)
        except OSError as error:
            self._failure = error
            raise

    def close(self) -> None:
        """Let go of the file, however it stands."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _settle(self) -> None:
        """Wait for what is under way, and take note of how it ended."""
        flushing, self._flushing = self._flushing, None
        if self._failure is None and flushing is not None:
            error = flushing.exception()
            if error is not None and not isinstance(error, OSError):
                raise error
            self._failure = error
        if self._failure is not None:
            raise self._failure
