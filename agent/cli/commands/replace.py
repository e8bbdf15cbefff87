"""``backroom replace``."""

from __future__ import annotations

import asyncio

import click

from agent.cli.output import count, moment
from agent.cli.progress import shown
from agent.cli.run import Session, command


@command(name="replace")
@click.argument("old")
@click.argument("code", nargs=-1)
@click.option("--address", metavar="HOST:PORT", help="Where the invitation is open, if it is not found by itself.")
async def replace(session: Session, old: str, code: tuple[str, ...], address: str | None) -> None:
    """Put this new laptop in the place of OLD, which was lost, stolen or broke down.

    The admin runs `backroom invite --replaces OLD`; this laptop joins with that CODE under an ID of its own, OLD is
    revoked, and the newest backups of OLD that the other laptops hold are restored here. What only OLD's device state
    held does not move. Run it again without the code when more laptops are on.

    \b
      backroom init --database postgresql://... --name laptop-sales-003
      backroom replace laptop-sales-002 7-copper-lantern-violin
    """
    from agent.operations.authority import tell_roster
    from agent.operations.replacing import replace as take_over
    from agent.operations.replacing import replaced_device
    from agent.operations.shops import join_shop
    from agent.operations.workspace import Workspace
    from certs.joining import Inviter

    workspace = Workspace(session.home)
    output = session.output

    async def confirm(inviter: Inviter) -> bool:
        output.say(f"Invited by {inviter.name} ({inviter.short_id}) into {inviter.shop_name}.")
        if not output.interactive:
            return True
        return await asyncio.to_thread(click.confirm, f"Replace {old} there?", default=True, err=True)

    if code:
        await join_shop(workspace, " ".join(code), confirm, address=address)
        await tell_roster(workspace)
        member = await asyncio.to_thread(replaced_device, workspace, old)
        output.say(f"This laptop replaces {member.name} ({member.short_id}), which is revoked.")
    with shown(output) as progress:
        async with workspace.history() as history:
            done = await take_over(workspace, history, old, progress=progress)
    for each in done.taken:
        item = each.found.item
        what = item.business_name or item.kind
        rows = count(each.counts["inserted"] + each.counts["updated"], "row")
        output.say(f"  {what} of {moment(item.created)}, from {each.found.holder.name}: {rows} restored")
    for name in done.silent:
        output.note(f"{name} did not answer; it may hold newer backups. Run `backroom replace {old}` again later.")
    output.result(
        {
            "replaced": {"node_id": done.old.node_id, "name": done.old.name},
            "restored": [each.as_dict() for each in done.taken],
            "not_asked": list(done.silent),
        }
    )
