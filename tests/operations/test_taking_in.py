"""One backup thrown away because somebody wants it, and files from elsewhere taken into the archive."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from agent.archive.errors import DiskFullError
from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import change
from agent.home import HomeBusyError
from agent.operations.care import pin, untrash
from agent.operations.deliveries import queue_delivery
from agent.operations.prune import NotToTrash, to_trash
from agent.operations.taking_in import NotToBeTakenIn, take_in
from agent.operations.verify import verify_files
from agent.operations.workspace import Workspace
from agent.sealing.age import Lock, seal_file
from agent.sealing.errors import WrongPassphraseError
from certs.identity import Identity
from protocol.errors import BundleError
from protocol.manifest import Kind
from tests.support.archives import NOON, bundle, keep, workspace_at

WORDS = "three small horses"


async def ask(_: str) -> str:
    return WORDS


async def test_one_backup_goes_to_the_trash_unless_something_keeps_it(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    async with workspace.history() as history:
        first, second, third = [await keep(workspace, history, NOON.replace(hour=hour)) for hour in (1, 2, 3)]
        await pin(history, second.id, pinned=True)
        (tmp_path / "nas").mkdir()
        await queue_delivery(workspace, workspace.archive.locate(third.path), f"path:{tmp_path / 'nas'}", plain=True)
        thrown = await to_trash(workspace, history, first)
        assert not workspace.archive.locate(first.path).exists()
        assert workspace.archive.locate(thrown.path).is_file()
        assert thrown.removed_why is not None
        assert thrown.removed_why.startswith("thrown away by ")
        pinned = await history.backup(second.id)
        assert pinned is not None
        for record, why in ((thrown, "not in the archive"), (pinned, "pinned"), (third, "needed now: a delivery to")):
            with pytest.raises(NotToTrash, match=why):
                await to_trash(workspace, history, record)
        back = await untrash(workspace, history, first.id)
        assert workspace.archive.locate(back.path).is_file()


async def test_a_bundle_is_taken_in_once_sealed_or_not_and_nothing_else_is(tmp_path: Path) -> None:
    workspace, elsewhere = workspace_at(tmp_path / "home"), workspace_at(tmp_path / "other")
    stranger = elsewhere.store.identity()
    plain, sealed = tmp_path / "a.bundle", tmp_path / "a.bundle.age"
    await asyncio.to_thread(plain.write_bytes, bundle(stranger, NOON))
    await seal_file(plain, sealed, Lock((), WORDS), lambda _: None)
    async with workspace.history() as history:
        taken = await take_in(workspace, history, sealed, ask)
        assert (taken.known, taken.signed, taken.again, taken.record.origin) == ("unknown", True, False, "imported")
        kept = workspace.archive.locate(taken.record.path)
        assert kept.read_bytes() == plain.read_bytes()
        again = await take_in(workspace, history, plain, ask)
        assert (again.again, again.record.id) == (True, taken.record.id)
        await to_trash(workspace, history, taken.record)
        back = await take_in(workspace, history, plain, ask)
        assert (back.again, back.record.removed_at) == (False, None)
        count = len(await history.backups())

        await refused(workspace, history, stranger, tmp_path, count)


async def refused(workspace: Workspace, history: History, maker: Identity, folder: Path, count: int) -> None:
    """What is refused leaves nothing behind."""
    undo, cut, other = folder / "undo.bundle", folder / "cut.bundle", folder / "other.age"
    await asyncio.to_thread(undo.write_bytes, bundle(maker, NOON, Kind.UNDO))
    await asyncio.to_thread(cut.write_bytes, bundle(maker, NOON)[:-10])
    await seal_file(cut, other, Lock((), "another passphrase"), lambda _: None)
    with pytest.raises(NotToBeTakenIn):
        await take_in(workspace, history, undo, ask)
    with pytest.raises(BundleError):
        await take_in(workspace, history, cut, ask)
    with pytest.raises(WrongPassphraseError):
        await take_in(workspace, history, other, ask)
    assert len(await history.backups()) == count


async def damaged(workspace: Workspace, history: History, folder: Path) -> tuple[BackupRecord, Path]:
    """A backup whose file in the archive is noted as damaged, and a whole copy of it elsewhere."""
    made = await keep(workspace, history, NOON)
    kept, copy = workspace.archive.locate(made.path), folder / "copy"
    copy.write_bytes(kept.read_bytes())
    kept.write_bytes(kept.read_bytes()[:-10])
    await history.change_backup(made.id, pinned=True)
    async for _ in verify_files(workspace, history, ((kept, made),)):
        pass
    found = await history.backup(made.id)
    assert found is not None
    assert found.damaged_at is not None
    return found, copy


def kept_files(workspace: Workspace) -> list[str]:
    return [path.name for path in sorted((workspace.home.archive / "full").iterdir())]


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_whole_copy_takes_the_place_of_a_damaged_one(tmp_path: Path, *, sealed: bool) -> None:
    workspace = workspace_at(tmp_path / "home")
    async with workspace.history() as history:
        bad, copy = await damaged(workspace, history, tmp_path)
        if sealed:
            change(workspace.home, encrypt_archive=True)
            workspace = Workspace(workspace.home)
        with workspace.home.lock("prune"), pytest.raises(HomeBusyError):
            await take_in(workspace, history, copy, ask)
        assert await history.backup(bad.id) == bad
        assert kept_files(workspace) == [bad.filename]
        taken = await take_in(workspace, history, copy, ask)
        record = taken.record
        assert (taken.again, record.damaged_at, record.damage, record.removed_at) == (False, None, None, None)
        assert (record.origin, record.recorded_at, record.pinned) == ("made", bad.recorded_at, True)
        assert record.filename == bad.filename + (".age" if sealed else "")
        assert kept_files(workspace) == [record.filename]
        file = workspace.archive.locate(record.path)
        assert (record.size, record.checksum) == (file.stat().st_size, await workspace.archive.checksum(file))
        (verified,) = [each async for each in verify_files(workspace, history, ((file, record),))]
        assert verified.ok
        assert (await take_in(workspace, history, copy, ask)).again


async def test_a_damaged_one_is_not_lost_where_the_copy_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_at(tmp_path / "home")
    async with workspace.history() as history:
        bad, copy = await damaged(workspace, history, tmp_path)
        old = workspace.archive.locate(bad.path)
        content = old.read_bytes()

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("agent.archive.files.write_all", full)
            with pytest.raises(DiskFullError):
                await take_in(workspace, history, copy, ask)
        assert (await history.backup(bad.id), kept_files(workspace)) == (bad, [bad.filename])
        assert old.read_bytes() == content
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", full)
            taken = await take_in(workspace, history, copy, ask)
        assert kept_files(workspace) == [taken.record.filename]
        assert workspace.archive.locate(taken.record.path).read_bytes() == copy.read_bytes()


async def test_a_stranger_s_bundle_of_the_same_id_replaces_nothing(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    stranger = workspace_at(tmp_path / "other").store.identity()
    async with workspace.history() as history:
        bad, _ = await damaged(workspace, history, tmp_path)
        forged = tmp_path / "forged.bundle"
        await asyncio.to_thread(forged.write_bytes, bundle(stranger, NOON, bundle_id=bad.id))
        await take_in(workspace, history, forged, ask)
        assert await history.backup(bad.id) == bad
        assert kept_files(workspace) == [bad.filename]
