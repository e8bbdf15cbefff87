"""X.509 certificates (RFC 5280): made, read and checked. Pure: bytes in, bytes out.

A device certificate carries its node ID (CN and SAN `<node_id>.backroom`) and its shop (O = shop ID, issuer CN = shop
ID). Nothing in it is believed for its own sake: the node ID is always computed from the key, the shop from the issuer's
signature, and rights from the roster.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import BadCertificate, CertificateNotYetValid, ExpiredCertificate, WrongShop
from certs.keys import SHOP_PREFIX, node_id_of_key, server_name, shop_id_of_key, short_id, spki

# Laptops whose clock runs behind must not refuse a certificate that was made a moment ago.
BACKDATED = timedelta(days=7)
DEVICE_LIFETIME = timedelta(days=2 * 365)
AUTHORITY_LIFETIME = timedelta(days=25 * 365)
# A P-256 device certificate has about 700 bytes; nothing that we read needs more than this.
MAX_CERTIFICATE = 4096
# What the library raises for bytes from strangers; some of these are no ValueError.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


_SHOP_ID = re.compile(re.escape(SHOP_PREFIX) + "[a-z2-7]{52}")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_name(shop_id: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shop_id)])


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def make_authority(key: ec.EllipticCurvePrivateKey, now: datetime, shop_id: str | None = None) -> bytes:
    """The self-signed certificate (DER) of a shop's authority: CN = shop ID, may sign device certificates only.

    `shop_id` is that of the shop that goes on under this key; None founds a new shop, whose ID is the key's.
    """
    public = key.public_key()
    name = _authority_name(shop_id or shop_id_of_key(spki(public)))
    builder = _builder(name, name, public, now, AUTHORITY_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return _sign(builder, key)


def make_cross(
    new_key: ec.EllipticCurvePublicKey, now: datetime, *, issuer_key: ec.EllipticCurvePrivateKey, shop_id: str
) -> bytes:
    """The new authority's key, certified by the old authority (DER): self-issued as in RFC 5280, 6.1, so that chains
    over it keep the path length of the old authority."""
    name = _authority_name(shop_id)
    builder = _builder(name, name, new_key, now, AUTHORITY_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    issuer_public = issuer_key.public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    return _sign(builder, issuer_key)


def make_device(
    device_key: ec.EllipticCurvePublicKey,
    now: datetime,
    *,
    issuer_key: ec.EllipticCurvePrivateKey,
    shop_id: str | None,
    lifetime: timedelta = DEVICE_LIFETIME,
) -> bytes:
    """A device's certificate (DER) signed by `issuer_key`; `shop_id` is None for its own before it has a shop."""
    node_id = node_id_of_key(spki(device_key))
    names = [x509.NameAttribute(NameOID.COMMON_NAME, node_id)]
    if shop_id is not None:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, shop_id))
    subject = x509.Name(names)
    issuer = subject if shop_id is None else _authority_name(shop_id)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(subject, issuer, device_key, now, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(node_id))]), critical=False)
    issuer_public = issuer_key.public_key()
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    return _sign(builder, issuer_key)


@lru_cache(64)  # of the devices that are met: a meeting asks for the same parts of the same certificate many times
def load(der: bytes) -> x509.Certificate:
    """Read a DER certificate of at most `MAX_CERTIFICATE` bytes. Raises `BadCertificate`."""
    if len(der) > MAX_CERTIFICATE:
        raise BadCertificate(f"A certificate has {len(der)} bytes; at most {MAX_CERTIFICATE} are allowed.")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # Parsed on demand by the library: asked for here, so that nothing can fail in the checks that come later.
        parts = (certificate.version, certificate.subject, certificate.issuer, certificate.extensions)
        dates = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except _UNREADABLE as error:
        raise BadCertificate("A certificate cannot be read.") from error
    if parts[0] is not x509.Version.v3 or dates[0] > dates[1] or certificate.serial_number <= 0:
        raise BadCertificate("A certificate is not of version 3, has an impossible serial number, or ends too early.")
    # The signature is a BIT STRING without unused bits, at the end: the parser lets a wrong count of those through.
    if not der.endswith(b"\x00" + certificate.signature):
        raise BadCertificate("A certificate's signature is not in its canonical encoding.")
    return certificate


@lru_cache(64)
def public_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a DER certificate. Raises `BadCertificate`."""
    certificate = load(der)
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate("The key of a certificate cannot be read.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate("The key of a certificate is not a P-256 key.")
    if spki(key) not in certificate.tbs_certificate_bytes:
        raise BadCertificate("The key of a certificate is not in its canonical encoding.")
    return key


@lru_cache(64)
def node_id_of_certificate(der: bytes) -> str:
    """The node ID that belongs to a certificate's key (whatever its names say). Raises `BadCertificate`."""
    return node_id_of_key(spki(public_key(der)))


def shop_id_of_authority(der: bytes) -> str:
    """The shop ID that an authority certificate names. Raises `BadCertificate`.

    Whether the key may speak for that shop is the matter of `handover.verify_chain`.
    """
    names = list(load(der).subject)
    text = names[0].value if len(names) == 1 and names[0].oid == NameOID.COMMON_NAME else None
    if not isinstance(text, str) or _SHOP_ID.fullmatch(text) is None:
        raise BadCertificate("An authority's certificate does not carry a shop ID.")
    return text


def expires(der: bytes) -> datetime:
    """When a certificate ends, UTC. Raises `BadCertificate`."""
    return load(der).not_valid_after_utc


def issued(der: bytes) -> datetime:
    """When a certificate was made by its maker's clock: its start is backdated by `BACKDATED`."""
    return load(der).not_valid_before_utc + BACKDATED


def check_dates(der: bytes, now: datetime) -> None:
    """Raise `ExpiredCertificate` or `CertificateNotYetValid`, each with both times, unless `now` (UTC) is within."""
    certificate = load(der)
    whose = short_id(node_id_of_certificate(der))
    if now > certificate.not_valid_after_utc:
        raise ExpiredCertificate(whose, certificate.not_valid_after_utc, now)
    if now < certificate.not_valid_before_utc:
        raise CertificateNotYetValid(whose, certificate.not_valid_before_utc, now)


def check_authority(der: bytes) -> str:
    """Check that `der` is a self-signed authority certificate; return the shop ID it names. Raises `BadCertificate`."""
    public_key(der)
    shop_id = shop_id_of_authority(der)
    certificate = load(der)
    try:
        certificate.verify_directly_issued_by(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise BadCertificate("An authority's certificate is not signed by itself.") from error
    if not constraints.ca or certificate.subject != _authority_name(shop_id):
        raise BadCertificate("An authority's certificate does not carry its own shop ID.")
    return shop_id


def check_cross(der: bytes, old: bytes, new: bytes) -> None:
    """Check that `der` certifies the key of the authority `new` by the authority `old`. Raises `BadCertificate`."""
    certificate = load(der)
    try:
        certificate.verify_directly_issued_by(load(old))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise BadCertificate("A new authority is not certified by the old one.") from error
    if not constraints.ca or public_key(der) != public_key(new) or certificate.subject != load(new).subject:
        raise BadCertificate("A new authority is not the one that the old one certified.")


def check_device(der: bytes, authority_der: bytes) -> str:
    """Check a device certificate against its shop's authority (dates aside) and return its node ID.

    Raises `WrongShop` if another authority signed it and `BadCertificate` if its names do not fit its key or shop.
    """
    node_id = node_id_of_certificate(der)
    shop_id = shop_id_of_authority(authority_der)
    certificate = load(der)
    try:
        certificate.verify_directly_issued_by(load(authority_der))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise WrongShop(f"The certificate of {short_id(node_id)} was not made by shop {short_id(shop_id)}.") from error
    expected = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, node_id), x509.NameAttribute(NameOID.ORGANIZATION_NAME, shop_id)]
    )
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise BadCertificate(f"The certificate of {short_id(node_id)} names no device.") from error
    if certificate.subject != expected or list(alternatives) != [x509.DNSName(server_name(node_id))]:
        raise BadCertificate(f"The certificate of {short_id(node_id)} names another device or shop than its own.")
    return node_id


def to_pem(der: bytes) -> bytes:
    """A DER certificate as PEM, as OpenSSL wants it in files."""
    return load(der).public_bytes(serialization.Encoding.PEM)


def all_from_pem(data: bytes) -> tuple[bytes, ...]:
    """All certificates of a PEM file as DER, in their order. Raises `BadCertificate`."""
    try:
        found = x509.load_pem_x509_certificates(data)
        return tuple(each.public_bytes(serialization.Encoding.DER) for each in found)
    except ValueError as error:
        raise BadCertificate("A certificate file cannot be read.") from error


def from_pem(data: bytes) -> bytes:
    """The first certificate of a PEM file as DER. Raises `BadCertificate`."""
    try:
        return x509.load_pem_x509_certificate(data).public_bytes(serialization.Encoding.DER)
    except ValueError as error:
        raise BadCertificate("A certificate file cannot be read.") from error
