"""A platform backup file as a bundle: read twice, first to know and check all of it, then to write it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic

from agent.engine.backup import BackupResult, Origin, Sink
from agent.engine.errors import NothingToBackUp, RowTooLarge
from agent.engine.import_errors import FileChanged
from agent.engine.import_plan import ImportOptions, ImportPlan, Route, plan_import
from agent.engine.import_survey import Survey, column_reader
from agent.engine.progress import Progress, Step, silent
from agent.reading import Opener, plainly
from agent.tables.infer import Classification
from agent.tables.schema import Schema
from protocol.errors import FrameTooLarge, OutOfOrder, WrongRowCount
from protocol.frames import EncodedFrame, encode_frame
from protocol.manifest import Manifest
from protocol.platform_json.copy_text import NULL
from protocol.platform_json.errors import PlatformFileError
from protocol.platform_json.from_json import FieldReader
from protocol.platform_json.json_text import Value
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.metadata import Metadata
from protocol.platform_json.reader import BUSINESS, Event, PlatformFileReader, RowsRead, TableRead
from protocol.writer import BundleWriter

_CHUNK_BYTES = 128 << 10
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Live:
    """This laptop's database as it is now: it gives the file's values their types."""

    schema: Schema
    classification: Classification
    server_version: str


@dataclass(frozen=True, slots=True)
class Looked:
    """A platform backup file that was read to its end and fits here. ``checksums`` are those computed; ``checked``
    tells whether the file had one of its business data, which then holds."""

    path: Path
    plan: ImportPlan
    metadata: Metadata
    checksums: Mapping[str, str]
    checked: bool
    opener: Opener = plainly


async def look_at_file(
    path: Path,
    live: Live,
    origin: Origin,
    *,
    now: Callable[[], datetime],
    options: ImportOptions = ImportOptions(),  # noqa: B008 - frozen
    limits: FileLimits = DEFAULT_FILE_LIMITS,
    progress: Progress = silent,
    opener: Opener = plainly,
) -> Looked:
    """Read the whole file, check its checksum and every value against the live schema, and plan its bundle.

    Raises errors of ``protocol.platform_json`` and ``agent.engine.import_errors``, ``ForeignDeviceState``,
    ``DeviceTableRefused``, ``NothingToBackUp`` and ``OSError``.
    """
    survey = Survey(live.schema, live.classification, limits)
    reader = PlatformFileReader(limits)

    def look(data: bytes) -> None:
        survey.take(reader.feed(data) if data else reader.close())

    async for data in _chunks(path, opener):
        await asyncio.to_thread(look, data)
        progress(Step("reading", survey.rows))
    assert survey.metadata is not None
    plan = plan_import(
        survey,
        live.schema,
        live.classification,
        origin,
        live.server_version,
        now(),
        options,
        reader.checksums[BUSINESS],
    )
    if not plan.manifest.total_rows:
        raise NothingToBackUp(
            f"There is nothing to import from {path.name}: no row of it belongs here.",
            "Choose another backup of the platform.",
        )
    return Looked(path, plan, survey.metadata, reader.checksums, BUSINESS in survey.metadata.checksums, opener)


async def write_bundle(
    looked: Looked,
    live: Live,
    origin: Origin,
    open_sink: Callable[[Manifest], AbstractAsyncContextManager[Sink]],
    *,
    limits: FileLimits = DEFAULT_FILE_LIMITS,
    progress: Progress = silent,
) -> BackupResult:
    """Write the file's rows as a bundle, sealed by this device, into the sink that ``open_sink`` makes.

    Raises ``FileChanged`` where the file is no longer what was looked at, ``RowTooLarge``, ``OSError`` and what the
    sink raises.
    """
    started = monotonic()
    manifest = looked.plan.manifest
    writer = BundleWriter(manifest)
    async with open_sink(manifest) as sink:
        size = await _emit(sink, writer.header())
        raw = done = 0
        try:
            async for frame in _frames(looked, live.schema, limits):
                size += await _emit(sink, writer.frame(frame))
                raw += frame.raw_length
                done += frame.rows
                progress(Step("importing", done, manifest.total_rows, manifest.tables[frame.entry].table))
        except (PlatformFileError, WrongRowCount, OutOfOrder) as error:
            raise FileChanged(f"{looked.path.name} was changed while it was imported.") from error
        size += await _emit(sink, await asyncio.to_thread(writer.seal, origin.sign, origin.certificate))
    return BackupResult(manifest, size, raw, monotonic() - started)


async def _chunks(path: Path, opener: Opener) -> AsyncGenerator[bytes, None]:
    """The file's bytes, then b"" once."""
    file = await asyncio.to_thread(opener, path)
    try:
        while True:
            data = await asyncio.to_thread(file.read, _CHUNK_BYTES)
            yield data
            if not data:
                return
    finally:
        await asyncio.to_thread(file.close)


async def _emit(sink: Sink, data: bytes) -> int:
    await sink.write(data)
    return len(data)


async def _frames(looked: Looked, schema: Schema, limits: FileLimits) -> AsyncGenerator[EncodedFrame, None]:
    """The frames, read from the file once more; raises ``FileChanged`` where it is no longer what was looked at."""
    reader = PlatformFileReader(limits)
    rows = _Rows(looked.plan, schema)

    def encode(data: bytes) -> list[EncodedFrame]:
        blocks = rows.take(reader.feed(data) if data else reader.close(), final=not data)
        return [_frame(looked.plan.manifest, *block) for block in blocks]

    async for data in _chunks(looked.path, looked.opener):
        for frame in await asyncio.to_thread(encode, data):
            yield frame
    if reader.checksums != looked.checksums:
        raise FileChanged(f"{looked.path.name} was changed while it was imported.")


def _frame(manifest: Manifest, entry: int, rows: int, block: bytes) -> EncodedFrame:
    try:
        return encode_frame(entry, rows, block, compress=manifest.options.compress)
    except FrameTooLarge as error:
        raise RowTooLarge(f"Table {manifest.tables[entry].table} has a row that is too long. {error}") from error


class _Rows:
    """Turns rows of the file into blocks of COPY text, in the order of the manifest's entries.

    Rows of a table's second entry that come before the last row of its first wait in memory: they are rows of other
    businesses in the table of businesses.
    """

    def __init__(self, plan: ImportPlan, schema: Schema) -> None:
        self._manifest = plan.manifest
        self._routes = plan.routes
        self._schema = schema
        self._route: Route | None = None
        self._readers: list[tuple[str, FieldReader]] = []
        self._number = 0
        self._lines: tuple[list[str], list[str]] = ([], [])
        self._sizes = [0, 0]
        self._first_left = 0

    def take(self, events: Iterable[Event], *, final: bool) -> list[tuple[int, int, bytes]]:
        """Blocks as (entry, rows, text)."""
        blocks: list[tuple[int, int, bytes]] = []
        for event in events:
            if isinstance(event, TableRead):
                blocks += self._finish()
                self._begin(event)
            elif isinstance(event, RowsRead) and self._route is not None:
                blocks += self._add(self._route, event.rows)
        return [*blocks, *self._finish()] if final else blocks

    def _begin(self, event: TableRead) -> None:
        self._route = route = self._routes.get(event.key) if event.section == BUSINESS else None
        self._number = 0
        if route is not None:
            entry = self._manifest.tables[route.first]
            live = {column.name: column for column in self._schema.tables[entry.table].columns}
            self._readers = [(name, column_reader(live[name], self._schema)) for name in route.columns]
            self._first_left = entry.rows

    def _add(self, route: Route, rows: list[dict[str, Value]]) -> list[tuple[int, int, bytes]]:
        blocks: list[tuple[int, int, bytes]] = []
        first_are_stubs = self._manifest.tables[route.first].stub
        for row in rows:
            line = "\t".join([read(row[name]) if name in row else NULL for name, read in self._readers]) + "\n"
            second = route.second is not None and (self._number in route.stubs) != first_are_stubs
            self._lines[second].append(line)
            self._sizes[second] += len(line)
            self._number += 1
            self._first_left -= not second
            if self._sizes[second] >= _BLOCK_BYTES and (not second or not self._first_left):
                blocks += self._flush(route, both=second)
        return blocks

    def _finish(self) -> list[tuple[int, int, bytes]]:
        blocks = self._flush(self._route, both=True) if self._route else []
        self._route = None
        return blocks

    def _flush(self, route: Route, *, both: bool) -> list[tuple[int, int, bytes]]:
        blocks = []
        for which, entry in enumerate((route.first, route.second) if both else (route.first,)):
            lines = self._lines[which]
            start = size = 0
            for end, line in enumerate(lines, 1):
                size += len(line)
                if entry is not None and (size >= _BLOCK_BYTES or end == len(lines)):
                    blocks.append((entry, end - start, "".join(lines[start:end]).encode()))
                    start, size = end, 0
            lines.clear()
            self._sizes[which] = 0
        return blocks
