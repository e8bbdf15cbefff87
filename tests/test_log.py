"""Logs: JSON lines in the data folder, text on standard error, nothing secret in either, several writers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from agent import log
from agent.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).ensure()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    structlog.reset_defaults()
    logging.getLogger().setLevel(level)


def lines(home: Home) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home.logs / "backroom.jsonl").read_text().splitlines()]


def test_events_reach_the_file_as_json_and_the_console_as_text(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    close = log.setup(home, level="debug", console_level="warning")
    log.get_logger("agent.x").debug("bundle sent", rows=3)
    logging.getLogger("a.library").warning("slow %s", "peer")
    close()
    first, second = lines(home)
    assert first["event"] == "bundle sent"
    assert (first["rows"], first["level"], first["logger"]) == (3, "debug", "agent.x")
    assert str(first["timestamp"]).endswith("Z")
    assert second["event"] == "slow peer"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "slow peer" in shown.err
    assert "bundle sent" not in shown.err


def test_a_traceback_reaches_the_file(home: Home) -> None:
    close = log.setup(home, console_level=None)
    try:
        raise KeyError("postgresql://u:s3cret@h/d")
    except KeyError:
        log.get_logger("x").exception("failed")
    close()
    assert "KeyError" in str(lines(home)[0]["exception"])
    assert "s3cret" not in str(lines(home)[0])


def test_secrets_and_personal_data_stay_out(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    close = log.setup(home)
    log.get_logger("x").warning(
        "at postgresql://u:s3cret@h/d",
        password="s3cret",
        invite_code="s3cret",
        nested={"token": "s3cret", "list": ["mongodb://u:s3cret@h"]},
        to="person.name@example.org",
        keys=3,
        path=home.path,
        nothing=None,
    )
    close()
    written = (home.logs / "backroom.jsonl").read_text() + capsys.readouterr().err
    assert "s3cret" not in written
    assert "person.name" not in written
    assert lines(home)[0]["keys"] == 3
    assert lines(home)[0]["nothing"] is None


def test_setting_up_again_starts_afresh(home: Home) -> None:
    log.setup(home, console_level=None)
    close = log.setup(home, console_level=None)
    log.get_logger("x").info("once")
    close()
    assert len(lines(home)) == 1


def test_rotation_keeps_every_line_of_several_processes(tmp_path: Path) -> None:
    code = """
import logging, sys
from pathlib import Path
from agent.log import SharedFileHandler
handler = SharedFileHandler(Path(sys.argv[1]) / "x.log", max_bytes=4000, keep=50)
for number in range(300):
    handler.handle(logging.makeLogRecord({"msg": f"{sys.argv[2]}-{number} " + "." * 40}))
"""
    root = str(Path(__file__).parent.parent)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], cwd=root) for name in ("a", "b", "c")
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    found = [line.split()[0] for path in tmp_path.glob("x.log*") for line in path.read_text().splitlines()]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "abc" for number in range(300))
    assert len(list(tmp_path.glob("x.log*"))) > 5
