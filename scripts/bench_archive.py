"""Measures an archive of 1,000 bundles: history, prune plan and status, each as a command of its own process.

`python3 scripts/bench_archive.py [NUMBER]` prints seconds for each (best of three) and ends with 1 if one takes a
second or more.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import bootstrap

COMMANDS = (("history",), ("prune", "--plan"), ("status",), ("archive", "check"))
LIMIT = 1.0


async def make(folder: Path, number: int) -> None:
    """An archive of `number` real, small bundles, one a day."""
    from tests.support.archives import NOON, keep, workspace_at

    workspace = workspace_at(folder)
    async with workspace.history() as history:
        first = await keep(workspace, history, NOON)
        data = (workspace.home.archive / first.path).read_bytes()
        for day in range(1, number):
            name = f"backup-full-{day:04}.bundle"
            (workspace.home.archive / "full" / name).write_bytes(data)
            created = NOON - timedelta(days=day)
            record = replace(first, id=f"bundle-{day:04}", filename=name, path=f"full/{name}", created_at=created)
            await history.add_backup(replace(record, recorded_at=created))


def main() -> None:
    """Makes the archive, runs each command three times, prints the best."""
    bootstrap.enter()
    sys.path.insert(0, str(bootstrap.ROOT))
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    slow = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        asyncio.run(make(home, number))
        for command in COMMANDS:
            took = []
            for _ in range(3):
                started = time.perf_counter()
                program = [sys.executable, "-m", "agent.cli.main", "--home", str(home), *command]
                subprocess.run(program, check=True, cwd=bootstrap.ROOT, stdout=subprocess.DEVNULL)
                took.append(time.perf_counter() - started)
            print(f"{' '.join(command):16} {min(took):6.2f} s with {number} bundles")
            slow += [command] if min(took) >= LIMIT else []
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
