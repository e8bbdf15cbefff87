"""The schedule at work inside the agent: looks what is due, does it, and raises the alarm where one is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.records import FAILED
from agent.beat import beat
from agent.config import Config, ConfigError
from agent.config_care import ScheduleEntry
from agent.home import HomeBusyError
from agent.log import get_logger
from agent.operations.alerts import Alert, Alerts
from agent.operations.devices import devices
from agent.operations.workspace import Workspace, utc_now
from agent.schedule.alarms import Alarms
from agent.schedule.due import due, latest_slot, missing
from agent.schedule.tasks import entry_of, pasts, run_entry
from agent.zone import LOCAL
from certs.errors import TrustError

log = get_logger(__name__)

TICK_SECONDS = 20.0
SLEPT = timedelta(minutes=5)
LOOK_FOR_DEVICES = timedelta(minutes=2)


class Runner:
    """Keeps at the schedule of one data folder, by its present settings. ``zone`` decides what "21:00" means."""

    def __init__(self, workspace: Workspace, *, zone: tzinfo = LOCAL, alerts: Alerts | None = None) -> None:
        self._workspace = workspace
        self._zone = zone
        self._alarms = Alarms(alerts or Alerts(workspace))
        self._config: Config | None = None  # the last good settings
        self._online: dict[str, datetime] = {}
        self._looked: datetime | None = None
        self._awake_since = utc_now()
        self._last = self._awake_since

    async def run(self) -> None:
        """Until cancelled. What goes wrong in one round is logged, and the next round tries again.

        Where it goes on like that for long, that is an alarm of its own: none other may be possible.
        """
        while True:
            try:
                await self.round()
            except (ArchiveError, ConfigError) as error:
                log.warning("the schedule waits", reason=str(error))
                await self._failed(error)
            except Exception as error:
                log.exception("a round of the schedule failed")
                await self._failed(error)
            await beat(TICK_SECONDS)

    async def _failed(self, error: Exception) -> None:
        try:
            await self._alarms.failed(self._config, error)
        except Exception:
            log.exception("that the schedule waits could not be told")
        # It was awake: what is missing is an alarm as soon as it can be seen.
        self._last = utc_now()

    async def round(self) -> None:
        """Do what is due now, one after another, and hold the alarms against what is missing."""
        now = utc_now()
        if not timedelta(0) <= now - self._last <= SLEPT:
            log.info("awake again", slept=str(now - self._last))
            self._awake_since = now
            self._online.clear()
            self._looked = None
            self._alarms.awake()
        config = await self._renewed()
        async with self._workspace.history() as history:
            await self._look_for_devices(_switched_on(config), now)
            while found := due(
                [entry_of(each) for each in _switched_on(config).values()],
                await pasts(history, now),
                now=now,
                zone=self._zone,
                online=self._online,
                seed=config.name or "",
            ):
                entry = _switched_on(config)[found[0].entry.name]
                if not await self._run(history, entry, found[0].slot, found[0].why):
                    break
                now = utc_now()
                config = await self._renewed()  # it may have taken hours
            await self._raise_alarms(history, config, now)
        await self._alarms.went_well(config)
        self._last = utc_now()

    async def _renewed(self) -> Config:
        """The present settings, or the last good ones; the workspace is opened afresh with them."""
        self._workspace = await asyncio.to_thread(self._workspace.anew)
        self._config = self._workspace.config
        return self._config

    async def _run(self, history: History, entry: ScheduleEntry, slot: datetime | None, why: str) -> bool:
        try:
            log.info("begun", entry=entry.name, task=entry.task, why=why)
            record = await run_entry(self._workspace, history, entry, slot)
        except HomeBusyError as error:
            log.info("the schedule waits", reason=str(error))
            return False
        if record.state == FAILED:
            log.error("failed", entry=entry.name, task=entry.task, reason=record.error, problem=record.error_code)
        else:
            log.info("done", entry=entry.name, task=entry.task, detail=record.detail)
        return True

    async def _raise_alarms(self, history: History, config: Config, now: datetime) -> None:
        known = await pasts(history, now)
        alerts: dict[str, Alert] = {}
        entries = [entry_of(each) for each in _switched_on(config).values()]
        for entry in entries:
            runs = await history.runs(entry=entry.name, limit=1)
            slot = latest_slot(entry, now, self._zone)
            if runs and runs[0].state == FAILED and (slot is None or runs[0].started_at >= slot):
                alerts[entry.name] = Alert(
                    f"schedule/{entry.name}", f"{entry.task}-failed", f"{entry.name} failed: {runs[0].error}"
                )
        for each in missing(entries, known, now=now, zone=self._zone, awake_since=self._awake_since):
            last = (
                f"the last one is of {each.succeeded:%Y-%m-%d %H:%M} UTC" if each.succeeded else "there never was one"
            )
            alerts.setdefault(
                each.entry.name,
                Alert(
                    f"schedule/{each.entry.name}",
                    f"{each.entry.task}-missing",
                    f"{each.entry.name} is missing since {each.slot:%Y-%m-%d %H:%M} UTC: {last}.",
                    "`backroom schedule list` shows why.",
                ),
            )
        await self._alarms.hold(config, "schedule/", tuple(alerts.values()))

    async def _look_for_devices(self, settings: Mapping[str, ScheduleEntry], now: datetime) -> None:
        """Note which devices of standing pushes are there, and since when. A clock that jumped asks again."""
        wanted = {each.device for each in settings.values() if each.task == "push" and each.device}
        if not wanted or (self._looked is not None and timedelta(0) <= now - self._looked < LOOK_FOR_DEVICES):
            return
        try:
            found = [each for each in await devices(self._workspace) if each.online and not each.this]
        except (TrustError, OSError) as error:
            log.debug("no devices", reason=str(error))
            found = []
        names = {word for each in found for word in (each.member.name, each.member.node_id, each.member.short_id)}
        self._online = {word: self._online.get(word, now) for word in wanted & names}
        self._looked = now


def _switched_on(config: Config) -> dict[str, ScheduleEntry]:
    """The entries that are to be run, by name."""
    return {each.name: each for each in config.schedule if not each.off}
