"""Files that are brought to the disk while they are written: real files, and one that has no disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.archive.flushing import Flusher


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def pipe() -> Iterator[int]:
    """An open file that no system can bring to a disk."""
    ends = os.pipe()
    yield ends[1]
    for end in ends:
        os.close(end)


def test_a_long_file_is_flushed_on_the_way(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    fsync = os.fsync

    def noting(which: int) -> None:
        fsync(which)
        flushed.append(threading.get_ident())

    monkeypatch.setattr(os, "fsync", noting)
    flusher = Flusher(fd, every=100)
    for _ in range(2):
        os.write(fd, b"x" * 60)
        flusher.wrote(60)
    flusher.sync()
    flusher.close()
    assert len(flushed) == 2
    assert flushed[0] != threading.get_ident() == flushed[1]


def test_a_short_file_needs_no_thread(fd: int) -> None:
    before = threading.active_count()
    flusher = Flusher(fd)
    os.write(fd, b"x")
    flusher.wrote(1)
    flusher.sync()
    assert threading.active_count() == before
    flusher.close()


def test_writing_goes_on_while_the_disk_is_slow(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, begun = threading.Event(), []
    fsync = os.fsync

    def slow(which: int) -> None:
        begun.append(which)
        assert may_end.wait(30)
        fsync(which)

    monkeypatch.setattr(os, "fsync", slow)
    flusher = Flusher(fd, every=10)
    for _ in range(5):
        os.write(fd, b"x" * 10)
        flusher.wrote(10)  # would wait for ever if it did
    may_end.set()
    flusher.sync()
    flusher.close()
    assert len(begun) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows flushes pipes")
def test_a_failure_beside_the_writing_is_told_and_stays(pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flusher = Flusher(pipe, every=1)
    os.write(pipe, b"x")
    flusher.wrote(1)
    for _ in range(2):
        with pytest.raises(OSError, match="Invalid argument"):
            flusher.sync()
    with pytest.raises(OSError, match="Invalid argument"):
        flusher.wrote(1)
    # The system says that all is well, the next time it is asked.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    with pytest.raises(OSError, match="Invalid argument"):
        flusher.sync()
    flusher.close()
