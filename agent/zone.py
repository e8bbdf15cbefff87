"""This computer's time zone as a ``tzinfo``, with its past and future changes, on every system."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


class SystemZone(tzinfo):
    """What the system says about each moment: no database of zones and no name of the zone is needed."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        """The offset at the local time ``when`` (its ``fold`` chooses where clocks went back)."""
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, when: datetime | None) -> timedelta | None:
        """Not known apart from the offset."""
        return None

    def tzname(self, when: datetime | None) -> str | None:
        """The system's short name at that time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, when: datetime) -> datetime:
        """The local time of the UTC time ``when``."""
        local = when.replace(tzinfo=UTC).astimezone()
        found = local.replace(tzinfo=self, fold=0)
        return found if self.utcoffset(found) == local.utcoffset() else found.replace(fold=1)


LOCAL = SystemZone()
