"""Making backups into the archive or a file of the user's choice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from agent.archive.errors import HistoryError
from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.archive.steps import to_the_end
from agent.archive.writer import Writer
from agent.engine.backup import BackupRequest, BackupResult, backup
from agent.engine.progress import Progress, silent
from agent.growing import Growing
from agent.log import get_logger
from agent.operations.placing import keep_places
from agent.operations.remembering import Of, remember, remembered
from agent.operations.workspace import Workspace, utc_now
from protocol.manifest import Kind, Manifest
from protocol.names import bundle_name

if TYPE_CHECKING:
    from agent.sealing.age import Lock
    from agent.sealing.stream import Sealer

log = get_logger(__name__)

Opened = Callable[[Manifest, Growing], None]


def sealer(lock: Lock) -> Sealer:
    """What seals a file while it is written."""
    from agent.sealing.stream import Sealer  # only here: a backup into the archive starts without it

    return Sealer(lock)


@dataclass(frozen=True, slots=True)
class BackupMade:
    """A finished backup: its file (absolute), record, and what the engine says of it."""

    file: Path
    record: BackupRecord
    result: BackupResult

    def as_dict(self) -> dict[str, object]:
        manifest = self.result.manifest
        return {
            "kind": manifest.kind.value,
            "bundle_id": manifest.bundle_id,
            "file": str(self.file),
            "business": {"id": manifest.business.id, "name": manifest.business.name} if manifest.business else None,
            "created": manifest.created,
            "tables": manifest.table_count,
            "rows": manifest.total_rows,
            "stubs": sum(entry.rows for entry in manifest.tables if entry.stub),
            "bytes": self.record.size,
            "sealed": self.file.name.endswith(".age"),
            "raw_bytes": self.result.raw_bytes,
            "seconds": round(self.result.seconds, 3),
            "sha256": self.record.checksum,
            "warnings": list(manifest.warnings),
        }


class _FileSink:
    """The engine's sink over an archive writer: committed under the manifest's name where the backup ends well."""

    def __init__(self, writer: Writer, manifest: Manifest, opened: Opened | None) -> None:
        self.writer = writer
        self.manifest = manifest
        self.path: Path | None = None
        self._opened = opened

    async def __aenter__(self) -> Writer:
        writer = await self.writer.__aenter__()
        if self._opened is not None and (growing := writer.growing()) is not None:
            self._opened(self.manifest, growing)
        return writer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.path = await self.writer.commit(bundle_name(self.manifest))
        finally:
            await self.writer.__aexit__(kind, error, trace)


async def make_backup(
    workspace: Workspace,
    history: History,
    request: BackupRequest,
    *,
    output: Path | None = None,
    lock: Lock | None = None,
    opened: Opened | None = None,
    progress: Progress = silent,
) -> BackupMade:
    """Back up and record it. ``output`` is a file (that must not exist) or folder instead of the archive, where it is
    sealed with ``lock`` if there is one; the archive's own seal is the archive's affair. ``opened`` is told of a bundle
    that others may read while it is made; once more, if that one is given up for another.

    Raises errors of ``agent.database``, ``agent.engine`` and ``agent.archive``; then, and where it is cancelled before
    it is recorded, there is no file and no record.
    """
    sinks: list[_FileSink] = []

    def open_sink(manifest: Manifest) -> _FileSink:
        archive = workspace.archive
        encoder = sealer(lock) if lock is not None else None
        writer = archive.outside(output, encoder=encoder) if output else archive.writer(manifest.kind.value)
        sinks.append(_FileSink(writer, manifest, opened))
        return sinks[-1]

    # What reads the identity is loaded while the database is asked for its schema.
    origin = asyncio.ensure_future(asyncio.to_thread(workspace.origin))
    try:
        async with remembered(workspace, history, Of.MADE, request.business) as earlier:
            result = await backup(
                workspace.database_url,
                workspace.catalogue(),
                request,
                origin,
                open_sink,
                now=utc_now,
                earlier=earlier,
                progress=progress,
            )
        sink = sinks[-1]
        assert sink.path is not None
        record = backup_record(
            workspace,
            result.manifest,
            sink.path,
            size=sink.writer.size,
            raw_size=result.raw_bytes,
            checksum=sink.writer.sha256,
            came="made",
        )
        record = await to_the_end(history.add_backup(record))
    except BaseException:
        await to_the_end(_take_back(workspace, history, sinks))
        raise
    finally:
        await asyncio.gather(origin, return_exceptions=True)
    if request.business is not None and output is None:
        await keep_places(workspace.home, record.id, result.places)
        if result.known is not None:
            await remember(workspace, Of.MADE, request.business, result.known)
    return BackupMade(sink.path, record, result)


async def _take_back(workspace: Workspace, history: History, sinks: Sequence[_FileSink]) -> None:
    """Remove the files of a backup that did not end well.

    A record may be there after all: it goes first, and if it cannot, the file stays. No record is without its file.
    """
    for sink in sinks:
        if sink.path is None:
            continue
        try:
            try:
                await history.remove_backup(sink.manifest.bundle_id)  # waits for one that is being written
            except HistoryError:
                if await history.backup(sink.manifest.bundle_id) is not None:
                    raise
            await workspace.archive.remove(sink.path)
        except Exception as error:
            # What ended the backup is what is to be told.
            log.warning("a backup that did not end well is still there", file=sink.path.name, reason=str(error))


def backup_record(
    workspace: Workspace, manifest: Manifest, path: Path, *, size: int, raw_size: int, checksum: str, came: str
) -> BackupRecord:
    """The history's record of a bundle file. ``came`` says how it came to be here: made, received, pulled."""
    return BackupRecord(
        id=manifest.bundle_id,
        filename=path.name,
        path=workspace.archive.stored_path(path),
        kind=manifest.kind.value,
        created_at=manifest.created,
        created_by=manifest.created_by,
        source_node=manifest.source_node,
        source_device=manifest.source_device,
        size=size,
        raw_size=raw_size,
        records=manifest.total_rows,
        tables=manifest.table_count,
        checksum=checksum,
        schema_fingerprint=manifest.schema_fingerprint,
        business_id=manifest.business.id if manifest.business else None,
        business_name=manifest.business.name if manifest.business else None,
        origin=came,
        options={"compress": manifest.options.compress, "include_demo": manifest.options.include_demo},
    )


async def record_of_file(
    workspace: Workspace, manifest: Manifest, path: Path, *, raw_size: int, came: str
) -> BackupRecord:
    """The record of a bundle that is in the archive by now: size and checksum are of the file as it lies there."""
    size = (await asyncio.to_thread(path.stat)).st_size
    checksum = await workspace.archive.checksum(path)
    return backup_record(workspace, manifest, path, size=size, raw_size=raw_size, checksum=checksum, came=came)


def kind_of(*, full: bool, business: str | None, full_device: bool) -> Kind | None:
    """The one kind that was asked for; None where not exactly one was."""
    asked = [
        kind
        for kind, given in ((Kind.FULL, full), (Kind.BUSINESS, business is not None), (Kind.FULL_DEVICE, full_device))
        if given
    ]
    return asked[0] if len(asked) == 1 else None
