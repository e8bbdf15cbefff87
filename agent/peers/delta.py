"""Pushes as deltas against a bundle that both sides hold already (PEER.md, "Deltas"). Blocking: run it in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.log import get_logger
from agent.reading import Opener, Unreadable, plainly, reading_earlier
from protocol.base import Base, Read, records
from protocol.delta import DeltaWriter, literal
from protocol.errors import BadDelta, ProtocolError
from protocol.places import Packed

log = get_logger(__name__)

# Frames that are the same are told in a few bytes, of which those of several travel together: each piece has its price.
_SHORT_BYTES, _TOGETHER = 256, 16


def _unknown() -> Packed | None:
    return None


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A bundle in this laptop's archive on which a delta may build; ``opener`` reads the file, ``places`` gives whoever
    opens it those of its frames (:mod:`protocol.places`), if they are known."""

    bundle_id: str
    path: Path
    opener: Opener = plainly
    places: Callable[[], Packed | None] = _unknown

    def open(self) -> tuple[BinaryIO, Base]:
        """The file, which the caller closes, and the bundle in it. Raises ``Unreadable``."""
        with reading_earlier():
            file = self.opener(self.path)
            try:
                return file, Base(_reading_base(file), self.places())
            except BaseException:
                file.close()
                raise


def pieces(file: BinaryIO, base: Base, offset: int) -> Iterator[tuple[bytes, int]]:
    """The delta of a bundle file from ``offset`` on, in pieces, each with where in the bundle it ends."""
    writer = DeltaWriter(base)
    short: list[bytes] = []
    end = 0
    for position, tag, whole in records(_reading(file)):
        end = position + len(whole)
        if position >= offset:
            short.append(writer.record(tag, whole))
            if len(short[-1]) > _SHORT_BYTES or len(short) == _TOGETHER:
                yield b"".join(short), end
                short.clear()
            continue
        writer.skip(tag, whole)
        if end > offset:
            yield literal(whole[offset - position :]), end
    if short:
        yield b"".join(short), end


def pieces_while_readable(
    file: BinaryIO, base: Base, offset: int, plain: Callable[[int], Iterator[tuple[bytes, int]]]
) -> Iterator[tuple[bytes, int]]:
    """The same as long as the base can be read; from there on the bytes themselves, as ``plain`` gives them."""
    reached = offset
    try:
        for data, reached in pieces(file, base, offset):
            yield data, reached
    except ProtocolError as error:
        log.info("no delta any more", reason=str(error))
        yield from ((literal(data), position) for data, position in plain(reached))


def _reading(file: BinaryIO) -> Read:
    def read(position: int, size: int) -> bytes:
        file.seek(position)
        return file.read(size)

    return read


def _reading_base(file: BinaryIO) -> Read:
    """The same of an earlier bundle: what its disk or its seal says is the base's fault, wherever it comes up."""
    read = _reading(file)

    def reading(position: int, size: int) -> bytes:
        try:
            with reading_earlier():
                return read(position, size)
        except Unreadable as error:
            raise BadDelta(f"The earlier bundle cannot be read any more: {error}") from error

    return reading
