"""Keys, node IDs, names, signatures and certificates."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.verification import PolicyBuilder
from cryptography.x509.verification import Store as Anchors
from hypothesis import given
from hypothesis import strategies as st

from certs import certificates, keys
from certs.authority import Authority
from certs.errors import (
    BadCertificate,
    BadName,
    BadSignature,
    CertificateNotYetValid,
    ExpiredCertificate,
    StoreDamaged,
    TrustError,
    WrongShop,
)
from certs.identity import Identity, check_name, node_id_of_certificate, verify_signature

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.create("laptop-finance-001", NOW)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


def test_node_id_follows_from_the_key(identity: Identity) -> None:
    digest = hashlib.sha256(identity.public_key).digest()
    assert identity.node_id == "node-" + base64.b32encode(digest).decode().lower().rstrip("=")
    assert len(identity.node_id) == 57
    assert node_id_of_certificate(identity.certificate) == identity.node_id


def test_node_id_of_a_known_key() -> None:
    """A vector for other implementations: the key with the private scalar 1 (the base point of P-256)."""
    key = ec.derive_private_key(1, ec.SECP256R1())
    node_id = keys.node_id_of_key(keys.spki(key.public_key()))
    assert node_id == "node-ltjff6ym5cjsinx27dgncbajqg4j5zfnnop6tyvcw7trvlfsptjq"


def test_dns_labels_fit(identity: Identity) -> None:
    assert all(len(label) <= 63 for label in keys.server_name(identity.node_id).split("."))


def test_short_id_is_the_beginning(identity: Identity) -> None:
    assert identity.short_id.replace("-", "") == identity.node_id[5:13]


def test_private_key_stays_out_of_logs(identity: Identity) -> None:
    assert "private_key" not in repr(identity)


@given(message=st.binary(max_size=200), other=st.binary(max_size=200))
def test_signature_belongs_to_one_message(message: bytes, other: bytes) -> None:
    identity = Identity.create("a", NOW)
    signature = identity.sign(message)
    assert verify_signature(identity.certificate, signature, message) == identity.node_id
    if other != message:
        with pytest.raises(BadSignature, match=identity.short_id):
            verify_signature(identity.certificate, signature, other)


@given(signature=st.binary(max_size=100))
def test_noise_is_no_signature(identity: Identity, signature: bytes) -> None:
    with pytest.raises(BadSignature):
        verify_signature(identity.certificate, signature, b"message")


def test_signature_by_another_device(identity: Identity) -> None:
    other = Identity.create("other", NOW)
    with pytest.raises(BadSignature):
        verify_signature(other.certificate, identity.sign(b"m"), b"m")


@given(data=st.binary(max_size=300))
def test_noise_is_no_certificate(data: bytes) -> None:
    with pytest.raises(BadCertificate):
        node_id_of_certificate(data)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_changed_bit_of_a_certificate_is_believed(identity: Identity, authority: Authority) -> None:
    der = authority.issue(identity.public_key, NOW)
    for position in range(len(der) * 8):
        changed = bytearray(der)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises((BadCertificate, WrongShop)):
            certificates.check_device(bytes(changed), authority.certificate)


def test_oversized_certificate(identity: Identity) -> None:
    with pytest.raises(BadCertificate, match="at most"):
        node_id_of_certificate(identity.certificate + bytes(5000))


def self_signed(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "p384", "rsa"],
)
def test_only_p256(
    authority: Authority, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> None:
    with pytest.raises(BadCertificate, match="P-256"):
        node_id_of_certificate(self_signed(key))
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(BadCertificate, match="P-256"):
        authority.issue(key.public_key().public_bytes(*form), NOW)


def test_a_key_has_one_encoding(identity: Identity) -> None:
    """The same point in compressed form would give the device a second node ID."""
    point = identity.private_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    with pytest.raises(BadCertificate):
        keys.load_spki(compressed)


def test_a_certificate_has_its_key_in_that_encoding(identity: Identity) -> None:
    """Signed rightly, but with the key as a compressed point."""
    point = identity.private_key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    body = x509.load_der_x509_certificate(identity.certificate).tbs_certificate_bytes.replace(
        identity.public_key, compressed
    )
    body = b"\x30\x82" + (len(body) - 4).to_bytes(2, "big") + body[4:]
    signature = identity.sign(body)
    inner = body + bytes.fromhex("300a06082a8648ce3d040302") + bytes([3, len(signature) + 1, 0]) + signature
    der = b"\x30\x82" + len(inner).to_bytes(2, "big") + inner
    read = x509.load_der_x509_certificate(der)
    read.verify_directly_issued_by(read)
    with pytest.raises(BadCertificate, match="canonical"):
        node_id_of_certificate(der)


def test_device_certificate_by_an_independent_verifier(identity: Identity, authority: Authority) -> None:
    """The certificate satisfies the X.509 verifier of `cryptography` as server and as client."""
    leaf = x509.load_der_x509_certificate(authority.issue(identity.public_key, NOW))
    anchors = Anchors([x509.load_der_x509_certificate(authority.certificate)])
    builder = PolicyBuilder().store(anchors).time(NOW)
    builder.build_server_verifier(x509.DNSName(keys.server_name(identity.node_id))).verify(leaf, [])
    builder.build_client_verifier().verify(leaf, [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("node-other.backroom")).verify(leaf, [])


def test_device_certificate_names_its_shop(identity: Identity, authority: Authority) -> None:
    der = authority.issue(identity.public_key, NOW)
    assert certificates.check_device(der, authority.certificate) == identity.node_id
    assert certificates.check_authority(authority.certificate) == authority.shop_id
    assert authority.shop_id in x509.load_der_x509_certificate(der).subject.rfc4514_string()


def test_certificate_of_another_shop(identity: Identity, authority: Authority) -> None:
    other = Authority.create(NOW)
    with pytest.raises(WrongShop):
        certificates.check_device(other.issue(identity.public_key, NOW), authority.certificate)
    with pytest.raises(WrongShop):
        certificates.check_device(identity.certificate, authority.certificate)


def test_a_device_is_no_authority(identity: Identity) -> None:
    with pytest.raises(BadCertificate):
        certificates.check_authority(identity.certificate)


def test_certificate_with_names_of_another_device(identity: Identity, authority: Authority) -> None:
    """An authority's signature is not enough: the names must be those of the key."""
    own = certificates.load(authority.issue(identity.public_key, NOW))
    other = Identity.create("other", NOW)
    builder = x509.CertificateBuilder(
        own.issuer, own.subject, other.private_key.public_key(), 5, NOW, NOW + timedelta(days=1), list(own.extensions)
    )
    forged = builder.sign(authority.private_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    with pytest.raises(BadCertificate, match="names another"):
        certificates.check_device(forged, authority.certificate)


def test_dates_are_checked_with_both_times_named(identity: Identity, authority: Authority) -> None:
    der = authority.issue(identity.public_key, NOW)
    certificates.check_dates(der, NOW - timedelta(days=7))
    certificates.check_dates(der, NOW + certificates.DEVICE_LIFETIME)
    with pytest.raises(CertificateNotYetValid, match=r"2025-12-25 12:00:00 UTC.*2025-12-25 11:59:59 UTC"):
        certificates.check_dates(der, NOW - timedelta(days=7, seconds=1))
    with pytest.raises(ExpiredCertificate, match=r"2028-01-01 12:00:00 UTC.*2028-01-01 12:00:01 UTC") as caught:
        certificates.check_dates(der, NOW + certificates.DEVICE_LIFETIME + timedelta(seconds=1))
    assert caught.value.ended < caught.value.now


def test_names_are_cleaned() -> None:
    assert check_name("  Café  ") == "Café"
    assert len(check_name("x" * 64)) == 64


@pytest.mark.parametrize(
    "name", ["", "   ", "x" * 65, "a\nb", "a\x00b", "evil\u202etxt", "a\u200bb", "a\u2028b", "\ue000"]
)
def test_names_that_could_deceive(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name)


def test_wrong_private_key_files(authority: Authority) -> None:
    with pytest.raises(StoreDamaged, match="somewhere"):
        keys.private_from_pem(b"nonsense", where="somewhere")
    p384 = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(StoreDamaged, match="P-256"):
        keys.private_from_pem(keys.private_to_pem(p384), where="somewhere")
    other = keys.private_to_pem(Authority.create(NOW).private_key)
    with pytest.raises(StoreDamaged, match="does not belong"):
        Authority.load(other, authority.certificate, where="somewhere")


def test_errors_have_stable_unique_codes() -> None:
    def tree(root: type[TrustError]) -> list[type[TrustError]]:
        return [root, *(error for child in root.__subclasses__() for error in tree(child))]

    errors = tree(TrustError)
    codes = [error.code for error in errors]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and " " not in code and "_" not in code for code in codes)
    assert all(error.hint.endswith((".", "`")) for error in errors)
