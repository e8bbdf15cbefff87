"""Pushes as deltas against a bundle that both sides hold already (PEER.md, "Deltas"). Blocking: run it in threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.reading import Opener, plainly, reading_earlier
from protocol.base import Base, Read, records
from protocol.delta import DeltaWriter, literal


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A bundle in this laptop's archive on which a delta may build; ``opener`` reads the file."""

    bundle_id: str
    path: Path
    opener: Opener = plainly

    def open(self) -> tuple[BinaryIO, Base]:
        """The file, which the caller closes, and the bundle in it. Raises ``Unreadable``."""
        with reading_earlier():
            file = self.opener(self.path)
            try:
                return file, Base(_reading(file))
            except BaseException:
                file.close()
                raise


def pieces(file: BinaryIO, base: Base, offset: int) -> Iterator[tuple[bytes, int]]:
    """The delta of a bundle file from ``offset`` on, in pieces, each with where in the bundle it ends."""
    writer = DeltaWriter(base)
    for position, tag, whole in records(_reading(file)):
        end = position + len(whole)
        if position >= offset:
            yield writer.record(tag, whole), end
            continue
        writer.skip(tag, whole)
        if end > offset:
            yield literal(whole[offset - position :]), end


def _reading(file: BinaryIO) -> Read:
    def read(position: int, size: int) -> bytes:
        file.seek(position)
        return file.read(size)

    return read
