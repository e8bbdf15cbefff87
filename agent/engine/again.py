"""A backup of a business that nobody has touched since the last one: its rows are those of that bundle.

What is in a business is decided by rows of many tables; where all of these still stand as they did
(:mod:`agent.database.untouched`), the frames of the earlier bundle are written into a new one as they are, with a
manifest and a seal of their own. Nothing has to be found, checked, read or packed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from agent.database.errors import DatabaseError, translating
from agent.database.snapshot import Snapshot
from agent.database.untouched import Mark, Marking, untouched
from agent.engine.known import Earlier, Known
from agent.log import get_logger
from agent.tables.scope import scope_rules
from protocol.manifest import Manifest

log = get_logger(__name__)


async def as_before(
    snapshot: Snapshot, earlier: Earlier, business: str, compress: bool, names: Sequence[str]
) -> Manifest | None:
    """The manifest of the earlier bundle, if a backup of the business (its ID) would have the very same rows now;
    ``names`` are the tables that it reads."""
    known, before = earlier.known, earlier.manifest
    if (
        before is None
        or known.schema != _rules(snapshot)
        or before.business is None
        or before.business.id != business
        or before.options.compress != compress
    ):
        return None
    tables = [snapshot.schema.tables[name] for name in names]
    return before if await untouched(snapshot.connection, known.mark, tables) == set(names) else None


async def go_on(marking: Marking, connection: Any) -> None:
    """Mark by this connection what is left to be marked; where that cannot be, no backup is worse for it."""
    try:
        with translating("Marking the tables"):
            await marking.go_on(connection)
    except DatabaseError as error:
        log.info("the next backup will read everything", reason=str(error))


def note(snapshot: Snapshot, manifest: Manifest, content: str, names: Sequence[str], mark: Mark) -> Known | None:
    """What the next backup of the business may build on: the bundle of this snapshot, whose frames have the digest
    ``content``. None where somebody was at work in one of the tables."""
    if set(mark.tables) != set(names):
        return None
    return Known(manifest.bundle_id, manifest.digest().hex(), content, _rules(snapshot), {}, mark)


def _rules(snapshot: Snapshot) -> str:
    """A digest over what decides, beside the rows, what is in a backup and in which form."""
    schema, classification = snapshot.schema, snapshot.classification
    timestamps = {name: classification.timestamp(table) for name, table in sorted(schema.tables.items())}
    decides = schema.fingerprint(), repr(scope_rules(schema, classification)), repr(timestamps)
    return hashlib.sha256("\n".join(decides).encode()).hexdigest()
