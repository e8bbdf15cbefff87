"""Where peers are: candidates, who wins, what is remembered, and what is said when nobody answers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import psutil
import pytest

from agent.peers.address import Address, Origin
from agent.peers.directory import Directory
from agent.peers.discovery import AGENT_TYPE, Discovery, Sighting
from agent.peers.errors import BadAddress, DiscoveryError, NotFound, NotTrusted, PeerError, Unreachable, WrongDevice
from protocol.messages import Hello
from protocol.requests import Whereabouts
from tests.peers.laptops import QUICK_CLIENT, Laptop

LOOPBACK = ["127.0.0.1"]


async def test_the_first_address_that_proves_the_id_wins(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with shop[0].serve() as other, back.serve() as server:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            directory = front.directory(deaf.getsockname()[1], other.port, server.port)
            async with asyncio.timeout(2):
                link = await directory.connect(back.node_id)
            assert link.address.port == server.port
            await link.close()
        # Next time, even without configuration, it is where it was.
        again = Directory(front.store, state=front.home.state / "peers.json", limits=QUICK_CLIENT)
        assert again.candidates(back.node_id) == (Address("127.0.0.1", server.port, Origin.LAST_GOOD),)
        assert (await again.hello(back.node_id)).name == "laptop-back"


async def test_online_is_asked_of_the_peers_themselves(shop: list[Laptop]) -> None:
    admin, front, back = shop
    async with back.serve() as server:
        answers = await front.directory(server.port).online([admin.node_id, back.node_id])
    assert isinstance(answers[admin.node_id], WrongDevice)
    hello = answers[back.node_id]
    assert isinstance(hello, Hello)
    assert (hello.node_id, hello.name, hello.roster_version) == (back.node_id, "laptop-back", 3)


async def test_what_is_said_when_nobody_is_there(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    with pytest.raises(NotFound, match="laptop-back was not found on this network"):
        await front.directory().connect(back.node_id)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"laptop-back does not answer. Tried: 127.0.0.1:{port} \(manual\)"):
        await front.directory(port).connect(back.node_id)
    with pytest.raises(NotTrusted, match="not in the roster"):
        await front.directory(port).connect("node-" + "a" * 52)


async def test_who_is_at_an_address(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    async with back.serve() as server:
        hello = await front.directory().who_is_at(Address("127.0.0.1", server.port))
    assert hello.node_id == back.node_id


async def test_mdns_finds_within_three_seconds_and_a_goodbye_is_heard(shop: list[Laptop]) -> None:
    front, back = shop[1], shop[2]
    loop = asyncio.get_running_loop()
    async with back.serve() as server, Discovery(interfaces=LOOPBACK) as theirs, Discovery(interfaces=LOOPBACK) as mine:
        directory = Directory(front.store, discovery=mine, limits=QUICK_CLIENT)
        advertising = asyncio.create_task(theirs.advertise(back.node_id, server.port))
        begun = loop.time()
        link = await directory.connect(back.node_id)
        assert loop.time() - begun < 3
        assert link.address.origin is Origin.MDNS
        await link.close()
        await advertising
        await theirs.close()
        async with asyncio.timeout(5):
            while back.node_id in mine.sightings():
                await asyncio.sleep(0.05)


async def test_an_id_that_is_seen_twice_is_reported_and_never_renamed(shop: list[Laptop]) -> None:
    clashes: list[str] = []
    node = shop[0].node_id
    async with (
        Discovery(interfaces=LOOPBACK) as first,
        Discovery(interfaces=LOOPBACK, on_clash=clashes.append) as second,
        Discovery(interfaces=LOOPBACK) as third,
    ):
        await first.advertise(node, 1111)
        await second.advertise(node, 2222)
        assert clashes == [node]
        assert await third.wait_for(node) is not None
        assert [label for label in third.sightings() if label.startswith(node)] == [node]


async def test_a_state_file_that_is_damaged_is_as_good_as_none(shop: list[Laptop], tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"addresses": 3}', '{"addresses": {"a": [["h", "x"]]}}'):
        state = tmp_path / "peers.json"
        state.write_text(text)
        assert Directory(shop[0].store, state=state).candidates("a") == ()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.5:80", "192.168.1.5", 80),
        ("laptop.local:8765", "laptop.local", 8765),
        ("[fd00::1]:9", "fd00::1", 9),
        ("fd00::1", "fd00::1", 77),
        ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
        ("laptop", "laptop", 77),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.parse(text, 77) == Address(host, port)


@pytest.mark.parametrize("text", ["", ":80", "h:", "h:0", "h:65536", "h:8x", "[fd00::1", "[fd00::1]x", "h:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises((BadAddress, PeerError)):
        Address.parse(text)


async def test_a_device_tells_where_another_is_and_only_proof_counts(shop: list[Laptop]) -> None:
    admin, front, back = shop
    async with admin.serve() as knows, back.serve() as server:
        admin.shelf.places = Whereabouts(
            {back.node_id: ("8.8.8.8:443", "nonsense", f"127.0.0.1:{server.port}"), "node-of-nobody": ("10.0.0.1:1",)}
        )
        client = front.client(knows.port)
        with pytest.raises(PeerError):
            await client.hello(back.node_id)
        await client.meet(admin.node_id, Whereabouts({front.node_id: ("10.0.0.9:1",)}))
        assert admin.shelf.told == [Whereabouts({front.node_id: ("10.0.0.9:1",)})]
        places = {str(each) for each in client.directory.candidates(back.node_id)}
        assert places == {f"127.0.0.1:{knows.port}", f"127.0.0.1:{server.port}"}
        assert (await client.hello(back.node_id)).name == back.name
        assert client.directory.candidates("node-of-nobody") == client.directory.candidates("nobody")


async def test_a_browser_that_is_deaf_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.peers.discovery.HEAR_SECONDS", 4.0)
    async with Discovery(interfaces=["127.0.0.1"], ears=0.3) as discovery:
        await discovery.advertise("node-ears", 4711)
        await asyncio.sleep(1.5)
        assert discovery.restarts == 0
        # As if no packet came in any more, until the sockets are opened anew.
        opened = discovery._open
        ears = discovery._ears
        monkeypatch.setattr(type(ears), "async_update_records", lambda *_: None)

        async def open_again() -> None:
            monkeypatch.undo()
            await opened()

        monkeypatch.setattr(discovery, "_open", open_again)
        async with asyncio.timeout(30):
            while not discovery.restarts:
                await asyncio.sleep(0.1)
        restarted = discovery.restarts
        await asyncio.sleep(3)
        assert discovery.restarts == restarted
        assert await discovery.wait_for("node-ears") is not None


async def test_a_laptops_own_announcement_is_not_elsewhere(shop: list[Laptop]) -> None:
    own, other = shop[0].node_id, shop[1].node_id
    async with Discovery(interfaces=["127.0.0.1"]) as discovery:
        await discovery.advertise(own, 4711)
        assert await discovery.wait_for(own, 10) is not None
        assert discovery.elsewhere(own) == ()
        async with Discovery(interfaces=["127.0.0.1"]) as second:
            await second.advertise(other, 4712)
            seen = await discovery.wait_for(other, 10)
            assert seen is not None
            assert discovery.elsewhere(other) == seen.addresses


async def test_a_device_is_proven_where_it_answered_as_long_as_it_is_announced_there(shop: list[Laptop]) -> None:
    one, two = shop[0], shop[1]
    async with Discovery(interfaces=["127.0.0.1"]) as theirs, Discovery(interfaces=["127.0.0.1"]) as ours:
        async with two.serve() as server:
            await theirs.advertise(two.node_id, server.port)
            directory = Directory(one.store, discovery=ours, limits=QUICK_CLIENT)
            assert not directory.proven(two.node_id)
            await directory.hello(two.node_id)
            assert directory.proven(two.node_id)
            ours._seen[AGENT_TYPE][two.node_id] = Sighting(two.node_id, (Address("127.0.0.1", 9),))
            assert not directory.proven(two.node_id)


async def test_addresses_that_this_laptop_does_not_have_are_no_place_for_mdns() -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(DiscoveryError, match=r"198\.51\.100\.1 is not this laptop's"):
        await Discovery(interfaces=["198.51.100.1"]).start()
    assert psutil.Process().num_fds() == before
    async with Discovery(interfaces=["198.51.100.1", "127.0.0.1"]) as discovery:
        assert discovery.sightings() == {}
