"""The ledger: counts frames and rows per entry while a bundle is written or read, and holds them to the manifest."""

from __future__ import annotations

from protocol.errors import OutOfOrder, WrongRowCount
from protocol.frames import EncodedFrame
from protocol.manifest import Manifest


class Ledger:
    """Running totals of one bundle. ``entry_rows`` has the rows so far for each entry of the manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self._tables = manifest.tables
        self._current = 0
        self.entry_rows = [0] * len(manifest.tables)
        self.frames = 0
        self.rows = 0
        self.raw_bytes = 0
        self.stored_bytes = 0

    def add(self, frame: EncodedFrame) -> None:
        """Count ``frame``. Raises ``OutOfOrder`` if its entry does not come now, ``WrongRowCount`` if an entry
        before it is not complete or its own gets too many rows."""
        if frame.entry >= len(self._tables):
            raise OutOfOrder(f"A frame belongs to entry {frame.entry}; the manifest has {len(self._tables)}.")
        if frame.entry < self._current:
            raise OutOfOrder(
                f"A frame of {self._tables[frame.entry].table} comes after {self._tables[self._current].table}."
            )
        self._complete_up_to(frame.entry)
        wanted = self._tables[frame.entry].rows
        if self.entry_rows[frame.entry] + frame.rows > wanted:
            raise WrongRowCount(f"{self._tables[frame.entry].table} has more than the {wanted} rows of the manifest.")
        self.entry_rows[frame.entry] += frame.rows
        self.frames += 1
        self.rows += frame.rows
        self.raw_bytes += frame.raw_length
        self.stored_bytes += len(frame.data)

    def finish(self) -> None:
        """Raise ``WrongRowCount`` unless every entry has all of its rows."""
        self._complete_up_to(len(self._tables))

    def _complete_up_to(self, entry: int) -> None:
        for index in range(self._current, entry):
            wanted, found = self._tables[index].rows, self.entry_rows[index]
            if found != wanted:
                raise WrongRowCount(f"{self._tables[index].table} has {found} of the {wanted} rows of the manifest.")
        self._current = entry
