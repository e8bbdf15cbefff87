"""Errors of the protocol: one tree, a class for each failure.

Every class carries ``code`` (kebab-case, stable, for programs), its text (a sentence that says what happened to
what) and ``hint`` (what to do next). Nothing else escapes this package, whatever bytes it is given.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """Root of all errors of the package ``protocol``.

    ``message`` is a full sentence for people; ``hint`` replaces the class's own advice where more is known.
    """

    code: str = "protocol-error"
    hint: str = "Make sure that both devices run the same version of Backroom, then try again."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class MessageError(ProtocolError):
    """A message between peers is not what PEER.md says."""

    code = "bad-message"
    hint = "Update Backroom on both devices to the same version."


class BadDelta(MessageError):
    """A delta does not fit the bundle that it builds on."""

    code = "bad-delta"
    hint = "Nothing is lost: the bundle is sent whole instead."


class BundleError(ProtocolError):
    """Something is wrong with a bundle."""

    code = "bundle-error"
    hint = "Make or fetch the backup again; this file cannot be used."


class NotABundle(BundleError):
    """The first bytes are not those of a bundle."""

    code = "not-a-bundle"
    hint = "Choose a file that ends in .bundle and was made by Backroom."


class UnknownVersion(BundleError):
    """The bundle was made by a version of the format that this reader does not know."""

    code = "unknown-version"
    hint = "Update Backroom on this device, then try again."


class Malformed(BundleError):
    """Bytes that no writer of this format makes: a record or a value is not in the one canonical form."""

    code = "malformed"


class OutOfOrder(BundleError):
    """A record or an entry comes where it may not come."""

    code = "out-of-order"


class TooLarge(BundleError):
    """A record says that it is larger than its limit; nothing of it was read."""

    code = "too-large"


class FrameTooLarge(TooLarge):
    """A frame is, or would unpack to, more than its limit."""

    code = "frame-too-large"
    hint = "A single row or block is too large to travel. Find the oversized value in the table and make it smaller."


class ManifestInvalid(BundleError):
    """The manifest contradicts itself or the rules of FORMAT.md."""

    code = "manifest-invalid"


class DeviceSectionRefused(ManifestInvalid):
    """A device section in a bundle that is not a full-device bundle."""

    code = "device-section"
    hint = "Make the backup again; device tables travel only in a full-device backup."


class UnclassifiedSectionRefused(ManifestInvalid):
    """An unclassified section in the bundle of one business."""

    code = "unclassified-section"
    hint = "Classify the table (backroom tables), then make the backup again."


class FrameDamaged(BundleError):
    """The bytes of a frame are not those that were written."""

    code = "frame-damaged"


class DecompressionBomb(BundleError):
    """A frame's data would unpack to something other than its declared length, or needs too much memory."""

    code = "decompression-bomb"
    hint = "Do not use this file, and find out who made it: Backroom does not write such data."


class WrongRowCount(BundleError):
    """The rows that came are not the rows that were announced."""

    code = "wrong-row-count"


class TrailingData(BundleError):
    """There are bytes after the seal."""

    code = "trailing-data"


class CutShort(BundleError):
    """The bytes end before the seal."""

    code = "cut-short"
    hint = "Copy or fetch the file again; the transfer ended too early."


class BadSeal(BundleError):
    """The seal does not fit what it closes, or its signature does not hold."""

    code = "bad-seal"


class WrongSigner(BadSeal):
    """The seal's signature holds, but another device than the manifest's source made it."""

    code = "wrong-signer"
    hint = "Do not use this file: it claims to come from a device that did not sign it."


class ForeignDeviceState(BundleError):
    """The bundle holds device state of another device. It may be stored, but never restored here."""

    code = "foreign-device-state"
    hint = "Ask that device for a business or full backup."
