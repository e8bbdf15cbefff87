"""Drills: the newest bundle of each group is restored for real, somewhere that does not matter, and the result kept."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from agent.archive.errors import ArchiveError
from agent.archive.history import History, new_id
from agent.archive.records import FAILED, INTERRUPTED, PASSED, RUNNING, BackupRecord, DrillRecord
from agent.archive.retention import UNDO
from agent.config import ConfigError, mask
from agent.database.errors import DatabaseError
from agent.database.scratch import scratch_namespace
from agent.demo.embedded import Cluster, embedded_programs
from agent.demo.errors import DemoError
from agent.engine.drill import DrillResult, hold_drill
from agent.engine.errors import EngineError
from agent.engine.progress import Progress, silent
from agent.operations.care import look_over
from agent.operations.errors import OperationError
from agent.operations.inspect import verified
from agent.operations.look import schema_of
from agent.operations.verify import Verified, note_verified
from agent.operations.workspace import Workspace, utc_now
from agent.sealing.errors import SealingError
from agent.tables.errors import TablesError
from agent.tables.schema import Schema
from certs.errors import TrustError
from protocol.errors import ProtocolError

EMBEDDED = "embedded"
_NOTE = "drill-server"
_EXPECTED = (
    ProtocolError,
    TrustError,
    DatabaseError,
    EngineError,
    TablesError,
    OperationError,
    ArchiveError,
    SealingError,
    OSError,
)


class NothingToDrill(OperationError):
    code = "nothing-to-drill"
    hint = "Make a backup first: `backroom backup --full`."


class NoScratch(OperationError):
    code = "no-scratch-database"
    hint = (
        'In Backroom\'s folder run `python3 -m pip install ".[demo]"` (of the virtual environment, if it is in one), '
        "or give an empty database: `backroom drill --database URL`."
    )


@dataclass(frozen=True, slots=True)
class Drilled:
    """One bundle and how its drill ended. ``left_out``: parts of the schema that could not be made for it."""

    backup: BackupRecord
    record: DrillRecord
    seconds: float
    left_out: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.record.state == PASSED

    def as_dict(self) -> dict[str, object]:
        return {
            "bundle_id": self.backup.id,
            "file": self.backup.filename,
            "kind": self.backup.kind,
            "business": self.backup.business_name,
            "device": self.backup.source_device,
            "passed": self.passed,
            "rows": self.record.rows,
            "tables": self.record.tables,
            "seconds": round(self.seconds, 3),
            "error": {"code": self.record.error_code, "message": self.record.error} if self.record.error else None,
            "left_out": list(self.left_out),
        }


async def newest_of_groups(workspace: Workspace, history: History) -> tuple[BackupRecord, ...]:
    """The newest bundle of each kind, business and source device whose file is here."""
    newest: dict[tuple[str, str | None, str], BackupRecord] = {}
    for record in (await look_over(workspace, history)).present:
        group = (record.kind, record.business_id, record.source_node)
        if UNDO in (record.origin, record.kind) or group in newest:
            continue
        path = workspace.archive.locate(record.path)
        # A sealed copy elsewhere opens with a passphrase, which nobody gives at night.
        if path.is_relative_to(workspace.home.archive) or await asyncio.to_thread(workspace.bundle_files.opens, path):
            newest[group] = record
    return tuple(newest.values())


async def drill(
    workspace: Workspace,
    history: History,
    *,
    database: str | None = None,
    backups: tuple[BackupRecord, ...] | None = None,
    progress: Progress = silent,
) -> AsyncIterator[Drilled]:
    """Drill these backups (None: the newest of each group), one after another. A drill that fails is a result.

    ``database`` is where the scratch tables are made and dropped again, in a namespace of their own; without it an
    embedded server is started for it. Raises ``HomeBusyError`` where a drill runs already, :class:`NoScratch`,
    :class:`NothingToDrill`, and errors of ``agent.database`` where ``database`` does not answer.
    """
    with workspace.home.lock("drill"):
        chosen = await newest_of_groups(workspace, history) if backups is None else backups
        if not chosen:
            raise NothingToDrill("There is no backup in the archive to hold a drill with.")
        async with AsyncExitStack() as stack:
            url = database if database else await stack.enter_async_context(_embedded(workspace))
            schema = await _live_schema(workspace)
            place = mask(database) if database else EMBEDDED
            for backup in chosen:
                yield await _drill(workspace, history, backup, url, schema, place, progress)


async def _drill(
    workspace: Workspace,
    history: History,
    backup: BackupRecord,
    url: str,
    schema: Schema | None,
    place: str,
    progress: Progress,
) -> Drilled:
    started = monotonic()
    record = await history.start_drill(
        DrillRecord(
            id=new_id(),
            bundle_id=backup.id,
            kind=backup.kind,
            state=RUNNING,
            started_at=utc_now(),
            source_node=backup.source_node,
            source_device=backup.source_device,
            business_id=backup.business_id,
            business_name=backup.business_name,
            place=place,
        )
    )
    try:
        result = await _restored(workspace, history, backup, url, schema, progress)
    except _EXPECTED as error:
        code = str(getattr(error, "code", "unreadable"))
        record = await history.end_drill(record.id, FAILED, error_code=code, error=str(error))
        return Drilled(backup, record, monotonic() - started)
    except BaseException as error:
        await history.end_drill(record.id, INTERRUPTED, error=str(error) or "The drill was stopped.")
        raise
    record = await history.end_drill(
        record.id,
        FAILED if result.problems else PASSED,
        rows=result.rows,
        tables=result.tables,
        error_code="drill-differs" if result.problems else None,
        error="; ".join(result.problems[:10]) or None,
    )
    return Drilled(backup, record, monotonic() - started, result.left_out)


async def _restored(
    workspace: Workspace, history: History, backup: BackupRecord, url: str, schema: Schema | None, progress: Progress
) -> DrillResult:
    path = workspace.archive.locate(backup.path)
    started = monotonic()
    try:
        bundle = await verified(workspace, path, trust_source=False)
    except (ProtocolError, SealingError, OSError) as error:
        code = str(getattr(error, "code", "unreadable"))
        await note_verified(history, Verified(path, backup, str(error), code, "unknown", 0, monotonic() - started))
        raise
    await note_verified(history, Verified(path, backup, "", "", "", bundle.size, monotonic() - started))
    async with scratch_namespace(url) as scratch:
        return await hold_drill(scratch, bundle, workspace.catalogue(), schema, progress=progress)


async def _live_schema(workspace: Workspace) -> Schema | None:
    """The platform's schema as it is now; None where its database does not answer: then the manifest has to do."""
    try:
        return (await schema_of(workspace))[0]
    except (DatabaseError, TablesError, ConfigError):
        return None


@asynccontextmanager
async def _embedded(workspace: Workspace) -> AsyncIterator[str]:
    """A server of the drill's own, gone afterwards; what a drill that was killed left is cleared first."""
    try:
        await asyncio.to_thread(embedded_programs)
    except DemoError as error:
        raise NoScratch("The embedded PostgreSQL, in which drills are held, is not installed.") from error
    note = workspace.home.state / _NOTE
    await asyncio.to_thread(_clear, note)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="backroom-drill-"))
    await asyncio.to_thread(note.write_text, str(folder), encoding="utf-8")
    try:
        async with Cluster(folder / "server") as cluster:
            yield await cluster.create_database("drill")
    finally:
        await asyncio.to_thread(_clear, note)


def _clear(note: Path) -> None:
    with suppress(FileNotFoundError):
        folder = Path(note.read_text(encoding="utf-8"))
        if folder.is_dir() and folder.name.startswith("backroom-drill-"):
            Cluster(folder / "server").stop_now()
            shutil.rmtree(folder)
        note.unlink()
