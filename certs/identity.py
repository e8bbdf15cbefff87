"""A device's identity: one P-256 key for life, the node ID that follows from it, and its present certificate."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificates, keys
from certs.certificates import node_id_of_certificate
from certs.errors import BadName

__all__ = ["Identity", "check_name", "node_id_of_certificate", "verify_signature"]

MAX_NAME = 64


def check_name(name: str) -> str:
    """Return a device or shop name in NFC without surrounding space. Raises `BadName`.

    At most 64 characters, none of them a control, format (such as right-to-left overrides) or unassigned character:
    names from other devices are shown to people who decide by them.
    """
    clean = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(clean) <= MAX_NAME:
        raise BadName(f"A name must have 1 to {MAX_NAME} characters; this one has {len(clean)}.")
    if any(unicodedata.category(character)[0] in "CZ" and character != " " for character in clean):
        raise BadName(f"The name {clean!a} has characters that cannot be shown.")
    return clean


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this device is. The key stays for life; the certificate (DER) is replaced when it joins or renews."""

    name: str
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)

    @classmethod
    def create(cls, name: str, now: datetime) -> Identity:
        """A new key with a self-signed certificate, as a device has it before it joins a shop. `now` is UTC."""
        key = keys.new_private_key()
        certificate = certificates.make_device(key.public_key(), now, issuer_key=key, shop_id=None)
        return cls(check_name(name), key, certificate)

    @property
    def public_key(self) -> bytes:
        """The public key as SubjectPublicKeyInfo DER."""
        return keys.spki(self.private_key.public_key())

    @property
    def node_id(self) -> str:
        """The node ID, for life: see `keys.node_id_of_key`."""
        return keys.node_id_of_key(self.public_key)

    @property
    def short_id(self) -> str:
        """The node ID for people."""
        return keys.short_id(self.node_id)

    def sign(self, message: bytes) -> bytes:
        """Sign a message (which must begin with its purpose) by the device key: DER ECDSA P-256 SHA-256."""
        return keys.sign(self.private_key, message)


def verify_signature(certificate: bytes, signature: bytes, message: bytes) -> str:
    """Check a signature made by `Identity.sign` and return the node ID of the signer.

    `certificate` is the signer's DER certificate; only its key is used, so that a bundle stays readable after the
    certificate has ended. Whether that node is trusted is the roster's word. Raises `BadSignature`, `BadCertificate`.
    """
    key = certificates.public_key(certificate)
    node_id = keys.node_id_of_key(keys.spki(key))
    keys.verify(key, signature, message, what=f"device {keys.short_id(node_id)}")
    return node_id
