"""Long work: started by one request, watched by others, cancelled by one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from agent.engine.progress import Pace, Progress, Step
from agent.log import get_logger
from agent.web.api.errors import UNEXPECTED, NotFound, described

log = get_logger(__name__)

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
KEPT = 200
WATCH_SECONDS = 0.25

Work = Callable[[Progress], Awaitable[Any]]


@dataclass(slots=True)
class Job:
    """One piece of work. ``state``: running, done (with ``result``), failed (with ``error``), cancelled."""

    id: str
    verb: str
    started_at: datetime
    state: str = RUNNING
    step: Step = field(default_factory=lambda: Step(""))
    pace: Pace = field(default_factory=Pace, repr=False)
    result: Any = None
    error: dict[str, str] | None = None
    ended_at: datetime | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "verb": self.verb,
            "state": self.state,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "progress": {**asdict(self.step), "rate": self.pace.rate, "seconds_left": self.pace.seconds_left},
            "result": self.result,
            "error": self.error,
        }


class Jobs:
    """The jobs of one agent: those that run, and the last ones that ended."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def start(self, verb: str, work: Work) -> Job:
        """Begin; :meth:`watch` and :meth:`get` show how it goes."""
        job = Job(secrets.token_hex(8), verb, datetime.now(UTC))
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, work))
        ended = [each.id for each in self._jobs.values() if each.state != RUNNING]
        for old in ended[: max(0, len(self._jobs) - KEPT)]:
            del self._jobs[old]
        return job

    def get(self, job_id: str) -> Job:
        """Raises ``NotFound``."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(f"There is no job {job_id}.") from None

    def all(self) -> tuple[Job, ...]:
        """The newest first."""
        return tuple(reversed(self._jobs.values()))

    async def cancel(self, job_id: str) -> Job:
        """Stop it and wait until it has put everything back; one that has ended stays as it is."""
        job = self.get(job_id)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait([job.task])
        return job

    async def watch(self, job_id: str) -> AsyncIterator[Job | None]:
        """The job whenever it has gone on, last when it has ended; None now and then where nothing happens."""
        job = self.get(job_id)
        before: tuple[str, Step] | None = None
        while True:
            now = (job.state, job.step)
            yield job if now != before else None
            before = now
            if now[0] != RUNNING:
                return
            assert job.task is not None
            await asyncio.wait([job.task], timeout=WATCH_SECONDS)

    async def close(self) -> None:
        """Stop everything."""
        running = [job.task for job in self._jobs.values() if job.task is not None and not job.task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, job: Job, work: Work) -> None:
        def report(step: Step) -> None:
            job.step = step
            job.pace.note(step, monotonic())

        try:
            job.result = await work(report)
            job.state = DONE
        except asyncio.CancelledError:
            job.state = CANCELLED
        except Exception as error:
            found = described(error)
            if found is None:
                log.exception("job failed", verb=job.verb)
            job.error = found[1] if found else UNEXPECTED
            job.state = FAILED
        finally:
            job.ended_at = datetime.now(UTC)
