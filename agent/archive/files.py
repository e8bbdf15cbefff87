"""Files that are there completely or not at all: what the writer and the spool do. Blocking: run in threads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from pathlib import Path

from agent.archive.errors import ArchiveError, BadNameError, DiskFullError, WriteError

if sys.platform != "win32":
    import fcntl

SEALED_SUFFIX = ".age"
BUNDLE_SUFFIXES = (".bundle.age", ".bundle", ".json.gz", ".json")
HEADROOM = 16 * 1024 * 1024  # bytes that a new file must leave free
MAX_SAME_NAME = 10_000

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{digit}" for name in ("com", "lpt") for digit in range(1, 10))}


def sync_file(fd: int) -> None:
    """Bring the file's content to the disk itself (on macOS ``fsync`` alone stops at the drive's cache)."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_folder(folder: Path) -> None:
    """Bring names made in ``folder`` to the disk. Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no fsync of folders
            os.fsync(fd)
    finally:
        os.close(fd)


def rename_new(source: Path, target: Path) -> bool:
    """Give ``source`` the name ``target`` in one step; ``False`` where that name is taken (nothing is overwritten)."""
    if sys.platform == "win32":
        try:
            source.rename(target)
        except FileExistsError:
            return False
        return True
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # A file system without hard links: claim the name first, then rename over the claim.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        source.replace(target)
        return True
    source.unlink()
    return True


def place(source: Path, folder: Path, name: str) -> Path:
    """Give ``source`` the ``name`` in ``folder``, or ``name-2``, ``-3`` ... where taken, and sync the folder."""
    check_name(name)
    stem, suffix = split_suffix(name)
    for number in range(1, MAX_SAME_NAME):
        target = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
        if rename_new(source, target):
            sync_folder(folder)
            return target
    raise WriteError(f"{folder} has {MAX_SAME_NAME} files named like {name}.", "Clear that folder up.")


def split_suffix(name: str) -> tuple[str, str]:
    """A file name as stem and suffix, ``.json.gz`` being one suffix."""
    for suffix in BUNDLE_SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)], suffix
    path = Path(name)
    return path.stem, path.suffix


def check_name(name: str) -> None:
    """Refuse what is no plain file name on every system: separators, leading dots, Windows' device names."""
    plain = name.isprintable() and not set(name) & set('<>:"/\\|?*')
    reserved = name.split(".")[0].lower() in _RESERVED
    if not plain or reserved or not name or name[0] == "." or name[-1] in ". " or len(name.encode()) > 240:
        raise BadNameError(f"{name!r} cannot be the name of a file.", "Use letters, digits, dots and dashes.")


def check_space(folder: Path, needed: int) -> None:
    """Refuse before the first byte where ``needed`` bytes and some headroom are not free in ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < needed + HEADROOM:
        raise DiskFullError(
            f"The disk of {folder} has {megabytes(free)} free, but {megabytes(needed + HEADROOM)} are needed.",
            "Free some space or choose another folder.",
        )


def failure(error: OSError, path: Path, written: int, *, kept: str = "nothing was kept") -> ArchiveError:
    """The archive's own error for a failed write to ``path`` after ``written`` bytes; ``kept`` says what is left."""
    if error.errno in _FULL:
        return DiskFullError(
            f"The disk of {path.parent} is full: writing stopped after {megabytes(written)}; {kept}.",
            "Free some space or choose another folder, then try again.",
        )
    return WriteError(
        f"Writing in {path.parent} failed: {error.strerror or error}; {kept}.",
        "Check that the folder exists and that you may write there.",
    )


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:,.1f} MB"


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however often the system must be asked."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
