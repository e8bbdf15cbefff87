"""Telling whoever sits at this laptop that something waits for a yes."""

from __future__ import annotations

import asyncio

from agent.config import ConfigError, load
from agent.log import get_logger
from agent.operations.alerts import Alert, AlertFailed, desktop, notifier
from agent.operations.requests import Request
from agent.operations.workspace import Workspace

log = get_logger(__name__)


async def notify(workspace: Workspace, asked: Request) -> None:
    """Show the request on the screen, where the settings allow it and there is a desktop. Never fails."""
    told = Alert(f"request/{asked.id}", "request-waits", f"{asked.text}. It waits for your yes: backroom open")
    try:
        config = await asyncio.to_thread(load, workspace.home)
        program = notifier() if config.alerts.desktop else ()
        if program:
            await desktop(program, told, over=False)
    except (AlertFailed, ConfigError) as error:
        log.info("not shown on the screen", request=asked.id, reason=str(error))
