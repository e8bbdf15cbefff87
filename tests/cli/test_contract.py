"""What every command keeps to: help, exit codes, one JSON value, the data folder, and no traceback for a mistake."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from agent.cli import main as cli
from tests.support.agents import Answer, Laptop, Shops, backroom

Run = Callable[..., Answer]
SECRET = "s3cr3t-pass"
PROMISED = {
    "init", "shop", "invite", "join", "run", "status", "devices", "businesses", "tables", "backup", "inspect",
    "restore", "push", "pull", "compare", "history", "revoke", "demo",
}  # fmt: skip


def commands() -> dict[str, click.Command]:
    """Every command by its words, groups taken apart."""
    context = click.Context(cli.cli)
    found: dict[str, click.Command] = {}
    for name in cli.MODULES:
        command = cli.cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {each}": below for each, below in command.commands.items()}
        found[name] = command
    return found


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, which is quicker than one of its own."""
    for name in [name for name in os.environ if name.startswith("BACKROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("BACKROOM_LISTEN", "127.0.0.1")

    def do(*arguments: str) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(arguments))
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        assert "never awaited" not in err
        assert SECRET not in out + err
        return Answer(int(stopped.value.code or 0), out, err)

    return do


@pytest.fixture(scope="module")
def office(module_shops: Shops) -> Laptop:
    """A laptop with the whole shop; its password is in the settings."""
    laptop = module_shops.laptop("laptop-office-001", "shop")
    module_shops.shop(laptop)
    return laptop


def test_all_promised_commands_are_there() -> None:
    assert set(cli.MODULES) >= PROMISED


@pytest.mark.parametrize("words", sorted(commands()))
def test_help_teaches(words: str, run: Run) -> None:
    for flag in ("--help", "-h"):
        answer = run(*words.split(), flag)
        assert answer.code == 0
        assert answer.err == ""
    command = commands()[words]
    assert command.help
    assert len(command.help) > 30
    assert answer.out.startswith("Usage: backroom " + words)
    if not isinstance(command, click.Group):
        for option in ("--json", "--home"):
            assert option in answer.out
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, (words, parameter.name)


def test_help_of_all_and_version(run: Run) -> None:
    answer = run("--help")
    assert all(name in answer.out for name in PROMISED)
    assert run("--version").out.startswith("backroom")
    bare = run()
    assert bare.code == 2
    assert "Usage" in bare.out + bare.err


WRONG_USAGE = [
    "nonsense", "--nonsense", "backup", "backup --full --full-device", "backup --business", "backup --full extra",
    "push", "push one", "push one two --mirror", "pull", "pull x", "pull x --full --business y", "restore", "inspect",
    "compare", "compare --business x", "compare --with x", "init --port 99999", "init --port x", "invite --role king",
    "join", "history --limit 0", "revoke", "shop create", "shop nonsense", "restore x --conflicts mine",
    "tables --class x",
]  # fmt: skip


@pytest.mark.parametrize("line", WRONG_USAGE)
def test_wrong_usage_is_2(line: str, run: Run, tmp_path: Path) -> None:
    words = line.split()
    plain = run("--home", str(tmp_path / "h"), *words)
    assert plain.code == 2
    assert plain.out == ""
    assert "Error: " in plain.err
    answer = run("--json", "--home", str(tmp_path / "h"), *words)
    assert answer.code == 2
    assert set(answer.value["error"]) == {"code", "message", "hint"}
    assert answer.value["error"]["code"] == "usage"
    assert not (tmp_path / "h").exists()


NEEDS_SET_UP = [
    "status", "businesses", "tables", "history", "devices", "backup --full", "backup --business x", "push x y",
    "pull x --full", "restore x --yes", "restore x --plan", "inspect x", "compare --business x --with y", "invite",
    "join 7-copper-lantern-violin", "revoke x --yes", "shop create X", "init",
]  # fmt: skip


@pytest.mark.parametrize("line", NEEDS_SET_UP)
def test_before_init_every_command_says_so(line: str, run: Run, tmp_path: Path) -> None:
    home = tmp_path / "nothing yet"
    error = run("--home", str(home), *line.split(), "--json").error
    assert error["code"] == "not-set-up" or (line == "revoke x --yes" and error["code"] == "no-shop")
    assert "backroom " in error["hint"]
    plain = run("--home", str(home), *line.split())
    assert plain.code == 1
    assert plain.err.startswith("Error: ")


def test_the_data_folder_from_option_or_environment(
    run: Run, office: Laptop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, wrong = str(office.home), str(tmp_path / "wrong")
    before = run("--home", home, "--json", "businesses")
    after = run("businesses", "--home", home, "--json")
    assert before.value == after.value
    assert len(before.value) >= 4
    monkeypatch.setenv("BACKROOM_HOME", home)
    assert run("businesses", "--json").value == before.value
    monkeypatch.setenv("BACKROOM_HOME", wrong)
    assert run("businesses", "--json", "--home", home).value == before.value
    assert run("--home", home, "businesses", "--json").value == before.value
    assert run("businesses", "--json").error["code"] == "not-set-up"


MISTAKES: dict[str, tuple[str, str]] = {
    "backup --business nobody": ("no-such-business", "nobody"),
    "backup --full --plain --output /nowhere/at/all/x.bundle": ("", "/nowhere/at/all"),
    "backup --full --output /tmp": ("no-recipient", "nothing leaves this laptop readable"),
    "restore smb://127.0.0.1:9/share/x.bundle --yes": ("unreachable", "127.0.0.1"),
    "push nobody nowhere": ("", "nowhere"),
    "pull nowhere --full": ("", "nowhere"),
    "push nobody laptop-office-001": ("wrong-device", "this laptop"),
    "revoke nowhere --yes": ("", "nowhere"),
    "restore nothing.bundle --yes": ("", "nothing.bundle"),
    "restore /etc --yes": ("", "/etc"),
    "inspect nothing.bundle": ("", "nothing.bundle"),
    "inspect /etc/hostname": ("", ""),
    "inspect /dev/null": ("", ""),
    "compare --business nobody --with nowhere": ("", "nobody"),
    "compare --business restaurant-abc --with nowhere": ("", "nowhere"),
    "shop create Again": ("", "already"),
    "join 7-copper-lantern-violin --address 127.0.0.1:1": ("", "127.0.0.1:1"),
    "join nonsense": ("", "code"),
    "init --database mysql://root@localhost/x": ("", "postgresql://"),
    f"init --database postgresql://shop:{SECRET}@127.0.0.1:1/x": ("", "127.0.0.1:1"),
    "init --database postgresql://": ("", ""),
}


@pytest.mark.parametrize("line", sorted(MISTAKES))
def test_mistakes_are_told_in_words(line: str, run: Run, office: Laptop) -> None:
    before = office.home.joinpath("config.toml").read_text()
    error = run("--home", str(office.home), *line.split(), "--json").error
    code, words = MISTAKES[line]
    assert error["code"] == code or (not code and error["code"] != "unexpected"), error
    assert words in error["message"]
    assert error["hint"]
    assert office.home.joinpath("config.toml").read_text() == before


def test_init_that_fails_leaves_nothing(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "new"
    url = f"postgresql://shop:{SECRET}@127.0.0.1:1/x"
    assert run("--home", str(home), "init", "--database", url, "--name", "x", "--json").code == 1
    assert not home.exists() or not any(path.is_file() for path in home.rglob("*"))


def broken(path: str, content: bytes) -> Callable[[Path], None]:
    def do(home: Path) -> None:
        home.joinpath(path).write_bytes(content)

    return do


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "config is no TOML": (broken("config.toml", b"= what"), "status"),
    "config has another key": (broken("config.toml", b'colour = "red"\n'), "status"),
    "config is binary": (broken("config.toml", b"\xff\xfe\x00"), "status"),
    "config has no database": (broken("config.toml", b'name = "x"\n'), "businesses"),
    "tables.toml is no TOML": (broken("tables.toml", b"[[["), "tables"),
    "tables.toml makes no sense": (broken("tables.toml", b"[[group]]\nclass = 7\n"), "backup --full"),
    "history is no database": (broken("archive/history.sqlite", b"not a database at all" * 100), "history"),
    "history is no database, on a backup": (broken("archive/history.sqlite", b"junk" * 1000), "backup --full"),
    "the data folder is a file": (lambda home: (shutil.rmtree(home), home.write_text("x"))[0], "backup --full"),
    "the identity is gone": (lambda home: shutil.rmtree(home / "identity"), "status"),
    "the key is damaged": (lambda home: next((home / "identity").glob("*key*")).write_bytes(b"x"), "backup --full"),
    "the roster is damaged": (lambda home: next((home / "shop").glob("roster*")).write_bytes(b"x"), "devices"),
}


@pytest.mark.parametrize("what", sorted(DAMAGE))
def test_a_damaged_data_folder_is_told_in_words(what: str, run: Run, office: Laptop, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(office.home, home)
    damage, line = DAMAGE[what]
    damage(home)
    error = run("--home", str(home), *line.split(), "--json").error
    assert error["code"] != "unexpected", error
    assert error["hint"]


def test_answers_have_the_promised_keys(run: Run, office: Laptop, shops: Shops) -> None:
    def value(*arguments: str) -> Any:
        answer = run("--home", str(office.home), *arguments, "--json")
        assert answer.code == 0, answer
        assert answer.err == ""
        return answer.value

    for each in value("businesses"):
        assert {"id", "name"} <= set(each)
    tables = value("tables")
    assert len(tables) == 143
    for each in tables:
        assert {"class", "origin", "rows", "table"} <= set(each)
    made = value("backup", "--business", "restaurant-abc")
    assert {"kind", "bundle_id", "file", "tables", "rows", "bytes", "seconds", "warnings"} <= set(made)
    assert Path(made["file"]).stat().st_size == made["bytes"]
    inspected = value("inspect", made["file"])
    assert (inspected["valid"], inspected["made_by"]["node_id"]) == (True, office.node_id)
    for more in (("--plan",), ("--yes",)):
        restored = value("restore", made["bundle_id"], *more)
        assert {"inserted", "updated", "unchanged", "kept", "deleted", "tables"} <= set(restored)
        assert restored["unchanged"] == made["rows"]
    compared = value("compare", "--business", "restaurant-abc", "--with", made["file"])
    assert compared["identical"] is True
    assert "tables" in compared
    for each in value("devices"):
        assert {"node_id", "name", "online"} <= set(each)
    assert {"backups", "transfers", "restores"} <= set(value("history"))
    assert value("status")["node_id"] == office.node_id

    other = shops.laptop("laptop-other-001", "shop")
    refused = run("--home", str(other.home), "restore", made["file"], "--yes", "--json").error
    assert refused["code"] == "untrusted-source"
    trusted = run("--home", str(other.home), "restore", made["file"], "--yes", "--trust-source", "--json")
    assert trusted.value["updated"] + trusted.value["inserted"] == 0
    data = Path(made["file"]).read_bytes()
    damaged = Path(made["file"]).with_name("damaged.bundle")
    for content in (data[:-1], data[:1000], data[: len(data) // 2] + b"\0" + data[len(data) // 2 + 1 :], data + b"x"):
        damaged.write_bytes(content)
        before = office.digest()
        for more in ((), ("--trust-source",)):
            error = run("--home", str(office.home), "restore", str(damaged), "--yes", *more, "--json").error
            assert error["code"] not in {"unexpected", "untrusted-source"}
        seen = run("--home", str(office.home), "inspect", str(damaged), "--json")
        assert seen.code == 1
        assert "error" in seen.value or seen.value["valid"] is False
        assert office.digest() == before


def test_a_restore_in_a_script_must_be_told_yes(run: Run, office: Laptop) -> None:
    made = run("--home", str(office.home), "backup", "--full", "--json").value
    error = run("--home", str(office.home), "restore", made["file"], "--json").error
    assert error["code"] == "confirmation-needed"
    assert "--yes" in error["hint"]


def test_a_pipe_has_no_progress_and_plain_words(run: Run, office: Laptop) -> None:
    answer = run("--home", str(office.home), "backup", "--full")
    assert answer.code == 0
    assert answer.err == ""
    assert "\x1b" not in answer.out
    assert "\r" not in answer.out


def test_a_reader_that_leaves_early_is_no_crash(office: Laptop) -> None:
    import subprocess
    import sys

    from tests.support.agents import BACKROOM, ROOT, environment

    line = f"{' '.join(BACKROOM)} --home {office.home} tables | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], env=environment(), capture_output=True, text=True, cwd=ROOT
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert sys.executable


def test_no_secret_is_told(shops: Shops) -> None:
    laptop = shops.laptop("laptop-secret-001", "shop")
    url = laptop.database.dsn.replace("postgresql://shop@", f"postgresql://shop:{SECRET}@")
    answer = backroom("--home", str(laptop.home), "init", "--json", env={"BACKROOM_DATABASE_URL": url})
    assert answer.code == 0
    assert (laptop.home / "config.toml").stat().st_mode & 0o777 == 0o600
    assert SECRET in (laptop.home / "config.toml").read_text()
    shops.shop(laptop)
    said = [answer.out + answer.err]
    for line in ("status", "tables", "backup --full", "history", "businesses", "devices"):
        told = laptop.cli(*line.split())
        assert told.code == 0
        said.append(told.out + told.err)
    with laptop.running() as agent:
        opened = laptop.do("invite", env={"BACKROOM_LISTEN": "127.0.0.1"})
        assert json.dumps(opened["code"])
        agent.wait_for("invitation open")
        code_words = opened["code"].split("-", 1)[1]
        process_line = Path(f"/proc/{agent.process.pid}/cmdline")
        if process_line.exists():
            assert SECRET.encode() not in process_line.read_bytes()
    key = next(iter((laptop.home / "identity").glob("*key*"))).read_text()
    secret_lines = [line for line in key.splitlines() if not line.startswith("-----")]
    everywhere = "\n".join(said) + laptop.logs() + Path(agent.errors.name).read_text()
    for secret in (SECRET, code_words, *secret_lines):
        assert secret not in everywhere
    assert not (laptop.home / "state" / "invite-asked.json").exists()
    for path in laptop.files("archive"):
        content = path.read_bytes()
        assert SECRET.encode() not in content
        assert secret_lines[0].encode() not in content
    for path in laptop.home.rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path
