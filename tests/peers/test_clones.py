"""The clone alarm: what raises it, what does not, how it spreads and ends."""

from __future__ import annotations

import ctypes
import itertools
import json
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.home import Home
from agent.peers import clones as module
from agent.peers.address import Address
from agent.peers.clones import CloneAlarm, Clones
from agent.peers.directory import Directory
from agent.peers.server import PeerServer
from certs.roster import Role
from tests.peers.laptops import QUICK_CLIENT, QUICK_SERVER, Laptop


def clones(laptop: Laptop) -> Clones:
    return Clones(laptop.home, laptop.store)


def serve(laptop: Laptop, watch: Clones) -> PeerServer:
    return PeerServer(laptop.store, laptop.shelf, host="127.0.0.1", limits=QUICK_SERVER, clones=watch)


def directory(laptop: Laptop, watch: Clones, *ports: int) -> Directory:
    places = [Address("127.0.0.1", port) for port in ports]
    return Directory(laptop.store, manual=places, limits=QUICK_CLIENT, clones=watch)


def test_an_instance_stays_until_the_folder_is_another(shop: list[Laptop], tmp_path: Path) -> None:
    front = shop[1]
    assert clones(front).instance == clones(front).instance
    shutil.copytree(front.home.path, tmp_path / "copy")
    copy = Clones(Home(tmp_path / "copy"), front.store)
    assert copy.instance != clones(front).instance
    assert copy.instance == Clones(Home(tmp_path / "copy"), front.store).instance


def test_a_network_or_a_name_that_changes_makes_no_other_instance(
    shop: list[Laptop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent begins before the Wi-Fi is up, a command comes later; the folder may be reached through a link."""
    front, numbers = shop[1], itertools.count(1)
    monkeypatch.setattr(uuid, "getnode", lambda: next(numbers))
    monkeypatch.setattr(platform, "node", lambda: f"laptop-{next(numbers)}")
    (tmp_path / "link").symlink_to(front.home.path)
    instance = clones(front).instance
    assert clones(front).instance == instance
    assert Clones(Home(tmp_path / "link"), front.store).instance == instance


def test_another_start_and_another_computer_make_another_instance(
    shop: list[Laptop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of the disk has the folder at the same place with the same number."""
    front, boot, machine = shop[1], tmp_path / "boot_id", tmp_path / "machine-id"
    monkeypatch.setattr(module, "_BOOT", boot)
    monkeypatch.setattr(module, "_MACHINE", machine)
    seen = [clones(front).instance]
    for path, text in ((boot, "one\n"), (machine, "a\n"), (boot, "two\n"), (machine, "b\n")):
        path.write_text(text)
        seen.append(clones(front).instance)
        assert clones(front).instance == seen[-1]
    assert len(set(seen)) == len(seen)


def test_a_windows_computer_is_known_by_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {r"SYSTEM\HardwareConfig": "{board}", r"SOFTWARE\Microsoft\Cryptography": "system"}

    @contextmanager
    def opened(_root: object, path: str, _zero: int, _access: int) -> Iterator[str]:
        if path not in values:
            raise FileNotFoundError(path)
        yield values[path]

    registry = SimpleNamespace(
        KEY_READ=1, KEY_WOW64_64KEY=2, HKEY_LOCAL_MACHINE=3, OpenKey=opened, QueryValueEx=lambda key, _name: (key, 1)
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "platform", "win32")
    assert module._machine() == "{board}\0system"
    values.clear()
    assert module._machine() == "\0"


def test_a_mac_is_known_by_its_platform_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(found: ctypes.Array[ctypes.c_char], _patience: object) -> int:
        found.raw = bytes(range(16))
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    for library, known in (
        (SimpleNamespace(gethostuuid=told), bytes(range(16)).hex()),
        (SimpleNamespace(gethostuuid=lambda *_: -1), ""),
        (SimpleNamespace(), ""),
    ):
        monkeypatch.setattr(ctypes, "CDLL", lambda _name, library=library: library)
        assert module._machine() == known


def test_only_an_instance_that_comes_back_is_a_clone(shop: list[Laptop]) -> None:
    admin, front, back = shop
    watch = clones(admin)
    for instance in ("a", "a", "b", "b", "c"):
        watch.seen(front.node_id, instance, "10.0.0.1:1")
    watch.seen(back.node_id, "a", "10.0.0.2:1")
    assert watch.alarms() == {}
    watch.seen(front.node_id, "b", "10.0.0.3:1")
    (alarm,) = watch.alarms().values()
    assert (alarm.node_id, alarm.where) == (front.node_id, ("10.0.0.1:1", "10.0.0.3:1"))
    with pytest.raises(CloneAlarm, match="laptop-front"):
        clones(admin).require_clear(front.node_id)
    clones(admin).require_clear(back.node_id)


def test_an_alarm_ends_by_an_admins_word_everywhere_and_can_come_again(shop: list[Laptop]) -> None:
    admin, front, back = shop
    one, two = clones(admin), clones(back)
    for instance in ("a", "b", "a"):
        one.seen(front.node_id, instance, "x")
    two.told("laptop-admin", one.notes())
    assert two.alarms()[front.node_id].told_by == "laptop-admin"
    told = one.notes()
    back.store.save_roster(admin.store.change(front.node_id, cleared=True) and admin.store.signed_roster().encode())
    assert (one.alarms(), two.alarms()) == ({}, {})
    two.told("somebody who was away", told)
    one.seen(front.node_id, "b", "x")
    assert (one.alarms(), two.alarms()) == ({}, {})
    for instance in ("a", "b"):
        one.seen(front.node_id, instance, "x")
    assert list(one.alarms()) == [front.node_id]


def test_a_revoked_device_needs_no_alarm(shop: list[Laptop]) -> None:
    admin, front, _ = shop
    watch = clones(admin)
    watch.alarm(front.node_id, ("mdns",))
    assert list(watch.alarms()) == [front.node_id]
    admin.store.revoke(front.node_id)
    assert watch.alarms() == {}
    watch.told("laptop-back", {"node-of-nobody": 0})
    assert watch.alarms() == {}


def test_a_damaged_file_of_alarms_is_replaced_by_the_next(shop: list[Laptop]) -> None:
    admin, front, _ = shop
    for damage in ("", "[1]", '{"x": {"a": 1}}', json.dumps({"x": None})):
        (admin.home.state / "clones.json").write_text(damage)
        watch = clones(admin)
        assert watch.alarms() == {}
    watch.alarm(front.node_id, ())
    assert list(watch.alarms()) == [front.node_id]


async def test_the_original_learns_of_its_copy_from_the_others(shop: list[Laptop], tmp_path: Path) -> None:
    """Over TLS: the admin sees both, each hello spreads the alarm, the copy at its own door is noticed at once."""
    admin, front, back = shop
    admin.store.change(back.node_id, role=Role.ADMIN)
    original, watch, other = clones(front), clones(admin), clones(back)
    shutil.copytree(front.home.path, tmp_path / "copy")
    copy = Clones(Home(tmp_path / "copy"), front.store)
    async with serve(admin, watch) as server:
        for each in (original, copy, original):
            await directory(front, each, server.port).hello(admin.node_id)
        assert list(watch.alarms()) == [front.node_id]
        await directory(front, original, server.port).hello(admin.node_id)
        assert original.alarms()[front.node_id].told_by == "laptop-admin"
        await directory(back, other, server.port).hello(admin.node_id)
        assert other.alarms()[front.node_id].told_by == "laptop-admin"
    fresh = Clones(Home(tmp_path / "fresh").ensure(), front.store)
    async with serve(front, fresh) as door:
        await Directory(front.store, limits=QUICK_CLIENT, clones=copy).who_is_at(Address("127.0.0.1", door.port))
    assert list(fresh.alarms()) == [front.node_id]


async def test_who_begins_a_meeting_tells_its_alarms_too(shop: list[Laptop]) -> None:
    admin, front, back = shop
    watch, other = clones(admin), clones(back)
    async with serve(back, other) as server:
        found = directory(admin, watch, server.port)
        await found.warn(back.node_id)
        assert other.alarms() == {}
        watch.alarm(front.node_id, ("mdns",))
        await found.warn(back.node_id)
    assert other.alarms()[front.node_id].told_by == admin.name
