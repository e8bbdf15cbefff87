"""The schedule at work on a real database: rounds, failures, alarms; and from the command line."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.archive.history import History, new_id
from agent.archive.records import DONE, FAILED, RUNNING, RunRecord
from agent.config import change, load
from agent.home import HomeBusyError
from agent.operations.alerts import Alert, AlertFailed, Alerts, webhook
from agent.operations.health import health, metrics
from agent.operations.workspace import Workspace, utc_now
from agent.schedule.runner import Runner
from agent.schedule.tasks import run_entry
from tests.support.agents import backroom
from tests.support.archives import workspace_at
from tests.support.databases import Database
from tests.support.places import make_certificate

pytestmark = pytest.mark.one_server
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NO_DATABASE = "postgresql://nobody@127.0.0.1:9/none"


def entry(name: str, task: str, **more: object) -> dict[str, object]:
    at = (utc_now() - timedelta(hours=14)).strftime("%H:%M")
    return {"name": name, "task": task, "at": (at,), "added": LONG_AGO, **more}


@pytest.fixture
async def laptop(tmp_path: Path, filled_database: Database) -> Workspace:
    return workspace_at(tmp_path / "home", filled_database.dsn)


@pytest.fixture
async def history(laptop: Workspace) -> AsyncIterator[History]:
    async with laptop.history() as found:
        yield found


class Hook:
    """A webhook: a real server that answers with the given statuses, the last one for ever."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.statuses = [200]

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    found = Hook()
    app = web.Application()
    app.router.add_post("/hook", found.take)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/hook"))  # type: ignore[attr-defined]
        yield found


async def test_a_round_does_what_is_due_once(laptop: Workspace, history: History) -> None:
    change(
        laptop.home,
        schedule=(
            entry("prune", "prune"),
            entry("check", "verify"),
            entry("nightly", "backup", kind="full"),
            entry("absent", "push", business="x", device="laptop-nowhere"),
        ),
    )
    runner = Runner(laptop, zone=UTC)
    await runner.round()
    runs = await history.runs()
    assert [(each.entry, each.state) for each in reversed(runs)] == [
        ("nightly", DONE),
        ("check", DONE),
        ("prune", DONE),
    ]
    (made,) = await history.backups()
    assert made.verified_at is not None
    await runner.round()
    assert len(await history.runs()) == 3


async def test_a_failure_is_told_and_so_is_its_end(
    laptop: Workspace, history: History, hook: Hook, filled_database: Database
) -> None:
    url = hook.url  # type: ignore[attr-defined]
    change(
        laptop.home,
        database_url=NO_DATABASE,
        alerts={"webhook": url, "desktop": False},
        schedule=(entry("nightly", "backup", kind="full"),),
    )
    broken = Workspace(laptop.home)
    await Runner(broken, zone=UTC).round()
    (run,) = await history.runs()
    assert (run.state, run.error_code) == (FAILED, "database-unreachable")
    assert [(each["state"], each["code"]) for each in hook.got] == [("open", "backup-failed")]
    assert hook.got[0]["device"] == "laptop-office-001"
    assert (await health(broken)).as_dict() == {"status": "attention", "problems": ["schedule/nightly"]}
    await Runner(broken, zone=UTC).round()
    assert len(hook.got) == 1, "told once, and after a restart not again"
    change(laptop.home, database_url=filled_database.dsn)
    mended = Workspace(laptop.home)
    settings = load(laptop.home).schedule[0]
    assert (await run_entry(mended, history, settings)).state == DONE
    await Runner(mended, zone=UTC).round()
    assert [each["state"] for each in hook.got] == ["open", "over"]
    assert (await health(mended)).ok


async def test_what_is_missing_is_told_though_nothing_failed(laptop: Workspace, history: History, hook: Hook) -> None:
    url = hook.url  # type: ignore[attr-defined]
    change(
        laptop.home,
        alerts={"webhook": url, "desktop": False},
        schedule=(entry("evening", "push", business="x", device="laptop-nowhere"),),
    )
    runner = Runner(Workspace(laptop.home), zone=UTC)
    await runner.round()
    assert hook.got == [], "the laptop was opened a moment ago"
    runner._awake_since -= timedelta(hours=2)
    await runner.round()
    assert [each["code"] for each in hook.got] == ["push-missing"]
    assert await history.runs() == ()


async def test_never_two_at_once(laptop: Workspace, history: History) -> None:
    change(laptop.home, schedule=(entry("nightly", "backup", kind="full"),))
    settings = load(laptop.home).schedule[0]
    with laptop.home.lock("schedule"):
        with pytest.raises(HomeBusyError):
            await run_entry(laptop, history, settings)
        await Runner(laptop, zone=UTC).round()
    assert await history.runs() == ()


async def test_a_stopped_run_is_interrupted_and_tried_again(laptop: Workspace, history: History) -> None:
    change(laptop.home, schedule=(entry("nightly", "backup", kind="full"),))
    settings = load(laptop.home).schedule[0]
    task = asyncio.create_task(run_entry(laptop, history, settings))
    while not await history.runs(state=RUNNING):
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (run,) = await history.runs()
    assert run.state == "interrupted"
    assert await history.backups() == ()


async def test_a_webhook_is_tried_again_where_that_may_help(hook: Hook) -> None:
    url = hook.url  # type: ignore[attr-defined]
    alert = Alert("k", "code", "message")
    hook.statuses = [503, 429, 204]
    await webhook(url, "d", alert, False, tries=(0, 0, 0))
    assert len(hook.got) == 3
    hook.statuses = [404]
    with pytest.raises(AlertFailed, match="404"):
        await webhook(url, "d", alert, False, tries=(0, 0, 0))
    assert len(hook.got) == 4
    with pytest.raises(AlertFailed):
        await webhook("http://127.0.0.1:9/", "d", alert, False, tries=(0, 0))


async def test_a_webhook_over_tls_goes_to_whom_this_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, app = Hook(), web.Application()
    app.router.add_post("/hook", found.take)
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = TestServer(app, scheme="https", host="localhost")
    await server.start_server(ssl=context)
    try:
        url, alert = str(server.make_url("/hook")), Alert("k", "code", "message")
        with pytest.raises(AlertFailed, match="Certificate"):
            await webhook(url, "d", alert, False, tries=(0,))
        assert not found.got
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await webhook(url, "d", alert, False, tries=(0,))
        assert len(found.got) == 1
    finally:
        await server.close()


async def test_an_alert_that_reached_nobody_is_tried_again_and_one_that_stays_is_repeated(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    told: list[tuple[str, bool]] = []
    deaf = True

    async def send(alert: Alert, over: bool) -> None:
        if deaf:
            raise AlertFailed("nobody there")
        told.append((alert.key, over))

    alert = Alert("schedule/x", "backup-missing", "x is missing")
    alerts = Alerts(workspace, {"test": send})
    await alerts.hold("schedule/", (alert,))
    deaf = False
    await alerts.hold("schedule/", (alert,))
    await alerts.hold("schedule/", (alert,))
    await alerts.hold("other/", ())
    assert told == [("schedule/x", False)]
    kept = json.loads((workspace.home.state / "alerts.json").read_text())
    kept["schedule/x"]["told"] = (utc_now() - timedelta(hours=25)).isoformat()
    (workspace.home.state / "alerts.json").write_text(json.dumps(kept))
    again = Alerts(workspace, {"test": send})
    await again.hold("schedule/", (alert,))
    await again.hold("schedule/", ())
    assert told == [("schedule/x", False), ("schedule/x", False), ("schedule/x", True)]
    (workspace.home.state / "alerts.json").write_text("{nonsense")
    assert Alerts(workspace).open == {}


async def test_numbers_for_prometheus(laptop: Workspace, history: History) -> None:
    change(laptop.home, schedule=(entry("nightly", "backup", kind="full"),))
    await Runner(laptop, zone=UTC).round()
    failed = await history.start_run(RunRecord(new_id(), "x", "push", RUNNING, utc_now()))
    await history.end_run(failed.id, FAILED, error="no")
    text = (await metrics(laptop, online=2)).decode()
    node = laptop.store.identity().node_id
    assert f'backroom_backup_age_seconds{{business="",kind="full",node="{node}"}}' in text
    assert "backroom_backups 1.0" in text
    assert "backroom_peers_online 2.0" in text
    assert 'backroom_run_failures_total{task="push"} 1.0' in text
    assert "laptop-office-001" not in text


async def test_from_the_command_line(laptop: Workspace, filled_database: Database) -> None:
    home = ("--home", str(laptop.home.path))
    say = await asyncio.to_thread(backroom, *home, "--json", "schedule", "add", "nightly", "backup", "--full")
    assert say.code == 0, say
    refused = await asyncio.to_thread(backroom, *home, "--json", "schedule", "add", "nightly", "drill")
    assert "two entries" in refused.error["message"]
    (listed,) = (await asyncio.to_thread(backroom, *home, "--json", "schedule", "list")).value
    assert (listed["name"], listed["missing"], listed["succeeded"]) == ("nightly", False, None)
    ran = await asyncio.to_thread(backroom, *home, "--json", "schedule", "run-now", "nightly")
    assert ran.value["state"] == "done", ran
    (listed,) = (await asyncio.to_thread(backroom, *home, "--json", "schedule", "list")).value
    assert listed["succeeded"]
    assert "backroom_backups 1.0" in (await asyncio.to_thread(backroom, *home, "metrics")).out
    plan = await asyncio.to_thread(backroom, *home, "--json", "prune", "--plan")
    assert plan.value["keep"] == 1
    assert (await asyncio.to_thread(backroom, *home, "--json", "schedule", "remove", "nightly")).code == 0
    gone = await asyncio.to_thread(backroom, *home, "--json", "schedule", "remove", "nightly")
    assert gone.error["code"] == "no-such-entry"
