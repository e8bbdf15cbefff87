"""The seal: totals, the last value of the chain, and the source's signature over both and the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from protocol.canonical import Value, pack, unpack
from protocol.errors import BadSeal, Malformed, WrongSigner
from protocol.fields import Fields
from protocol.frames import DIGEST_SIZE
from protocol.ledger import Ledger
from protocol.limits import DEFAULT_LIMITS, Limits
from protocol.manifest import Manifest

SEAL_DOMAIN = b"backroom-bundle/1 seal\0"
_KEYS = ("frames", "rows", "raw_bytes", "stored_bytes", "entry_rows", "digest", "certificate", "signature")

Signer: TypeAlias = Callable[[bytes], bytes]
"""Signs a message with the device's key."""

VerifySignature: TypeAlias = Callable[[bytes, bytes, bytes], str]
"""Takes a certificate (DER), a signature and a message; returns the signing node's ID, raises if it does not hold."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What closes a bundle.

    ``raw_bytes`` and ``stored_bytes`` are the sums of the frames' blocks before and after compression;
    ``entry_rows`` the rows of each entry of the manifest; ``digest`` the chain's value after the last frame;
    ``certificate`` the source's, in DER; ``signature`` the one over ``message``.
    """

    frames: int
    rows: int
    raw_bytes: int
    stored_bytes: int
    entry_rows: tuple[int, ...]
    digest: bytes
    certificate: bytes
    signature: bytes

    def message(self, manifest_digest: bytes) -> bytes:
        """The bytes that are signed: domain, the manifest's SHA-256, and every field but the signature."""
        body: list[Value] = [*self._totals(), self.digest, hashlib.sha256(self.certificate).digest()]
        return SEAL_DOMAIN + manifest_digest + pack(body)

    def encode(self) -> bytes:
        """The payload of the seal's record."""
        values = (*self._totals(), self.digest, self.certificate, self.signature)
        return pack(dict(zip(_KEYS, values, strict=True)))

    @classmethod
    def decode(cls, data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Seal:
        """The seal that ``data`` encodes; raises ``Malformed`` for anything else."""
        value = unpack(data, what="seal", error=Malformed, values=limits.tables + 32, nesting=2)
        fields = Fields(value, _KEYS, what="seal", error=Malformed)
        seal = cls(
            frames=fields.integer("frames"),
            rows=fields.integer("rows"),
            raw_bytes=fields.integer("raw_bytes"),
            stored_bytes=fields.integer("stored_bytes"),
            entry_rows=fields.integers("entry_rows"),
            digest=fields.binary("digest"),
            certificate=fields.binary("certificate"),
            signature=fields.binary("signature"),
        )
        if len(seal.digest) != DIGEST_SIZE:
            raise Malformed("The digest of the seal is not a SHA-256.")
        check_lengths(seal, limits)
        return seal

    def _totals(self) -> list[Value]:
        return [self.frames, self.rows, self.raw_bytes, self.stored_bytes, list(self.entry_rows)]


def check_lengths(seal: Seal, limits: Limits) -> None:
    """Raise ``Malformed`` if certificate or signature are empty or over their limits."""
    if not 0 < len(seal.certificate) <= limits.certificate_bytes:
        raise Malformed(f"The certificate of the seal is {len(seal.certificate)} bytes long.")
    if not 0 < len(seal.signature) <= limits.signature_bytes:
        raise Malformed(f"The signature of the seal is {len(seal.signature)} bytes long.")


def unsigned_seal(ledger: Ledger, chain: bytes, certificate: bytes) -> Seal:
    """The seal that fits what ``ledger`` counted, still without a signature."""
    return Seal(
        frames=ledger.frames,
        rows=ledger.rows,
        raw_bytes=ledger.raw_bytes,
        stored_bytes=ledger.stored_bytes,
        entry_rows=tuple(ledger.entry_rows),
        digest=chain,
        certificate=certificate,
        signature=b"",
    )


def check_totals(seal: Seal, ledger: Ledger, chain: bytes) -> None:
    """Raise ``BadSeal`` unless the seal's totals and digest are those of the frames that were read."""
    wanted = unsigned_seal(ledger, chain, seal.certificate)
    if seal.digest != wanted.digest:
        raise BadSeal("The seal belongs to other frames: its digest is not that of this bundle.")
    if seal._totals() != wanted._totals():
        raise BadSeal("The totals of the seal are not those of the frames.")


def verify_seal(manifest: Manifest, seal: Seal, verify: VerifySignature) -> str:
    """The ID of the node that made the bundle: its signature holds, and it is the manifest's source.

    ``manifest`` and ``seal`` must come from one ``BundleReader`` that was closed without an error. Raises ``BadSeal``
    if the signature does not hold (the verifier's own error is its cause), ``WrongSigner`` if another node made it.
    Whether that node is known here is for the caller to ask.
    """
    try:
        node = verify(seal.certificate, seal.signature, seal.message(manifest.digest()))
    except Exception as error:
        raise BadSeal(f"The signature of the seal does not hold ({str(error) or type(error).__name__}).") from error
    if node != manifest.source_node:
        raise WrongSigner(
            f"The bundle says that it comes from {manifest.source_device} ({manifest.source_node}), "
            f"but {node} has sealed it."
        )
    return node
