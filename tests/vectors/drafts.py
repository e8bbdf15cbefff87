"""What the vectors are made from: two devices with fixed keys, three small tables, and drafts that check nothing."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from protocol.frames import EncodedFrame, encode_frame, frame_record, next_chain, start_chain
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.records import Tag, header_record, record
from protocol.seal import Seal, Signer

CREATED = datetime(2026, 1, 1, 15, 30, 45, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class Vector:
    """A file and what must become of it; ``error`` is a code of ``protocol.errors``, None for a good bundle."""

    name: str
    comment: str
    data: bytes
    error: str | None = None
    stage: str = "read"


@dataclass(frozen=True)
class Device:
    """A device with a fixed key. Everything it signs is the same each time (RFC 6979)."""

    name: str
    secret: int

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(self.secret, ec.SECP256R1())

    @property
    def node_id(self) -> str:
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "node-" + base64.b32encode(hashlib.sha256(spki).digest()).decode().rstrip("=").lower()

    @property
    def signer(self) -> Signer:
        return lambda message: self.key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    @property
    def certificate(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.node_id)])
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), 1)
        builder = builder.not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        builder = builder.not_valid_after(datetime(2125, 1, 1, tzinfo=UTC))
        return builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


FINANCE = Device("laptop-finance-001", 0x0BAC_0001)
OTHER = Device("laptop-kitchen-002", 0x0BAC_0002)

ORDERS = TableEntry(
    table="business_orders",
    section=Section.BUSINESS,
    columns=(
        ColumnEntry("id", "text"),
        ColumnEntry("status", '"OrderStatus"', "OrderStatus"),
        ColumnEntry("totalAmount", "numeric(10,2)"),
        ColumnEntry("notes", "text"),
    ),
    key=("id",),
    rows=4,
)
ORDER_ROWS = (
    b"order-1\tPENDING\t12.50\t\\N\n",
    b"order-2\tPAID\t0.00\ttab \\t, line \\n, backslash \\\\\n",
    "order-3\tPAID\t99999999.99\t寿司 🍣\n".encode(),
    b"order-4\tPENDING\t-1.00\t\n",
)
USERS = TableEntry("users", Section.BUSINESS, (ColumnEntry("id", "text"), ColumnEntry("email", "text")), ("id",), 2)
USER_ROWS = (b"user-1\ta@example.test\n", b"user-2\tb@example.test\n")
NODES = TableEntry("sync_nodes", Section.DEVICE, (ColumnEntry("nodeId", "text"),), ("nodeId",), 1)
NODE_ROWS = (b"laptop-finance-001\n",)

Blocks = list[tuple[int, tuple[bytes, ...]]]
ORDER_BLOCKS: Blocks = [(0, ORDER_ROWS)]
TWO_BLOCKS: Blocks = [(0, USER_ROWS), (1, ORDER_ROWS[:2]), (1, ORDER_ROWS[2:])]


def manifest(*tables: TableEntry, **changes: Any) -> Manifest:
    """A business bundle's manifest with these entries."""
    base = Manifest(
        version=1,
        bundle_id="bundle-0001",
        kind=Kind.BUSINESS,
        shop_id="shop-0001",
        shop_name="Harbour Street",
        source_node=FINANCE.node_id,
        source_device=FINANCE.name,
        target_node=None,
        business=BusinessRef("business-1", "Restaurant ABC"),
        created=CREATED,
        created_by="vectors",
        options=Options(),
        schema_fingerprint=hashlib.sha256(b"schema").hexdigest(),
        server_version="16.4",
        enums={"OrderStatus": ("PENDING", "PAID")},
        tables=tables,
    )
    return replace(base, **changes)


def full(*tables: TableEntry, kind: Kind = Kind.FULL) -> Manifest:
    return manifest(*tables, kind=kind, business=None)


@cache
def _frame(entry: int, rows: tuple[bytes, ...], compress: bool) -> EncodedFrame:
    return encode_frame(entry, len(rows), b"".join(rows), compress=compress)


@dataclass(frozen=True)
class Draft:
    """A bundle that may be wrong: whatever it is given is chained, counted and sealed rightly, without any check."""

    manifest: bytes
    frames: tuple[EncodedFrame, ...] = ()
    header: bytes = field(default_factory=header_record)
    device: Device = FINANCE
    entries: int = 1

    def frame_records(self) -> list[bytes]:
        return [frame_record(frame, chain) for frame, chain in zip(self.frames, self.chain()[1:], strict=True)]

    def chain(self) -> list[bytes]:
        values = [start_chain(self.header, record(Tag.MANIFEST, self.manifest))]
        for frame in self.frames:
            values.append(next_chain(values[-1], frame.digest))
        return values

    def seal(self) -> Seal:
        entry_rows = [sum(f.rows for f in self.frames if f.entry == index) for index in range(self.entries)]
        seal = Seal(
            frames=len(self.frames),
            rows=sum(frame.rows for frame in self.frames),
            raw_bytes=sum(frame.raw_length for frame in self.frames),
            stored_bytes=sum(len(frame.data) for frame in self.frames),
            entry_rows=tuple(entry_rows),
            digest=self.chain()[-1],
            certificate=self.device.certificate,
            signature=b"",
        )
        return self.sign(seal)

    def sign(self, seal: Seal) -> Seal:
        digest = hashlib.sha256(self.manifest).digest()
        return replace(seal, signature=self.device.signer(seal.message(digest)))

    def parts(self) -> list[bytes]:
        """The records, in order."""
        seal = record(Tag.SEAL, self.seal().encode())
        return [self.header, record(Tag.MANIFEST, self.manifest), *self.frame_records(), seal]

    def whole(self) -> bytes:
        return b"".join(self.parts())

    def with_seal(self, seal: Seal) -> bytes:
        return b"".join([*self.parts()[:-1], record(Tag.SEAL, seal.encode())])


def draft(of: Manifest, blocks: Blocks, *, compress: bool = True) -> Draft:
    frames = tuple(_frame(entry, rows, compress) for entry, rows in blocks)
    return Draft(of.encode(), frames, entries=len(of.tables))


def orders() -> Draft:
    """One table, one frame, stored as it is: what most wrong files are made from."""
    return draft(manifest(ORDERS, options=Options(compress=False)), ORDER_BLOCKS, compress=False)
