"""What an admin's laptop writes: the roster's changes, certificates, and the authority itself.

All of it needs the authority's key; without it the methods raise `NotAdmin`. Each change is one new roster version.
The key is read under the lock, with the roster that it signs: another process may roll the authority over meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from certs import certificates, files, keys
from certs.authority import Membership
from certs.errors import CertificateNotYetValid, ExpiredCertificate, NotAdmin, StoreDamaged, TrustError, WrongKit
from certs.reading import Reading
from certs.roster import Limits, Role, Roster, SignedRoster

MAX_OUTRANKED = 1 << 53
"""A version from which on nobody is outranked: who has an old key must not use up the versions that there are."""


class Governing(Reading):
    """The admin's part of the store. The methods block: async callers run them in a thread."""

    def issue(self, name: str, public_key: bytes, role: Role, *, replaces: str | None = None) -> Membership:
        """Make the device with this public key (SPKI DER) part of the shop: certificate, and roster saved with it.

        The device that it `replaces` is revoked by the same roster. Raises `NoShop`, `NotAdmin`, `BadName`,
        `BadCertificate`, `LastAdmin`.
        """
        with files.locked(self._lock):
            authority = self.require_authority()
            roster = self.signed_roster().roster
            membership = authority.admit(roster, name, public_key, role, self.clock(), replaces=replaces)
            files.replace_private(self._roster, membership.roster)
        return membership

    def revoke(self, node_id: str) -> Roster:
        """Shut a device out of the shop; the roster saved says so. Raises `NotAdmin`, `UnknownDevice`, `LastAdmin`."""
        return self._govern(lambda roster: roster.revoke(node_id, self.clock()))

    def change(
        self,
        node_id: str,
        *,
        role: Role | None = None,
        label: str | None = None,
        limits: Limits | None = None,
        cleared: bool = False,
    ) -> Roster:
        """Change what is given of a device. Raises `NotAdmin`, and what `Roster.change` raises."""
        return self._govern(
            lambda roster: roster.change(node_id, self.clock(), role=role, label=label, limits=limits, cleared=cleared)
        )

    def renew(self, public_key: bytes) -> bytes:
        """A fresh certificate (DER) for an active device of the shop, by its public key (SPKI DER).

        Raises `NotAdmin`, `UnknownDevice`, `RevokedDevice`.
        """
        with files.locked(self._lock):
            authority = self.require_authority()
            self.roster().require(keys.node_id_of_key(public_key))
            return authority.issue(public_key, self.clock())

    def take_certificate(self, certificate: bytes) -> bool:
        """Use a renewed certificate (DER) of this device from now on. Raises `BadCertificate`, `WrongShop`.

        One that ends no later than the present one changes nothing (False), unless of the two it alone is in its time
        now: then the present one was made by a clock that was ahead.
        """
        with files.locked(self._lock):
            shop = self.require_shop()
            if certificates.check_device(certificate, shop.authority) != self.identity().node_id:
                raise WrongKit("The certificate received is for another device than this one.")
            if self._older(certificate, shop.certificate, shop.authority):
                return False
            self._write_certificate(certificate, shop.signed_roster)
        return True

    def roll_over(self) -> Roster:
        """Put a new authority in the place of this one; both sign it. All devices follow by the roster.

        This device gets its certificate from it at once, the others renew theirs. Raises `NotAdmin`,
        `TooManyHandovers`.
        """
        with files.locked(self._lock):
            authority = self.require_authority()
            now = self.clock()
            following = authority.successor(now)
            signed = following.sign_roster(self.signed_roster().roster.sealed_anew(now))
            # In this order a power cut leaves the old authority or the new one, each with its key.
            following_key = self._shop / "authority.next"
            files.replace_private(following_key, keys.private_to_pem(following.private_key))
            self._write_authorities(signed)
            files.replace_private(self._roster, signed.encode())
            files.move(following_key, self._shop / "authority.key")
            self._write_certificate(following.issue(self.identity().public_key, now), signed)
        return signed.roster

    def authority_key(self) -> bytes:
        """The authority's key (PEM), to be sealed at once. Raises `NotAdmin`."""
        with files.locked(self._lock):
            return keys.private_to_pem(self.require_authority().private_key)

    def take_authority(self, pem: bytes) -> None:
        """Keep the authority's key (PEM) that another admin has shared.

        Raises `NotAdmin` where this device is no admin, and `WrongKit` if it is not the key of the shop's authority.
        """
        with files.locked(self._lock):
            shop = self.require_shop()
            member = shop.roster.member(self.identity().node_id)
            if member is None or not member.admin:
                raise NotAdmin(f"This laptop is no admin of {shop.shop_name}.", hint="Make it one with `device set`.")
            key = keys.private_from_pem(pem, where="the shared authority")
            if key.public_key() != certificates.public_key(shop.authority):
                raise WrongKit(f"This is not the key of the present authority of {shop.shop_name}.")
            files.replace_private(self._shop / "authority.key", pem)

    def _govern(self, change: Callable[[Roster], Roster]) -> Roster:
        with files.locked(self._lock):
            authority = self.require_authority()
            roster = self.signed_roster().roster
            changed = change(roster)
            if changed is not roster:
                files.replace_private(self._roster, authority.sign_roster(changed).encode())
        return changed

    def _keep_roster(self, held: SignedRoster, accepted: SignedRoster) -> None:
        """Write an accepted roster, and what follows from it where the authority was rolled over."""
        if accepted is held:
            return
        if accepted.authority != held.authority:
            self._write_authorities(accepted)
        files.replace_private(self._roster, accepted.encode())
        if accepted.authority != held.authority and self.authority() is None:
            (self._shop / "authority.key").unlink(missing_ok=True)

    def _outrank(self, held: SignedRoster, refused: bytes) -> None:
        """Sign the held roster anew, above a refused one by a former authority that is not below it.

        Who holds that one takes no lower version and would never follow. Nothing in it is believed but its version.
        """
        other = SignedRoster.verify(refused, held.roster.shop_id).roster
        if not held.roster.version <= other.version < MAX_OUTRANKED:
            return
        with suppress(StoreDamaged):
            authority = self.authority()
            if authority is not None:
                raised = replace(held.roster, version=other.version).sealed_anew(self.clock())
                files.replace_private(self._roster, authority.sign_roster(raised).encode())

    def _write_authorities(self, signed: SignedRoster) -> None:
        """Older authorities stay: devices that were away show certificates of theirs; the roster says who is in."""
        files.replace_private(
            self._shop / "authority.pem", b"".join(certificates.to_pem(each) for each in signed.authorities)
        )

    def _write_certificate(self, certificate: bytes, signed: SignedRoster) -> None:
        """The certificate with what proves its authority to a device that knows an older one only."""
        chain = (certificate, *signed.crossings)
        files.replace_private(self._shop / "device.pem", b"".join(certificates.to_pem(each) for each in chain))

    def _older(self, certificate: bytes, present: bytes, authority: bytes) -> bool:
        try:
            certificates.check_device(present, authority)
        except TrustError:
            return False
        now = self.clock()
        if _in_time(certificate, now) and not _in_time(present, now):
            return False
        return certificates.expires(certificate) <= certificates.expires(present)


def _in_time(certificate: bytes, now: datetime) -> bool:
    try:
        certificates.check_dates(certificate, now)
    except (ExpiredCertificate, CertificateNotYetValid):
        return False
    return True
