"""Backups: make one, find one, look at one, take its file along."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from agent.archive.errors import NoSuchBundleError
from agent.archive.records import BackupRecord
from agent.engine.backup import BackupRequest
from agent.engine.bundle_file import manifest_of
from agent.engine.progress import Progress
from agent.operations.backups import BackupMade, make_backup
from agent.operations.deliveries import DeliveryDone, deliver
from agent.operations.inspect import Inspected, inspect_bundle
from agent.operations.passphrases import check as check_passphrase
from agent.operations.platform_json import export_bundle
from agent.operations.verify import verify_files
from agent.operations.workspace import Workspace
from agent.web.api.errors import described
from agent.web.api.sending import lock_for_download, send_bundle
from agent.web.api.work import downloaded, stored
from agent.web.pages.errors import Missing
from agent.web.pages.parts import DESK, GLANCE, field, flag, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from protocol.manifest import Kind

PER_PAGE = 50
ORIGINS = ("made", "received", "pulled", "imported")
SHOWN = ("kept", "pinned", "trash")
SEALS = ("shop", "passphrase", "plain")
KINDS = (Kind.BUSINESS.value, Kind.FULL.value, Kind.FULL_DEVICE.value)


@dataclass(frozen=True, slots=True)
class Made:
    """A backup, and how its delivery went if one was wanted; ``unsent`` says why there is none."""

    made: BackupMade
    delivered: DeliveryDone | None = None
    unsent: str = ""


async def index(request: web.Request) -> web.Response:
    """The form for a new one and the history; only its table where htmx searches."""
    workspace = fresh(request)
    wanted, kind = request.query.get("q", "").strip(), request.query.get("kind", "")
    came, show = request.query.get("came", ""), request.query.get("show", SHOWN[0])
    came, show = came if came in ORIGINS else "", show if show in SHOWN else SHOWN[0]
    page = int(given) if (given := request.query.get("page", "")[:6]).isdecimal() else 0
    kind = kind if kind in KINDS else ""
    found, more, drilled = await _found(workspace, wanted, kind or None, came or None, show, page)
    context: dict[str, Any] = {"backups": found, "more": more, "page": page, "q": wanted, "kind": kind, "kinds": KINDS}
    context |= {"drilled": drilled}
    context |= {"came": came, "origins": ORIGINS, "show": show}
    if "HX-Request" in request.headers:
        return render("backups_table.html", request, context)
    # As the glance has last seen them: to read the whole schema for a list would make the page wait.
    view = await request.app[GLANCE].current()
    context |= {"businesses": [each for each in view.businesses if each.here], "places": workspace.config.delivery}
    return render("backups.html", request, context)


async def _found(
    workspace: Workspace, wanted: str, kind: str | None, came: str | None, show: str, page: int
) -> tuple[list[BackupRecord], bool, Mapping[str, datetime]]:
    """One page of the history, whether there are more, and the last drills that its backups passed. Words are looked
    for in all names and notes."""
    async with workspace.history() as history:
        listed = await history.backups(
            kind=kind,
            origin=came,
            pinned=True if show == "pinned" else None,
            removed=show == "trash",
            words=wanted.split()[:10],
            undos=False,
            limit=PER_PAGE + 1,
            offset=page * PER_PAGE,
        )
        drilled = await history.drilled([each.id for each in listed])
    return list(listed[:PER_PAGE]), len(listed) > PER_PAGE, drilled


async def make(request: web.Request) -> web.StreamResponse:
    """Make a backup into the archive, and deliver it where that is wanted."""
    workspace = fresh(request)
    kind = Kind(value) if (value := await field(request, "kind")) in KINDS else Kind.BUSINESS
    business = await field(request, "business") if kind is Kind.BUSINESS else None
    asked = BackupRequest(
        kind, business, compress=await flag(request, "compress"), include_demo=await flag(request, "demo")
    )

    where = await place(request)
    plain, passphrase = await sealing(request) if where else (False, None)

    async def work(progress: Progress) -> Made:
        async with workspace.history() as history:
            made = await make_backup(workspace, history, asked, progress=progress)
            if not where:
                return Made(made)
            try:
                return Made(
                    made,
                    await deliver(
                        workspace, history, made.file, where, plain=plain, passphrase=passphrase, progress=progress
                    ),
                )
            except Exception as error:
                # The backup is made: what went wrong after it is told beside it.
                found = described(error)
                if found is None:
                    raise
                return Made(made, None, found[1]["message"])

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
    async with workspace.history() as history:
        drilled = await history.drills(bundle_id=record.id, limit=1)
    context = {"backup": record, "here": here, "drilled": drilled[0] if drilled else None}
    return render("backup.html", request, {**context, "places": workspace.config.delivery})


async def sealing(request: web.Request) -> tuple[bool, str | None]:
    """How what leaves is to be sealed, from the form: whether not at all, and the passphrase if by one."""
    form = await request.post()
    how = str(form.get("seal", SEALS[0]))
    if how != "passphrase":
        return how == "plain", None
    words = str(form.get("passphrase", ""))
    if not words:
        raise Missing(text("deliver.passphrase"))
    return False, check_passphrase(words)


async def place(request: web.Request) -> str:
    """Where to deliver, from the form: a place of the settings, or the address beside it; "" for nowhere."""
    form = await request.post()
    chosen = str(form.get("to", "")).strip()
    if chosen != "other":
        return chosen
    return await field(request, "address")


async def check(request: web.Request) -> web.StreamResponse:
    """Read the file to its end: is it whole, who made it, what is in it. The history notes the verdict."""
    workspace = fresh(request)
    path, record = await stored(workspace, request.match_info["id"])

    async def work(progress: Progress) -> Inspected:
        async with workspace.history() as history:
            (seen,) = [each async for each in verify_files(workspace, history, ((path, record),), progress=progress)]
        manifest = await asyncio.to_thread(manifest_of, path, workspace.bundle_files.open)
        if manifest is None:
            return await inspect_bundle(workspace, path)  # which says what is wrong with its head
        return Inspected(path, seen.size, manifest, seen.ok, seen.known, seen.problem, seen.problem_code)

    back = f"/backups/{record.id}" if record else "/backups"
    sheet = request.app[DESK].start(text("check.title", file=path.name), "done_check.html", back, work)
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


async def platform_file(request: web.Request) -> web.StreamResponse:
    """The same rows as a backup file of the platform, which reads only unsealed ones. Made first, then sent."""
    workspace = fresh(request)
    path, record = await stored(workspace, request.match_info["id"])
    folder = workspace.home.ensure().spool / f"brought-{secrets.token_hex(6)}"
    await asyncio.to_thread(folder.mkdir, 0o700)
    try:
        made = await export_bundle(workspace, path, output=folder)
        response, complete = await send_bundle(request, workspace, made.file, None, None)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if record is not None and complete:
        await downloaded(workspace, record.id)
    return response


ROUTES = [
    web.get("/backups", index),
    web.post("/backups", make),
    web.get("/backups/{id}", one),
    web.post("/backups/{id}/check", check),
    web.get("/backups/{id}/file", file, allow_head=False),
    web.get("/backups/{id}/platform", platform_file, allow_head=False),
]
