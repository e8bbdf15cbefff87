"""Rolling the authority over: the old one and the new one sign that the shop goes on under a new key (TRUST.md, 4a).

A chain of handovers leads from the authority whose key gives the shop ID to the present one. Whoever has followed it up
to some point follows only what goes on from there, so that the holder of an old key cannot lead anyone elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificates, keys
from certs.errors import Malformed, WrongShop
from certs.wire import Fields, checked

MAX_HANDOVERS = 16
_PURPOSE = b"backroom handover 1\x00"
_FIELDS: Fields = {"old": bytes, "cross": bytes, "by_old": bytes, "by_new": bytes}


@dataclass(frozen=True, slots=True)
class Handover:
    """From one authority to the next: the old one's certificate, the new key certified by the old one (both DER), and
    the signatures of both keys."""

    old: bytes = field(repr=False)
    cross: bytes = field(repr=False)
    by_old: bytes = field(repr=False)
    by_new: bytes = field(repr=False)

    @classmethod
    def make(
        cls,
        old_key: ec.EllipticCurvePrivateKey,
        old: bytes,
        new_key: ec.EllipticCurvePrivateKey,
        new: bytes,
        now: datetime,
    ) -> Handover:
        """Sign the handover from `old` to `new` (authority certificates, DER) by both keys."""
        shop_id = certificates.check_authority(old)
        cross = certificates.make_cross(new_key.public_key(), now, issuer_key=old_key, shop_id=shop_id)
        message = _message(old, new, cross)
        return cls(old, cross, keys.sign(old_key, message), keys.sign(new_key, message))

    def verify(self, new: bytes) -> None:
        """Check that this hands over to the authority `new` (DER).

        Raises `BadCertificate`, `BadSignature`, `WrongShop`.
        """
        shop_id = certificates.check_authority(self.old)
        if certificates.check_authority(new) != shop_id:
            raise WrongShop("An authority was handed over to another shop.")
        certificates.check_cross(self.cross, self.old, new)
        message = _message(self.old, new, self.cross)
        keys.verify(certificates.public_key(self.old), self.by_old, message, what="the old authority")
        keys.verify(certificates.public_key(new), self.by_new, message, what="the new authority")

    def encode(self) -> dict[str, object]:
        """The fields as they stand in the signed roster."""
        return {"old": self.old, "cross": self.cross, "by_old": self.by_old, "by_new": self.by_new}

    @classmethod
    def decode(cls, value: object) -> Handover:
        """Read one back. Raises `Malformed`."""
        return cls(**checked(value, _FIELDS, what="A handover"))


def verify_chain(handovers: Sequence[Handover], authority: bytes) -> str:
    """The shop ID that a chain of handovers ending at `authority` (DER) begins with.

    Raises `BadCertificate`, `BadSignature`, `Malformed`, and `WrongShop` where the first key does not give the shop ID.
    """
    if len(handovers) > MAX_HANDOVERS:
        raise Malformed("The authority was handed over too often.")
    shop_id = certificates.check_authority(authority)
    links = [*(each.old for each in handovers), authority]
    if keys.shop_id_of_key(keys.spki(certificates.public_key(links[0]))) != shop_id:
        raise WrongShop(f"The authority does not follow from the one that founded shop {keys.short_id(shop_id)}.")
    for handover, new in zip(handovers, links[1:], strict=True):
        handover.verify(new)
    return shop_id


def _message(old: bytes, new: bytes, cross: bytes) -> bytes:
    return _PURPOSE + b"".join(hashlib.sha256(part).digest() for part in (old, new, cross))
