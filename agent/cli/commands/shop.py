"""``backroom shop | invite | join``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from agent.cli.run import Refused, Session, command

if TYPE_CHECKING:
    from certs.joining import Inviter, JoinRequest


@click.group(name="shop")
def shop() -> None:
    """Start a new shop, on the first laptop, which becomes its admin."""


@command(name="create")
@click.argument("name")
async def create(session: Session, name: str) -> None:
    """Found a shop called NAME. This laptop becomes its admin and keeps its authority."""
    from agent.operations.shops import create_shop
    from agent.operations.workspace import Workspace

    made = await asyncio.to_thread(create_shop, Workspace(session.home), name)
    session.output.say(f"The shop {made.shop_name} is founded; this laptop is its admin.")
    session.output.say("Next: `backroom run` here, then `backroom invite` for each other laptop.")
    session.output.result({"shop_id": made.shop_id, "name": made.shop_name, "roster_version": made.roster.version})


shop.add_command(create)


@command(name="invite")
@click.option(
    "--role",
    type=click.Choice(["admin", "member"]),
    default="member",
    show_default=True,
    help="Admins may invite, revoke, and pull full backups.",
)
@click.option("--replaces", metavar="OLD", help="The new laptop takes the place of OLD, which is revoked with that.")
@click.option("--wait", is_flag=True, help="Stay until the laptop has joined, even if the agent runs.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port for this invitation (any free one).")
async def invite(session: Session, role: str, replaces: str | None, wait: bool, port: int) -> None:
    """Invite a laptop: shows a code that is good for five minutes and one laptop, on a terminal as a QR code, too.

    On a terminal you are asked before the laptop is let in. In a script the code itself is the permission: with a
    running agent the command hands the invitation to it and returns at once.
    """
    from agent.cli.qr import drawn
    from agent.operations.network import own_places
    from agent.operations.shops import LIFETIME_SECONDS, invite_by_agent, open_window
    from agent.operations.workspace import Workspace
    from certs.roster import Role

    workspace = Workspace(session.home)
    output = session.output
    old = (await asyncio.to_thread(workspace.store.require_shop)).roster.find(replaces) if replaces else None
    node, verb = (old.node_id, f"replace {old.name}") if old else (None, "join")
    if not (output.interactive or wait or port) and await asyncio.to_thread(session.home.locked, "agent"):
        opened = await invite_by_agent(workspace, Role(role), node)
        if opened is not None:
            code, port = opened
            output.say(f"Code: {code}")
            output.say(f"On the other laptop, within five minutes: backroom {verb} {code}")
            output.result({"code": str(code), "role": role, "port": port, "expires_in": LIFETIME_SECONDS})
            return

    async def approve(request: JoinRequest) -> bool:
        if not output.interactive:
            return True
        output.say(f"{request.name} ({request.short_id}) knows the code. The same ID must be on its screen.")
        return await asyncio.to_thread(click.confirm, f"Let {request.name} in as {role}?", default=False, err=True)

    async with open_window(workspace, Role(role), approve, port=port, replaces=node) as (code, window):
        output.say(f"Code: {code}")
        output.say(f"On the other laptop, within five minutes: backroom {verb} {code}")
        output.note(
            f"Waiting on port {window.port} (--address HOST:{window.port} where laptops do not find each other)."
        )
        if output.interactive:
            here = await asyncio.to_thread(own_places, workspace.config, window.port)
            output.say(drawn(f"backroom {verb} {code} --address {here[0]}"))
        output.result({"code": str(code), "role": role, "port": window.port, "expires_in": LIFETIME_SECONDS})
        joined = await window.joined()
    output.say(f"{joined.name} ({joined.short_id}) has joined.")
    output.result({"joined": {"node_id": joined.node_id, "name": joined.name, "role": role}})


@command(name="join")
@click.argument("code", nargs=-1, required=True)
@click.option("--address", metavar="HOST:PORT", help="Where the invitation is open, if it is not found by itself.")
async def join(session: Session, code: tuple[str, ...], address: str | None) -> None:
    """Join a shop with the CODE that `backroom invite` shows on an admin's laptop."""
    from agent.operations.authority import tell_roster
    from agent.operations.shops import join_shop
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    output = session.output

    async def confirm(inviter: Inviter) -> bool:
        output.say(f"Invited by {inviter.name} ({inviter.short_id}) into {inviter.shop_name}.")
        output.say(f"This laptop is {workspace.config.device_name()} ({workspace.store.identity().short_id}).")
        if not output.interactive:
            return True
        return await asyncio.to_thread(click.confirm, f"Join {inviter.shop_name}?", default=True, err=True)

    try:
        joined, inviter = await join_shop(workspace, " ".join(code), confirm, address=address)
    except KeyboardInterrupt:
        raise Refused("stopped", "Joining was stopped. Nothing was changed.") from None
    await tell_roster(workspace)
    output.say(f"Joined {joined.shop_name}. Next: `backroom run`, and leave it running.")
    output.result(
        {
            "shop_id": joined.shop_id,
            "shop": joined.shop_name,
            "invited_by": {"node_id": inviter.node_id, "name": inviter.name},
            "node_id": workspace.store.identity().node_id,
            "devices": len(joined.roster.members),
        }
    )
