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
from alembic.script import ScriptDirectory

from agent.archive import storage
from agent.archive.errors import HistoryTooNewError
from agent.archive.history import History
from agent.archive.sql import Table, backups, drills, restores, runs, transfers
from agent.home import Home

# The kinds of a record's fields, and the types that the migrations give their columns.
TYPES = {
    "str": ("TEXT", "VARCHAR"),
    "int": ("BIGINT", "INTEGER"),
    "bool": ("BOOLEAN",),
    "datetime": ("DATETIME",),
    "bytes": ("BLOB",),
    "Mapping": ("JSON",),
}
INDEXES = {
    "backups": {"backups_by_time", "backups_by_kind"},
    "transfers": {"transfers_by_time", "transfers_by_state", "transfers_by_bundle"},
    "restores": {"restores_by_time", "restores_by_state", "restores_by_bundle"},
    "drills": {"drills_by_time", "drills_by_bundle"},
    "runs": {"runs_by_entry", "runs_by_state"},
}


async def test_an_empty_database_gets_the_version_that_the_code_reads(home: Home) -> None:
    async with History.open(home):
        pass
    with contextlib.closing(sqlite3.connect(home.history)) as connection:
        (version,) = connection.execute(f"SELECT version_num FROM {storage.VERSIONS}").fetchall()
        assert version == (storage.HEAD,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        indexed = connection.execute("SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql <> ''")
        assert set(indexed) == {(table, name) for table, names in INDEXES.items() for name in names}


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    script = ScriptDirectory(str(Path(storage.__file__).parent / "migrations"))
    assert script.get_current_head() == storage.HEAD


async def test_records_and_tables_have_the_same_fields(home: Home) -> None:
    async with History.open(home):
        pass
    tables: list[Table] = [backups, transfers, restores, drills, runs]  # type: ignore[type-arg]
    with contextlib.closing(sqlite3.connect(home.history)) as connection:
        listed = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {name for (name,) in listed} == {table.name for table in tables} | {storage.VERSIONS}
        for table in tables:
            columns = {row[1]: row for row in connection.execute(f"PRAGMA table_info({table.name})")}
            assert columns.keys() == {field.name for field in dataclasses.fields(table.of)}
            assert [name for name, row in columns.items() if row[5]] == ["id"]
            for field in dataclasses.fields(table.of):
                kind, _, none = str(field.type).partition(" | ")
                _, _, made, needed, *_ = columns[field.name]
                assert made.partition("(")[0] in TYPES[kind.partition("[")[0]], field.name
                # When something was recorded is set while it is.
                assert bool(needed) == (not none or field.name == "recorded_at"), field.name


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
        import os
        from agent.archive import migrating
        from agent.archive.history import History
        before = migrating._run_alembic
        def dies(connection):
            before(connection)
            os.kill(os.getpid(), 9)
        migrating._run_alembic = dies
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


async def test_opening_at_the_newest_version_is_fast_and_needs_no_sqlalchemy(home: Home) -> None:
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
assert not {"alembic", "sqlalchemy"} & set(sys.modules)
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


def test_migrations_are_in_the_package() -> None:
    folder = Path(storage.__file__).parent / "migrations"
    assert (folder / "env.py").is_file()
    assert (folder / "script.py.mako").is_file()
