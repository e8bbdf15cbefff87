"""Progress on a terminal: a bar with rows, bytes, rate and time left; none in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from agent.cli.output import Output, duration, size
from agent.engine.progress import BYTES, Pace, Progress, Step
from agent.home import Home

_SHOW_AFTER = 0.7


@contextmanager
def shown(output: Output, home: Home | None = None) -> Iterator[Progress]:
    """A progress function whose bar appears when the work takes longer than a moment.

    With ``home`` the time left is told from the first step on, by past runs, and this run is kept for the next.
    """
    from agent.operations.rates import keep_rates, past_rates

    pace = Pace(past_rates(home) if home else {})
    before = dict(pace.rates)
    shows = not output.as_json and output.err.isatty()
    bar = _Bar(output) if shows else None

    def report(step: Step) -> None:
        pace.note(step, monotonic())
        if bar is not None:
            bar.show(step, pace)

    try:
        yield report
        pace.end()
        if home is not None and pace.rates != before:
            keep_rates(home, pace.rates)
    finally:
        if bar is not None:
            bar.close()


def words(step: Step, pace: Pace) -> str:
    """How far, how much, how fast and how long: "12,340 of 50,000 rows, 3.2 MB, 8,100 rows/s, 5 s left"."""
    in_bytes = step.unit == BYTES
    done = size(step.done) if in_bytes else f"{step.done:,}"
    total = size(step.total) if in_bytes else f"{step.total:,}"
    parts = [f"{done} of {total}{'' if in_bytes else f' {step.unit}'}"] if step.total else []
    if step.bytes:
        parts.append(size(step.bytes))
    if step.total and (rate := pace.rate):
        parts.append(f"{size(int(rate))}/s" if in_bytes else f"{rate:,.0f} {step.unit}/s")
    if (left := pace.seconds_left) is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join([*parts, *([step.what] if step.what else [])])


class _Bar:
    """The bar itself; ``rich`` is imported when it first appears."""

    def __init__(self, output: Output) -> None:
        from agent.log import RICH

        with RICH:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}"),
            console=Console(file=output.err),
            transient=True,
        )
        self._task = self._bars.add_task("", total=None, words="")
        self._started = monotonic()
        self._visible = False

    def show(self, step: Step, pace: Pace) -> None:
        if not self._visible and monotonic() - self._started > _SHOW_AFTER:
            self._bars.start()
            self._visible = True
        self._bars.update(
            self._task,
            description=step.stage,
            completed=step.done,
            total=step.total or None,
            words=words(step, pace),
        )

    def close(self) -> None:
        if self._visible:
            self._bars.stop()
