"""Keeping files and history of the archive together: check, rebuild, notes, pins, and taking back from the trash."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from agent.archive.errors import NoSuchRecordError
from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.archive.trash import take_back
from agent.engine.bundle_file import manifest_of, verify_bundle
from agent.engine.progress import Progress, Step, silent
from agent.operations.workspace import Workspace, utc_now
from agent.sealing.errors import SealingError
from certs.errors import TrustError
from protocol.errors import ProtocolError
from protocol.manifest import Kind

GONE = "the file is gone"


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file without record that is the file of a record whose own is not there."""

    record: BackupRecord
    file: Path


@dataclass(frozen=True, slots=True)
class ArchiveSeen:
    """Files and records held against each other.

    ``present``: records whose file is where they say; ``without_file``: records whose file is nowhere;
    ``without_record``: bundle files that nobody noted; ``unreadable``: files that cannot be noted, and why.
    """

    present: tuple[BackupRecord, ...]
    without_file: tuple[BackupRecord, ...]
    without_record: tuple[Path, ...]
    renamed: tuple[Renamed, ...]
    unreadable: tuple[tuple[Path, str], ...]

    @property
    def whole(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.without_file or self.without_record or self.renamed or self.unreadable)

    def as_dict(self) -> dict[str, object]:
        return {
            "whole": self.whole,
            "present": len(self.present),
            "without_file": [{"bundle_id": each.id, "path": each.path} for each in self.without_file],
            "without_record": [str(path) for path in self.without_record],
            "renamed": [{"bundle_id": each.record.id, "file": str(each.file)} for each in self.renamed],
            "unreadable": [{"file": str(path), "problem": problem} for path, problem in self.unreadable],
            "damaged": [{"bundle_id": each.id, "problem": each.damage} for each in self.present if each.damage],
        }


async def look_over(workspace: Workspace, history: History) -> ArchiveSeen:
    """Hold the files of the archive against the history. Reads the manifests of files without record alone.

    Records of files outside the archive (``--output``) are looked at too. Changes nothing.
    """
    archive = workspace.archive
    paths = {item.path for item in await archive.bundles()}
    records = await history.backups()
    located = [(record, archive.locate(record.path)) for record in records]

    def there() -> set[str]:
        return {record.id for record, path in located if path in paths or path.is_file()}

    here = await asyncio.to_thread(there)
    unknown = sorted(paths - {path for record, path in located if record.id in here})
    missing = {record.id: record for record, _ in located if record.id not in here}
    renamed, without_record, unreadable = [], [], []
    for path in unknown:
        try:
            manifest = await asyncio.to_thread(manifest_of, path, workspace.bundle_files.open)
        except OSError as error:
            unreadable.append((path, str(error.strerror)))
            continue
        except SealingError as error:
            unreadable.append((path, str(error)))
            continue
        if manifest is None:
            unreadable.append((path, "It is no bundle, or its head is damaged."))
        elif manifest.bundle_id in here:
            unreadable.append((path, f"It is a second copy of bundle {manifest.bundle_id}."))
        elif manifest.bundle_id in missing:
            renamed.append(Renamed(missing.pop(manifest.bundle_id), path))
        else:
            without_record.append(path)
    return ArchiveSeen(
        present=tuple(record for record in records if record.id in here),
        without_file=tuple(missing.values()),
        without_record=tuple(without_record),
        renamed=tuple(renamed),
        unreadable=tuple(unreadable),
    )


async def follow_renames(workspace: Workspace, history: History, seen: ArchiveSeen) -> ArchiveSeen:
    """Note where renamed files are now; what was seen with them in their places."""
    followed = []
    for each in seen.renamed:
        path = workspace.archive.stored_path(each.file)
        followed.append(await history.add_backup(replace(each.record, path=path, filename=each.file.name)))
    return replace(seen, present=(*seen.present, *followed), renamed=())


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild of the history did. ``refused``: files that are not what their manifest says, and why."""

    added: tuple[BackupRecord, ...]
    renamed: tuple[BackupRecord, ...]
    gone: tuple[BackupRecord, ...]
    refused: tuple[tuple[Path, str], ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "added": [{"bundle_id": each.id, "path": each.path} for each in self.added],
            "renamed": [{"bundle_id": each.id, "path": each.path} for each in self.renamed],
            "gone": [{"bundle_id": each.id, "path": each.path} for each in self.gone],
            "refused": [{"file": str(path), "problem": problem} for path, problem in self.refused],
        }


async def rebuild(workspace: Workspace, history: History, *, progress: Progress = silent) -> Rebuilt:
    """Make the history say what the archive holds, from the bundles' signed manifests.

    Every file without record is verified to its last byte before it is believed. Records whose file is nowhere stay,
    as removed. Notes, pins and all other records stay as they are.
    """
    seen = await look_over(workspace, history)
    await follow_renames(workspace, history, seen)
    added, refused = [], list(seen.unreadable)
    for place, path in enumerate(seen.without_record):
        progress(Step("taking in", place, len(seen.without_record), path.name, "files"))
        try:
            added.append(await _take_in(workspace, history, path))
        except (ProtocolError, TrustError, SealingError) as error:
            refused.append((path, str(error)))
        except OSError as error:
            refused.append((path, str(error.strerror)))
    for record in seen.without_file:
        await history.change_backup(record.id, removed_at=utc_now(), removed_why=GONE)
    return Rebuilt(tuple(added), tuple(each.record for each in seen.renamed), seen.without_file, tuple(refused))


async def _take_in(workspace: Workspace, history: History, path: Path) -> BackupRecord:
    from agent.operations.backups import backup_record  # only here: looking must be quick
    from certs.identity import verify_signature

    bundle = await verify_bundle(path, verify_signature, opener=workspace.bundle_files.open)
    own = workspace.store.identity().node_id
    came = "made" if bundle.manifest.source_node == own else "received"
    record = backup_record(
        workspace,
        bundle.manifest,
        path,
        size=(await asyncio.to_thread(path.stat)).st_size,
        raw_size=bundle.seal.raw_bytes,
        checksum=await workspace.archive.checksum(path),
        came="undo" if bundle.manifest.kind is Kind.UNDO else came,
    )
    await history.add_backup(record)
    held = {"verified_at": utc_now(), "damaged_at": None, "damage": None}
    return await history.change_backup(record.id, **held, removed_at=None, removed_why=None)


async def find_record(history: History, text: str, *, removed: bool = False) -> BackupRecord:
    """The backup that the user means. Raises ``NoSuchRecordError`` or ``AmbiguousBundleError``."""
    record = await history.find_backup(text, removed=removed)
    if record is None:
        raise NoSuchRecordError(f"The history has no backup {text!r}.", "See `backroom history`.")
    return record


async def note(history: History, text: str, words: str) -> BackupRecord:
    """Put a note on a backup; empty words take it away."""
    return await history.change_backup((await find_record(history, text)).id, notes=words.strip() or None)


async def pin(history: History, text: str, *, pinned: bool) -> BackupRecord:
    """Pin a backup, so that no rule removes it, or unpin it."""
    return await history.change_backup((await find_record(history, text)).id, pinned=pinned)


async def untrash(workspace: Workspace, history: History, text: str) -> BackupRecord:
    """Take a backup back out of the trash, and pin it: the rule that removed it would do so again.

    ``text`` is an ID, its beginning, or the name that the file had in the archive. Raises ``NoSuchRecordError``,
    ``NoSuchBundleError`` where its file is gone, and ``HomeBusyError`` where another process prunes: between file and
    record, that would take it for one whose move to the trash was cut off.
    """
    archive = workspace.archive
    with workspace.home.lock("prune"):
        record = await find_record(history, text, removed=True)
        if record.removed_at is None:
            raise NoSuchRecordError(f"{record.filename} is not in the trash.", "See `backroom history --removed`.")
        path = archive.locate(record.path)
        # One whose file was only noted as gone may be back where it was.
        if path.parent != archive.folder(record.kind) or not await asyncio.to_thread(path.is_file):
            path = await take_back(archive, path, record.kind, record.filename)
        await history.add_backup(replace(record, path=archive.stored_path(path), filename=path.name))
        return await history.change_backup(record.id, removed_at=None, removed_why=None, pinned=True)
