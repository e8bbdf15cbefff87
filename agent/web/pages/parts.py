"""What the handlers share: where the data folder, the jobs and the view of the shop are, and how forms are read."""

from __future__ import annotations

from aiohttp import web

from agent.operations.glance import Glance
from agent.operations.scheduling import Planner
from agent.operations.workspace import Workspace
from agent.web.pages.desk import Desk
from agent.web.pages.errors import Missing, NotTyped

WORKSPACE = web.AppKey("workspace", Workspace)
DESK = web.AppKey("desk", Desk)
GLANCE = web.AppKey("glance", Glance)
PLANNER: web.AppKey[Planner | None] = web.AppKey("planner")


def fresh(request: web.Request) -> Workspace:
    """The data folder with its settings as they are now."""
    return Workspace(request.app[WORKSPACE].home)


async def field(request: web.Request, name: str) -> str:
    """A field of the form. Raises :class:`Missing`."""
    value = (await request.post()).get(name)
    if not isinstance(value, str) or not value.strip():
        raise Missing(name)
    return value


async def flag(request: web.Request, name: str) -> bool:
    """Whether a box is ticked."""
    return name in await request.post()


async def require_typed(request: web.Request, wanted: str) -> None:
    """Raise :class:`NotTyped` unless the field ``typed`` has this name; spaces and capitals do not count."""
    typed = str((await request.post()).get("typed", ""))
    if _bare(typed) != _bare(wanted):
        raise NotTyped(wanted)


def _bare(name: str) -> str:
    """A name as somebody types it: characters that cannot be seen are not part of it."""
    seen = "".join(each for each in name if each.isprintable() or each.isspace())
    return " ".join(seen.replace("\N{REPLACEMENT CHARACTER}", "").split()).casefold()
