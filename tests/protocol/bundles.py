"""Bundles for the tests of the protocol: reading, verifying, and hypothesis strategies that make them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from protocol.frames import EncodedFrame, encode_frame
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.reader import BundleReader, Event, FrameRead, ManifestRead, SealRead
from protocol.seal import Seal, verify_seal
from protocol.writer import BundleWriter
from tests.vectors.drafts import FINANCE


def verify(certificate: bytes, signature: bytes, message: bytes) -> str:
    """The node that signed; what ``certs`` does for real."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "node-" + base64.b32encode(hashlib.sha256(spki).digest()).decode().rstrip("=").lower()


@dataclass(frozen=True)
class Bundle:
    """A bundle as its parts and as bytes."""

    manifest: Manifest
    frames: tuple[EncodedFrame, ...]
    data: bytes


@dataclass(frozen=True)
class Reading:
    """What a whole and verified bundle holds."""

    manifest: Manifest
    frames: tuple[EncodedFrame, ...]
    seal: Seal


def events(data: bytes, piece: int | None = None, reader: BundleReader | None = None) -> list[Event]:
    """All events of ``data``, fed in pieces, closed; raises what the reader raises."""
    reader = reader or BundleReader()
    found: list[Event] = []
    for start in range(0, len(data), piece or max(len(data), 1)):
        found += reader.feed(data[start : start + (piece or len(data))])
    reader.close()
    return found


def read(data: bytes, piece: int | None = None) -> Reading:
    """Reads and verifies a whole bundle."""
    first, *middle, last = events(data, piece)
    assert isinstance(first, ManifestRead)
    assert isinstance(last, SealRead)
    frames = [event.frame for event in middle if isinstance(event, FrameRead)]
    assert len(frames) == len(middle)
    assert verify_seal(first.manifest, last.seal, verify) == first.manifest.source_node
    return Reading(first.manifest, tuple(frames), last.seal)


def write(manifest: Manifest, frames: tuple[EncodedFrame, ...]) -> Bundle:
    """The bundle of these frames, signed by the vectors' first device."""
    writer = BundleWriter(manifest)
    parts = [writer.header(), *map(writer.frame, frames), writer.seal(FINANCE.signer, FINANCE.certificate)]
    return Bundle(manifest, frames, b"".join(parts))


IDENTIFIERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=15)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", fullmatch=True)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ROWS = st.binary(max_size=40).map(lambda row: row.replace(b"\n", b"\\n") + b"\n")


@st.composite
def manifests(draw: st.DrawFn, tables: tuple[TableEntry, ...] | None = None) -> Manifest:
    """Any manifest that keeps the rules."""
    kind = draw(st.sampled_from(Kind)) if tables is None else Kind.FULL
    enums = draw(st.dictionaries(IDENTIFIERS, st.lists(IDENTIFIERS, max_size=4, unique=True).map(tuple), max_size=3))
    sections = {
        Kind.FULL: [Section.BUSINESS, Section.UNCLASSIFIED],
        Kind.BUSINESS: [Section.BUSINESS],
        Kind.FULL_DEVICE: list(Section),
        Kind.UNDO: list(Section),
    }[kind]
    if tables is None:
        names = draw(st.lists(IDENTIFIERS, max_size=5, unique=True))
        tables = tuple(draw(entries(name, st.sampled_from(sections), tuple(enums))) for name in names)
    return Manifest(
        version=1,
        bundle_id=draw(IDS),
        kind=kind,
        shop_id=(shop_id := draw(st.none() | IDS)),
        shop_name=None if shop_id is None else draw(TEXTS),
        source_node=FINANCE.node_id,
        source_device=draw(TEXTS),
        target_node=draw(st.none() | IDS),
        business=draw(st.builds(BusinessRef, TEXTS, TEXTS) | (st.none() if kind is Kind.UNDO else st.nothing()))
        if kind in (Kind.BUSINESS, Kind.UNDO)
        else None,
        created=draw(TIMES),
        created_by=draw(TEXTS),
        options=draw(st.builds(Options, st.booleans(), st.booleans())),
        schema_fingerprint=draw(IDS),
        server_version=draw(TEXTS),
        enums=enums,
        tables=tables,
        warnings=tuple(draw(st.lists(TEXTS, max_size=3))),
    )


@st.composite
def entries(draw: st.DrawFn, name: str, sections: st.SearchStrategy[Section], enums: tuple[str, ...]) -> TableEntry:
    """Any entry for the table ``name``."""
    columns = draw(st.lists(IDENTIFIERS, max_size=4, unique=True))
    enum = st.none() | st.sampled_from(enums) if enums else st.none()
    section = draw(sections)
    return TableEntry(
        table=name,
        section=section,
        columns=tuple(ColumnEntry(column, draw(TEXTS), draw(enum)) for column in columns),
        key=tuple(columns[: draw(st.integers(0, len(columns)))]),
        rows=draw(st.integers(0, 1 << 40)),
        stub=section is Section.BUSINESS and draw(st.booleans()),
    )


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    """Any bundle of some small tables."""
    tables: list[TableEntry] = []
    frames: list[EncodedFrame] = []
    for index in range(draw(st.integers(0, 3))):
        blocks = draw(st.lists(st.lists(ROWS, min_size=1, max_size=12), max_size=3))
        rows = sum(len(block) for block in blocks)
        tables.append(TableEntry(f"table{index}", Section.BUSINESS, (ColumnEntry("id", "text"),), ("id",), rows))
        for block in blocks:
            repeated = block * draw(st.sampled_from((1, 20)))
            tables[-1] = _more_rows(tables[-1], len(repeated) - len(block))
            frames.append(encode_frame(index, len(repeated), b"".join(repeated), compress=draw(st.booleans())))
    return write(draw(manifests(tuple(tables))), tuple(frames))


def _more_rows(entry: TableEntry, rows: int) -> TableEntry:
    return TableEntry(entry.table, entry.section, entry.columns, entry.key, entry.rows + rows, entry.stub)
