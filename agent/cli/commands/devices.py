"""``backroom devices | revoke``."""

from __future__ import annotations

import asyncio

import click

from agent.cli.output import moment
from agent.cli.run import Refused, Session, command


@command(name="devices")
@click.option("--wait", type=float, default=4.0, show_default=True, help="Seconds to wait for answers.")
async def devices(session: Session, wait: float) -> None:
    """List the laptops of the shop, and which of them answer now."""
    from agent.operations.devices import devices as find
    from agent.operations.workspace import Workspace

    found = await find(Workspace(session.home), within=wait)
    session.output.table(
        ("Laptop", "ID", "Role", "Now", ""),
        [
            (
                each.member.name + (" (this laptop)" if each.this else ""),
                each.member.short_id,
                each.member.role.value,
                "online" if each.online else each.member.status.value if not each.member.active else "offline",
                each.why_not,
            )
            for each in found
        ],
    )
    session.output.result([each.as_dict() for each in found])


@command(name="revoke")
@click.argument("device")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
async def revoke(session: Session, device: str, yes: bool) -> None:
    """Shut DEVICE (name or ID) out of the shop, at once and for good: a stolen or sold laptop.

    Works on the laptop that keeps the shop's authority. The revoked laptop keeps the data that it has.
    """
    from agent.operations.devices import revoke as shut_out
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    output = session.output
    member = (await asyncio.to_thread(workspace.store.require_shop)).roster.find(device)
    if output.interactive and not yes:
        question = f"Shut {member.name} ({member.short_id}) out of the shop? It can only come back by a new invitation."
        if not await asyncio.to_thread(click.confirm, question, default=False, err=True):
            raise Refused("declined", "Nothing was changed.")
    done = await shut_out(workspace, member.node_id)
    output.say(f"{done.member.name} is revoked since {moment(done.at)} (roster {done.roster_version}).")
    output.say(f"Told: {', '.join(done.told) or 'nobody yet; others learn it when they are online'}.")
    output.result(
        {
            "node_id": done.member.node_id,
            "name": done.member.name,
            "status": "revoked",
            "roster_version": done.roster_version,
            "told": list(done.told),
        }
    )
