"""``backroom schedule add | list | remove | run-now``."""

from __future__ import annotations

import asyncio

import click

from agent.cli.output import moment
from agent.cli.run import FAILED, Refused, Session, command

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
    from agent.config import change, load
    from agent.operations.workspace import utc_now

    if task == "backup" and kind is None and business is not None:
        kind = "business"
    entry: dict[str, object] = {
        "name": name,
        "task": task,
        "at": at or ("21:00",),
        "days": days,
        "kind": kind,
        "business": business,
        "device": device,
        "when_online": when_online,
        "jitter_minutes": jitter,
        "alarm_hours": alarm,
        "added": utc_now().replace(microsecond=0),
    }

    def work() -> None:
        before = load(session.home, {})
        change(session.home, schedule=(*(each.model_dump() for each in before.schedule), entry))

    await asyncio.to_thread(work)
    session.output.say(f"{name}: added. The running agent takes it up by itself (`backroom run`).")
    session.output.result(entry)


@command(name="list")
async def show(session: Session) -> int | None:
    """Show the schedule: when each was last done, when it is next, what is missing. Exits with 1 where one is."""
    from agent.operations.workspace import Workspace, utc_now
    from agent.schedule.due import Past, missing, next_slot
    from agent.schedule.tasks import entry_of, pasts
    from agent.zone import LOCAL

    workspace = Workspace(session.home)
    now = utc_now()
    async with workspace.history() as history:
        known = await pasts(history, now)
        last = {each.name: await history.runs(entry=each.name, limit=1) for each in workspace.config.schedule}
    entries = {each.name: entry_of(each) for each in workspace.config.schedule}
    late = {each.entry.name for each in missing(entries.values(), known, now=now, zone=LOCAL, awake_since=None)}
    rows, values = [], []
    for each in workspace.config.schedule:
        past = known.get(each.name, Past())
        following = next_slot(entries[each.name], now, LOCAL)
        runs = last[each.name]
        what = " ".join(filter(None, (each.task, each.kind, each.business, each.device and f"to {each.device}")))
        state = "MISSING" if each.name in late else runs[0].state if runs else "never yet"
        told = f": {runs[0].error}" if runs and runs[0].error else ""
        done = moment(past.succeeded) if past.succeeded else "never"
        rows.append((each.name, what, done, moment(following) if following else "never", state + told))
        values.append(
            {
                **each.model_dump(mode="json"),
                "succeeded": past.succeeded,
                "next": following,
                "missing": each.name in late,
                "failures": past.failures,
                "last": {"state": runs[0].state, "detail": runs[0].detail, "error": runs[0].error} if runs else None,
            }
        )
    if rows:
        session.output.table(("Name", "What", "Last done", "Next", "State"), rows)
    else:
        session.output.say("Nothing is scheduled: see `backroom schedule add --help`.")
    session.output.result(values)
    return FAILED if late else None


@command(name="remove")
@click.argument("name")
async def remove(session: Session, name: str) -> None:
    """Take NAME out of the schedule. Backups that it has made stay where they are."""
    from agent.config import change, load

    def work() -> bool:
        before = load(session.home, {}).schedule
        left = [each.model_dump() for each in before if each.name.lower() != name.lower()]
        if len(left) < len(before):
            change(session.home, schedule=tuple(left))
        return len(left) < len(before)

    if not await asyncio.to_thread(work):
        raise Refused("no-such-entry", f"There is no {name!r} in the schedule.", "See `backroom schedule list`.")
    session.output.say(f"{name}: removed.")
    session.output.result({"removed": name})


@command(name="run-now")
@click.argument("name")
async def run_now(session: Session, name: str) -> int | None:
    """Do what NAME says now, and wait for it. Exits with 1 where it fails."""
    from agent.archive.records import DONE
    from agent.operations.workspace import Workspace
    from agent.schedule.tasks import run_entry

    workspace = Workspace(session.home)
    entry = next((each for each in workspace.config.schedule if each.name.lower() == name.lower()), None)
    if entry is None:
        raise Refused("no-such-entry", f"There is no {name!r} in the schedule.", "See `backroom schedule list`.")
    async with workspace.history() as history:
        record = await run_entry(workspace, history, entry)
    session.output.say(f"{entry.name}: {record.state}. {record.detail or record.error or ''}")
    session.output.result(
        {
            "entry": entry.name,
            "state": record.state,
            "detail": record.detail,
            "error": {"code": record.error_code, "message": record.error} if record.error else None,
        }
    )
    return None if record.state == DONE else FAILED


for each in (add, show, remove, run_now):
    schedule.add_command(each)
