"""Drills on real servers: what is restored is compared and written to, what is damaged is named, nothing is left."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.archive.history import History
from agent.archive.records import FAILED, PASSED
from agent.engine.backup import BackupRequest
from agent.engine.drill import StrangeType, schema_of
from agent.operations.backups import BackupMade, make_backup
from agent.operations.drills import Drilled, NothingToDrill, drill
from agent.operations.verify import files_to_verify, find_files, verify_files
from agent.operations.workspace import Workspace
from certs.identity import Identity
from protocol.manifest import ColumnEntry, Kind, Manifest, Section, TableEntry
from tests.conftest import MakeDatabase
from tests.support.agents import backroom
from tests.support.archives import NOON, keep, workspace_at
from tests.support.databases import Database


@pytest.fixture
async def laptop(tmp_path: Path, filled_database: Database) -> Workspace:
    return workspace_at(tmp_path / "home", filled_database.dsn)


@pytest.fixture
async def history(laptop: Workspace) -> AsyncIterator[History]:
    async with laptop.history() as found:
        yield found


async def back_up(workspace: Workspace, history: History, kind: Kind, business: str | None = None) -> BackupMade:
    return await make_backup(workspace, history, BackupRequest(kind, business))


async def first_business(workspace: Workspace) -> str:
    from agent.operations.look import businesses

    return next(each.id for each in await businesses(workspace) if not each.is_demo)


async def held(workspace: Workspace, history: History, database: str | None = None) -> list[Drilled]:
    return [each async for each in drill(workspace, history, database=database)]


async def namespaces(database: Database) -> list[str]:
    async with database.connect() as connection:
        return [row[0] for row in await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ 'backroom'")]


async def test_the_newest_of_each_group_is_restored_compared_and_dropped(
    laptop: Workspace, history: History, database: MakeDatabase
) -> None:
    scratch = await database()
    await back_up(laptop, history, Kind.FULL)
    made = [
        await back_up(laptop, history, Kind.FULL),
        await back_up(laptop, history, Kind.BUSINESS, await first_business(laptop)),
        await back_up(laptop, history, Kind.FULL_DEVICE),
    ]
    done = await held(laptop, history, scratch.dsn)
    assert [each.record.error for each in done] == [None] * 3
    assert {each.backup.id for each in done} == {each.record.id for each in made}
    rows = {each.record.id: each.result.manifest.total_rows for each in made}
    assert {each.backup.id: each.record.rows for each in done} == rows
    assert all(each.left_out == () for each in done)
    kept = await history.drills()
    assert {each.state for each in kept} == {PASSED}
    assert all("***" in each.place or "@" in each.place or "host=" in each.place for each in kept)
    assert await namespaces(scratch) == []
    assert all(each.verified_at for each in await history.backups() if each.id in rows)


@pytest.mark.one_server
async def test_an_embedded_server_comes_and_goes(laptop: Workspace, history: History) -> None:
    await back_up(laptop, history, Kind.FULL)
    (done,) = await held(laptop, history)
    assert done.passed, done.record.error
    assert done.record.place == "embedded"
    note = laptop.home.state / "drill-server"
    assert not note.exists()


@pytest.mark.one_server
async def test_a_server_that_a_killed_drill_left_is_cleared(
    laptop: Workspace, history: History, tmp_path: Path
) -> None:
    left = tmp_path / "backroom-drill-x"
    left.mkdir()
    (laptop.home.state / "drill-server").write_text(str(left))
    await back_up(laptop, history, Kind.FULL)
    assert (await held(laptop, history))[0].passed
    assert not left.exists()


@pytest.mark.one_server
async def test_damage_is_named_and_nothing_is_applied(
    laptop: Workspace, history: History, database: MakeDatabase
) -> None:
    scratch = await database()
    made = await back_up(laptop, history, Kind.FULL)
    data = bytearray(made.file.read_bytes())
    data[len(data) // 2] ^= 1
    made.file.write_bytes(data)
    (done,) = await held(laptop, history, scratch.dsn)
    assert not done.passed
    assert (await history.drills(state=FAILED))[0].bundle_id == made.record.id
    damaged = await history.backup(made.record.id)
    assert damaged is not None
    assert damaged.damage == done.record.error
    assert await namespaces(scratch) == []


@pytest.mark.one_server
async def test_without_the_platform_the_manifest_has_to_do(
    tmp_path: Path, history: History, laptop: Workspace, database: MakeDatabase
) -> None:
    made = await back_up(laptop, history, Kind.FULL)
    from agent.config import change

    change(laptop.home, database_url="postgresql://nobody@127.0.0.1:9/none")
    (done,) = await held(Workspace(laptop.home), history, (await database()).dsn)
    assert done.record.error is None
    assert done.record.rows == made.result.manifest.total_rows


@pytest.mark.one_server
async def test_a_bundle_that_the_platform_of_today_cannot_take_fails(
    laptop: Workspace, history: History, filled_database: Database, database: MakeDatabase
) -> None:
    await back_up(laptop, history, Kind.FULL)
    async with filled_database.connect() as connection:
        await connection.execute("ALTER TABLE businesses DROP COLUMN name CASCADE")
    (done,) = await held(laptop, history, (await database()).dsn)
    assert done.record.error_code == "schema-drift"
    assert "businesses" in (done.record.error or "")


@pytest.mark.one_server
async def test_a_stranger_s_bundle_is_not_restored_anywhere(
    laptop: Workspace, history: History, database: MakeDatabase
) -> None:
    await keep(laptop, history, NOON, identity=Identity.create("stranger", NOON))
    (done,) = await held(laptop, history, (await database()).dsn)
    assert done.record.error_code == "untrusted-source"


async def test_nothing_to_drill(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    async with workspace.history() as history:
        with pytest.raises(NothingToDrill):
            await held(workspace, history)


@pytest.mark.parametrize("text", ["text); DROP TABLE x; --", "int default f()", "", "a\nb", "text, x"])
def test_no_statement_is_made_of_a_strange_type(text: str) -> None:
    column = ColumnEntry("id", text)
    entry = TableEntry("t", Section.BUSINESS, (column,), ("id",), 0)
    manifest = Manifest.__new__(Manifest)
    object.__setattr__(manifest, "tables", (entry,))
    object.__setattr__(manifest, "enums", {})
    with pytest.raises(StrangeType):
        schema_of(manifest)


@pytest.mark.one_server
async def test_verify_deep_follows_every_reference(
    laptop: Workspace, history: History, filled_database: Database
) -> None:
    made = await back_up(laptop, history, Kind.FULL)
    await back_up(laptop, history, Kind.BUSINESS, await first_business(laptop))
    wanted = await files_to_verify(laptop, history)
    done = [each async for each in verify_files(laptop, history, wanted, deep=True)]
    assert [each.problem for each in done] == ["", ""]
    full = next(each for each in done if each.record and each.record.id == made.record.id)
    assert full.looked is not None
    assert full.looked.rows == made.result.manifest.total_rows
    assert full.looked.edges > 200
    assert full.looked.references > full.looked.rows


@pytest.mark.one_server
async def test_verify_deep_finds_what_a_seal_cannot(
    laptop: Workspace, history: History, filled_database: Database
) -> None:
    """A bundle that is sealed properly and whose orders refer to people who are not in it."""
    from agent.operations.look import schema_of as live

    async with filled_database.connect() as connection:
        await connection.execute("CREATE TABLE people (id text PRIMARY KEY, name text)")
        await connection.execute("CREATE TABLE orders2 (id text PRIMARY KEY, person text REFERENCES people)")
    print_ = (await live(laptop))[0].fingerprint()
    text = ColumnEntry("id", "text")
    people = TableEntry("people", Section.BUSINESS, (text, ColumnEntry("name", "text")), ("id",), 20)
    orders = TableEntry("orders2", Section.BUSINESS, (text, ColumnEntry("person", "text")), ("id",), 20)
    good = await keep(laptop, history, NOON, schema_fingerprint=print_, tables=(people, orders))
    swapped = await keep(laptop, history, NOON, schema_fingerprint=print_, tables=(orders, people))
    found = await find_files(laptop, history, (good.id, swapped.id))
    first, second = [each async for each in verify_files(laptop, history, found, deep=True)]
    assert first.problem == ""
    assert second.problem == "orders2.person -> people: rows that refer to rows which are not in the bundle (20)"
    assert second.problem_code == "not-closed"


@pytest.mark.one_server
async def test_from_the_command_line(laptop: Workspace, history: History) -> None:
    made = await back_up(laptop, history, Kind.BUSINESS, await first_business(laptop))
    home = str(laptop.home.path)
    passed = backroom("--home", home, "--json", "drill")
    assert passed.code == 0, passed
    assert passed.value["drills"][0]["rows"] == made.result.manifest.total_rows
    assert backroom("--home", home, "--json", "verify", "--all", "--deep").value["ok"] is True
    made.file.write_bytes(made.file.read_bytes()[:-1])
    failed = backroom("--home", home, "--json", "drill", made.record.id[:8])
    assert failed.code == 1
    assert json.loads(failed.out)["drills"][0]["error"]["code"]
    assert backroom("--home", home, "verify", made.file.name).code == 1
    assert backroom("--home", home, "--json", "archive", "check").value["damaged"]
