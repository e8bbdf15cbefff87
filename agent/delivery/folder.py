"""A folder, most of the time a mounted network share: temp name, fsync, read back, rename."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agent.delivery.base import (
    CHUNK,
    LOOK,
    Delivered,
    Kept,
    Parcel,
    Stop,
    Told,
    chunks,
    copied,
    digest,
    in_thread,
    is_backup,
    names,
    silent,
)
from agent.delivery.errors import (
    BadPlaceError,
    DeliveryError,
    LoginError,
    NoSpaceError,
    NotVerifiedError,
    RejectedError,
    UnreachableError,
)

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_MOUNTS = Path("/etc/fstab")
_MOUNT = "Mount the share; it is tried again by itself."


@dataclass(frozen=True, slots=True)
class FolderDelivery:
    """Delivers into ``folder``, which must be there: a missing one is a share that is not mounted, so none is made."""

    folder: Path

    @property
    def kind(self) -> str:
        return "folder"

    @property
    def where(self) -> str:
        return str(self.folder)

    def check_size(self, parcel: Parcel) -> None:
        """A folder takes any size; whether it is full is found when writing."""

    async def check(self) -> str:
        """Write a small file and remove it."""

        def work(stop: Stop) -> str:
            probe = self.folder / f".backroom-{os.getpid()}.partial"
            try:
                self._there()
                probe.write_bytes(b"probe")
                good = probe.read_bytes() == b"probe"
                probe.unlink()
            except OSError as error:
                raise self._failure(error) from error
            if not good:
                raise NotVerifiedError(f"{self.folder} does not give back what is written there.")
            return f"{self.folder} can be written."

        return await in_thread(work)

    async def there(self) -> tuple[Kept, ...]:
        def work(stop: Stop) -> tuple[Kept, ...]:
            try:
                self._there()
                found = [path for path in sorted(self.folder.iterdir()) if is_backup(path.name) and path.is_file()]
                return tuple(Kept(path.name, path.stat().st_size) for path in found)
            except OSError as error:
                raise self._failure(error) from error

        return await in_thread(work)

    async def fetch(self, name: str, target: Path, told: Told = silent) -> None:
        def work(stop: Stop) -> None:
            try:
                source = self.folder / name
                if not source.is_file():
                    raise BadPlaceError(f"{self.folder} has no file {name}.", LOOK)
                with source.open("rb") as file, target.open("xb") as copy:
                    copied(file, copy, source.stat().st_size, told, stop)
            except OSError as error:
                raise self._failure(error) from error

        return await in_thread(work)

    async def deliver(self, parcel: Parcel, told: Told = silent) -> Delivered:
        def work(stop: Stop) -> Delivered:
            try:
                return self._deliver(parcel, told, stop)
            except OSError as error:
                raise self._failure(error) from error

        return await in_thread(work)

    def _deliver(self, parcel: Parcel, told: Told, stop: Stop) -> Delivered:
        self._there()
        target, already = self._target(parcel, stop)
        if already:
            return Delivered(str(target), "sha256 read back", already=True)
        partial = self.folder / f".backroom-{parcel.key}.partial"
        try:
            self._copy(parcel, partial, told, stop)
            _forget_cache(partial)
            with partial.open("rb") as file:
                if digest(file, stop) != parcel.sha256:
                    raise NotVerifiedError(f"What was written to {self.folder} reads back differently.")
            partial.rename(target)
        except BaseException:
            _remove(partial)
            raise
        _sync_folder(self.folder)
        if target.stat().st_size != parcel.size:
            raise NotVerifiedError(f"{target} has another size than what was sent.")
        return Delivered(str(target), "sha256 read back")

    def _there(self) -> None:
        if not self.folder.is_absolute():
            raise BadPlaceError(f"{self.folder} is not an absolute path.")
        if not self.folder.is_dir():
            raise UnreachableError(
                f"There is no folder {self.folder}.",
                "Mount the share, or correct the path.",
            )
        if (missing := _unmounted(self.folder)) is not None:
            raise UnreachableError(f"{missing} is not mounted: what is written there stays on this laptop.", _MOUNT)

    def _target(self, parcel: Parcel, stop: Stop) -> tuple[Path, bool]:
        """The first name that is free, or under which this very file is already."""
        for name in names(parcel.name):
            target = self.folder / name
            if not target.exists():
                return target, False
            if target.stat().st_size == parcel.size:
                with target.open("rb") as file:
                    if digest(file, stop) == parcel.sha256:
                        return target, True
        raise RejectedError(f"{self.folder} has too many files named like {parcel.name}.", "Clear that folder up.")

    def _copy(self, parcel: Parcel, partial: Path, told: Told, stop: Stop) -> None:
        done, sent = 0, hashlib.sha256()
        with parcel.path.open("rb") as source, partial.open("wb", buffering=CHUNK) as file:
            for data in chunks(source, stop):
                file.write(data)
                sent.update(data)
                done += len(data)
                told(done, parcel.size)
            file.flush()
            os.fsync(file.fileno())
        if sent.hexdigest() != parcel.sha256:
            raise RejectedError(f"{parcel.path} has changed since it was queued.", "Deliver the backup anew.")

    def _failure(self, error: OSError) -> DeliveryError:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            return NoSpaceError(f"{self.folder} is full.")
        if error.errno in _DENIED:
            return LoginError(f"This user may not write in {self.folder}: {reason}.")
        return UnreachableError(f"Writing to {self.folder} failed: {reason}.")


def _unmounted(folder: Path) -> Path | None:
    """The folder, or one around it, that is a mount by the system's table (fstab(5)) and is none now: the empty folder
    in its place takes files as well."""
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    entries = [line.split() for line in lines if not line.lstrip().startswith("#")]
    mounts = {Path(fields[1].replace("\\040", " ")) for fields in entries if len(fields) > 1}
    found = folder.resolve()
    return next((each for each in (found, *found.parents) if each in mounts and not each.is_mount()), None)


def _forget_cache(path: Path) -> None:
    """Have the system forget what it holds of a file, so that reading it back asks the disk or the server."""
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems know no fsync of folders
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the next try writes over it
