"""How much of a platform backup file a reader takes before it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.limits import MIB


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Bounds of a reader.

    ``row`` and ``metadata`` are characters of JSON text of one row and of the metadata; ``containers`` is how many
    objects and arrays one row may hold; ``depth`` how deep they may stand in each other. ``total`` bytes is the whole
    file unpacked; beyond ``unpacked_free`` bytes, compressed data may not unpack to more than ``ratio`` times itself.
    """

    row: int = 32 * MIB
    metadata: int = MIB
    containers: int = 500_000
    depth: int = 400
    tables: int = 5_000
    columns: int = 1_600
    name: int = 200
    total: int = 256 * 1024 * MIB
    unpacked_free: int = 64 * MIB
    ratio: int = 300


DEFAULT_FILE_LIMITS = FileLimits()
"""A row of 32 million characters holds a picture of nine megabytes, and needs at most some 400 MB while it is read."""
