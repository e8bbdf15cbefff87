"""The cryptography of joining: SPAKE2, the transcript, keys from both, and sealed messages (TRUST.md, "Joining")."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from certs.codes import Code
from certs.errors import Malformed, WrongCode

PROTOCOL = b"backroom join 1"
_SPAKE_LENGTH = 33
_KEY_LENGTH = 32


class Transcript:
    """A running SHA-256 over all that went over the wire: h = SHA-256(h || SHA-256(message))."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256(PROTOCOL).digest()

    def add(self, message: bytes) -> None:
        """Take in one message as it went over the wire, in order."""
        self.digest = hashlib.sha256(self.digest + hashlib.sha256(message).digest()).digest()


class Spake:
    """One side of SPAKE2 over the words of a code (python-spake2, Ed25519 group; the joiner is side A).

    The identities that go into the shared key are the two device public keys. The library is imported here: its tables
    take 7 MB, and an agent joins once.
    """

    def __init__(self, code: Code, *, joiner: bool) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B

        self._exchange = (SPAKE2_A if joiner else SPAKE2_B)(PROTOCOL + b"\x00" + code.secret)
        self.message: bytes = self._exchange.start()

    def finish(self, message: bytes, joiner_key: bytes, inviter_key: bytes) -> bytes:
        """The shared key (32 bytes), equal on both sides only if code and both public keys are. Raises `Malformed`."""
        from spake2 import SPAKEError
        from spake2.ed25519_basic import NotOnCurve

        # The library reads the identities only now; the joiner did not know the inviter's key when it started.
        self._exchange.idA = joiner_key
        self._exchange.idB = inviter_key
        if len(message) != _SPAKE_LENGTH:
            raise Malformed("A SPAKE2 message does not have the right length.")
        try:
            key: bytes = self._exchange.finish(message)
        except (SPAKEError, NotOnCurve, ValueError, AssertionError) as error:
            raise Malformed("A SPAKE2 message is not a point of the group.") from error
        return key


def derive(key: bytes, transcript: bytes, label: bytes) -> bytes:
    """HKDF-Expand (RFC 5869, SHA-256) of a shared key for one purpose, bound to the transcript so far; 32 bytes."""
    return HKDFExpand(hashes.SHA256(), _KEY_LENGTH, PROTOCOL + b" " + label + b"\x00" + transcript).derive(key)


def prove(key: bytes, transcript: bytes, side: bytes) -> bytes:
    """One side's proof that it has the shared key: HMAC-SHA-256 of the transcript under a key of its own."""
    return hmac.digest(derive(key, transcript, b"confirm " + side), transcript, "sha256")


def check_proof(key: bytes, transcript: bytes, side: bytes, proof: bytes) -> None:
    """Raise `WrongCode` unless `proof` is what `side` proves with this key."""
    if not hmac.compare_digest(prove(key, transcript, side), proof):
        raise WrongCode("The two laptops do not have the same code.")


def seal(key: bytes, transcript: bytes, label: bytes, plain: bytes) -> bytes:
    """Encrypt the one message that `label` names (ChaCha20-Poly1305, RFC 8439).

    Each label has a key of its own and is used once for a transcript, so the nonce is always zero; the transcript is
    the associated data.
    """
    return ChaCha20Poly1305(derive(key, transcript, label)).encrypt(bytes(12), plain, transcript)


def unseal(key: bytes, transcript: bytes, label: bytes, sealed: bytes) -> bytes:
    """Decrypt what `seal` made with the same key, transcript and label. Raises `WrongCode` for anything else."""
    try:
        return ChaCha20Poly1305(derive(key, transcript, label)).decrypt(bytes(12), sealed, transcript)
    except InvalidTag as error:
        raise WrongCode("A sealed join message was changed on the way.") from error
