"""Taking a backup file from anywhere into the archive: a bundle, a sealed one, or a backup file of the platform."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.archive import files
from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.archive.writer import Writer
from agent.engine.bundle_file import verify_bundle
from agent.engine.import_plan import ImportOptions
from agent.engine.progress import BYTES, Progress, Step, silent
from agent.operations.backups import record_of_file
from agent.operations.errors import OperationError
from agent.operations.inspect import PlatformFile, known_as, refuse_platform_file
from agent.operations.keys import Ask, unlock
from agent.operations.platform_json import import_file
from agent.operations.workspace import Workspace, utc_now
from certs.identity import verify_signature
from protocol.manifest import Kind, Manifest
from protocol.names import bundle_name

_PIECE = 1 << 20


class NotToBeTakenIn(OperationError):
    code = "not-a-backup"
    hint = "An undo bundle takes one restore back, on the laptop that made it."


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A file that is in the archive now. ``known`` is how this laptop knows its maker (see ``inspect``); ``signed``:
    it was a bundle; ``again``: it was there already, and not known to be damaged."""

    record: BackupRecord
    known: str
    signed: bool
    again: bool
    warnings: tuple[str, ...] = ()


async def take_in(
    workspace: Workspace,
    history: History,
    path: Path,
    ask: Ask,
    *,
    options: ImportOptions = ImportOptions(),  # noqa: B008 - frozen
    progress: Progress = silent,
) -> TakenIn:
    """Verify the file and keep a copy of it in the archive; ``path`` stays. The database is not changed.

    A copy of what is in the archive and noted as damaged takes the place of that. ``ask`` is asked for the passphrase
    of a sealed file. Raises ``protocol.errors.BundleError`` for a damaged bundle, ``SealingError``,
    :class:`NotToBeTakenIn`, ``HomeBusyError`` where a damaged one is to be replaced while another process prunes, and
    what ``import_file`` raises; then nothing was kept.
    """
    await unlock(workspace, path, ask)
    opener = workspace.bundle_files.open
    try:
        await asyncio.to_thread(refuse_platform_file, path, opener)
    except PlatformFile:
        made = await import_file(workspace, history, path, options=options, progress=progress)
        return TakenIn(made.record, "unknown", False, made.again, made.manifest.warnings[1:])
    progress(Step("checking"))
    bundle = await verify_bundle(path, verify_signature, opener=opener)
    manifest, known = bundle.manifest, known_as(workspace, bundle.signer)
    if manifest.kind is Kind.UNDO:
        raise NotToBeTakenIn(f"{path.name} is an undo bundle and no backup.")
    there = await history.backup(manifest.bundle_id)
    if there is not None and not await _is_kept(workspace, there):
        there = None
    if there is not None and not _mends(manifest, there):
        return TakenIn(there, known, True, True, manifest.warnings)
    size = (await asyncio.to_thread(path.stat)).st_size
    async with workspace.archive.writer(manifest.kind.value) as writer:
        file = await asyncio.to_thread(opener, path)
        try:
            done = 0
            while data := await asyncio.to_thread(file.read, _PIECE):
                await writer.write(data)
                done += len(data)
                progress(Step("taking in", min(done, size), size, path.name, BYTES))
        finally:
            await asyncio.to_thread(file.close)
        if there is not None:
            record = await _mended(workspace, history, there, writer, bundle_name(manifest))
            return TakenIn(record, known, True, False, manifest.warnings)
        kept = await writer.commit(bundle_name(manifest))
    record = await record_of_file(workspace, manifest, kept, raw_size=bundle.seal.raw_bytes, came="imported")
    return TakenIn(await _noted(history, record), known, True, False, manifest.warnings)


async def _is_kept(workspace: Workspace, record: BackupRecord) -> bool:
    """Whether the backup is in the archive: not thrown away, and its file is there."""
    path = workspace.archive.locate(record.path)
    return record.removed_at is None and await asyncio.to_thread(path.is_file)


def _mends(manifest: Manifest, record: BackupRecord) -> bool:
    """Whether a whole bundle may take the place of the backup's file. A stranger's with the same ID may not."""
    same = (manifest.source_node, manifest.created) == (record.source_node, record.created_at)
    return same and record.damaged_at is not None


async def _mended(
    workspace: Workspace, history: History, damaged: BackupRecord, writer: Writer, name: str
) -> BackupRecord:
    """Put what was written in the place of the damaged file, which goes only once the copy is safe on the disk.

    How the backup came, and when it was first noted, stays.
    """
    archive = workspace.archive
    with workspace.home.lock("prune"):
        damaged = await history.backup(damaged.id) or damaged  # pruning may have thrown it away meanwhile
        old, copy = archive.locate(damaged.path), await writer.commit(name)
        ours = damaged.removed_at is None and old.is_relative_to(workspace.home.archive)
        # A copy that is sealed where the old one was not, or the other way round, keeps its own name.
        if ours and files.split_suffix(old.name)[1] == files.split_suffix(copy.name)[1]:
            copy = await asyncio.to_thread(_replaced, old, copy)
        where = replace(damaged, path=archive.stored_path(copy), filename=copy.name)
        record = await _noted(history, replace(where, size=writer.size, checksum=writer.sha256))
        if ours and copy != old:
            with suppress(OSError):  # `archive check` names what stays
                await archive.remove(old)
        return record


def _replaced(old: Path, copy: Path) -> Path:
    """Give the copy the old file's place in one step; returns where the copy is."""
    try:
        copy.replace(old)
    except OSError:
        return copy  # Windows, where somebody has the old one open
    files.sync_folder(old.parent)
    return old


async def _noted(history: History, record: BackupRecord) -> BackupRecord:
    """Record a bundle that was just verified and is in the archive."""
    await history.add_backup(record)
    held = {"verified_at": utc_now(), "damaged_at": None, "damage": None, "removed_at": None, "removed_why": None}
    return await history.change_backup(record.id, **held)
