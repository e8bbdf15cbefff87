"""A second push sends what changed: over real TLS, cut, with a base that is damaged or gone on either side."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.peers.delta import BaseFile
from agent.peers.errors import Refused
from agent.peers.push import Pushed, read_manifest
from tests.peers.laptops import Laptop
from tests.peers.proxy import Proxy

SIZE = 6_000_000


def kept(laptop: Laptop, path: Path) -> Path:
    return laptop.home.path / f"{read_manifest(path).bundle_id}.bundle"


async def pushed_before(front: Laptop, back: Laptop, seed: int) -> BaseFile:
    """A bundle that both have since an earlier push."""
    path = front.bundle(SIZE, seed=seed)
    async with back.serve() as server:
        await front.client(server.port).push(back.node_id, path)
    bundle_id = read_manifest(path).bundle_id
    back.shelf.bases[bundle_id] = kept(back, path)
    return BaseFile(bundle_id, path)


async def push(front: Laptop, back: Laptop, path: Path, *bases: BaseFile) -> Pushed:
    async with back.serve() as server:
        pushed = await front.client(server.port).push(back.node_id, path, bases=bases)
    assert kept(back, path).read_bytes() == path.read_bytes()
    return pushed


async def test_rows_that_are_over_there_do_not_travel_again(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    base = await pushed_before(front, back, seed=1)
    pushed = await push(front, back, front.bundle(SIZE, seed=1), base)
    assert pushed.sent < SIZE / 100
    other = await push(front, back, front.bundle(SIZE, seed=2), base)
    assert other.sent < SIZE * 1.01 + 100_000


async def test_a_delta_that_is_cut_goes_on_where_it_stopped(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    base = await pushed_before(front, back, seed=2)
    path = front.bundle(2 * SIZE, seed=2)
    async with back.serve() as server, Proxy(server.port, cut_after=[SIZE // 2]) as proxy:
        pushed = await front.client(proxy.port).push(back.node_id, path, bases=[base])
    assert kept(back, path).read_bytes() == path.read_bytes()
    assert proxy.connections > 1
    # The half that is known costs little, however often it is told; the other half comes once, but for what was cut.
    assert pushed.sent < 1.7 * SIZE


@pytest.mark.parametrize("where", ["here", "there"])
@pytest.mark.parametrize("what", ["damaged", "cut", "gone"])
async def test_without_a_good_base_the_bundle_is_sent_whole(shop: list[Laptop], where: str, what: str) -> None:
    front, back = shop[1], shop[2]
    base = await pushed_before(front, back, seed=3)
    file = base.path if where == "here" else back.shelf.bases[base.bundle_id]
    data = bytearray(file.read_bytes())
    if what == "gone":
        file.unlink()
    else:
        data[SIZE // 2 :] = bytes([data[SIZE // 2] ^ 1]) + data[SIZE // 2 + 1 :] if what == "damaged" else b""
        file.write_bytes(data)
    path = front.bundle(SIZE, seed=3)
    pushed = await push(front, back, path, base)
    if what != "damaged":
        assert pushed.sent >= path.stat().st_size


async def test_a_base_that_is_not_over_there_is_not_used(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    base = await pushed_before(front, back, seed=4)
    back.shelf.bases.clear()
    path = front.bundle(SIZE, seed=4)
    assert (await push(front, back, path, base)).sent == path.stat().st_size


async def test_a_bundle_that_is_wrong_itself_stays_refused(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    base = await pushed_before(front, back, seed=5)
    path = front.bundle(SIZE, seed=5)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    async with back.serve() as server:
        with pytest.raises(Refused):
            await front.client(server.port).push(back.node_id, path, bases=[base])
    assert not kept(back, path).exists()
