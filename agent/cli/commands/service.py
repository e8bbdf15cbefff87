"""``backroom service install | status | remove``."""

from __future__ import annotations

import asyncio

import click

from agent.cli.run import FAILED, Session, command

SYSTEMS = ("linux", "macos", "windows")


@click.group(name="service")
def service() -> None:
    """Have the agent run whenever you are logged in to this computer."""


@command(name="install")
@click.option("--print", "only_print", is_flag=True, help="Show the file and the commands, and do nothing.")
@click.option("--system", type=click.Choice(SYSTEMS), help="With --print: for another system than this one.")
async def install(session: Session, only_print: bool, system: str | None) -> None:
    """Install the agent as a service of this user (Linux: systemd, macOS: launchd, Windows: a scheduled task).

    Run it again after an update of Backroom. An agent that runs already is stopped, and the service takes its place. On
    Windows, rules for the firewall let others reach it on private networks; they need an administrator.
    """
    from agent.operations import service as operations

    output = session.output
    if only_print or system:
        found = await asyncio.to_thread(operations.recipe, session.home, system)
        output.say(found.as_text())
        output.result({"system": found.system, "file": str(found.file), "text": found.text})
        return
    seen = await operations.install(session.home)
    output.say(f"The agent runs, and will whenever you are logged in ({seen.file}).")
    for line in seen.todo:
        output.note(f"As an administrator, run: {line}")
    output.result(seen.as_dict())


@command(name="status")
async def status(session: Session) -> int | None:
    """Show whether the service is installed and runs. Exits with 1 where it does not."""
    from agent.operations import service as operations

    seen = await operations.look(session.home)
    state = "installed and running" if seen.active else "installed, not running" if seen.installed else "not installed"
    session.output.say(f"Service: {state}." + (" An agent runs." if seen.running and not seen.active else ""))
    session.output.result(seen.as_dict())
    return None if seen.active else FAILED


@command(name="remove")
async def remove(session: Session) -> None:
    """Stop the service and remove it. Settings, identity and backups stay: they are in the data folder."""
    from agent.operations import service as operations

    seen = await operations.remove(session.home)
    session.output.say(f"The service is removed. Your data stays in {session.home.path}.")
    for line in seen.todo:
        session.output.note(f"As an administrator, run: {line}")
    session.output.result(seen.as_dict())


for each in (install, status, remove):
    service.add_command(each)
