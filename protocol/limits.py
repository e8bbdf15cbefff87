"""How much a reader accepts before it refuses. A length is never trusted until it was held against one of these."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20

BUNDLE_VERSION = 1
"""The version of FORMAT.md that this package writes, and the only one that it reads."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a reader (FORMAT.md, "Limits"); sizes in bytes.

    ``manifest_values`` bounds how many msgpack values a manifest may hold, and so the memory that it takes once
    decoded. ``window_bytes`` is the memory that a decompressor may need beyond the frame's own raw length.
    ``frame_bytes_over_data`` is what a frame record holds beside its data.
    """

    header_bytes: int = 64
    manifest_bytes: int = 4 * MIB
    manifest_values: int = 400_000
    seal_bytes: int = 256 << 10
    frame_raw_bytes: int = 64 * MIB
    frame_stored_bytes: int = 64 * MIB
    frame_bytes_over_data: int = 64
    window_bytes: int = 8 * MIB
    nesting: int = 6
    tables: int = 10_000
    columns: int = 1_600
    enums: int = 10_000
    labels: int = 20_000
    warnings: int = 10_000
    rows: int = (1 << 48) - 1
    frame_rows: int = (1 << 32) - 1
    id_bytes: int = 128
    identifier_bytes: int = 63
    type_bytes: int = 400
    text_bytes: int = 4_096
    certificate_bytes: int = 16 << 10
    signature_bytes: int = 512


DEFAULT_LIMITS = Limits()
"""The limits of FORMAT.md. A writer keeps to them too, so that whatever is written can be read."""
