"""Few heaps of the C library, whatever the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.heaps import HEAPS, few_heaps, give_back

ROOT = Path(__file__).parents[1]
CODE = """
import ctypes, threading
from agent.heaps import few_heaps, give_back
{first}
together = threading.Barrier(8)
def work():
    held = [bytes(20_000) for _ in range(50)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
give_back()
ctypes.CDLL(None).malloc_stats()
"""


def test_it_may_be_called_anywhere() -> None:
    few_heaps()
    give_back()


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="no glibc")
def test_threads_share_the_heaps() -> None:
    assert heaps("few_heaps()") <= HEAPS < heaps("")
    # A command's log has a thread before the command is asked for.
    assert heaps("one = threading.Thread(target=bytes, args=(20_000,)); one.start(); one.join(); few_heaps()") <= HEAPS


def heaps(first: str) -> int:
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr.count("Arena ")
