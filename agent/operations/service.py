"""The agent as a service of this user: installed, looked at, removed. The data folder is never touched by this."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config import load_early
from agent.home import Home
from agent.locks import FileLock
from agent.operations import service_files as files
from agent.operations.errors import OperationError
from agent.operations.service_files import Command, Program, shell_line

_COMMAND_SECONDS = 60.0
_WAIT_SECONDS = 40.0
_STEP = 0.1


class ServiceFailed(OperationError):
    code = "service-failed"
    hint = "`backroom service install --print` shows what would be done: you can do it by hand."


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one system has it: the file (with its encoding), what is run to install, to look, to remove.

    ``before`` may fail; ``probe`` and ``install`` must work, the first before anything is stopped; ``extra`` may be
    refused (Windows asks for an administrator), and is shown then.
    """

    system: str
    file: Path
    text: str
    encoding: str
    install: tuple[Command, ...]
    active: Command
    remove: tuple[Command, ...]
    probe: tuple[Command, ...] = ()
    before: tuple[Command, ...] = ()
    extra: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()

    def as_text(self) -> str:
        """Everything that ``install`` does, for people who would rather do it themselves."""
        windows = self.system == "windows"
        lines = [f"{self.file}:", "", *self.text.rstrip("\n").splitlines(), "", "then:"]
        lines += [f"  {shell_line(each, windows=windows)}" for each in (*self.probe, *self.install, *self.extra)]
        lines += ["", "to remove it:"]
        return "\n".join([*lines, *(f"  {shell_line(each, windows=windows)}" for each in (*self.remove, *self.after))])


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """``installed``: its file is there; ``active``: the system says that it runs; ``running``: an agent runs here, as a
    service or not. ``todo``: commands that this user was not allowed to run."""

    system: str
    file: str
    installed: bool
    active: bool
    running: bool
    todo: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        return {
            "system": self.system,
            "file": self.file,
            "installed": self.installed,
            "active": self.active,
            "running": self.running,
            "todo": list(self.todo),
        }


def recipe(home: Home, system: str | None = None) -> Recipe:
    """What this computer's system wants (or ``linux``, ``macos``, ``windows``: for showing)."""
    here = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    program = Program(sys.executable, str(home.path), _user())
    return for_system(system or here, program, home, Path.home(), load_early(home).port or 47600)


def for_system(system: str, program: Program, home: Home, user_folder: Path, port: int) -> Recipe:
    """The recipe from its parts alone; nothing is looked up."""
    if system == "windows":
        quiet = program.python.replace("python.exe", "pythonw.exe")
        file = home.state / "service.xml"
        return Recipe(
            system,
            file,
            files.windows_task(Program(quiet, program.home, program.user)),
            "utf-16",
            before=(("schtasks", "/End", "/TN", files.TASK), *files.windows_firewall_removal()),
            install=(
                ("schtasks", "/Create", "/TN", files.TASK, "/XML", str(file), "/F"),
                ("schtasks", "/Run", "/TN", files.TASK),
            ),
            extra=files.windows_firewall(quiet, port),
            active=("schtasks", "/Query", "/TN", files.TASK),
            remove=(("schtasks", "/End", "/TN", files.TASK), ("schtasks", "/Delete", "/TN", files.TASK, "/F")),
            after=files.windows_firewall_removal(),
        )
    if system == "macos":
        file = user_folder / "Library" / "LaunchAgents" / f"{files.LABEL}.plist"
        domain = f"gui/{os.getuid() if hasattr(os, 'getuid') else 501}"
        gone: tuple[Command, ...] = (("launchctl", "bootout", f"{domain}/{files.LABEL}"),)
        return Recipe(
            system,
            file,
            files.launchd_plist(program),
            "utf-8",
            before=gone,
            install=(("launchctl", "bootstrap", domain, str(file)),),
            active=("launchctl", "print", f"{domain}/{files.LABEL}"),
            remove=gone,
        )
    unit = f"{files.NAME}.service"
    return Recipe(
        "linux",
        user_folder / ".config" / "systemd" / "user" / unit,
        files.systemd_unit(program),
        "utf-8",
        probe=(("systemctl", "--user", "daemon-reload"),),
        install=(("systemctl", "--user", "enable", unit), ("systemctl", "--user", "restart", unit)),
        active=("systemctl", "--user", "is-active", "--quiet", unit),
        remove=(("systemctl", "--user", "disable", "--now", unit),),
        after=(("systemctl", "--user", "daemon-reload"),),
    )


async def install(home: Home) -> ServiceSeen:
    """Install the service, or renew it after an update; an agent that runs without it is stopped first.

    Raises :class:`ServiceFailed` with the system's own words; then nothing of it stays.
    """
    plan = recipe(home)
    await asyncio.to_thread(home.ensure)
    new = not await asyncio.to_thread(plan.file.exists)
    await asyncio.to_thread(_write, plan)
    try:
        for command in plan.probe:
            await _must(command)
        for command in plan.before:
            await _run(command)
        if new:
            await _stop_agent(home)
        for command in plan.install:
            await _must(command)
    except BaseException:
        if new:
            await asyncio.to_thread(plan.file.unlink, missing_ok=True)
        raise
    await _until(home, locked=True)
    windows = plan.system == "windows"
    refused = [each for each in plan.extra if (await _run(each))[0] != 0]
    return await look(home, todo=tuple(shell_line(each, windows=windows) for each in refused))


async def look(home: Home, *, todo: tuple[str, ...] = ()) -> ServiceSeen:
    """How it stands."""
    plan = recipe(home)
    installed = await asyncio.to_thread(plan.file.exists)
    active = installed and (await _run(plan.active))[0] == 0
    running = await asyncio.to_thread(home.locked, "agent")
    return ServiceSeen(plan.system, str(plan.file), installed, active, running, todo)


async def remove(home: Home) -> ServiceSeen:
    """Stop the service and take it out. The data folder with its backups stays as it is.

    Raises :class:`ServiceFailed`.
    """
    plan = recipe(home)
    if await asyncio.to_thread(plan.file.exists):
        *before, last = plan.remove
        for command in before:
            await _run(command)
        await _must(last)
        await asyncio.to_thread(plan.file.unlink, missing_ok=True)
    windows = plan.system == "windows"
    failed = [each for each in plan.after if (await _run(each))[0] != 0]
    return await look(home, todo=tuple(shell_line(each, windows=windows) for each in failed) if windows else ())


def _write(plan: Recipe) -> None:
    plan.file.parent.mkdir(parents=True, exist_ok=True)
    temporary = plan.file.with_name(f".{plan.file.name}.{os.getpid()}")
    temporary.write_text(plan.text, encoding=plan.encoding)
    temporary.replace(plan.file)


async def _must(command: Sequence[str]) -> None:
    code, words = await _run(command)
    if code != 0:
        raise ServiceFailed(f"`{shell_line(command, windows=False)}` ended with {code}: {words or 'no words'}")


async def _run(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and words of a program of the system; 127 where it is not there."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 127, f"{error.strerror}."
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 124, f"No end after {_COMMAND_SECONDS:g} seconds."
    return process.returncode or 0, out.decode(errors="replace").strip()


async def _stop_agent(home: Home) -> None:
    """Ask an agent that runs on this data folder to end, and wait for it. Raises :class:`ServiceFailed`."""
    if not await asyncio.to_thread(home.locked, "agent"):
        return
    pid = await asyncio.to_thread(FileLock(home.state / "agent.lock").holder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    if not await _until(home, locked=False):
        raise ServiceFailed("The agent that runs here does not end.", "Stop `backroom run` and try again.")


async def _until(home: Home, *, locked: bool) -> bool:
    """Wait until an agent runs here, or none does; whether it came to that."""
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while await asyncio.to_thread(home.locked, "agent") is not locked:  # noqa: ASYNC110 - another process ends it
                await asyncio.sleep(_STEP)
    except TimeoutError:
        return False
    return True


def _user() -> str:
    """The user as the system's tasks name one."""
    domain = os.environ.get("USERDOMAIN", "")
    return f"{domain}\\{getpass.getuser()}" if domain else getpass.getuser()
