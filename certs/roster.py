"""The roster: the shop's numbered list of devices, and its signed form.

A `Roster` is a value and says who may what. A `SignedRoster` can only come from `SignedRoster.verify` or from the
authority's own hand, so holding one means that its signature was checked. Formats: TRUST.md, "Roster".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificates, keys
from certs.errors import (
    AmbiguousDevice,
    LastAdmin,
    Malformed,
    RevokedDevice,
    RosterConflict,
    RosterRollback,
    UnknownDevice,
    WrongShop,
)
from certs.identity import check_name
from certs.wire import Fields, checked, pack, unpack

FORMAT = 1
MAX_MEMBERS = 1000
MAX_ROSTER = 512 * 1024
_PURPOSE = b"backroom roster 1\x00"
_SIGNED: Fields = {"format": int, "body": bytes, "authority": bytes, "signature": bytes}
_BODY: Fields = {"shop_id": str, "shop_name": str, "version": int, "issued": int, "members": list}
_MEMBER: Fields = {"node_id": str, "name": str, "role": str, "status": str, "added": int, "replaces": (str, type(None))}


class Role(StrEnum):
    """What a device may do: an admin may invite, revoke, and pull full backups."""

    ADMIN = "admin"
    MEMBER = "member"


class Status(StrEnum):
    """Whether a device belongs to the shop now. Revoked devices stay listed, so that they are named when they knock."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Member:
    """One device of the shop. `added` is UTC to the second; `replaces` is the node ID whose place it took."""

    node_id: str
    name: str
    role: Role
    status: Status
    added: datetime
    replaces: str | None = None

    @property
    def active(self) -> bool:
        """True if the device belongs to the shop now."""
        return self.status is Status.ACTIVE

    @property
    def short_id(self) -> str:
        """The node ID for people."""
        return keys.short_id(self.node_id)


@dataclass(frozen=True, slots=True)
class Roster:
    """The shop's devices at one version. Changes return a new roster with the next version."""

    shop_id: str
    shop_name: str
    version: int
    issued: datetime
    members: tuple[Member, ...]

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def member(self, node_id: str) -> Member | None:
        """The device with this node ID, active or revoked, or None."""
        return next((member for member in self.members if member.node_id == node_id), None)

    def trusts(self, node_id: str) -> bool:
        """True if this node is an active device of the shop."""
        member = self.member(node_id)
        return member is not None and member.active

    def require(self, node_id: str) -> Member:
        """The active device with this node ID. Raises `UnknownDevice` or `RevokedDevice`."""
        member = self.member(node_id)
        if member is None:
            raise UnknownDevice(f"The device {keys.short_id(node_id)} is not in the roster of {self.shop_name}.")
        if not member.active:
            raise RevokedDevice(f"The device {member.name} ({member.short_id}) was revoked from {self.shop_name}.")
        return member

    def find(self, text: str) -> Member:
        """The device that a person named: by node ID, short ID, or name (case aside); active devices come first.

        Raises `UnknownDevice`, or `AmbiguousDevice` listing the candidates.
        """
        wanted = text.strip().casefold()
        found = [m for m in self.members if wanted in (m.node_id, m.short_id, m.name.casefold())]
        found = [m for m in found if m.active] or found
        if not found:
            raise UnknownDevice(f"No device of {self.shop_name} is called {text!r}.")
        if len(found) > 1:
            listed = ", ".join(f"{m.name} ({m.short_id})" for m in found)
            raise AmbiguousDevice(f"Several devices of {self.shop_name} answer to {text!r}: {listed}.")
        return found[0]

    def admit(self, member: Member) -> Roster:
        """The next roster, in which `member` stands as given (added, or put in the place of its former entry)."""
        others = tuple(m for m in self.members if m.node_id != member.node_id)
        return self._next((*others, replace(member, name=check_name(member.name))), member.added)

    def revoke(self, node_id: str, now: datetime) -> Roster:
        """The next roster, in which this device is revoked (the same roster if it is already).

        Raises `UnknownDevice`, and `LastAdmin` if no active admin would be left.
        """
        member = self.member(node_id)
        if member is None:
            raise UnknownDevice(f"The device {keys.short_id(node_id)} is not in the roster of {self.shop_name}.")
        if not member.active:
            return self
        revoked = replace(member, status=Status.REVOKED)
        members = tuple(revoked if m.node_id == node_id else m for m in self.members)
        if not any(m.active and m.role is Role.ADMIN for m in members):
            raise LastAdmin(f"{member.name} ({member.short_id}) is the only admin of {self.shop_name}.")
        return self._next(members, now)

    def _next(self, members: tuple[Member, ...], now: datetime) -> Roster:
        return replace(self, version=self.version + 1, issued=now.replace(microsecond=0), members=members)

    def encode(self) -> bytes:
        """The body that the authority signs."""
        members = [
            {
                "node_id": m.node_id,
                "name": m.name,
                "role": str(m.role),
                "status": str(m.status),
                "added": int(m.added.timestamp()),
                "replaces": m.replaces,
            }
            for m in self.members
        ]
        return pack(
            {
                "shop_id": self.shop_id,
                "shop_name": self.shop_name,
                "version": self.version,
                "issued": int(self.issued.timestamp()),
                "members": members,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Roster:
        """Read a body back. Raises `Malformed`, `BadName`."""
        body = unpack(data, _BODY, what="The roster", limit=MAX_ROSTER)
        if body["version"] < 1 or len(body["members"]) > MAX_MEMBERS:
            raise Malformed("The roster has an impossible version or too many members.")
        members = tuple(_member(entry) for entry in body["members"])
        if len({member.node_id for member in members}) != len(members):
            raise Malformed("The roster lists a device twice.")
        name = check_name(body["shop_name"])
        return cls(body["shop_id"], name, body["version"], _time(body["issued"]), members)


def _time(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Malformed("The roster has an impossible time.") from error


def _member(entry: object) -> Member:
    fields = checked(entry, _MEMBER, what="A roster entry")
    try:
        role, status = Role(fields["role"]), Status(fields["status"])
    except ValueError as error:
        raise Malformed("A roster entry has an unknown role or status.") from error
    return Member(
        fields["node_id"], check_name(fields["name"]), role, status, _time(fields["added"]), fields["replaces"]
    )


@dataclass(frozen=True, slots=True)
class SignedRoster:
    """A roster whose signature by the shop's authority was checked, with the bytes to store and to pass on."""

    roster: Roster
    body: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def sign(cls, roster: Roster, key: ec.EllipticCurvePrivateKey, authority: bytes) -> SignedRoster:
        """Sign a roster by the authority whose certificate (DER) is `authority`."""
        body = roster.encode()
        return cls(Roster.decode(body), body, authority, keys.sign(key, _PURPOSE + body))

    @classmethod
    def verify(cls, data: bytes, shop_id: str) -> SignedRoster:
        """Read and check a signed roster of the given shop.

        Raises `Malformed`, `BadCertificate`, `BadSignature`, and `WrongShop` if it is another shop's.
        """
        outer = unpack(data, _SIGNED, what="The signed roster", limit=MAX_ROSTER + 8192)
        if outer["format"] != FORMAT:
            raise Malformed(f"The signed roster has format {outer['format']}; this version reads format {FORMAT}.")
        signed_by = certificates.check_authority(outer["authority"])
        if signed_by != shop_id:
            raise WrongShop(f"A roster of shop {keys.short_id(signed_by)} is not of shop {keys.short_id(shop_id)}.")
        key = certificates.public_key(outer["authority"])
        keys.verify(key, outer["signature"], _PURPOSE + outer["body"], what="the roster")
        roster = Roster.decode(outer["body"])
        if roster.shop_id != shop_id:
            raise WrongShop("The roster names another shop than the one that signed it.")
        return cls(roster, outer["body"], outer["authority"], outer["signature"])

    def encode(self) -> bytes:
        """The bytes to store and to pass on."""
        outer = {"format": FORMAT, "body": self.body, "authority": self.authority, "signature": self.signature}
        return pack(outer)

    def accept(self, newer: bytes) -> SignedRoster:
        """The roster to hold after seeing `newer` (bytes from a peer): the higher version, once it is verified.

        Raises what `verify` raises, `RosterRollback` for a lower version, and `RosterConflict` for the same version
        with other content.
        """
        other = SignedRoster.verify(newer, self.roster.shop_id)
        if other.roster.version > self.roster.version:
            return other
        if other.body == self.body:
            return self
        versions = f"version {other.roster.version} was offered, version {self.roster.version} is held"
        if other.roster.version < self.roster.version:
            raise RosterRollback(f"An older roster was refused: {versions}.")
        raise RosterConflict(f"Two different rosters of {self.roster.shop_name} have version {self.roster.version}.")
