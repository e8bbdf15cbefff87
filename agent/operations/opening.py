"""The link to the page of the agent that runs on this data folder."""

from __future__ import annotations

import asyncio

import aiohttp

from agent.home import Home
from agent.operations.errors import OperationError

_WAIT_SECONDS = 10.0


class NoPage(OperationError):
    code = "agent-not-running"
    hint = "Start it with `backroom run`, leave it running, and try again."


async def page_link(home: Home) -> str:
    """A fresh link, good once. Raises :class:`NoPage` where no agent answers."""
    try:
        port = int(await asyncio.to_thread((home.state / "api-port").read_text, "ascii"))
        token = (await asyncio.to_thread((home.state / "api-token").read_text, "ascii")).strip()
    except (OSError, ValueError):
        raise NoPage("The agent does not run here, so there is no page.") from None
    timeout = aiohttp.ClientTimeout(total=_WAIT_SECONDS)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=False) as client:
            async with client.post(f"http://127.0.0.1:{port}/page/ticket") as response:
                response.raise_for_status()
                return str((await response.json())["link"])
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        raise NoPage("The agent's page does not answer.") from None
