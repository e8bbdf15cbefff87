"""Earlier bundles that cannot be read any more: whatever says so, it is known to be the base's fault."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.archive.errors import ArchiveError
from agent.peers.delta import BaseFile, pieces
from agent.reading import Unreadable
from protocol.delta import DeltaReader
from protocol.errors import BadDelta
from protocol.places import unpack_places
from tests.protocol.test_delta import bundle, rows
from tests.protocol.test_places import places_of

ONE = bundle({"orders": rows(1, 400)}, "one")
TWO = bundle({"orders": [b"new\t1\t2\n", *rows(1, 400)[1:]]}, "two")
FRAMES = next(unpack_places(places_of(ONE))).position


class Worn(io.BytesIO):
    """A file whose disk, or seal, gives its beginning alone."""

    def __init__(self, error: Exception, good: int) -> None:
        super().__init__(ONE)
        self._error, self._good = error, good

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._good:
            raise self._error
        return super().read(size)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), ArchiveError("The seal is damaged.")], ids=["disk", "seal"]
)
def test_a_base_that_wears_out_is_told_as_such(tmp_path: Path, error: Exception) -> None:
    def opener(_path: Path) -> BinaryIO:
        return Worn(error, FRAMES)

    _, base = BaseFile("one", tmp_path, opener, lambda: places_of(ONE)).open()
    with pytest.raises(BadDelta, match="cannot be read any more"):
        base.frame(0)
    with pytest.raises(Unreadable):
        BaseFile("one", tmp_path, lambda _: Worn(error, 10)).open()
    # Who makes a delta meets it, too, and so does who reads one that names a frame.
    with pytest.raises(BadDelta):
        list(pieces(io.BytesIO(TWO), base, 0))
    whole = io.BytesIO(ONE)
    _, good = BaseFile("one", tmp_path, lambda _: io.BytesIO(ONE)).open()
    with pytest.raises(BadDelta):
        [part for piece, _ in pieces(whole, good, 0) for part in DeltaReader(base).feed(piece)]
