"""``backroom requests | approve | decline | permissions``."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import click

from agent.cli.output import moment
from agent.cli.run import Refused, Session, command

if TYPE_CHECKING:
    from agent.operations.requests import Request, Requests

_COUNTS = ("inserted", "updated", "unchanged", "kept", "deleted")


def _open(session: Session) -> Requests:
    from agent.operations.requests import Requests

    return Requests(session.home)


@command(name="requests")
@click.option("--all", "everything", is_flag=True, help="Also those of the last month that are over.")
async def requests(session: Session, everything: bool) -> None:
    """List what waits for your yes on this laptop: pushes that replace rows here, renewals of ended certificates."""
    from agent.operations.requests import WAITING

    known = await asyncio.to_thread(_open(session).all)
    listed = [each for each in known if everything or each.state == WAITING]
    session.output.table(
        ("ID", "State", "From", "Until", ""),
        [
            (each.id, each.state, each.device, moment(datetime.fromisoformat(each.expires)), _text(each))
            for each in listed
        ],
    )
    if not listed:
        session.output.say("Nothing waits.")
    session.output.result([each.as_dict() for each in listed])


def _text(request: Request) -> str:
    counts = [f"{request.plan[name]:,} {name}" for name in _COUNTS if request.plan.get(name)]
    return request.text + (f" ({', '.join(counts)})" if counts else "")


@command(name="approve")
@click.argument("request")
@click.option("--always", is_flag=True, help="From now on do not ask for this laptop and business.")
async def approve(session: Session, request: str, always: bool) -> None:
    """Say yes to REQUEST (an ID that `backroom requests` shows). What is done is exactly the plan shown there."""
    book = _open(session)
    if always and (await asyncio.to_thread(book.get, request)).what != "push":
        raise Refused("not-a-push", "Only pushes can be permitted for good.", "Leave out --always.")
    done = await asyncio.to_thread(lambda: book.answer(request, yes=True))
    if always:
        from agent.operations.requests import BUNDLE

        await asyncio.to_thread(book.permit, done, BUNDLE)
    session.output.say(f"Approved: {done.text}")
    session.output.result(done.as_dict())


@command(name="decline")
@click.argument("request")
async def decline(session: Session, request: str) -> None:
    """Say no to REQUEST. Nothing is changed here; the other laptop is told."""
    done = await asyncio.to_thread(lambda: _open(session).answer(request, yes=False))
    session.output.say(f"Declined: {done.text}")
    session.output.result(done.as_dict())


@command(name="permissions")
@click.option("--forget", metavar="DEVICE", help="Take the permissions of this laptop back.")
@click.option("--business", "-b", metavar="B", help="With --forget: only that of one business.")
async def permissions(session: Session, forget: str | None, business: str | None) -> None:
    """List the standing permissions (`backroom approve --always`), or take them back."""
    from agent.operations.workspace import Workspace

    book = _open(session)
    if forget is not None:
        member = (await asyncio.to_thread(Workspace(session.home).store.require_shop)).roster.find(forget)
        gone = await asyncio.to_thread(book.forbid, member.node_id, business)
        session.output.say(f"{member.name} is asked about again ({gone} taken back).")
        session.output.result({"node_id": member.node_id, "taken_back": gone})
        return
    given = await asyncio.to_thread(book.permissions)
    session.output.table(
        ("From", "Business", "Given by", "On"),
        [(each.device, each.business, each.given_by, moment(datetime.fromisoformat(each.given_at))) for each in given],
    )
    if not given:
        session.output.note("No laptop may replace newer rows here without being asked.")
    session.output.result(
        [
            {
                "node_id": each.node_id,
                "device": each.device,
                "business": each.business,
                "id": each.business_id,
                "mode": each.mode,
                "given_by": each.given_by,
                "given_at": each.given_at,
            }
            for each in given
        ]
    )
