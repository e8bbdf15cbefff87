"""Health: what the doctor finds, numbers over time, what the schedule and the log say; and the tables."""

from __future__ import annotations

from aiohttp import web

from agent.operations.doctor import doctor
from agent.operations.look import schema_of
from agent.operations.measures import log_lines, measures
from agent.tables.catalogue import TableClass
from agent.web.pages.charts import HEIGHT, WIDTH, chart
from agent.web.pages.jobs import shown
from agent.web.pages.parts import DESK, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import text
from protocol.manifest import Kind

RUNS = 20


async def health(request: web.Request) -> web.Response:
    """All of it on one page; the doctor's part comes when it is ready."""
    workspace = fresh(request)
    seen = await measures(workspace)
    async with workspace.history() as history:
        runs = await history.runs(limit=RUNS)
    context = {
        "charts": [chart(each) for each in seen.series if len(each.points) > 1],
        "last": seen.last,
        "runs": runs,
        "log": await log_lines(workspace),
        "box": (WIDTH, HEIGHT),
        "kinds": {each.value: text(f"kind.{each.value}") for each in Kind},
    }
    return render("health.html", request, context)


async def examine(request: web.Request) -> web.StreamResponse:
    """Have the doctor look; the job's part alone where htmx asks for it."""
    workspace = fresh(request)
    sheet = request.app[DESK].start(
        text("doctor.title"), "done_doctor.html", "/health", lambda _: doctor(workspace), {"inside": True}
    )
    if "HX-Request" in request.headers:
        return render("job_live.html", request, shown(sheet))
    raise to(f"/jobs/{sheet.job.id}")


async def tables(request: web.Request) -> web.Response:
    """Every table, by its class, with where that came from and how it travels."""
    _, classification = await schema_of(fresh(request))
    rules = {each: [classification.rule(name) for name in classification.of_class(each)] for each in TableClass}
    return render("tables.html", request, {"rules": rules})


ROUTES = [web.get("/health", health), web.post("/doctor", examine), web.get("/tables", tables)]
