"""Making a backup: scope, gates, manifest, row frames, seal, from one snapshot with bounded memory (DESIGN 2-4)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Protocol

from agent.database.businesses import Business
from agent.database.pages import sizes
from agent.database.readers import beside, export_snapshot
from agent.database.scope import Scope
from agent.database.snapshot import Snapshot, open_snapshot
from agent.database.untouched import Marking
from agent.engine.again import as_before, go_on, note
from agent.engine.backup_rows import (
    begin_scope,
    begun_pieces,
    check_gates,
    fill_scope,
    pieces_of,
    tables_to_read,
    travelling_columns,
)
from agent.engine.errors import NothingToBackUp
from agent.engine.known import Earlier, Known
from agent.engine.progress import Progress, Step, silent
from agent.engine.reading import Reading
from agent.reading import Unreadable, reading_earlier
from agent.tables.catalogue import Catalogue, TableClass
from agent.tables.infer import Classification
from protocol.frames import PackedBlock, as_frame
from protocol.limits import BUNDLE_VERSION
from protocol.manifest import BusinessRef, Kind, Manifest, Options, Section, TableEntry
from protocol.seal import Signer
from protocol.writer import BundleWriter

# From so many bytes of tables on a second connection costs less than it brings.
WORTH_A_READER = 16 << 20
_SECTIONS = {
    TableClass.BUSINESS: Section.BUSINESS,
    TableClass.DEVICE: Section.DEVICE,
    TableClass.UNCLASSIFIED: Section.UNCLASSIFIED,
}


class Sink(Protocol):
    """Where the bytes of a bundle go."""

    async def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What to back up. ``business`` (id, name or slug) is set for the business kind alone."""

    kind: Kind
    business: str | None = None
    compress: bool = True
    include_demo: bool = False
    target_node: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes the backup: device, shop, and the person as far as known. ``sign`` and ``certificate`` seal it."""

    node_id: str
    device: str
    created_by: str
    sign: Signer
    certificate: bytes
    shop_id: str | None = None
    shop_name: str | None = None


@dataclass(frozen=True, slots=True)
class BackupResult:
    """A finished backup. ``bytes`` is its size, ``raw_bytes`` the size of its rows before compression; ``known`` is
    what the next backup of the business need not read again, if it is told."""

    manifest: Manifest
    bytes: int
    raw_bytes: int
    seconds: float
    known: Known | None = None


async def backup(
    url: str,
    catalogue: Catalogue,
    request: BackupRequest,
    origin: Origin | asyncio.Future[Origin],
    open_sink: Callable[[Manifest], AbstractAsyncContextManager[Sink]],
    *,
    now: Callable[[], datetime],
    earlier: Earlier | None = None,
    progress: Progress = silent,
) -> BackupResult:
    """Back up into the sink that ``open_sink`` makes once the manifest is known (and every gate has passed).
    ``origin`` may be on its way still: it is not needed before.

    The sink is committed where its block ends well, and thrown away where it does not. ``earlier`` is what the last
    backup of this business made known, with its bundle; where that turns out to be gone, a second sink is asked for.
    Raises errors of ``agent.database`` (rights, locks, lost connection), :class:`GateFailed`,
    :class:`NothingToBackUp` and what the sink raises.
    """
    try:
        return await _back_up(url, catalogue, request, origin, open_sink, now, earlier, progress)
    except Unreadable:
        return await _back_up(url, catalogue, request, origin, open_sink, now, None, progress)


async def _back_up(
    url: str,
    catalogue: Catalogue,
    request: BackupRequest,
    origin: Origin | asyncio.Future[Origin],
    open_sink: Callable[[Manifest], AbstractAsyncContextManager[Sink]],
    now: Callable[[], datetime],
    earlier: Earlier | None,
    progress: Progress,
) -> BackupResult:
    started = monotonic()
    doing = "The backup"

    def reads(classification: Classification) -> tuple[str, ...]:
        return tables_to_read(request.kind, classification)

    async with (
        open_snapshot(url, catalogue, reads, doing=doing) as snapshot,
        Reading(compress=request.compress) as reading,
    ):
        progress(Step("finding rows"))
        business, scope = await begin_scope(snapshot, request.kind, request.business, include_demo=request.include_demo)
        names = tables_to_read(request.kind, snapshot.classification)
        if earlier is not None and business is not None:
            before = await as_before(snapshot, earlier, business.id, request.compress, names)
            if before is not None:
                maker = await _told(origin)
                made = _described(snapshot, request, maker, before.business, before.tables, now())
                return await _copy(earlier, made, maker, open_sink, progress, started)
        size = await sizes(snapshot.connection, snapshot.schema, names)
        begun = {name: begun_pieces(snapshot, scope, name, size.pages.get(name, 0)) for name in names}
        marking = Marking([snapshot.schema.tables[name] for name in names], size.pages)
        if business is not None:
            reading.afterwards(partial(go_on, marking))
        if size.bytes >= WORTH_A_READER:
            # It reads what is in whatever the walk finds, while that is looked for here.
            reading.plan([piece for pieces in begun.values() for piece in pieces])
            exported = await export_snapshot(snapshot)
            reading.help(beside(url, snapshot, exported, names, doing=doing))
        await fill_scope(snapshot, scope, request.kind)
        progress(Step("checking"))
        await check_gates(snapshot, scope, request.kind)
        maker = await _told(origin)
        manifest = await _manifest(snapshot, scope, request, maker, business, now())
        pieces = [pieces_of(snapshot, scope, entry, begun) for entry in manifest.tables]
        reading.plan([piece for of_entry in pieces for piece in of_entry])
        reading.read(snapshot.connection)
        writer = BundleWriter(manifest)
        async with open_sink(manifest) as sink:
            written = await _emit(sink, writer.header())
            raw = done = 0
            for position, entry in enumerate(manifest.tables):
                for piece in pieces[position]:
                    async for block in reading.rows(piece):
                        written += await _emit(sink, await asyncio.to_thread(_record, writer, position, block))
                        raw += block.raw_length
                        done += block.rows
                        progress(Step("backing up", done, manifest.total_rows, entry.table, bytes=written))
            sealed = await asyncio.to_thread(writer.seal, maker.sign, maker.certificate)
            written += await _emit(sink, sealed)
        await reading.ended()
        mark = marking.mark()
        known = note(snapshot, manifest, writer.content, names, mark) if mark is not None else None
    return BackupResult(manifest, written, raw, monotonic() - started, known)


async def _told(origin: Origin | asyncio.Future[Origin]) -> Origin:
    return origin if isinstance(origin, Origin) else await origin


async def _copy(
    earlier: Earlier,
    manifest: Manifest,
    origin: Origin,
    open_sink: Callable[[Manifest], AbstractAsyncContextManager[Sink]],
    progress: Progress,
    started: float,
) -> BackupResult:
    """A bundle of that manifest with the frames of the earlier one. Raises ``Unreadable``."""
    writer, base = BundleWriter(manifest), earlier.base
    raw = done = 0
    async with open_sink(manifest) as sink:
        written = await _emit(sink, writer.header())
        for number in range(base.frames):
            with reading_earlier():
                frame = await asyncio.to_thread(base.frame, number)
            written += await _emit(sink, await asyncio.to_thread(writer.frame, frame))
            raw += frame.raw_length
            done += frame.rows
            table = manifest.tables[frame.entry].table
            progress(Step("backing up", done, manifest.total_rows, table, bytes=written))
        written += await _emit(sink, await asyncio.to_thread(writer.seal, origin.sign, origin.certificate))
    known = replace(earlier.known, bundle_id=manifest.bundle_id, manifest=manifest.digest().hex())
    return BackupResult(manifest, written, raw, monotonic() - started, known)


async def _emit(sink: Sink, data: bytes) -> int:
    await sink.write(data)
    return len(data)


def _record(writer: BundleWriter, position: int, block: PackedBlock) -> bytes:
    return writer.frame(as_frame(position, block))


async def _manifest(
    snapshot: Snapshot, scope: Scope, request: BackupRequest, origin: Origin, business: Business | None, at: datetime
) -> Manifest:
    classification = snapshot.classification
    names = tables_to_read(request.kind, classification)
    counted = await scope.count(snapshot.connection, names)
    entries: list[TableEntry] = []
    for name in names:
        table = snapshot.schema.tables[name]
        entry = TableEntry(
            table=name,
            section=_SECTIONS[classification.rule(name).table_class],
            columns=travelling_columns(table, classification),
            key=table.identity,
            rows=counted[name].rows,
        )
        entries.append(entry)
        if counted[name].stubs:
            entries.append(replace(entry, rows=counted[name].stubs, stub=True))
    order = {Section.BUSINESS: 0, Section.UNCLASSIFIED: 1, Section.DEVICE: 2}
    entries.sort(key=lambda entry: order[entry.section])
    if not any(entry.rows for entry in entries):
        raise NothingToBackUp("There is nothing to back up: every table is empty.")
    named = BusinessRef(business.id, business.name) if business else None
    return _described(snapshot, request, origin, named, tuple(entries), at)


def _described(
    snapshot: Snapshot,
    request: BackupRequest,
    origin: Origin,
    business: BusinessRef | None,
    entries: tuple[TableEntry, ...],
    at: datetime,
) -> Manifest:
    enums = {column.enum for entry in entries for column in entry.columns if column.enum}
    return Manifest(
        version=BUNDLE_VERSION,
        bundle_id=str(uuid.uuid4()),
        kind=request.kind,
        shop_id=origin.shop_id,
        shop_name=origin.shop_name,
        source_node=origin.node_id,
        source_device=origin.device,
        target_node=request.target_node,
        business=business,
        created=at,
        created_by=origin.created_by,
        options=Options(compress=request.compress, include_demo=request.include_demo),
        schema_fingerprint=snapshot.schema.fingerprint(),
        server_version=snapshot.server_version,
        enums={name: snapshot.schema.enums[name] for name in sorted(enums) if name in snapshot.schema.enums},
        tables=entries,
        warnings=coverage_warnings(request.kind, snapshot.classification),
    )


def coverage_warnings(kind: Kind, classification: Classification) -> tuple[str, ...]:
    """The gate of coverage: every table that nobody classified, named, with what became of it."""
    fate = (
        "left out of this backup"
        if kind is Kind.BUSINESS
        else "kept in a section of its own, which is never restored onto another device"
    )
    return tuple(
        f"Table {name} is not classified ({classification.rule(name).why}): {fate}."
        for name in classification.of_class(TableClass.UNCLASSIFIED)
    )
