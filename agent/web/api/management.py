"""What is set and what waits: schedule, places of delivery, transfers under way, requests, what the doctor finds."""

from __future__ import annotations

import asyncio
from typing import Any

from agent.engine.progress import Progress
from agent.operations import deliveries, doctor, scheduling, standing
from agent.operations.requests import BUNDLE, Requests
from agent.operations.workspace import Workspace
from agent.web.api import models
from agent.web.api.errors import BadRequest
from agent.web.api.work import public


async def see_schedule(workspace: Workspace, asked: models.Nothing) -> Any:
    async with workspace.history() as history:
        runs = [public(each) for each in await history.runs(limit=50)]
    return {"entries": [each.model_dump(mode="json") for each in workspace.config.schedule], "runs": runs}


async def add_to_schedule(workspace: Workspace, asked: models.ScheduleAsked, progress: Progress) -> Any:
    values = asked.model_dump()
    return await asyncio.to_thread(lambda: scheduling.add_entry(workspace.home, **values))


async def remove_from_schedule(workspace: Workspace, asked: models.Named, progress: Progress) -> Any:
    await asyncio.to_thread(scheduling.remove_entry, workspace.home, asked.name)
    return {"removed": asked.name}


async def switch_in_schedule(workspace: Workspace, asked: models.SwitchAsked, progress: Progress) -> Any:
    await asyncio.to_thread(lambda: scheduling.switch_entry(workspace.home, asked.name, on=asked.on))
    return {"name": asked.name, "on": asked.on}


async def try_place(workspace: Workspace, asked: models.Named, progress: Progress) -> Any:
    return {"place": asked.name, "said": await deliveries.try_place(workspace, asked.name)}


async def remove_place(workspace: Workspace, asked: models.Named, progress: Progress) -> Any:
    removed = await asyncio.to_thread(deliveries.remove_place, workspace, asked.name)
    return {"removed": removed.public()}


async def see_transfers(workspace: Workspace, asked: models.Nothing) -> Any:
    async with workspace.history() as history:
        return [each.as_dict() for each in await standing.transfers(workspace, history)]


async def cancel(workspace: Workspace, asked: models.CancelAsked, progress: Progress) -> Any:
    async with workspace.history() as history:
        record = await standing.cancel(workspace, history, asked.transfer)
    return {"id": record.id, "state": "cancelled", "direction": record.direction}


async def see_requests(workspace: Workspace, asked: models.Nothing) -> Any:
    return [each.as_dict() for each in await asyncio.to_thread(Requests(workspace.home).all)]


async def answer(workspace: Workspace, asked: models.AnswerAsked, progress: Progress) -> Any:
    book = Requests(workspace.home)
    if asked.always and (not asked.yes or (await asyncio.to_thread(book.get, asked.request)).what != "push"):
        raise BadRequest("Only a yes to a push can be given for good.")
    done = await asyncio.to_thread(lambda: book.answer(asked.request, yes=asked.yes))
    if asked.always:
        await asyncio.to_thread(book.permit, done, BUNDLE)
    return done.as_dict()


async def diagnose(workspace: Workspace, asked: models.DoctorAsked, progress: Progress) -> Any:
    return (await doctor.doctor(workspace, asked.device)).as_dict()
