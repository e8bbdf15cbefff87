"""The queue of deliveries at work inside the agent: what is due is handed over by ``deliveries``."""

from __future__ import annotations

import asyncio
import importlib

from agent.beat import beat
from agent.delivery.errors import DeliveryError
from agent.delivery.outbox import Job, Outbox
from agent.log import get_logger
from agent.operations.bringing import clear_brought
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace, utc_now

log = get_logger(__name__)

POLL_SECONDS = 5.0
SWEEP_SECONDS = 3600.0


def outbox(workspace: Workspace) -> Outbox:
    """The queue of this data folder."""
    return Outbox(workspace.home.state / "outbox")


async def serve_outbox(workspace: Workspace) -> None:
    """The running agent's part: work the queue off, until cancelled. One delivery at a time."""
    box = outbox(workspace)
    swept = 0.0
    clock = asyncio.get_running_loop().time
    while True:
        try:
            if clock() - swept > SWEEP_SECONDS or not swept:
                swept = clock()
                await asyncio.to_thread(box.sweep, utc_now())
                await asyncio.to_thread(clear_brought, workspace)
            for job in await asyncio.to_thread(box.due, utc_now()):
                await _serve_one(workspace, job)
        except Exception:
            log.exception("the queue of deliveries")
        await beat(POLL_SECONDS)


async def _serve_one(workspace: Workspace, job: Job) -> None:
    try:
        # What hands over (seals, places, the engine) is imported with the first delivery that is due.
        deliveries = await asyncio.to_thread(importlib.import_module, "agent.operations.deliveries")
        async with workspace.history() as history:
            await deliveries.hand_over(workspace, history, job)
    except (DeliveryError, OperationError) as error:
        log.debug("delivery waits", id=job.id, reason=error.code)
    else:
        log.info("delivered", id=job.id, kind=job.kind, bytes=job.size)
