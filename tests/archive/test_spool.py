"""Bundles on their way in: they go on where they stopped, and nothing grows without end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from agent.archive import files
from agent.archive.errors import (
    BadNameError,
    DiskFullError,
    SpoolBusyError,
    SpoolError,
    SpoolIncompleteError,
    SpoolOverrunError,
)
from agent.archive.folder import Archive
from agent.archive.spool import Spool
from agent.home import Home
from tests.archive.conftest import Child

DATA = random.Random(5).randbytes(5_000_000)


@pytest.fixture
def spool(home: Home) -> Spool:
    return Spool(home)


async def receive(spool: Spool) -> None:
    async with spool.open("b1", len(DATA)) as incoming:
        while not incoming.complete:
            await incoming.write(DATA[incoming.offset : incoming.offset + 400_000])


async def test_a_bundle_goes_on_where_it_stopped_and_moves_into_the_archive(spool: Spool, home: Home) -> None:
    async with spool.open("b1", len(DATA)) as incoming:
        assert incoming.offset == 0
        await incoming.write(DATA[:1_500_000])
        with pytest.raises(SpoolIncompleteError, match="1500000 of 5000000"):
            await incoming.promote(Archive(home), "full", "x.bundle")
    assert await spool.offset("b1") == 1_500_000
    async with spool.open("b1", len(DATA)) as incoming:
        assert incoming.offset == 1_500_000
        for at in range(incoming.offset, len(DATA), 300_001):
            await incoming.write(DATA[at : at + 300_001])
        assert incoming.complete
        assert b"".join([chunk async for chunk in incoming.read()]) == DATA
        path = await incoming.promote(Archive(home), "full", "x.bundle")
    assert path == home.archive / "full" / "x.bundle"
    assert path.read_bytes() == DATA
    assert await spool.offset("b1") == 0
    assert await spool.parts() == ()


async def test_promoting_beside_a_file_of_the_same_name_keeps_both(spool: Spool, home: Home) -> None:
    for number in range(2):
        async with spool.open(f"b{number}", 1) as incoming:
            await incoming.write(b"%d" % number)
            path = await incoming.promote(Archive(home), "full-device", "x.bundle")
            assert path.read_bytes() == b"%d" % number
    assert path.name == "x-2.bundle"


async def test_promoting_to_another_disk_copies(spool: Spool, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_arguments: object) -> None:
        import errno

        monkeypatch.undo()
        raise OSError(errno.EXDEV, "another disk")

    async with spool.open("b1", len(DATA)) as incoming:
        await incoming.write(DATA)
        monkeypatch.setattr(files, "rename_new", other_disk)
        path = await incoming.promote(Archive(home), "full", "x.bundle")
    assert path.read_bytes() == DATA
    assert await spool.parts() == ()


async def test_more_than_announced_is_refused_and_not_kept(spool: Spool) -> None:
    async with spool.open("b1", 10) as incoming:
        await incoming.write(b"12345")
        with pytest.raises(SpoolOverrunError):
            await incoming.write(b"678901")
    assert await spool.offset("b1") == 5


async def test_another_size_under_the_same_id_starts_again(spool: Spool) -> None:
    async with spool.open("b1", 10) as incoming:
        await incoming.write(b"12345678")
    async with spool.open("b1", 5) as incoming:
        assert incoming.offset == 0


async def test_one_receiver_at_a_time(spool: Spool, child: Child) -> None:
    async with spool.open("b1", 10) as incoming:
        with pytest.raises(SpoolBusyError):
            async with spool.open("b1", 10):
                pass
        process = child("""
            from agent.archive.spool import Spool
            async def main():
                async with Spool(home).open("b1", 10): pass
            asyncio.run(main())
        """)
        assert "SpoolBusyError" in process.communicate()[1]
        await incoming.write(b"1")
    async with spool.open("b1", 10) as incoming:
        assert incoming.offset == 1
        await incoming.discard()
    assert await spool.parts() == ()


@pytest.mark.parametrize("bundle_id", ["", "../x", "a/b", ".x", "a.b", "x" * 101, "a\\b", "-x"])
async def test_ids_that_are_no_file_names(spool: Spool, bundle_id: str) -> None:
    with pytest.raises(BadNameError):
        spool.open(bundle_id, 1)
    with pytest.raises(BadNameError):
        await spool.offset(bundle_id)


async def test_impossible_sizes_are_refused(spool: Spool) -> None:
    with pytest.raises(SpoolError):
        spool.open("b1", -1)
    with pytest.raises(DiskFullError):
        async with spool.open("b1", 10**18):
            pass
    async with spool.open("b1", 1):
        pass  # the lock was freed


async def test_kill_9_keeps_a_true_beginning(spool: Spool, child: Child) -> None:
    code = """
        import random
        from agent.archive.spool import Spool
        data = random.Random(5).randbytes(5_000_000)
        async def main():
            async with Spool(home).open("b1", len(data)) as incoming:
                print("at work", flush=True)
                while not incoming.complete:
                    await incoming.write(data[incoming.offset : incoming.offset + 100_000])
                    await asyncio.sleep(0.003)
        asyncio.run(main())
    """
    last = 0
    for _ in range(10):
        process = child(code)
        assert process.stdout is not None
        process.stdout.readline()
        await asyncio.sleep(random.random() * 0.12)
        process.kill()
        process.wait()
        offset = await spool.offset("b1")
        assert offset >= last
        last = offset
        assert (spool.home.spool / "b1.part").read_bytes() == DATA[:offset]
    async with spool.open("b1", len(DATA)) as incoming:
        await incoming.write(DATA[incoming.offset :])
        assert b"".join([chunk async for chunk in incoming.read()]) == DATA


async def test_cancelling_keeps_a_true_beginning_and_frees_it(spool: Spool) -> None:
    for _ in range(30):
        task = asyncio.create_task(receive(spool))
        await asyncio.sleep(random.random() * 0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        offset = await spool.offset("b1")
        if offset:
            assert (spool.home.spool / "b1.part").read_bytes() == DATA[:offset]
    await receive(spool)
    assert await spool.offset("b1") == len(DATA)


@pytest.fixture
def _small_files() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_small_files")
async def test_a_full_disk_keeps_what_came_for_the_next_attempt(spool: Spool) -> None:
    with pytest.raises(DiskFullError, match="kept for the next attempt"):
        await receive(spool)
    offset = await spool.offset("b1")
    assert 0 < offset <= 3_000_000
    assert (spool.home.spool / "b1.part").read_bytes() == DATA[:offset]


async def test_old_parts_and_too_many_are_thrown_away_but_none_in_use(home: Home) -> None:
    spool = Spool(home, keep=timedelta(days=1), most=3)
    for number in range(6):
        async with spool.open(f"b{number}", 9) as incoming:
            await incoming.write(b"12345")
        age = 3 * 86400 if number == 0 else 100 - number
        os.utime(home.spool / f"b{number}.part", (time.time() - age,) * 2)
    async with spool.open("b1", 9):
        os.utime(home.spool / "b1.part", (time.time() - 9 * 86400,) * 2)
        assert await spool.clean() == ["b0", "b2"]
    assert [part.bundle_id for part in await spool.parts()] == ["b1", "b3", "b4", "b5"]
    assert {part.size for part in await spool.parts()} == {5}
    assert await spool.clean() == ["b1"]
