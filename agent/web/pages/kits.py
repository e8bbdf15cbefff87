"""The recovery kit from the page: sealed with a passphrase, held in memory until it is downloaded."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path

from aiohttp import hdrs, web

from agent.operations.kits import KitDone, export_kit
from agent.web.pages.errors import PageError
from agent.web.pages.parts import field, fresh
from agent.web.pages.render import render, to
from agent.web.pages.setting_up import step
from agent.web.pages.texts import text
from protocol.names import slug


class NotTheSame(PageError):
    code = "passphrases-differ"

    def __init__(self) -> None:
        super().__init__(text("kit.differ"), text("form.typed.hint"))


class OtherPassphrase(PageError):
    """The recovery key has a passphrase of its own, which the page does not ask for."""

    code = "other-passphrase"

    def __init__(self) -> None:
        super().__init__(text("kit.other"), text("kit.other.hint"))


@dataclass(slots=True)
class KitShelf:
    """The kit that was made last: gone when the agent ends, or the next is made."""

    made: KitDone | None = None
    data: bytes = attribute(default=b"", repr=False)
    filename: str = ""


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


ROUTES = [
    web.get("/kit", kit),
    web.get("/setup/kit", first_kit),
    web.post("/kit", make),
    web.get("/kit/file", file, allow_head=False),
]
