"""``backroom keys``: who may open what leaves this laptop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from agent.cli.passphrase import passphrase, passphrase_option
from agent.cli.run import Session, command


@click.group(name="keys")
def keys() -> None:
    """Who may open backups that leave this laptop: the shop's recovery key, and others."""


@command(name="make")
@passphrase_option
async def make(session: Session, passphrase_file: Path | None) -> None:
    """Make the shop's recovery key, sealed with a passphrase, and prove at once that it opens.

    From then on everything that is delivered is sealed to it. Keep the file and the passphrase in two places away from
    the laptops: together they open every delivered backup, and without them nobody does.
    """
    from agent.operations.keys import make_recovery_key
    from agent.operations.workspace import Workspace

    secret = await passphrase(session, passphrase_file, new=True)
    seen = await make_recovery_key(Workspace(session.home), secret)
    session.output.say(f"Recovery key: {seen.recovery}")
    session.output.say(f"  Sealed in {seen.file}. It was opened once: the passphrase works.")
    session.output.say("  Copy that file away from this laptop, and write the passphrase down elsewhere.")
    session.output.say(f"  On the other laptops: backroom keys add {seen.recovery}")
    session.output.result(seen.as_dict())


@command(name="show")
async def show(session: Session) -> None:
    """Show the recovery key's recipient and the others. No secret is shown."""
    from agent.operations import keys as operations
    from agent.operations.workspace import Workspace

    seen = await asyncio.to_thread(operations.show, Workspace(session.home))
    session.output.say(f"Recovery key  {seen.recovery or 'none: make one with `backroom keys make`'}")
    if seen.recovery:
        session.output.say(f"  sealed in {seen.file}")
    for each in seen.others:
        session.output.say(f"Recipient     {each}")
    if seen.archive:
        session.output.say(f"Archive       {seen.archive}, on this laptop (and in its recovery kit)")
    session.output.result(seen.as_dict())


@command(name="check")
@passphrase_option
async def check(session: Session, passphrase_file: Path | None) -> None:
    """Prove that the passphrase opens the recovery key and the key opens what is sealed to it."""
    from agent.operations.keys import prove_recovery_key
    from agent.operations.workspace import Workspace

    recipient = await prove_recovery_key(Workspace(session.home), await passphrase(session, passphrase_file))
    session.output.say(f"The recovery key works: {recipient}")
    session.output.result({"ok": True, "recovery": recipient})


@command(name="add")
@click.argument("recipient")
async def add(session: Session, recipient: str) -> None:
    """Let RECIPIENT (age1...) open what leaves this laptop too."""
    from agent.operations.keys import add_recipient
    from agent.operations.workspace import Workspace

    found = await asyncio.to_thread(add_recipient, Workspace(session.home), recipient)
    session.output.say(f"Deliveries are sealed to {len(found)} recipients beside the recovery key.")
    session.output.result({"recipients": list(found)})


@command(name="remove")
@click.argument("recipient")
async def remove(session: Session, recipient: str) -> None:
    """No longer seal to RECIPIENT. What was sealed before still opens with it."""
    from agent.operations.keys import remove_recipient
    from agent.operations.workspace import Workspace

    found = await asyncio.to_thread(remove_recipient, Workspace(session.home), recipient)
    session.output.say(f"Deliveries are sealed to {len(found)} recipients beside the recovery key.")
    session.output.result({"recipients": list(found)})


for each in (make, show, check, add, remove):
    keys.add_command(each)
