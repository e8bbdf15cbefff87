"""Backups: make one, find one, look at one, take its file along."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from agent.archive.errors import NoSuchBundleError
from agent.archive.records import BackupRecord
from agent.engine.backup import BackupRequest
from agent.engine.progress import Progress
from agent.operations.backups import make_backup
from agent.operations.inspect import inspect_bundle
from agent.operations.look import businesses
from agent.operations.workspace import Workspace
from agent.web.api.sending import lock_for_download, send_bundle
from agent.web.api.work import downloaded, stored
from agent.web.pages.parts import DESK, field, flag, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from protocol.manifest import Kind

PER_PAGE = 50
KINDS = (Kind.BUSINESS.value, Kind.FULL.value, Kind.FULL_DEVICE.value)


async def index(request: web.Request) -> web.Response:
    """The form for a new one and the history; only its table where htmx searches."""
    workspace = fresh(request)
    wanted, kind = request.query.get("q", "").strip(), request.query.get("kind", "")
    page = int(given) if (given := request.query.get("page", "")[:6]).isdecimal() else 0
    found, more = await _found(workspace, wanted, kind if kind in KINDS else None, page)
    context: dict[str, Any] = {"backups": found, "more": more, "page": page, "q": wanted, "kind": kind, "kinds": KINDS}
    if "HX-Request" in request.headers:
        return render("backups_table.html", request, context)
    return render("backups.html", request, {**context, "businesses": await businesses(workspace)})


async def _found(workspace: Workspace, wanted: str, kind: str | None, page: int) -> tuple[list[BackupRecord], bool]:
    """One page of the history, and whether there are more. Words are looked for in all names and notes."""
    async with workspace.history() as history:
        listed = await history.backups(
            kind=kind, words=wanted.split()[:10], undos=False, limit=PER_PAGE + 1, offset=page * PER_PAGE
        )
    return list(listed[:PER_PAGE]), len(listed) > PER_PAGE


async def make(request: web.Request) -> web.StreamResponse:
    """Make a backup into the archive."""
    workspace = fresh(request)
    kind = Kind(value) if (value := await field(request, "kind")) in KINDS else Kind.BUSINESS
    business = await field(request, "business") if kind is Kind.BUSINESS else None
    asked = BackupRequest(
        kind, business, compress=await flag(request, "compress"), include_demo=await flag(request, "demo")
    )

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            return await make_backup(workspace, history, asked, progress=progress)

    sheet = request.app[DESK].start(text("backup.title"), "done_backup.html", "/backups", work)
    raise to(f"/jobs/{sheet.job.id}")


async def record_of(workspace: Workspace, bundle_id: str) -> BackupRecord:
    """Raises ``NoSuchBundleError``."""
    async with workspace.history() as history:
        record = await history.backup(bundle_id)
    if record is None:
        raise NoSuchBundleError(f"There is no backup {bundle_id}.", "")
    return record


async def one(request: web.Request) -> web.Response:
    """Everything that is known of one backup."""
    workspace = fresh(request)
    record = await record_of(workspace, request.match_info["id"])
    path = workspace.archive.locate(record.path)
    here = await asyncio.to_thread(path.is_file)
    return render("backup.html", request, {"backup": record, "here": here, "own": _is_own(workspace, record)})


def _is_own(workspace: Workspace, record: BackupRecord) -> bool:
    return record.source_node == workspace.store.identity().node_id


async def check(request: web.Request) -> web.StreamResponse:
    """Read the file to its end: is it whole, who made it, what is in it."""
    workspace = fresh(request)
    path, record = await stored(workspace, request.match_info["id"])
    sheet = request.app[DESK].start(
        text("check.title", file=path.name),
        "done_check.html",
        f"/backups/{record.id}" if record else "/backups",
        lambda progress: inspect_bundle(workspace, path),
    )
    raise to(f"/jobs/{sheet.job.id}")


async def file(request: web.Request) -> web.StreamResponse:
    """The file, sealed to the shop's keys; with ``?plain=1`` as it is."""
    workspace = fresh(request)
    path, record = await stored(workspace, request.match_info["id"])
    lock = await lock_for_download(workspace, plain=request.query.get("plain") == "1")
    response, complete = await send_bundle(request, workspace, path, None, lock)
    if record is not None and complete:
        await downloaded(workspace, record.id)
    return response


ROUTES = [
    web.get("/backups", index),
    web.post("/backups", make),
    web.get("/backups/{id}", one),
    web.post("/backups/{id}/check", check),
    web.get("/backups/{id}/file", file, allow_head=False),
]
