"""Taking a restore back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from agent.archive.history import History, new_id
from agent.archive.records import APPLIED, RUNNING, RestoreRecord
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.progress import Progress, silent
from agent.engine.undo import UndoPlan, UndoResult, plan_undo, undo
from agent.operations.errors import Declined, OperationError
from agent.operations.outcomes import RunningRestore, settle
from agent.operations.workspace import Workspace, person, utc_now
from certs.identity import verify_signature
from protocol.manifest import Kind

UNDO_MODE = "undo"


class NothingToUndo(OperationError):
    code = "nothing-to-undo"
    hint = "`backroom history` lists the restores."


@dataclass(frozen=True, slots=True)
class Undoable:
    """A restore with its undo bundle, verified."""

    record: RestoreRecord
    bundle: VerifiedBundle


async def find_undoable(workspace: Workspace, history: History, restore_id: str | None) -> Undoable:
    """The restore with this id (or its first letters); without one the newest that changed something, is no undo, and
    has not been taken back.

    Raises :class:`NothingToUndo`, and what reading the bundle raises.
    """
    await settle(workspace, history)
    applied = [record for record in await history.restores(state=APPLIED) if record.undo_path is not None]
    if restore_id is not None:
        found = [record for record in applied if record.id.startswith(restore_id)]
        if len(found) != 1:
            raise NothingToUndo(f"There is no restore {restore_id!r} that could be taken back.")
        return await _open(workspace, found[0])
    taken_back = {record.file for record in applied if record.mode == UNDO_MODE and not _undone(record, applied)}
    for record in applied:
        if record.mode != UNDO_MODE and record.undo_path not in taken_back:
            return await _open(workspace, record)
    raise NothingToUndo("No restore is left that could be taken back.")


def _undone(record: RestoreRecord, applied: list[RestoreRecord]) -> bool:
    return any(
        other.mode == UNDO_MODE and other.file == record.undo_path and not _undone(other, applied) for other in applied
    )


async def _open(workspace: Workspace, record: RestoreRecord) -> Undoable:
    assert record.undo_path is not None
    path: Path = workspace.archive.locate(record.undo_path)
    try:
        return Undoable(record, await verify_bundle(path, verify_signature, opener=workspace.bundle_files.open))
    except FileNotFoundError:
        raise NothingToUndo(f"The undo bundle of that restore is gone: {path.name}.") from None


async def plan(workspace: Workspace, target: Undoable, *, progress: Progress = silent) -> UndoPlan:
    """What taking it back would do now."""
    return await plan_undo(
        workspace.database_url,
        target.bundle,
        workspace.catalogue(),
        own_node=workspace.store.identity().node_id,
        progress=progress,
    )


async def take_back(
    workspace: Workspace,
    history: History,
    target: Undoable,
    *,
    keep_changed: bool = False,
    overwrite_changed: bool = False,
    approve: Callable[[UndoPlan], Awaitable[bool]] | None = None,
    progress: Progress = silent,
) -> UndoResult:
    """Take the restore back. ``approve`` is shown the plan and decides; then exactly that is done.

    Raises :class:`Declined` and errors of the engine and the database; then nothing has changed.
    """
    expected = None
    if approve is not None:
        shown = await plan(workspace, target, progress=progress)
        if not await approve(shown):
            raise Declined("The undo was not wanted.")
        expected = None if overwrite_changed else shown.digest
    was = target.record
    record = RestoreRecord(
        id=new_id(),
        bundle_id=target.bundle.manifest.bundle_id,
        file=workspace.archive.stored_path(target.bundle.path),
        kind=Kind.UNDO.value,
        mode=UNDO_MODE,
        state=RUNNING,
        started_at=utc_now(),
        source_node=was.source_node,
        source_device=was.source_device,
        business_id=was.business_id,
        business_name=was.business_name,
        approver=person(),
    )
    running = RunningRestore(workspace, history, record)
    await running.enter()
    return await running.run(
        lambda: undo(
            workspace.database_url,
            target.bundle,
            workspace.catalogue(),
            own_node=workspace.store.identity().node_id,
            keeper=running.keeper,
            keep_changed=keep_changed,
            overwrite_changed=overwrite_changed,
            expected=expected,
            started=running.started,
            progress=progress,
        ),
        lambda result: (
            {
                "inserted": result.plan.totals.insert,
                "updated": result.plan.totals.update,
                "deleted": result.plan.totals.delete,
                "kept": result.plan.totals.kept,
            },
            result.plan.digest,
        ),
    )
