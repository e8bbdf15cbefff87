"""The shop's recovery key: an age identity, kept only sealed with a passphrase; its recipient is no secret.

``DIR/recovery.pub`` holds the recipient and ``DIR/recovery.age`` the identity, sealed: the piece that belongs into the
recovery kit. Whoever has that file and the passphrase opens every backup that was sealed to the recipient.
"""

from __future__ import annotations

import io
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from agent.sealing.age import Keys, Lock, check_recipient, new_identity, recipient_of, seal, unseal
from agent.sealing.errors import BadKeyError, KeyExistsError, KeyNeededError, WeakPassphraseError

LEAST_PASSPHRASE = 12
MAX_KEY_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class RecoveryKey:
    """The recovery key's two files in ``folder``. All methods block: run them in a thread."""

    folder: Path

    @property
    def public(self) -> Path:
        return self.folder / "recovery.pub"

    @property
    def sealed(self) -> Path:
        return self.folder / "recovery.age"

    def recipient(self) -> str | None:
        """The recipient, None where there is no recovery key. Raises :class:`BadKeyError` for a damaged file."""
        try:
            return check_recipient(self.public.read_text(encoding="ascii", errors="replace"))
        except FileNotFoundError:
            return None

    def create(self, passphrase: str) -> str:
        """Make the key and prove at once that it opens what is sealed to it. Returns the recipient.

        Raises :class:`KeyExistsError` and :class:`WeakPassphraseError`.
        """
        if self.sealed.exists() or self.public.exists():
            raise KeyExistsError(f"There is a recovery key already in {self.folder}.")
        return self._keep(*new_identity(), passphrase)

    def take_back(self, identity: str, passphrase: str) -> str:
        """Keep a recovery key that comes from a kit, where there is none, sealed anew. Returns the recipient of the key
        that is here then."""
        there = self.recipient()
        return there if there is not None else self._keep(identity, recipient_of(identity), passphrase)

    def _keep(self, identity: str, recipient: str, passphrase: str) -> str:
        sealed = seal_key(identity, passphrase)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(self.sealed, sealed)
        self._prove(recipient, passphrase)
        _write_new(self.public, f"{recipient}\n".encode())
        return recipient

    def identity(self, passphrase: str) -> str:
        """The identity itself: keep it in memory only. Raises ``WrongPassphraseError`` and :class:`KeyNeededError`."""
        try:
            return open_key(self.sealed.read_bytes(), passphrase)
        except FileNotFoundError:
            raise KeyNeededError(
                f"There is no recovery key in {self.folder}.", "Make one with `backroom keys make`."
            ) from None

    def prove(self, passphrase: str) -> str:
        """Seal a probe to the recipient and open it with the sealed key: the kit works. Returns the recipient."""
        recipient = self.recipient()
        if recipient is None:
            raise KeyNeededError("There is no recovery key.", "Make one with `backroom keys make`.")
        self._prove(recipient, passphrase)
        return recipient

    def _prove(self, recipient: str, passphrase: str) -> None:
        identity = self.identity(passphrase)
        probe, sealed, opened = secrets.token_bytes(32), io.BytesIO(), io.BytesIO()
        seal(io.BytesIO(probe), sealed, Lock((recipient,)))
        unseal(io.BytesIO(sealed.getvalue()), opened, Keys((identity,)))
        if opened.getvalue() != probe or recipient_of(identity) != recipient:
            raise BadKeyError(
                "The recovery key does not open what is sealed to its recipient.",
                "Make a new recovery key; backups sealed to this one cannot be opened.",
            )


def seal_key(identity: str, passphrase: str) -> bytes:
    """An identity, sealed with a passphrase: an age file that any age tool opens. Takes a second."""
    if len(passphrase) < LEAST_PASSPHRASE:
        raise WeakPassphraseError(f"The passphrase has fewer than {LEAST_PASSPHRASE} characters.")
    sealed = io.BytesIO()
    seal(io.BytesIO(f"{identity}\n".encode()), sealed, Lock(passphrase=passphrase))
    return sealed.getvalue()


def open_key(sealed: bytes, passphrase: str) -> str:
    """The identity in what :func:`seal_key` made. Raises ``WrongPassphraseError`` and ``DamagedSealError``."""
    if len(sealed) > MAX_KEY_FILE:
        raise BadKeyError("The file is too large for a sealed key.")
    opened = io.BytesIO()
    unseal(io.BytesIO(sealed), opened, Keys(passphrase=passphrase))
    identity = opened.getvalue().decode("ascii", errors="replace").strip()
    recipient_of(identity)
    return identity


def _write_new(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
