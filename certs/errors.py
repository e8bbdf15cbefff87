"""The error tree of trust: who may not be believed, and why.

Every error has a `code` for machines (kebab-case, stable), a message (a full sentence on what happened to what) and a
`hint` (what the reader can do next).
"""

from __future__ import annotations

from datetime import datetime


def moment(value: datetime) -> str:
    """A time as the messages show it: UTC, to the second."""
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


class TrustError(Exception):
    """Root of everything that certs refuses. `hint` may be sharpened per case; otherwise the class's own is used."""

    code: str = "trust"
    hint: str = "Run `backroom status` to see this laptop's identity and shop."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class StoreDamaged(TrustError):
    """A file of the identity or shop folder is missing or does not hold what it must."""

    code = "store-damaged"
    hint = "Put the file back from a recovery kit; do not delete the identity folder, it is this laptop's identity."


class NoIdentity(TrustError):
    """This laptop has no device key yet."""

    code = "no-identity"
    hint = "Run `backroom init` first."


class NoShop(TrustError):
    """This laptop belongs to no shop yet."""

    code = "no-shop"
    hint = "Run `backroom shop create NAME` on the first laptop, or `backroom join CODE` on a further one."


class AlreadyInShop(TrustError):
    """This laptop belongs to a shop and cannot create or join another."""

    code = "already-in-shop"
    hint = "Use another data folder (`--home`) for another shop."


class NotAdmin(TrustError):
    """The action needs the shop's authority key, which this laptop does not hold."""

    code = "not-admin"
    hint = "Do this on the admin laptop that created the shop."


class LastAdmin(TrustError):
    """The action would leave the shop without an active admin."""

    code = "last-admin"
    hint = "Make another device an admin first."


class BadName(TrustError):
    """A device or shop name that cannot be shown safely."""

    code = "bad-name"
    hint = "Use 1 to 64 printable characters."


class Malformed(TrustError):
    """Bytes that are not what they claim to be: wrong shape, wrong type, too long."""

    code = "malformed"
    hint = "Check that both laptops run the same version of Backroom."


class BadCertificate(TrustError):
    """A certificate that cannot be read, has a key other than P-256, or says things that do not fit together."""

    code = "bad-certificate"
    hint = "Join the shop again on that laptop with a new invitation."


class NoCertificate(TrustError):
    """The other side of a connection showed no certificate."""

    code = "no-certificate"
    hint = "Only devices that joined this shop can connect; run `backroom join CODE` there."


class BadSignature(TrustError):
    """A signature that does not belong to the content and key that it stands beside."""

    code = "bad-signature"
    hint = "The content was changed or made by someone else; do not use it and fetch it again from its source."


class UnknownDevice(TrustError):
    """A node ID (or name) that the roster does not have."""

    code = "unknown-device"
    hint = "Run `backroom devices` to see the shop's devices, or invite it with `backroom invite`."


class AmbiguousDevice(TrustError):
    """A name or short ID that several devices of the roster answer to."""

    code = "ambiguous-device"
    hint = "Name the device by its node ID."


class RevokedDevice(TrustError):
    """A device that an admin has shut out."""

    code = "revoked-device"
    hint = "If it should come back, an admin can invite it again with `backroom invite`."


class WrongShop(TrustError):
    """A certificate, roster or device of another shop."""

    code = "wrong-shop"
    hint = "Both laptops must have joined the same shop; run `backroom status` on both."


class WrongNode(TrustError):
    """A right certificate of this shop, but of another device than the one that was expected."""

    code = "wrong-node"
    hint = "The address belongs to another laptop now; let discovery find it again or correct the manual address."


class HandshakeFailed(TrustError):
    """TLS could not be set up for a reason other than who the other side is."""

    code = "handshake-failed"
    hint = "Check that the address and port are those of a Backroom agent, and that both run the same version."


class ExpiredCertificate(TrustError):
    """A certificate that has ended by this laptop's clock. Both times are in the message."""

    code = "expired-certificate"
    hint = "If the clock of this laptop is right, renew the certificate from an admin laptop; else set the clock."

    def __init__(self, whose: str, ended: datetime, now: datetime) -> None:
        super().__init__(
            f"The certificate of {whose} ended at {moment(ended)}; this laptop's clock says {moment(now)}."
        )
        self.ended = ended
        self.now = now


class CertificateNotYetValid(TrustError):
    """A certificate that begins in the future of this laptop's clock. Both times are in the message."""

    code = "certificate-not-yet-valid"
    hint = "One of the two clocks is wrong; set the date and time on both laptops."

    def __init__(self, whose: str, begins: datetime, now: datetime) -> None:
        super().__init__(
            f"The certificate of {whose} begins at {moment(begins)}; this laptop's clock says {moment(now)}."
        )
        self.begins = begins
        self.now = now


class RosterRollback(TrustError):
    """A roster older than the one held: someone tries to bring back a device that was revoked since."""

    code = "roster-rollback"
    hint = "Nothing was changed. The other laptop will take the newer roster from this one."


class RosterConflict(TrustError):
    """Two different rosters with the same version, both signed: the authority's key was used in two places."""

    code = "roster-conflict"
    hint = "Make the next change to the shop on one admin laptop only; the higher version will settle it."


class ForeignAuthority(TrustError):
    """A roster of this shop by an authority that does not follow from the one held."""

    code = "foreign-authority"
    hint = "The shop's authority was rolled over in two places, or someone uses an old key: ask the shop's admin."


class TooManyHandovers(TrustError):
    """The authority was rolled over as often as a roster can tell."""

    code = "too-many-handovers"
    hint = "Nothing was changed. Found a new shop and invite the laptops into it; business data is not touched by that."


class WrongClock(TrustError):
    """One of two clocks is wrong; both times are in the message."""

    code = "wrong-clock"
    hint = "Set the date and time of that laptop, best by switching on 'set time automatically'."


class WrongKit(TrustError):
    """A recovery kit, or a shared authority, that cannot be used on this laptop."""

    code = "wrong-kit"
    hint = "Use the file that was made for this laptop and shop."


class JoinError(TrustError):
    """Root of what can go wrong while a device joins a shop."""

    code = "join-failed"
    hint = "Ask for a new code with `backroom invite` on the admin laptop."


class BadCode(JoinError):
    """Text that is no invitation code: not a number and three words of the list."""

    code = "bad-code"
    hint = "A code is a number and three words, such as 7-copper-lantern-violin."


class WrongCode(JoinError):
    """The two sides do not hold the same code, or someone stands between them."""

    code = "wrong-code"
    hint = "Read the code again; after three wrong codes the invitation closes and a new one is needed."


class WindowClosed(JoinError):
    """The invitation is over: used, timed out, or closed by three wrong codes."""

    code = "window-closed"


class NoWindow(JoinError):
    """The laptop asked has no open invitation with this number."""

    code = "no-window"
    hint = "Check the number of the code, and that `backroom invite` is still open on the admin laptop."


class JoinDeclined(JoinError):
    """The admin, or the person at the joining laptop, said no."""

    code = "join-declined"


class OutOfTurn(JoinError):
    """A message that does not fit the state of the exchange."""

    code = "out-of-turn"
    hint = "Start the join again."
