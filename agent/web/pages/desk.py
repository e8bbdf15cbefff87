"""The page's long work: jobs with what the page says of them, how fast they are and how long they take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from agent.engine.progress import Progress, Step
from agent.web.api.jobs import Job, Jobs

_RATE_OVER_SECONDS = 10.0
_RATE_AFTER_SECONDS = 1.0
BYTES = frozenset({"sending", "fetching"})
"""The stages that count bytes; the others count rows or tables."""


class Meter:
    """How fast one stage of a job goes, over the last seconds."""

    def __init__(self) -> None:
        self._stage = ""
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, step: Step, now: float) -> None:
        if step.stage != self._stage or (self._seen and step.done < self._seen[-1][1]):
            self._stage = step.stage
            self._seen.clear()
        self._seen.append((now, step.done))
        while self._seen[-1][0] - self._seen[0][0] > _RATE_OVER_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Units a second; 0 until that can be said."""
        if not self._seen:
            return 0.0
        (first, low), (last, high) = self._seen[0], self._seen[-1]
        return (high - low) / (last - first) if last - first >= _RATE_AFTER_SECONDS else 0.0


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the page says of a job: its title, the template of its result, where one goes then, what it is about."""

    job: Job
    title: str
    template: str
    back: str
    about: Mapping[str, Any] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)

    @property
    def left(self) -> float | None:
        """Seconds that this stage still takes, where that can be said."""
        step, rate = self.job.step, self.meter.rate
        return (step.total - step.done) / rate if rate > 0 and step.total >= step.done > 0 else None


class Desk:
    """The jobs that the page has started."""

    def __init__(self) -> None:
        self.jobs = Jobs()
        self._sheets: dict[str, Sheet] = {}

    def start(
        self,
        title: str,
        template: str,
        back: str,
        work: Callable[[Progress], Awaitable[Any]],
        about: Mapping[str, Any] | None = None,
    ) -> Sheet:
        """Begin the work."""
        meter = Meter()

        async def metered(progress: Progress) -> Any:
            loop = asyncio.get_running_loop()

            def note(step: Step) -> None:
                meter.note(step, monotonic())
                progress(step)

            def report(step: Step) -> None:
                loop.call_soon_threadsafe(note, step)

            return await work(report)

        job = self.jobs.start(template, metered)
        known = {each.id for each in self.jobs.all()}
        self._sheets = {key: sheet for key, sheet in self._sheets.items() if key in known}
        sheet = Sheet(job, title, template, back, about or {}, meter)
        self._sheets[job.id] = sheet
        return sheet

    def get(self, job_id: str) -> Sheet:
        """Raises ``NotFound``."""
        return self._sheets[self.jobs.get(job_id).id]

    def running(self) -> list[Sheet]:
        """What goes on now, the newest first."""
        found = [self._sheets[each.id] for each in self.jobs.all() if each.id in self._sheets]
        return [sheet for sheet in found if sheet.job.ended_at is None]
