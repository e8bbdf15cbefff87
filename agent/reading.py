"""How the bytes of a bundle file are read: as they lie there, or through a seal that whoever opened it knows."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

Opener = Callable[[Path], BinaryIO]
"""Opens a bundle file for reading and seeking. Blocking. May raise errors of its own beside ``OSError``."""


def plainly(path: Path) -> BinaryIO:
    """The file as it lies there."""
    return path.open("rb")


def size_of(path: Path, opener: Opener = plainly) -> int:
    """How many bytes the opener gives of the file. Blocking."""
    with opener(path) as file:
        return file.seek(0, io.SEEK_END)
