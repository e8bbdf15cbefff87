"""The page of one job: how far it is, what came of it."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import hdrs, web

from agent.engine.progress import BYTES
from agent.web.api.jobs import RUNNING
from agent.web.pages.desk import Sheet
from agent.web.pages.parts import DESK
from agent.web.pages.render import PREFIX, SESSION, render
from agent.web.pages.roles import check_job
from agent.web.pages.texts import detail, stage

_MOVING = ("sending", "fetching")  # their steps count bytes, and tell the rate in their own words too
_ALIVE_TICKS = 40  # of the watcher's quarter seconds


def shown(sheet: Sheet) -> dict[str, object]:
    """What the templates need of a job."""
    return {
        "sheet": sheet,
        "job": sheet.job,
        "stage": stage(sheet.job.step.stage),
        "what": detail(sheet.job.step.what),
        "bytes": sheet.job.step.unit == BYTES or sheet.job.step.stage in _MOVING,
    }


def _asked(request: web.Request) -> Sheet:
    """The job that the path names, where the reader may see it."""
    sheet = request.app[DESK].get(request.match_info["id"])
    check_job(request[SESSION].role, sheet.template)
    return sheet


async def job(request: web.Request) -> web.Response:
    """The whole page; only the part that moves where htmx asks."""
    sheet = _asked(request)
    part = "HX-Request" in request.headers
    return render("job_state.html" if part else "job.html", request, shown(sheet))


async def cancel(request: web.Request) -> web.StreamResponse:
    """Stop it; what was not finished is put back."""
    job = await request.app[DESK].jobs.cancel(_asked(request).job.id)
    raise web.HTTPSeeOther(f"{PREFIX}/jobs/{job.id}")


async def events(request: web.Request) -> web.StreamResponse:
    """``moved`` with the stage in words whenever it goes on; ``ended`` last."""
    desk = request.app[DESK]
    sheet = _asked(request)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"})
    quiet = 0
    with suppress(ConnectionResetError):  # who listened has gone
        await response.prepare(request)
        async for job in desk.jobs.watch(sheet.job.id):
            quiet = quiet + 1 if job is None else 0
            if job is not None:
                event, words = ("moved", stage(job.step.stage)) if job.state == RUNNING else ("ended", stage(job.state))
                await response.write(f"event: {event}\ndata: {words}\n\n".encode())
            elif quiet % _ALIVE_TICKS == 0:
                await response.write(b": alive\n\n")
        await response.write_eof()
    return response


ROUTES = [
    web.get("/jobs/{id}", job),
    web.get("/jobs/{id}/events", events, allow_head=False),
    web.post("/jobs/{id}/cancel", cancel),
]
