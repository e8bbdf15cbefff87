"""The shop's authority on the page: sealed with a passphrase it goes to a second admin, who opens it there."""

from __future__ import annotations

from aiohttp import web

from agent.engine.progress import Progress
from agent.operations.governing import accept_authority, share_authority
from agent.operations.targets import other_device
from agent.web.pages.kits import NotTheSame
from agent.web.pages.parts import DESK, field, fresh
from agent.web.pages.render import to
from agent.web.pages.texts import text


async def share(request: web.Request) -> web.StreamResponse:
    """Send it to another admin's laptop."""
    workspace = fresh(request)
    member = other_device(workspace, request.match_info["id"])
    words = await field(request, "passphrase")
    if words != await field(request, "again"):
        raise NotTheSame

    async def work(progress: Progress) -> str:
        return (await share_authority(workspace, member.node_id, words)).name

    title = text("authority.sharing", device=member.name)
    sheet = request.app[DESK].start(title, "done_authority.html", "/laptops", work)
    raise to(f"/jobs/{sheet.job.id}")


async def accept(request: web.Request) -> web.StreamResponse:
    """Open what another admin has sent, and keep it."""
    await accept_authority(fresh(request), await field(request, "passphrase"))
    raise to("/laptops")


ROUTES = [
    web.post("/laptops/{id}/authority", share),
    web.post("/authority", accept),
]
