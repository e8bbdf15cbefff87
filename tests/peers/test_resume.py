"""Going on after an interruption without reading everything again, waiting for space, cancelling, pace."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from agent.archive.errors import DiskFullError
from agent.archive.incoming import Incoming
from agent.archive.spool import Spool
from agent.engine.bundle_file import verify_bundle
from agent.peers import push, receive
from agent.peers.client import PeerClient
from agent.peers.errors import Refused
from agent.peers.handler import Accept, Arrived, Decision, IncomingOffer, Part, Peer, Report
from agent.peers.limits import ClientLimits, ServerLimits
from agent.peers.pace import Meter, Throttle
from agent.peers.push import read_manifest
from agent.peers.receive import Receiver
from certs.identity import verify_signature
from protocol.messages import Problem, SignedReceipt
from tests.peers.laptops import QUICK_CLIENT, Laptop, Shelf
from tests.peers.proxy import Proxy

OFTEN = ServerLimits(handshake_seconds=3, first_request_seconds=3, idle_seconds=3, sync_bytes=1 << 20)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose disk is slow gets the time to hear that the sender stops."""
    monkeypatch.setattr(push, "GOODBYE_SECONDS", 20.0)


class Careful(Shelf):
    """A shelf that verifies the whole file before it takes it, as the real handler does."""

    async def apply(
        self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
    ) -> SignedReceipt:
        await verify_bundle(part.path, verify_signature)
        return await super().apply(peer, offer, part, arrived, report)


def kept(laptop: Laptop, path: Path) -> Path:
    return laptop.home.path / f"{read_manifest(path).bundle_id}.bundle"


def part_of(laptop: Laptop, path: Path) -> Incoming:
    return Spool(laptop.home).open(read_manifest(path).bundle_id, path.stat().st_size)


async def receive_some(laptop: Laptop, path: Path, size: int) -> None:
    """What is on disk after a transfer broke off."""
    receiver = Receiver(part_of(laptop, path), path.stat().st_size)
    await receiver.open()
    data = path.read_bytes()[:size]
    for start in range(0, size, 400_000):
        await receiver.take(data[start : start + 400_000])
        await receiver.sync()
    await receiver.close()


async def test_it_goes_on_from_the_mark_and_reads_little_again(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(6_000_000)
    await receive_some(back, path, 4_000_000)
    read: list[int] = []

    class Watched(Incoming):
        async def read(self, chunk: int = 1 << 20, *, start: int = 0):  # type: ignore[no-untyped-def]
            async for data in super().read(chunk, start=start):
                read.append(len(data))
                yield data

    part = part_of(back, path)
    receiver = Receiver(Watched(part.path, part.bundle_id, part.size), path.stat().st_size)
    await receiver.open()
    assert receiver.resumed
    assert receiver.offset == 4_000_000
    # The manifest, the last piece before the mark, and what came after the mark: not the four megabytes.
    assert sum(read) < 2_500_000
    await receiver.take(path.read_bytes()[4_000_000:])
    await receiver.finish()
    assert part.path.read_bytes() == path.read_bytes()
    await receiver.part.discard()
    await receiver.close()
    assert list(back.home.spool.iterdir()) == []


@pytest.mark.parametrize("what", ["no mark", "torn mark", "other mark", "part behind the mark", "tail changed"])
async def test_a_mark_that_does_not_fit_is_as_good_as_none(shop: list[Laptop], what: str) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(2_000_000)
    await receive_some(back, path, 1_600_000)
    part = part_of(back, path).path
    mark = part.with_suffix(".mark")
    other = mark.read_bytes()
    changed = bytearray(part.read_bytes())
    match what:
        case "no mark":
            mark.unlink()
        case "torn mark":
            mark.write_bytes(other[:-20])
        case "other mark":
            mark.write_bytes(b"\0" * 32 + other[32:])
        case "part behind the mark":
            part.write_bytes(changed[:700_000])
        case "tail changed":
            changed[1_500_000] ^= 1
            part.write_bytes(changed)
    async with back.serve() as server:
        pushed = await front.client(server.port).push(back.node_id, path)
    whole, size = what == "tail changed", path.stat().st_size
    assert pushed.sent == (size if whole else size - 700_000 if "behind" in what else size - 1_600_000)
    assert kept(back, path).read_bytes() == path.read_bytes()


async def test_damage_before_the_mark_is_found_at_the_end_and_all_is_sent_again(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    back.shelf.__class__ = Careful
    path = front.bundle(2_000_000)
    await receive_some(back, path, 1_600_000)
    part = part_of(back, path).path
    changed = bytearray(part.read_bytes())
    changed[600_000] ^= 1
    part.write_bytes(changed)
    async with back.serve() as server:
        pushed = await front.client(server.port).push(back.node_id, path)
    size = path.stat().st_size
    assert pushed.sent == size - 1_600_000 + size
    assert kept(back, path).read_bytes() == path.read_bytes()


async def test_a_long_part_without_a_mark_starts_anew_so_that_no_offer_waits(
    shop: list[Laptop], monkeypatch: pytest.MonkeyPatch
) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(2_000_000)
    await receive_some(back, path, 1_600_000)
    part_of(back, path).path.with_suffix(".mark").unlink()
    monkeypatch.setattr(receive, "REREAD", 1_000_000)
    async with back.serve() as server:
        pushed = await front.client(server.port).push(back.node_id, path)
    assert pushed.sent == path.stat().st_size


async def test_the_sender_waits_for_space_and_says_so(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    told: list[tuple[str, str]] = []
    limits = ClientLimits(connect_seconds=3, space_seconds=20, space_pause=0.2)
    back.shelf.refuse = Problem("disk-full", "laptop-back has 3 MB free.", "Free some space there.")

    def tell(phase: str, _done: int, _total: int, text: str) -> None:
        told.append((phase, text))
        if phase == "no-space" and len(told) == 3:
            back.shelf.refuse = None

    async with back.serve() as server:
        client = front.client(server.port, limits=limits)
        pushed = await client.push(back.node_id, path, tell=tell)
        assert pushed.receipt.outcome == "stored"
        assert told[:3] == [("no-space", "laptop-back has 3 MB free. Free some space there.")] * 3
        back.shelf.refuse = Problem("disk-full", "laptop-back has 3 MB free.", "Free some space there.")
        brief = ClientLimits(connect_seconds=3, space_seconds=0.5, space_pause=0.2)
        with pytest.raises(Refused, match="3 MB free"):
            await front.client(server.port, limits=brief).push(back.node_id, front.bundle())


async def test_a_disk_that_fills_up_half_way_keeps_what_came(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(6_000_000)
    failures = [2_500_000]

    class Small(Incoming):
        async def write(self, data: bytes) -> None:
            if failures and self.offset > failures[0]:
                failures.pop()
                raise DiskFullError("The disk is full.", "Free some.")
            await super().write(data)

    class Filling(Shelf):
        async def offer(self, peer: Peer, offer: IncomingOffer) -> Decision:
            part = Spool(self.home).open(offer.manifest.bundle_id, offer.size)
            return Accept(Small(part.path, part.bundle_id, part.size))

    back.shelf.__class__ = Filling
    limits = ClientLimits(connect_seconds=3, idle_seconds=3, retry_seconds=5, space_seconds=20, space_pause=0.2)
    async with back.serve(limits=OFTEN) as server:
        await front.client(server.port, limits=limits).push(back.node_id, path)
    assert failures == []
    assert kept(back, path).read_bytes() == path.read_bytes()


async def slow_push(front: Laptop, back: Laptop, port: int, path: Path, dropped: asyncio.Event | None = None) -> None:
    client = PeerClient(front.directory(port), Throttle(2_000_000))
    begun = asyncio.Event()

    def tell(_phase: str, done: int, _total: int, _text: str) -> None:
        if done > 1_500_000:
            begun.set()

    pushing = asyncio.create_task(client.push(back.node_id, path, tell=tell, dropped=dropped))
    async with asyncio.timeout(30):
        await begun.wait()
    if dropped is not None:
        dropped.set()
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_sender_that_stops_says_so_and_goes_on_later(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(8_000_000)
    async with back.serve() as server:
        await slow_push(front, back, server.port, path)
        assert back.shelf.stops == [(read_manifest(path).bundle_id, False)]
        assert server.transfers() == ()
        there = part_of(back, path).path.stat().st_size
        assert there > 0
        pushed = await front.client(server.port).push(back.node_id, path)
    assert pushed.sent == path.stat().st_size - there
    assert kept(back, path).read_bytes() == path.read_bytes()


async def test_a_sender_that_cancels_leaves_nothing_behind(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(8_000_000)
    async with back.serve() as server:
        await slow_push(front, back, server.port, path, asyncio.Event())
        assert back.shelf.stops == [(read_manifest(path).bundle_id, True)]
        assert list(back.home.spool.iterdir()) == []


async def test_the_receiver_may_cancel_and_the_sender_hears_it(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(8_000_000)
    async with back.serve() as server:
        client = PeerClient(front.directory(server.port), Throttle(2_000_000))
        pushing = asyncio.create_task(client.push(back.node_id, path))
        async with asyncio.timeout(30):
            while not (standing := [t for t in server.transfers() if t.progress.offset > 1_000_000 and t.rate]):
                await asyncio.sleep(0.05)
        assert standing[0].rate > 0
        assert standing[0].left is not None
        back.shelf.refuse = Problem("cancelled", "The transfer was cancelled on laptop-back.", "Push again.")
        assert await server.cancel(standing[0].progress.transfer_id, "laptop-back")
        with pytest.raises(Refused, match="cancelled on laptop-back"):
            await pushing
        assert not await server.cancel(standing[0].progress.transfer_id, "laptop-back")
    assert back.shelf.stops == [(read_manifest(path).bundle_id, True)]
    assert list(back.home.spool.iterdir()) == []


async def test_a_bundle_that_waits_can_be_cancelled_and_one_that_is_applied_cannot(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    hold, phase = asyncio.Event(), ["queued"]

    class Waiting(Shelf):
        async def apply(
            self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
        ) -> SignedReceipt:
            report(phase[0], 0, 0, "1 before it")  # type: ignore[arg-type]
            await hold.wait()
            return await super().apply(peer, offer, part, arrived, report)

    back.shelf.__class__ = Waiting
    async with back.serve() as server:
        for phase[0], possible in (("queued", True), ("applying", False)):
            pushing = asyncio.create_task(front.client(server.port).push(back.node_id, front.bundle()))
            async with asyncio.timeout(30):
                while not (now := [each for each in server.transfers() if each.progress.phase == phase[0]]):
                    await asyncio.sleep(0.05)
            assert await server.cancel(now[0].progress.transfer_id, "laptop-back") is possible
            if possible:
                with pytest.raises(Refused, match="cancelled on laptop-back"):
                    await pushing
            else:
                hold.set()
                assert (await pushing).receipt.outcome == "stored"


async def test_two_pushes_together_keep_to_the_limit(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    paths = [front.bundle(1_500_000), front.bundle(1_500_000)]
    async with back.serve() as server:
        client = PeerClient(front.directory(server.port), Throttle(2_000_000))
        begun = time.monotonic()
        await asyncio.gather(*(client.push(back.node_id, path) for path in paths))
    assert time.monotonic() - begun > 1.2


async def test_half_open_connections_do_not_keep_an_upload_from_going_on(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(30_000_000)
    async with back.serve() as server, Proxy(server.port, stall_after=[4_000_000, 9_000_000]) as proxy:
        async with asyncio.timeout(25):
            await front.client(proxy.port, limits=QUICK_CLIENT).push(back.node_id, path)
    assert kept(back, path).read_bytes() == path.read_bytes()


async def test_a_device_that_offers_without_end_is_told_to_wait(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(1)
    async with back.serve(limits=ServerLimits(offers_per_minute=3)) as server:
        client = front.client(server.port)
        for _ in range(3):
            await client.push(back.node_id, path)
        with pytest.raises(Refused, match="too many bundles"):
            await client.push(back.node_id, path)
        assert (await client.hello(back.node_id)).name == back.name


def test_the_meter() -> None:
    now = [0.0]
    meter = Meter(lambda: now[0])
    assert (meter.rate, meter.left(10), meter.words(10)) == (0.0, None, "")
    for _ in range(20):
        meter.note(int(now[0] * 2_000_000))
        now[0] += 1
    meter.note(40_000_000)
    assert 1_900_000 < meter.rate < 2_100_000
    assert meter.words(190_000_000) == "2.0 MB/s, 1 min 15 s left"
    meter.note(0)
    assert meter.rate == 0.0
