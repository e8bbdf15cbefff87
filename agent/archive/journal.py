"""The part of the history that says how the archive was looked after: drills, and the schedule's runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from agent.archive import records
from agent.archive.records import DrillRecord, RunRecord
from agent.archive.sql import Sql, among, between, drills, equal, is_, moment, runs
from agent.archive.store import Store, ended, given


class Journal(Store):
    """Drills and runs; :class:`~agent.archive.history.History` has these methods too."""

    async def start_drill(self, record: DrillRecord) -> DrillRecord:
        """Record a drill that begins now, as this process's. ``state`` becomes ``running``."""
        return await self._insert(drills, replace(record, state=records.RUNNING, owner=self._home.process))

    async def end_drill(
        self,
        drill_id: str,
        state: str,
        *,
        rows: int | None = None,
        tables: int | None = None,
        error_code: str | None = None,
        error: str | None = None,
    ) -> DrillRecord:
        """Record how a drill ended: ``passed``, ``failed`` or ``interrupted``."""
        changes = {**given({"rows": rows, "tables": tables}), **ended(state, error_code, error)}
        return await self._changed(drills, drill_id, changes)

    async def drills(
        self,
        *,
        bundle_id: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[DrillRecord, ...]:
        """Drills, newest first."""
        query = drills.select(
            *equal("bundle_id", bundle_id),
            *equal("state", state),
            *between("started_at", since, None),
            newest="started_at",
            limit=limit,
        )
        return await self._select(drills, query)

    async def drilled(self, bundle_ids: Sequence[str]) -> Mapping[str, datetime]:
        """When each of these backups has last passed a drill; those that never did are left out."""
        these, passed = among("bundle_id", bundle_ids), is_("state", records.PASSED)
        text = f'SELECT "bundle_id", max("started_at") FROM "drills" WHERE {these.text} AND {passed.text}'
        rows = await self._rows(Sql(f'{text} GROUP BY "bundle_id"', these.values + passed.values))
        return {bundle_id: moment(at) for bundle_id, at in rows}

    async def start_run(self, record: RunRecord) -> RunRecord:
        """Record a run of the schedule that begins now, as this process's. ``state`` becomes ``running``."""
        return await self._insert(runs, replace(record, state=records.RUNNING, owner=self._home.process))

    async def end_run(
        self,
        run_id: str,
        state: str,
        *,
        detail: str | None = None,
        error_code: str | None = None,
        error: str | None = None,
    ) -> RunRecord:
        """Record how a run ended: ``done``, ``failed`` or ``interrupted``."""
        return await self._changed(runs, run_id, {**given({"detail": detail}), **ended(state, error_code, error)})

    async def runs(
        self,
        *,
        entry: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[RunRecord, ...]:
        """Runs, newest first."""
        query = runs.select(
            *equal("entry", entry),
            *equal("state", state),
            *between("started_at", since, None),
            newest="started_at",
            limit=limit,
        )
        return await self._select(runs, query)

    async def failures(self) -> Mapping[str, int]:
        """How many runs of each task ended without success, ever."""
        rows = await self._rows(
            Sql('SELECT "task", count(*) FROM "runs" WHERE "state" = ? GROUP BY "task"', (records.FAILED,))
        )
        return dict(map(tuple, rows))
