"""Ten laptops with databases of their own push to one while it pushes to another: all complete, one apply at a time."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from agent.config import change
from agent.home import Home
from agent.operations.transfers import PushDone, push
from agent.operations.workspace import Workspace
from tests.support.agents import Laptop, Shops, ended

OURS, THEIRS = "Restaurant ABC", "Green Valley Grocery"
NOWHERE = "198.51.100.1"
"""No interface has this address, so mDNS does not start."""


@dataclass(slots=True)
class Seen:
    """What was seen of a running agent: the most files and bytes of memory, and in which phases transfers were."""

    files: int = 0
    memory: int = 0
    applying: int = 0
    queued: list[str] = field(default_factory=list)

    def look(self, process: psutil.Process, transfers: Path) -> None:
        self.files = max(self.files, process.num_fds())
        self.memory = max(self.memory, process.memory_info().rss)
        try:
            moving = json.loads(transfers.read_text())
        except FileNotFoundError:
            return
        self.applying = max(self.applying, sum(each["phase"] == "applying" for each in moving))
        self.queued += [each["text"] for each in moving if each["phase"] == "queued"]


@asynccontextmanager
async def watched(pid: int, home: Path) -> AsyncIterator[Seen]:
    """What an agent does as long as the block lasts."""
    seen, process = Seen(), psutil.Process(pid)

    async def watch() -> None:
        while True:
            seen.look(process, home / "state" / "transfers.json")
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        seen.look(process, home / "state" / "transfers.json")


def rename(laptop: Laptop, number: int) -> None:
    """A change that only this laptop has, and that is newer than what the others have."""
    laptop.execute(
        f"UPDATE business_customers SET name = '{laptop.name}', \"updatedAt\" = now() + interval '{number} seconds' "
        f'WHERE id = (SELECT id FROM business_customers WHERE "businessId" = (SELECT id FROM businesses WHERE '
        f"name = '{OURS}') ORDER BY id OFFSET {number} LIMIT 1)"
    )


async def one_push(laptop: Laptop, center: Laptop) -> PushDone:
    workspace = Workspace(Home(laptop.home))
    async with workspace.history() as history:
        return await push(workspace, history, OURS, center.name)


@pytest.mark.timeout(300)
def test_ten_push_to_one_that_pushes_to_another(shops: Shops) -> None:
    center = shops.laptop("laptop-center", "shop")
    other = shops.laptop("laptop-other")
    ten = [shops.laptop(f"laptop-{number:02}", "shop") for number in range(10)]
    shops.shop(center, other, *ten)
    for number, each in enumerate(ten):
        rename(each, number)
        each.history()  # made one after the other: Alembic migrates one database of a process at a time

    async def crowd(pid: int) -> tuple[list[PushDone], Seen]:
        async with watched(pid, center.home) as seen:
            return await asyncio.gather(*(one_push(each, center) for each in ten)), seen

    with center.running() as agent, other.running() as beyond:
        center.knows(beyond.port)
        for each in ten:
            change(Home(each.home), listen=(NOWHERE,), peers=(f"127.0.0.1:{agent.port}",))
        process = psutil.Process(agent.process.pid)
        files, memory = process.num_fds(), process.memory_info().rss
        own = center.start("push", THEIRS, other.name)
        pushed, seen = asyncio.run(crowd(agent.process.pid))
        answer = ended(own)
        assert answer.code == 0, answer
        assert answer.value["outcome"] == "applied"
        assert center.do("compare", "--business", THEIRS, "--with", other.name)["identical"] is True
    assert [each.receipt.outcome for each in pushed] == ["applied"] * 10
    names = {row[0] for row in center.query("SELECT name FROM business_customers")}
    assert {each.name for each in ten} <= names
    # One at a time, by the history's own times, and the others were told their place.
    applied = sorted((each["started_at"], each["ended_at"]) for each in center.history()["restores"])
    assert len(applied) == 10
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(applied))
    assert seen.applying <= 1
    assert any("before it" in text for text in seen.queued)
    # Each of the ten has a connection or two, a spooled file and its part of the archive open; none brings a process.
    assert seen.files - files < 100
    assert seen.memory - memory < 150_000_000
