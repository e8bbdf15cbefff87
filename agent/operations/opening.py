"""The link to the page of the agent that runs on this data folder; the agent is started where none runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from agent.aiohttp_lean import aiohttp
from agent.home import Home
from agent.operations.errors import OperationError

_WAIT_SECONDS = 10.0
_START_SECONDS = 30.0
_DETACHED = 0x00000008 | 0x00000200  # of Windows: no console, no Ctrl+C of this one


class NoPage(OperationError):
    code = "agent-not-running"
    hint = "Start it with `backroom run`, leave it running, and try again."


async def page_link(home: Home, *, assistant: bool = False) -> str:
    """A fresh link, good once: an admin's, or an ``assistant``'s. Raises :class:`NoPage` where no agent answers."""
    kept = home.state / ("assistant-token" if assistant else "api-token")
    try:
        port = int(await asyncio.to_thread((home.state / "api-port").read_text, "ascii"))
        token = (await asyncio.to_thread(kept.read_text, "ascii")).strip()
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


async def start_agent(home: Home) -> bool:
    """Start the agent in the background unless one runs, and wait until its page answers. Whether it was started here.

    It goes on after this process. Raises :class:`NoPage` where it ends or does not answer.
    """
    port = home.state / "api-port"
    process: subprocess.Popen[bytes] | None = None
    if not await asyncio.to_thread(home.locked, "agent"):
        await asyncio.to_thread(port.unlink, missing_ok=True)  # of one that was killed
        process = await asyncio.to_thread(_spawn, home)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await asyncio.to_thread(port.exists) or not await asyncio.to_thread(home.locked, "agent"):
                if process is not None and process.poll() is not None:
                    raise NoPage("The agent was started and has ended again.", "`backroom run` says why.")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NoPage("The agent was started, and its page does not answer yet.", "Try again in a moment.") from None
    return process is not None


def _spawn(home: Home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-m", "agent.cli.main", "--home", str(home.path), "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=sys.platform != "win32",
        creationflags=_DETACHED if sys.platform == "win32" else 0,
    )
