"""Finding bundles again."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.archive.errors import AmbiguousBundleError, NoSuchBundleError
from agent.archive.folder import Archive
from agent.archive.history import History
from agent.home import Home
from tests.archive.test_history import backup


@pytest.fixture
def archive(home: Home) -> Archive:
    return Archive(home)


async def store(archive: Archive, kind: str, name: str) -> Path:
    async with archive.writer(kind) as writer:
        await writer.write(name.encode())
        return await writer.commit(name)


async def test_bundles_are_listed_by_kind(archive: Archive, home: Home) -> None:
    full = await store(archive, "full", "backup-full-20260101-153045.bundle")
    device = await store(archive, "full-device", "backup-full-device-a-20260101-153045.bundle")
    export = await store(archive, "business-specific", "backup-business-b-20260101-153045.json.gz")
    (home.archive / "full" / "readme.txt").write_text("not a bundle")
    (home.archive / "full" / ".hidden.bundle").write_text("")
    assert {(item.path, item.kind) for item in await archive.bundles()} == {
        (full, "full"),
        (device, "full-device"),
        (export, "business-specific"),
    }
    assert [item.path for item in await archive.bundles("full-device")] == [device]
    await archive.remove(device)
    await archive.remove(device)
    assert await archive.bundles("full-device") == ()


async def test_found_by_name_by_path_and_by_id(archive: Archive, home: Home, tmp_path: Path) -> None:
    path = await store(archive, "full", "one.bundle")
    outside = tmp_path / "elsewhere.bundle"
    outside.write_text("x")
    assert await archive.find("one.bundle") == path
    assert await archive.find("one") == path
    assert await archive.find(str(outside)) == outside
    async with History.open(home) as history:
        await history.add_backup(backup("abcdef01", path=archive.stored_path(path)))
        await history.add_backup(backup("fedcba98", path=archive.stored_path(outside)))
        assert await archive.find("abcdef01", history) == path
        assert await archive.find("abcd", history) == path
        assert await archive.find("fedcba98", history) == outside
        assert await archive.find("one", history) == path
        await archive.remove(path)
        with pytest.raises(NoSuchBundleError, match="abcdef01"):
            await archive.find("abcdef01", history)


async def test_two_files_of_one_name_are_ambiguous(archive: Archive) -> None:
    await store(archive, "full", "one.bundle")
    await store(archive, "business-specific", "one.bundle")
    with pytest.raises(AmbiguousBundleError, match="several files"):
        await archive.find("one")


def test_stored_paths_move_with_the_data_folder(tmp_path: Path) -> None:
    here, there = Archive(Home(tmp_path / "here")), Archive(Home(tmp_path / "there"))
    stored = here.stored_path(here.home.archive / "full" / "x.bundle")
    assert stored == "full/x.bundle"
    assert there.locate(stored) == there.home.archive / "full" / "x.bundle"
    outside = tmp_path / "x.bundle"
    assert there.locate(here.stored_path(outside)) == outside
