"""The schedule goes by the present settings, goes on with broken ones, and says when it cannot go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.archive.errors import HistoryError
from agent.archive.records import DONE, FAILED
from agent.config import change
from agent.operations.alerts import Alert, Alerts
from agent.operations.workspace import Workspace, utc_now
from agent.schedule import alarms, runner
from agent.schedule.runner import Runner
from agent.sealing.age import is_sealed
from tests.support.archives import keep, workspace_at
from tests.support.databases import Database

pytestmark = pytest.mark.one_server
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NO_HISTORY = "postgresql://nobody@127.0.0.1:9/none"
BROKEN = "\n[[[nonsense"


def entry(name: str, task: str, **more: object) -> dict[str, object]:
    at = (utc_now() - timedelta(hours=14)).strftime("%H:%M")
    return {"name": name, "task": task, "at": (at,), "added": LONG_AGO, **more}


@pytest.fixture
async def told() -> AsyncIterator[list[tuple[str, str]]]:
    """What a webhook was told: state and code."""
    found: list[tuple[str, str]] = []

    async def take(request: web.Request) -> web.Response:
        said = await request.json()
        found.append((said["state"], said["code"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", take)
    async with TestServer(app) as server:
        found.append(("url", str(server.make_url("/hook"))))
        yield found


@pytest.fixture
def workspace(tmp_path: Path, told: list[tuple[str, str]]) -> Workspace:
    """A laptop that knows the webhook, and read its settings when it was started."""
    made = workspace_at(tmp_path / "home")
    change(made.home, alerts={"desktop": False, "webhook": told.pop()[1]})
    found = Workspace(made.home)
    assert found.config.schedule == ()
    return found


class Stopped(BaseException):
    pass


class Clock:
    """Time that passes with each beat alone; the schedule is stopped after some."""

    def __init__(self) -> None:
        self.now = utc_now()
        self.beats = 0

    async def beat(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.beats -= 1
        if self.beats <= 0:
            raise Stopped

    async def live(self, found: Runner, time: timedelta) -> None:
        self.beats = int(time.total_seconds() / runner.TICK_SECONDS)
        with pytest.raises(Stopped):
            await found.run()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(runner, "beat", found.beat)
    monkeypatch.setattr(runner, "TICK_SECONDS", 60.0)
    for module in (runner, alarms):
        monkeypatch.setattr(module, "utc_now", lambda: found.now)
    return found


async def test_a_backup_goes_by_the_settings_that_hold_when_it_is_made(
    workspace: Workspace, filled_database: Database
) -> None:
    found = Runner(workspace, zone=UTC)
    await found.round()
    schedule = (entry("nightly", "backup", kind="full"),)
    change(workspace.home, database_url=filled_database.dsn, encrypt_archive=True, schedule=schedule)
    await found.round()
    async with workspace.history() as history:
        (run,) = await history.runs()
        assert run.state == DONE, "of the database that is set now"
        (made,) = await history.backups()
    assert is_sealed(workspace.archive.locate(made.path))
    change(
        workspace.home,
        database_url="postgresql://nobody@127.0.0.1:9/none",
        schedule=(entry("again", "backup", kind="full"),),
    )
    await found.round()
    async with workspace.history() as history:
        assert [each.state for each in await history.runs(entry="again")] == [FAILED]


async def test_retention_that_was_widened_holds_tonight_even_while_the_round_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def run(at: Workspace, *more: object) -> object:
        seen.append(at.config.retention.trash_days)
        change(at.home, retention={"trash_days": 77})
        return await real(at, *more)  # type: ignore[arg-type]

    real = runner.run_entry
    monkeypatch.setattr(runner, "run_entry", run)
    change(workspace.home, retention={"trash_days": 7}, schedule=(entry("check", "verify"), entry("prune", "prune")))
    await Runner(workspace, zone=UTC).round()
    assert seen == [7, 77]


async def test_broken_settings_stop_neither_what_runs_nor_who_is_told(
    workspace: Workspace, told: list[tuple[str, str]], clock: Clock
) -> None:
    found = Runner(workspace, zone=UTC)
    schedule = (entry("check", "verify"), entry("evening", "push", business="x", device="laptop-nowhere"))
    change(workspace.home, schedule=(entry("other", "prune"), schedule[1]))
    await found.round()
    change(workspace.home, schedule=schedule)
    await found.round()
    good = workspace.home.config.read_text()
    workspace.home.config.write_text(good + BROKEN)
    async with workspace.history() as history:
        await keep(workspace, history, LONG_AGO)
    await clock.live(found, timedelta(hours=2))
    assert told == [("open", "push-missing")], "told once, by the settings that were good"
    workspace.home.config.write_text(good.replace("laptop-nowhere", "laptop-elsewhere").replace("evening", "later"))
    await found.round()
    assert told[1:] == [("open", "push-missing"), ("over", "over")]
    async with workspace.history() as history:
        assert {each.entry: each.state for each in await history.runs()} == {"other": DONE, "check": DONE}


async def test_a_history_that_cannot_be_used_is_an_alarm_of_its_own(
    workspace: Workspace, told: list[tuple[str, str]], clock: Clock
) -> None:
    found = Runner(workspace, zone=UTC)
    missing = entry("evening", "push", business="x", device="laptop-nowhere")
    change(workspace.home, history_url=NO_HISTORY, schedule=(missing,))
    await clock.live(found, timedelta(minutes=29))
    assert told == []
    await clock.live(found, timedelta(minutes=40))
    assert told == [("open", "schedule-waits")], "once, though it goes on"
    assert list(Alerts(workspace).open) == ["schedule-waits"]
    change(workspace.home, history_url=None)
    await clock.live(found, timedelta(minutes=1))
    assert sorted(told[1:]) == [("open", "push-missing"), ("over", "over")], "it was awake all the time"
    assert list(Alerts(workspace).open) == ["schedule/evening"]


async def test_a_lock_that_cannot_be_used_with_broken_settings_is_told_by_the_last_good_ones(
    workspace: Workspace, told: list[tuple[str, str]], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(workspace.home, schedule=(entry("check", "verify"),))
    found = Runner(workspace, zone=UTC)
    good = workspace.home.config.read_text()

    async def refuse(*_: object) -> None:
        raise PermissionError("the lock cannot be made")

    with monkeypatch.context() as patched:
        patched.setattr(runner, "run_entry", refuse)
        await clock.live(found, timedelta(minutes=5))
        workspace.home.config.write_text(good + BROKEN)
        await clock.live(found, timedelta(minutes=60))
        assert told == [("open", "schedule-waits")]
    await clock.live(found, timedelta(minutes=1))
    assert told == [("open", "schedule-waits"), ("over", "over")]


async def test_settings_that_are_gone_stop_nothing_and_without_any_nobody_can_be_told(
    workspace: Workspace, told: list[tuple[str, str]], clock: Clock
) -> None:
    found = Runner(workspace, zone=UTC)
    change(workspace.home, schedule=(entry("check", "verify"),))
    await found._renewed()
    workspace.home.config.unlink()
    await found.round()
    async with workspace.history() as history:
        assert [each.state for each in await history.runs()] == [DONE]
    await clock.live(Runner(Workspace(workspace.home), zone=UTC), timedelta(minutes=60))
    assert told == []


async def test_sleep_is_no_time_in_which_the_schedule_waited(
    workspace: Workspace, told: list[tuple[str, str]], clock: Clock
) -> None:
    found = Runner(workspace, zone=UTC)
    change(workspace.home, history_url=NO_HISTORY)
    await clock.live(found, timedelta(minutes=20))
    clock.now += timedelta(hours=9)
    await clock.live(found, timedelta(minutes=20))
    assert told == []


async def test_an_alarm_that_cannot_be_told_stops_nothing(
    workspace: Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(Alerts):
        async def hold(self, prefix: str, alerts: tuple[Alert, ...]) -> None:
            raise HistoryError("no")

    change(workspace.home, history_url=NO_HISTORY)
    await clock.live(Runner(workspace, zone=UTC, alerts=Deaf(workspace)), timedelta(minutes=40))
