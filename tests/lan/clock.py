"""A clock that the processes of one test share, and that can run ahead: half an hour passes for them in seconds.

It is no clock of Backroom's: a small library (clock.c) is loaded before the C library, so that Python, OpenSSL and all
else that asks the system for the time, of the wall or monotonic, is told the same.
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
STEP = 60.0
PAUSE = 0.2


def why_no_clock() -> str | None:
    """Why there can be no such clock here, or None."""
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    return None if Path("/usr/include/stdlib.h").exists() else "the C library's headers are not installed"


class Clock:
    """``env`` is for the processes that are to live by it."""

    def __init__(self, page: mmap.mmap, env: Mapping[str, str]) -> None:
        self._page = page
        self.env = dict(env)
        self.ahead = 0.0

    def passes(self, seconds: float) -> None:
        """Time goes by: in steps that are shorter than what a running laptop waits for, each with time to act on it."""
        end = self.ahead + seconds
        while self.ahead < end:
            self.ahead = min(end, self.ahead + STEP)
            self._page[:8] = int(self.ahead * 1e9).to_bytes(8, "little", signed=True)
            time.sleep(PAUSE)


@contextmanager
def clock(folder: Path) -> Iterator[Clock]:
    """A clock that is right at first."""
    library, file = folder / "clock.so", folder / "ahead"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    file.write_bytes(bytes(mmap.PAGESIZE))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), mmap.PAGESIZE) as page:
        yield Clock(page, {"LD_PRELOAD": str(library), "LAB_CLOCK": str(file)})
