"""The store on disk: this device's key and, once it has joined, its shop. The only part of certs that touches files.

    home/identity/device.key        the device key, PKCS#8 PEM, for life
    home/identity/device.pem        its self-signed certificate, for the time before a shop
    home/identity/name              the device's name
    home/identity/lock              held while anything here or in shop/ is written
    home/shop/authority.pem         the shop's authority certificate, then those that it took over from
    home/shop/authority.key         the authority's key, on the admin laptops that hold it
    home/shop/authority.next        the next authority's key, for the moment of rolling over
    home/shop/device.pem            this device's certificate from the authority, and what proves a later authority
    home/shop/roster                the signed roster

Several processes may use one store: writers take the lock, readers see a whole old or a whole new file. The methods
block for a file access (and for another writer), so async callers run the writing ones in a thread.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec

from certs import certificates, files, keys
from certs.authority import Authority, Membership
from certs.errors import AlreadyInShop, BadCertificate, RosterRollback, StoreDamaged, WrongKit, WrongShop
from certs.governing import Governing
from certs.identity import Identity, check_name
from certs.kit import Kit
from certs.reading import ShopState, TlsFiles, utc_now
from certs.roster import Roster, SignedRoster

__all__ = ["ShopState", "Store", "TlsFiles", "utc_now"]


class Store(Governing):
    """Identity and shop under one data folder. `clock` gives the present time in UTC."""

    def load_or_create_identity(self, name: str) -> Identity:
        """This device's identity; a new key is made if there is none. A new name takes the place of the old one."""
        name = check_name(name)
        with files.locked(self._lock):
            if not (self._identity / "device.key").exists():
                identity = Identity.create(name, self.clock())
                files.replace_private(self._identity / "device.pem", certificates.to_pem(identity.certificate))
                files.replace_private(self._identity / "name", name.encode())
                # The key comes last: while it is missing there is no identity, and the files above are made anew.
                files.replace_private(self._identity / "device.key", keys.private_to_pem(identity.private_key))
            elif self._read_name() != name:
                files.replace_private(self._identity / "name", name.encode())
        return self.identity()

    def create_shop(self, name: str) -> ShopState:
        """Make a new shop with this device as its admin and keeper of the authority. Raises `AlreadyInShop`."""
        identity = self.identity()
        with files.locked(self._lock):
            self._refuse_second_shop()
            now = self.clock()
            authority = Authority.create(now)
            membership = authority.found(name, identity.name, identity.public_key, now)
            self._found(membership, keys.private_to_pem(authority.private_key))
        return self.require_shop()

    def save_roster(self, newer: bytes) -> Roster:
        """Take a roster from a peer if it is this shop's, signed, and newer; return the roster held afterwards.

        Raises what `SignedRoster.accept` raises; then nothing is changed, but where a former authority signed the
        other one and its version is not lower, the holder of the authority signs the held one anew, above it.
        """
        with files.locked(self._lock):
            held = self.signed_roster()
            try:
                accepted = held.accept(newer)
            except RosterRollback:
                self._outrank(held, newer)
                raise
            self._keep_roster(held, accepted)
        return accepted.roster

    def join_result(self, membership: Membership) -> ShopState:
        """Keep what a join brought, after checking all of it against this device's key and the authority.

        A device that is in this very shop already takes the new certificate and roster (it was invited again).
        Raises `AlreadyInShop` if it is in another shop, and `WrongShop`, `BadCertificate`, `BadSignature`,
        `UnknownDevice`, `RevokedDevice`, `RosterRollback` if the parts do not fit.
        """
        identity = self.identity()
        shop_id = certificates.check_authority(membership.authority)
        if certificates.check_device(membership.certificate, membership.authority) != identity.node_id:
            raise BadCertificate("The certificate received is for another device than this one.")
        signed = SignedRoster.verify(membership.roster, shop_id)
        if signed.authority != membership.authority:
            raise WrongShop("The roster received is signed by another authority than the certificate.")
        signed.roster.require(identity.node_id)
        with files.locked(self._lock):
            shop = self.shop()
            if shop is None:
                self._found(membership, None)
            elif shop.shop_id != shop_id:
                raise AlreadyInShop(f"This laptop belongs to {shop.shop_name} already.")
            else:
                accepted = shop.signed_roster.accept(membership.roster)
                self._keep_roster(shop.signed_roster, accepted)
                self._write_certificate(membership.certificate, accepted)
        return self.require_shop()

    def kit(self) -> Kit:
        """All that makes this laptop this device, for a recovery kit. Raises `NoIdentity`."""
        identity, shop = self.identity(), self.shop()
        if shop is None:
            return Kit(self.clock(), identity)
        authority = self.authority()
        key = None if authority is None else keys.private_to_pem(authority.private_key)
        own = self._read_certificate(self._identity / "device.pem")
        membership = Membership(shop.certificate, shop.authority, shop.signed_roster.encode())
        return Kit(self.clock(), replace(identity, certificate=own), membership, key)

    def take_kit(self, kit: Kit) -> Identity:
        """Make this laptop the device of a recovery kit.

        A key that was made here and never joined a shop gives way. Where this laptop is that device already, what is
        missing comes back and a newer roster stays. Raises `WrongKit` where it is another device of a shop.
        """
        with files.locked(self._lock):
            self.check_kit(kit)
            shop = self.shop()
            files.replace_private(self._identity / "device.pem", certificates.to_pem(kit.identity.certificate))
            files.replace_private(self._identity / "name", kit.identity.name.encode())
            files.replace_private(self._identity / "device.key", keys.private_to_pem(kit.identity.private_key))
            if shop is None and kit.shop is not None:
                self._found(kit.shop, kit.authority)
            elif shop is not None and kit.roster is not None:
                self._take_back(shop, kit)
        return self.identity()

    def check_kit(self, kit: Kit) -> None:
        """Raise `WrongKit` where this laptop is another device of a shop than that of the kit. Writes nothing."""
        shop = self.shop()
        if shop is None:
            return
        if kit.shop is None or self._device_key() != kit.identity.private_key.public_key():
            raise WrongKit(f"This laptop is another device of {shop.shop_name} already.")
        if kit.roster is not None and shop.shop_id != kit.roster.roster.shop_id:
            raise WrongKit(f"This laptop belongs to {shop.shop_name}, the recovery kit to another shop.")

    def _take_back(self, shop: ShopState, kit: Kit) -> None:
        """What the kit has and this laptop lacks: a newer roster, the key of the present authority."""
        assert kit.roster is not None
        if kit.roster.roster.version > shop.roster.version:
            self._keep_roster(shop.signed_roster, shop.signed_roster.accept(kit.roster.encode()))
        authority = self.require_shop().authority
        if kit.authority is not None and self._lacks_authority() and kit.roster.authority == authority:
            files.replace_private(self._shop / "authority.key", kit.authority)

    def _lacks_authority(self) -> bool:
        """Whether the authority's key is not here, or is damaged: then a kit leads out."""
        try:
            return self.authority() is None
        except StoreDamaged:
            return True

    def _device_key(self) -> ec.EllipticCurvePublicKey | None:
        path = self._identity / "device.key"
        if not path.exists():
            return None
        return keys.private_from_pem(path.read_bytes(), where=str(path)).public_key()

    def _refuse_second_shop(self) -> None:
        shop = self.shop()
        if shop is not None:
            raise AlreadyInShop(f"This laptop belongs to {shop.shop_name} already.")

    def _found(self, membership: Membership, authority_key: bytes | None) -> None:
        """Write the shop folder beside its place and rename it, so that it is there as a whole or not at all."""
        building = self._shop.with_name(self._shop.name + ".new")
        if building.exists():
            shutil.rmtree(building)
        files.make_private_folder(building)
        signed = SignedRoster.verify(membership.roster, certificates.check_authority(membership.authority))
        chain = (membership.certificate, *signed.crossings)
        files.write_new(building / "authority.pem", b"".join(certificates.to_pem(each) for each in signed.authorities))
        files.write_new(building / "device.pem", b"".join(certificates.to_pem(each) for each in chain))
        files.write_new(building / "roster", membership.roster)
        if authority_key is not None:
            files.write_new(building / "authority.key", authority_key)
        files.sync_folder(building)
        files.move(building, self._shop)
