"""The data folder: layout, rights, locks between real processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agent.home import Home, HomeBusyError, HomeUnusableError
from agent.locks import FileLock


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "a home").ensure()


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A real process that prints one line when it is ready and then waits for the end of its input."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )


HOLD = """
    import sys
    from agent.home import Home
    home = Home(sys.argv[1])
    lock = home.lock()
    print(home.process, flush=True)
    sys.stdin.read()
"""


def test_locate_takes_the_option_then_the_environment_then_the_user_folder(tmp_path: Path) -> None:
    assert Home.locate(tmp_path / "x", {"BACKROOM_HOME": "/elsewhere"}).path == tmp_path / "x"
    assert Home.locate(None, {"BACKROOM_HOME": str(tmp_path / "y")}).path == tmp_path / "y"
    assert "backroom" in str(Home.locate(None, {}).path)


@pytest.mark.skipif(os.name == "nt", reason="rights are POSIX's")
def test_folders_are_for_this_user_alone(home: Home) -> None:
    folders = [home.path, home.archive / "full", home.archive / "business", home.spool]
    for folder in [*folders, home.archive / "device", home.state, home.logs, home.processes]:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert home.ensure() is home


def test_a_home_under_a_file_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusableError, match="cannot be used") as caught:
        Home(tmp_path / "file" / "home").ensure()
    assert caught.value.code == "home-unusable"
    assert "--home" in caught.value.hint


def test_one_writer_at_a_time_across_processes_and_a_killed_one_frees_it(home: Home) -> None:
    assert not home.locked()
    with child(HOLD, str(home.path)) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        assert home.locked()
        assert home.alive(token)
        with pytest.raises(HomeBusyError, match=str(process.pid)):
            home.lock()
        process.kill()
        process.wait()
    assert not home.locked()
    assert not home.alive(token)
    with home.lock() as lock:
        assert lock.held
        assert not lock.try_acquire()
    assert not lock.held


def test_a_token_is_alive_until_its_process_ends_and_sweeping_leaves_living_ones(home: Home) -> None:
    with child(HOLD, str(home.path)) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        home.sweep()
        assert home.alive(token)
        process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
        process.wait()
    home.sweep()
    assert not (home.processes / token).exists()
    assert home.alive(home.process)
    assert Home(home.path).alive(home.process)
    assert home.process != Home(home.path).process


def test_a_process_that_ends_by_itself_leaves_no_lock_file(home: Home) -> None:
    with child(HOLD, str(home.path)) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        process.communicate()
    assert process.returncode == 0
    assert not (home.processes / token).exists()


def test_tokens_of_other_homes_count_as_alive(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other").ensure()
    assert other.tag != home.tag
    assert home.alive(other.process)
    assert home.alive(f"{other.tag}-gone")
    assert not home.alive(f"{home.tag}-gone")


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be deleted there")
def test_the_lock_of_a_file_that_was_deleted_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert first.try_acquire()
    assert second.holder() == os.getpid()
    first.release(remove=True)
    assert second.try_acquire()
    assert not first.try_acquire()
    second.release()
    second.release()


def test_a_full_disk_holds_no_lock_that_nobody_frees(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with home.lock("schedule") as lock:
            assert lock.held
            assert lock.holder() is None
            with pytest.raises(HomeBusyError):
                home.lock("schedule")
    assert not home.locked("schedule")
    home.lock("schedule").release()
