"""A data folder, and real child processes to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.home import Home

ROOT = Path(__file__).parent.parent.parent
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "a home").ensure()


@pytest.fixture
def child(home: Home) -> Iterator[Child]:
    """Starts a Python process on the same data folder: the code finds it as ``home``."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        head = "import asyncio, sys\nfrom agent.home import Home\nhome = Home(sys.argv[1])\n"
        process = subprocess.Popen(
            [sys.executable, "-c", head + textwrap.dedent(code), str(home.path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
