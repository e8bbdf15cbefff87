"""Keeping what a restore did: what the recorder saw is sealed into an undo bundle before the commit (FORMAT.md)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agent.database.export import copy_blocks
from agent.database.transaction import Connection
from agent.database.undo import Recorder, undo_columns
from agent.engine.backup import Origin, Sink
from agent.engine.bundle_file import BundleSource
from agent.tables.catalogue import TableClass
from agent.tables.infer import Classification
from agent.tables.schema import Schema, Table
from protocol.frames import EncodedFrame, encode_frame, frame_digest
from protocol.limits import BUNDLE_VERSION
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.writer import BundleWriter

_SECTIONS = {TableClass.BUSINESS: Section.BUSINESS, TableClass.UNCLASSIFIED: Section.UNCLASSIFIED}

_AT_ONCE = 1 << 20

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
    source: BundleSource,
    brought: Mapping[str, int],
    *,
    business: BusinessRef | None,
    server_version: str,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> Manifest | None:
    """Seal what the recorder kept into an undo bundle; None where the transaction changed nothing.

    ``brought`` are tables whose rows are all new and exactly those of an entry of ``source``, by the entry's index:
    what has to be kept of them are the frames that they came in. The connection is not needed for these: ``meanwhile``
    is what it does while they are written, and is done in any case. Raises the first error of either.
    """
    counts = await recorder.counts()
    entries = [_entry(table, rows, classification) for table in recorder.tables if (rows := counts[table.name])]
    indexes = sorted(brought.values())
    entries += [_brought(source.manifest.tables[index], classification) for index in indexes]
    if not entries:
        if meanwhile is not None:
            await meanwhile()
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
    asked = asyncio.Event()

    async def write() -> None:
        writer = BundleWriter(manifest)
        async with keeper.open_sink(manifest) as sink:
            await sink.write(writer.header())
            first = len(manifest.tables) - len(indexes)
            for index, entry in enumerate(manifest.tables[:first]):
                query = recorder.query(schema.tables[entry.table])
                async for block in copy_blocks(connection, query):
                    frame = await asyncio.to_thread(encode_frame, index, None, block, compress=True)
                    await sink.write(writer.frame(frame))
            asked.set()
            if indexes:
                places = {index: first + number for number, index in enumerate(indexes)}
                async with aclosing(_several(source, places)) as coming:
                    async for frames in coming:
                        await sink.write(await asyncio.to_thread(_moved, writer, frames, places))
            await sink.write(await asyncio.to_thread(writer.seal, keeper.origin.sign, keeper.origin.certificate))

    async def go_on() -> None:
        await asked.wait()
        if meanwhile is not None:
            await meanwhile()

    await _both(write(), go_on())
    return manifest


async def _both(*works: Coroutine[Any, Any, None]) -> None:
    """Do both at a time; where one fails the other is cancelled, and has ended, when its error is raised."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        raise failure


async def _several(source: BundleSource, entries: Collection[int]) -> AsyncGenerator[list[EncodedFrame], None]:
    """The frames of these entries, about a megabyte at a time: a thread for each would cost as much as its work."""
    several: list[EncodedFrame] = []
    size = 0
    async with aclosing(source.frames()) as frames:
        async for frame in frames:
            if frame.entry in entries:
                several.append(frame)
                size += len(frame.data)
            if size >= _AT_ONCE:
                yield several
                several, size = [], 0
    if several:
        yield several


def _moved(writer: BundleWriter, frames: Iterable[EncodedFrame], places: Mapping[int, int]) -> bytes:
    """The same rows as frames of other entries, to be written."""
    moved = []
    for frame in frames:
        entry = places[frame.entry]
        digest = frame_digest(entry, frame.rows, frame.raw_length, frame.codec, frame.data)
        moved.append(writer.frame(replace(frame, entry=entry, digest=digest)))
    return b"".join(moved)


def _brought(entry: TableEntry, classification: Classification) -> TableEntry:
    return TableEntry(entry.table, _section(entry.table, classification), entry.columns, (), entry.rows)


def _section(table: str, classification: Classification) -> Section:
    return _SECTIONS.get(classification.rule(table).table_class, Section.DEVICE)


def _entry(table: Table, rows: int, classification: Classification) -> TableEntry:
    own = {column.name: column for column in table.stored_columns}
    columns = tuple(
        ColumnEntry(name, own[name].type, own[name].enum) if name in own else ColumnEntry(name, "text")
        for name in undo_columns(table)
    )
    return TableEntry(table.name, _section(table.name, classification), columns, (), rows)
