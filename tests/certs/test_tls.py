"""TLS between devices over real sockets: who gets in, and what each side is told about who does not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta

import aiohttp
import pytest

from certs import tls
from certs.errors import (
    CertificateNotYetValid,
    ExpiredCertificate,
    HandshakeFailed,
    NoCertificate,
    NoShop,
    RevokedDevice,
    TrustError,
    UnknownDevice,
    WrongNode,
    WrongShop,
)
from certs.keys import server_name
from certs.store import Store

from .conftest import Clock, MakeStore, enrol


class Server:
    """An echo server that lets in whom `authenticate` lets in, and keeps what it would log."""

    def __init__(self, store: Store, clock: Callable[[], object]) -> None:
        self.store = store
        self.clock = clock
        self.met: list[str] = []
        self.refused: list[TrustError] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ssl_object = writer.get_extra_info("ssl_object")
            self.met.append(tls.authenticate(ssl_object, self.store.roster(), self.store.clock()).name)
            writer.write(await reader.readline())
        except TrustError as error:
            self.refused.append(error)
            writer.write(f"{error.code}\n".encode())
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[Server]:
    server = Server(store, store.clock)
    context = tls.server_context(store, server.refused.append)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=10)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server


async def ask(port: int, context: ssl.SSLContext, name: str) -> tuple[str, ssl.SSLObject]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        writer.write(b"hello\n")
        await writer.drain()
        answer = await reader.readline()
        ssl_object = writer.get_extra_info("ssl_object")
        assert isinstance(ssl_object, ssl.SSLObject)
        return answer.decode().strip(), ssl_object
    finally:
        writer.close()


async def settled(server: Server) -> TrustError:
    """What the server refused, once its side of the handshake is over."""
    for _ in range(200):
        if server.refused:
            return server.refused[-1]
        await asyncio.sleep(0.01)
    raise AssertionError("the server refused nothing")


def dialled(store: Store) -> str:
    return server_name(store.identity().node_id)


async def test_two_devices_of_a_shop_meet(admin: Store, member: Store) -> None:
    async with serving(admin) as server:
        answer, ssl_object = await ask(server.port, tls.client_context(member), dialled(admin))
    assert answer == "hello"
    assert server.met == ["laptop-finance-001"]
    assert ssl_object.version() == "TLSv1.3"
    assert tls.peer_node_id(ssl_object) == admin.identity().node_id
    found = tls.authenticate(ssl_object, member.roster(), member.clock(), admin.identity().node_id)
    assert found.name == "laptop-admin-001"
    assert server.refused == []


async def test_no_session_ticket_is_given(admin: Store, member: Store) -> None:
    async with serving(admin) as server:
        _, ssl_object = await ask(server.port, tls.client_context(member), dialled(admin))
    assert ssl_object.session is None or not ssl_object.session.has_ticket


async def test_stranger_without_a_certificate(admin: Store, member: Store) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(member.tls_files().authority)
    async with serving(admin) as server:
        with pytest.raises(ssl.SSLError) as caught:
            await ask(server.port, bare, dialled(admin))
        logged = await settled(server)
    assert isinstance(logged, NoCertificate)
    assert "showed no certificate" in str(logged)
    assert isinstance(tls.explain(caught.value), NoCertificate)


async def test_device_of_another_shop_is_refused_by_the_server(admin: Store, make_store: MakeStore) -> None:
    other = make_store("stranger")
    other.create_shop("Other Shop")
    context = tls.client_context(other)
    # A client that does not mind whom it talks to, so that it is the server who refuses.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with serving(admin) as server:
        with pytest.raises(ssl.SSLError) as caught:
            await ask(server.port, context, dialled(admin))
        logged = await settled(server)
    assert isinstance(logged, WrongShop)
    assert "not made by this shop's authority" in str(logged)
    told = tls.explain(caught.value)
    assert isinstance(told, WrongShop)
    assert "refused this device's certificate" in str(told)


async def test_server_of_another_shop_is_refused_by_the_client(admin: Store, make_store: MakeStore) -> None:
    other = make_store("stranger")
    other.create_shop("Other Shop")
    async with serving(other) as server:
        with pytest.raises(ssl.SSLError) as caught:
            await ask(server.port, tls.client_context(admin), dialled(other))
        assert isinstance(tls.explain(caught.value), WrongShop)
        reported: list[TrustError] = []
        with pytest.raises(ConnectionResetError):
            await ask(server.port, tls.client_context(admin, reported.append), dialled(other))
        assert [type(error) for error in reported] == [WrongShop]
        logged = await settled(server)
    assert isinstance(logged, WrongShop)
    assert "refused this device's certificate" in str(logged)
    assert server.met == []


async def test_self_signed_device_is_refused(admin: Store, make_store: MakeStore, member: Store) -> None:
    loner = make_store("loner")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(member.tls_files().authority)
    home = loner._identity
    context.load_cert_chain(home / "device.pem", home / "device.key")
    async with serving(admin) as server:
        with pytest.raises(ssl.SSLError):
            await ask(server.port, context, dialled(admin))
        assert isinstance(await settled(server), WrongShop)


async def test_revoked_device_is_named_and_refused_at_once(admin: Store, member: Store) -> None:
    context = tls.client_context(member)
    async with serving(admin) as server:
        assert (await ask(server.port, context, dialled(admin)))[0] == "hello"
        # Another process of the admin laptop revokes; the running server sees it by the roster file alone.
        Store(admin._identity.parent, admin.clock).revoke(member.identity().node_id)
        assert (await ask(server.port, context, dialled(admin)))[0] == "revoked-device"
    assert isinstance(server.refused[-1], RevokedDevice)
    assert "laptop-finance-001" in str(server.refused[-1])


async def test_device_missing_from_the_roster(admin: Store, member: Store, make_store: MakeStore) -> None:
    newcomer = enrol(admin, make_store("newcomer"))
    async with serving(member) as server:
        assert (await ask(server.port, tls.client_context(newcomer), dialled(member)))[0] == "unknown-device"
        assert isinstance(server.refused[-1], UnknownDevice)
        member.save_roster(admin.signed_roster().encode())
        assert (await ask(server.port, tls.client_context(newcomer), dialled(member)))[0] == "hello"


async def test_right_certificate_of_another_node(admin: Store, member: Store, make_store: MakeStore) -> None:
    third = enrol(admin, make_store("third"))
    async with serving(admin) as server:
        with pytest.raises(ssl.SSLError) as caught:
            await ask(server.port, tls.client_context(member), dialled(third))
        told = tls.explain(caught.value)
        assert isinstance(told, WrongNode)
        reported: list[TrustError] = []
        with pytest.raises(ConnectionResetError):
            await ask(server.port, tls.client_context(member, reported.append), dialled(third))
        assert [str(error) for error in reported] == [str(told)]
        logged = await settled(server)
        assert isinstance(logged, WrongNode)
        assert "wanted to reach another device" in str(logged)
        assert server.met == []
        _, ssl_object = await ask(server.port, tls.client_context(member, check_node=False), "whoever.backroom")
    member.save_roster(admin.signed_roster().encode())
    with pytest.raises(WrongNode, match=r"laptop-admin-001 .* not to third"):
        tls.authenticate(ssl_object, member.roster(), member.clock(), third.identity().node_id)


async def test_ended_certificate_is_refused_with_both_times(admin: Store, member: Store, clock: Clock) -> None:
    clock.forward(days=731)
    async with serving(admin) as server:
        assert (await ask(server.port, tls.client_context(member), dialled(admin)))[0] == "expired-certificate"
    logged = server.refused[-1]
    assert isinstance(logged, ExpiredCertificate)
    assert "2028-01-01 12:00:00 UTC" in str(logged)
    assert "2028-01-02 12:00:00 UTC" in str(logged)


async def test_clock_behind_the_certificate_is_named(admin: Store, member: Store, clock: Clock) -> None:
    clock.forward(days=-6)
    async with serving(admin) as server:
        assert (await ask(server.port, tls.client_context(member), dialled(admin)))[0] == "hello"
        clock.forward(days=-2)
        answer, _ = await ask(server.port, tls.client_context(member), dialled(admin))
    assert answer == "certificate-not-yet-valid"
    assert isinstance(server.refused[-1], CertificateNotYetValid)
    assert str(clock.now - timedelta(0))[:10] in str(server.refused[-1])


async def test_tls_12_is_refused(admin: Store, member: Store) -> None:
    context = tls.client_context(member)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(admin) as server:
        with pytest.raises(ssl.SSLError) as caught:
            await ask(server.port, context, dialled(admin))
        assert isinstance(tls.explain(caught.value), HandshakeFailed)
        assert isinstance(await settled(server), HandshakeFailed)


async def test_plain_bytes_are_reported_as_a_failed_handshake(admin: Store) -> None:
    async with serving(admin) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        assert isinstance(await settled(server), HandshakeFailed)


async def test_a_refusal_is_reported_in_the_context_of_the_accepting_task(admin: Store) -> None:
    """So that a server which awaits its handshakes knows which of them was refused, and why."""
    reasons: ContextVar[list[TrustError]] = ContextVar("reasons")
    context = tls.server_context(admin, lambda error: reasons.get().append(error))
    loop = asyncio.get_running_loop()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE

    async def shake(client: socket.socket) -> list[TrustError]:
        mine: list[TrustError] = []
        reasons.set(mine)
        with pytest.raises(ConnectionResetError):
            await loop.connect_accepted_socket(asyncio.Protocol, client, ssl=context)
        return mine

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        asking = [asyncio.create_task(ask(listener.getsockname()[1], bare, "x")) for _ in range(3)]
        shaking = [asyncio.create_task(shake((await loop.sock_accept(listener))[0])) for _ in asking]
        for mine in await asyncio.gather(*shaking):
            assert [type(error) for error in mine] == [NoCertificate]
        told = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(error, ssl.SSLError) for error in told)


async def test_without_a_listener_the_handshake_itself_fails(admin: Store) -> None:
    context = tls.server_context(admin)
    loop = asyncio.get_running_loop()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        asking = asyncio.create_task(ask(listener.getsockname()[1], bare, "x"))
        client, _ = await loop.sock_accept(listener)
        with pytest.raises(ssl.SSLError) as caught:
            await loop.connect_accepted_socket(asyncio.Protocol, client, ssl=context)
        await asyncio.gather(asking, return_exceptions=True)
    assert isinstance(tls.explain(caught.value), NoCertificate)


async def test_explain_knows_the_errors_of_aiohttp(admin: Store, member: Store, make_store: MakeStore) -> None:
    other = make_store("elsewhere")
    other.create_shop("Other Shop")
    third = enrol(admin, make_store("third"))
    cases: list[tuple[Store, ssl.SSLContext, str, type[TrustError]]] = [
        (admin, tls.client_context(other), dialled(admin), WrongShop)
    ]
    cases += [(admin, tls.client_context(member), dialled(third), WrongNode)]
    async with aiohttp.ClientSession() as session:
        for store, context, name, kind in cases:
            async with serving(store) as server:
                with pytest.raises(aiohttp.ClientError) as caught:
                    await session.get(f"https://127.0.0.1:{server.port}/", ssl=context, server_hostname=name)
            assert isinstance(tls.explain(caught.value), kind)


def test_no_context_without_a_shop(make_store: MakeStore) -> None:
    with pytest.raises(NoShop):
        tls.server_context(make_store("alone"))


def test_explain_follows_causes_and_leaves_other_errors_alone() -> None:
    error = OSError("connection failed")
    error.__cause__ = ssl.SSLError(1, "x")
    assert isinstance(tls.explain(error), HandshakeFailed)
    assert tls.explain(ValueError("x")) is None
    refusal = NoShop("x")
    assert tls.explain(refusal) is refusal
