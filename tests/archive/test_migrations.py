"""Migrations: from an empty file up, to exactly the tables that the code knows; cheap when nothing is to be done."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from agent.archive import migrating, storage
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


@pytest.fixture
def old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history as the version before left it, with one row."""
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", partial(upgrade_to, "0002"))
        migrating.migrate(home, None)
    with contextlib.closing(sqlite3.connect(home.history)) as connection, connection:
        connection.execute(
            "INSERT INTO runs (id, entry, task, state, started_at) VALUES ('r1', 'e', 'prune', 'done', '2026-01-01')"
        )


def upgrade_to(version: str, config: Config, _head: str, upgrade: Callable[..., None] = command.upgrade) -> None:
    upgrade(config, version)


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


def columns(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """What the tables of a file hold, and its indexes; the order of columns aside."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        listed = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql <> ''").fetchall()
        found = {name: set(connection.execute(f"PRAGMA table_info({name})")) for kind, name, _ in listed}
        tables = {name: {row[1:] for row in rows} for name, rows in found.items()}
        return tables | {name: {(sql,)} for kind, name, sql in listed if kind == "index"}


async def test_a_new_file_is_as_the_migrations_make_one(home: Home, tmp_path: Path) -> None:
    async with History.open(home):
        pass
    migrated = tmp_path / "migrated.sqlite"
    await asyncio.to_thread(migrating.migrate, home, f"sqlite:///{migrated}")
    assert columns(migrated) == columns(home.history)
    assert len(columns(migrated)) > 15


async def test_an_old_history_is_upgraded_and_keeps_what_it_has(home: Home, old: None) -> None:
    async with History.open(home) as history:
        (found,) = await history.runs()
        assert (found.id, found.owner) == ("r1", None)
        assert await history.backups() == ()


async def test_a_migration_that_dies_leaves_the_old_history(home: Home, child: object, old: None) -> None:
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
        assert connection.execute(f"SELECT version_num FROM {storage.VERSIONS}").fetchall() == [("0002",)]
    async with History.open(home) as history:
        assert [run.id for run in await history.runs()] == ["r1"]


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
