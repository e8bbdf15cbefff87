"""Who may do what with which business: the roster's limits, as sentences. Used on both sides of every exchange."""

from __future__ import annotations

from agent.operations.errors import OperationError
from certs.errors import TrustError
from certs.roster import Limits, Right, Roster
from protocol.manifest import Kind

_VERBS = {Right.OFFER: "offer", Right.TAKE: "receive", Right.GIVE: "give away"}


class NotAllowed(OperationError):
    code = "not-allowed"
    hint = "Ask an admin of the shop; `backroom devices` shows what each laptop may do."


def require(name: str, limits: Limits, right: Right, business: str | None, what: str) -> None:
    """Raise :class:`NotAllowed` unless a device may do it. ``business`` None is everything at once."""
    if not limits.allows(right, business):
        raise NotAllowed(f"{name} may not {_VERBS[right]} {what}: the shop's admin has limited it.")


def require_push(roster: Roster, sender: str, receiver: str, business: str | None, what: str) -> None:
    """Whether one device (node ID) may push a business to another. Raises :class:`NotAllowed`."""
    try:
        source, target = roster.require(sender), roster.require(receiver)
    except TrustError as error:
        raise NotAllowed(str(error), error.hint) from error
    require(source.name, source.limits, Right.OFFER, business, what)
    require(target.name, target.limits, Right.TAKE, business, what)


def require_pull(roster: Roster, puller: str, giver: str, kind: Kind, business: str | None, what: str) -> None:
    """Whether one device may pull a backup from another. Raises :class:`NotAllowed` and ``TrustError``."""
    source, target = roster.require(giver), roster.require(puller)
    if kind is not Kind.BUSINESS and not target.admin:
        raise NotAllowed(f"{target.name} may not pull a {kind.value} backup: only admins may.")
    wanted = business if kind is Kind.BUSINESS else None
    require(target.name, target.limits, Right.TAKE, wanted, what)
    require(source.name, source.limits, Right.GIVE, wanted, what)


def may_see(one: Limits, other: Limits, business: str) -> bool:
    """Whether a device (``one``) may know of a business here, and compare it: it may take it or offer it."""
    takes = one.allows(Right.TAKE, business) and other.allows(Right.GIVE, business)
    offers = one.allows(Right.OFFER, business) and other.allows(Right.TAKE, business)
    return takes or offers


def require_compare(name: str, asking: Limits, own: Limits, business: str) -> None:
    """Raise :class:`NotAllowed` unless the device ``name`` may know what is in this business here."""
    if not may_see(asking, own, business):
        raise NotAllowed(f"{name} may not compare this business: the shop's admin has limited it.")
