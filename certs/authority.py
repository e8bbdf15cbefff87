"""The shop's authority: the key that makes device certificates and signs the roster. Held by the admin laptop alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificates, keys
from certs.errors import StoreDamaged, TooManyHandovers
from certs.handover import MAX_HANDOVERS, Handover
from certs.identity import check_name
from certs.roster import Member, Role, Roster, SignedRoster, Status


@dataclass(frozen=True, slots=True)
class Membership:
    """What makes a device part of a shop: its certificate, the authority's (both DER), the signed roster."""

    certificate: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    roster: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority's key and certificate (DER), and how it followed from the one that founded the shop."""

    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    handovers: tuple[Handover, ...] = field(default=(), repr=False)

    @classmethod
    def create(cls, now: datetime) -> Authority:
        """A new authority, and with it a new shop."""
        key = keys.new_private_key()
        return cls(key, certificates.make_authority(key, now))

    @classmethod
    def load(cls, pem: bytes, certificate: bytes, handovers: tuple[Handover, ...] = (), *, where: str) -> Authority:
        """Read an authority's key (PEM). Raises `StoreDamaged` if it cannot be read or is not the certificate's."""
        key = keys.private_from_pem(pem, where=where)
        if key.public_key() != certificates.public_key(certificate):
            raise StoreDamaged(f"The authority key in {where} does not belong to the shop's authority certificate.")
        return cls(key, certificate, handovers)

    @property
    def shop_id(self) -> str:
        """The shop's ID: see `keys.shop_id_of_key`; it stays that of the authority that founded the shop."""
        return certificates.shop_id_of_authority(self.certificate)

    def successor(self, now: datetime) -> Authority:
        """A new authority for the same shop, to which this one has handed over. Raises `TooManyHandovers`."""
        if len(self.handovers) >= MAX_HANDOVERS:
            raise TooManyHandovers(
                f"The authority was handed over {MAX_HANDOVERS} times; no device would follow again."
            )
        key = keys.new_private_key()
        certificate = certificates.make_authority(key, now, self.shop_id)
        handover = Handover.make(self.private_key, self.certificate, key, certificate, now)
        return Authority(key, certificate, (*self.handovers, handover))

    def issue(self, public_key: bytes, now: datetime) -> bytes:
        """A device certificate (DER) for a public key (SPKI DER). Raises `BadCertificate` for an unfit key."""
        key = keys.load_spki(public_key)
        return certificates.make_device(key, now, issuer_key=self.private_key, shop_id=self.shop_id)

    def sign_roster(self, roster: Roster) -> SignedRoster:
        """Sign a roster as it stands."""
        return SignedRoster.sign(roster, self.private_key, self.certificate, self.handovers)

    def found(self, shop_name: str, device_name: str, public_key: bytes, now: datetime) -> Membership:
        """The first roster of the shop, with one device (an admin), and that device's certificate."""
        empty = Roster(self.shop_id, check_name(shop_name), 0, now, ())
        return self.admit(empty, device_name, public_key, Role.ADMIN, now)

    def admit(
        self, roster: Roster, name: str, public_key: bytes, role: Role, now: datetime, *, replaces: str | None = None
    ) -> Membership:
        """Make a device part of the shop: its certificate, and the next roster with it in it.

        A device that is known already (its key is) is listed anew with this name and role, and is active again; its
        label and limits stay, so that joining again frees nobody of them. Alarms from before it was revoked count as
        settled. The device that it `replaces` is revoked with it.
        """
        certificate = self.issue(public_key, now)
        node_id = keys.node_id_of_key(public_key)
        member = Member(node_id, name, role, Status.ACTIVE, now.replace(microsecond=0), replaces)
        former = roster.member(node_id)
        if former is not None:
            cleared = former.cleared + (not former.active)
            member = replace(member, label=former.label, limits=former.limits, cleared=cleared)
        signed = self.sign_roster(roster.admit(member))
        return Membership(certificate, self.certificate, signed.encode())
