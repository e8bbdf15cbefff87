"""The queue of deliveries at work inside the agent: what is due is handed over by ``deliveries``."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

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
UNNOTED_SECONDS = 300.0

# What this process delivered and could not take out of the queue: it is still there, and must not go out again.
_sent: set[Path] = set()


def outbox(workspace: Workspace) -> Outbox:
    """The queue of this data folder."""
    return Outbox(workspace.home.state / "outbox")


def was_sent(box: Outbox, job: Job) -> bool:
    """Whether the job is in the queue only because it could not be taken out of it."""
    return box.folder / job.id in _sent


async def finish(box: Outbox, job: Job) -> None:
    """Take what was delivered out of the queue; where the disk says no, remember that it was."""
    place = box.folder / job.id
    _sent.add(place)
    try:
        await asyncio.to_thread(box.done, job)
    except OSError as error:
        log.warning("delivered, but still in the queue", id=job.id, reason=str(error))
    else:
        _sent.discard(place)


async def serve_outbox(workspace: Workspace) -> None:
    """The running agent's part: work the queue off, until cancelled. One delivery at a time.

    Each with the present settings, and whatever goes wrong with one, the others have their turn.
    """
    box = outbox(workspace)
    swept = 0.0
    clock = asyncio.get_running_loop().time
    later: dict[str, float] = {}
    while True:
        try:
            if clock() - swept > SWEEP_SECONDS or not swept:
                swept = clock()
                await asyncio.to_thread(box.sweep, utc_now())
                await asyncio.to_thread(clear_brought, workspace)
            for job in await asyncio.to_thread(box.due, utc_now()):
                if clock() < later.get(job.id, 0.0):
                    continue
                workspace = await asyncio.to_thread(workspace.anew)
                if not await _serve_one(workspace, box, job):
                    later[job.id] = clock() + UNNOTED_SECONDS
        except Exception:
            log.exception("the queue of deliveries")
        await beat(POLL_SECONDS)


async def _serve_one(workspace: Workspace, box: Outbox, job: Job) -> bool:
    """Try one job. False where it stays due, since the queue cannot be written: it is to wait all the same."""
    if was_sent(box, job):
        await finish(box, job)
        return not was_sent(box, job)
    try:
        # What hands over (seals, places, the engine) is imported with the first delivery that is due.
        deliveries = await asyncio.to_thread(importlib.import_module, "agent.operations.deliveries")
        async with workspace.history() as history:
            await deliveries.hand_over(workspace, history, job)
    except (DeliveryError, OperationError) as error:
        log.debug("delivery waits", id=job.id, reason=error.code)
    except Exception as error:
        log.exception("a delivery failed", id=job.id, kind=job.kind)
        return await _set_back(box, job, error)
    else:
        log.info("delivered", id=job.id, kind=job.kind, bytes=job.size)
    return True


async def _set_back(box: Outbox, job: Job, error: Exception) -> bool:
    """Have a job that failed for a reason unforeseen tried again later. Whether that could be noted."""

    def work() -> None:
        current = box.again(job.id)
        if current is not None and not was_sent(box, current):
            code, reason = str(getattr(error, "code", "unexpected")), str(error) or type(error).__name__
            hint = str(getattr(error, "hint", ""))
            box.failed(current, utc_now(), code=code, error=reason, hint=hint, temporary=True)

    try:
        await asyncio.to_thread(work)
    except OSError as problem:
        log.warning("the queue of deliveries cannot be written", id=job.id, reason=str(problem))
        return False
    return True
