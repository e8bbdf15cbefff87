"""Pulls, businesses, comparison, roster: what one laptop asks of another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.archive.spool import Spool
from agent.peers import questions
from agent.peers.address import Address
from agent.peers.errors import BadAnswer, Refused, TooOld
from agent.peers.handler import Part
from agent.peers.link import Link
from agent.peers.push import read_manifest
from agent.peers.server import PeerServer
from certs.roster import Role
from protocol.manifest import Kind, Manifest
from protocol.requests import CompareRequest, PullRequest, RangeRequest, RowHashRequest, TableMark
from tests.peers.laptops import DeclinedError, Laptop, admit, make_laptop, make_shop
from tests.peers.proxy import Proxy

ONE = PullRequest("business-specific", "restaurant-abc")


def ready(laptop: Laptop, size: int = 300_000, kind: Kind = Kind.BUSINESS) -> Path:
    path = laptop.bundle(size, kind)
    laptop.shelf.ready = {read_manifest(path).bundle_id: path}
    return path


def into(laptop: Laptop) -> Callable[[str, int], Part]:
    return lambda bundle_id, size: Spool(laptop.home).open(bundle_id, size)


async def content(part: Part) -> bytes:
    data = b"".join([piece async for piece in part.read()])
    await part.discard()
    await part.close()
    return data


async def test_a_pulled_bundle_arrives_as_it_was(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = ready(back, 3_000_000)
    told: list[tuple[str, int, int, str]] = []
    async with back.serve() as server:
        client = front.client(server.port)
        fetched = await client.pull(back.node_id, ONE, into(front), tell=lambda *facts: told.append(facts))
    assert fetched.manifest == read_manifest(path)
    assert fetched.received == path.stat().st_size
    assert await content(fetched.part) == path.read_bytes()
    assert told[-1] == ("fetching", path.stat().st_size, path.stat().st_size, "")
    assert back.shelf.asked == [ONE]


async def test_a_pull_that_is_cut_half_way_goes_on_with_range(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = ready(back, 12_000_000)
    size = path.stat().st_size
    async with back.serve() as server, Proxy(server.port, cut_back_after=[6_000_000]) as proxy:
        fetched = await front.client(proxy.port).pull(back.node_id, ONE, into(front))
    assert await content(fetched.part) == path.read_bytes()
    assert size <= fetched.received < size + 3_000_000
    assert len(back.shelf.asked) == 1


async def test_a_server_restarted_in_the_middle_finds_the_same_bundle(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = ready(back, 12_000_000)
    async with back.serve() as first:
        async with Proxy(first.port, cut_back_after=[6_000_000]) as proxy:

            async def restart() -> None:
                await proxy.cut.wait()
                await first.close()
                second = back.serve()
                await second.start()
                proxy.target = second.port
                restarted.append(second)

            restarted: list[object] = []
            restarting = asyncio.create_task(restart())
            fetched = await front.client(proxy.port).pull(back.node_id, ONE, into(front))
            await restarting
            await restarted[0].close()  # type: ignore[attr-defined]
    assert await content(fetched.part) == path.read_bytes()
    assert fetched.received < path.stat().st_size + 3_000_000
    assert [each.bundle_id for each in back.shelf.asked] == [None, read_manifest(path).bundle_id]


async def test_full_kinds_are_for_admins(shop: list[Laptop]) -> None:
    admin, front, back = shop
    path = ready(back, kind=Kind.FULL)
    async with back.serve() as server:
        for kind in ("full", "full-device"):
            with pytest.raises(Refused, match=f"Only an admin may pull a {kind} backup") as caught:
                await front.client(server.port).pull(back.node_id, PullRequest(kind), into(front))
            assert caught.value.code == "admin-only"
        fetched = await admin.client(server.port).pull(back.node_id, PullRequest("full"), into(admin))
    assert await content(fetched.part) == path.read_bytes()
    assert len(back.shelf.asked) == 1


async def test_a_second_admin_may_pull_all_too(shop: list[Laptop], tmp_path: Path) -> None:
    admin, _, back = shop
    second = make_laptop(tmp_path, "laptop-second")
    admit(admin, second, Role.ADMIN)
    back.store.save_roster(admin.store.signed_roster().encode())
    ready(back, kind=Kind.FULL)
    async with back.serve() as server:
        fetched = await second.client(server.port).pull(back.node_id, PullRequest("full"), into(second))
    assert fetched.manifest.kind is Kind.FULL
    await content(fetched.part)


async def test_a_bundle_is_only_for_whom_it_was_made(shop: list[Laptop]) -> None:
    admin, front, back = shop
    path = ready(back)
    async with back.serve() as server:
        fetched = await front.client(server.port).pull(back.node_id, ONE, into(front))
        await content(fetched.part)
        async with Link(admin.store, Address("127.0.0.1", server.port), back.node_id) as link:
            with pytest.raises(Refused, match="not ready to be fetched"):
                await link.call("GET", f"/v1/bundles/{read_manifest(path).bundle_id}")


async def test_the_failure_to_make_a_backup_comes_with_its_reason(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with back.serve() as server:
        with pytest.raises(Refused, match="no business called nobody") as caught:
            await front.client(server.port).pull(back.node_id, PullRequest("business-specific", "nobody"), into(front))
        assert caught.value.code == "declined"
        back.shelf.ready = {"gone": front.home.spool / "gone"}
        with pytest.raises(Refused, match="wrong on the other"):
            await front.client(server.port).pull(back.node_id, ONE, into(front))


async def test_a_damaged_bundle_is_not_kept(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = ready(back, 3_000_000)
    data = bytearray(path.read_bytes())
    data[2_000_000] ^= 1
    path.write_bytes(data)
    async with back.serve() as server:
        with pytest.raises(BadAnswer, match="is damaged"):
            await front.client(server.port).pull(back.node_id, ONE, into(front))
    assert list(front.home.spool.iterdir()) == []


async def test_the_puller_may_refuse_the_manifest(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    ready(back, 3_000_000)

    class NotThisOneError(Exception):
        pass

    def refuse(_manifest: Manifest) -> None:
        raise NotThisOneError

    async with back.serve() as server:
        with pytest.raises(NotThisOneError):
            await front.client(server.port).pull(back.node_id, ONE, into(front), accept=refuse)


@pytest.mark.parametrize(
    ("header", "status", "length"),
    [
        ({}, 200, None),
        ({"Range": "bytes=10-19"}, 206, 10),
        ({"Range": "bytes=10-"}, 206, None),
        ({"Range": "bytes=10-19", "If-Range": '"other"'}, 200, None),
        ({"Range": "items=1-2"}, 200, None),
    ],
)
async def test_ranges(shop: list[Laptop], header: dict[str, str], status: int, length: int | None) -> None:
    front, back = shop[1], shop[2]
    path = ready(back)
    data = path.read_bytes()
    async with back.serve() as server:
        await content((await front.client(server.port).pull(back.node_id, ONE, into(front))).part)
        async with Link(front.store, Address("127.0.0.1", server.port), back.node_id) as link:
            name = f"/v1/bundles/{read_manifest(path).bundle_id}"
            async with link.request("GET", name, headers=header) as response:
                body = await response.read()
            start = 10 if status == 206 else 0
            assert response.status == status
            assert body == data[start : start + length if length else None]
            with pytest.raises(Refused, match="is not in it"):
                async with link.request("GET", name, headers={"Range": f"bytes={len(data)}-"}):
                    pass


async def test_businesses(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with back.serve() as server:
        listed = await front.client(server.port).businesses(back.node_id)
    assert [each.name for each in listed] == ["Restaurant ABC", "Café Ölü"]


async def test_a_mark_of_the_tables_or_none(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with back.serve() as server:
        client = front.client(server.port)
        assert await client.mark(back.node_id) == TableMark("epoch", "counts")
        back.shelf.fail = DeclinedError("The database is away.")
        assert await client.mark(back.node_id) is None


async def test_comparison_streams_digests_and_row_hashes(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with back.serve() as server:
        client = front.client(server.port)
        digests = await client.table_digests(back.node_id, CompareRequest("b1", {"orders": ("id", "name")}))
        assert [each.table for each in digests] == ["orders", "users"]
        wanted = RowHashRequest("b1", "orders", ("id", "name"), ("id",))
        pieces = [piece async for piece in client.row_hashes(back.node_id, wanted)]
        assert sum(len(piece.keys) for piece in pieces) == 5000
        ranges = await client.range_digests(back.node_id, RangeRequest("b1", "orders", ("id",), ("id",)))
        assert (ranges.places, ranges.rows) == ((3, 17), (1, 2))
        assert (await client.schema(back.node_id)).tables == {"orders": {"id": "text", "total": "numeric(10,2)"}}
        with pytest.raises(Refused, match="no such business"):
            await client.table_digests(back.node_id, CompareRequest("b7"))


async def test_rosters_are_exchanged_and_the_highest_wins(shop: list[Laptop], tmp_path: Path) -> None:
    admin, front, back = shop
    newcomer = make_laptop(tmp_path, "laptop-new")
    admit(admin, newcomer)
    assert front.store.roster().version < admin.store.roster().version
    async with admin.serve() as server:
        assert (await front.client(server.port).exchange_roster(admin.node_id)).version == admin.store.roster().version
    assert front.store.roster().member(newcomer.node_id) is not None
    # The other way round: a peer that is behind learns from whoever calls it.
    async with back.serve() as server:
        await front.client(server.port).exchange_roster(back.node_id)
    assert back.store.roster().member(newcomer.node_id) is not None


async def test_a_forged_roster_is_refused(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    forged = bytearray(front.store.signed_roster().encode())
    forged[-1] ^= 1
    async with back.serve() as server:
        async with Link(front.store, Address("127.0.0.1", server.port), back.node_id) as link:
            with pytest.raises(Refused):
                await link.call("POST", "/v1/roster", bytes(forged))


async def test_several_addresses_are_listened_on_and_no_other(tmp_path: Path) -> None:
    """A laptop that is told to listen on two of its addresses must not be reached on a third."""
    first, second = make_shop(tmp_path, ["one", "two"])
    async with PeerServer(first.store, first.shelf, host=["127.0.0.2", "127.0.0.3"]) as server:
        for host in ("127.0.0.2", "127.0.0.3"):
            async with Link(second.store, Address(host, server.port), first.node_id) as link:
                assert (await link.hello()).node_id == first.node_id
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_a_laptop_with_another_version_of_the_protocol_is_named(
    shop: list[Laptop], monkeypatch: pytest.MonkeyPatch
) -> None:
    front, back = shop[1], shop[2]
    monkeypatch.setattr(questions, "PROTOCOL_VERSION", 7)
    async with back.serve() as server:
        with pytest.raises(TooOld, match=r"laptop-back .* speaks version 7 of the protocol; this laptop speaks 1"):
            await front.client(server.port).hello(back.node_id)
