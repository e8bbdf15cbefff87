"""A bundle as the platform's own backup file: rows decoded block by block, streamed, in bounded memory.

The metadata comes first in the file and holds the totals and checksums of what follows, so the rows' text waits in a
temporary file, packed.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import sys
import tempfile
import zlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO

import zstandard

from agent.engine.backup import Sink
from agent.engine.bundle_file import BundleSource
from agent.engine.errors import EngineError
from agent.engine.json_names import file_key
from agent.engine.progress import Progress, Step, silent
from agent.tables.catalogue import Catalogue
from protocol.frames import EncodedFrame, decode_block
from protocol.manifest import Kind, Manifest, Section, TableEntry
from protocol.platform_json.errors import ValueMisfit
from protocol.platform_json.json_text import quote
from protocol.platform_json.metadata import Metadata, Stats
from protocol.platform_json.provenance import Provenance
from protocol.platform_json.reader import BUSINESS, DEVICE
from protocol.platform_json.to_json import FieldWriter, Notes, field_writer

_CHUNK_BYTES = 1 << 20
_GZIP = 31
_LEVEL = 6


class NotInFile(EngineError):
    """A bundle that cannot be said in the platform's form."""

    code = "not-exportable"
    hint = "Inspect the bundle with `backroom inspect`; restore it instead of exporting it."


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export: the file's metadata, its ``bytes``, and in ``notes`` what the platform's form cannot hold."""

    metadata: Metadata
    bytes: int
    seconds: float
    notes: tuple[str, ...]


async def export_json(
    source: BundleSource,
    catalogue: Catalogue,
    sink: Sink,
    spool: Path,
    *,
    own_node: str,
    compress: bool = True,
    progress: Progress = silent,
) -> ExportResult:
    """Write the bundle as a platform backup file, version 3.0; ``compress``: gzip. ``spool`` is a folder to wait in.

    Raises what ``source`` raises, ``NotInFile``, ``ValueMisfit`` for a row that is not what its column says, and
    ``OSError``.
    """
    started = monotonic()
    manifest = source.manifest
    with _Sections(manifest, catalogue, spool) as sections:
        frames = source.frames()
        done = read = 0
        try:
            async for frame in frames:
                await asyncio.to_thread(sections.add, frame)
                done += frame.rows
                read += len(frame.data)
                progress(Step("exporting", done, manifest.total_rows, manifest.tables[frame.entry].table, bytes=read))
        finally:
            await frames.aclose()
        await asyncio.to_thread(sections.finish)
        metadata = _metadata(manifest, sections, own_node)
        size = 0
        async for data in _file(metadata, sections, compress=compress):
            await sink.write(data)
            size += len(data)
    return ExportResult(metadata, size, monotonic() - started, sections.notes.lines())


async def _file(metadata: Metadata, sections: _Sections, *, compress: bool) -> AsyncGenerator[bytes, None]:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if compress else None
    pieces = _pieces(metadata, sections)

    def next_piece() -> bytes | None:
        piece = next(pieces, None)
        return piece if piece is None or packer is None else packer.compress(piece)

    while (data := await asyncio.to_thread(next_piece)) is not None:
        if data:
            yield data
    if packer is not None:
        yield packer.flush()


def _pieces(metadata: Metadata, sections: _Sections) -> Iterator[bytes]:
    yield b'{"metadata":' + metadata.encode().encode()
    for name, section in sections.present():
        yield f',"{name}":'.encode()
        yield from section.read()
    yield b"}"


@dataclass(slots=True)
class _Section:
    """The text of one section, on its way into a temporary file: packed, hashed, counted."""

    file: IO[bytes]
    packer: zstandard.ZstdCompressionObj
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    rows: int = 0
    tables: set[str] = field(default_factory=set)

    def write(self, text: str) -> None:
        data = text.encode()
        self.digest.update(data)
        self.size += len(data)
        if packed := self.packer.compress(data):
            self.file.write(packed)

    def finish(self) -> None:
        self.write("}")
        self.file.write(self.packer.flush())

    def read(self) -> Iterator[bytes]:
        self.file.seek(0)
        yield from zstandard.ZstdDecompressor().read_to_iter(self.file, write_size=_CHUNK_BYTES)


class _Sections:
    """Both sections of the file. Entries are written in the manifest's order, those of one table as one array."""

    def __init__(self, manifest: Manifest, catalogue: Catalogue, spool: Path) -> None:
        provenance = Provenance.find(manifest.warnings)
        self._manifest = manifest
        self._verbatim = provenance is not None
        self._omit_nulls = provenance is not None and provenance.nulls_left_out
        self._keys = [file_key(entry.table, catalogue) for entry in manifest.tables]
        self._next = 0
        self._open: tuple[_Section, str] | None = None
        self._empty = True
        self._rows_before = 0
        self._writers: list[tuple[str, str, FieldWriter]] = []
        self._files = [tempfile.TemporaryFile(dir=spool) for _ in range(2)]  # noqa: SIM115 - closed by __exit__
        self._business, self._device = (_Section(f, zstandard.ZstdCompressor(1).compressobj()) for f in self._files)
        self.notes = Notes()
        self.stubs: dict[str, tuple[int, int]] = {}
        self._check_names()

    def __enter__(self) -> _Sections:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for file in self._files:
            file.close()

    def _check_names(self) -> None:
        """Every array stands in one place and holds one table: so do those of every bundle that Backroom makes."""
        entries = zip(self._manifest.tables, self._keys, strict=True)
        places = [(entry.section is Section.DEVICE, key, entry.table) for entry, key in entries]
        runs = [place for place, _ in groupby(places)]
        if len({run[:2] for run in runs}) != len(runs):
            raise NotInFile("The tables of the bundle cannot be laid out in one file: one name comes twice.")

    @property
    def business(self) -> _Section:
        return self._business

    @property
    def device(self) -> _Section:
        return self._device

    def present(self) -> list[tuple[str, _Section]]:
        """The sections of the file, by name."""
        held = any(entry.section is Section.DEVICE for entry in self._manifest.tables)
        return [(BUSINESS, self._business), *([(DEVICE, self._device)] if held else [])]

    def add(self, frame: EncodedFrame) -> None:
        """Write the rows of the next frame."""
        self._advance(frame.entry)
        entry = self._manifest.tables[frame.entry]
        assert self._open is not None
        section = self._open[0]
        text = ",".join(map(self._row, decode_block(frame).decode().removesuffix("\n").split("\n")))
        mark = "" if self._empty else ","
        section.write(mark + text)
        self._empty = False
        section.rows += frame.rows
        section.tables.add(entry.table)

    def finish(self) -> None:
        """Close both sections."""
        self._advance(len(self._manifest.tables) - 1)
        if self._open is not None:
            self._open[0].write("]")
        for section in (self._business, self._device):
            if not section.size:
                section.write("{")
            section.finish()

    def _advance(self, index: int) -> None:
        """Open the arrays up to the entry ``index``; those between have no rows."""
        while self._next <= index:
            entry, key = self._manifest.tables[self._next], self._keys[self._next]
            section = self._device if entry.section is Section.DEVICE else self._business
            if self._open != (section, key):
                self._begin(section, key)
            if entry.stub:
                self.stubs[key] = (self._rows_before, self._rows_before + entry.rows)
            self._rows_before += entry.rows
            self._writers = self._columns(entry)
            self._next += 1

    def _begin(self, section: _Section, key: str) -> None:
        if self._open is not None:
            self._open[0].write("]")
        section.write(f"{',' if section.size else '{'}{quote(key)}:[")
        self._open = (section, key)
        self._empty = True
        self._rows_before = 0

    def _columns(self, entry: TableEntry) -> list[tuple[str, str, FieldWriter]]:
        return [
            (
                column.name,
                f"{quote(column.name)}:",
                field_writer(entry.table, column, self.notes, verbatim=self._verbatim, omit_nulls=self._omit_nulls),
            )
            for column in entry.columns
        ]

    def _row(self, line: str) -> str:
        fields = line.split("\t")
        entry = self._manifest.tables[self._next - 1]
        if len(fields) != len(self._writers):
            raise NotInFile(f"A row of {entry.table} in the bundle has not the columns that its manifest says.")
        parts = []
        for (name, key, write), raw in zip(self._writers, fields, strict=True):
            try:
                text = write(raw)
            except ValueMisfit as misfit:
                raise NotInFile(f"A value of {entry.table}.{name} in the bundle {misfit.reason}.") from misfit
            if text is not None:
                parts.append(key + text)
        return "{" + ",".join(parts) + "}"


def _metadata(manifest: Manifest, sections: _Sections, own_node: str) -> Metadata:
    business, device = sections.business, sections.device
    provenance = Provenance.find(manifest.warnings)
    own = manifest.source_node == own_node
    made_here = Metadata(
        source_node=manifest.source_node,
        source_device=manifest.source_device,
        source_hostname=platform.node() if own else manifest.source_device,
        source_platform=sys.platform if own else "unknown",
        timestamp=manifest.created,
        created_by=manifest.created_by,
        kind=manifest.kind,
        business_id=manifest.business.id if manifest.business else None,
        include_demo=manifest.options.include_demo,
        schema_version=manifest.schema_fingerprint,
        include_audit_logs=manifest.kind is not Kind.BUSINESS,
        stats=Stats(
            business.rows,
            device.rows,
            len(business.tables | device.tables),
            sum(section.size for _, section in sections.present()),
        ),
        checksums={name: section.digest.hexdigest() for name, section in sections.present()},
        stubs=sections.stubs,
    )
    if provenance is None:
        return made_here
    return replace(
        made_here,
        source_node=provenance.source_node,
        source_device=provenance.source_device,
        source_hostname=provenance.source_hostname,
        source_platform=provenance.source_platform,
        created_by=provenance.created_by,
        schema_version=provenance.schema_version,
        include_audit_logs=provenance.include_audit_logs,
    )
