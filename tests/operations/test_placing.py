"""The places of frames, kept beside the archive: pushes build on bundles that nobody reads, and damage is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.home import Home
from agent.operations.placing import MOST, keep_places, kept_places
from protocol.places import unpack_places
from tests.support.agents import Shops

PLACES = bytes(range(56))
BUSINESS = "Restaurant ABC"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def test_what_was_kept_is_found(home: Home) -> None:
    assert kept_places(home, "one") is None
    await keep_places(home, "one", PLACES)
    await keep_places(home, "two", None)
    assert kept_places(home, "one") == PLACES
    assert kept_places(home, "two") is None
    await keep_places(home, "one", PLACES * 2)
    assert kept_places(home, "one") == PLACES * 2


async def test_names_from_elsewhere_stay_in_the_folder(home: Home) -> None:
    await keep_places(home, "../../evil", PLACES)
    assert [path.parent for path in home.path.rglob("*") if path.is_file()] == [home.state / "places"]
    assert kept_places(home, "../../evil") == PLACES


async def test_damage_is_noticed(home: Home) -> None:
    await keep_places(home, "one", PLACES)
    (path,) = (home.state / "places").iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        assert kept_places(home, "one") is None


async def test_the_oldest_go(home: Home) -> None:
    for number in range(MOST + 3):
        await keep_places(home, str(number), PLACES)
        for path in (home.state / "places").iterdir():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 1_000_000_000))
    assert [number for number in range(MOST + 3) if kept_places(home, str(number)) is None] == [0, 1, 2]


async def test_a_folder_that_cannot_be_written_is_no_failure(home: Home) -> None:
    home.state.mkdir(parents=True)
    (home.state / "places").write_text("in the way")
    await keep_places(home, "one", PLACES)
    assert kept_places(home, "one") is None


@pytest.mark.parametrize("damage", ["none", "places", "office", "kitchen"])
def test_the_next_push_builds_on_what_was_kept(shops: Shops, damage: str) -> None:
    """Whatever of it is damaged, here or there, the push arrives, and in full."""
    office, kitchen = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-kitchen-002")
    shops.shop(office, kitchen)
    with kitchen.running() as agent:
        office.knows(agent.port)
        first = office.do("push", BUSINESS, kitchen.name)
        kept = [path for laptop in (office, kitchen) for path in (Home(laptop.home).state / "places").iterdir()]
        assert len(kept) == 2
        assert len({path.read_bytes() for path in kept}) == 1
        if damage == "places":
            for path in kept:
                path.write_bytes(b"x" * 100)
        elif damage != "none":
            (file,) = (office if damage == "office" else kitchen).files("archive/business")
            whole = bytearray(file.read_bytes())
            for place in unpack_places(kept[0].read_bytes()[32:]):
                whole[place.position + place.length - 1] ^= 1
            file.write_bytes(whole)
        office.execute("UPDATE business_orders SET notes = 'changed', \"updatedAt\" = now()")
        second = office.do("push", BUSINESS, kitchen.name)
        assert (second["outcome"], second["rows"]) == ("applied", first["rows"])
        assert second["updated"] > 0
        assert (second["bytes_sent"] < second["bytes"]) is (damage in ("none", "places"))
        assert office.do("compare", "--business", BUSINESS, "--with", kitchen.name)["identical"]
        assert office.do("inspect", second["file"])["rows"] == second["rows"]
