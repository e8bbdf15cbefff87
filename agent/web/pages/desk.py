"""The page's long work: jobs with what the page says of them, how fast they are and how long they take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from agent.engine.progress import Pace, Progress, Step
from agent.home import Home
from agent.operations.rates import keep_rates, past_rates
from agent.web.api.jobs import Job, Jobs


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the page says of a job: its title, the template of its result, where one goes then, what it is about."""

    job: Job
    title: str
    template: str
    back: str
    about: Mapping[str, Any] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)


class Desk:
    """The jobs that the page has started. Their time left is told by past runs at first, as in the commands."""

    def __init__(self, home: Home) -> None:
        self.jobs = Jobs()
        self._home = home
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
        pace = Pace()

        async def metered(progress: Progress) -> Any:
            loop = asyncio.get_running_loop()
            pace.rates |= await asyncio.to_thread(past_rates, self._home)
            before = dict(pace.rates)

            def note(step: Step) -> None:
                pace.note(step, monotonic())
                progress(step)

            def report(step: Step) -> None:
                loop.call_soon_threadsafe(note, step)

            result = await work(report)
            pace.end()
            if pace.rates != before:
                await asyncio.to_thread(keep_rates, self._home, pace.rates)
            return result

        job = self.jobs.start(template, metered)
        known = {each.id for each in self.jobs.all()}
        self._sheets = {key: sheet for key, sheet in self._sheets.items() if key in known}
        sheet = Sheet(job, title, template, back, about or {}, pace)
        self._sheets[job.id] = sheet
        return sheet

    def get(self, job_id: str) -> Sheet:
        """Raises ``NotFound``."""
        return self._sheets[self.jobs.get(job_id).id]

    def running(self) -> list[Sheet]:
        """What goes on now, the newest first."""
        found = [self._sheets[each.id] for each in self.jobs.all() if each.id in self._sheets]
        return [sheet for sheet in found if sheet.job.ended_at is None]
