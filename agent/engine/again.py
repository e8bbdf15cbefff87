"""A backup of a business of which there is an earlier one: rows that nobody has touched since are those of that bundle.

What is in a business is decided by rows of many tables; where all of these still stand as they did
(:mod:`agent.database.part_marks`), the frames of the earlier bundle are written into a new one as they are, with a
manifest and a seal of their own. Nothing has to be found, checked, read or packed.

Else the rows are found and checked as ever, and the frames of those parts of large tables are taken from the earlier
bundle that still stand as they did, as long as each of their rows tells by itself whether it is in. Of parts of which
few rows were touched the frames are taken without these (:mod:`agent.engine.touched`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from agent.database.part_marks import Standings
from agent.database.snapshot import Snapshot
from agent.engine.known import Earlier, Known, PartFrames
from agent.engine.reading import Kept, Piece
from agent.engine.touched import Touched
from agent.tables.scope import scope_rules
from protocol.manifest import Manifest


def fitting(snapshot: Snapshot, earlier: Earlier | None, business: str, compress: bool) -> Earlier | None:
    """The earlier bundle if a backup of the business (its ID) would be made of the same rows in the same way now, as
    far as the rows are the same."""
    before = earlier.manifest if earlier is not None else None
    if (
        earlier is None
        or before is None
        or earlier.known.schema != _rules(snapshot)
        or before.business is None
        or before.business.id != business
        or before.options.compress != compress
    ):
        return None
    return earlier


def keep(
    earlier: Earlier, standings: Standings, begun: Mapping[str, Sequence[Piece]], part_pages: int, touched: Touched
) -> None:
    """Give those of the pieces (by table, in parts of ``part_pages``) whose rows are the same as in the earlier bundle
    its frames; those of which rows were touched are told to ``touched``. Each is looked at once."""
    before = earlier.manifest
    if before is None:
        return
    places = {entry.table: index for index, entry in enumerate(before.tables) if not entry.stub}
    for name, pieces in begun.items():
        noted = earlier.known.parts.get(name)
        standing = standings.tables[name]
        if noted is None or name not in places or (noted.file, noted.pages) != (standing.place.file, part_pages):
            continue
        start, end = earlier.base.range(places[name])
        last_then, last_now = len(noted.parts) - 1, len(standing.parts) - 1
        for piece in pieces:
            # The last part goes on to the end of the table. One that was followed by others then holds more pages now.
            if piece.part is None or piece.asked:
                continue
            piece.asked = True
            now = standing.parts[piece.part]
            if piece.part > last_then or (piece.part == last_now and last_now < last_then):
                # Pages that are new are of no frame, if no row on them is old.
                touched.add(piece, None if now.old else range(0), now)
                continue
            rows, first, count = noted.parts[piece.part]
            frames = range(first, first + count) if count >= 0 and start <= first and first + count <= end else None
            if frames is not None and now.before and now.rows == rows:
                piece.kept = Kept(frames)
            else:
                touched.add(piece, frames, now)


def note(
    snapshot: Snapshot,
    manifest: Manifest,
    content: str,
    standings: Standings,
    written: Mapping[tuple[str, int], range],
    part_pages: int,
) -> Known:
    """What the next backup of the business may build on: the bundle of this snapshot, whose frames have the digest
    ``content``, with those that hold the rows of each part of a table in ``written``."""
    parts: dict[str, PartFrames] = {}
    for name, standing in standings.tables.items():
        frames = [written.get((name, number)) for number in range(len(standing.parts))]
        if None not in frames:
            told = zip(standing.parts, [each for each in frames if each is not None], strict=True)
            noted = tuple((part.rows, each.start, len(each)) for part, each in told)
            parts[name] = PartFrames(standing.place.file, part_pages, noted)
    rules, mark = _rules(snapshot), standings.mark()
    return Known(manifest.bundle_id, manifest.digest().hex(), content, rules, {}, mark, parts)


def _rules(snapshot: Snapshot) -> str:
    """A digest over what decides, beside the rows, what is in a backup and in which form."""
    schema, classification = snapshot.schema, snapshot.classification
    timestamps = {name: classification.timestamp(table) for name, table in sorted(schema.tables.items())}
    decides = schema.fingerprint(), repr(scope_rules(schema, classification)), repr(timestamps)
    return hashlib.sha256("\n".join(decides).encode()).hexdigest()
