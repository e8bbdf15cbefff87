"""Sealing and opening whole streams and files. The functions block; the ``_file`` ones run in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyrage

from agent.reading import Opener, plainly
from agent.sealing.errors import BadKeyError, DamagedSealError, KeyNeededError, WrongKeyError
from agent.sealing.passphrase import VERSION, opened_blocks, read_header, sealed_blocks

SUFFIX = ".age"
_COPY = 1 << 20
Told = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lock:
    """What a file is sealed with: recipients (``age1...``), or a passphrase where there are none."""

    recipients: tuple[str, ...] = ()
    passphrase: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.recipients and not self.passphrase:
            raise KeyNeededError("There is nothing to seal the file with: no recipient and no passphrase.")

    def describe(self) -> str:
        """For people and records; never the passphrase."""
        return ", ".join(self.recipients) if self.recipients else "a passphrase"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a file may be opened with: identities (``AGE-SECRET-KEY-1...``) and a passphrase, for what needs which."""

    identities: tuple[str, ...] = field(default=(), repr=False)
    passphrase: str | None = field(default=None, repr=False)


def check_recipient(text: str) -> str:
    """The recipient, where it is one. Raises :class:`BadKeyError`."""
    try:
        pyrage.x25519.Recipient.from_str(text.strip())
    except pyrage.RecipientError:
        raise BadKeyError(f"{text.strip()[:80]!r} is not an age recipient.") from None
    return text.strip()


def new_identity() -> tuple[str, str]:
    """A fresh X25519 identity and its recipient, as text."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipient_of(identity: str) -> str:
    """The recipient of an identity. Raises :class:`BadKeyError`."""
    return str(_identity(identity).to_public())


def identities_in(text: str) -> tuple[str, ...]:
    """The identities in an identity file as age-keygen writes it. Raises :class:`BadKeyError` where there are none."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in lines:
        _identity(line)
    if not lines:
        raise BadKeyError("The identity file holds no identity.")
    return tuple(lines)


def is_sealed(path: Path) -> bool:
    """Whether the file begins as an age file does. Raises ``OSError``."""
    with path.open("rb") as file:
        return file.read(len(VERSION)) == VERSION


def needs_passphrase(path: Path) -> bool:
    """Whether a passphrase opens the file (else an identity does). Raises :class:`NotSealedError`."""
    with path.open("rb") as file:
        return b"\n-> scrypt " in read_header(file.read)


def seal(source: BinaryIO, target: BinaryIO, lock: Lock) -> None:
    """Write ``source`` to ``target``, sealed. Holds one block of 64 KiB in memory."""
    if lock.recipients:
        recipients = [pyrage.x25519.Recipient.from_str(check_recipient(text)) for text in lock.recipients]
        _Whole(source).passed(lambda reader: pyrage.encrypt_io(reader, target, recipients))
        return
    assert lock.passphrase is not None
    for piece in sealed_blocks(source.read, lock.passphrase):
        target.write(piece)


def unseal(source: BinaryIO, target: BinaryIO, keys: Keys) -> None:
    """Write what was sealed to ``target``; where this raises, what was written is worth nothing.

    Raises :class:`KeyNeededError`, ``WrongKeyError``, ``WrongPassphraseError``, ``DamagedSealError`` and
    ``NotSealedError``.
    """
    header = read_header(source.read)
    source.seek(0)
    if b"\n-> scrypt " in header:
        if not keys.passphrase:
            raise KeyNeededError("The file is sealed with a passphrase.", "Give the passphrase.")
        for piece in opened_blocks(source.read, keys.passphrase):
            target.write(piece)
        return
    if not keys.identities:
        raise KeyNeededError("The file is sealed to a recipient.", WrongKeyError.hint)
    identities = [_identity(text) for text in keys.identities]
    try:
        _Whole(source).passed(lambda reader: pyrage.decrypt_io(reader, target, identities))
    except pyrage.DecryptError as error:
        if "matching" in str(error):
            raise WrongKeyError("None of the keys at hand opens the file.") from None
        raise DamagedSealError(f"The sealed file cannot be opened: {error}.") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedSealError("The sealed file was cut short or changed.") from None


async def seal_file(
    source: Path, target: Path, lock: Lock | None, told: Told | None = None, *, opener: Opener = plainly
) -> None:
    """Seal ``source`` into the new file ``target``: complete, synced and mode 0600, or not there.

    Without ``lock`` it is copied as ``opener`` reads it. ``told`` is called (in a thread) with the bytes read so far.
    Raises :class:`SealingError` and ``OSError``.
    """

    def work(reader: BinaryIO, writer: BinaryIO) -> None:
        if lock is not None:
            seal(reader, writer, lock)
            return
        while data := reader.read(_COPY):
            writer.write(data)

    await _whole_file(source, target, told, work, opener)


async def unseal_file(source: Path, target: Path, keys: Keys, told: Told | None = None) -> None:
    """Open ``source`` into the new file ``target``, which is complete, synced and mode 0600, or not there."""
    await _whole_file(source, target, told, lambda reader, writer: unseal(reader, writer, keys))


async def _whole_file(
    source: Path,
    target: Path,
    told: Told | None,
    work: Callable[[BinaryIO, BinaryIO], None],
    opener: Opener = plainly,
) -> None:
    stopped = threading.Event()

    def run() -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with opener(source) as reader, os.fdopen(os.open(target, flags, 0o600), "wb") as writer:
                work(_Watched(reader, told, stopped), writer)  # type: ignore[arg-type] # reads and seeks, no more
                writer.flush()
                os.fsync(writer.fileno())
        except FileExistsError:
            raise
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        stopped.set()
        with contextlib.suppress(Exception):
            await running
        await asyncio.to_thread(target.unlink, missing_ok=True)
        raise


class Stopped(Exception):
    """Raised inside the thread of a task that was cancelled."""


class _Watched:
    """A file that counts what is read and stops when it is told to."""

    def __init__(self, file: BinaryIO, told: Told | None, stopped: threading.Event) -> None:
        self._file = file
        self._told = told
        self._stopped = stopped
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        if self._stopped.is_set():
            raise Stopped
        data = self._file.read(size)
        self._done += len(data)
        if self._told is not None and size > 1:
            self._told(self._done)
        return data

    def seek(self, place: int) -> int:
        self._done = 0
        return self._file.seek(place)


class _Whole:
    """A reader for pyrage that keeps what a read raised: pyrage makes a text of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except BaseException as error:
            self._error = error
            raise

    def passed(self, work: Callable[[_Whole], T]) -> T:
        try:
            return work(self)
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise


def _identity(text: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(text.strip())
    except pyrage.IdentityError:
        raise BadKeyError("This is not an age identity.") from None


def recipients_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Recipients, checked and without repeats."""
    return tuple(dict.fromkeys(check_recipient(text) for text in texts))
