"""Reading the store: identity, shop, roster and authority as they are on disk now. `governing` and `store` write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from certs import certificates, files, keys
from certs.authority import Authority
from certs.errors import BadCertificate, NoIdentity, NoShop, NotAdmin, StoreDamaged, TrustError, WrongShop
from certs.identity import Identity, check_name
from certs.roster import Roster, SignedRoster


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
    """The files that OpenSSL reads: this device's certificate and key, and the shop's authorities."""

    certificate: Path
    key: Path
    authority: Path

    def stamp(self) -> tuple[tuple[int, ...], ...]:
        """A value that changes when one of them does."""
        return (files.stamp(self.certificate), files.stamp(self.key), files.stamp(self.authority))


class Reading:
    """What is in the folders `identity` and `shop` of a data folder. `clock` gives the present time in UTC."""

    def __init__(self, home: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self._identity = home / "identity"
        self._shop = home / "shop"
        self._lock = self._identity / "lock"
        self._roster = self._shop / "roster"
        self.clock = clock
        self._cached: tuple[tuple[int, ...], SignedRoster] | None = None
        # What was read and verified, by the files as they were then: an agent asks many times a minute.
        self._known: tuple[tuple[tuple[int, ...], ...], ShopState] | None = None
        self._own: tuple[tuple[tuple[int, ...], ...], Identity] | None = None

    def identity(self) -> Identity:
        """This device's identity, with its certificate from the shop if it has one. Raises `NoIdentity`."""
        path, in_shop = self._identity / "device.key", self._shop / "device.pem"
        shown = in_shop if in_shop.exists() else self._identity / "device.pem"
        stamps = _stamps(path, shown, self._identity / "name")
        if self._own is not None and self._own[0] == stamps:
            return self._own[1]
        try:
            key = keys.private_from_pem(path.read_bytes(), where=str(path))
        except FileNotFoundError as error:
            raise NoIdentity(f"There is no device key in {self._identity}.") from error
        certificate = self._read_certificate(shown)
        if certificates.public_key(certificate) != key.public_key():
            raise StoreDamaged(f"The device key in {path} does not belong to this device's certificate.")
        own = Identity(self._read_name(), key, certificate)
        self._own = (stamps, own)
        return own

    def shop(self) -> ShopState | None:
        """The shop that this device belongs to, or None. Raises `StoreDamaged` if its files do not fit together."""
        if not self._shop.exists():
            return None
        authority, certificate = self._shop / "authority.pem", self._shop / "device.pem"
        stamps = _stamps(authority, certificate, self._roster)
        if self._known is not None and self._known[0] == stamps:
            return replace(self._known[1], holds_authority=self._authority_key() is not None)
        signed = self._read_roster(self._read_certificate(authority))
        state = ShopState(
            shop_id=signed.roster.shop_id,
            shop_name=signed.roster.shop_name,
            authority=signed.authority,
            certificate=self._read_certificate(certificate),
            signed_roster=signed,
            holds_authority=self._authority_key() is not None,
        )
        self._known = (stamps, state)
        return state

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
        """The shop's authority if this device holds its key, else None (also where its key was handed over)."""
        path = self._authority_key()
        if path is None:
            return None
        signed = self.signed_roster()
        key = keys.private_from_pem(path.read_bytes(), where=str(path))
        former = [certificates.public_key(each) for each in signed.authorities[1:]]
        if key.public_key() in former:
            return None
        return Authority.load(path.read_bytes(), signed.authority, signed.handovers, where=str(path))

    def require_authority(self) -> Authority:
        """The shop's authority. Raises `NoShop`, or `NotAdmin` if this device does not hold its key."""
        shop = self.require_shop()
        authority = self.authority()
        if authority is None:
            raise NotAdmin(f"This laptop does not hold the authority key of {shop.shop_name}.")
        return authority

    def tls_files(self) -> TlsFiles:
        """Where OpenSSL finds this device's certificate, key and authorities. Raises `NoShop`."""
        self.require_shop()
        return TlsFiles(self._shop / "device.pem", self._identity / "device.key", self._shop / "authority.pem")

    def _authority_key(self) -> Path | None:
        """The file of the authority's key. While the authority is rolled over the next one lies beside it."""
        path, following = self._shop / "authority.key", self._shop / "authority.next"
        if following.exists():
            key = keys.private_from_pem(following.read_bytes(), where=str(following))
            if key.public_key() == certificates.public_key(self.signed_roster().authority):
                return following
        return path if path.exists() else None

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


def _stamps(*paths: Path) -> tuple[tuple[int, ...], ...]:
    """The stamps of files, taken before they are read: what changes in between is then read again the next time."""
    stamps: list[tuple[int, ...]] = []
    for path in paths:
        try:
            stamps.append(files.stamp(path))
        except FileNotFoundError:
            stamps.append(())
    return tuple(stamps)
