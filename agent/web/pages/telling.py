"""Who is told when something needs attention: the desktop, email, a webhook. Its address is a secret, shown no more."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from agent.config import change
from agent.engine.progress import Progress
from agent.operations.alerts import try_alert
from agent.web.pages.parts import DESK, flag, fresh
from agent.web.pages.render import to
from agent.web.pages.texts import text


async def keep(request: web.Request) -> web.StreamResponse:
    """Keep who is told; with ``try`` tell them something right away."""
    workspace, form = fresh(request), await request.post()
    before = workspace.config.alerts.webhook
    webhook = str(form.get("webhook", "")).strip() or (before.get_secret_value() if before else None)
    told: dict[str, Any] = {
        "desktop": await flag(request, "desktop"),
        "email": str(form.get("email", "")),
        "webhook": None if await flag(request, "no_webhook") else webhook,
        "repeat_hours": str(form.get("repeat_hours", "")).strip() or 24,
    }
    await asyncio.to_thread(lambda: change(workspace.home, alerts=told))
    if not await flag(request, "try"):
        raise to("/settings")

    async def work(progress: Progress) -> tuple[tuple[str, str], ...]:
        return await try_alert(fresh(request))

    sheet = request.app[DESK].start(text("alerts.trying"), "done_alert.html", "/settings", work)
    raise to(f"/jobs/{sheet.job.id}")


ROUTES = [web.post("/alerts", keep)]
