"""The composition root: what ``backroom run`` puts together, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import agent.aiohttp_lean  # noqa: F401 - before anything else imports aiohttp
from agent.config import load_early
from agent.heaps import few_heaps
from agent.home import Home
from agent.log import get_logger, setup
from agent.operations.posting import serve_outbox
from agent.operations.serve import serving, wait_for_setup
from agent.operations.workspace import Workspace
from agent.schedule.runner import Runner
from agent.schedule.seen import Seen
from agent.web.serving import serving_api

log = get_logger(__name__)


async def run_agent(home: Home, *, ready: Callable[[int], None]) -> None:
    """Run until told to stop (SIGINT, SIGTERM; Ctrl+C on Windows). ``ready`` is called with the port.

    Before the laptop is set up it serves its page alone, where that is done, and then goes on by itself.

    Raises ``HomeBusyError`` where another agent runs on this folder, and errors of the layers below.
    """
    few_heaps()
    workspace = Workspace(home)
    level = load_early(home).log_level
    close_log = setup(home, level=level, console_level=level)
    try:
        with home.lock("agent"):
            stop = asyncio.Event()
            _on_signals(stop)
            running = asyncio.create_task(_serve(workspace, stop, ready))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    log.info("stopping")
                    running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            finally:
                stopping.cancel()
            if not running.cancelled() and (error := running.exception()) is not None:
                raise error
    finally:
        close_log()


async def _serve(workspace: Workspace, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
    async with serving_api(workspace, planner=Seen()):
        await wait_for_setup(workspace)
        # The schedule and the deliveries need no shop, and go on while a shop is waited for.
        beside = [asyncio.create_task(Runner(workspace).run()), asyncio.create_task(serve_outbox(workspace))]
        try:
            # The settings as they are when there is a shop: joining may have noted an address.
            async with serving(Workspace(workspace.home)) as server:
                ready(server.port)
                await stop.wait()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        try:
            loop.add_signal_handler(getattr(signal, name), stop.set)
        except (NotImplementedError, AttributeError):
            # Windows has no signal handlers in the loop: Ctrl+C arrives as KeyboardInterrupt.
            return
