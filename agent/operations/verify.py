"""Verifying what is in the archive, and noting in the history what held and what did not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import ConfigError
from agent.database.errors import DatabaseError
from agent.engine.bundle_file import verify_bundle
from agent.engine.closure import LookedInto, bundle_edges, look_into
from agent.engine.progress import Progress, silent
from agent.operations.care import look_over
from agent.operations.inspect import known_as, telling_bytes
from agent.operations.look import schema_of
from agent.operations.workspace import Workspace, utc_now
from agent.sealing.errors import KeyNeededError, SealingError
from agent.tables.errors import TablesError
from agent.tables.schema import Schema
from certs.errors import TrustError
from certs.identity import verify_signature
from protocol.errors import ProtocolError
from protocol.manifest import Kind

EVERY = timedelta(days=30)
OUT_OF_REACH = frozenset({"file-gone", "unreadable", KeyNeededError.code})
"""Problems that say nothing of the file: its disk or share is away, or the key that opens it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """One file and whether it holds. ``known`` as in ``inspect``, or "sealed" where only the checksum was looked at;
    ``looked`` is there after a deep look."""

    file: Path
    record: BackupRecord | None
    problem: str
    problem_code: str
    known: str
    size: int
    seconds: float
    looked: LookedInto | None = None

    @property
    def ok(self) -> bool:
        return not self.problem

    def as_dict(self) -> dict[str, object]:
        looked = self.looked
        return {
            "file": str(self.file),
            "bundle_id": self.record.id if self.record else None,
            "ok": self.ok,
            "problem": {"code": self.problem_code, "message": self.problem} if self.problem else None,
            "made_by": self.known,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            "deep": {"rows": looked.rows, "keys": looked.edges, "references": looked.references} if looked else None,
        }


async def files_to_verify(
    workspace: Workspace, history: History, *, due: bool = False
) -> tuple[tuple[Path, BackupRecord | None], ...]:
    """All bundles of the archive and of the history, least recently verified first; ``due``: not in the last 30 days.

    Records whose file is gone and files without record are among them.
    """
    seen = await look_over(workspace, history)
    before = utc_now() - EVERY
    records = [*seen.present, *seen.without_file, *(each.record for each in seen.renamed)]
    if due:
        records = [each for each in records if each.verified_at is None or each.verified_at < before]
    records.sort(key=lambda each: (each.verified_at is not None, each.verified_at or each.created_at, each.id))
    renamed = {each.record.id: each.file for each in seen.renamed}
    known = [(renamed.get(each.id) or workspace.archive.locate(each.path), each) for each in records]
    strangers = [*seen.without_record, *(path for path, _ in seen.unreadable)]
    return (*((path, None) for path in strangers), *known)


async def find_files(
    workspace: Workspace, history: History, texts: tuple[str, ...]
) -> tuple[tuple[Path, BackupRecord | None], ...]:
    """The files that the user means, each with its record where it has one."""
    by_path = {workspace.archive.locate(record.path): record for record in await history.backups()}
    found = [await workspace.archive.find(text, history) for text in texts]
    return tuple((path, by_path.get(path)) for path in found)


async def verify_files(
    workspace: Workspace,
    history: History,
    files: tuple[tuple[Path, BackupRecord | None], ...],
    *,
    deep: bool = False,
    progress: Progress = silent,
) -> AsyncIterator[Verified]:
    """Verify one file after another. What is wrong with one is its verdict and no error.

    ``deep`` unpacks every block too, and follows every reference where this laptop's database has the schema that the
    bundle was made from: only then is it known which references there were.
    """
    schema = await _live_schema(workspace) if deep else None
    sizes = await asyncio.to_thread(lambda: [_size(path) for path, _ in files])
    before = 0
    for (path, record), size in zip(files, sizes, strict=True):
        told = telling_bytes(progress, "verifying", sum(sizes), path.name, before)
        verified = await _verify(workspace, path, record, deep=deep, schema=schema, progress=progress, told=told)
        before += size
        await note_verified(history, verified)
        yield verified


async def note_verified(history: History, verified: Verified) -> None:
    """Keep the verdict in the history, if the file has a record there.

    One that was only out of reach counts as verified no more, and as damaged only if it did before.
    """
    if verified.record is None:
        return
    noted: dict[str, object]
    if verified.ok:
        noted = {"verified_at": utc_now(), "damaged_at": None, "damage": None}
    elif verified.problem_code in OUT_OF_REACH:
        noted = {"verified_at": None}
    else:
        noted = {"verified_at": None, "damaged_at": utc_now(), "damage": verified.problem}
    await history.change_backup(verified.record.id, **noted)


async def why_not_damaged(workspace: Workspace, history: History, record: BackupRecord) -> str | None:
    """Look anew, and as deep as can be, at a backup that is noted as damaged; None where it is.

    Else it holds, which is noted, or it cannot be looked at now: then nobody may throw it away as damaged.
    """
    files = ((workspace.archive.locate(record.path), record),)
    (verified,) = [each async for each in verify_files(workspace, history, files, deep=True)]
    if verified.ok:
        return "it was noted as damaged, and holds"
    if verified.problem_code in OUT_OF_REACH:
        return f"it is noted as damaged, and cannot be looked at anew: {verified.problem}"
    return None


async def _verify(
    workspace: Workspace,
    path: Path,
    record: BackupRecord | None,
    *,
    deep: bool,
    schema: Schema | None,
    progress: Progress,
    told: Callable[[int], None],
) -> Verified:
    started = monotonic()
    size = 0
    known = "unknown"
    looked = None
    problem, code = "", ""
    try:
        opener = workspace.bundle_files.open
        if await _only_by_sum(workspace, path, record):
            assert record is not None
            size = record.size
            if await workspace.archive.checksum(path) != record.checksum:
                problem, code = "The sealed file is not the one that was written.", "checksum"
            return Verified(path, record, problem, code, "sealed", size, monotonic() - started)
        bundle = await verify_bundle(path, verify_signature, told=told, opener=opener)
        size = bundle.size
        known = known_as(workspace, bundle.signer)
        if record is not None and (bundle.manifest.bundle_id, bundle.manifest.created) != (
            record.id,
            record.created_at,
        ):
            problem, code = "It is another bundle than the one that the history means.", "wrong-bundle"
        if deep and not problem:
            same = schema is not None and schema.fingerprint() == bundle.manifest.schema_fingerprint
            # What an undo bundle holds is rows as they were, and not what they refer to.
            closed = same and bundle.manifest.kind is not Kind.UNDO
            edges = bundle_edges(bundle.manifest, schema) if schema is not None and closed else ()
            looked = await asyncio.to_thread(look_into, path, edges, progress=progress, opener=opener)
            if looked.problems:
                problem, code = "; ".join(looked.problems[:10]), "not-closed"
    except (ProtocolError, TrustError, SealingError) as error:
        problem, code = str(error), error.code
    except FileNotFoundError:
        problem, code = "The file is gone.", "file-gone"
    except OSError as error:
        problem, code = f"The file cannot be read: {error.strerror or error}.", "unreadable"
    return Verified(path, record, problem, code, known, size, monotonic() - started, looked)


async def _only_by_sum(workspace: Workspace, path: Path, record: BackupRecord | None) -> bool:
    """Whether it is a sealed copy outside the archive that nothing here opens by itself: its checksum has to do."""
    if record is None or path.is_relative_to(workspace.home.archive):
        return False
    return not await asyncio.to_thread(workspace.bundle_files.opens, path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


async def _live_schema(workspace: Workspace) -> Schema | None:
    """The schema of this laptop's database; None where it does not answer: then references are not followed."""
    try:
        return (await schema_of(workspace))[0]
    except (DatabaseError, TablesError, ConfigError):
        return None
