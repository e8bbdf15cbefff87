"""A bundle that is sent while it is made: over real TLS, from a real file that grows, cut, given up, as a delta."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.growing import Growing, Unfinished
from agent.peers.delta import BaseFile
from agent.peers.errors import Refused
from agent.peers.push import Pushed, read_manifest
from protocol.messages import Problem
from tests.peers.laptops import Laptop
from tests.peers.proxy import Proxy
from tests.peers.test_delta import kept, pushed_before

SIZE = 6_000_000
STEP = 300_000


@pytest.fixture
def makings() -> Iterator[Callable[[Path], Making]]:
    """What makes :class:`Making`; those that a test leaves unfinished are given up: no reader waits for them."""
    with ExitStack() as stack:

        def making(bundle: Path) -> Making:
            made = Making(bundle)
            stack.callback(made.growing.fail)
            return made

        yield making


class Making:
    """Writes the bytes of a bundle into another file, some at a time, and moves that in the end."""

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self.whole = bundle.read_bytes()
        self._partial = bundle.with_suffix(".partial")
        self._partial.touch()
        self.growing = Growing(self._partial)

    async def make(self, until: float = 1.0) -> None:
        """Up to this part of it; all of it is committed."""
        end = int(len(self.whole) * until)
        with self._partial.open("ab") as file:
            for start in range(self.growing.size, end, STEP):
                file.write(self.whole[start : min(end, start + STEP)])
                file.flush()
                self.growing.grew(file.tell())
                await asyncio.sleep(0.005)
        if until == 1.0:
            final = self.bundle.with_suffix(".final")
            self._partial.rename(final)
            self.growing.end(final)

    async def push(self, front: Laptop, back: Laptop, port: int, *bases: BaseFile) -> Pushed:
        """Push it to whoever listens on that port, while it is made."""
        return await front.client(port).push(back.node_id, self.growing.path, growing=self.growing, bases=bases)


def arrived(back: Laptop, making: Making) -> bool:
    return kept(back, making.bundle).read_bytes() == making.whole


async def test_it_arrives_while_it_is_made(
    shop: list[Laptop], makings: Callable[[Path], Making], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.peers.push._GUESS_ROW", 0)
    front, back = shop[1], shop[2]
    making = makings(front.bundle(SIZE, seed=1))
    async with back.serve() as server:
        pushing = asyncio.create_task(making.push(front, back, server.port))
        await making.make(0.1)
        while not back.shelf.offers:
            await asyncio.sleep(0.01)
        await making.make()
        pushed = await pushing
    assert arrived(back, making)
    assert (pushed.size, pushed.sent) == (len(making.whole), len(making.whole))
    # It was taken with a guess that was too small, and applied with the size that it has.
    assert [offer.size < len(making.whole) for offer in back.shelf.offers] == [True]
    assert [offer.size for offer in back.shelf.applied] == [len(making.whole)]


async def test_a_connection_that_breaks_meanwhile(shop: list[Laptop], makings: Callable[[Path], Making]) -> None:
    front, back = shop[1], shop[2]
    making = makings(front.bundle(SIZE, seed=2))
    async with back.serve() as server, Proxy(server.port, cut_after=[SIZE // 4, SIZE // 4]) as proxy:
        made = asyncio.create_task(making.make())
        await making.push(front, back, proxy.port)
        await made
        assert proxy.connections > 2
    assert arrived(back, making)


async def test_as_a_delta(shop: list[Laptop], makings: Callable[[Path], Making]) -> None:
    front, back = shop[1], shop[2]
    base = await pushed_before(front, back, seed=3)
    making = makings(front.bundle(SIZE, seed=3))
    async with back.serve() as server:
        made = asyncio.create_task(making.make())
        pushed = await making.push(front, back, server.port, base)
        await made
    assert arrived(back, making)
    assert pushed.sent < SIZE / 100


async def test_a_bundle_that_is_given_up_is_thrown_away_over_there(
    shop: list[Laptop], makings: Callable[[Path], Making]
) -> None:
    front, back = shop[1], shop[2]
    making = makings(front.bundle(SIZE, seed=4))
    async with back.serve() as server:
        pushing = asyncio.create_task(making.push(front, back, server.port))
        await making.make(0.5)
        while not any(each.progress.offset for each in server.transfers()):
            await asyncio.sleep(0.01)
        making.growing.fail()
        with pytest.raises(Unfinished):
            await pushing
        assert back.shelf.stops == [(read_manifest(making.bundle).bundle_id, True)]
        assert not list(back.home.spool.glob("*.part"))


async def test_a_refusal_is_heard_again_once_the_bundle_is_made(
    shop: list[Laptop], makings: Callable[[Path], Making]
) -> None:
    """The guess at its size may have been the reason."""
    front, back = shop[1], shop[2]
    back.shelf.refuse = Problem("disk-full", "There is no room for so much.", "")
    making = makings(front.bundle(SIZE, seed=5))
    async with back.serve() as server:
        pushing = asyncio.create_task(making.push(front, back, server.port))
        await making.make(0.3)
        while not back.shelf.offers:
            await asyncio.sleep(0.01)
        back.shelf.refuse = Problem("not-allowed", "No.", "")
        await asyncio.sleep(0.3)
        assert len(back.shelf.offers) == 1
        await making.make()
        with pytest.raises(Refused) as refused:
            await pushing
    assert refused.value.code == "not-allowed"
    assert [offer.size == len(making.whole) for offer in back.shelf.offers] == [False, True]


async def test_readers_wait_for_what_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    growing = Growing(path)
    growing.grew(2)
    with growing.open() as file:
        assert await asyncio.to_thread(file.read, 2) == b"ab"
        more = asyncio.create_task(asyncio.to_thread(file.read, 4))
        await asyncio.sleep(0.05)
        assert not more.done()
        growing.grew(3)
        path.rename(tmp_path / "moved")
        other = asyncio.create_task(asyncio.to_thread(growing.open))
        await asyncio.sleep(0.05)
        assert not more.done()
        assert not other.done()
        growing.end(tmp_path / "moved")
        assert await more == b"c"
        with await other as again:
            assert again.read() == b"abc"
        file.seek(1)
        assert file.read(1) == b"b"
    growing.fail()
    assert growing.complete
    assert not growing.failed
