"""Progress of long work, as an injected object: the engine reports, whoever called decides what to show."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

ROWS, BYTES = "rows", "bytes"
WINDOW_SECONDS = 10.0
_LEAST_SECONDS = 0.5
_MEMORY = 0.3


@dataclass(frozen=True, slots=True)
class Step:
    """Where the work is: ``stage`` in a word or two, ``done`` of ``total`` (0: unknown) in ``unit``, what of now.

    ``bytes`` were written or read so far, where that is known beside the rows.
    """

    stage: str
    done: int = 0
    total: int = 0
    what: str = ""
    unit: str = ROWS
    bytes: int = 0


class Progress(Protocol):
    """Called often and quickly; must not block or raise."""

    def __call__(self, step: Step, /) -> None: ...


def silent(step: Step) -> None:
    """Progress for nobody."""


class Pace:
    """How fast the steps of one piece of work follow each other, and how long the present stage will take.

    ``past`` maps stages to what this machine did per second before: it speaks until the work itself has a pace. Times
    are monotonic seconds.
    """

    def __init__(self, past: Mapping[str, float] = {}) -> None:
        self.rates: dict[str, float] = dict(past)
        """Per second, by stage: the past ones, and those of stages that have ended by now."""
        self._stage = ""
        self._began: tuple[float, int] = 0.0, 0
        self._seen: deque[tuple[float, int]] = deque()
        self._step = Step("")

    def note(self, step: Step, now: float) -> None:
        """The work is there now."""
        if step.stage != self._stage:
            self.end()
            self._stage, self._began = step.stage, (now, step.done)
            self._seen.clear()
        self._step = step
        self._seen.append((now, step.done))
        while len(self._seen) > 2 and now - self._seen[1][0] > WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Per second over the last seconds; by past runs as long as there are none; None where nothing is known."""
        if len(self._seen) > 1:
            (first, before), (last, after) = self._seen[0], self._seen[-1]
            if last - first >= _LEAST_SECONDS and after > before:
                return (after - before) / (last - first)
        return self.rates.get(self._stage)

    @property
    def seconds_left(self) -> float | None:
        """Until the end of the present stage; None where that cannot be told."""
        rate = self.rate
        if not rate or not self._step.total:
            return None
        return max(0, self._step.total - self._step.done) / rate

    def end(self) -> None:
        """The present stage is over: what it did per second counts for the next time, beside what was before."""
        if not self._seen:
            return
        (began, before), (last, after) = self._began, self._seen[-1]
        if last - began >= _LEAST_SECONDS and after > before:
            rate, past = (after - before) / (last - began), self.rates.get(self._stage)
            self.rates[self._stage] = rate if past is None else past + _MEMORY * (rate - past)
