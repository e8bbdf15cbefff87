"""age's passphrase format as a stream (https://c2sp.org/age): pyrage seals by passphrase in memory only.

Header with one scrypt stanza and its MAC, then ChaCha20-Poly1305 in blocks of 64 KiB. Memory: one block, and for the
moment of deriving the key what scrypt asks for (256 MB at work 18).
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agent.sealing.errors import DamagedSealError, NotSealedError, WrongPassphraseError

VERSION = b"age-encryption.org/v1\n"
WORK = 18  # as the age program does; a guess then costs about a second and 256 MB
MOST_WORK = 22
BLOCK = 64 * 1024
MAX_HEADER = 64 * 1024
_TAG = 16
_STANZA = re.compile(
    rb"-> scrypt (?P<salt>[A-Za-z0-9+/]{22}) (?P<work>[1-9][0-9]?)\n"
    rb"(?P<body>[A-Za-z0-9+/]{43})\n--- (?P<mac>[A-Za-z0-9+/]{43})\n"
)

Read = Callable[[int], bytes]


def sealed_blocks(read: Read, passphrase: str, *, work: int = WORK) -> Iterator[bytes]:
    """The sealed form of what ``read(size)`` gives (``b""`` at its end), piece by piece. Blocking."""
    file_key, nonce = os.urandom(16), os.urandom(16)
    yield header_for(stanza_for_passphrase(file_key, passphrase, work), file_key)
    yield nonce
    cipher = ChaCha20Poly1305(derive(file_key, nonce, b"payload"))
    block, number = _exactly(read, BLOCK), 0
    while True:
        following = _exactly(read, BLOCK) if len(block) == BLOCK else b""
        yield cipher.encrypt(counter(number, last=not following), block, None)
        if not following:
            return
        block, number = following, number + 1


def opened_blocks(read: Read, passphrase: str) -> Iterator[bytes]:
    """What was sealed, block by block, each one proved before it is given out. Blocking.

    Raises :class:`WrongPassphraseError`, :class:`DamagedSealError` (also at the end, where the file was cut), and
    :class:`NotSealedError`. Only what came before such an error is genuine, and it is never the whole.
    """
    header = read_header(read)
    file_key = unwrap_by_passphrase(header, passphrase)
    check_mac(header, file_key)
    nonce = _exactly(read, 16)
    cipher = ChaCha20Poly1305(derive(file_key, nonce, b"payload"))
    yield from _opened(read, cipher)


def _opened(read: Read, cipher: ChaCha20Poly1305) -> Iterator[bytes]:
    block, number = _exactly(read, BLOCK + _TAG), 0
    while True:
        following = _exactly(read, BLOCK + _TAG) if len(block) == BLOCK + _TAG else b""
        try:
            plain = cipher.decrypt(counter(number, last=not following), block, None)
        except InvalidTag:
            raise DamagedSealError("The sealed file was cut short or changed.") from None
        if not plain and number:
            raise DamagedSealError("The sealed file ends with an empty block.")
        yield plain
        if not following:
            return
        block, number = following, number + 1


def read_header(read: Read) -> bytes:
    """The age header with the line of its MAC; ``read`` stands at the payload afterwards.

    Raises :class:`NotSealedError` for anything that is no age file.
    """
    header = read(len(VERSION))
    if header != VERSION:
        raise NotSealedError("The file is not sealed by age.")
    line = b""
    while byte := read(1):
        line += byte
        if byte == b"\n":
            header += line
            if line.startswith(b"--- "):
                return header
            line = b""
        if len(header) + len(line) > MAX_HEADER:
            break
    raise NotSealedError("The head of the sealed file is not complete.")


def stanza_for_passphrase(file_key: bytes, passphrase: str, work: int = WORK) -> bytes:
    """The part of a header from which the passphrase gets the file's key. Takes a second."""
    salt = os.urandom(16)
    body = ChaCha20Poly1305(_wrap_key(passphrase, salt, work)).encrypt(bytes(12), file_key, None)
    return b"-> scrypt %s %d\n%s\n" % (to_text(salt), work, to_text(body))


def header_for(stanzas: bytes, file_key: bytes) -> bytes:
    """The whole header, with its MAC."""
    signed = VERSION + stanzas + b"---"
    return b"%s %s\n" % (signed, to_text(_mac(file_key, signed)))


def unwrap_by_passphrase(header: bytes, passphrase: str) -> bytes:
    """The file's key. Takes a second. Raises :class:`WrongPassphraseError` and :class:`NotSealedError`."""
    stanza = _STANZA.fullmatch(header[len(VERSION) :])
    if stanza is None:
        raise NotSealedError("The file is not sealed by a passphrase.")
    work = int(stanza["work"])
    if work > MOST_WORK:
        raise NotSealedError(f"The file asks for more work (2^{work}) than any honest one.")
    wrap = ChaCha20Poly1305(_wrap_key(passphrase, from_text(stanza["salt"]), work))
    try:
        return wrap.decrypt(bytes(12), from_text(stanza["body"]), None)
    except InvalidTag:
        raise WrongPassphraseError("The passphrase does not open the file.") from None


def check_mac(header: bytes, file_key: bytes) -> None:
    """Raises :class:`DamagedSealError` where the header is not the one that the file's key vouches for."""
    place = header.rindex(b"---") + 3
    check = hmac.HMAC(derive(file_key, b"", b"header"), hashes.SHA256())
    check.update(header[:place])
    try:
        check.verify(from_text(header[place + 1 : -1]))
    except InvalidSignature:
        raise DamagedSealError("The head of the sealed file was changed.") from None


def _wrap_key(passphrase: str, salt: bytes, work: int) -> bytes:
    scrypt = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << work, r=8, p=1)
    return scrypt.derive(passphrase.encode())


def derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256, 32 bytes."""
    return HKDF(hashes.SHA256(), 32, salt or None, info).derive(key)


def _mac(file_key: bytes, header: bytes) -> bytes:
    mac = hmac.HMAC(derive(file_key, b"", b"header"), hashes.SHA256())
    mac.update(header)
    return mac.finalize()


def counter(number: int, *, last: bool) -> bytes:
    """The nonce of a block: its number, and whether it is the last."""
    return number.to_bytes(11, "big") + bytes([last])


def _exactly(read: Read, size: int) -> bytes:
    """``size`` bytes, fewer only at the end."""
    pieces = bytearray()
    while len(pieces) < size and (piece := read(size - len(pieces))):
        pieces += piece
    return bytes(pieces)


def to_text(data: bytes) -> bytes:
    """Base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def from_text(text: bytes) -> bytes:
    """Base64 without padding, in its one proper form. Raises :class:`DamagedSealError`."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if not data or to_text(data) != text:
        raise DamagedSealError("The head of the sealed file was changed.")
    return data
