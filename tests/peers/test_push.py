"""Pushing a bundle: whole, interrupted, resumed, refused, damaged; over real TLS on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.peers import http
from agent.peers.address import Address
from agent.peers.errors import Interrupted, NotFound, PeerError, Refused, Unreachable
from agent.peers.link import Link
from agent.peers.push import read_manifest
from protocol.messages import Offer, OfferAnswer, Problem
from tests.peers.laptops import DeclinedError, Laptop
from tests.peers.proxy import Proxy


def kept(laptop: Laptop, path: Path) -> Path:
    return laptop.home.path / f"{read_manifest(path).bundle_id}.bundle"


async def test_a_pushed_bundle_arrives_as_it_was_and_a_signed_receipt_comes_back(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(3_000_000)
    told: list[tuple[str, int, int, str]] = []
    async with back.serve() as server:
        pushed = await front.client(server.port).push(back.node_id, path, tell=lambda *facts: told.append(facts))
    assert pushed.receipt.outcome == "stored"
    assert pushed.receipt.receiver_name == "laptop-back"
    assert pushed.receipt.totals == {"inserted": read_manifest(path).total_rows}
    assert pushed.sent == path.stat().st_size
    assert kept(back, path).read_bytes() == path.read_bytes()
    assert told[0] == ("sending", 0, path.stat().st_size, "")
    sent = [facts for facts in told if facts[:3] == ("sending", path.stat().st_size, path.stat().st_size)]
    assert "MB/s" in sent[-1][3]
    assert [each.name for each in back.home.spool.iterdir()] == []


async def test_the_same_bundle_pushed_again_is_answered_with_the_first_receipt(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    async with back.serve() as server:
        first = await front.client(server.port).push(back.node_id, path)
        again = await front.client(server.port).push(back.node_id, path)
    async with back.serve() as server:
        anew = await front.client(server.port).push(back.node_id, path)
    assert first.signed == again.signed == anew.signed
    assert again.sent == anew.sent == 0
    assert len(back.shelf.applied) == 1


async def test_a_push_that_is_cut_half_way_goes_on_where_it_stopped(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(12_000_000)
    size = path.stat().st_size
    async with back.serve() as server, Proxy(server.port, cut_after=[6_000_000]) as proxy:
        pushed = await front.client(proxy.port).push(back.node_id, path)
    assert kept(back, path).read_bytes() == path.read_bytes()
    assert proxy.connections > 1
    # The whole once, TLS and the handshakes on top, and at most what was under way when the cable was cut.
    assert size < proxy.upstream < size + 5_000_000
    assert pushed.sent < size + 6_000_000


async def test_a_receiver_that_is_restarted_half_way_goes_on_from_its_disk(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(12_000_000)
    size = path.stat().st_size
    async with Proxy(0, cut_after=[6_000_000]) as proxy:
        server = back.serve()
        await server.start()
        proxy.target = server.port
        restarted = asyncio.Event()

        async def restart() -> None:
            nonlocal server
            await proxy.cut.wait()
            proxy.target = 0
            await server.close()
            server = back.serve()
            await server.start()
            proxy.target = server.port
            restarted.set()

        restarting = asyncio.create_task(restart())
        await front.client(proxy.port).push(back.node_id, path)
        await restarting
        await server.close()
    assert restarted.is_set()
    assert kept(back, path).read_bytes() == path.read_bytes()
    # What lay in the buffers of proxy and system when the receiver was stopped has to come again.
    assert proxy.upstream < size + 5_000_000


async def test_a_part_that_was_damaged_on_disk_is_sent_again_from_its_beginning(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(2_000_000)
    part = back.home.spool / f"{read_manifest(path).bundle_id}.part"
    damaged = bytearray(path.read_bytes()[:1_000_000])
    damaged[500_000] ^= 1
    part.write_bytes(damaged)
    async with back.serve() as server:
        pushed = await front.client(server.port).push(back.node_id, path)
    assert pushed.sent == path.stat().st_size
    assert kept(back, path).read_bytes() == path.read_bytes()


async def test_a_peer_that_stays_away_ends_the_push_in_bounded_time(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(12_000_000)
    told: list[tuple[str, str]] = []
    async with back.serve() as server, Proxy(server.port, cut_after=[6_000_000, 0]) as proxy:
        client = front.client(proxy.port)
        with pytest.raises(Interrupted, match="tried again for 5 seconds"):
            await client.push(back.node_id, path, tell=lambda phase, _done, _total, text: told.append((phase, text)))
    assert any(phase == "no-answer" and text.endswith("Trying again.") for phase, text in told)


async def test_a_connection_that_stands_still_is_noticed(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(30_000_000)
    async with back.serve() as server, Proxy(server.port, stall_after=[6_000_000]) as proxy:
        async with asyncio.timeout(20):
            await front.client(proxy.port).push(back.node_id, path)
    assert kept(back, path).read_bytes() == path.read_bytes()


async def test_nobody_there(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    with pytest.raises(NotFound, match="laptop-back was not found"):
        await front.client().push(back.node_id, path)
    async with back.serve() as server:
        port = server.port
    with pytest.raises(Unreachable, match="laptop-back does not answer"):
        await front.client(port).push(back.node_id, path)


async def test_the_receivers_no_comes_with_its_reason(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    back.shelf.refuse = Problem("not-wanted", "We have this one.", "Push another.")
    async with back.serve() as server:
        with pytest.raises(Refused, match="We have this one") as caught:
            await front.client(server.port).push(back.node_id, front.bundle())
    assert (caught.value.code, caught.value.hint) == ("not-wanted", "Push another.")


async def test_a_failure_while_applying_comes_back_and_a_later_push_tries_again(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    back.shelf.fail = DeclinedError("The database is away.")
    async with back.serve() as server:
        with pytest.raises(Refused, match="The database is away") as caught:
            await front.client(server.port).push(back.node_id, path)
        assert caught.value.code == "declined"
        back.shelf.fail = None
        pushed = await front.client(server.port).push(back.node_id, path)
    assert pushed.receipt.outcome == "stored"
    assert pushed.sent == 0


async def test_a_damaged_bundle_is_refused_while_it_arrives_and_nothing_is_kept(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle(8_000_000)
    data = bytearray(path.read_bytes())
    data[4_000_000] ^= 1
    path.write_bytes(data)
    async with back.serve() as server:
        with pytest.raises(Refused) as caught:
            await front.client(server.port).push(back.node_id, path)
    assert caught.value.code == "frame-damaged"
    assert back.shelf.applied == []
    assert list(back.home.spool.iterdir()) == []


async def test_a_bundle_that_another_device_sealed_is_refused(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    identity = shop[0].store.identity()
    path = front.bundle()
    data = path.read_bytes()
    forged = data.replace(front.store.identity().certificate, identity.certificate)
    path.write_bytes(forged)
    async with back.serve() as server:
        with pytest.raises(Refused):
            await front.client(server.port).push(back.node_id, path)
    assert back.shelf.applied == []


async def offered(front: Laptop, back: Laptop, port: int, path: Path, size: int | None = None) -> tuple[Link, str]:
    link = Link(front.store, Address("127.0.0.1", port), back.node_id)
    await link.open()
    offer = Offer(read_manifest(path).encode(), path.stat().st_size if size is None else size)
    try:
        answer = await link.read(OfferAnswer.decode, "POST", "/v1/offers", message=offer)
    except BaseException:
        await link.close()
        raise
    assert answer.status == "accept"
    return link, answer.transfer_id


async def send(link: Link, transfer: str, offset: int, data: bytes) -> int:
    headers = {http.OFFSET_HEADER: str(offset), "Content-Type": http.UPLOAD_TYPE}
    async with link.request("PATCH", f"/v1/uploads/{transfer}", data=data, headers=headers) as response:
        return int(response.headers[http.OFFSET_HEADER])


async def test_a_wrong_offset_is_refused_and_the_right_one_told(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    data = path.read_bytes()
    async with back.serve() as server:
        link, transfer = await offered(front, back, server.port, path)
        async with link:
            assert await send(link, transfer, 0, data[:1000]) == 1000
            with pytest.raises(Refused, match="goes on at byte 1000, not at byte 999") as caught:
                await send(link, transfer, 999, data[999:])
            assert caught.value.status == 409
            async with link.request("HEAD", f"/v1/uploads/{transfer}") as response:
                assert response.headers[http.OFFSET_HEADER] == "1000"
                assert response.headers[http.LENGTH_HEADER] == str(len(data))
                assert response.headers[http.COMPLETE_HEADER] == "?0"
            with pytest.raises(Refused, match="needs the header"):
                async with link.request("PATCH", f"/v1/uploads/{transfer}", headers={"Content-Type": http.UPLOAD_TYPE}):
                    pass


async def test_more_bytes_than_announced_are_refused(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    data = path.read_bytes()
    async with back.serve() as server:
        link, transfer = await offered(front, back, server.port, path, len(data) - 10)
        async with link:
            with pytest.raises(Refused, match="announced") as caught:
                await send(link, transfer, 0, data)
            assert caught.value.status == 413
    assert back.shelf.applied == []


async def test_a_transfer_of_another_device_does_not_exist(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    path = front.bundle()
    async with back.serve() as server:
        mine, transfer = await offered(front, back, server.port, path)
        await mine.close()
        async with Link(shop[0].store, Address("127.0.0.1", server.port), back.node_id) as link:
            with pytest.raises(Refused, match="no such transfer"):
                await send(link, transfer, 0, b"x")
            with pytest.raises(Refused, match="no such transfer"):
                await link.call("GET", f"/v1/transfers/{transfer}")


async def test_a_revocation_cuts_an_upload_that_is_under_way(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    path = front.bundle(8_000_000)
    data = path.read_bytes()
    async with admin.serve() as server:
        link, transfer = await offered(front, admin, server.port, path)
        async with link:
            await send(link, transfer, 0, data[:2_000_000])
            admin.store.revoke(front.node_id)
            with pytest.raises(Refused, match="was revoked") as caught:
                await send(link, transfer, 2_000_000, data[2_000_000:])
    assert caught.value.code == "revoked-device"
    assert admin.shelf.applied == []


async def test_a_device_may_not_open_uploads_without_end(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with back.serve() as server:
        for _ in range(4):
            link, _transfer = await offered(front, back, server.port, front.bundle(1))
            await link.close()
        with pytest.raises(Refused, match="too many bundles"):
            await offered(front, back, server.port, front.bundle(1))


async def test_a_sender_stops_sending_to_a_device_that_is_revoked_meanwhile(shop: list[Laptop]) -> None:
    admin, back = shop[0], shop[2]
    async with back.serve() as server, Proxy(server.port, stall_after=[500_000]) as proxy:
        pushing = asyncio.create_task(admin.client(proxy.port).push(back.node_id, admin.bundle(3_000_000)))
        async with asyncio.timeout(10):
            while proxy.upstream < 300_000:
                await asyncio.sleep(0.01)
        admin.store.revoke(back.node_id)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(PeerError) as caught:
            await pushing
        assert asyncio.get_running_loop().time() - begun < 2
    assert caught.value.code == "revoked-device"
    assert back.shelf.applied == []
