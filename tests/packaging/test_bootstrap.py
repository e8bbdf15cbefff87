"""The scripts on a clean machine: when the environment counts as current, and what old Pythons are told."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bootstrap")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository in a folder with a space, with an environment whose interpreter is a file and never runs."""
    root = tmp_path / "with space"
    python = root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    python.parent.mkdir(parents=True)
    python.touch()
    (root / "requirements.lock").write_text("click==8.5.1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    return root


def test_stamp_of_what_is_installed_makes_it_current(bootstrap: ModuleType, checkout: Path) -> None:
    environment = bootstrap.Environment(checkout)
    assert not environment.is_current()
    environment.stamp.write_text(environment.digest())
    assert environment.is_current()
    assert bootstrap.prepare(environment) is False


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_changed_input_is_not_current(bootstrap: ModuleType, checkout: Path, name: str) -> None:
    environment = bootstrap.Environment(checkout)
    environment.stamp.write_text(environment.digest())
    (checkout / name).write_text("changed\n")
    assert not environment.is_current()


def test_interrupted_installation_is_neither_current_nor_usable(bootstrap: ModuleType, checkout: Path) -> None:
    environment = bootstrap.Environment(checkout)
    environment.stamp.write_text(environment.digest())
    environment.unfinished.touch()
    assert not environment.is_current()
    assert not environment.is_usable()


def test_lost_interpreter_is_not_current(bootstrap: ModuleType, checkout: Path) -> None:
    environment = bootstrap.Environment(checkout)
    environment.stamp.write_text(environment.digest())
    environment.python.unlink()
    assert not environment.is_current()


def test_moved_checkout_is_neither_current_nor_usable(bootstrap: ModuleType, checkout: Path, tmp_path: Path) -> None:
    environment = bootstrap.Environment(checkout)
    environment.stamp.write_text(environment.digest())
    environment.python.with_name("activate").write_text(f'VIRTUAL_ENV="{environment.folder}"\n')
    moved = bootstrap.Environment(Path(shutil.move(checkout, tmp_path / "moved")))
    assert not moved.is_current()
    assert not moved.is_usable()


def test_digest_keeps_its_parts_apart(bootstrap: ModuleType, checkout: Path) -> None:
    environment = bootstrap.Environment(checkout)
    environment.lock.write_text("ab")
    (checkout / "pyproject.toml").write_text("c")
    one = environment.digest()
    environment.lock.write_text("a")
    (checkout / "pyproject.toml").write_text("bc")
    assert environment.digest() != one


def test_one_process_at_a_time(bootstrap: ModuleType, tmp_path: Path) -> None:
    guard = tmp_path / "guard"
    entered = threading.Event()

    def second() -> None:
        with bootstrap.only_one(guard):
            entered.set()

    waiting = threading.Thread(target=second)
    with bootstrap.only_one(guard):
        waiting.start()
        assert not entered.wait(0.5)
    assert entered.wait(10)
    waiting.join()


def test_misleading_variables_are_dropped(bootstrap: ModuleType) -> None:
    given = {"PYTHONPATH": "/elsewhere", "PIP_TARGET": "/elsewhere", "PATH": "/bin", "PIP_INDEX_URL": "kept"}
    assert bootstrap.clean_variables(given) == {"PATH": "/bin", "PIP_INDEX_URL": "kept"}


@pytest.mark.parametrize("script", ["bootstrap.py", "check.py", "demo.py", "system.py", "test.py"])
def test_scripts_parse_on_old_pythons(script: str) -> None:
    """A script of a clean machine is read by whatever Python there is, which must get as far as the sentence."""
    source = (SCRIPTS / script).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__ import annotations" not in source


def test_missing_system_package_is_told_with_its_reason(bootstrap: ModuleType) -> None:
    system = importlib.import_module("system")
    package = system.SystemPackage("nothing", ("/nowhere/*/bin/x", "no-such-program-here"), "a reason", "a loss")
    assert not package.is_present()
    here = system.SystemPackage("python", (sys.executable,), "a reason", "a loss")
    assert here.is_present()


def test_unknown_check_is_wrong_usage(bootstrap: ModuleType) -> None:
    if not bootstrap.Environment(ROOT).is_current():
        pytest.skip("these tests do not run in the environment that the scripts make")
    command = [sys.executable, str(SCRIPTS / "check.py"), "spelling"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "no such check: spelling (there are: lint, format, types, imports)\n"
