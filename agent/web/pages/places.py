"""The places that backups are delivered to, on the page: looked at, added, changed, tried, taken out; and the queue.

A password, and whatever a cloud wants beside it, goes into the settings and never comes back to the page: not into a
form, not into an address. It is kept over a change only while the place stays the same server or bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import ValidationError

from agent.config_delivery import DeliverySettings
from agent.delivery.base import Kept
from agent.delivery.errors import BadPlaceError
from agent.engine.progress import Progress
from agent.operations import deliveries, posting
from agent.operations.bringing import brought, files_at, written
from agent.operations.taking_in import take_in
from agent.web.pages.errors import BadField, Missing, NeedsPassphrase, PageError
from agent.web.pages.parts import DESK, field, fresh
from agent.web.pages.render import render, to
from agent.web.pages.texts import TEXTS, text

KINDS = ("folder", "smb", "email", "cloud")
SECURITY = ("starttls", "tls", "none")
OPEN_OPTIONS = ("endpoint", "region")  # of a cloud's options those that are shown again: no secrets
_HTTP = "allow_http"
# What the form has for each kind; a field of another kind may hold something that somebody typed before choosing.
_FIELDS = {
    "folder": ("path",),
    "smb": ("url", "user", "domain"),
    "email": ("server", "port", "security", "sender", "to", "user", "max_mb"),
    "cloud": ("url", "user"),
}


async def places(request: web.Request) -> web.Response:
    """Where backups are delivered to, what waits, and a form: for a new place, or with ``change`` for one of them."""
    name = request.query.get("change")
    if not name:
        return await _page(request, {})
    place = _known(fresh(request).config.delivery, name)
    if place is None:
        raise BadPlaceError(f"There is no place named {name!r}.")
    shown = {key: value for key, value in _plain(place).items() if key in OPEN_OPTIONS}
    if _plain(place).get(_HTTP, "").lower() == "true":
        shown[_HTTP] = "true"
    values = {key: value for key, value in place.stored().items() if key not in ("password", "options")}
    joined = {key: ", ".join(value) for key, value in values.items() if isinstance(value, tuple)}
    return await _page(request, {**values, **joined, **shown}, place)


async def _page(
    request: web.Request, form: Mapping[str, object], place: DeliverySettings | None = None, problem: str = ""
) -> web.Response:
    """The page, its form filled in with ``form``; ``place`` is the one that is changed, ``problem`` what was wrong."""
    workspace = fresh(request)
    context = {
        "places": workspace.config.delivery,
        "waiting": await asyncio.to_thread(posting.outbox(workspace).jobs),
        "kinds": KINDS,
        "securities": SECURITY,
        "form": form,
        "place": place,
        "secret": sorted(place.options.keys() - {*OPEN_OPTIONS, _HTTP}) if place else [],
        "problem": problem,
    }
    return render("deliveries.html", request, context, 400 if problem else 200)


async def keep_place(request: web.Request) -> web.Response:
    """Keep a place in the settings: a new one, or with ``change`` the one of that name as it is from now on.

    What cannot be kept comes back in the form with the reason, without its secrets.
    """
    workspace, form = fresh(request), await request.post()
    before = _known(workspace.config.delivery, str(form.get("name", "")).strip())
    try:
        if before is not None and "change" not in form:
            raise BadField(text("settings.name"), text("deliveries.taken", name=before.name))
        settings = _settings(form, before)
    except PageError as error:
        shown = {key: value for key, value in form.items() if key not in ("password", "more")}
        return await _page(request, shown, before if "change" in form else None, str(error))
    await asyncio.to_thread(deliveries.add_place, workspace, settings)
    raise to("/deliveries")


def _settings(form: Mapping[str, Any], before: DeliverySettings | None) -> DeliverySettings:
    """The place that the form describes; secrets that it leaves out are those of ``before``, if it is the same server.

    Raises :class:`BadField` and :class:`Missing`, with the words of the form.
    """
    kind = str(form.get("kind", ""))
    names = ("name", "recipients", *_FIELDS.get(kind, ()))
    given: dict[str, Any] = {name: str(form.get(name, "")).strip() for name in names}
    given = {"kind": kind, **{key: value for key, value in given.items() if value}}
    if not given.get("name"):
        raise Missing(text("settings.name"))
    if "plain" in form:
        given["plain"] = True
    if kind != "folder" and (password := str(form.get("password", ""))):
        given["password"] = password
    options = _options(form) if kind == "cloud" else {}
    if before is not None:
        if _where(given, options) == _where(before.stored(), _plain(before)):
            given = {**({"password": before.password} if before.password else {}), **given}
            hidden = {key: value for key, value in _plain(before).items() if key not in (*OPEN_OPTIONS, _HTTP)}
            options = {**hidden, **options}
        elif before.password and kind != "folder" and "password" not in given:
            raise BadField(text("deliveries.password"), text("deliveries.again"))
    if options := {key: value for key, value in options.items() if value}:
        given["options"] = options
    return _validated(given)


async def change_place(request: web.Request) -> web.StreamResponse:
    """Try a place, look what lies there, or take it out of the settings."""
    workspace, name, act = fresh(request), request.match_info["name"], await field(request, "act")
    if act == "remove":
        await asyncio.to_thread(deliveries.remove_place, workspace, name)
        raise to("/deliveries")
    if act == "files":

        async def look(progress: Progress) -> tuple[str, list[Kept]]:
            where, there = await files_at(workspace, name)
            return where, sorted(there, key=lambda each: written(each.name), reverse=True)

        title = text("deliveries.files.title", name=name)
        sheet = request.app[DESK].start(title, "done_files.html", "/deliveries", look, {"place": name})
        raise to(f"/jobs/{sheet.job.id}")

    async def work(progress: Progress) -> str:
        return await deliveries.try_place(workspace, name)

    sheet = request.app[DESK].start(text("deliveries.testing", name=name), "done_test.html", "/deliveries", work)
    raise to(f"/jobs/{sheet.job.id}")


async def take(request: web.Request) -> web.StreamResponse:
    """Fetch a backup that lies at a place, and take it into the archive."""
    workspace, name = fresh(request), request.match_info["name"]
    file, words = await field(request, "file"), str((await request.post()).get("words", ""))

    async def ask(_: str) -> str:
        if not words:
            raise NeedsPassphrase
        return words

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history, brought(workspace, f"{name}:{file}", progress=progress) as path:
            return await take_in(workspace, history, path, ask, progress=progress)

    sheet = request.app[DESK].start(text("import.title", file=file), "done_import.html", "/deliveries", work)
    raise to(f"/jobs/{sheet.job.id}")


async def change_waiting(request: web.Request) -> web.StreamResponse:
    """Try a waiting delivery now and show what comes of it, or take it out of the queue."""
    workspace, job_id = fresh(request), request.match_info["id"]
    if await field(request, "act") == "drop":
        await deliveries.drop(workspace, job_id)
        raise to("/deliveries")
    waiting = await asyncio.to_thread(posting.outbox(workspace).find, job_id)

    async def work(progress: Progress) -> Any:
        async with workspace.history() as history:
            return await deliveries.hand_over(workspace, history, waiting, progress=progress)

    title = text("deliver.title", file=waiting.name)
    sheet = request.app[DESK].start(title, "done_deliver.html", "/deliveries", work)
    raise to(f"/jobs/{sheet.job.id}")


def _known(listed: tuple[DeliverySettings, ...], name: str) -> DeliverySettings | None:
    return next((each for each in listed if each.name.lower() == name.lower()), None)


def _options(form: Mapping[str, Any]) -> dict[str, str]:
    """A cloud's options: those that have a field, and what stands in ``more`` as KEY=VALUE, a line each."""
    found = {name: str(form.get(name, "")).strip() for name in OPEN_OPTIONS}
    if _HTTP in form:
        found[_HTTP] = "true"
    for line in str(form.get("more", "")).splitlines():
        key, sign, value = (part.strip() for part in line.partition("="))
        if line.strip() and not (key and sign):
            raise BadField(text("deliveries.more"), text("deliveries.more.bad"))
        if key:
            found[key] = value
    return found


def _plain(place: DeliverySettings) -> dict[str, str]:
    return {key: value.get_secret_value() for key, value in place.options.items()}


def _where(values: Mapping[str, Any], options: Mapping[str, str]) -> tuple[object, ...]:
    """Who gets the secrets of a place: what must stay the same for them to be kept."""
    parts = urlsplit(str(values.get("url", "")))
    server = (parts.scheme, parts.netloc, values.get("server"), options.get("endpoint", ""), options.get(_HTTP, ""))
    return values["kind"], values.get("user"), str(values.get("port", "")), values.get("security"), *server


def _validated(values: Mapping[str, Any]) -> DeliverySettings:
    """Raises :class:`BadField` and :class:`Missing`, with the words of the form."""
    try:
        return DeliverySettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        why = str(first["msg"]).removeprefix("Value error, ")
        lacking, _, needed = why.partition(" is needed for ")
        if needed in KINDS:
            raise Missing(text(f"deliveries.{lacking}")) from None
        key = f"deliveries.{name}" if name != "name" else "settings.name"
        raise BadField(TEXTS.get(key, name) or text("deliveries.add"), why) from None


ROUTES = [
    web.get("/deliveries", places),
    web.post("/deliveries", keep_place),
    web.post("/deliveries/{name}", change_place),
    web.post("/deliveries/{name}/take", take),
    web.post("/queue/{id}", change_waiting),
]
