"""Backups whose disk, share or key was only away: they are not damaged, and no rule throws them away for it."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import change
from agent.operations.drills import drill
from agent.operations.prune import plan_prune, prune
from agent.operations.verify import files_to_verify, find_files, verify_files
from agent.operations.workspace import Workspace
from agent.sealing.archive_key import ArchiveKey
from tests.support.archives import NOON, many, workspace_at

END = NOON + timedelta(days=6)


@pytest.fixture
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    made = workspace_at(tmp_path / "home")
    change(made.home, encrypt_archive=getattr(request, "param", "sealed") == "sealed")
    return Workspace(made.home)


@pytest.fixture
async def history(workspace: Workspace) -> AsyncIterator[History]:
    async with workspace.history() as found:
        yield found


async def codes(workspace: Workspace, history: History) -> set[str]:
    wanted = await files_to_verify(workspace, history)
    return {each.problem_code async for each in verify_files(workspace, history, wanted)}


async def noted(history: History) -> set[tuple[bool, str | None]]:
    """Whether they are verified, and what damage is known of them."""
    return {(each.verified_at is not None, each.damage) for each in await history.backups()}


def unreadable(_: Path) -> BinaryIO:
    raise OSError(errno.EIO, "Input/output error")


async def test_what_was_out_of_reach_is_not_damaged_and_is_looked_at_again(
    workspace: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(workspace, history, 3)
    assert await codes(workspace, history) == {""}
    assert await noted(history) == {(True, None)}
    disk = workspace.home.archive / "full"
    disk.rename(disk.with_name("unplugged"))
    disk.mkdir()
    assert await codes(workspace, history) == {"file-gone"}
    assert await noted(history) == {(False, None)}
    disk.rmdir()
    disk.with_name("unplugged").rename(disk)
    assert len(await files_to_verify(workspace, history, due=True)) == 3
    with monkeypatch.context() as patched:
        patched.setattr(workspace.bundle_files, "open", unreadable)
        assert await codes(workspace, history) == {"unreadable"}
        assert await noted(history) == {(False, None)}
    with monkeypatch.context() as patched:
        patched.setattr(ArchiveKey, "identity", lambda _: None)
        assert await codes(workspace, history) == {"key-needed"}
        assert await noted(history) == {(False, None)}
    assert await codes(workspace, history) == {""}
    assert await noted(history) == {(True, None)}


async def test_damage_that_is_known_stays_known_while_the_file_is_away(workspace: Workspace, history: History) -> None:
    (made,) = await many(workspace, history, 1)
    path = workspace.archive.locate(made.path)
    path.write_bytes(path.read_bytes()[:-1])
    assert await codes(workspace, history) != {""}
    before = await history.backup(made.id)
    path.unlink()
    assert await codes(workspace, history) == {"file-gone"}
    assert await history.backup(made.id) == before


async def test_a_drill_that_cannot_read_its_backup_says_nothing_of_damage(
    workspace: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = await many(workspace, history, 1)
    monkeypatch.setattr(workspace.bundle_files, "open", unreadable)
    (done,) = [each async for each in drill(workspace, history, database="postgresql://nobody@127.0.0.1:9/none")]
    assert done.record.error_code == "unreadable"
    assert await noted(history) == {(False, None)}
    assert made.id == done.backup.id


async def believed_damaged(workspace: Workspace, history: History) -> list[BackupRecord]:
    """Six backups: all but the newest, which is verified, are noted as damaged; the second one is."""
    *old, newest = await many(workspace, history, 6)
    for each in old:
        await history.change_backup(each.id, damaged_at=END, damage="The file is gone.")
    path = workspace.archive.locate(old[1].path)
    path.write_bytes(path.read_bytes()[:-1])
    async for _ in verify_files(workspace, history, await find_files(workspace, history, (newest.id,))):
        pass
    return old


@pytest.mark.parametrize("workspace", ["plain"], indirect=True)
async def test_pruning_looks_anew_before_it_throws_away_as_damaged(workspace: Workspace, history: History) -> None:
    old = await believed_damaged(workspace, history)
    damaged = old.pop(1)
    assert {item.reasons for item in (await plan_prune(workspace, history, now=END, zone=UTC)).removals} == {
        ("damaged",)
    }
    done = await prune(workspace, history, now=END, zone=UTC)
    assert [each.id for each in done.removed] == [damaged.id]
    assert {(each.id, why) for each, why in done.left} == {
        (each.id, "it was noted as damaged, and holds") for each in old
    }
    assert await noted(history) == {(True, None)}
    assert not (await plan_prune(workspace, history, now=END, zone=UTC)).removals


async def test_pruning_throws_nothing_away_as_damaged_that_it_cannot_look_at(
    workspace: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await believed_damaged(workspace, history)
    monkeypatch.setattr(ArchiveKey, "identity", lambda _: None)
    done = await prune(workspace, history, now=END, zone=UTC)
    assert not done.removed
    assert {each.id for each, _ in done.left} == {each.id for each in old}
    assert all("cannot be looked at anew" in why for _, why in done.left)
