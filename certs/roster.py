"""The roster: the shop's numbered list of devices, and its signed form.

A `Roster` is a value and says who may what. A `SignedRoster` can only come from `SignedRoster.verify` or from the
authority's own hand, so holding one means that its signature was checked. Formats: TRUST.md, "Roster".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificates, keys
from certs.errors import (
    AmbiguousDevice,
    ForeignAuthority,
    LastAdmin,
    Malformed,
    RevokedDevice,
    RosterConflict,
    RosterRollback,
    UnknownDevice,
    WrongShop,
)
from certs.handover import MAX_HANDOVERS, Handover, verify_chain
from certs.identity import check_name
from certs.members import NO_LIMITS, Limits, Member, Right, Role, Status, check_label, read_time
from certs.wire import Fields, pack, unpack

__all__ = ["NO_LIMITS", "Limits", "Member", "Right", "Role", "Roster", "SignedRoster", "Status"]

FORMAT = 1
MAX_MEMBERS = 1000
MAX_ROSTER = 512 * 1024
MAX_AROUND = 48 * 1024
"""For what is around the body: certificates and handovers, in bytes."""
_PURPOSE = b"backroom roster 1\x00"
_SIGNED: Fields = {"format": int, "body": bytes, "authority": bytes, "handovers": list, "signature": bytes}
_BODY: Fields = {"shop_id": str, "shop_name": str, "version": int, "issued": int, "members": list}


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
        """The next roster, in which `member` stands as given (added, or put in the place of its former entry).

        The device that it replaces is revoked. Raises `LastAdmin` if that leaves no admin.
        """
        others = (
            replace(m, status=Status.REVOKED) if m.node_id == member.replaces else m
            for m in self.members
            if m.node_id != member.node_id
        )
        members = (*others, replace(member, name=check_name(member.name)))
        self._require_admin(members, member)
        return self._next(members, member.added)

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
        self._require_admin(members, member)
        return self._next(members, now)

    def change(
        self,
        node_id: str,
        now: datetime,
        *,
        role: Role | None = None,
        label: str | None = None,
        limits: Limits | None = None,
        cleared: bool = False,
    ) -> Roster:
        """The next roster, in which what is given of a device is changed; the same one where nothing differs.

        `cleared` settles a clone alarm about it. Raises `UnknownDevice`, `RevokedDevice`, `BadName`, `LastAdmin`.
        """
        member = self.require(node_id)
        changed = replace(
            member,
            role=member.role if role is None else role,
            label=member.label if label is None else check_label(label),
            limits=member.limits if limits is None else limits,
            cleared=member.cleared + cleared,
        )
        if changed == member:
            return self
        members = tuple(changed if each.node_id == node_id else each for each in self.members)
        self._require_admin(members, member)
        return self._next(members, now)

    def sealed_anew(self, now: datetime) -> Roster:
        """The next roster with the same devices: for another authority to sign."""
        return self._next(self.members, now)

    def _require_admin(self, members: tuple[Member, ...], last: Member) -> None:
        if not any(member.admin for member in members):
            raise LastAdmin(f"{last.name} ({last.short_id}) is the only admin of {self.shop_name}.")

    def _next(self, members: tuple[Member, ...], now: datetime) -> Roster:
        return replace(self, version=self.version + 1, issued=now.replace(microsecond=0), members=members)

    def encode(self) -> bytes:
        """The body that the authority signs."""
        members = [member.encode() for member in self.members]
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
        members = tuple(Member.decode(entry) for entry in body["members"])
        if len({member.node_id for member in members}) != len(members):
            raise Malformed("The roster lists a device twice.")
        name = check_name(body["shop_name"])
        return cls(body["shop_id"], name, body["version"], read_time(body["issued"]), members)


@dataclass(frozen=True, slots=True)
class SignedRoster:
    """A roster whose signature by the shop's authority was checked, with the bytes to store and to pass on."""

    roster: Roster
    body: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    handovers: tuple[Handover, ...] = field(default=(), repr=False)

    @classmethod
    def sign(
        cls, roster: Roster, key: ec.EllipticCurvePrivateKey, authority: bytes, handovers: tuple[Handover, ...] = ()
    ) -> SignedRoster:
        """Sign a roster by the authority whose certificate (DER) is `authority`, the last of the handovers."""
        body = roster.encode()
        return cls(Roster.decode(body), body, authority, keys.sign(key, _PURPOSE + body), handovers)

    @classmethod
    def verify(cls, data: bytes, shop_id: str) -> SignedRoster:
        """Read and check a signed roster of the given shop.

        Raises `Malformed`, `BadCertificate`, `BadSignature`, and `WrongShop` if it is another shop's.
        """
        outer = unpack(data, _SIGNED, what="The signed roster", limit=MAX_ROSTER + MAX_AROUND)
        if outer["format"] != FORMAT:
            raise Malformed(f"The signed roster has format {outer['format']}; this version reads format {FORMAT}.")
        if len(outer["handovers"]) > MAX_HANDOVERS:
            raise Malformed("The authority was handed over too often.")
        handovers = tuple(Handover.decode(value) for value in outer["handovers"])
        signed_by = certificates.check_authority(outer["authority"])
        if signed_by != shop_id:
            raise WrongShop(f"A roster of shop {keys.short_id(signed_by)} is not of shop {keys.short_id(shop_id)}.")
        verify_chain(handovers, outer["authority"])
        key = certificates.public_key(outer["authority"])
        keys.verify(key, outer["signature"], _PURPOSE + outer["body"], what="the roster")
        roster = Roster.decode(outer["body"])
        if roster.shop_id != shop_id:
            raise WrongShop("The roster names another shop than the one that signed it.")
        return cls(roster, outer["body"], outer["authority"], outer["signature"], handovers)

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """The shop's authorities (DER), the present one first."""
        return (self.authority, *(each.old for each in reversed(self.handovers)))

    @property
    def crossings(self) -> tuple[bytes, ...]:
        """What proves the present authority to a device that knows an older one only (DER), newest first."""
        return tuple(each.cross for each in reversed(self.handovers))

    def encode(self) -> bytes:
        """The bytes to store and to pass on."""
        return pack(
            {
                "format": FORMAT,
                "body": self.body,
                "authority": self.authority,
                "handovers": [each.encode() for each in self.handovers],
                "signature": self.signature,
            }
        )

    def accept(self, newer: bytes) -> SignedRoster:
        """The roster to hold after seeing `newer` (bytes from a peer): the higher version, once it is verified.

        Its authority must be the one held or follow from it: an authority that was handed over signs no more. Raises
        what `verify` raises, `RosterRollback` for a lower version or an older authority, `ForeignAuthority` for one
        that does not follow, and `RosterConflict` for the same version with other content.
        """
        if newer == self.encode():  # nearly always: what is held was verified when it was read
            return self
        other = SignedRoster.verify(newer, self.roster.shop_id)
        held, offered = self.authorities[::-1], other.authorities[::-1]
        versions = f"version {other.roster.version} was offered, version {self.roster.version} is held"
        if offered[: len(held)] != held:
            if held[: len(offered)] == offered:
                raise RosterRollback(f"A roster signed by an authority that was handed over was refused: {versions}.")
            raise ForeignAuthority(f"A roster of {self.roster.shop_name} is signed by an authority that is not ours.")
        if other.roster.version > self.roster.version:
            return other
        if other.body == self.body and other.authority == self.authority:
            return self
        if other.roster.version < self.roster.version:
            raise RosterRollback(f"An older roster was refused: {versions}.")
        raise RosterConflict(f"Two different rosters of {self.roster.shop_name} have version {self.roster.version}.")
