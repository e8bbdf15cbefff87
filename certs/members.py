"""One device of the shop as the roster lists it: role, status, label and limits. Format: TRUST.md, "Roster"."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from certs import keys
from certs.errors import Malformed
from certs.identity import check_name
from certs.wire import Fields, checked

MAX_LIMIT = 500
"""Businesses in one limit."""
MAX_BUSINESS_ID = 100
MAX_CLEARED = 1 << 31
LAST_SECOND = 253_402_300_799
"""9999-12-31 23:59:59 UTC."""
_LIMIT = (list, type(None))
_MEMBER: Fields = {
    "node_id": str,
    "name": str,
    "role": str,
    "status": str,
    "added": int,
    "replaces": (str, type(None)),
    "label": str,
    "may_offer": _LIMIT,
    "may_take": _LIMIT,
    "may_give": _LIMIT,
    "cleared": int,
}


class Role(StrEnum):
    """What a device may do: an admin may invite, revoke, and pull full backups."""

    ADMIN = "admin"
    MEMBER = "member"


class Status(StrEnum):
    """Whether a device belongs to the shop now. Revoked devices stay listed, so that they are named when they knock."""

    ACTIVE = "active"
    REVOKED = "revoked"


class Right(StrEnum):
    """What a limit is about: pushing a business to others, receiving it, letting others pull it from this device."""

    OFFER = "offer"
    TAKE = "take"
    GIVE = "give"


@dataclass(frozen=True, slots=True)
class Limits:
    """The businesses (their IDs) that a device may offer, take and give. None is no limit, an empty set is nothing."""

    offer: frozenset[str] | None = None
    take: frozenset[str] | None = None
    give: frozenset[str] | None = None

    def of(self, right: Right) -> frozenset[str] | None:
        """The limit of one right."""
        match right:
            case Right.OFFER:
                return self.offer
            case Right.TAKE:
                return self.take
            case Right.GIVE:
                return self.give

    def allows(self, right: Right, business: str | None) -> bool:
        """Whether the device may do it with this business. None is all businesses at once (a full backup)."""
        limit = self.of(right)
        return limit is None or (business is not None and business in limit)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """One device of the shop.

    ``added`` is UTC to the second; ``replaces`` is the node ID whose place it took; ``label`` is a note for people, may
    be empty; ``cleared`` counts how often an admin has settled a clone alarm about this device.
    """

    node_id: str
    name: str
    role: Role
    status: Status
    added: datetime
    replaces: str | None = None
    label: str = ""
    limits: Limits = NO_LIMITS
    cleared: int = 0

    @property
    def active(self) -> bool:
        """True if the device belongs to the shop now."""
        return self.status is Status.ACTIVE

    @property
    def admin(self) -> bool:
        """True for an active admin."""
        return self.active and self.role is Role.ADMIN

    @property
    def short_id(self) -> str:
        """The node ID for people."""
        return keys.short_id(self.node_id)

    def encode(self) -> dict[str, object]:
        """The fields as they stand in the roster's body."""
        return {
            "node_id": self.node_id,
            "name": self.name,
            "role": str(self.role),
            "status": str(self.status),
            "added": int(self.added.timestamp()),
            "replaces": self.replaces,
            "label": self.label,
            "may_offer": _listed(self.limits.offer),
            "may_take": _listed(self.limits.take),
            "may_give": _listed(self.limits.give),
            "cleared": self.cleared,
        }

    @classmethod
    def decode(cls, entry: object) -> Member:
        """Read one entry back. Raises `Malformed`, `BadName`."""
        fields = checked(entry, _MEMBER, what="A roster entry")
        try:
            role, status = Role(fields["role"]), Status(fields["status"])
        except ValueError as error:
            raise Malformed("A roster entry has an unknown role or status.") from error
        if not 0 <= fields["cleared"] <= MAX_CLEARED:
            raise Malformed("A roster entry has an impossible count.")
        return cls(
            node_id=fields["node_id"],
            name=check_name(fields["name"]),
            role=role,
            status=status,
            added=read_time(fields["added"]),
            replaces=fields["replaces"],
            label=check_label(fields["label"]),
            limits=Limits(*(_limit(fields[name]) for name in ("may_offer", "may_take", "may_give"))),
            cleared=fields["cleared"],
        )


def check_label(text: str) -> str:
    """A label in the form of names, or none. Raises `BadName`."""
    return check_name(text) if text.strip() else ""


def read_time(seconds: int) -> datetime:
    """A time of the roster, seconds since 1970, up to the end of the year 9999. Raises `Malformed`.

    Counted by hand: what `fromtimestamp` takes differs between systems, and a roster must not.
    """
    if not 0 <= seconds <= LAST_SECOND:
        raise Malformed("The roster has an impossible time.")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _listed(limit: Iterable[str] | None) -> list[str] | None:
    return None if limit is None else sorted(limit)


def _limit(value: list[object] | None) -> frozenset[str] | None:
    if value is None:
        return None
    texts = [item for item in value if type(item) is str and 0 < len(item) <= MAX_BUSINESS_ID]
    if len(texts) != len(value) or len(texts) > MAX_LIMIT or texts != sorted(set(texts)):
        raise Malformed("A roster entry has a limit that is no sorted list of business IDs.")
    return frozenset(texts)
