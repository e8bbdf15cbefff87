"""Sealed archives on real laptops, and sealed files elsewhere, which nothing on the laptop opens by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.archive.history import History
from agent.config import change
from agent.home import Home
from agent.operations.bringing import WhichBackup, readable
from agent.operations.drills import newest_of_groups
from agent.operations.keys import unlock
from agent.operations.verify import Verified, files_to_verify, verify_files
from agent.operations.workspace import Workspace
from agent.sealing.age import Lock, is_sealed, new_identity, seal_file
from agent.sealing.errors import DamagedSealError
from tests.support.agents import Laptop, Shops
from tests.support.archives import NOON, keep, workspace_at

NAME = "SELECT address FROM businesses WHERE name = 'Restaurant ABC'"


def stored(laptop: Laptop) -> list[Path]:
    return [path for path in laptop.files("archive") if "bundle" in path.name]


def test_push_pull_restore_undo_and_drill_on_sealed_archives(shops: Shops) -> None:
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales, roles={sales.name: "admin"})
    before = office.do("backup", "--business", "Restaurant ABC")  # the archive is a mixed one
    for laptop in (office, sales):
        change(Home(laptop.home), encrypt_archive=True)
    with sales.running() as at_sales:
        office.knows(at_sales.port)
        pushed = office.do("push", "Restaurant ABC", sales.name)
        assert pushed["outcome"] == "applied"
    with office.running() as at_office:
        sales.knows(at_office.port)
        pulled = sales.do("pull", office.name, "--full")
    # Undo bundles are sealed too, and read again.
    office.execute("UPDATE businesses SET address = 'Elsewhere 1' WHERE name = 'Restaurant ABC'")
    street = office.query(NAME)
    assert office.do("restore", Path(pushed["file"]).name.removesuffix(".age"), "--yes")["applied"]
    assert office.query(NAME) != street
    office.do("undo", "--yes")
    assert office.query(NAME) == street
    assert sales.do("drill", pulled["bundle_id"], "--database", shops.database("empty", "nobody").dsn)["passed"]
    for laptop in (office, sales):
        sealed = [path for path in stored(laptop) if path.name != Path(before["file"]).name]
        assert sealed != []
        assert all(is_sealed(path) and path.name.endswith(".bundle.age") for path in sealed)
        assert laptop.do("verify", "--all", "--deep")["ok"]
        assert not [path for path in laptop.files("spool") if path.is_file()]


async def never(words: str) -> str:
    raise AssertionError(words)


async def verdict(workspace: Workspace, history: History) -> Verified:
    (found,) = [each async for each in verify_files(workspace, history, await files_to_verify(workspace, history))]
    return found


async def test_a_sealed_copy_elsewhere_is_held_against_its_checksum_and_not_drilled_at_night(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    identity, recipient = new_identity()
    (tmp_path / "key.txt").write_text(identity)
    async with workspace.history() as history:
        record = await keep(workspace, history, NOON)
        inside, file = workspace.archive.locate(record.path), tmp_path / "usb" / "a.bundle.age"
        file.parent.mkdir()
        await seal_file(inside, file, Lock((recipient,)))
        inside.unlink()
        sum_ = await workspace.archive.checksum(file)
        await history.add_backup(replace(record, path=str(file), checksum=sum_))
        assert (await verdict(workspace, history)).known == "sealed"
        assert await newest_of_groups(workspace, history) == ()
        whole = file.read_bytes()
        file.write_bytes(whole[:-9] + b"x" + whole[-8:])
        assert (await verdict(workspace, history)).problem_code == "checksum"
        unlocked = Workspace(workspace.home)
        await unlock(unlocked, file, never, identity=tmp_path / "key.txt")
        assert (await verdict(unlocked, history)).problem_code == DamagedSealError.code
        file.write_bytes(whole)
        assert (await verdict(unlocked, history)).known == "this laptop"
        assert [each.id for each in await newest_of_groups(unlocked, history)] == [record.id]


async def test_what_an_agent_receives_is_sealed_by_the_present_settings(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    assert not workspace.config.encrypt_archive, "as the agent started"
    change(workspace.home, encrypt_archive=True)
    async with workspace.history() as history:
        record = await keep(workspace, history, NOON)
        assert is_sealed(workspace.archive.locate(record.path))
        broken = workspace.home.config.read_text() + "\n[[[nonsense"
        workspace.home.config.write_text(broken)
        record = await keep(workspace, history, NOON.replace(day=2))
        assert is_sealed(workspace.archive.locate(record.path)), "the last good settings, not those of its start"


async def test_a_place_is_listed_and_what_is_fetched_from_it_is_gone_afterwards(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    nas = tmp_path / "nas"
    nas.mkdir()
    async with workspace.history() as history:
        record = await keep(workspace, history, NOON)
    workspace.archive.locate(record.path).rename(nas / record.filename)
    (nas / "notes.txt").write_text("none of ours")
    for text in (str(nas), f"path:{nas}", f"path:{nas}/backup-full-20200101-000000.bundle"):
        with pytest.raises(WhichBackup) as caught:
            async with readable(workspace, text, never):
                pass
        assert record.filename in str(caught.value)
        assert "notes.txt" not in str(caught.value)
        assert caught.value.hint.endswith(f"nas/{record.filename}")

    async def stopped() -> None:
        async with readable(workspace, f"path:{nas}/{record.filename}", never) as path:
            assert path.is_relative_to(workspace.home.spool)
            assert path.read_bytes() == (nas / record.filename).read_bytes()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await stopped()
    assert list(workspace.home.spool.iterdir()) == []
