"""Ctrl+C leaves nothing behind: no file, no part of one, no record of something that is not there."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sealing.age import new_identity
from tests.support.agents import Laptop, Shops, ended, wait_until


def everything(laptop: Laptop) -> set[Path]:
    """All files but those that say how long things take, locks and logs."""
    kept = {"rates.json", "history.sqlite-wal", "history.sqlite-shm"}
    return {
        path
        for path in (*laptop.home.rglob("*"),)
        if path.is_file() and path.name not in kept and path.suffix not in {".lock", ".jsonl"}
    }


def interrupted(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    answer = ended(process, 30)
    assert answer.code == 130, answer
    assert "Traceback" not in answer.out + answer.err, answer
    assert answer.value["error"]["code"] == "interrupted"


def begun(process: subprocess.Popen[str], parts: Callable[[], list[Path]]) -> None:
    """Wait until there is a part of the file, or the command has ended."""
    wait_until(lambda: parts() or process.poll() is not None, what="a part of the file")


@pytest.fixture
def office(shops: Shops) -> Laptop:
    return shops.laptop("laptop-office-001", shops.large_database(1_000))


def test_a_backup_an_export_and_a_delivery_that_are_stopped(office: Laptop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    office.do("keys", "add", new_identity()[1])  # what leaves is sealed
    made = office.do("backup", "--full", "--no-compress")
    before = everything(office)

    def parts() -> list[Path]:
        folders = (office.home / "archive", office.home / "spool", office.home / "state" / "outbox", outside)
        return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path not in before]

    for arguments in (
        ("backup", "--full", "--no-compress"),
        ("backup", "--full", "--output", str(outside)),
        ("export", made["bundle_id"], "--output", str(outside)),
        ("deliver", made["bundle_id"], "--to", f"path:{outside}", "--plain"),
    ):
        process = office.start(*arguments)
        begun(process, parts)
        if process.poll() is None:
            time.sleep(0.01)
            interrupted(process)
            assert parts() == [], arguments
    assert {each["id"] for each in office.history()["backups"]} == {made["bundle_id"]}
    assert everything(office) == before
    assert list(outside.iterdir()) == []
