"""Sealed files as streams: sealed while they are written, read from any place (https://c2sp.org/age).

pyrage wants a whole reader or writer at once; an archive whose bundles are sealed must be written piece by piece, and
read again from the middle when a push goes on. Memory: one block of 64 KiB.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from agent.sealing.errors import DamagedSealError, KeyNeededError, WrongKeyError
from agent.sealing.passphrase import (
    BLOCK,
    VERSION,
    check_mac,
    counter,
    derive,
    from_text,
    header_for,
    read_header,
    stanza_for_passphrase,
    to_text,
    unwrap_by_passphrase,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.sealing.age import Keys, Lock

_SEALED_BLOCK = BLOCK + 16
_X25519 = b"age-encryption.org/v1/X25519"
_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@dataclass(frozen=True, slots=True)
class Opened:
    """What opens one sealed file and no other: ``header`` is the file's, ``key`` that of its content."""

    header: bytes
    key: bytes = field(repr=False)


class Sealer:
    """Seals what is written: the pieces that ``update`` and at last ``finish`` give are the age file."""

    def __init__(self, lock: Lock) -> None:
        key, nonce = os.urandom(16), os.urandom(16)
        if lock.recipients:
            stanzas = b"".join(_stanza(recipient, key) for recipient in lock.recipients)
        else:
            assert lock.passphrase is not None
            stanzas = stanza_for_passphrase(key, lock.passphrase)
        self._head = header_for(stanzas, key) + nonce
        self._overhead = len(self._head)
        self._cipher = ChaCha20Poly1305(derive(key, nonce, b"payload"))
        self._rest = bytearray()
        self._number = 0

    def size_of(self, plain: int) -> int:
        """How many bytes the file has where ``plain`` bytes are sealed."""
        return self._overhead + plain + 16 * max(1, -(-plain // BLOCK))

    def update(self, data: bytes) -> bytes:
        """The next piece of the file; a block waits until it is known not to be the last."""
        self._rest += data
        pieces = [self._head]
        self._head = b""
        done = 0
        while len(self._rest) - done > BLOCK:
            pieces.append(self._block(bytes(self._rest[done : done + BLOCK]), last=False))
            done += BLOCK
        del self._rest[:done]
        return b"".join(pieces)

    def finish(self) -> bytes:
        """The end of the file."""
        head, self._head = self._head, b""
        return head + self._block(bytes(self._rest), last=True)

    def _block(self, data: bytes, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(counter(self._number, last=last), data, None)
        self._number += 1
        return sealed


def open_with(path: Path, keys: Keys) -> Opened:
    """Find what opens the file. Blocking (a passphrase takes a second).

    Raises :class:`KeyNeededError`, ``WrongKeyError``, ``WrongPassphraseError``, ``DamagedSealError``,
    ``NotSealedError`` and ``OSError``.
    """
    with path.open("rb") as file:
        header = read_header(file.read)
    key = _content_key(header, keys, path.name)
    check_mac(header, key)
    return Opened(header, key)


def read_sealed(path: Path, opened: Opened) -> BinaryIO:
    """The content of the file, to be read and sought in; each block is proved before it is given out.

    Reading raises :class:`DamagedSealError` where the file was changed or cut short.
    """
    return io.BufferedReader(_Content(path, opened), 1 << 20)


def header_of(path: Path) -> bytes | None:
    """The header of a sealed file; None where the file is not sealed. Raises ``NotSealedError`` for half a header."""
    with path.open("rb") as file:
        if file.read(len(VERSION)) != VERSION:
            return None
        file.seek(0)
        return read_header(file.read)


class _Content(io.RawIOBase):
    """The content behind the header, block by block."""

    def __init__(self, path: Path, opened: Opened) -> None:
        super().__init__()
        self._name = path.name
        self._place = 0
        self._held: tuple[int, bytes] = (-1, b"")
        self._file = path.open("rb")
        try:
            header = read_header(self._file.read)
            nonce = self._file.read(16)
            if header != opened.header or len(nonce) != 16:
                raise self._damaged()
            self._start = self._file.tell()
            length = self._file.seek(0, io.SEEK_END) - self._start
        except BaseException:
            self._file.close()
            raise
        self._blocks = max(1, -(-length // _SEALED_BLOCK))
        self._size = max(0, length - 16 * self._blocks)
        self._cipher = ChaCha20Poly1305(derive(opened.key, nonce, b"payload"))

    def _damaged(self) -> DamagedSealError:
        return DamagedSealError(f"{self._name} was cut short or changed: its seal does not hold.")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # io.BufferedReader gives a memoryview
        if self._place >= self._size and self._held[0] == self._blocks - 1:
            return 0
        number = min(self._place // BLOCK, self._blocks - 1)
        if self._held[0] != number:
            self._held = number, self._block(number)
        piece = self._held[1][self._place - number * BLOCK :][: len(buffer)]
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def _block(self, number: int) -> bytes:
        self._file.seek(self._start + number * _SEALED_BLOCK)
        sealed = self._file.read(_SEALED_BLOCK)
        try:
            plain = self._cipher.decrypt(counter(number, last=number == self._blocks - 1), sealed, None)
        except InvalidTag:
            raise self._damaged() from None
        if not plain and number:
            raise self._damaged()
        return plain

    def close(self) -> None:
        self._file.close()
        super().close()


def _content_key(header: bytes, keys: Keys, name: str) -> bytes:
    if b"\n-> scrypt " in header:
        if not keys.passphrase:
            raise KeyNeededError(f"{name} is sealed with a passphrase.", "Give the passphrase.")
        return unwrap_by_passphrase(header, keys.passphrase)
    if not keys.identities:
        raise KeyNeededError(f"{name} is sealed to a recipient.", WrongKeyError.hint)
    for identity in keys.identities:
        private = X25519PrivateKey.from_private_bytes(_letters(identity))
        public = private.public_key().public_bytes_raw()
        for share, body in _stanzas(header):
            try:
                shared = private.exchange(X25519PublicKey.from_public_bytes(share))
                return ChaCha20Poly1305(derive(shared, share + public, _X25519)).decrypt(bytes(12), body, None)
            except (InvalidTag, ValueError):
                continue
    raise WrongKeyError(f"None of the keys at hand opens {name}.")


def _stanzas(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Share and body of each X25519 stanza; age programs add stanzas of other kinds, which are passed over."""
    lines = header.split(b"\n")
    for line, following in pairwise(lines):
        words = line.split(b" ")
        if words[:2] == [b"->", b"X25519"] and len(words) == 3 and len(words[2]) == 43 and len(following) == 43:
            yield from_text(words[2]), from_text(following)


def _stanza(recipient: str, key: bytes) -> bytes:
    public, own = _letters(recipient), X25519PrivateKey.generate()
    share = own.public_key().public_bytes_raw()
    shared = own.exchange(X25519PublicKey.from_public_bytes(public))
    body = ChaCha20Poly1305(derive(shared, share + public, _X25519)).encrypt(bytes(12), key, None)
    return b"-> X25519 %s\n%s\n" % (to_text(share), to_text(body))


def _letters(key: str) -> bytes:
    """The 32 bytes in a recipient or identity (Bech32), whose checksum was checked when it was taken in."""
    letters = key.strip().lower().rpartition("1")[2][:-6]
    number = 0
    for letter in letters:
        number = number << 5 | _LETTERS.index(letter)
    return (number >> (len(letters) * 5 - 256)).to_bytes(32, "big")
