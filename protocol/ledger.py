"""The ledger: counts frames and rows per entry while a bundle is written or read, and holds them to the manifest."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import Malformed, OutOfOrder, WrongRowCount
from protocol.frames import EncodedFrame
from protocol.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Counts:
    """What a ledger has counted so far."""

    current: int
    frames: int
    rows: int
    raw_bytes: int
    stored_bytes: int
    entry_rows: tuple[int, ...]


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

    def counts(self) -> Counts:
        """All totals, to go on with later."""
        return Counts(self._current, self.frames, self.rows, self.raw_bytes, self.stored_bytes, tuple(self.entry_rows))

    def go_on(self, counts: Counts) -> None:
        """Take up earlier totals. Raises ``Malformed`` where they do not fit the manifest."""
        wanted = [entry.rows for entry in self._tables]
        fits = len(counts.entry_rows) == len(wanted) and 0 <= counts.current <= len(wanted)
        if not fits or any(found > rows for found, rows in zip(counts.entry_rows, wanted, strict=True)):
            raise Malformed("The totals belong to another bundle.")
        self._current = counts.current
        self.entry_rows = list(counts.entry_rows)
        self.frames, self.rows = counts.frames, counts.rows
        self.raw_bytes, self.stored_bytes = counts.raw_bytes, counts.stored_bytes

    def finish(self) -> None:
        """Raise ``WrongRowCount`` unless every entry has all of its rows."""
        self._complete_up_to(len(self._tables))

    def _complete_up_to(self, entry: int) -> None:
        for index in range(self._current, entry):
            wanted, found = self._tables[index].rows, self.entry_rows[index]
            if found != wanted:
                raise WrongRowCount(f"{self._tables[index].table} has {found} of the {wanted} rows of the manifest.")
        self._current = entry
