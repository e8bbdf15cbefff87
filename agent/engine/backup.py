"""Making a backup: scope, gates, manifest, row frames, seal, from one snapshot with bounded memory (DESIGN 2-4)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Protocol

from agent.database.pages import PAGES_TO_KNOW, PAGES_TO_READ, sizes
from agent.database.part_marks import Marking
from agent.database.readers import beside, export_snapshot
from agent.database.snapshot import Snapshot, open_snapshot
from agent.engine.again import fitting, note
from agent.engine.backup_file import BackupFile
from agent.engine.backup_rows import begin_scope, check_gates, entries_of, fill_scope, pieces_of, tables_to_read
from agent.engine.begun import Begun
from agent.engine.choosing import Choosing
from agent.engine.errors import NothingToBackUp
from agent.engine.known import Earlier, Known
from agent.engine.progress import Progress, Step, silent
from agent.engine.reading import Kept, Piece, Reading
from agent.engine.touched import Touched
from agent.log import get_logger
from agent.reading import Unreadable
from agent.tables.catalogue import Catalogue, TableClass
from agent.tables.infer import Classification
from protocol.errors import WrongRowCount
from protocol.limits import BUNDLE_VERSION
from protocol.manifest import BusinessRef, Kind, Manifest, Options, TableEntry
from protocol.places import Packed
from protocol.seal import Signer

log = get_logger(__name__)

# From so many bytes of tables on a second connection costs less than it brings.
WORTH_A_READER = 16 << 20


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
    """A finished backup. ``bytes`` is its size, ``raw_bytes`` the size of its rows before compression; ``kept`` how
    many of its frames are those of the earlier bundle, ``known`` what the next backup of the business need not read
    again, if it is told, and ``places`` where its frames lie (:mod:`protocol.places`)."""

    manifest: Manifest
    bytes: int
    raw_bytes: int
    seconds: float
    kept: int = 0
    known: Known | None = None
    places: Packed | None = None


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
    part_pages: int | None = None,
) -> BackupResult:
    """Back up into the sink that ``open_sink`` makes once the manifest is known (and every gate has passed).
    ``origin`` may be on its way still: it is not needed before.

    The sink is committed where its block ends well, and thrown away where it does not. ``earlier`` is what the last
    backup of this business made known, with its bundle; where that turns out to be gone, a second sink is asked for.
    Tables of more than ``part_pages`` pages are read, and known, in parts of so many; unless it is said, in
    smaller ones where the next backup may build on them. Raises errors of ``agent.database`` (rights, locks, lost
    connection), :class:`GateFailed`, :class:`NothingToBackUp` and what the sink raises.
    """
    if part_pages is None:
        part_pages = PAGES_TO_KNOW if request.kind is Kind.BUSINESS else PAGES_TO_READ
    try:
        return await _back_up(url, catalogue, request, origin, open_sink, now, earlier, progress, part_pages)
    except Unreadable as error:
        log.info("the earlier bundle is not built on", reason=str(error))
        return await _back_up(url, catalogue, request, origin, open_sink, now, None, progress, part_pages)


async def _back_up(
    url: str,
    catalogue: Catalogue,
    request: BackupRequest,
    origin: Origin | asyncio.Future[Origin],
    open_sink: Callable[[Manifest], AbstractAsyncContextManager[Sink]],
    now: Callable[[], datetime],
    earlier: Earlier | None,
    progress: Progress,
    part_pages: int,
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
        base = fitting(snapshot, earlier, business.id, request.compress) if business is not None else None
        size = await sizes(snapshot.connection, snapshot.schema, names)
        begun = Begun(snapshot, scope, names, size.pages, part_pages)
        # With an earlier bundle the parts are looked at before the rows are counted, else when all has been read.
        asked, mark = ({}, None) if base is None else (begun.conditions, base.known.mark)
        marking = Marking(snapshot.schema, names, size.pages, part_pages, asked, mark)
        touched = None
        if base is not None:
            touched = Touched(snapshot.schema, base, begun, reading, compress=request.compress)
        choosing = Choosing(begun, reading, marking, part_pages, base, touched)
        helper = None
        if size.bytes >= WORTH_A_READER:
            helper = beside(url, snapshot, await export_snapshot(snapshot), names, doing=doing)
        if base is None:
            choosing.begin(helper, marks=business is not None)
        elif not await choosing.compare(snapshot.connection, helper):
            return await _copy(snapshot, request, await _told(origin), base, open_sink, now(), progress, started)
        await fill_scope(snapshot, scope, request.kind)
        progress(Step("checking"))
        await check_gates(snapshot, scope, request.kind)
        scope.begun_rows |= await choosing.decide(snapshot.connection)
        maker = await _told(origin)
        entries = await entries_of(snapshot, scope, names)
        if not any(entry.rows for entry in entries):
            raise NothingToBackUp("There is nothing to back up: every table is empty.")
        named = BusinessRef(business.id, business.name) if business else None
        manifest = _described(snapshot, request, maker, named, entries, now())
        pieces = [pieces_of(snapshot, scope, entry, begun.pieces) for entry in manifest.tables]
        choosing.settle([piece for of_entry in pieces for piece in of_entry])
        reading.read(snapshot.connection)
        with _adding_up(base):
            async with open_sink(manifest) as sink:
                file = BackupFile(sink.write, manifest, progress)
                await file.begin()
                written = await _write_rows(file, pieces, reading, base)
                await file.seal(maker.sign, maker.certificate)
        await reading.ended()
        standings = choosing.standings()
        known = None
        if business is not None and standings is not None:
            known = note(snapshot, manifest, file.content, standings, written, part_pages)
    return _result(manifest, file, started, known)


async def _write_rows(
    file: BackupFile, pieces: Sequence[Sequence[Piece]], reading: Reading, earlier: Earlier | None
) -> dict[tuple[str, int], range]:
    """The pieces of each entry, one after the other, into the file; returns which of its frames hold the rows of a part
    of a table, by the table's name and the part's number."""
    written: dict[tuple[str, int], range] = {}
    for position, of_entry in enumerate(pieces):
        for piece in of_entry:
            first = file.frames
            if earlier is not None and piece.kept is not None:
                await file.kept(position, earlier.base, piece.kept)
            else:
                async for block in reading.rows(piece):
                    await file.block(position, block)
            if piece.part is not None:
                written[piece.table, piece.part] = range(first, file.frames)
    return written


@contextmanager
def _adding_up(base: Earlier | None) -> Iterator[None]:
    """Give an earlier bundle up whose rows do not add up with those that were counted and read."""
    try:
        yield
    except WrongRowCount as error:
        if base is None:
            raise
        raise Unreadable(str(error)) from error


async def _told(origin: Origin | asyncio.Future[Origin]) -> Origin:
    return origin if isinstance(origin, Origin) else await origin


async def _copy(
    snapshot: Snapshot,
    request: BackupRequest,
    maker: Origin,
    earlier: Earlier,
    open_sink: Callable[[Manifest], AbstractAsyncContextManager[Sink]],
    at: datetime,
    progress: Progress,
    started: float,
) -> BackupResult:
    """A bundle of its own with the frames of the earlier one. Raises ``Unreadable``."""
    base, before = earlier.base, earlier.manifest
    assert before is not None
    manifest = _described(snapshot, request, maker, before.business, before.tables, at)
    async with open_sink(manifest) as sink:
        file = BackupFile(sink.write, manifest, progress)
        await file.begin()
        for entry in range(len(manifest.tables)):
            await file.kept(entry, base, Kept(range(*base.range(entry))))
        await file.seal(maker.sign, maker.certificate)
    known = replace(earlier.known, bundle_id=manifest.bundle_id, manifest=manifest.digest().hex())
    return _result(manifest, file, started, known)


def _result(manifest: Manifest, file: BackupFile, started: float, known: Known | None) -> BackupResult:
    took = monotonic() - started
    return BackupResult(manifest, file.bytes, file.raw_bytes, took, file.frames_kept, known, file.places)


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
