"""Strangers: each is refused before any work, with a message of its own in both logs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from agent.peers import http
from agent.peers.address import Address
from agent.peers.errors import NotTrusted, PeerError, Refused, WrongDevice
from agent.peers.limits import ServerLimits
from agent.peers.link import Link
from agent.peers.server import PeerServer
from certs.keys import server_name
from certs.tls import client_context
from tests.peers.conftest import Events
from tests.peers.laptops import Laptop, admit, make_shop


def refusals(events: Events) -> list[tuple[str, str]]:
    """Code and reason of each refusal that the server logged."""
    return [(each["error"], each["reason"]) for each in events if each["event"] == "peer refused"]


def complaints(events: Events) -> list[tuple[str, str]]:
    """Code and reason of each refusal that the client logged."""
    wanted = ("peer not accepted", "refused by peer")
    return [(each["error"], each["reason"]) for each in events if each["event"] in wanted]


async def settled(events: Events) -> None:
    """Until the server has logged a refusal: its side of a handshake ends a moment after the client's."""
    async with asyncio.timeout(5):
        while not refusals(events):
            await asyncio.sleep(0.01)


async def dial(laptop: Laptop, server: PeerServer, node_id: str) -> None:
    async with Link(laptop.store, Address("127.0.0.1", server.port), node_id) as link:
        await link.hello()


async def test_a_certificate_of_another_shop(shop: list[Laptop], tmp_path: Path, events: Events) -> None:
    (thief,) = make_shop(tmp_path / "elsewhere", ["laptop-thief"], "Other Shop")
    async with shop[0].serve() as server:
        # The thief knows whom to dial; its own roster would stop it, so it asks for anyone there.
        async with Link(thief.store, Address("127.0.0.1", server.port), None) as link:
            with pytest.raises(NotTrusted, match="not made by this shop's authority") as caught:
                await link.hello()
        await settled(events)
    assert caught.value.code == "wrong-shop"
    assert complaints(events) == [("wrong-shop", str(caught.value))]
    assert refusals(events) == [
        ("wrong-shop", "The other side refused this device's certificate: it belongs to another shop.")
    ]


async def test_a_thief_that_trusts_everyone_is_refused_by_the_server(
    shop: list[Laptop], tmp_path: Path, events: Events
) -> None:
    (thief,) = make_shop(tmp_path / "elsewhere", ["laptop-thief"], "Other Shop")
    context = client_context(thief.store, check_node=False)
    context.verify_mode = ssl.CERT_NONE
    async with shop[0].serve() as server:
        assert await raw(context, server) is None
        await settled(events)
    assert refusals(events) == [
        ("wrong-shop", "The other side showed a certificate that was not made by this shop's authority.")
    ]


async def raw(context: ssl.SSLContext, server: PeerServer) -> bytes | None:
    """What a request that cares about nothing gets: the status line, or None if it was cut off."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="x")
        writer.write(b"GET /v1/hello HTTP/1.1\r\nHost: x\r\nBackroom-Node: x\r\n\r\n")
        line = await reader.readline()
    except OSError:
        return None
    writer.close()
    return line or None


async def test_no_certificate(shop: list[Laptop], events: Events) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with shop[0].serve() as server:
        assert await raw(context, server) is None
        await settled(events)
    assert refusals(events) == [("no-certificate", "The other side of the connection showed no certificate.")]


async def test_the_side_without_a_certificate_is_told_so(shop: list[Laptop], events: Events) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with shop[0].serve() as server:
        link = Link(shop[1].store, Address("127.0.0.1", server.port), shop[0].node_id)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError) as caught:
                await session.get(f"https://127.0.0.1:{server.port}/v1/hello", ssl=context)
        said = link.translate(caught.value)
    assert isinstance(said, NotTrusted)
    assert ("demands a certificate" in str(said)) or ("hung up at once" in str(said))
    assert complaints(events) == [(said.code, str(said))]


async def test_a_revoked_device(shop: list[Laptop], events: Events) -> None:
    admin, front = shop[0], shop[1]
    async with admin.serve() as server:
        await dial(front, server, admin.node_id)
        # Another process of the admin's laptop revokes it; the running server sees it with the next request.
        type(admin.store)(admin.home.path).revoke(front.node_id)
        with pytest.raises(Refused, match=r"laptop-front .* was revoked from Corner Shop") as caught:
            await dial(front, server, admin.node_id)
    assert caught.value.code == "revoked-device"
    assert complaints(events) == refusals(events) == [("revoked-device", str(caught.value))]


async def test_a_revoked_device_is_not_dialled_either(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    admin.store.revoke(front.node_id)
    async with front.serve() as server:
        with pytest.raises(NotTrusted, match="was revoked"):
            await dial(admin, server, front.node_id)


async def test_an_open_connection_of_a_revoked_device_is_cut(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    async with admin.serve() as server, Link(front.store, Address("127.0.0.1", server.port), admin.node_id) as link:
        await link.hello()
        assert len(server._door._connections) == 1  # type: ignore[union-attr]
        admin.store.revoke(front.node_id)
        async with asyncio.timeout(5):
            while server._door._connections:  # type: ignore[union-attr]
                await asyncio.sleep(0.05)


async def test_a_connection_on_which_nobody_was_let_in_does_not_stay(shop: list[Laptop], events: Events) -> None:
    """A revoked laptop's certificate passes TLS still: refused requests must not keep its connections open."""
    admin, front, back = shop
    contexts = [client_context(front.store), client_context(back.store)]
    admin.store.revoke(front.node_id)
    async with admin.serve() as server:
        for context in contexts:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=context, server_hostname=server_name(admin.node_id)
            )
            writer.write(b"GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)  # until the server hangs up
            assert answer.startswith(b"HTTP/1.1 400 ")
            writer.close()
        async with asyncio.timeout(5):
            while server._door._connections:  # type: ignore[union-attr]
                await asyncio.sleep(0.05)
    assert [code for code, _ in refusals(events)] == ["bad-request", "bad-request"]


async def test_who_was_let_in_keeps_its_connection_after_a_refusal(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    async with admin.serve() as server, Link(front.store, Address("127.0.0.1", server.port), admin.node_id) as link:
        for _ in range(3):
            with pytest.raises(PeerError, match="does not serve"):
                await link.call("GET", "/v2/hello")
        await link.hello()
        assert len(server._door._connections) == 1  # type: ignore[union-attr]


async def test_a_right_certificate_with_another_nodes_id_in_the_request(shop: list[Laptop], events: Events) -> None:
    admin, front, back = shop
    async with admin.serve() as server, Link(front.store, Address("127.0.0.1", server.port), admin.node_id) as link:
        with pytest.raises(Refused, match=r"certificate belongs to laptop-front .*, not to laptop-back") as caught:
            async with link.request("GET", "/v1/hello", headers={http.NODE_HEADER: back.node_id}):
                pass
    assert caught.value.code == "wrong-node"
    assert complaints(events) == refusals(events) == [("wrong-node", str(caught.value))]


async def test_another_device_than_the_one_dialled(shop: list[Laptop], events: Events) -> None:
    admin, front, back = shop
    async with back.serve() as server:
        with pytest.raises(WrongDevice, match="another device of this shop than the one dialled") as caught:
            await dial(front, server, admin.node_id)
        await settled(events)
    assert caught.value.code == "wrong-node"
    assert complaints(events) == [("wrong-node", str(caught.value))]
    ((code, _reason),) = refusals(events)
    assert code == "wrong-node"


async def test_a_device_that_the_roster_does_not_have(shop: list[Laptop], tmp_path: Path, events: Events) -> None:
    admin, front = shop[0], shop[1]
    newcomer = make_shop(tmp_path / "new", ["laptop-unused", "laptop-new"])[1]
    (newcomer.home.path / "shop").rename(tmp_path / "gone")
    admit(admin, newcomer)
    async with front.serve() as server:
        with pytest.raises(Refused, match="is not in the roster of Corner Shop") as caught:
            await dial(newcomer, server, front.node_id)
    assert caught.value.code == "unknown-device"


async def test_what_is_not_tls_and_what_says_nothing(shop: list[Laptop], events: Events) -> None:
    limits = ServerLimits(handshake_seconds=0.5, first_request_seconds=0.5)
    async with shop[0].serve(limits=limits) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in await reader.read()
        writer.close()
        silent_reader, silent_writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await silent_reader.read() == b""
        silent_writer.close()
        context = client_context(shop[1].store)
        name = server_name(shop[0].node_id)
        slow_reader, slow_writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, server_hostname=name
        )
        slow_writer.write(b"GET /v1/hello HTTP/1.1\r\nX-Slow: ")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(slow_reader.readexactly(1), 5)
        slow_writer.close()
    codes = [code for code, _ in refusals(events)]
    assert codes == ["handshake-failed", "handshake-failed", "connection-refused"]


async def test_old_tls_is_refused(shop: list[Laptop], events: Events) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with shop[0].serve() as server:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="x")
        await settled(events)
    assert refusals(events)[0][0] == "handshake-failed"


async def test_unknown_paths_and_methods_are_refused_and_logged(shop: list[Laptop], events: Events) -> None:
    admin, front = shop[0], shop[1]
    async with admin.serve() as server, Link(front.store, Address("127.0.0.1", server.port), admin.node_id) as link:
        for method, path in (("GET", "/"), ("GET", "/v2/hello"), ("DELETE", "/v1/roster"), ("GET", "/v1/../../etc")):
            with pytest.raises(PeerError, match="does not serve"):
                await link.call(method, path)
        with pytest.raises(Refused, match="kind that does not travel"):
            await link.call("POST", "/v1/offers", b"\xc1garbage")
        with pytest.raises(Refused, match="allowed"):
            await link.call("POST", "/v1/pulls", b"x" * 100_000)
    assert len(refusals(events)) == 6


async def test_nothing_was_asked_of_the_handler_by_any_stranger(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    path = front.bundle()
    async with admin.serve() as server:
        client = front.client(server.port)
        admin.store.revoke(front.node_id)
        with pytest.raises(PeerError, match="revoked"):
            await client.push(admin.node_id, path)
    assert admin.shelf.offers == []
