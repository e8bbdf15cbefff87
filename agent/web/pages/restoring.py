"""Restore a backup, and take a restore back: each is planned first, and exactly that plan is applied."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from agent.archive.records import APPLIED, BackupRecord, RestoreRecord
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle, manifest_of
from agent.engine.compare import Comparison
from agent.engine.plan import RestorePlan, RestoreResult
from agent.engine.progress import Progress
from agent.engine.undo import UndoPlan
from agent.operations.inspect import known_as
from agent.operations.restores import estimated_seconds, plan_file, proved, restore_file
from agent.operations.undoing import find_undoable, plan, take_back
from agent.operations.workspace import Workspace
from agent.sealing.errors import SealingError
from agent.web.api.errors import NotFound, PlanChanged
from agent.web.api.jobs import DONE
from agent.web.api.work import stored
from agent.web.pages.backups import record_of
from agent.web.pages.errors import NotVouched, PlanGone
from agent.web.pages.parts import DESK, GLANCE, field, flag, fresh, require_typed
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from agent.web.pages.wishes import MEETINGS, POLICIES, Wishes, wishes
from protocol.manifest import Kind

T = TypeVar("T")
_INSTEAD = 5
_SHOWN_UP_TO = 100_000


@dataclass(frozen=True, slots=True)
class Planned:
    """A restore as it would be now. ``typed`` is the name to be typed before it, where it takes rows away."""

    record: BackupRecord
    asked: Wishes
    plan: RestorePlan
    seconds: float | None
    typed: str | None


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that was done, with its record (for an undo) and the proof that the business is the backup's."""

    record: BackupRecord
    result: RestoreResult
    proof: Comparison | None
    restore: RestoreRecord | None


@dataclass(frozen=True, slots=True)
class UndoPlanned:
    restore: RestoreRecord
    plan: UndoPlan


async def choose(request: web.Request) -> web.Response:
    """What the backup is, and how it shall be restored; for device data of another laptop, what can be done instead."""
    workspace = fresh(request)
    record = await record_of(workspace, request.match_info["id"])
    known = await asyncio.to_thread(known_as, workspace, record.source_node)
    context: dict[str, Any] = {
        "backup": record,
        "policies": POLICIES if record.kind == Kind.BUSINESS.value else POLICIES[:-1],
        "meetings": MEETINGS,
        "foreign": record.kind == Kind.FULL_DEVICE.value and known != "this laptop",
        "stranger": known in ("unknown", "revoked"),
        "unsigned": unsigned(record),
        "tables": (),
        "instead": (),
        "member": known in ("admin", "member"),
    }
    if context["foreign"]:
        async with workspace.history() as history:
            found = [
                each
                for kind in (Kind.FULL, Kind.BUSINESS)
                for each in await history.backups(kind=kind.value, device=record.source_node, limit=_INSTEAD)
            ]
        context["instead"] = found
    else:
        context["tables"] = await _tables(workspace, record)
    return render("restore.html", request, context)


def unsigned(record: BackupRecord) -> bool:
    """Whether it came from a file that nobody signed: this laptop's own seal says nothing about who made it."""
    return "imported_from" in record.options


async def _tables(workspace: Workspace, record: BackupRecord) -> tuple[str, ...]:
    """The tables with rows in the backup, as far as its head can be read."""
    path = workspace.archive.locate(record.path)
    try:
        manifest = await asyncio.to_thread(manifest_of, path, workspace.bundle_files.open)
    except (OSError, SealingError):
        return ()
    return tuple(sorted({each.table for each in manifest.tables if each.rows})) if manifest is not None else ()


async def make_plan(request: web.Request) -> web.StreamResponse:
    """Start the plan; its page has the button that applies it."""
    workspace = fresh(request)
    path, record = await stored(workspace, request.match_info["id"])
    if record is None:
        record = await record_of(workspace, request.match_info["id"])
    asked = await wishes(request)
    if unsigned(record) and not asked.trust_source:
        raise NotVouched
    # Examples are looked for table by table: with many rows that would take longer than the plan itself.
    show = await _tables(workspace, record) if record.records <= _SHOWN_UP_TO else ()

    async def work(progress: Progress) -> Planned:
        async with workspace.history() as history:
            found = await plan_file(
                workspace,
                history,
                path,
                conflicts=asked.conflicts,
                choices=asked.choices,
                trust_source=asked.trust_source,
                show=show,
                progress=progress,
            )
            seconds = await estimated_seconds(history, found)
        name = found.business.name if found.business else workspace.config.device_name()
        loses = found.totals.update + found.totals.delete > 0 and asked.conflicts is Conflicts.BUNDLE
        return Planned(record, asked, found, seconds, name if loses and not asked.choices.as_new else None)

    sheet = request.app[DESK].start(
        text("plan.title", what=record.business_name or text(f"kind.{record.kind}")),
        "done_plan.html",
        f"/backups/{record.id}/restore",
        work,
    )
    raise to(f"/jobs/{sheet.job.id}")


async def apply(request: web.Request) -> web.StreamResponse:
    """Apply a plan that was looked at."""
    workspace, glance = fresh(request), request.app[GLANCE]
    planned = await _planned(request, Planned)
    if planned.typed is not None:
        await require_typed(request, planned.typed)
    path, _ = await stored(workspace, planned.record.id)
    asked = planned.asked

    async def approve(bundle: VerifiedBundle, found: RestorePlan) -> bool:
        if found.digest != planned.plan.digest:
            raise PlanChanged(text("plan.changed"))
        return True

    async def work(progress: Progress) -> Restored:
        async with workspace.history() as history:
            result = await restore_file(
                workspace,
                history,
                path,
                conflicts=asked.conflicts,
                choices=asked.choices,
                trust_source=asked.trust_source,
                approve=approve,
                progress=progress,
            )
            wins = asked.conflicts is Conflicts.BUNDLE
            proof = await proved(workspace, path, result, asked.choices) if wins else None
            noted = await history.restores(bundle_id=planned.record.id, state=APPLIED, limit=1)
        await glance.changed_here(result.plan.business.id if result.plan.business else None)
        return Restored(planned.record, result, proof, noted[0] if noted else None)

    what = planned.record.business_name or text(f"kind.{planned.record.kind}")
    back = f"/backups/{planned.record.id}"
    sheet = request.app[DESK].start(text("restore.title", what=what), "done_restore.html", back, work)
    raise to(f"/jobs/{sheet.job.id}")


async def plan_undo(request: web.Request) -> web.StreamResponse:
    """What taking a restore back would do now."""
    workspace = fresh(request)
    restore_id = await field(request, "restore")

    async def work(progress: Progress) -> UndoPlanned:
        async with workspace.history() as history:
            target = await find_undoable(workspace, history, restore_id)
        return UndoPlanned(target.record, await plan(workspace, target, progress=progress))

    sheet = request.app[DESK].start(text("undo.plan.title"), "done_undo_plan.html", "/activity", work)
    raise to(f"/jobs/{sheet.job.id}")


async def undo(request: web.Request) -> web.StreamResponse:
    """Take it back, exactly as planned."""
    workspace, glance = fresh(request), request.app[GLANCE]
    planned = await _planned(request, UndoPlanned)
    overwrite, keep = await flag(request, "overwrite"), planned.plan.totals.kept > 0

    async def approve(found: UndoPlan) -> bool:
        if found.digest != planned.plan.digest:
            raise PlanChanged(text("plan.changed"))
        return True

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            target = await find_undoable(workspace, history, planned.restore.id)
            result = await take_back(
                workspace,
                history,
                target,
                keep_changed=keep and not overwrite,
                overwrite_changed=overwrite,
                approve=approve,
                progress=progress,
            )
        await glance.changed_here(result.plan.business.id if result.plan.business else None)
        return result

    what = planned.restore.business_name or text(f"kind.{planned.restore.kind}")
    sheet = request.app[DESK].start(text("undo.title", what=what), "done_undo.html", "/activity", work)
    raise to(f"/jobs/{sheet.job.id}")


async def _planned(request: web.Request, kind: type[T]) -> T:
    """The plan that the form names. Raises :class:`PlanGone`."""
    try:
        job = request.app[DESK].jobs.get(await field(request, "plan"))
    except NotFound:
        raise PlanGone from None
    if job.state != DONE or not isinstance(job.result, kind):
        raise PlanGone
    return job.result


ROUTES = [
    web.get("/backups/{id}/restore", choose),
    web.post("/backups/{id}/restore", make_plan),
    web.post("/restores", apply),
    web.post("/undo/plan", plan_undo),
    web.post("/undo", undo),
]
