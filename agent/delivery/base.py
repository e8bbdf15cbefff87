"""The interface of every kind of delivery, and what they share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

CHUNK = 1 << 20
MAX_SAME_NAME = 1000
T = TypeVar("T")


class Told(Protocol):
    """Told often how many bytes are done of how many; must be quick, may be called from a thread."""

    def __call__(self, done: int, total: int) -> None: ...


def silent(done: int, total: int) -> None:
    """Progress for nobody."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A file to hand over. ``key`` stays the same however often it is tried; ``sha256`` (hex) and ``size`` are those of
    the file at ``path``, ``name`` is what it is called over there, ``title`` and ``lines`` tell people what it is."""

    key: str
    path: Path
    name: str
    size: int
    sha256: str
    created: datetime
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that was proved. ``where`` has no secrets; ``proof`` says how it was verified; ``already`` that the
    very same file was there before."""

    where: str
    proof: str
    already: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that lies at a place: its name there, and its size in bytes."""

    name: str
    size: int


SUFFIXES = (".bundle", ".bundle.age", ".json", ".json.gz", ".json.age", ".json.gz.age")


def is_backup(name: str) -> bool:
    """Whether a file at a place is called as backups are."""
    return not name.startswith(".") and name.endswith(SUFFIXES)


class Delivery(Protocol):
    """One place. ``kind`` is email, folder, smb or cloud; ``where`` is for people and has no secrets in it."""

    @property
    def kind(self) -> str: ...

    @property
    def where(self) -> str: ...

    def check_size(self, parcel: Parcel) -> None:
        """Raises ``TooLargeError`` where the place is known not to take it. Sends nothing."""
        ...

    async def check(self) -> str:
        """Connect and log in without delivering; a sentence on what was found. Raises ``DeliveryError``."""
        ...

    async def deliver(self, parcel: Parcel, told: Told = silent) -> Delivered:
        """Hand the file over and prove that it is there. Raises ``DeliveryError``; then it is not there under its name.

        Trying again after an error, or after a success that nobody remembers, makes no second copy.
        """
        ...

    async def there(self) -> tuple[Kept, ...]:
        """The backups that lie there, by name. Raises ``DeliveryError``; email cannot be looked at."""
        ...

    async def fetch(self, name: str, target: Path, told: Told = silent) -> None:
        """Copy one of them into the new file ``target``. Raises ``DeliveryError``; what was written then is no use."""
        ...


class Stopped(Exception):
    """Raised inside the thread of a task that was cancelled."""


class Stop:
    """Asked by blocking work now and then: raises :class:`Stopped` when its task was cancelled."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        if self._event.is_set():
            raise Stopped


async def in_thread(work: Callable[[Stop], T]) -> T:
    """Run blocking ``work`` in a thread; a cancelled task waits until the thread has stopped."""
    stop = Stop()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(Exception):
            await running
        raise


def chunks(file: BinaryIO, stop: Stop) -> Iterator[bytes]:
    """The rest of ``file`` in pieces of 1 MB, until told to stop."""
    while data := file.read(CHUNK):
        stop.check()
        yield data


LOOK = "`backroom delivery files PLACE` lists what is there."


def copied(source: BinaryIO, target: BinaryIO, size: int, told: Told, stop: Stop) -> None:
    """Copy the rest of ``source``, telling how far it is."""
    done = 0
    for data in chunks(source, stop):
        target.write(data)
        done += len(data)
        told(done, size)


def digest(file: BinaryIO, stop: Stop) -> str:
    """The SHA-256 of the rest of ``file``, in hexadecimal."""
    found = hashlib.sha256()
    for data in chunks(file, stop):
        found.update(data)
    return found.hexdigest()


def names(name: str) -> Iterator[str]:
    """``name``, then ``name-2`` and so on before the suffixes, for where it is taken by something else."""
    yield name
    stem, dot, suffix = name.partition(".")
    for number in range(2, MAX_SAME_NAME):
        yield f"{stem}-{number}{dot}{suffix}"


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:,.1f} MB"
