"""A backup that does not end well once its file is finished: there is neither the file nor a record, or both."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from agent.archive.errors import HistoryError
from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.database.errors import ConnectionLost
from agent.engine.backup import BackupRequest
from agent.engine.reading import Reading
from agent.operations.backups import make_backup
from agent.operations.workspace import Workspace
from protocol.manifest import Kind
from tests.support.archives import workspace_at
from tests.support.databases import Database

FULL = BackupRequest(Kind.FULL)


@pytest.fixture
async def laptop(tmp_path: Path, filled_database: Database) -> Workspace:
    (tmp_path / "outside").mkdir()
    return workspace_at(tmp_path / "home", filled_database.dsn)


@pytest.fixture
async def history(laptop: Workspace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[History]:
    monkeypatch.setattr("agent.archive.storage.BUSY_SECONDS", 1.0)
    async with laptop.history() as found:
        yield found


def files(laptop: Workspace) -> list[Path]:
    """All files of the archive but the history, and of the folder outside it."""
    folders = (laptop.home.archive, laptop.home.path.parent / "outside")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and "history" not in path.name]


@contextmanager
def by_hand(laptop: Workspace) -> Iterator[sqlite3.Connection]:
    """The history's file, as another process has it."""
    connection = sqlite3.connect(laptop.home.history, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def locked(laptop: Workspace) -> Iterator[Callable[[], object]]:
    """Another process writes to the history as long as the block lasts, or until it is told to end."""
    with by_hand(laptop) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield lambda: connection.execute("ROLLBACK")


def forbid(laptop: Workspace, what: str) -> None:
    """Have the history refuse to take in (INSERT) or give away (DELETE) backups."""
    with by_hand(laptop) as connection:
        connection.execute(f"CREATE TRIGGER no BEFORE {what} ON backups BEGIN SELECT RAISE(ABORT, 'no'); END")


@asynccontextmanager
async def noting(
    laptop: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Task[object]]:
    """A backup whose file is there and whose record is just being written."""
    begun, add = asyncio.Event(), History.add_backup

    async def added(self: History, record: BackupRecord) -> BackupRecord:
        begun.set()
        return await add(self, record)

    monkeypatch.setattr(History, "add_backup", added)
    making = asyncio.create_task(make_backup(laptop, history, FULL))
    await begun.wait()
    await asyncio.sleep(0.1)
    assert len(files(laptop)) == 1
    yield making
    with pytest.raises(asyncio.CancelledError):
        await making


@pytest.mark.parametrize("where", ["archive", "outside"])
async def test_the_database_goes_once_the_file_is_finished(
    laptop: Workspace, history: History, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    seen = []

    async def ended(_: Reading) -> None:
        seen.extend(files(laptop))
        raise ConnectionLost("The backup stopped: the database is gone.")

    monkeypatch.setattr(Reading, "ended", ended)
    output = laptop.home.path.parent / "outside" if where == "outside" else None
    with pytest.raises(ConnectionLost):
        await make_backup(laptop, history, FULL, output=output)
    assert len(seen) == 1
    assert files(laptop) == []
    assert await history.backups() == ()


async def test_it_is_stopped_once_the_file_is_finished(
    laptop: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = asyncio.Event()

    async def ended(_: Reading) -> None:
        finished.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Reading, "ended", ended)
    making = asyncio.create_task(make_backup(laptop, history, FULL))
    await finished.wait()
    assert len(files(laptop)) == 1
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert files(laptop) == []
    assert await history.backups() == ()


async def test_the_history_does_not_take_it(laptop: Workspace, history: History) -> None:
    forbid(laptop, "INSERT")
    with pytest.raises(HistoryError, match="no"):
        await make_backup(laptop, history, FULL)
    assert files(laptop) == []


async def test_the_history_cannot_be_written_at_all(laptop: Workspace, history: History) -> None:
    with locked(laptop), pytest.raises(HistoryError, match="locked"):
        await make_backup(laptop, history, FULL)
    assert files(laptop) == []
    assert await history.backups() == ()


@pytest.mark.parametrize("times", [1, 2])
async def test_it_is_stopped_while_its_record_is_written(
    laptop: Workspace, history: History, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    with locked(laptop) as unlock:
        async with noting(laptop, history, monkeypatch) as making:
            for _ in range(times):
                making.cancel()
                await asyncio.sleep(0.05)
            unlock()
    assert files(laptop) == []
    assert await history.backups() == ()


async def test_all_is_stopped_while_its_record_is_written(
    laptop: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a second Ctrl+C, which ends every task: the thread that writes the record goes on."""
    with locked(laptop) as unlock:
        before = asyncio.all_tasks()
        async with noting(laptop, history, monkeypatch) as making:
            for task in asyncio.all_tasks() - before:
                task.cancel()
            await asyncio.sleep(0.05)
            assert not making.done()
            unlock()
    assert files(laptop) == []
    assert await history.backups() == ()


async def test_a_record_that_cannot_be_taken_back_keeps_its_file(
    laptop: Workspace, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(laptop, "DELETE")
    with locked(laptop) as unlock:
        async with noting(laptop, history, monkeypatch) as making:
            making.cancel()
            unlock()
    (record,) = await history.backups()
    assert files(laptop) == [laptop.archive.locate(record.path)]
