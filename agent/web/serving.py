"""The port of the API and the page. What serves them is imported with the first who asks, with much that it works with:
on most laptops of a shop the page is opened seldom, and an agent should cost little.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from agent.config import load_early
from agent.log import get_logger
from agent.operations.scheduling import Planner
from agent.operations.workspace import Workspace
from agent.peers.listen import listen
from agent.web.api.errors import PortsTaken
from agent.web.api.security import load_token

log = get_logger(__name__)

HOST = "127.0.0.1"
DEFAULT_PORT = 47601


@dataclass(frozen=True, slots=True)
class Serving:
    """Where the API is: ``http://127.0.0.1:port``."""

    port: int


@asynccontextmanager
async def serving_api(workspace: Workspace, planner: Planner | None = None) -> AsyncIterator[Serving]:
    """Serve as long as the block lasts, on the configured port; where the usual one is taken, on any.

    The port is in ``state/api-port``, the token in ``state/api-token``, the one of the page's assistants in
    ``state/assistant-token`` (both mode 0600). Raises ``PortsTaken``.
    """
    workspace.home.ensure()
    state = workspace.home.state
    token = await asyncio.to_thread(load_token, state / "api-token")
    assistant = await asyncio.to_thread(load_token, state / "assistant-token")
    listener = _listen(load_early(workspace.home).web_port)
    door = _Door(listener, partial(_make, workspace, token, assistant, planner))
    opening = asyncio.create_task(door.open())
    try:
        port = int(listener.getsockname()[1])
        await asyncio.to_thread((state / "api-port").write_text, f"{port}\n")
        log.info("api", port=port)
        yield Serving(port)
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await door.close()
        await asyncio.to_thread((state / "api-port").unlink, missing_ok=True)


def _make(workspace: Workspace, token: str, assistant: str, planner: Planner | None) -> web.Application:
    from agent.web.api.app import make_app

    return make_app(workspace, token, assistant, planner)


def _listen(port: int) -> socket.socket:
    for each in dict.fromkeys((port, 0) if port == DEFAULT_PORT else (port,)):
        try:
            return listen(HOST, each)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise PortsTaken(f"Port {port} of this laptop is taken.")


class _Door:
    """Keeps a listening socket until somebody comes; from then on the application has it."""

    def __init__(self, listener: socket.socket, make: Callable[[], web.Application]) -> None:
        self._listener = listener
        self._make = make
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        """Wait for the first who asks, and serve."""
        loop = asyncio.get_running_loop()
        first, _ = await loop.sock_accept(self._listener)
        try:
            await asyncio.to_thread(importlib.import_module, "agent.web.api.app")
            self._runner = web.AppRunner(self._make(), access_log=None, shutdown_timeout=1.0)
            await self._runner.setup()
            await web.SockSite(self._runner, self._listener).start()
            assert self._runner.server is not None
            await loop.connect_accepted_socket(self._runner.server, first)
        except OSError:  # who asked first is gone already
            first.close()
        except BaseException as error:
            first.close()
            if isinstance(error, Exception):
                log.exception("the page cannot be served")
            raise

    async def close(self) -> None:
        """Serve nobody any more."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._listener.close()
