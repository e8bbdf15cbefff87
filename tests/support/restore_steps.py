"""A restore in a process of its own that dies at its n-th step: ``python -m tests.support.restore_steps HOME FILE N``.

A step is every report of progress, and every moment before and after something that must survive: noting the
transaction, keeping the undo bundle, the commit, the end in the history. Without N it runs through and prints how many
steps there are. ``server`` as fourth argument kills the PostgreSQL server of that data folder instead, and goes on.
With ``BACKROOM_TEST_LOAD`` in the environment rows go straight into empty tables, however few they are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from agent.archive.history import History
from agent.database import transaction
from agent.database.merge import Conflicts
from agent.engine import loading
from agent.engine import restore as restoring
from agent.engine.progress import Step
from agent.home import Home
from agent.operations import outcomes
from agent.operations.restores import restore_file
from agent.operations.workspace import Workspace


class Steps:
    """Counts, and strikes at the n-th."""

    def __init__(self, last: int | None, strike: Callable[[], object]) -> None:
        self.count = 0
        self._last = last
        self._strike = strike

    def step(self, _what: object = None) -> None:
        self.count += 1
        if self.count == self._last:
            self._strike()

    def around(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same work, with a step before and one after."""

        async def stepped(*arguments: Any, **options: Any) -> Any:
            self.step()
            result = await work(*arguments, **options)
            self.step()
            return result

        return stepped


def _end_server(server: Path) -> None:
    """Every process of it at once, as when the power goes."""
    leader = int((server / "postmaster.pid").read_text().splitlines()[0])
    for pid in [leader, *_children(leader)]:
        os.kill(pid, signal.SIGKILL)


def _end_here() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _children(leader: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == leader:
                found.append(int(entry.name))
    return found


async def main() -> int:
    home, file = Home(sys.argv[1]), Path(sys.argv[2])
    last = int(sys.argv[3]) if len(sys.argv) > 3 else None
    steps = Steps(last, partial(_end_server, Path(sys.argv[4])) if len(sys.argv) > 4 else _end_here)
    transaction.OUTCOME_SECONDS = 2.0
    if "BACKROOM_TEST_LOAD" in os.environ:
        loading.LEAST_ROWS = loading.LEAST_OF_TABLE = 1
    restoring.commit_surely = steps.around(restoring.commit_surely)  # type: ignore[assignment]
    outcomes.RunningRestore.started = steps.around(outcomes.RunningRestore.started)  # type: ignore[method-assign]
    outcomes.RunningRestore.kept = steps.around(outcomes.RunningRestore.kept)  # type: ignore[method-assign]
    History.end_restore = steps.around(History.end_restore)  # type: ignore[method-assign]
    workspace = Workspace(home)

    def progress(step: Step) -> None:
        steps.step(step)

    async with workspace.history() as history:
        await restore_file(workspace, history, file, conflicts=Conflicts.BUNDLE, trust_source=True, progress=progress)
    print(steps.count)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
