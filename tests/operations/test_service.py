"""The agent as a service: for Linux with a real systemd, for the others the exact text that they would be given."""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agent.home import Home
from agent.operations import service
from agent.operations.service_files import Program, launchd_plist, systemd_unit, windows_task
from tests.support.agents import BACKROOM, backroom, environment

GOLDEN = Path(__file__).parent / "golden" / "service"
PLACES = {
    "linux": ("/opt/backroom/bin/python3", "/home/anna/.local/share/backroom"),
    "macos": ("/usr/local/bin/python3", "/Users/anna/Library/Application Support/backroom"),
    "windows": (r"C:\Program Files\Python\python.exe", r"C:\Users\Anna B\AppData\Local\backroom"),
}
NASTY = ["plain", "with space", "50%u", "$HOME", 'quo"te', "back\\slash", "é & <co>", "end\\"]


@pytest.mark.parametrize("system", PLACES)
def test_the_text_for_each_system_is_exactly_this(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 501)
    python, home = PLACES[system]
    plan = service.for_system(
        system, Program(python, home, "SHOP\\anna"), Home(f"/data/{system}"), Path("/home/anna"), 47600
    )
    assert f"{plan.as_text()}\n" == (GOLDEN / f"{system}.txt").read_text("utf-8")


@pytest.mark.parametrize("name", NASTY)
def test_names_of_folders_stay_what_they_are(name: str) -> None:
    program = Program("/usr/bin/python3", f"/home/{name}/data", "SHOP\\a&b")
    assert plistlib.loads(launchd_plist(program).encode())["ProgramArguments"][4] == f"/home/{name}/data"
    task = ElementTree.fromstring(windows_task(program).partition("\n")[2])
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext(".//t:LogonTrigger/t:UserId", namespaces=space) == "SHOP\\a&b"
    arguments = task.findtext(".//t:Arguments", namespaces=space) or ""
    assert arguments.startswith("-m agent.cli.main --home ")
    assert arguments.endswith(" run")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    for number, name in enumerate(NASTY):
        unit = tmp_path / f"backroom{number}.service"
        unit.write_text(systemd_unit(Program(sys.executable, f"/home/{name}/data")))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", str(unit)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        assert str(unit.name) not in done.stderr, done.stderr


def test_without_a_service_manager_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "none"), "DBUS_SESSION_BUS_ADDRESS": ""}
    home = str(tmp_path / "data")
    error = backroom("--home", home, "service", "install", "--json", env=env).error
    assert error["code"] == "service-failed"
    assert "--print" in error["hint"]
    assert not list((tmp_path / ".config").rglob("*.service*"))
    answer = backroom("--home", home, "service", "status", "--json", env=env)
    assert (answer.code, answer.value["installed"]) == (1, False)
    assert backroom("--home", home, "service", "remove", "--json", env=env).value["installed"] is False


# A manager of its own for the test: in a mount namespace, so that nothing of the machine is touched.
MANAGER = """
set -e
mount -t tmpfs none /run && mkdir -p /run/systemd/system
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
own=/sys/fs/cgroup/backroom-test-$$
mkdir $own && echo $$ > $own/cgroup.procs
{systemd} --user --log-target=null 2>/dev/null &
for try in $(seq 100); do systemctl --user is-system-running >/dev/null 2>&1 && break; sleep 0.1; done
end() {{
  systemctl --user exit; wait
  echo $$ > /sys/fs/cgroup/cgroup.procs; find $own -depth -type d -exec rmdir {{}} +
}}
trap end EXIT
"$@"
"""
SYSTEMD = next((path for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd") if Path(path).exists()), "")


def steps(home: str) -> None:
    """Run inside the namespace: what a person does, with what came of it as JSON lines."""
    commands = (("service", "install"), ("service", "status"), ("service", "install"), ("open", "--link"))
    for words in (*commands, ("service", "remove"), ("service", "status")):
        done = subprocess.run(
            [*BACKROOM, "--home", home, *words, "--json"], capture_output=True, text=True, check=False, timeout=90
        )
        print(json.dumps({"words": words, "code": done.returncode, "value": json.loads(done.stdout or "null")}))
    print(json.dumps({"running": Home(home).locked("agent"), "kept": (Path(home) / "state" / "api-token").exists()}))


@pytest.mark.skipif(not SYSTEMD or sys.platform != "linux" or os.geteuid() != 0, reason="needs systemd and root")
def test_a_real_systemd_runs_it_renews_it_and_forgets_it(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    home = tmp_path / "data of 100% anna"
    inside = [sys.executable, "-c", f"from tests.operations.test_service import steps; steps({str(home)!r})"]
    done = subprocess.run(
        ["unshare", "-mC", "bash", "-c", MANAGER.format(systemd=SYSTEMD), "manager", *inside],
        env=environment({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime), "BACKROOM_WEB_PORT": "0"}),
        capture_output=True,
        text=True,
        timeout=150,
        cwd=Path(__file__).parents[2],
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("no namespaces here")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == 7, (done.stdout, done.stderr)
    first, looked, again, opened, removed, gone, end = said
    for each in (first, looked, again):
        assert (each["code"], each["value"]["installed"], each["value"]["active"]) == (0, True, True), each
    assert opened["value"]["started"] is False
    assert opened["value"]["link"].startswith("http://127.0.0.1:")
    assert (removed["code"], removed["value"]["installed"], removed["value"]["running"]) == (0, False, False)
    assert (gone["code"], gone["value"]["active"]) == (1, False)
    assert end == {"running": False, "kept": True}
