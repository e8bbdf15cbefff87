"""The recovery kit on the page: made, sealed with a passphrase and held in memory until it is downloaded; and taken.

A kit that is to be taken is opened first, and what it would make of this laptop is shown before that is done.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from urllib.parse import unquote

from aiohttp import hdrs, web

from agent.operations.kits import MOST, KitDone, KitFound, export_kit, open_kit, take_kit
from agent.web.pages.errors import Missing, PageError
from agent.web.pages.parts import GLANCE, field, fresh, require_typed
from agent.web.pages.render import PREFIX, render, to
from agent.web.pages.setting_up import STEPS, step
from agent.web.pages.texts import text
from protocol.names import slug

_UPLOAD_SECONDS = 60.0
_WAIT_SECONDS = 600.0


class NotTheSame(PageError):
    code = "passphrases-differ"

    def __init__(self) -> None:
        super().__init__(text("kit.differ"), text("kit.differ.hint"))


class OtherPassphrase(PageError):
    """The recovery key has a passphrase of its own, which the page does not ask for."""

    code = "other-passphrase"

    def __init__(self) -> None:
        super().__init__(text("kit.other"), text("kit.other.hint"))


class TooLate(PageError):
    code = "kit-gone"
    status = 409

    def __init__(self) -> None:
        super().__init__(text("kit.gone"), text("kit.gone.hint"))


@dataclass(frozen=True, slots=True)
class Brought:
    """A kit that was opened, its passphrase, and until when (the loop's clock) it waits for a word."""

    found: KitFound
    passphrase: str = attribute(repr=False)
    until: float


@dataclass(slots=True)
class KitShelf:
    """The kit that was made last, and the one that was brought: gone when the agent ends, or with the next."""

    made: KitDone | None = None
    data: bytes = attribute(default=b"", repr=False)
    filename: str = ""
    brought: Brought | None = None
    taken: KitDone | None = None


SHELF = web.AppKey("kit", KitShelf)


async def kit(request: web.Request) -> web.Response:
    """Ask for a passphrase, or offer the kit that was made with it."""
    return render("kit.html", request, {"shelf": request.app[SHELF]})


async def first_kit(request: web.Request) -> web.Response:
    """The same as a step of set-up."""
    return step("kit", request, {"shelf": request.app[SHELF]})


async def make(request: web.Request) -> web.StreamResponse:
    """Seal it, after proving that it opens."""
    workspace, shelf = fresh(request), request.app[SHELF]
    passphrase = await field(request, "passphrase")
    if passphrase != await field(request, "again"):
        raise NotTheSame

    async def other(words: str) -> str:
        raise OtherPassphrase

    with tempfile.TemporaryDirectory(dir=workspace.home.ensure().state) as folder:
        file = Path(folder) / f"{slug(workspace.config.device_name())}.kit"
        shelf.made = await export_kit(workspace, file, passphrase, other)
        shelf.data, shelf.filename = await asyncio.to_thread(file.read_bytes), file.name
    raise to("/setup/kit" if (await request.post()).get("step") else "/kit")


async def file(request: web.Request) -> web.Response:
    """The kit itself; it opens with the passphrase alone."""
    shelf = request.app[SHELF]
    if shelf.made is None:
        raise to("/kit")
    return web.Response(
        body=shelf.data,
        headers={
            hdrs.CONTENT_TYPE: "application/octet-stream",
            hdrs.CONTENT_DISPOSITION: f'attachment; filename="{shelf.filename}"',
            hdrs.CACHE_CONTROL: "no-store",
        },
    )


async def bring(request: web.Request) -> web.StreamResponse:
    """Open a kit: its bytes are the body, its passphrase is in a header. Nothing is changed yet."""
    workspace, shelf = fresh(request), request.app[SHELF]
    shelf.brought = shelf.taken = None
    words = unquote(request.headers.get("X-File-Passphrase", ""))
    if not words:
        raise Missing(text("kit.passphrase"))
    data = bytearray()
    async with asyncio.timeout(_UPLOAD_SECONDS):
        async for piece in request.content.iter_chunked(1 << 16):
            data += piece
            if len(data) > MOST:
                break
    name = Path(unquote(request.headers.get("X-File-Name", "")).replace("\\", "/")).name or text("kit.file")
    found = await open_kit(workspace, Path(name), bytes(data), words)
    shelf.brought = Brought(found, words, asyncio.get_running_loop().time() + _WAIT_SECONDS)
    return web.json_response({"at": f"{PREFIX}/setup/import" if "step" in request.query else f"{PREFIX}/kit/import"})


async def importing(request: web.Request) -> web.Response:
    """Ask for a kit; say what is in the one that was brought; say what came of it."""
    return render("kit_import.html", request, _offered(request))


async def first_import(request: web.Request) -> web.Response:
    """The same as a step of set-up."""
    return step("import", request, {**_offered(request), "step": STEPS.index("shop")})


def _offered(request: web.Request) -> dict[str, object]:
    """What the form says; that a kit was taken it says once."""
    shelf = request.app[SHELF]
    taken, shelf.taken = shelf.taken, None
    if shelf.brought is not None and asyncio.get_running_loop().time() > shelf.brought.until:
        shelf.brought = None
    return {"brought": shelf.brought.found if shelf.brought else None, "taken": taken}


async def take(request: web.Request) -> web.StreamResponse:
    """Make this laptop the device of the kit; its name is typed where another key gives way to it."""
    shelf, form = request.app[SHELF], await request.post()
    _offered(request)
    if "stop" not in form:
        if shelf.brought is None:
            raise TooLate
        if shelf.brought.found.instead_of:
            await require_typed(request, shelf.brought.found.done.name)
        shelf.taken = await take_kit(fresh(request), shelf.brought.found, shelf.brought.passphrase)
        await request.app[GLANCE].refresh()
    shelf.brought = None
    raise to("/setup/import" if form.get("step") else "/kit/import")


ROUTES = [
    web.get("/kit", kit),
    web.get("/setup/kit", first_kit),
    web.post("/kit", make),
    web.get("/kit/file", file, allow_head=False),
    web.get("/kit/import", importing),
    web.get("/setup/import", first_import),
    web.post("/kit/import", take),
    web.post("/kit/import/file", bring),
]
