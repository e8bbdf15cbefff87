"""``backroom push | pull | transfers | cancel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.output import count, duration, size
from agent.cli.progress import shown
from agent.cli.run import FAILED, Session, command

if TYPE_CHECKING:
    from agent.operations.requests import PushMode
    from agent.operations.workspace import Workspace


TERMINAL_SPACE_SECONDS = 1800.0


@command(name="push")
@click.argument("business")
@click.argument("devices", metavar="DEVICE...", nargs=-1)
@click.option("--all", "everywhere", is_flag=True, help="To all other laptops of the shop.")
@click.option("--no-compress", is_flag=True, help="Send the rows as they are.")
@click.option("--fresh", is_flag=True, help="Do not finish an interrupted push first.")
@click.option(
    "--conflicts",
    type=click.Choice(["newer", "bundle"]),
    default="newer",
    show_default=True,
    help="Which row wins over there. With `bundle`, somebody there must say yes.",
)
@click.option("--wait", type=float, default=60.0, show_default=True, help="Seconds to wait for that yes.")
@click.option(
    "--wait-for-space",
    "space",
    type=float,
    metavar="S",
    help="Seconds to wait where the other disk is full.  [default: 1800 on a terminal, else 0]",
)
async def push(
    session: Session,
    business: str,
    devices: tuple[str, ...],
    everywhere: bool,
    no_compress: bool,
    fresh: bool,
    conflicts: PushMode,
    wait: float,
    space: float | None,
) -> int | None:
    """Push BUSINESS (id, name or slug) to DEVICE (name or ID): afterwards it is there, complete.

    Where both laptops have a row, the newer one stays; nothing is deleted over there. What counts is the receipt that
    the other laptop signs. Interrupted? Run it again: it goes on where it stopped.

    With --conflicts bundle the rows of this laptop replace newer ones over there too. That waits for a person there
    (`backroom requests`, `backroom approve`); run the push again to learn what came of it.

    To several laptops it goes as one backup, sent to all at the same time; a laptop that fails keeps no other from it.
    Ctrl+C tells the other laptop, which keeps what it has for the next time; `backroom cancel` throws it away.

    \b
      backroom push "Restaurant ABC" laptop-sales-002
      backroom push "Restaurant ABC" --all
    """
    from agent.heaps import few_heaps
    from agent.operations.transfers import push as send
    from agent.operations.workspace import Workspace

    few_heaps()
    if not devices and not everywhere:
        raise click.UsageError("Say to which laptop: DEVICE, or --all.")
    if devices and everywhere:
        raise click.UsageError("Name laptops, or say --all.")
    workspace = Workspace(session.home)
    if space is None:
        space = TERMINAL_SPACE_SECONDS if session.output.interactive else 0.0
    if everywhere or len(devices) > 1:
        return await _push_to_many(session, workspace, business, devices, not no_compress, conflicts, wait, space)
    (device,) = devices
    with shown(session.output) as progress:
        async with workspace.history() as history:
            done = await send(
                workspace,
                history,
                business,
                device,
                compress=not no_compress,
                fresh=fresh,
                mode=conflicts,
                patience=wait,
                space_seconds=space,
                progress=progress,
            )
    say, totals = session.output.say, done.receipt.totals
    again = " (an interrupted push was finished first)" if done.resumed else ""
    say(f"{done.backup.business_name} is on {done.member.name}{again}: {done.receipt.outcome}.")
    say(
        f"  {count(totals.get('inserted', 0), 'new row')}, {totals.get('updated', 0):,} changed, "
        f"{totals.get('unchanged', 0):,} unchanged, {totals.get('kept', 0):,} kept (newer over there)"
    )
    say(f"  {count(done.backup.records, 'row')}, {size(done.backup.size)}, {duration(done.seconds)}")
    for warning in done.warnings:
        session.output.note(f"Warning: {warning}")
    session.output.result(done.as_dict())
    return None


async def _push_to_many(
    session: Session,
    workspace: Workspace,
    business: str,
    devices: tuple[str, ...],
    compress: bool,
    mode: PushMode,
    wait: float,
    space: float,
) -> int | None:
    from agent.operations.multipush import all_others, push_to_many

    with shown(session.output) as progress:
        async with workspace.history() as history:
            done = await push_to_many(
                workspace,
                history,
                business,
                devices or all_others(workspace),
                compress=compress,
                mode=mode,
                patience=wait,
                space_seconds=space,
                progress=progress,
            )
    say = session.output.say
    for each in done.results:
        if each.pushed is not None:
            say(f"{done.backup.business_name} is on {each.member.name}: {each.pushed.receipt.outcome}.")
        elif each.problem is not None:
            say(f"{each.member.name} does not have it: {each.problem.message} {each.problem.hint}")
    say(f"  {count(done.backup.records, 'row')}, {size(done.backup.size)}, {duration(done.seconds)}")
    for warning in done.warnings:
        session.output.note(f"Warning: {warning}")
    session.output.result(done.as_dict())
    return None if done.complete else FAILED


@command(name="transfers")
async def transfers(session: Session) -> None:
    """List the pushes and pulls that are not over: where they stand, how fast they are, how long they take."""
    from agent.operations.standing import transfers as find
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    async with workspace.history() as history:
        found = await find(workspace, history)
    session.output.table(
        ("ID", "What", "With", "Stands at", "", ""),
        [
            (
                each.id,
                each.what,
                ("to " if each.direction == "sent" else "from ") + each.peer,
                f"{each.phase} {each.text}".strip(),
                f"{size(each.offset)} of {size(each.size)}" if each.size else "",
                f"{size(round(each.rate))}/s, {duration(each.left)} left" if each.left is not None else "",
            )
            for each in found
        ],
    )
    if not found:
        session.output.note("Nothing is on the way.")
    session.output.result([each.as_dict() for each in found])


@command(name="cancel")
@click.argument("transfer")
async def cancel(session: Session, transfer: str) -> None:
    """Cancel TRANSFER (its ID or the beginning of it, see `backroom transfers`) for good, on either side of it.

    What came of it is thrown away. A bundle that is being applied cannot be cancelled any more.
    """
    from agent.operations.standing import cancel as give_up
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    async with workspace.history() as history:
        record = await give_up(workspace, history, transfer)
    way = "to" if record.direction == "sent" else "from"
    session.output.say(f"The transfer of {record.business_name or record.kind} {way} {record.peer_name} is cancelled.")
    session.output.result({"id": record.id, "state": "cancelled", "direction": record.direction})


@command(name="pull")
@click.argument("device")
@click.option("--business", "-b", metavar="B", help="One business of that laptop, by its id, name or slug.")
@click.option("--full", is_flag=True, help="Everything that may go to another laptop (admins only).")
@click.option("--full-device", is_flag=True, help="All of that laptop, to keep for it (admins only).")
@click.option("--no-compress", is_flag=True, help="Send the rows as they are.")
@click.option("--include-demo", is_flag=True, help="Take demo businesses along.")
async def pull(
    session: Session,
    device: str,
    business: str | None,
    full: bool,
    full_device: bool,
    no_compress: bool,
    include_demo: bool,
) -> None:
    """Pull a backup from DEVICE into this laptop's archive, before its hardware is replaced for example.

    Nothing is restored: see `backroom restore`. A full-device backup of another laptop is only kept for it.
    """
    from agent.heaps import few_heaps
    from agent.operations.backups import kind_of
    from agent.operations.pulling import pull as fetch
    from agent.operations.workspace import Workspace

    few_heaps()
    kind = kind_of(full=full, business=business, full_device=full_device)
    if kind is None:
        raise click.UsageError("Say what to pull: one of --business B, --full, --full-device.")
    workspace = Workspace(session.home)
    with shown(session.output) as progress:
        async with workspace.history() as history:
            done = await fetch(
                workspace,
                history,
                device,
                kind,
                business=business,
                include_demo=include_demo,
                compress=not no_compress,
                progress=progress,
            )
    what = done.manifest.business.name if done.manifest.business else kind.value
    session.output.say(
        f"{what} from {done.member.name}: {count(done.manifest.total_rows, 'row')}, {size(done.record.size)}, "
        f"{duration(done.seconds)}, verified"
    )
    session.output.say(f"  {done.file}")
    for warning in done.manifest.warnings:
        session.output.note(f"Warning: {warning}")
    session.output.result(done.as_dict())
