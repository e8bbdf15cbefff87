"""Taking a backup file from anywhere into the archive: a bundle, a sealed one, or a backup file of the platform."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import BackupRecord
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
from protocol.manifest import Kind
from protocol.names import bundle_name

_PIECE = 1 << 20


class NotToBeTakenIn(OperationError):
    code = "not-a-backup"
    hint = "An undo bundle takes one restore back, on the laptop that made it."


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A file that is in the archive now. ``known`` is how this laptop knows its maker (see ``inspect``); ``signed``:
    it was a bundle; ``again``: it was there already."""

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

    ``ask`` is asked for the passphrase of a sealed file. Raises ``protocol.errors.BundleError`` for a damaged bundle,
    ``SealingError``, :class:`NotToBeTakenIn` and what ``import_file`` raises; then nothing was kept.
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
    kept_there = workspace.archive.locate(there.path) if there is not None and there.removed_at is None else None
    if there is not None and kept_there is not None and await asyncio.to_thread(kept_there.is_file):
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
        kept = await writer.commit(bundle_name(manifest))
    record = await record_of_file(workspace, manifest, kept, raw_size=bundle.seal.raw_bytes, came="imported")
    await history.add_backup(record)
    held = {"verified_at": utc_now(), "damaged_at": None, "damage": None, "removed_at": None, "removed_why": None}
    return TakenIn(await history.change_backup(record.id, **held), known, True, False, manifest.warnings)
