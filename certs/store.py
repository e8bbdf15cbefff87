"""The store on disk: this device's key and, once it has joined, its shop. The only part of certs that touches files.

    home/identity/device.key        the device key, PKCS#8 PEM, for life
    home/identity/device.pem        its self-signed certificate, for the time before a shop
    home/identity/name              the device's name
    home/identity/lock              held while anything here or in shop/ is written
    home/shop/authority.pem         the shop's authority certificate
    home/shop/authority.key         the authority's key, on the admin laptop that created the shop
    home/shop/device.pem            this device's certificate from the authority
    home/shop/roster                the signed roster

Several processes may use one store: writers take the lock, readers see a whole old or a whole new file. The methods
block for a file access (and for another writer), so async callers run the writing ones in a thread.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from certs import certificates, files, keys
from certs.authority import Authority, Membership
from certs.errors import (
    AlreadyInShop,
    BadCertificate,
    NoIdentity,
    NoShop,
    NotAdmin,
    StoreDamaged,
    TrustError,
    WrongShop,
)
from certs.identity import Identity, check_name
from certs.roster import Role, Roster, SignedRoster


def utc_now() -> datetime:
    """The present time, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ShopState:
    """The shop as this device knows it: certificates in DER, the roster verified when it was read."""

    shop_id: str
    shop_name: str
    authority: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    signed_roster: SignedRoster = field(repr=False)
    holds_authority: bool

    @property
    def roster(self) -> Roster:
        """The shop's devices at the time of reading."""
        return self.signed_roster.roster


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that OpenSSL reads: this device's certificate and key, and the shop's authority."""

    certificate: Path
    key: Path
    authority: Path


class Store:
    """Identity and shop under one data folder. `clock` gives the present time in UTC."""

    def __init__(self, home: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self._identity = home / "identity"
        self._shop = home / "shop"
        self._lock = self._identity / "lock"
        self._roster = self._shop / "roster"
        self.clock = clock
        self._cached: tuple[tuple[int, ...], SignedRoster] | None = None

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

    def identity(self) -> Identity:
        """This device's identity, with its certificate from the shop if it has one. Raises `NoIdentity`."""
        path = self._identity / "device.key"
        try:
            key = keys.private_from_pem(path.read_bytes(), where=str(path))
        except FileNotFoundError as error:
            raise NoIdentity(f"There is no device key in {self._identity}.") from error
        in_shop = self._shop / "device.pem"
        certificate = self._read_certificate(in_shop if in_shop.exists() else self._identity / "device.pem")
        if certificates.public_key(certificate) != key.public_key():
            raise StoreDamaged(f"The device key in {path} does not belong to this device's certificate.")
        return Identity(self._read_name(), key, certificate)

    def shop(self) -> ShopState | None:
        """The shop that this device belongs to, or None. Raises `StoreDamaged` if its files do not fit together."""
        if not self._shop.exists():
            return None
        authority = self._read_certificate(self._shop / "authority.pem")
        signed = self._read_roster(authority)
        return ShopState(
            shop_id=signed.roster.shop_id,
            shop_name=signed.roster.shop_name,
            authority=authority,
            certificate=self._read_certificate(self._shop / "device.pem"),
            signed_roster=signed,
            holds_authority=(self._shop / "authority.key").exists(),
        )

    def require_shop(self) -> ShopState:
        """The shop that this device belongs to. Raises `NoShop`."""
        shop = self.shop()
        if shop is None:
            raise NoShop("This laptop does not belong to a shop yet.")
        return shop

    def roster(self) -> Roster:
        """The roster as it is on disk now: another process's change is seen at once, at the price of one `stat`."""
        return self.signed_roster().roster

    def signed_roster(self) -> SignedRoster:
        """The same in the form to pass on to peers. Raises `NoShop`."""
        try:
            if self._cached is not None and self._cached[0] == files.stamp(self._roster):
                return self._cached[1]
        except FileNotFoundError as error:
            raise NoShop("This laptop does not belong to a shop yet.") from error
        return self.require_shop().signed_roster

    def authority(self) -> Authority | None:
        """The shop's authority if this device holds its key, else None."""
        path = self._shop / "authority.key"
        if not path.exists():
            return None
        certificate = self._read_certificate(self._shop / "authority.pem")
        return Authority.load(path.read_bytes(), certificate, where=str(path))

    def require_authority(self) -> Authority:
        """The shop's authority. Raises `NoShop`, or `NotAdmin` if this device does not hold its key."""
        shop = self.require_shop()
        authority = self.authority()
        if authority is None:
            raise NotAdmin(f"This laptop does not hold the authority key of {shop.shop_name}.")
        return authority

    def tls_files(self) -> TlsFiles:
        """Where OpenSSL finds this device's certificate, key and authority. Raises `NoShop`."""
        self.require_shop()
        return TlsFiles(self._shop / "device.pem", self._identity / "device.key", self._shop / "authority.pem")

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

    def issue(self, name: str, public_key: bytes, role: Role, *, replaces: str | None = None) -> Membership:
        """Make the device with this public key (SPKI DER) part of the shop: certificate, and roster saved with it.

        Raises `NoShop`, `NotAdmin`, `BadName`, `BadCertificate`.
        """
        authority = self.require_authority()
        with files.locked(self._lock):
            roster = self.signed_roster().roster
            membership = authority.admit(roster, name, public_key, role, self.clock(), replaces=replaces)
            files.replace_private(self._roster, membership.roster)
        return membership

    def revoke(self, node_id: str) -> Roster:
        """Shut a device out of the shop; the roster saved says so. Raises `NotAdmin`, `UnknownDevice`, `LastAdmin`."""
        authority = self.require_authority()
        with files.locked(self._lock):
            roster = self.signed_roster().roster
            changed = roster.revoke(node_id, self.clock())
            if changed is not roster:
                files.replace_private(self._roster, authority.sign_roster(changed).encode())
        return changed

    def save_roster(self, newer: bytes) -> Roster:
        """Take a roster from a peer if it is this shop's, signed, and newer; return the roster held afterwards.

        Raises what `SignedRoster.accept` raises; then nothing is changed.
        """
        with files.locked(self._lock):
            held = self.signed_roster()
            accepted = held.accept(newer)
            if accepted is not held:
                files.replace_private(self._roster, accepted.encode())
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
        signed.roster.require(identity.node_id)
        with files.locked(self._lock):
            shop = self.shop()
            if shop is None:
                self._found(membership, None)
            elif shop.shop_id != shop_id:
                raise AlreadyInShop(f"This laptop belongs to {shop.shop_name} already.")
            else:
                accepted = shop.signed_roster.accept(membership.roster)
                files.replace_private(self._roster, accepted.encode())
                files.replace_private(self._shop / "device.pem", certificates.to_pem(membership.certificate))
        return self.require_shop()

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
        files.write_new(building / "authority.pem", certificates.to_pem(membership.authority))
        files.write_new(building / "device.pem", certificates.to_pem(membership.certificate))
        files.write_new(building / "roster", membership.roster)
        if authority_key is not None:
            files.write_new(building / "authority.key", authority_key)
        files.sync_folder(building)
        files.move(building, self._shop)

    def _read_name(self) -> str:
        path = self._identity / "name"
        try:
            return check_name(path.read_bytes().decode())
        except (OSError, UnicodeDecodeError, TrustError) as error:
            raise StoreDamaged(f"The device's name in {path} cannot be read.") from error

    def _read_certificate(self, path: Path) -> bytes:
        try:
            return certificates.from_pem(path.read_bytes())
        except (OSError, BadCertificate) as error:
            raise StoreDamaged(f"The certificate in {path} cannot be read.") from error

    def _read_roster(self, authority: bytes) -> SignedRoster:
        try:
            # The stamp is taken first: a change between the two reads is then seen as a change next time.
            stamp = files.stamp(self._roster)
            signed = SignedRoster.verify(self._roster.read_bytes(), certificates.check_authority(authority))
        except WrongShop as error:
            raise StoreDamaged(f"The roster in {self._roster} belongs to another shop.") from error
        except OSError as error:
            raise StoreDamaged(f"The roster in {self._roster} cannot be read.") from error
        self._cached = (stamp, signed)
        return signed
