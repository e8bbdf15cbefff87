"""``backroom devices | device set | revoke | clone resolve``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from agent.cli.output import moment
from agent.cli.run import Refused, Session, command

if TYPE_CHECKING:
    from agent.operations.governing import Governed


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
                each.remark,
            )
            for each in found
        ],
    )
    session.output.result([each.as_dict() for each in found])


@click.group(name="device")
def device() -> None:
    """Change what a laptop is and may do in the shop (on a laptop that holds the authority)."""


@command(name="set")
@click.argument("device")
@click.option("--role", type=click.Choice(["admin", "member"]), help="Admins may invite, revoke, pull full backups.")
@click.option("--label", metavar="TEXT", help="A note that all see beside its name; '' for none.")
@click.option("--may-offer", multiple=True, metavar="B", help="A business that it may push to others (repeat it).")
@click.option("--may-take", multiple=True, metavar="B", help="A business that it may receive or pull (repeat it).")
@click.option("--may-give", multiple=True, metavar="B", help="A business that others may pull from it (repeat it).")
async def set_device(
    session: Session,
    device: str,
    role: str | None,
    label: str | None,
    may_offer: tuple[str, ...],
    may_take: tuple[str, ...],
    may_give: tuple[str, ...],
) -> None:
    """Set role, label and limits of DEVICE (name or ID). What is not given stays.

    A limit names all the businesses that the laptop may offer, take or give; "all" is no limit, "none" is nothing. A
    laptop with a limit on taking or giving is out of full backups.

    \b
      backroom device set laptop-sales-002 --label "Front desk" --may-take "Restaurant ABC" --may-give none
    """
    from agent.operations.governing import set_device as change
    from agent.operations.workspace import Workspace
    from certs.roster import Right, Role

    given = {Right.OFFER: may_offer, Right.TAKE: may_take, Right.GIVE: may_give}
    done = await change(
        Workspace(session.home),
        device,
        role=Role(role) if role else None,
        label=label,
        may={right: texts for right, texts in given.items() if texts},
    )
    _say(session, done, f"{done.member.name} is changed")


device.add_command(set_device)


@click.group(name="clone")
def clone() -> None:
    """Settle a clone alarm: one laptop's ID that was at work in two places."""


@command(name="resolve")
@click.argument("device")
async def resolve(session: Session, device: str) -> None:
    """Settle the alarm about DEVICE on all laptops, once only one of the two is left.

    If you cannot tell which is the right one, revoke it instead and let the laptop join anew.
    """
    from agent.operations.governing import resolve_clone
    from agent.operations.workspace import Workspace

    done = await resolve_clone(Workspace(session.home), device)
    _say(session, done, f"The alarm about {done.member.name} is settled")


clone.add_command(resolve)


def _say(session: Session, done: Governed, what: str) -> None:
    session.output.say(f"{what} (roster {done.roster_version}).")
    session.output.say(f"Told: {', '.join(done.told) or 'nobody yet; others learn it when they are online'}.")
    session.output.result(done.as_dict())


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
