"""What is done with one backup: note, pin, trash, deliver; and taking a file from elsewhere into the archive."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from agent.archive.files import check_space
from agent.engine.import_plan import ImportOptions
from agent.engine.progress import Progress
from agent.operations import care
from agent.operations.deliveries import deliver
from agent.operations.drills import drill
from agent.operations.prune import to_trash
from agent.operations.taking_in import take_in
from agent.operations.workspace import Workspace
from agent.web.api.work import stored
from agent.web.pages.backups import place, record_of, sealing
from agent.web.pages.errors import Missing, NeedsPassphrase, UploadBroken
from agent.web.pages.parts import DESK, flag, fresh
from agent.web.pages.render import PREFIX, to
from agent.web.pages.texts import text

_PIECE_SECONDS = 60.0


async def note(request: web.Request) -> web.StreamResponse:
    """Put a note on it; no words take it away."""
    workspace, record_id = fresh(request), request.match_info["id"]
    words = str((await request.post()).get("note", ""))[:1000]
    async with workspace.history() as history:
        await care.note(history, record_id, words)
    raise to(f"/backups/{record_id}")


async def pin(request: web.Request) -> web.StreamResponse:
    """Pin it, or with ``off`` let the rules decide again."""
    workspace, record_id = fresh(request), request.match_info["id"]
    async with workspace.history() as history:
        await care.pin(history, record_id, pinned=not await flag(request, "off"))
    raise to(f"/backups/{record_id}")


async def trash(request: web.Request) -> web.StreamResponse:
    """Move it to the trash, from where it can be taken back for some days; with ``back`` take it back."""
    workspace, record_id = fresh(request), request.match_info["id"]
    record = await record_of(workspace, record_id)
    async with workspace.history() as history:
        if await flag(request, "back"):
            await care.untrash(workspace, history, record.id)
        else:
            await to_trash(workspace, history, record)
    raise to(f"/backups/{record_id}")


async def try_it(request: web.Request) -> web.StreamResponse:
    """Hold a drill with it: restore it into a scratch database and compare."""
    workspace = fresh(request)
    record = await record_of(workspace, request.match_info["id"])

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            (done,) = [each async for each in drill(workspace, history, backups=(record,), progress=progress)]
            return done

    title = text("drill.title", file=record.filename)
    sheet = request.app[DESK].start(title, "done_drill.html", f"/backups/{record.id}", work)
    raise to(f"/jobs/{sheet.job.id}")


async def send(request: web.Request) -> web.StreamResponse:
    """Deliver it: to email, a share, a folder or a cloud."""
    workspace = fresh(request)
    path, record = await stored(workspace, request.match_info["id"])
    where = await place(request)
    if not where:
        raise Missing(text("deliver.to"))
    plain, passphrase = await sealing(request)

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            return await deliver(workspace, history, path, where, plain=plain, passphrase=passphrase, progress=progress)

    title = text("deliver.title", file=path.name)
    back = f"/backups/{record.id}" if record else "/backups"
    waits = {"again": "/deliveries", "again_says": "deliver.waiting"}
    sheet = request.app[DESK].start(title, "done_deliver.html", back, work, waits)
    raise to(f"/jobs/{sheet.job.id}")


async def bring(request: web.Request) -> web.StreamResponse:
    """Take a file in: its bytes are the body. Answers with where its job is shown."""
    workspace = fresh(request)
    name = _name(unquote(request.headers.get("X-File-Name", "")))
    words = unquote(request.headers.get("X-File-Passphrase", ""))
    options = ImportOptions(
        skip_unknown=request.query.get("unknown") == "skip", skip_device=request.query.get("device") == "skip"
    )
    folder = workspace.home.ensure().spool / f"brought-{secrets.token_hex(6)}"
    await asyncio.to_thread(folder.mkdir, 0o700)
    try:
        await _receive(request, folder / name)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        raise
    sheet = request.app[DESK].start(
        text("import.title", file=name),
        "done_import.html",
        "/backups",
        _taking_in(workspace, folder / name, words, options),
    )
    return web.json_response({"at": f"{PREFIX}/jobs/{sheet.job.id}"})


def _taking_in(workspace: Workspace, path: Path, words: str, options: ImportOptions) -> Any:
    async def ask(_: str) -> str:
        if not words:
            raise NeedsPassphrase
        return words

    async def work(progress: Progress) -> Any:
        try:
            async with workspace.history() as history:
                return await take_in(workspace, history, path, ask, options=options, progress=progress)
        finally:
            await asyncio.to_thread(shutil.rmtree, path.parent, ignore_errors=True)

    return work


async def _receive(request: web.Request, path: Path) -> None:
    expected = request.content_length
    if expected is None:
        raise UploadBroken
    await asyncio.to_thread(check_space, path.parent, expected)
    file = await asyncio.to_thread(path.open, "xb")
    came = 0
    try:
        while came < expected:
            async with asyncio.timeout(_PIECE_SECONDS):
                data = await request.content.readany()
            if not data:
                break
            came += len(data)
            await asyncio.to_thread(file.write, data)
    except (TimeoutError, web.RequestPayloadError):
        raise UploadBroken from None
    finally:
        await asyncio.to_thread(file.close)
    if came != expected:
        raise UploadBroken


def _name(given: str) -> str:
    """The file's own name, as far as it can be one here: it is shown, and says whether the file is sealed."""
    name = "".join(each for each in given.replace("\\", "/").rpartition("/")[2] if each.isprintable())[-100:].strip(
        " ."
    )
    return name or "backup"


ROUTES = [
    web.post("/backups/import", bring),
    web.post("/backups/{id}/note", note),
    web.post("/backups/{id}/pin", pin),
    web.post("/backups/{id}/trash", trash),
    web.post("/backups/{id}/drill", try_it),
    web.post("/backups/{id}/deliver", send),
]
