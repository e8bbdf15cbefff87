"""The part of the history that says how the archive was looked after: drills, and the schedule's runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import func, insert, select

from agent.archive import records
from agent.archive.records import DrillRecord, RunRecord
from agent.archive.schema import drills, runs
from agent.archive.store import Store, between, ended, equal, given, values


class Journal(Store):
    """Drills and runs; :class:`~agent.archive.history.History` has these methods too."""

    async def start_drill(self, record: DrillRecord) -> DrillRecord:
        """Record a drill that begins now, as this process's. ``state`` becomes ``running``."""
        record = replace(record, state=records.RUNNING, owner=self._home.process)
        async with self._writing() as connection:
            await connection.execute(insert(drills).values(values(record)))
        return record

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
        await self._change(drills, drill_id, changes)
        return (await self._select(DrillRecord, select(drills).where(drills.c.id == drill_id)))[0]

    async def drills(
        self,
        *,
        bundle_id: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[DrillRecord, ...]:
        """Drills, newest first."""
        query = select(drills).order_by(drills.c.started_at.desc(), drills.c.id)
        query = query.where(
            *equal(drills.c.bundle_id, bundle_id),
            *equal(drills.c.state, state),
            *between(drills.c.started_at, since, None),
        )
        return await self._select(DrillRecord, query.limit(limit))

    async def start_run(self, record: RunRecord) -> RunRecord:
        """Record a run of the schedule that begins now, as this process's. ``state`` becomes ``running``."""
        record = replace(record, state=records.RUNNING, owner=self._home.process)
        async with self._writing() as connection:
            await connection.execute(insert(runs).values(values(record)))
        return record

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
        await self._change(runs, run_id, {**given({"detail": detail}), **ended(state, error_code, error)})
        return (await self._select(RunRecord, select(runs).where(runs.c.id == run_id)))[0]

    async def runs(
        self,
        *,
        entry: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[RunRecord, ...]:
        """Runs, newest first."""
        query = select(runs).order_by(runs.c.started_at.desc(), runs.c.id)
        query = query.where(
            *equal(runs.c.entry, entry), *equal(runs.c.state, state), *between(runs.c.started_at, since, None)
        )
        return await self._select(RunRecord, query.limit(limit))

    async def failures(self) -> Mapping[str, int]:
        """How many runs of each task ended without success, ever."""
        query = select(runs.c.task, func.count()).where(runs.c.state == records.FAILED).group_by(runs.c.task)
        async with self._reading() as connection:
            rows = (await connection.execute(query)).all()
        return {row[0]: row[1] for row in rows}
