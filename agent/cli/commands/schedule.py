"""``backroom schedule add | list | on | off | remove | run-now``."""

from __future__ import annotations

import asyncio

import click

from agent.cli.output import moment
from agent.cli.run import FAILED, Session, command

TASKS = ("backup", "push", "verify", "drill", "prune")


@click.group(name="schedule")
def schedule() -> None:
    """What the agent does by itself: backups, standing pushes, checks, drills, pruning."""


@command(name="add")
@click.argument("name")
@click.argument("task", type=click.Choice(TASKS))
@click.option("--at", multiple=True, metavar="HH:MM", help="A time of day here (21:00); may be repeated.")
@click.option("--on", "days", multiple=True, metavar="DAY", help="A weekday (mon) or day of the month (1).")
@click.option("--full", "kind", flag_value="full", help="backup: everything that may go to another laptop.")
@click.option("--full-device", "kind", flag_value="full-device", help="backup: all of this laptop.")
@click.option("--business", "-b", metavar="B", help="backup, push: one business, by its id, name or slug.")
@click.option("--to", "device", metavar="DEVICE", help="push: the laptop, by its name or ID.")
@click.option("--when-online", is_flag=True, help="push: also whenever the laptop comes back online.")
@click.option("--jitter", type=click.IntRange(0, 720), default=0, metavar="MINUTES", help="Start within so many.")
@click.option("--alarm", type=click.IntRange(1, 8760), default=12, metavar="HOURS", help="Missing so long is an alarm.")
async def add(
    session: Session,
    name: str,
    task: str,
    at: tuple[str, ...],
    days: tuple[str, ...],
    kind: str | None,
    business: str | None,
    device: str | None,
    when_online: bool,
    jitter: int,
    alarm: int,
) -> None:
    """Add NAME: do TASK by itself.

    \b
      backroom schedule add nightly backup --full
      backroom schedule add restaurant push -b "Restaurant ABC" --to laptop-sales-002 --when-online
      backroom schedule add weekly drill --on sun --at 04:00
    """
    from agent.operations.scheduling import add_entry

    if task == "backup" and kind is None and business is not None:
        kind = "business"
    entry = await asyncio.to_thread(
        lambda: add_entry(
            session.home,
            name=name,
            task=task,
            at=at or ("21:00",),
            days=days,
            kind=kind,
            business=business,
            device=device,
            when_online=when_online,
            jitter_minutes=jitter,
            alarm_hours=alarm,
        )
    )
    session.output.say(f"{name}: added. The running agent takes it up by itself (`backroom run`).")
    session.output.result(entry)


@command(name="list")
async def show(session: Session) -> int | None:
    """Show the schedule: when each was last done, when it is next, what is missing. Exits with 1 where one is."""
    from agent.operations.workspace import Workspace
    from agent.schedule.seen import Seen

    found = await Seen().look(Workspace(session.home))
    rows, values = [], []
    for each in found:
        ran = each.last.state if each.last else "never yet"
        state = "MISSING" if each.missing else "off" if each.entry.off else ran
        told = f": {each.last.error}" if each.last and each.last.error else ""
        done = moment(each.succeeded) if each.succeeded else "never"
        rows.append((each.entry.name, each.what, done, moment(each.next) if each.next else "never", state + told))
        last = each.last
        values.append(
            {
                **each.entry.model_dump(mode="json"),
                "succeeded": each.succeeded,
                "next": each.next,
                "missing": each.missing,
                "failures": each.failures,
                "last": {"state": last.state, "detail": last.detail, "error": last.error} if last else None,
            }
        )
    if rows:
        session.output.table(("Name", "What", "Last done", "Next", "State"), rows)
    else:
        session.output.say("Nothing is scheduled: see `backroom schedule add --help`.")
    session.output.result(values)
    return FAILED if any(each.missing for each in found) else None


@command(name="remove")
@click.argument("name")
async def remove(session: Session, name: str) -> None:
    """Take NAME out of the schedule. Backups that it has made stay where they are."""
    from agent.operations.scheduling import remove_entry

    await asyncio.to_thread(remove_entry, session.home, name)
    session.output.say(f"{name}: removed.")
    session.output.result({"removed": name})


@command(name="off")
@click.argument("name")
async def off(session: Session, name: str) -> None:
    """Switch NAME off: it stays in the schedule and is not done until it is switched on again."""
    await _switch(session, name, on=False)


@command(name="on")
@click.argument("name")
async def on(session: Session, name: str) -> None:
    """Switch NAME on again: it is due from now on, and what it missed meanwhile is not made up for."""
    await _switch(session, name, on=True)


async def _switch(session: Session, name: str, *, on: bool) -> None:
    from agent.operations.scheduling import switch_entry

    await asyncio.to_thread(lambda: switch_entry(session.home, name, on=on))
    state = "on" if on else "off"
    session.output.say(f"{name}: {state}.")
    session.output.result({state: name})


@command(name="run-now")
@click.argument("name")
async def run_now(session: Session, name: str) -> int | None:
    """Do what NAME says now, and wait for it. Exits with 1 where it fails."""
    from agent.archive.records import DONE
    from agent.operations.workspace import Workspace
    from agent.schedule.seen import Seen

    record = await Seen().run(Workspace(session.home), name)
    session.output.say(f"{record.entry}: {record.state}. {record.detail or record.error or ''}")
    session.output.result(
        {
            "entry": record.entry,
            "state": record.state,
            "detail": record.detail,
            "error": {"code": record.error_code, "message": record.error} if record.error else None,
        }
    )
    return None if record.state == DONE else FAILED


for each in (add, show, on, off, remove, run_now):
    schedule.add_command(each)
