"""Writing a bundle: there is the whole file or none, whatever happens on the way."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.archive import files
from agent.archive.errors import BadNameError, DiskFullError, FileExistsAlreadyError, WriteError
from agent.archive.folder import Archive
from agent.archive.steps import to_the_end
from agent.home import Home
from tests.archive.conftest import Child

NAME = "backup-full-20260101-153045.bundle"
MEGABYTE = b"x" * 1_000_000


@pytest.fixture
def archive(home: Home) -> Archive:
    return Archive(home)


def everything(home: Home) -> list[str]:
    return sorted(path.relative_to(home.archive).as_posix() for path in home.archive.rglob("*") if path.is_file())


async def test_a_committed_file_holds_what_was_written(archive: Archive, home: Home) -> None:
    chunks = [random.randbytes(random.randrange(1, 700_000)) for _ in range(8)]
    async with archive.writer("full") as writer:
        for chunk in chunks:
            await writer.write(chunk)
        assert not any(name.endswith(".bundle") for name in everything(home))
        path = await writer.commit(NAME)
    data = b"".join(chunks)
    assert path == home.archive / "full" / NAME
    assert path.read_bytes() == data
    assert (writer.size, writer.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert await archive.checksum(path) == writer.sha256
    assert everything(home) == [f"full/{NAME}"]
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600


async def test_an_empty_file_may_be_committed(archive: Archive) -> None:
    async with archive.writer("full") as writer:
        path = await writer.commit(NAME)
    assert path.read_bytes() == b""


async def test_the_same_second_takes_the_next_number(archive: Archive) -> None:
    async def one(content: bytes) -> tuple[Path, bytes]:
        async with archive.writer("business-specific") as writer:
            await writer.write(content)
            return await writer.commit("b-1.json.gz"), content

    results = await asyncio.gather(*(one(bytes([number])) for number in range(6)))
    assert sorted(path.name for path, _ in results) == [
        "b-1-2.json.gz",
        *[f"b-1-{n}.json.gz" for n in range(3, 7)],
        "b-1.json.gz",
    ]
    assert all(path.read_bytes() == content for path, content in results)


async def test_leaving_without_commit_leaves_nothing(archive: Archive, home: Home) -> None:
    async def fails() -> None:
        async with archive.writer("full") as writer:
            await writer.write(MEGABYTE * 2)
            raise RuntimeError("gate")

    with pytest.raises(RuntimeError, match="gate"):
        await fails()
    async with archive.writer("full") as writer:
        await writer.write(b"x")
    assert everything(home) == []


async def test_cancelling_at_any_moment_leaves_nothing(archive: Archive, home: Home) -> None:
    async def work() -> None:
        async with archive.writer("full") as writer:
            for _ in range(6):
                await writer.write(MEGABYTE * 2)
            await writer.commit(NAME)

    began = time.perf_counter()
    await work()
    whole = time.perf_counter() - began
    (home.archive / "full" / NAME).unlink()
    finished = 0
    for _ in range(40):
        task = asyncio.create_task(work())
        await asyncio.sleep(random.random() * whole * 1.2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert everything(home) == []
        else:
            finished += 1
            (home.archive / "full" / NAME).unlink()
            assert everything(home) == []
    assert finished < 40


async def test_cancelling_twice_still_cleans_up() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.append(1)

    task = asyncio.create_task(to_the_end(work()))
    for _ in range(3):
        await asyncio.sleep(0.005)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


async def test_output_of_the_users_choice(archive: Archive, tmp_path: Path) -> None:
    target = tmp_path / "my backup.bundle"
    async with archive.outside(target) as writer:
        await writer.write(b"abc")
        assert await writer.commit() == target
    assert target.read_bytes() == b"abc"
    with pytest.raises(FileExistsAlreadyError, match="exists already"):
        async with archive.outside(target):
            pass
    async with archive.outside(tmp_path / "late") as writer:
        (tmp_path / "late").write_text("first")
        with pytest.raises(FileExistsAlreadyError):
            await writer.commit()
    async with archive.outside(tmp_path / "folder.d") as writer:
        pass
    (tmp_path / "folder").mkdir()
    async with archive.outside(tmp_path / "folder") as writer:
        assert await writer.commit(NAME) == tmp_path / "folder" / NAME
    with pytest.raises(WriteError, match="no folder"):
        async with archive.outside(tmp_path / "missing" / "x"):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a home", "folder", "late", "my backup.bundle"]


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\\b", "con", "NUL.bundle", "a\0", "x.", "x ", "a:b", "ä" * 130])
async def test_names_that_no_file_may_have(archive: Archive, home: Home, name: str) -> None:
    with pytest.raises(BadNameError):
        async with archive.writer("full") as writer:
            await writer.commit(name)
    assert everything(home) == []


async def test_an_unknown_kind_is_refused(archive: Archive) -> None:
    with pytest.raises(BadNameError, match="nonsense"):
        archive.writer("nonsense")


@pytest.fixture
def _small_files() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_small_files")
async def test_a_size_limit_is_a_full_disk_and_leaves_nothing(archive: Archive, home: Home) -> None:
    async def write() -> None:
        async with archive.writer("full") as writer:
            for _ in range(20):
                await writer.write(MEGABYTE)

    with pytest.raises(DiskFullError, match="full") as caught:
        await write()
    assert caught.value.code == "disk-full"
    assert caught.value.hint
    assert everything(home) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs root on Linux")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_leaves_nothing_and_the_next_smaller_file_fits(small_disk: Path, tmp_path: Path) -> None:
    archive = Archive(Home(tmp_path / "elsewhere").ensure())

    async def write(size: int) -> Path:
        async with archive.outside(small_disk / "x.bundle") as writer:
            for _ in range(size):
                await writer.write(MEGABYTE)
            return await writer.commit()

    with pytest.raises(DiskFullError, match="nothing was kept"):
        await write(6)
    assert list(small_disk.iterdir()) == []
    assert (await write(2)).stat().st_size == 2_000_000
    with pytest.raises(DiskFullError, match="are needed"):
        async with archive.outside(small_disk / "y", expected=1):
            pass
    assert [path.name for path in small_disk.iterdir()] == ["x.bundle"]


async def test_too_little_space_is_said_before_the_first_byte(archive: Archive, home: Home) -> None:
    with pytest.raises(DiskFullError, match="are needed"):
        async with archive.writer("full", expected=10**18):
            pass
    assert everything(home) == []


KILLED = """
    from agent.archive.folder import Archive
    async def main():
        number = 0
        while True:
            async with Archive(home).writer("full") as writer:
                for _ in range(5):
                    await writer.write(b"complete" * 100_000)
                await writer.commit("b.bundle")
            number += 1
            if number == 3:
                print("at work", flush=True)
    asyncio.run(main())
"""


async def test_kill_9_leaves_whole_files_and_start_up_removes_the_rest(
    archive: Archive, home: Home, child: Child
) -> None:
    for _ in range(8):
        process = child(KILLED)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        await asyncio.sleep(random.random() * 0.2)
        process.kill()
        process.wait()
    async with archive.writer("full") as mine:
        await mine.write(MEGABYTE)
        removed = await archive.start()
        assert all(path.name.endswith(".partial") for path in removed)
        assert [path.name.endswith(".partial") for path in (home.archive / "full").glob(".*")] == [True]
        await mine.commit("mine.bundle")
    found = await archive.bundles("full")
    assert len(found) >= 25
    assert {item.size for item in found if item.path.name != "mine.bundle"} == {4_000_000}
    assert not list((home.archive / "full").glob(".*"))
    assert await archive.start() == []


async def test_old_partials_of_another_home_go_after_a_week(archive: Archive, home: Home) -> None:
    young, old = (home.archive / "full" / f".ffffffff-{name}.1.partial" for name in ("young", "old"))
    young.write_text("")
    old.write_text("")
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    assert await archive.start() == [old]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_arguments: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    for content in ("first", "second"):
        (tmp_path / "t").write_text(content)
        files.place(tmp_path / "t", tmp_path, "a.bundle")
    assert (tmp_path / "a.bundle").read_text() == "first"
    assert (tmp_path / "a-2.bundle").read_text() == "second"
