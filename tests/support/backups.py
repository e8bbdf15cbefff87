"""Backups into memory, and bundles taken apart, for tests of the engine."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.engine.backup import BackupRequest, BackupResult, Origin, backup
from agent.tables.catalogue import Catalogue, load_catalogue
from protocol.frames import decode_block
from protocol.manifest import Kind, Manifest
from protocol.reader import BundleReader, FrameRead, ManifestRead, SealRead

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2026, 1, 1, 15, 30, 45, 123456, UTC)


def origin(node_id: str = "node-office", device: str = "laptop-office-001") -> Origin:
    """A source whose signature is real; its certificate is not looked at by the engine."""
    return Origin(
        node_id=node_id,
        device=device,
        created_by="tests",
        sign=lambda message: KEY.sign(message, ec.ECDSA(hashes.SHA256())),
        certificate=b"certificate",
    )


class MemorySink:
    """Keeps what was written; ``committed`` tells whether the backup ended well."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.committed = False
        self.opened = False

    def __call__(self, manifest: Manifest) -> MemorySink:
        self.opened = True
        return self

    async def __aenter__(self) -> MemorySink:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.committed = kind is None

    async def write(self, data: bytes) -> None:
        self.data += data


@dataclass
class Opened:
    """A bundle taken apart: rows (tuples of COPY text fields by column name) of each table, stubs apart."""

    manifest: Manifest
    rows: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    stubs: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def ids(self, table: str, column: str = "id") -> set[str]:
        return {row[column] for row in self.rows[table]}

    def stub_ids(self, table: str, column: str = "id") -> set[str]:
        return {row[column] for row in self.stubs[table]}


def open_bundle(data: bytes) -> Opened:
    """Read a bundle to its end, all checks but the signature's included."""
    reader = BundleReader()
    opened: Opened | None = None
    for event in reader.feed(data):
        if isinstance(event, ManifestRead):
            opened = Opened(event.manifest)
        elif isinstance(event, FrameRead):
            assert opened is not None
            entry = opened.manifest.tables[event.frame.entry]
            names = [column.name for column in entry.columns]
            target = opened.stubs if entry.stub else opened.rows
            for line in decode_block(event.frame).decode().removesuffix("\n").split("\n"):
                target[entry.table].append(dict(zip(names, line.split("\t"), strict=True)))
        else:
            assert isinstance(event, SealRead)
    reader.close()
    assert opened is not None
    return opened


async def back_up(
    dsn: str,
    kind: Kind = Kind.FULL,
    business: str | None = None,
    *,
    catalogue: Catalogue | None = None,
    sink: MemorySink | None = None,
    part_pages: int | None = None,
    **options: Any,
) -> tuple[Opened, BackupResult]:
    """Back up and take the bundle apart."""
    sink = sink or MemorySink()
    request = BackupRequest(kind, business, **options)
    result = await backup(
        dsn, catalogue or load_catalogue(), request, origin(), sink, now=lambda: NOW, part_pages=part_pages
    )
    assert sink.committed
    return open_bundle(bytes(sink.data)), result
