"""The schedule's alarms: who is to be told is told though the settings are broken, and that the schedule cannot go on
is told without the history.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.config import Config, ConfigError, mask
from agent.operations.alerts import Alert, Alerts, senders_of, tell
from agent.operations.workspace import utc_now

WAITS = "schedule-waits"
PATIENCE = timedelta(minutes=30)


class Alarms:
    """What is held over ``alerts``. Where the present settings cannot be used, those that are handed in tell whom."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._told: dict[str, datetime] = {}
        self._failing_since: datetime | None = None

    async def hold(self, config: Config, prefix: str, alerts: tuple[Alert, ...]) -> None:
        """As :meth:`Alerts.hold`."""
        kept = set(self._alerts.open)
        try:
            await self._alerts.hold(prefix, alerts)
        except ConfigError:
            await self._hold_by(config, prefix, alerts)
            return
        current = {alert.key for alert in alerts}
        for key in [key for key in self._told if key.startswith(prefix)]:
            del self._told[key]
            if key not in current | kept:
                await tell(senders_of(config), Alert(key, "over", f"Over: {key}"), over=True)

    def awake(self) -> None:
        """The laptop slept, or its clock jumped: how long rounds fail is counted anew."""
        self._failing_since = None

    async def failed(self, config: Config | None, error: Exception) -> None:
        """A round failed: once they do for half an hour, that is an alarm, for nothing is backed up."""
        now = utc_now()
        self._failing_since = self._failing_since or now
        if now - self._failing_since < PATIENCE or config is None:
            return
        reason = mask(str(error) or type(error).__name__)
        alert = Alert(
            WAITS,
            WAITS,
            f"The schedule cannot go on since {self._failing_since:%Y-%m-%d %H:%M} UTC: {reason}",
            str(getattr(error, "hint", "")),
        )
        await self.hold(config, WAITS, (alert,))

    async def went_well(self, config: Config) -> None:
        """A round ended as it should."""
        self._failing_since = None
        if WAITS in self._alerts.open or WAITS in self._told:
            await self.hold(config, WAITS, ())

    async def _hold_by(self, config: Config, prefix: str, alerts: tuple[Alert, ...]) -> None:
        """Kept in memory alone: what was told before the settings broke is told once more."""
        now, current, senders = utc_now(), {alert.key for alert in alerts}, senders_of(config)
        again = timedelta(hours=config.alerts.repeat_hours)
        for key in [key for key in self._told if key.startswith(prefix) and key not in current]:
            del self._told[key]
            await tell(senders, Alert(key, "over", f"Over: {key}"), over=True)
        for alert in alerts:
            told = self._told.get(alert.key)
            if (told is None or not timedelta(0) <= now - told < again) and await tell(
                senders_of(config), alert, over=False
            ):
                self._told[alert.key] = now
