"""P-256 keys and what is derived from them: node IDs, shop IDs, signatures.

P-256 alone is used, for devices and authorities alike, because X.509 verifiers in use reject Ed25519 authorities.
Formats: SubjectPublicKeyInfo DER (RFC 5480) for public keys, PKCS#8 PEM (RFC 5958) for private keys, DER-encoded ECDSA
with SHA-256 (RFC 3279) for signatures.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import BadCertificate, BadSignature, StoreDamaged

NODE_PREFIX = "node-"
SHOP_PREFIX = "shop-"
DOMAIN = "backroom"
_ECDSA = ec.ECDSA(hashes.SHA256())


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """Make a fresh P-256 key from the system's random source."""
    return ec.generate_private_key(ec.SECP256R1())


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as SubjectPublicKeyInfo DER (91 bytes for P-256)."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_spki(data: bytes) -> ec.EllipticCurvePublicKey:
    """Read a P-256 public key from SubjectPublicKeyInfo DER. Raises `BadCertificate` for anything else.

    Only the one canonical encoding is taken, so that a key has exactly one node ID.
    """
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificate("A public key cannot be read.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate("A public key is not a P-256 key.")
    if spki(key) != data:
        raise BadCertificate("A public key is not in its canonical encoding.")
    return key


def _derived(prefix: str, data: bytes) -> str:
    return prefix + base64.b32encode(hashlib.sha256(data).digest()).decode("ascii").rstrip("=").lower()


def node_id_of_key(public_key: bytes) -> str:
    """The node ID of a device key: `node-` + lower-case unpadded base32 of SHA-256 of its SPKI DER; 57 characters."""
    return _derived(NODE_PREFIX, public_key)


def shop_id_of_key(public_key: bytes) -> str:
    """The shop ID of an authority key: `shop-` + lower-case base32 (no padding) of SHA-256 of its SPKI DER."""
    return _derived(SHOP_PREFIX, public_key)


def short_id(identifier: str) -> str:
    """The form for people of a node or shop ID: its first eight base32 characters as `abcd-efgh`. For display only."""
    text = identifier.partition("-")[2]
    return f"{text[:4]}-{text[4:8]}"


def server_name(node_id: str) -> str:
    """The DNS name in a device's certificate, and the name to ask for in TLS: `<node_id>.backroom`."""
    return f"{node_id}.{DOMAIN}"


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign with ECDSA P-256 SHA-256; the result is DER, at most 72 bytes. Messages begin with their purpose."""
    return key.sign(message, _ECDSA)


def verify(public_key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, *, what: str) -> None:
    """Raise `BadSignature` (naming `what`) unless the signature is this key's over exactly this message."""
    try:
        public_key.verify(signature, message, _ECDSA)
    except InvalidSignature as error:
        raise BadSignature(f"The signature of {what} does not fit its content.") from error


def private_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as unencrypted PKCS#8 PEM, for a file that only its owner can read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_from_pem(data: bytes, *, where: str) -> ec.EllipticCurvePrivateKey:
    """Read a P-256 private key from PKCS#8 PEM. Raises `StoreDamaged` naming `where` it was read from."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreDamaged(f"The private key in {where} cannot be read.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StoreDamaged(f"The private key in {where} is not a P-256 key.")
    return key
