"""How the bytes of a bundle file are read: as they lie there, or through a seal that whoever opened it knows."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Opener = Callable[[Path], BinaryIO]
"""Opens a bundle file for reading and seeking. Blocking. May raise errors of its own beside ``OSError``."""


class Unreadable(Exception):
    """An earlier bundle on which something builds cannot be read; whoever meets this does without. Says why."""


@contextmanager
def reading_earlier() -> Iterator[None]:
    """Raise as :class:`Unreadable` what the disk, an opener or the bundle itself (errors with a ``code``) say."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not hasattr(error, "code"):
            raise
        raise Unreadable(str(error)) from error


def plainly(path: Path) -> BinaryIO:
    """The file as it lies there."""
    return path.open("rb")


def size_of(path: Path, opener: Opener = plainly) -> int:
    """How many bytes the opener gives of the file. Blocking."""
    with opener(path) as file:
        return file.seek(0, io.SEEK_END)
