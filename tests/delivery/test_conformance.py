"""What every place must do, on real servers: whole or not there, no copies, no leftovers, refusals in words."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.delivery.base import Kept
from agent.delivery.errors import BadPlaceError, DeliveryError, UnreachableError
from tests.delivery.conftest import MakeParcel, Place

SIZES = [0, 1, 57 * 1000, 3_000_000, 9_000_001]


@pytest.mark.parametrize("size", SIZES)
async def test_what_arrives_is_what_was_sent(place: Place, parcel: MakeParcel, size: int) -> None:
    data = os.urandom(size)
    sent = parcel(data)
    told: list[tuple[int, int]] = []
    done = await place.delivery.deliver(sent, lambda done, total: told.append((done, total)))
    assert await place.received() == {sent.name: [data]}
    assert not done.already
    assert done.proof
    assert all(total == size and done <= size for done, total in told)
    assert "s3cret" not in done.where + repr(place.delivery) + place.delivery.where


async def test_the_same_parcel_again_makes_no_copy(place: Place, parcel: MakeParcel) -> None:
    sent = parcel(os.urandom(100_000))
    await place.delivery.deliver(sent)
    again = await place.delivery.deliver(replace(sent, key="another"))
    received = await place.received()
    assert list(received) == [sent.name]
    if place.overwrites:
        assert again.already
        assert len(received[sent.name]) == 1


async def test_nothing_is_overwritten(place: Place, parcel: MakeParcel) -> None:
    first, second = parcel(b"first", key="1"), parcel(b"other", key="2")
    await place.delivery.deliver(first)
    await place.delivery.deliver(second)
    received = await place.received()
    if place.overwrites:
        assert received == {
            "backup-full-20260101-153045.bundle.age": [b"first"],
            "backup-full-20260101-153045-2.bundle.age": [b"other"],
        }
    else:
        assert received == {first.name: [b"first", b"other"]}


async def test_a_place_that_is_well_says_so_and_nothing_stays_there(place: Place) -> None:
    assert (await place.delivery.check()).endswith(".")
    assert await place.received() == {}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
async def test_cut_in_the_middle_then_completed_without_copies(
    place: Place, parcel: MakeParcel, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.cut is None:
        pytest.skip("no network in between")
    monkeypatch.setattr("agent.delivery.cloud._RETRY", {"max_retries": 0})
    data = os.urandom(9_000_000)
    sent = parcel(data)
    place.cut.after(max(1, int(len(data) * share)))
    with pytest.raises(DeliveryError) as caught:
        await place.delivery.deliver(sent)
    assert caught.value.temporary, caught.value
    assert place.cut.cuts
    place.cut.heal()
    assert sent.name not in await place.received()
    await place.delivery.deliver(sent)
    assert await place.received() == {sent.name: [data]}


async def test_a_place_that_is_gone_is_temporary(place: Place, parcel: MakeParcel) -> None:
    if place.cut is None:
        pytest.skip("no network in between")
    place.cut.after(0)
    for work in (place.delivery.check(), place.delivery.deliver(parcel(b"x"))):
        with pytest.raises(UnreachableError) as caught:
            await work
        assert caught.value.temporary
        assert "s3cret" not in str(caught.value)


async def test_what_lies_there_is_listed_and_fetched_whole_or_not(
    place: Place, parcel: MakeParcel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, small, target = os.urandom(5_000_000), b"rows", tmp_path / "fetched"
    sent, other = parcel(data), parcel(small, name="backup-full-20250101-000000.bundle", key="2")
    if not place.overwrites:
        with pytest.raises(BadPlaceError, match="mailed"):
            await place.delivery.there()
        return
    for each in (sent, other, parcel(b"not ours", name="notes.txt", key="3")):
        await place.delivery.deliver(each)
    assert await place.delivery.there() == (Kept(other.name, len(small)), Kept(sent.name, len(data)))
    told: list[tuple[int, int]] = []
    await place.delivery.fetch(sent.name, target, lambda done, total: told.append((done, total)))
    assert target.read_bytes() == data
    assert told[-1] == (len(data), len(data))
    with pytest.raises(BadPlaceError, match="bundle"):
        await place.delivery.fetch("backup-full-20240101-000000.bundle", tmp_path / "none")
    if place.cut is not None:
        monkeypatch.setattr("agent.delivery.cloud._RETRY", {"max_retries": 0})
        place.cut.after(len(data) // 2, towards=False)
        with pytest.raises(UnreachableError):
            await place.delivery.fetch(sent.name, tmp_path / "half")


async def test_a_changed_file_is_not_delivered(place: Place, parcel: MakeParcel) -> None:
    sent = parcel(os.urandom(100_000))
    if not place.overwrites:
        pytest.skip("an email is made from one reading, and its digest is inside")
    sent.path.write_bytes(os.urandom(100_000))
    with pytest.raises(DeliveryError, match="has changed") as caught:
        await place.delivery.deliver(sent)
    assert not caught.value.temporary
    assert await place.received() == {}


async def test_cancelled_delivery_leaves_nothing(place: Place, parcel: MakeParcel, tmp_path: Path) -> None:
    sent = parcel(os.urandom(20_000_000 if place.overwrites else 10_000_000))
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(done: int, total: int) -> None:
        loop.call_soon_threadsafe(started.set)

    task = asyncio.create_task(place.delivery.deliver(sent, told))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await place.received() == {}
