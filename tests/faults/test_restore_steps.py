"""A restore that dies at any of its steps: the database is as before or as after, and the history says which."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.archive.records import APPLIED
from agent.database.merge import Conflicts
from agent.demo.embedded import SUPERUSER, Cluster
from agent.engine import restore as restoring
from agent.engine.backup import BackupRequest
from agent.home import Home
from agent.operations.backups import make_backup
from agent.operations.outcomes import RunningRestore, settle
from agent.operations.restores import restore_file
from agent.operations.setup import set_up
from agent.operations.workspace import Workspace
from protocol.manifest import Kind
from tests.conftest import MakeDatabase
from tests.engine.test_restore_loading import shape
from tests.support.databases import Database
from tests.support.restore_steps import Steps
from tests.support.restores import Laptop

ROOT = Path(__file__).parent.parent.parent
SHOP = """
CREATE TABLE businesses (id text PRIMARY KEY, name text NOT NULL, "isDemo" boolean NOT NULL DEFAULT false);
CREATE TABLE sales (id text PRIMARY KEY, "businessId" text NOT NULL REFERENCES businesses (id), number text);
CREATE TABLE lines (id text PRIMARY KEY, "saleId" text NOT NULL REFERENCES sales (id), quantity integer);
INSERT INTO businesses VALUES ('b1', 'Grill');
"""
HERE = """
INSERT INTO sales SELECT 's' || n, 'b1', n::text FROM generate_series(1, 30) n;
INSERT INTO lines SELECT 'l' || n, 's' || n, n FROM generate_series(1, 30) n;
"""
THERE = "INSERT INTO sales VALUES ('s1', 'b1', 'other'), ('s99', 'b1', '99');"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's own user can reach all the time: every start of pytest closes pytest's folder."""
    folder = Path(tempfile.mkdtemp(prefix="br-steps-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def _workspace(folder: Path, database: Database, name: str) -> Workspace:
    await set_up(Home(folder), database=database.dsn, name=name, port=0)
    return Workspace(Home(folder))


async def _run(*arguments: object, load: bool = False) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.restore_steps", *map(str, arguments)),
        cwd=ROOT,
        env=os.environ | ({"BACKROOM_TEST_LOAD": "1"} if load else {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, (out or err).decode()


async def _backup(database: MakeDatabase, folder: Path) -> Path:
    source = await database()
    await Laptop(source, folder).execute(SHOP + HERE)
    workspace = await _workspace(folder / "source", source, "laptop-one")
    async with workspace.history() as history:
        return (await make_backup(workspace, history, BackupRequest(Kind.BUSINESS, "b1"))).file


async def _target(database: MakeDatabase, folder: Path, there: str = SHOP + THERE) -> tuple[Laptop, Workspace]:
    fresh = await database()
    laptop = Laptop(fresh, folder)
    await laptop.execute(there)
    return laptop, await _workspace(folder / f"target-{fresh.name}", fresh, "laptop-two")


async def _check(laptop: Laptop, workspace: Workspace, before: object, after: object) -> bool:
    """Whether it was applied; the database, the history and the undo bundle must agree on that."""
    contents = await laptop.contents()
    assert contents in (before, after)
    async with workspace.history() as history:
        await settle(workspace, history)
        records = await history.restores()
    undos = list((workspace.home.archive / "undo").glob("*.bundle"))
    applied = contents == after
    assert [record.state == APPLIED for record in records] == ([applied] if records else [])
    assert len(undos) == applied
    assert not list(workspace.home.archive.rglob("*.partial")) or not applied
    return applied


@pytest.mark.one_server
@pytest.mark.timeout(600)
async def test_the_database_server_dies_at_a_step(open_folder: Path) -> None:
    """The restore fails with words; after the server's recovery the history knows what the database kept."""
    tmp_path = open_folder
    async with Cluster(tmp_path / "server") as cluster:
        numbers = itertools.count()

        async def make() -> Database:
            name = f"shop_{next(numbers)}"
            dsn = await cluster.create_database(name)
            return Database(name, dsn, cluster.dsn(name, SUPERUSER))

        file = await _backup(make, tmp_path)
        laptop, workspace = await _target(make, tmp_path)
        before = await laptop.contents()
        steps = int((await _run(workspace.home.path, file))[1])
        after = await laptop.contents()
        outcomes = []
        for step in [*range(3, steps - 8, 9), *range(steps - 7, steps + 1)]:
            laptop, workspace = await _target(make, tmp_path)
            code, said = await _run(workspace.home.path, file, step, tmp_path / "server" / "data")
            assert code in (0, 1), said
            # Where nothing reaps orphans, the dead server's number stays taken and its lock files look alive.
            for lock in ("data/postmaster.pid", "run/.s.PGSQL.5432.lock"):
                (tmp_path / "server" / lock).unlink()
            await cluster.start()
            outcomes.append(await _check(laptop, workspace, before, after))
        assert outcomes == sorted(outcomes)
        assert outcomes[0] is False
        assert outcomes[-1] is True


@pytest.mark.one_server
@pytest.mark.timeout(600)
async def test_killed_at_any_step(database: MakeDatabase, tmp_path: Path) -> None:
    file = await _backup(database, tmp_path)
    laptop, workspace = await _target(database, tmp_path)
    before = await laptop.contents()
    code, said = await _run(workspace.home.path, file)
    assert code == 0, said
    after = await laptop.contents()
    steps = int(said)
    assert steps > 15
    assert await _check(laptop, workspace, before, after)
    outcomes = []
    for step in range(1, steps + 1):
        laptop, workspace = await _target(database, tmp_path)
        code, said = await _run(workspace.home.path, file, step)
        assert code == -9, said
        outcomes.append(await _check(laptop, workspace, before, after))
    assert outcomes == sorted(outcomes), "once applied at a step, applied at every later one"
    assert outcomes[0] is False
    assert outcomes[-1] is True


@pytest.mark.one_server
async def test_cancelled_at_any_step(database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl+C, or by the end of the agent that does it: while the database commits it may have happened, or not."""
    file = await _backup(database, tmp_path)
    before = after = {}
    commit, kept = restoring.commit_surely, RunningRestore.kept
    tasks: list[asyncio.Task[Any]] = []
    outcomes = []
    for step in range(100):  # there is no step 0
        laptop, workspace = await _target(database, tmp_path)
        before = before or await laptop.contents()
        steps = Steps(step, lambda: tasks[-1].cancel())
        monkeypatch.setattr(restoring, "commit_surely", steps.around(commit))
        monkeypatch.setattr(RunningRestore, "kept", steps.around(kept))
        async with workspace.history() as history:
            restore = partial(restore_file, workspace, history, file, conflicts=Conflicts.BUNDLE, trust_source=True)
            tasks.append(asyncio.create_task(restore(progress=steps.step)))
            with suppress(asyncio.CancelledError):
                await tasks[-1]
        after = after or await laptop.contents()
        outcomes.append(await _check(laptop, workspace, before, after))
        if step > steps.count:
            break
    assert outcomes[0] is True
    assert outcomes[1:] == sorted(outcomes[1:])
    assert outcomes[1] is False
    assert len(outcomes) > 12


@pytest.mark.one_server
@pytest.mark.timeout(600)
async def test_killed_while_rows_go_straight_into_empty_tables(database: MakeDatabase, tmp_path: Path) -> None:
    """Keys and indexes that were taken down are there again, whenever it dies."""
    empty = SHOP.partition("INSERT")[0]
    file = await _backup(database, tmp_path)
    laptop, workspace = await _target(database, tmp_path, empty)
    before, declared = await laptop.contents(), await shape(laptop)
    code, said = await _run(workspace.home.path, file, load=True)
    assert code == 0, said
    after = await laptop.contents()
    steps = int(said)
    assert await _check(laptop, workspace, before, after)
    outcomes = []
    for step in [*range(1, steps - 9, 4), *range(steps - 9, steps + 1)]:
        laptop, workspace = await _target(database, tmp_path, empty)
        code, said = await _run(workspace.home.path, file, step, load=True)
        assert code == -9, said
        outcomes.append(await _check(laptop, workspace, before, after))
        assert await shape(laptop) == declared
    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False
    assert outcomes[-1] is True
