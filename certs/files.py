"""Private files that survive a power cut: written beside, flushed, renamed into place, one writer at a time.

POSIX: files 0600 in folders 0700, and the folder is flushed after the rename. Windows: access follows from the user's
profile folder, and a rename is tried again for a moment while a reader holds the file open.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TEMPORARY = ".new"
_REPLACE_TRIES = 50
_REPLACE_PAUSE = 0.02
_LOCK_PAUSE = 0.02


def make_private_folder(path: Path) -> None:
    """Make a folder (and its parents) that only its owner can enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        path.chmod(0o700)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, where the system can do that."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_new(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 and flush it to disk. A left-over of the same name is replaced."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def replace_private(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that after a power cut either the old or the new content is there, never a part.

    The caller holds the folder's lock: the temporary name is always the same, so that crashes leave at most one.
    """
    temporary = path.with_name(path.name + _TEMPORARY)
    write_new(temporary, data)
    move(temporary, path)


def move(source: Path, target: Path) -> None:
    """Rename a file over another, or a folder to a name that is free, and flush the parent folder."""
    for attempt in range(_REPLACE_TRIES):
        try:
            source.replace(target)
            break
        except PermissionError:
            if sys.platform != "win32" or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(_REPLACE_PAUSE)
    sync_folder(target.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between threads and processes while the block runs. The lock file stays in place."""
    make_private_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            while True:
                try:
                    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    time.sleep(_LOCK_PAUSE)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Closing the descriptor gives the lock back on POSIX; Windows wants the range unlocked by name.
        if sys.platform == "win32":
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
            except OSError:
                pass
        os.close(descriptor)


def stamp(path: Path) -> tuple[int, ...]:
    """A value that changes when another file takes this path or its content is rewritten. Raises FileNotFoundError."""
    status = path.stat()
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
