"""A machine in the middle, on real sockets: in a join and in a push it sees no secret and gets nothing accepted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from agent.peers.address import Address
from agent.peers.errors import PeerError
from agent.peers.joining import Window, join
from certs.codes import Code, new_code
from certs.errors import TrustError, WrongCode
from certs.joining import InviteSide
from certs.roster import Role
from certs.tls import server_context
from tests.peers.laptops import Laptop, make_laptop, make_shop
from tests.peers.test_joining import invitation, yes

Change = Callable[[int, bytes], bytes]


class Middle:
    """Passes a join's messages on and keeps them; ``change`` may alter the nth (requests and replies in turn)."""

    def __init__(self, target: int, change: Change) -> None:
        self.target = target
        self.change = change
        self.seen: list[bytes] = []
        self.port = 0

    def pass_on(self, data: bytes) -> bytes:
        self.seen.append(data)
        return self.change(len(self.seen), data)

    async def handle(self, request: web.Request) -> web.Response:
        body = self.pass_on(await request.read())
        async with aiohttp.ClientSession() as session:
            async with session.post(f"http://127.0.0.1:{self.target}/v1/join", data=body) as response:
                return web.Response(status=response.status, body=self.pass_on(await response.read()))

    async def __aenter__(self) -> Middle:
        app = web.Application()
        app.router.add_post("/v1/join", self.handle)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()


@pytest.fixture
def admin(tmp_path: Path) -> Laptop:
    return make_shop(tmp_path, ["laptop-admin"])[0]


@pytest.fixture
def newcomer(tmp_path: Path) -> Laptop:
    return make_laptop(tmp_path, "laptop-newcomer")


async def test_who_listens_to_a_join_sees_no_secret(admin: Laptop, newcomer: Laptop) -> None:
    code = new_code()
    async with Window(invitation(admin, code), yes, host="127.0.0.1") as window:
        async with Middle(window.port, lambda _, data: data) as middle:
            place = Address("127.0.0.1", middle.port)
            membership, _ = await join(code, newcomer.store.identity(), yes, address=place)
    newcomer.store.join_result(membership)
    seen = b"".join(middle.seen)
    assert len(middle.seen) == 6
    shop = admin.store.require_shop()
    secrets = [word.encode() for word in code.words if word != "window"]  # that is the name of a field
    secrets += [b"laptop-admin", b"laptop-newcomer", b"Corner Shop", shop.authority, membership.certificate]
    secrets += [shop.signed_roster.body, shop.shop_id.encode(), admin.node_id.encode()]
    assert [secret for secret in secrets if secret in seen] == []


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("place", [0.25, 0.6, 0.99])
async def test_who_changes_a_message_of_a_join_gets_nothing(
    admin: Laptop, newcomer: Laptop, number: int, place: float
) -> None:
    def change(which: int, data: bytes) -> bytes:
        if which != number:
            return data
        at = min(len(data) - 1, int(len(data) * place))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    code = new_code()
    async with Window(invitation(admin, code), yes, host="127.0.0.1") as window:
        async with Middle(window.port, change) as middle:
            with pytest.raises((TrustError, PeerError)):
                await join(code, newcomer.store.identity(), yes, address=Address("127.0.0.1", middle.port))
    assert newcomer.store.shop() is None
    members = {member.node_id for member in admin.store.roster()}
    # Only the very last reply is too late to stop the admin's side; even then nobody but the newcomer's key is in.
    assert members <= ({admin.node_id, newcomer.node_id} if number == 6 else {admin.node_id})


async def test_who_speaks_for_both_sides_of_a_join_fails_with_both(
    admin: Laptop, newcomer: Laptop, tmp_path: Path
) -> None:
    (thief,) = make_shop(tmp_path / "thief", ["laptop-admin"])
    code = new_code()
    guess = Code(code.window, ("abacus", "abacus", "abacus"))
    shop = thief.store.require_shop()
    fake = InviteSide(
        guess,
        thief.store.identity(),
        "Corner Shop",
        shop.authority,
        lambda name, key: thief.store.issue(name, key, Role.MEMBER),
    )
    real = invitation(admin, code)
    async with Window(real, yes, host="127.0.0.1") as window, Window(fake, yes, host="127.0.0.1") as trap:
        with pytest.raises(WrongCode):
            await join(code, newcomer.store.identity(), yes, address=Address("127.0.0.1", trap.port))
        with pytest.raises(WrongCode):
            await join(guess, thief.store.identity(), yes, address=Address("127.0.0.1", window.port))
    assert real.wrong_codes == 1
    assert newcomer.store.shop() is None
    assert [member.node_id for member in thief.store.roster()] == [thief.node_id]
    assert [member.node_id for member in admin.store.roster()] == [admin.node_id]


# Pushing.


class Tap:
    """A TCP relay that keeps all bytes and may change one of them on the way up, once."""

    def __init__(self, target: int, spoil_at: int | None = None) -> None:
        self.target = target
        self.spoil_at = spoil_at
        self.bytes = bytearray()
        self.port = 0
        self.connections = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await asyncio.gather(self.copy(reader, up_writer, up=True), self.copy(up_reader, writer, up=False))
        except OSError:
            pass
        finally:
            up_writer.transport.abort()
            writer.transport.abort()

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        passed = 0
        try:
            while data := await reader.read(65536):
                self.bytes += data
                if up and self.spoil_at is not None and passed + len(data) > self.spoil_at:
                    place = max(0, self.spoil_at - passed)
                    data = data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]
                    self.spoil_at = None
                passed += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            writer.transport.abort()


@asynccontextmanager
async def tapping(tap: Tap) -> AsyncIterator[Tap]:
    server = await asyncio.start_server(tap.relay, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    async with server:
        yield tap
    await asyncio.sleep(0.05)


async def test_who_listens_to_a_push_sees_no_row_and_no_name(shop: list[Laptop]) -> None:
    admin, front = shop[0], shop[1]
    path = front.bundle()
    async with admin.serve() as server, tapping(Tap(server.port)) as tap:
        pushed = await front.client(tap.port).push(admin.node_id, path)
    assert pushed.receipt.outcome == "stored"
    content = path.read_bytes()
    assert len(tap.bytes) > len(content)
    rows = [content[at : at + 40] for at in range(10_000, len(content) - 40, 20_000)]
    secrets = [*rows, b"Restaurant ABC", b"laptop-front", b"laptop-admin", front.node_id.encode(), b"/v1/offers"]
    assert [secret for secret in secrets if secret in tap.bytes] == []


@pytest.mark.parametrize("spoil_at", [100, 1_500, 3_000, 20_000, 150_000, 290_000])
async def test_a_byte_changed_in_a_push_is_never_applied(shop: list[Laptop], spoil_at: int) -> None:
    """Early ones end the push; once bytes got through it goes on by a new connection. Never is a wrong byte kept."""
    admin, front = shop[0], shop[1]
    path = front.bundle()
    async with admin.serve() as server, tapping(Tap(server.port, spoil_at)) as tap:
        try:
            pushed = await front.client(tap.port).push(admin.node_id, path)
        except PeerError:
            assert spoil_at < 10_000
            assert admin.shelf.applied == []
            return
    assert tap.connections > 1
    assert pushed.receipt.outcome == "stored"
    (applied,) = admin.shelf.applied
    assert (admin.home.path / f"{applied.manifest.bundle_id}.bundle").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("who", ["stranger", "insider"])
async def test_who_ends_the_tls_in_the_middle_is_not_spoken_to(shop: list[Laptop], tmp_path: Path, who: str) -> None:
    """With a certificate of its own making, or with that of another laptop of the shop: no byte of a request comes."""
    admin, front, back = shop
    thief = back if who == "insider" else make_shop(tmp_path / "thief", ["laptop-admin"])[0]
    heard = bytearray()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                heard.extend(data)
        except OSError:
            pass
        finally:
            writer.close()

    context = server_context(thief.store)
    context.verify_mode = ssl.CERT_NONE
    server = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context)
    async with server, admin.serve() as real:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PeerError) as caught:
            await front.client(port).push(admin.node_id, front.bundle())
        assert caught.value.code in ("wrong-shop", "wrong-node")
        # The right address beside it is found all the same.
        pushed = await front.client(port, real.port).push(admin.node_id, front.bundle())
    assert pushed.receipt.outcome == "stored"
    assert heard == b""
