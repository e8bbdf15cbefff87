"""``/healthz`` and ``/metrics``: behind the token like all else (Prometheus reads it from ``state/api-token``).

Prometheus' library is imported with the first question: few laptops are ever asked.
"""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from agent.operations.devices import devices
from agent.operations.workspace import Workspace
from agent.web.api.values import answer
from certs.errors import TrustError

ASK_AGAIN_SECONDS = 60.0
WAIT_SECONDS = 6.0


class HealthPages:
    """The two pages over one data folder. How many devices answer is asked once a minute at most."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._online: int | None = None
        self._asked = float("-inf")

    async def healthz(self, request: web.Request) -> web.Response:
        """200 where nothing needs attention, else 503; the words are in the body."""
        from agent.operations.health import health

        seen = await health(Workspace(self._workspace.home))
        return answer(seen.as_dict(), 200 if seen.ok else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """The numbers in Prometheus' text format."""
        from agent.operations.health import CONTENT_TYPE, metrics

        body = await metrics(Workspace(self._workspace.home), online=await self._devices_online())
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store"})

    async def _devices_online(self) -> int | None:
        now = asyncio.get_running_loop().time()
        if now - self._asked >= ASK_AGAIN_SECONDS:
            self._asked = now
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    found = await devices(self._workspace)
                self._online = sum(each.online and not each.this for each in found)
            except (TrustError, OSError, TimeoutError):
                self._online = None
        return self._online
