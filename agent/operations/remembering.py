"""What the last restore of a business, and the last backup of it, made known, kept for the next one
(:mod:`agent.engine.known`).

A note in ``state/known``, and the bundle in the archive that it speaks of. Where either is not to be had, or says
something odd, the next one looks at everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from agent.archive.history import History
from agent.engine.known import Earlier, Known
from agent.log import get_logger
from agent.operations.deltas import kept_bundle
from agent.operations.workspace import Workspace
from agent.reading import Unreadable
from certs import files

log = get_logger(__name__)


class Of(StrEnum):
    """What a note is of."""

    RESTORED = "restored"
    MADE = "made"


@asynccontextmanager
async def remembered(
    workspace: Workspace, history: History, what: Of, business: str | None
) -> AsyncIterator[Earlier | None]:
    """What is known of the business (by ID, or as it was asked for; None: of none), as long as the block lasts; None
    where nothing is."""
    known = await asyncio.to_thread(_read, _path(workspace, what, business)) if business is not None else None
    kept = await kept_bundle(workspace, history, known.bundle_id) if known is not None else None
    if known is None or kept is None:
        yield None
        return
    try:
        file, base = await asyncio.to_thread(kept.open)
    except Unreadable as error:
        log.info("the earlier bundle cannot be read", bundle=known.bundle_id, reason=str(error))
        yield None
        return
    try:
        yield Earlier(known, base)
    finally:
        await asyncio.to_thread(file.close)


async def remember(workspace: Workspace, what: Of, business: str, known: Known) -> None:
    """Keep it for the next time, in place of what was known before."""
    try:
        await asyncio.to_thread(_write, _path(workspace, what, business), known)
    except OSError as error:
        # What was to be done is done: the next time only takes longer.
        log.warning("what is known was not kept", business=business, reason=str(error))


def _path(workspace: Workspace, what: Of, business: str) -> Path:
    name = hashlib.sha256(business.encode()).hexdigest()[:32]
    return workspace.home.state / "known" / f"{what}-{name}.json"


def _read(path: Path) -> Known | None:
    try:
        return Known.of(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, known: Known) -> None:
    files.make_private_folder(path.parent)
    files.replace_private(path, json.dumps(known.as_dict()).encode())
