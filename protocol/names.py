"""File names and folders of bundles (DESIGN section 4), safe on Windows, macOS and Linux."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from protocol.manifest import Kind, Manifest

_SLUG_LENGTH = 60
_FOLDERS = {Kind.FULL: "full", Kind.BUSINESS: "business", Kind.FULL_DEVICE: "device", Kind.UNDO: "undo"}


def bundle_name(manifest: Manifest, suffix: str = ".bundle") -> str:
    """The file name of a bundle, in UTC: ``backup-business-restaurant-abc-20260101-153045.bundle``.

    ``suffix`` is another one for the platform's own form (``.json``, ``.json.gz``). Two backups within a second have
    the same name; whoever keeps them tells them apart.
    """
    parts = ["backup", *_subject(manifest), manifest.created.strftime("%Y%m%d-%H%M%S")]
    return "-".join(parts) + suffix


def folder_for(kind: Kind) -> str:
    """The folder of the archive for bundles of ``kind``: full, business, device or undo."""
    return _FOLDERS[kind]


def slug(text: str) -> str:
    """``text`` as a part of a file name: lower-case ASCII letters, digits and single dashes, at most 60.

    Text of which nothing is left ("寿司") becomes a short digest of itself, so that names stay apart.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_SLUG_LENGTH].strip("-")
    return words or hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _subject(manifest: Manifest) -> list[str]:
    if manifest.kind is Kind.FULL:
        return ["full"]
    if manifest.kind is Kind.FULL_DEVICE:
        return ["full", "device", slug(manifest.source_device)]
    name = manifest.business.name if manifest.business is not None else manifest.bundle_id
    if manifest.kind is Kind.UNDO:
        return ["undo", slug(name)] if manifest.business is not None else ["undo"]
    return ["business", slug(name)]
