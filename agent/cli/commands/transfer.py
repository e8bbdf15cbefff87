"""``backroom push | pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.output import count, duration, size
from agent.cli.progress import shown
from agent.cli.run import Session, command

if TYPE_CHECKING:
    from agent.operations.requests import PushMode


@command(name="push")
@click.argument("business")
@click.argument("device")
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
async def push(
    session: Session, business: str, device: str, no_compress: bool, fresh: bool, conflicts: PushMode, wait: float
) -> None:
    """Push BUSINESS (id, name or slug) to DEVICE (name or ID): afterwards it is there, complete.

    Where both laptops have a row, the newer one stays; nothing is deleted over there. What counts is the receipt that
    the other laptop signs. Interrupted? Run it again: it goes on where it stopped.

    With --conflicts bundle the rows of this laptop replace newer ones over there too. That waits for a person there
    (`backroom requests`, `backroom approve`); run the push again to learn what came of it.

    \b
      backroom push "Restaurant ABC" laptop-sales-002
    """
    from agent.operations.transfers import push as send
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
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
    from agent.operations.backups import kind_of
    from agent.operations.transfers import pull as fetch
    from agent.operations.workspace import Workspace

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
