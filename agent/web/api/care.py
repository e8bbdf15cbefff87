"""The operations that look after backups: verify, drill, prune, notes; and those that take one out or in, or back."""

from __future__ import annotations

from typing import Any

from agent.engine.import_plan import ImportOptions
from agent.engine.progress import Progress
from agent.engine.undo import UndoPlan
from agent.operations import bringing, care, comparing, drills, keys, platform_json, prune, undoing, verify
from agent.operations.workspace import Workspace
from agent.web.api import models
from agent.web.api.errors import BadRequest, PlanChanged
from agent.web.api.work import asking, public


async def verify_backups(workspace: Workspace, asked: models.VerifyAsked, progress: Progress) -> Any:
    if bool(asked.bundles) + asked.all + asked.due != 1:
        raise BadRequest("Say what to verify: bundles, all or due.")
    async with workspace.history() as history:
        if asked.bundles:
            wanted = await verify.find_files(workspace, history, asked.bundles)
            for path, _ in wanted:
                if path.is_file() and asked.passphrase is not None:
                    await keys.unlock(workspace, path, asking(asked.passphrase))
        else:
            wanted = await verify.files_to_verify(workspace, history, due=asked.due)
        checked = verify.verify_files(workspace, history, wanted, deep=asked.deep, progress=progress)
        done = [each async for each in checked]
    return {"ok": all(each.ok for each in done), "files": [each.as_dict() for each in done]}


async def hold_drills(workspace: Workspace, asked: models.DrillAsked, progress: Progress) -> Any:
    async with workspace.history() as history:
        chosen = tuple([await care.find_record(history, text) for text in asked.bundles]) or None
        database = asked.database.get_secret_value() if asked.database else None
        held = drills.drill(workspace, history, database=database, backups=chosen, progress=progress)
        done = [each async for each in held]
    return {"passed": all(each.passed for each in done), "drills": [each.as_dict() for each in done]}


async def see_prune(workspace: Workspace, asked: models.Nothing) -> Any:
    async with workspace.history() as history:
        return (await prune.plan_prune(workspace, history)).as_dict()


async def prune_backups(workspace: Workspace, asked: models.Nothing, progress: Progress) -> Any:
    async with workspace.history() as history:
        return (await prune.prune(workspace, history)).as_dict()


async def note_backup(workspace: Workspace, asked: models.NoteAsked, progress: Progress) -> Any:
    async with workspace.history() as history:
        record = await care.find_record(history, asked.bundle)
        if asked.notes is not None:
            record = await care.note(history, record.id, asked.notes)
        if asked.pinned is not None:
            record = await care.pin(history, record.id, pinned=asked.pinned)
    return public(record)


async def rebuild_history(workspace: Workspace, asked: models.Nothing, progress: Progress) -> Any:
    async with workspace.history() as history:
        return (await care.rebuild(workspace, history, progress=progress)).as_dict()


async def export(workspace: Workspace, asked: models.ExportAsked, progress: Progress) -> Any:
    passphrase = asked.passphrase.get_secret_value() if asked.passphrase else None
    lock = await keys.lock_for_leaving(workspace, plain=asked.plain, passphrase=passphrase)
    async with bringing.brought(workspace, asked.bundle, progress=progress) as path:
        made = await platform_json.export_bundle(
            workspace, path, output=asked.output, compress=asked.compress, lock=lock, progress=progress
        )
    return made.as_dict()


async def take_in(workspace: Workspace, asked: models.ImportAsked, progress: Progress) -> Any:
    options = ImportOptions(skip_unknown=asked.skip_unknown, skip_device=asked.skip_device_data)
    wanted = bringing.readable(workspace, asked.file, asking(asked.passphrase), progress=progress)
    async with workspace.history() as history, wanted as path:
        made = await platform_json.import_file(workspace, history, path, options=options, progress=progress)
    return made.as_dict()


async def plan_undo(workspace: Workspace, asked: models.UndoPlanAsked, progress: Progress) -> Any:
    async with workspace.history() as history:
        target = await undoing.find_undoable(workspace, history, asked.restore)
        found = await undoing.plan(workspace, target, progress=progress)
    return {**found.as_dict(), "restore": target.record.id, "plan_digest": found.digest, "applied": False}


async def undo(workspace: Workspace, asked: models.UndoAsked, progress: Progress) -> Any:
    async def approve(found: UndoPlan) -> bool:
        if found.digest != asked.plan_digest:
            raise PlanChanged("What would happen now is not what the plan said.")
        return True

    async with workspace.history() as history:
        target = await undoing.find_undoable(workspace, history, asked.restore)
        done = await undoing.take_back(
            workspace,
            history,
            target,
            keep_changed=asked.changed == "keep",
            overwrite_changed=asked.changed == "overwrite",
            approve=approve,
            progress=progress,
        )
    return {**done.as_dict(), "restore": target.record.id, "applied": True}


async def compare(workspace: Workspace, asked: models.CompareAsked, progress: Progress) -> Any:
    done = await comparing.compare_business(
        workspace,
        asked.business,
        asked.other,
        trust_source=asked.trust_source,
        ask=asking(asked.passphrase),
        progress=progress,
    )
    return done.as_dict()
