"""Export and import as verbs: the archive, the history, and what stays behind when something goes wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from agent.archive.errors import FileExistsAlreadyError
from agent.database.merge import Conflicts
from agent.engine.backup import BackupRequest
from agent.home import Home
from agent.operations.backups import BackupMade, make_backup
from agent.operations.inspect import PlatformFile, inspect_bundle
from agent.operations.platform_json import FileUnreadable, export_bundle, import_file
from agent.operations.prune import to_trash
from agent.operations.restores import restore_file
from agent.operations.setup import set_up
from agent.operations.workspace import Workspace
from protocol.errors import BundleError, ForeignDeviceState
from protocol.manifest import Kind
from protocol.platform_json.errors import BadChecksum
from tests.conftest import MakeDatabase
from tests.support.databases import Database

pytestmark = pytest.mark.one_server


async def _laptop(folder: Path, name: str, database: Database) -> Workspace:
    await set_up(Home(folder / name), database=database.dsn, name=name, port=0)
    return Workspace(Home(folder / name))


async def _backup(workspace: Workspace, kind: Kind = Kind.FULL) -> BackupMade:
    async with workspace.history() as history:
        return await make_backup(workspace, history, BackupRequest(kind, include_demo=True))


async def test_a_bundle_goes_out_as_a_file_and_comes_into_another_laptop(
    database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = await _laptop(tmp_path, "office", await database("filled"))
    kitchen_database = await database("platform")
    kitchen = await _laptop(tmp_path, "kitchen", kitchen_database)
    made = await _backup(office)
    monkeypatch.chdir(tmp_path)
    exported = await export_bundle(office, made.file)
    assert exported.file == tmp_path / made.file.name.replace(".bundle", ".json.gz")
    assert list(office.home.spool.iterdir()) == []
    plain = await export_bundle(office, made.file, output=tmp_path / "plain.json")
    assert gzip.decompress(exported.file.read_bytes()) == plain.file.read_bytes()
    with pytest.raises(FileExistsAlreadyError):
        await export_bundle(office, made.file, output=tmp_path / "plain.json")

    for file in (exported.file, plain.file):
        with pytest.raises(PlatformFile, match="not a bundle") as caught:
            await inspect_bundle(kitchen, file)
        assert f"backroom import {file.name}" in caught.value.hint
        async with kitchen.history() as history:
            with pytest.raises(PlatformFile):
                await restore_file(kitchen, history, file, conflicts=Conflicts.BUNDLE)

    async with kitchen.history() as history:
        first = await import_file(kitchen, history, exported.file)
        again = await import_file(kitchen, history, plain.file)
        assert (first.again, again.again) == (False, True)
        assert first.file == again.file
        (record,) = await history.backups()
        assert (record.origin, record.records) == ("imported", made.result.manifest.total_rows)
        claims = record.options["imported_from"]
        assert claims == {"file": exported.file.name, "node_id": made.result.manifest.source_node, "device": "office"}
        assert first.as_dict()["signed"] is False
        result = await restore_file(kitchen, history, first.file, conflicts=Conflicts.BUNDLE)
        assert result.plan.totals.insert == made.result.manifest.total_rows
        first.file.unlink()
        third = await import_file(kitchen, history, exported.file)
        assert not third.again
        assert third.manifest.bundle_id != first.manifest.bundle_id


async def test_a_file_whose_import_is_in_the_trash_takes_it_back(database: MakeDatabase, tmp_path: Path) -> None:
    office = await _laptop(tmp_path, "office", await database("filled"))
    kitchen = await _laptop(tmp_path, "kitchen", await database("platform"))
    path = (await export_bundle(office, (await _backup(office)).file, output=tmp_path)).file
    async with kitchen.history() as history:
        first = await import_file(kitchen, history, path)
        thrown = await to_trash(kitchen, history, first.record)
        again = await import_file(kitchen, history, path)
        assert (again.again, again.file, again.record.id) == (True, first.file, first.record.id)
        assert (again.record.removed_at, again.record.pinned) == (None, True)
        assert again.file.is_file()
        assert not kitchen.archive.locate(thrown.path).exists()
        await history.change_backup(first.record.id, damaged_at=first.record.created_at, damage="cut")
        other = await import_file(kitchen, history, path)
        assert not other.again
        assert other.record.id != first.record.id


async def test_what_is_refused_leaves_nothing_in_the_archive(database: MakeDatabase, tmp_path: Path) -> None:
    office = await _laptop(tmp_path, "office", await database("filled"))
    kitchen = await _laptop(tmp_path, "kitchen", await database("platform"))
    device = (await export_bundle(office, (await _backup(office, Kind.FULL_DEVICE)).file, output=tmp_path)).file
    made = await _backup(office)
    plain = (await export_bundle(office, made.file, output=tmp_path, compress=False)).file
    value = json.loads(plain.read_text("utf-8"))
    value["businessData"]["businesses"][0]["name"] = "Somebody else's"
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(value), encoding="utf-8")
    async with kitchen.history() as history:
        for path, error in (
            (device, ForeignDeviceState),
            (forged, BadChecksum),
            (tmp_path / "none.json", FileUnreadable),
        ):
            with pytest.raises(error):
                await import_file(kitchen, history, path)
        assert await history.backups() == ()
    assert [path for path in kitchen.home.archive.rglob("*") if path.is_file() and "backup-" in path.name] == []


async def test_a_damaged_bundle_is_not_exported(database: MakeDatabase, tmp_path: Path) -> None:
    office = await _laptop(tmp_path, "office", await database("filled"))
    made = await _backup(office)
    data = bytearray(made.file.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.bundle"
    damaged.write_bytes(bytes(data))
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError):
        await export_bundle(office, damaged, output=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert list(office.home.spool.iterdir()) == []
