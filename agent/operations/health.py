"""How the agent is, for programs: a verdict for ``/healthz``, numbers for Prometheus. No names of people in either."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.records import PASSED, BackupRecord, DrillRecord
from agent.operations.alerts import Alerts
from agent.operations.workspace import Workspace, utc_now

_R = TypeVar("_R", BackupRecord, DrillRecord)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Health:
    """``ok``: nothing needs attention. ``problems`` are short words, one for each thing that does."""

    ok: bool
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {"status": "ok" if self.ok else "attention", "problems": list(self.problems)}


@dataclass(frozen=True, slots=True)
class _Facts:
    now: datetime
    backups: tuple[BackupRecord, ...]
    drills: tuple[DrillRecord, ...]
    failures: dict[str, int]
    pushed: int
    received: int
    alerts: int
    online: int | None


async def health(workspace: Workspace) -> Health:
    """Whether history and archive can be read and no alert is open. Asks no database and no network."""
    problems = []
    try:
        async with workspace.history() as history:
            await history.backups(limit=1)
    except ArchiveError as error:
        problems.append(error.code)
    problems += sorted(Alerts(workspace).open)
    return Health(not problems, tuple(problems))


async def metrics(workspace: Workspace, *, online: int | None = None) -> bytes:
    """The numbers as Prometheus reads them. ``online``: how many other devices answer, None where nobody has asked."""
    async with workspace.history() as history:
        facts = await _facts(workspace, history, online)
    registry = CollectorRegistry()
    registry.register(_Numbers(facts))
    return await asyncio.to_thread(generate_latest, registry)


async def _facts(workspace: Workspace, history: History, online: int | None) -> _Facts:
    transfers = await history.transfers(state="done")
    return _Facts(
        now=utc_now(),
        backups=await history.backups(),
        drills=await history.drills(),
        failures=dict(await history.failures()),
        pushed=sum(each.bytes_done for each in transfers if each.direction == "sent"),
        received=sum(each.bytes_done for each in transfers if each.direction == "received"),
        alerts=len(Alerts(workspace).open),
        online=online,
    )


class _Numbers(Collector):
    """One reading: groups are labelled by kind, business ID and node ID, which are no names."""

    def __init__(self, facts: _Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        facts = self._facts
        labels = ("kind", "business", "node")
        age = GaugeMetricFamily("backroom_backup_age_seconds", "Age of the newest backup of each group", labels=labels)
        checked = GaugeMetricFamily(
            "backroom_backup_verified_age_seconds", "Since the newest verified backup was verified", labels=labels
        )
        for group, members in _groups(facts.backups).items():
            age.add_metric(group, (facts.now - max(each.created_at for each in members)).total_seconds())
            if verified := [each.verified_at for each in members if each.verified_at]:
                checked.add_metric(group, (facts.now - max(verified)).total_seconds())
        yield age
        yield checked
        passed = GaugeMetricFamily("backroom_drill_passed", "Whether the newest drill of a group passed", labels=labels)
        drilled = GaugeMetricFamily("backroom_drill_age_seconds", "Since the newest drill of a group", labels=labels)
        for group, tried in _groups([each for each in facts.drills if each.ended_at]).items():
            newest = max(tried, key=lambda each: each.started_at)
            passed.add_metric(group, newest.state == PASSED)
            drilled.add_metric(group, (facts.now - newest.started_at).total_seconds())
        yield passed
        yield drilled
        yield GaugeMetricFamily("backroom_backups", "Backups in the archive", value=len(facts.backups))
        yield GaugeMetricFamily(
            "backroom_archive_bytes",
            "Bytes of the backups in the archive",
            value=sum(each.size for each in facts.backups),
        )
        damaged = sum(each.damaged_at is not None for each in facts.backups)
        yield GaugeMetricFamily("backroom_backups_damaged", "Backups that did not hold when verified", value=damaged)
        yield GaugeMetricFamily("backroom_alerts_open", "Things that need attention", value=facts.alerts)
        if facts.online is not None:
            yield GaugeMetricFamily("backroom_peers_online", "Other devices that answer", value=facts.online)
        moved = CounterMetricFamily("backroom_transfer_bytes", "Bytes of finished transfers", labels=("direction",))
        moved.add_metric(("sent",), facts.pushed)
        moved.add_metric(("received",), facts.received)
        yield moved
        failed = CounterMetricFamily("backroom_run_failures", "Runs of the schedule that failed", labels=("task",))
        for task in ("backup", "push", "verify", "drill", "prune"):
            failed.add_metric((task,), facts.failures.get(task, 0))
        yield failed


def _groups(records: Iterable[_R]) -> dict[tuple[str, str, str], list[_R]]:
    found: dict[tuple[str, str, str], list[_R]] = {}
    for each in records:
        found.setdefault((each.kind, each.business_id or "", each.source_node or ""), []).append(each)
    return found
