"""Locks between processes on Windows and POSIX alike: held by an open file, freed by the system when a process dies."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import TracebackType

# Windows locks are mandatory for the bytes that they cover, so one byte far behind any content is locked: the file's
# content stays readable for everyone.
_LOCK_OFFSET = 0x7FFF_FFF0

if sys.platform == "win32":
    import msvcrt

    def try_lock(fd: int) -> bool:
        """Take the exclusive lock of an open file without waiting; ``False`` where someone else holds it."""
        position = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(fd, position, os.SEEK_SET)
        return True

    def unlock(fd: int) -> None:
        """Free the lock taken by :func:`try_lock`."""
        position = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        os.lseek(fd, position, os.SEEK_SET)

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Take the exclusive lock of an open file without waiting; ``False`` where someone else holds it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Free the lock taken by :func:`try_lock`."""
        fcntl.flock(fd, fcntl.LOCK_UN)


class FileLock:
    """An exclusive lock named by a file. The file stays behind (deleting it would let two processes hold "the" lock).

    While held, the file holds the process number of the holder, for messages to people only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def try_acquire(self) -> bool:
        """Take the lock without waiting. ``False`` where another holder has it, or this object does already."""
        if self._fd is not None:
            return False
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            if not try_lock(fd):
                os.close(fd)
                return False
            if names(self.path, fd):
                break
            os.close(fd)  # deleted between open and lock: the lock of a file without a name protects nothing
        self._fd = fd
        with contextlib.suppress(OSError):  # a full disk: the lock is held all the same
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        return True

    def release(self, *, remove: bool = False) -> None:
        """Free the lock; ``remove`` also deletes the file (only for locks whose name is used once)."""
        if self._fd is None:
            return
        if remove and sys.platform != "win32":
            self.path.unlink(missing_ok=True)
        unlock(self._fd)
        os.close(self._fd)
        self._fd = None
        if remove and sys.platform == "win32":
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def holder(self) -> int | None:
        """The process number that the holder left in the file, where there is one."""
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def names(path: Path, fd: int) -> bool:
    """Whether ``path`` still is the file that ``fd`` has open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
