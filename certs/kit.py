"""What a recovery kit holds: all that makes a laptop this device, and on an admin's laptop the shop's authority too.

Plain bytes, which the caller seals before they touch a disk. Format: TRUST.md, "Recovery kit".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from certs import certificates, keys
from certs.authority import Authority, Membership
from certs.errors import Malformed
from certs.identity import Identity, check_name
from certs.members import read_time
from certs.roster import MAX_AROUND, MAX_ROSTER, SignedRoster
from certs.wire import Fields, checked, pack, unpack

FORMAT = 2
MAX_KIT = MAX_ROSTER + MAX_AROUND + 64 * 1024
_NONE = type(None)
_KEYS = frozenset({"recovery", "archive"})
_KIT: Fields = {
    "format": int,
    "made": int,
    "name": str,
    "key": bytes,
    "certificate": bytes,
    "shop": (dict, _NONE),
}
_NOW: Fields = {**_KIT, "keys": dict}
_SHOP: Fields = {"certificate": bytes, "roster": bytes, "authority": (bytes, _NONE)}


@dataclass(frozen=True, slots=True)
class Kit:
    """A device's identity (with its self-signed certificate), its shop if it has one, and the authority's key (PEM).

    ``opens`` are the keys of sealed backups (age identities), by what they are: "recovery" and "archive".
    """

    made: datetime
    identity: Identity
    shop: Membership | None = field(default=None, repr=False)
    authority: bytes | None = field(default=None, repr=False)
    opens: Mapping[str, str] = field(default_factory=dict, repr=False)

    def encode(self) -> bytes:
        """The bytes to be sealed at once."""
        shop = None
        if self.shop is not None:
            shop = {"certificate": self.shop.certificate, "roster": self.shop.roster, "authority": self.authority}
        return pack(
            {
                "format": FORMAT,
                "made": int(self.made.timestamp()),
                "name": self.identity.name,
                "key": keys.private_to_pem(self.identity.private_key),
                "certificate": self.identity.certificate,
                "shop": shop,
                "keys": dict(self.opens),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Kit:
        """Read and check all of it. Raises `Malformed`, `StoreDamaged`, and what checking the shop's part raises."""
        try:
            fields, format_read = unpack(data, _NOW, what="The recovery kit", limit=MAX_KIT), FORMAT
        except Malformed:
            fields, format_read = {**unpack(data, _KIT, what="The recovery kit", limit=MAX_KIT), "keys": {}}, 1
        if fields["format"] != format_read:
            raise Malformed(
                f"The recovery kit has format {fields['format']}; this version reads formats 1 to {FORMAT}."
            )
        opens = checked(
            fields["keys"], dict.fromkeys(fields["keys"].keys() & _KEYS, str), what="The recovery kit's keys"
        )
        key = keys.private_from_pem(fields["key"], where="the recovery kit")
        if certificates.public_key(fields["certificate"]) != key.public_key():
            raise Malformed("The recovery kit's certificate is not that of its key.")
        identity = Identity(check_name(fields["name"]), key, fields["certificate"])
        shop, authority = None, None
        if fields["shop"] is not None:
            part = checked(fields["shop"], _SHOP, what="The recovery kit's shop")
            shop, authority = _shop(identity, part["certificate"], part["roster"]), part["authority"]
            if authority is not None:
                Authority.load(authority, shop.authority, where="the recovery kit")
        return cls(read_time(fields["made"]), identity, shop, authority, opens)

    @property
    def roster(self) -> SignedRoster | None:
        """The shop's list of devices when the kit was made."""
        if self.shop is None:
            return None
        return SignedRoster.verify(self.shop.roster, certificates.check_authority(self.shop.authority))


def _shop(identity: Identity, certificate: bytes, roster: bytes) -> Membership:
    """The membership in a kit. Its certificate may be of an authority that was handed over since."""
    signed_by = certificates.load(certificate).issuer
    named = [str(each.value) for each in signed_by]
    signed = SignedRoster.verify(roster, named[0] if len(named) == 1 else "")
    if certificates.node_id_of_certificate(certificate) != identity.node_id:
        raise Malformed("The recovery kit's certificate is not that of its key.")
    return Membership(certificate, signed.authority, roster)
