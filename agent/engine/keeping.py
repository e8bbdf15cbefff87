"""Keeping what a restore did: what the recorder saw is sealed into an undo bundle before the commit (FORMAT.md)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from agent.database.export import copy_blocks
from agent.database.transaction import Connection
from agent.database.undo import Recorder, undo_columns
from agent.engine.backup import Origin, Sink
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Schema, Table
from protocol.frames import encode_frame
from protocol.limits import BUNDLE_VERSION
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.writer import BundleWriter

_SECTIONS = {TableClass.BUSINESS: Section.BUSINESS, TableClass.UNCLASSIFIED: Section.UNCLASSIFIED}

OpenSink = Callable[[Manifest], AbstractAsyncContextManager[Sink]]


@dataclass(frozen=True, slots=True)
class Keeper:
    """How a restore keeps its undo bundle: who seals it, where it goes, and the present time.

    ``open_sink`` must have the file safe on the disk when its block ends: the database commits after that.
    """

    origin: Origin
    open_sink: OpenSink
    now: Callable[[], datetime]


async def write_undo(
    recorder: Recorder,
    connection: Connection,
    schema: Schema,
    classification: Classification,
    keeper: Keeper,
    *,
    business: BusinessRef | None,
    server_version: str,
) -> Manifest | None:
    """Seal what the recorder kept into an undo bundle; None where the transaction changed nothing."""
    entries = [
        _entry(table, rows, classification) for table in recorder.tables if (rows := await recorder.count(table))
    ]
    if not entries:
        return None
    enums = {column.enum for entry in entries for column in entry.columns if column.enum}
    manifest = Manifest(
        version=BUNDLE_VERSION,
        bundle_id=str(uuid.uuid4()),
        kind=Kind.UNDO,
        shop_id=keeper.origin.shop_id,
        shop_name=keeper.origin.shop_name,
        source_node=keeper.origin.node_id,
        source_device=keeper.origin.device,
        target_node=keeper.origin.node_id,
        business=business,
        created=keeper.now(),
        created_by=keeper.origin.created_by,
        options=Options(),
        schema_fingerprint=schema.fingerprint(),
        server_version=server_version,
        enums={name: schema.enums[name] for name in sorted(enums)},
        tables=tuple(entries),
    )
    writer = BundleWriter(manifest)
    async with keeper.open_sink(manifest) as sink:
        await sink.write(writer.header())
        for index, entry in enumerate(manifest.tables):
            query = recorder.query(schema.tables[entry.table])
            async for block in copy_blocks(connection, query):
                frame = await asyncio.to_thread(encode_frame, index, None, block, compress=True)
                await sink.write(writer.frame(frame))
        await sink.write(await asyncio.to_thread(writer.seal, keeper.origin.sign, keeper.origin.certificate))
    return manifest


def _entry(table: Table, rows: int, classification: Classification) -> TableEntry:
    own = {column.name: column for column in table.stored_columns}
    columns = tuple(
        ColumnEntry(name, own[name].type, own[name].enum) if name in own else ColumnEntry(name, "text")
        for name in undo_columns(table)
    )
    section = _SECTIONS.get(classification.rule(table.name).table_class, Section.DEVICE)
    return TableEntry(table.name, section, columns, (), rows)
