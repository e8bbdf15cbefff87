"""The platform's own backup files: a bundle written as one, one taken into the archive as a bundle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from agent.archive.history import History, new_id
from agent.archive.records import BackupRecord
from agent.archive.writer import Writer
from agent.database.connect import connect
from agent.database.errors import translating
from agent.database.reflect import reflect
from agent.engine.backup import Origin
from agent.engine.bundle_file import verify_bundle
from agent.engine.export_json import ExportResult, export_json
from agent.engine.import_json import Live, Looked, look_at_file, write_bundle
from agent.engine.import_plan import ImportOptions
from agent.engine.progress import Progress, silent
from agent.operations.backups import backup_record, sealer
from agent.operations.care import untrash
from agent.operations.errors import OperationError
from agent.operations.inspect import known_as, telling_bytes
from agent.operations.workspace import Workspace, utc_now
from agent.reading import size_of
from agent.sealing.age import Lock
from agent.tables.infer import classify
from certs.identity import verify_signature
from protocol.manifest import Manifest
from protocol.names import bundle_name


class FileUnreadable(OperationError):
    code = "file-unreadable"
    hint = "Check the name, and that this user may read the file."


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export, ``size`` bytes. ``known`` is how this laptop knows the bundle's maker (see ``inspect``)."""

    file: Path
    manifest: Manifest
    result: ExportResult
    size: int
    sha256: str
    known: str

    def as_dict(self) -> dict[str, object]:
        stats = self.result.metadata.stats
        return {
            "file": str(self.file),
            "format": "json",
            "compressed": self.file.name.removesuffix(".age").endswith(".gz"),
            "sealed": self.file.name.endswith(".age"),
            "bytes": self.size,
            "sha256": self.sha256,
            "bundle_id": self.manifest.bundle_id,
            "kind": self.manifest.kind.value,
            "made_by": {"node_id": self.manifest.source_node, "known": self.known},
            "rows": self.manifest.total_rows,
            "tables": stats.tables if stats else 0,
            "checksums": dict(self.result.metadata.checksums),
            "notes": list(self.result.notes),
            "seconds": round(self.result.seconds, 3),
        }


async def export_bundle(
    workspace: Workspace,
    path: Path,
    *,
    output: Path | None = None,
    compress: bool = True,
    lock: Lock | None = None,
    progress: Progress = silent,
) -> Exported:
    """Write the bundle at ``path`` as a platform backup file: into the present folder, or as ``output`` (a folder, or a
    file that does not exist; a name that ends in ``.json`` means no compression), sealed with ``lock`` if there is one.

    Raises ``protocol.errors.BundleError`` for a damaged bundle and errors of ``agent.engine`` and ``agent.archive``;
    then there is no file. Whose bundle it is does not matter: nothing is restored.
    """
    opener = workspace.bundle_files.open
    told = telling_bytes(progress, "verifying", await asyncio.to_thread(size_of, path, opener), path.name)
    bundle = await verify_bundle(path, verify_signature, told=told, opener=opener)
    compress = compress and not (output is not None and output.name.removesuffix(".age").endswith(".json"))
    home = workspace.home.ensure()
    encoder = sealer(lock) if lock is not None else None
    async with workspace.archive.outside(output or Path.cwd(), encoder=encoder) as writer:
        result = await export_json(
            bundle,
            workspace.catalogue(),
            writer,
            home.spool,
            own_node=workspace.store.identity().node_id,
            compress=compress,
            progress=progress,
        )
        file = await writer.commit(bundle_name(bundle.manifest, ".json.gz" if compress else ".json"))
    return Exported(file, bundle.manifest, result, writer.size, writer.sha256, known_as(workspace, bundle.signer))


@dataclass(frozen=True, slots=True)
class Imported:
    """A platform backup file that is now a bundle of the archive, at ``file``; ``again``: it was there already.

    ``manifest`` is the bundle's, ``looked`` what was found in the platform's file, ``seconds`` for all of it.
    """

    file: Path
    record: BackupRecord
    manifest: Manifest
    looked: Looked
    seconds: float
    again: bool = False

    def as_dict(self) -> dict[str, object]:
        manifest, metadata = self.manifest, self.looked.metadata
        return {
            "source": str(self.looked.path),
            "file": str(self.file),
            "already_there": self.again,
            "bundle_id": manifest.bundle_id,
            "kind": manifest.kind.value,
            "business": {"id": manifest.business.id, "name": manifest.business.name} if manifest.business else None,
            "created": manifest.created,
            "says_of_itself": {
                "node_id": metadata.source_node,
                "device": metadata.source_device,
                "created_by": metadata.created_by,
                "backup_type": metadata.kind.value,
            },
            "signed": False,
            "checksum": "holds" if self.looked.checked else "none",
            "tables": manifest.table_count,
            "rows": manifest.total_rows,
            "bytes": self.record.size,
            "sha256": self.record.checksum,
            "seconds": round(self.seconds, 3),
            "warnings": list(manifest.warnings[1:]),
        }


async def import_file(
    workspace: Workspace,
    history: History,
    path: Path,
    *,
    options: ImportOptions = ImportOptions(),  # noqa: B008 - frozen
    progress: Progress = silent,
) -> Imported:
    """Take a platform backup file into the archive: checked, typed by the live schema, sealed by this device.

    A file that was imported before, into the same schema, is found again and not kept twice: in the archive, or in the
    trash, which it is taken back from (``HomeBusyError`` where another process prunes). The database is not changed.
    Raises errors of ``protocol.platform_json``, ``agent.engine.import_errors``, ``agent.archive`` and
    ``agent.database``, and :class:`FileUnreadable`; then nothing was kept.
    """
    started = monotonic()
    live, origin = await live_database(workspace), workspace.origin()
    try:
        opener = workspace.bundle_files.open
        looked = await look_at_file(path, live, origin, now=utc_now, options=options, progress=progress, opener=opener)
        manifest = looked.plan.manifest
        record = await history.backup(manifest.bundle_id)
        if record is not None:
            file = workspace.archive.locate(record.path)
            if record.damaged_at is None and await asyncio.to_thread(file.is_file):
                if record.removed_at is not None:
                    record = await untrash(workspace, history, record.id)
                    file = workspace.archive.locate(record.path)
                return Imported(file, record, manifest, looked, monotonic() - started, again=True)
            # It was thrown away for good, or is damaged: this is another bundle.
            manifest = replace(manifest, bundle_id=new_id())
            looked = replace(looked, plan=replace(looked.plan, manifest=manifest))
        file, record = await _keep(workspace, looked, live, origin, progress)
    except OSError as error:
        raise FileUnreadable(f"{path} cannot be read: {error.strerror or error}.") from error
    return Imported(file, await history.add_backup(record), manifest, looked, monotonic() - started)


async def _keep(
    workspace: Workspace, looked: Looked, live: Live, origin: Origin, progress: Progress
) -> tuple[Path, BackupRecord]:
    """Write the bundle into the archive; its file and the record to be kept of it."""
    placed: list[tuple[Path, Writer]] = []

    @asynccontextmanager
    async def into_archive(manifest: Manifest) -> AsyncIterator[Writer]:
        async with workspace.archive.writer(manifest.kind.value) as writer:
            yield writer
            placed.append((await writer.commit(bundle_name(manifest)), writer))

    result = await write_bundle(looked, live, origin, into_archive, progress=progress)
    ((file, writer),) = placed
    record = backup_record(
        workspace,
        result.manifest,
        file,
        size=writer.size,
        raw_size=result.raw_bytes,
        checksum=writer.sha256,
        came="imported",
    )
    claims = {
        "file": looked.path.name,
        "node_id": looked.metadata.source_node,
        "device": looked.metadata.source_device,
    }
    return file, replace(record, options={**record.options, "imported_from": claims})


async def live_database(workspace: Workspace) -> Live:
    """The live schema, its classification and the server's version."""
    connection = await connect(workspace.database_url, application_name="backroom: import")
    try:
        with translating("Looking at the database"):
            schema = await reflect(connection)
            version = ".".join(str(part) for part in connection.get_server_version()[:2])
            return Live(schema, classify(schema, workspace.catalogue()), version)
    finally:
        await connection.close(timeout=5)
