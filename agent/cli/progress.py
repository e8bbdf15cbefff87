"""Progress bars on a terminal, none in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from agent.cli.output import Output
from agent.engine.progress import Progress, Step, silent

_SHOW_AFTER = 0.7


@contextmanager
def shown(output: Output) -> Iterator[Progress]:
    """A progress function whose bar appears when the work takes longer than a moment."""
    if output.as_json or not output.err.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[what]}"),
        TimeRemainingColumn(),
        console=Console(file=output.err),
        transient=True,
    )
    task = bars.add_task("", total=None, what="")
    started = monotonic()
    visible = False

    def report(step: Step) -> None:
        nonlocal visible
        if not visible and monotonic() - started > _SHOW_AFTER:
            bars.start()
            visible = True
        bars.update(task, description=step.stage, completed=step.done, total=step.total or None, what=step.what)

    try:
        yield report
    finally:
        if visible:
            bars.stop()
