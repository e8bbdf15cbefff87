"""Restores and undos in the history: what is noted while they run, and the truth about those that were cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.records import APPLIED, FAILED, INTERRUPTED, REFUSED, BackupRecord, RestoreRecord
from agent.archive.writer import Writer
from agent.database.transaction import CommitUnknown, outcome
from agent.engine.backup import Sink
from agent.engine.keeping import Keeper
from agent.engine.restore_errors import RestoreError
from agent.home import HomeBusyError
from agent.log import get_logger
from agent.operations.backups import backup_record
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace, utc_now
from protocol.errors import ProtocolError
from protocol.manifest import Kind, Manifest
from protocol.names import bundle_name

log = get_logger(__name__)

T = TypeVar("T")

KEPT_UNDOS = 10
"""How many of the newest undo bundles stay, however old."""


class _UndoSink:
    """The undo bundle's file. It is whole and safe in the archive, and noted, when the block ends."""

    def __init__(self, running: RunningRestore, manifest: Manifest) -> None:
        self._running = running
        self._manifest = manifest
        self._writer: Writer = running.workspace.archive.writer(Kind.UNDO.value)

    async def __aenter__(self) -> Sink:
        return await self._writer.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                path = await self._writer.commit(bundle_name(self._manifest))
                await self._running.kept(self._manifest, path, self._writer)
        finally:
            await self._writer.__aexit__(kind, error, trace)


class RunningRestore:
    """A restore or undo that runs now. Its record says at every moment what a crash must not make unknown.

    It stands in the history from :meth:`enter` on, which must come before the database may commit.
    """

    def __init__(self, workspace: Workspace, history: History, record: RestoreRecord) -> None:
        self.workspace = workspace
        self._history = history
        self._record = record
        self._undo: tuple[Path, BackupRecord] | None = None
        self._entered = False
        self._noting = asyncio.Lock()
        self._ended: tuple[str, BaseException] | None = None

    async def enter(self) -> None:
        """Enter it into the history, as it is by now."""
        async with self._noting:
            await self._history.start_restore(self._record)
            self._entered = True
            if self._ended is not None:
                await self._note_end(*self._ended)

    @property
    def keeper(self) -> Keeper:
        """Where the engine keeps the rows as they were."""
        return Keeper(self.workspace.origin(), self._open, utc_now)

    async def started(self, transaction: str) -> None:
        """The database transaction has begun to write."""
        async with self._noting:
            self._record = replace(self._record, transaction=transaction)
            if self._entered:
                await self._history.note_restore(self._record.id, transaction=transaction)

    async def kept(self, manifest: Manifest, path: Path, writer: Writer) -> None:
        """The undo bundle is on the disk; the database has not committed yet."""
        record = backup_record(
            self.workspace, manifest, path, size=writer.size, raw_size=0, checksum=writer.sha256, came="undo"
        )
        self._undo = (path, record)
        await self._history.note_restore(self._record.id, undo_path=record.path)

    async def run(self, work: Callable[[], Awaitable[T]], told: Callable[[T], tuple[dict[str, int], str]]) -> T:
        """Do the work and record how it ends. ``told`` gives the counts and the plan's digest of what came of it."""
        try:
            result = await work()
        except (CommitUnknown, asyncio.CancelledError) as error:
            # Left as interrupted: `settle` asks the database again. A commit that is cut off may have happened.
            await self._end(INTERRUPTED, error)
            raise
        except BaseException as error:
            if self._undo is not None:
                await self.workspace.archive.remove(self._undo[0])
            refused = isinstance(error, (RestoreError, ProtocolError, OperationError))
            await self._end(REFUSED if refused else FAILED, error)
            raise
        counts, digest = told(result)
        try:
            await self._history.end_restore(self._record.id, APPLIED, counts=counts, plan_digest=digest)
            if self._undo is not None:
                await self._history.add_backup(self._undo[1])
                await trim_undos(self.workspace, self._history)
        except (ArchiveError, OSError) as error:
            # The rows are in, and must not look refused. The next start asks the database, as after a crash here.
            log.warning("a restore was applied, and not all of it noted", restore=self._record.id, reason=str(error))
        return result

    def _open(self, manifest: Manifest) -> AbstractAsyncContextManager[Sink]:
        return _UndoSink(self, manifest)

    async def _end(self, state: str, error: BaseException) -> None:
        async with self._noting:
            self._ended = state, error
            if self._entered:
                try:
                    await self._note_end(state, error)
                except (ArchiveError, OSError) as unnoted:
                    # What ended the restore is what is to be told.
                    log.warning("how a restore ended is not noted", restore=self._record.id, reason=str(unnoted))

    async def _note_end(self, state: str, error: BaseException) -> None:
        await self._history.end_restore(
            self._record.id,
            state,
            error_code=str(getattr(error, "code", "unexpected")),
            error=str(error) or type(error).__name__,
        )


async def settle(workspace: Workspace, history: History) -> int:
    """Ask the database what became of restores that were cut off, and put the history right. Returns how many.

    What the database cannot tell now stays as it is.
    """
    settled = 0
    for record in await history.restores(state=INTERRUPTED):
        if record.transaction is None or record.error_code == "settled":
            continue
        try:
            committed = await outcome(workspace.database_url, record.transaction)
        except CommitUnknown as error:
            log.info("a restore that was cut off cannot be settled yet", restore=record.id, reason=str(error))
            continue
        if committed:
            await history.end_restore(record.id, APPLIED)
        else:
            await _forget_undo(workspace, history, record)
            await history.end_restore(
                record.id,
                FAILED,
                error_code="interrupted",
                error="It was cut off before the database committed. Nothing was changed.",
            )
        settled += 1
    return settled


async def _forget_undo(workspace: Workspace, history: History, record: RestoreRecord) -> None:
    """Remove the undo bundle of a restore that never was. It may have been finished and not yet noted."""
    paths = [workspace.archive.locate(record.undo_path)] if record.undo_path is not None else []
    if not paths:
        noted = {each.undo_path for each in await history.restores()}
        noted |= {each.path for each in await history.backups(kind=Kind.UNDO.value)}
        paths = [
            file.path
            for file in await workspace.archive.bundles(Kind.UNDO.value)
            if file.modified >= record.started_at and workspace.archive.stored_path(file.path) not in noted
        ]
    for path in paths:
        try:
            await workspace.archive.remove(path)
        except (ArchiveError, FileNotFoundError):
            log.debug("no undo bundle to remove", restore=record.id)


async def trim_undos(workspace: Workspace, history: History) -> None:
    """Move undo bundles beyond the newest ``KEPT_UNDOS`` that are older than a month to the trash.

    Not further: by a clock that jumped a year all would be old. The trash counts days on which pruning ran, too.
    """
    from agent.operations.prune import NotToTrash, to_trash  # only here: few restores come this far

    kept = await history.backups(kind=Kind.UNDO.value)
    for record in kept[KEPT_UNDOS:]:
        if (utc_now() - record.created_at).days > 30 and not record.pinned:
            try:
                await to_trash(workspace, history, record, why=f"beyond the newest {KEPT_UNDOS}, and a month old")
            except (NotToTrash, HomeBusyError, ArchiveError) as error:
                log.info("an undo bundle stays", bundle=record.id, reason=str(error))
