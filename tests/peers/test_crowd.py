"""Ten laptops push to one while it pushes to another: all complete, one is applied at a time, memory stays bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from agent.operations.queue import Queue
from agent.peers.handler import Arrived, IncomingOffer, Part, Peer, Report
from agent.peers.limits import ClientLimits, ServerLimits
from agent.peers.push import read_manifest
from protocol.messages import SignedReceipt
from tests.peers.laptops import Laptop, Shelf, make_shop

SIZE = 12_000_000
LIMITS = ServerLimits(uploads=12)
PATIENT = ClientLimits(connect_seconds=20, answer_seconds=40)


class OneAtATime(Shelf):
    """Takes turns as the real handler does, and notes how many were at it together and what was said of the queue."""

    def begin(self) -> None:
        self.queue, self.now, self.most = Queue(), 0, 0
        self.places: list[str] = []

    async def apply(
        self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
    ) -> SignedReceipt:
        def told(before: int) -> None:
            self.places.append(f"{before}")
            report("queued", 0, 0, f"{before} before it")

        async with self.queue.turn(told):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.2)
            try:
                return await super().apply(peer, offer, part, arrived, report)
            finally:
                self.now -= 1


def kept(laptop: Laptop, path: Path) -> bytes:
    return (laptop.home.path / f"{read_manifest(path).bundle_id}.bundle").read_bytes()


async def test_ten_push_to_one_that_pushes_to_another(tmp_path: Path) -> None:
    center, other, *ten = make_shop(tmp_path, ["center", "other", *(f"laptop-{number:02}" for number in range(10))])
    center.shelf.__class__ = OneAtATime
    shelf = center.shelf
    assert isinstance(shelf, OneAtATime)
    shelf.begin()
    paths = [laptop.bundle(SIZE) for laptop in ten]
    own = center.bundle(SIZE)
    process = psutil.Process()
    files, memory = process.num_fds(), process.memory_info().rss
    most_files = most_memory = 0

    async def watch() -> None:
        nonlocal most_files, most_memory
        while True:
            most_files = max(most_files, process.num_fds() - files)
            most_memory = max(most_memory, process.memory_info().rss - memory)
            await asyncio.sleep(0.1)

    async with center.serve(limits=LIMITS) as server, other.serve(limits=LIMITS) as beyond:
        watching = asyncio.create_task(watch())
        pushed = await asyncio.gather(
            center.client(beyond.port, limits=PATIENT).push(other.node_id, own),
            *(
                laptop.client(server.port, limits=PATIENT).push(center.node_id, path)
                for laptop, path in zip(ten, paths, strict=True)
            ),
        )
        watching.cancel()
    assert {each.receipt.outcome for each in pushed} == {"stored"}
    assert all(kept(center, path) == path.read_bytes() for path in paths)
    assert kept(other, own) == own.read_bytes()
    assert shelf.most == 1
    assert shelf.places
    assert max(int(place) for place in shelf.places) <= 9
    # Both ends of all eleven are in this one process: the bundles together are 130 MB.
    assert most_files < 150
    assert most_memory < 150_000_000
