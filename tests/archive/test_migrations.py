"""Migrations: from an empty file up, to exactly the tables that the code knows; cheap when nothing is to be done."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from agent.archive import schema
from agent.archive.errors import HistoryTooNewError
from agent.archive.history import History
from agent.archive.records import BackupRecord, DrillRecord, RestoreRecord, RunRecord, TransferRecord
from agent.home import Home


async def test_an_empty_database_gets_the_tables_that_the_code_knows(home: Home) -> None:
    async with History.open(home):
        pass
    engine = create_engine(f"sqlite:///{home.history}")
    with engine.connect() as connection:
        options = {"version_table": "backroom_history_version"}
        context = MigrationContext.configure(connection, opts=options)
        assert context.get_current_revision() == schema.HEAD
        assert compare_metadata(context, schema.METADATA) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    script = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert script.get_current_head() == schema.HEAD


@pytest.mark.parametrize(
    ("record", "table"),
    [
        (BackupRecord, schema.backups),
        (TransferRecord, schema.transfers),
        (RestoreRecord, schema.restores),
        (DrillRecord, schema.drills),
        (RunRecord, schema.runs),
    ],
)
def test_records_and_tables_have_the_same_fields(record: type, table: object) -> None:
    assert {field.name for field in dataclasses.fields(record)} == {column.name for column in table.columns}  # type: ignore[attr-defined]


async def test_a_newer_history_is_refused_and_left_alone(home: Home) -> None:
    async with History.open(home):
        pass
    with contextlib.closing(sqlite3.connect(home.history)) as connection, connection:
        connection.execute("UPDATE backroom_history_version SET version_num = '9999'")
    with pytest.raises(HistoryTooNewError, match="9999"):
        async with History.open(home):
            pass


async def test_a_migration_that_dies_leaves_an_empty_database(home: Home, child: object) -> None:
    code = """
        import os, sqlalchemy
        from agent.archive import storage
        from agent.archive.history import History
        before = storage._run_alembic
        def dies(connection):
            before(connection)
            os.kill(os.getpid(), 9)
        storage._run_alembic = dies
        async def main():
            async with History.open(home): pass
        asyncio.run(main())
    """
    process = child(code)  # type: ignore[operator]
    process.wait()
    with contextlib.closing(sqlite3.connect(home.history)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    async with History.open(home) as history:
        assert await history.backups() == ()


async def test_opening_at_the_newest_version_is_fast_and_needs_no_alembic(home: Home) -> None:
    async with History.open(home):
        pass
    code = """
import asyncio, sys
from agent.home import Home
from agent.archive.history import History
async def main():
    async with History.open(Home(sys.argv[1])) as history:
        await history.backups()
asyncio.run(main())
assert not [name for name in sys.modules if name.startswith("alembic")], "alembic was imported"
"""
    root = str(Path(__file__).parent.parent.parent)
    result = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, str(home.path)], cwd=root, capture_output=True, text=True
    )
    assert result.stderr == ""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        async with History.open(home):
            best = min(best, time.perf_counter() - began)
    assert best < 0.25


def test_the_folder_and_the_spool_need_no_sqlalchemy() -> None:
    code = "import sys, agent.archive.folder, agent.archive.spool; assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent, check=True)


def test_migrations_are_in_the_package() -> None:
    folder = Path(schema.__file__).parent / "migrations"
    assert (folder / "env.py").is_file()
    assert (folder / "script.py.mako").is_file()
