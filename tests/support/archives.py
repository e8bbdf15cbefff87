"""Archives with real, signed bundles whose content is small and made up: for tests of what is done with many files."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import change
from agent.home import Home
from agent.operations.backups import backup_record
from agent.operations.workspace import Workspace
from certs.identity import Identity
from protocol.frames import encode_frame
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.names import bundle_name
from protocol.writer import BundleWriter

NOON = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
TEXT = ColumnEntry("id", "text")


def workspace_at(folder: Path, database: str = "postgresql://nobody@127.0.0.1:9/none") -> Workspace:
    """A laptop that is set up: settings and a key, no shop."""
    home = Home(folder).ensure()
    change(home, database_url=database, name="laptop-office-001", alerts={"desktop": False})
    workspace = Workspace(home)
    workspace.store.load_or_create_identity("laptop-office-001")
    return workspace


def bundle(identity: Identity, created: datetime, kind: Kind = Kind.FULL, *, rows: int = 20, **more: object) -> bytes:
    """A bundle of two tables, orders referring to customers, signed by ``identity``."""
    people = "".join(f"person-{number}\tName {number}\n" for number in range(rows)).encode()
    orders = "".join(f"order-{number}\tperson-{number}\n" for number in range(rows)).encode()
    manifest = Manifest(
        version=1,
        bundle_id=str(uuid.uuid4()),
        kind=kind,
        shop_id=None,
        shop_name=None,
        source_node=identity.node_id,
        source_device="laptop-office-001",
        target_node=None,
        business=BusinessRef("biz-1", "Restaurant ABC") if kind is Kind.BUSINESS else None,
        created=created,
        created_by="tests",
        options=Options(),
        schema_fingerprint="0" * 64,
        server_version="18.0",
        tables=(
            TableEntry("people", Section.BUSINESS, (TEXT, ColumnEntry("name", "text")), ("id",), rows),
            TableEntry("orders", Section.BUSINESS, (TEXT, ColumnEntry("person", "text")), ("id",), rows),
        ),
    )
    manifest = replace(manifest, **more)  # type: ignore[arg-type]
    writer = BundleWriter(manifest)
    parts = [writer.header()]
    for entry, block in enumerate((people, orders)):
        parts.append(writer.frame(encode_frame(entry, rows, block, compress=True)))
    parts.append(writer.seal(identity.sign, identity.certificate))
    return b"".join(parts)


async def keep(
    workspace: Workspace,
    history: History,
    created: datetime,
    kind: Kind = Kind.FULL,
    *,
    identity: Identity | None = None,
    recorded: datetime | None = None,
    **more: object,
) -> BackupRecord:
    """A bundle in the archive and in the history."""
    data = bundle(identity or workspace.store.identity(), created, kind, **more)  # type: ignore[arg-type]
    from protocol.reader import BundleReader

    reader = BundleReader()
    reader.feed(data)
    manifest = reader.manifest
    assert manifest is not None
    async with workspace.archive.writer(kind.value) as writer:
        await writer.write(data)
        path = await writer.commit(bundle_name(manifest))
    record = backup_record(
        workspace, manifest, path, size=writer.size, raw_size=len(data), checksum=writer.sha256, came="made"
    )
    return await history.add_backup(replace(record, recorded_at=recorded or created))


async def many(workspace: Workspace, history: History, number: int, start: datetime = NOON) -> list[BackupRecord]:
    """One full backup a day, the first at ``start``."""
    return [await keep(workspace, history, start + timedelta(days=day)) for day in range(number)]
