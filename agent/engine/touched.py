"""Parts of tables of which few rows were touched since an earlier bundle: its frames without the rows that went, and
the rows that came.

A row that was written since the mark is young, and found by that. Which rows of a part went, nothing in the table says:
an updated one lies elsewhere now, under its old key. So the rows of the part's frames whose keys young rows have are
those that went, if they are as many as are missing: rows that are still there as they were have keys of their own.
Where they are not, as after a deletion, the part is read as a whole.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import asyncpg

from agent.database.errors import translating
from agent.database.export import BLOCK_BYTES, copy_blocks
from agent.database.names import qualified
from agent.database.part_marks import PartRows
from agent.database.untouched import written_since
from agent.engine.begun import Begun
from agent.engine.known import Earlier
from agent.engine.reading import Kept, Piece, Reading
from agent.reading import reading_earlier
from agent.tables.schema import Schema
from protocol.cuts import MOST_CUTS, Cut, apply_cuts, cut_bytes, is_cut, join_cuts
from protocol.errors import FrameTooLarge
from protocol.frames import Codec, pack_block, whole_block

_Finder = Callable[[bytes], Iterator[Cut]]
LEAST_ROWS = 1_000
"""Fewer rows than this are read sooner."""
_MOST_YOUNG, _MOST_YOUNG_BYTES = 20, 16 << 20
"""Young rows of a table are at most this part of those that were in its touched parts: where there are more it is
cheaper to read all. They are held in memory, those of all tables together up to so many bytes."""
_PARTS_AT_ONCE = 500
_MOST_GONE = 4
"""A frame from which more than this part of its bytes has gone is packed anew, with all of its part."""
_SMALL_BYTES = 256 << 10
"""A part's last frame that is so small is packed anew with the rows that came."""
# So few rows are looked for in a block one by one.
_FEW = 16
# Tables with heirs may have a key twice.
_ALONE = (
    "SELECT w.place - 1 FROM unnest($1::text[]) WITH ORDINALITY w (name, place) JOIN pg_class c "
    "ON c.oid = w.name::regclass WHERE c.relkind = 'r' AND NOT c.relhassubclass"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a table: its piece, the frames of the earlier bundle that held its rows (None: it is read, but its
    young rows are asked for), how many of these are there as they were, and how many are young."""

    piece: Piece
    frames: range | None
    stay: int
    young: int


class Touched:
    """Those of one backup of business rows that builds on ``earlier``, whose mark is believed."""

    def __init__(self, schema: Schema, earlier: Earlier, begun: Begun, reading: Reading, *, compress: bool) -> None:
        self._schema = schema
        self._reading = reading
        self._compress = compress
        self._earlier = earlier
        self._begun = begun
        self._tables: dict[str, list[_Part]] = defaultdict(list)
        self._room = _MOST_YOUNG_BYTES
        self._looking: list[tuple[Piece, asyncio.Future[Kept | None]]] = []
        self._finding = asyncio.Lock()
        self._one_reads = threading.Lock()

    def add(self, piece: Piece, frames: range | None, now: PartRows) -> None:
        """A touched part, and the frames that held its rows, if that can be told. Nobody reads it before it is
        :meth:`settled` how."""
        if now.old is None:
            return
        rows, old = (now.rows, now.old) if now.met is None else (now.met, now.old_met or 0)
        self._tables[piece.table].append(_Part(piece, frames, old, rows - old))
        piece.held = True

    async def find(self, connection: asyncpg.Connection) -> None:
        """Look for the young rows of all parts so far, by whichever connection that sees the snapshot comes first; the
        other waits. Which rows went is looked for by threads then. Raises errors of the database."""
        async with self._finding:
            if not (names := [*self._tables]):
                return
            found = await connection.fetch(_ALONE, [qualified(self._schema.tables[name]) for name in names])
            alone = {names[place] for (place,) in found}
            for name in names:
                looked = await self._find(connection, name) if name in alone and self._worth_it(name) else set()
                for part in self._tables.pop(name):
                    part.piece.held = part.piece in looked

    async def settled(self) -> None:
        """Wait until it is decided how the parts are read of which the young rows are known. Raises ``Unreadable``
        where the earlier bundle is not what it was."""
        for piece, looking in self._looking:
            piece.kept = await looking
            piece.held = False

    def _worth_it(self, name: str) -> bool:
        """Whether rows of the table have a key, and few of them are young."""
        table, base, parts = self._schema.tables[name], self._earlier.base, self._tables[name]
        if not table.identity or len(table.stored_columns) <= len(table.identity):
            return False
        numbers = [number for part in parts for number in part.frames or ()]
        rows, size = sum(map(base.rows, numbers)), sum(map(base.raw_length, numbers))
        young = sum(part.young for part in parts)
        return rows >= LEAST_ROWS and young * _MOST_YOUNG <= rows and young * size <= self._room * rows

    async def _find(self, connection: asyncpg.Connection, name: str) -> set[Piece]:
        """Look for the young rows of a table, and have its parts looked at: these, or none of them."""
        parts, fields = self._tables[name], len(self._schema.tables[name].identity)
        came: dict[int, list[bytes]] = defaultdict(list)
        keys: set[bytes] = set()
        asked = [number for number, part in enumerate(parts) if part.young]
        for start in range(0, len(asked), _PARTS_AT_ONCE):
            query = self._query(name, asked[start : start + _PARTS_AT_ONCE])
            with translating(f"The backup of table {name}"):
                async for block in copy_blocks(connection, query):
                    self._room -= len(block)
                    if self._room < 0:
                        # They are much longer than their earlier versions: the rest is passed over.
                        came.clear()
                        continue
                    for line in block[:-1].split(b"\n"):
                        place, _, row = line.partition(b"\t")
                        came[int(place)].append(row)
                        keys.add(_key(row, fields))
            if self._room < 0:
                return set()
        find = _finder(keys, fields)
        looking = [
            (part.piece, self._reading.beside(self._kept, part, part.frames, find, came[number]))
            for number, part in enumerate(parts)
            if part.frames is not None
        ]
        self._looking += looking
        return {piece for piece, _ in looking}

    def _query(self, name: str, parts: Sequence[int]) -> str:
        """The query of the young rows of these of the table's parts, each row behind the part's place."""
        condition = written_since(self._earlier.known.mark.oldest, "t")
        return " UNION ALL ".join(
            f"SELECT {place} AS place, r.* "
            f"FROM ({self._begun.query(name, self._tables[name][place].piece.part or 0, condition)}) r"
            for place in parts
        )

    def _kept(self, part: _Part, frames: range, find: _Finder, came: list[bytes]) -> Kept | None:
        """The part as frames of the earlier bundle and rows that came; None where it has to be read. Blocking."""
        base = self._earlier.base
        missing = sum(map(base.rows, frames)) - part.stay
        merged = frames[-1] if frames and came and base.raw_length(frames[-1]) < _SMALL_BYTES else None
        rest = [b"".join(row + b"\n" for row in came)]
        cuts: dict[int, tuple[tuple[Cut, ...], int]] = {}
        for number in frames:
            if not missing and number != merged:
                continue
            with reading_earlier():
                with self._one_reads:
                    frame = base.frame(number)
                block, before = whole_block(frame)
            found = [cut for cut in find(block) if not is_cut(before, cut[0])]
            missing -= len(found)
            now = join_cuts((*before, *found))
            if number == merged:
                with reading_earlier():
                    rest.insert(0, apply_cuts(block, now))
                frames = frames[:-1]
            elif found:
                if frame.codec is Codec.NONE or len(now) > MOST_CUTS or cut_bytes(now) * _MOST_GONE > len(block):
                    return None
                cuts[number] = now, frame.rows - len(found)
        if missing:
            return None
        with suppress(FrameTooLarge):  # who reads the part will say which row it is
            return Kept(
                frames, cuts, tuple(pack_block(rows, compress=self._compress) for rows in _blocks(b"".join(rest)))
            )
        return None


def _key(row: bytes, fields: int) -> bytes:
    """The first fields of a row, with the tabs behind them."""
    return b"\t".join((*row.split(b"\t", fields)[:fields], b""))


def _finder(keys: set[bytes], fields: int) -> _Finder:
    """What tells where rows with these keys are in a block."""
    widths = {len(key) for key in keys}
    # Keys that are all of one length, as IDs are, are found in half the time.
    key_of = itemgetter(slice(*widths)) if len(widths) == 1 else partial(_key, fields=fields)

    def find(block: bytes) -> Iterator[Cut]:
        rows = block[:-1].split(b"\n")
        found = keys.intersection(map(key_of, rows))
        if len(found) <= _FEW:
            for key in found:
                start = 0 if block.startswith(key) else block.index(b"\n" + key) + 1
                yield start, block.index(b"\n", start) + 1 - start
            return
        start = 0
        for row in rows:
            if key_of(row) in found:
                yield start, len(row) + 1
            start += len(row) + 1

    return find


def _blocks(rows: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(rows):
        end = rows.find(b"\n", start + BLOCK_BYTES) + 1 or len(rows)
        yield rows[start:end]
        start = end
