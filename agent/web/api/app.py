"""The application: endpoints, jobs, downloads, the page beside them."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, TypeVar

from aiohttp import hdrs, web
from pydantic import ValidationError

from agent.operations.scheduling import Planner
from agent.operations.workspace import Workspace
from agent.web.api import work
from agent.web.api.endpoints import ENDPOINTS, Endpoint
from agent.web.api.errors import BadRequest
from agent.web.api.health import HealthPages
from agent.web.api.jobs import RUNNING, Jobs
from agent.web.api.models import BundleAsked, Download, Request
from agent.web.api.openapi import document
from agent.web.api.security import guard
from agent.web.api.sending import lock_for_download, send_bundle
from agent.web.api.values import answer, encoded
from agent.web.pages.app import make_pages
from agent.web.pages.render import PREFIX

MAX_BODY = 64 * 1024
ALIVE_TICKS = 40  # of the watcher's quarter seconds
Model = TypeVar("Model", bound=Request)


def make_app(
    workspace: Workspace, token: str, assistant: str | None = None, planner: Planner | None = None
) -> web.Application:
    """The application over one data folder. Its jobs end with it. ``assistant`` is a token for the page alone, and
    ``planner`` knows the times of the schedule.
    """
    pages = make_pages(workspace, token, assistant, planner)
    app = web.Application(middlewares=[guard(token, but_for=pages)], client_max_size=MAX_BODY)
    jobs = Jobs()
    for endpoint in ENDPOINTS:
        handler = partial(_see, workspace, endpoint) if endpoint.see else partial(_do, workspace, jobs, endpoint)
        app.router.add_route(endpoint.method, endpoint.path, handler)
    app.router.add_get("/api/openapi.json", _openapi)
    app.router.add_get("/api/backup", partial(_download, workspace), allow_head=False)
    app.router.add_get("/api/bundles/{id}", partial(_bundle, workspace))
    app.router.add_get("/api/jobs", partial(_jobs, jobs))
    app.router.add_get("/api/jobs/{id}", partial(_job, jobs))
    app.router.add_delete("/api/jobs/{id}", partial(_cancel, jobs))
    app.router.add_get("/api/jobs/{id}/events", partial(_events, jobs), allow_head=False)

    health = HealthPages(workspace)
    app.router.add_get("/healthz", health.healthz)
    app.router.add_get("/metrics", health.metrics)
    app.add_subapp(PREFIX, pages)

    async def close(_: web.Application) -> None:
        await jobs.close()

    app.on_shutdown.append(close)
    return app


async def _see(workspace: Workspace, endpoint: Endpoint, request: web.Request) -> web.Response:
    assert endpoint.see is not None
    return answer(await endpoint.see(Workspace(workspace.home), _query(request, endpoint.request)))


async def _do(workspace: Workspace, jobs: Jobs, endpoint: Endpoint, request: web.Request) -> web.Response:
    do = endpoint.do
    assert do is not None
    asked = _validated(endpoint.request, await _body(request))
    job = jobs.start(
        endpoint.path.removeprefix("/api/"), lambda progress: do(Workspace(workspace.home), asked, progress)
    )
    return web.Response(
        text=encoded(job.as_dict()),
        status=202,
        content_type="application/json",
        headers={hdrs.LOCATION: f"/api/jobs/{job.id}", hdrs.CACHE_CONTROL: "no-store"},
    )


async def _openapi(request: web.Request) -> web.Response:
    return answer(document(ENDPOINTS))


async def _download(workspace: Workspace, request: web.Request) -> web.StreamResponse:
    asked, workspace = _query(request, Download), Workspace(workspace.home)
    work.kind_to_download(asked)
    lock = await lock_for_download(workspace, plain=asked.plain)
    made = await work.download(workspace, asked)
    response, _ = await send_bundle(request, workspace, made.file, made.record.checksum, lock)
    await work.downloaded(workspace, made.record.id)
    return response


async def _bundle(workspace: Workspace, request: web.Request) -> web.StreamResponse:
    asked, workspace = _query(request, BundleAsked), Workspace(workspace.home)
    path, record = await work.stored(workspace, request.match_info["id"])
    lock = await lock_for_download(workspace, plain=asked.plain)
    response, complete = await send_bundle(request, workspace, path, record.checksum if record else None, lock)
    if record is not None and complete:
        await work.downloaded(workspace, record.id)
    return response


async def _jobs(jobs: Jobs, request: web.Request) -> web.Response:
    return answer([job.as_dict() for job in jobs.all()])


async def _job(jobs: Jobs, request: web.Request) -> web.Response:
    return answer(jobs.get(request.match_info["id"]).as_dict())


async def _cancel(jobs: Jobs, request: web.Request) -> web.Response:
    return answer((await jobs.cancel(request.match_info["id"])).as_dict())


async def _events(jobs: Jobs, request: web.Request) -> web.StreamResponse:
    job_id = jobs.get(request.match_info["id"]).id
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store"})
    await response.prepare(request)
    quiet = 0
    async for job in jobs.watch(job_id):
        quiet = quiet + 1 if job is None else 0
        if job is not None:
            name = "progress" if job.state == RUNNING else job.state
            await response.write(f"event: {name}\ndata: {encoded(job.as_dict())}\n\n".encode())
        elif quiet % ALIVE_TICKS == 0:
            await response.write(b": alive\n\n")
    await response.write_eof()
    return response


def _query(request: web.Request, model: type[Model]) -> Model:
    if any(len(request.query.getall(name)) > 1 for name in request.query):
        raise BadRequest("A parameter was given twice.")
    return _validated(model, {name: value for name, value in request.query.items() if value != ""})


async def _body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise BadRequest("The request's body must be JSON.", "Send Content-Type: application/json.")
    try:
        return json.loads(await request.text())
    except ValueError:
        raise BadRequest("The request's body is not JSON.") from None


def _validated(model: type[Model], values: Any) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"{where}: {first['msg']}." if where else f"{first['msg']}.") from None
