"""What the last restore of a business made known, kept for the next one (:mod:`agent.engine.known`).

A note in ``state/known``, and the bundle in the archive that it speaks of. Where either is not to be had, or says
something odd, the next restore looks at everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.archive.history import History
from agent.engine.known import Known
from agent.engine.sifting import Earlier
from agent.log import get_logger
from agent.operations.deltas import kept_bundle
from agent.operations.workspace import Workspace
from certs import files
from protocol.manifest import BusinessRef, Kind, Manifest

log = get_logger(__name__)


@asynccontextmanager
async def remembered(workspace: Workspace, history: History, manifest: Manifest) -> AsyncIterator[Earlier | None]:
    """What is known of the business that the bundle is about, as long as the block lasts; None where nothing is."""
    if manifest.kind is not Kind.BUSINESS or manifest.business is None:
        yield None
        return
    known = await asyncio.to_thread(_read, _path(workspace, manifest.business))
    kept = await kept_bundle(workspace, history, known.bundle_id) if known is not None else None
    if known is None or kept is None:
        yield None
        return
    try:
        file, base = await asyncio.to_thread(kept.open)
    except Exception as error:
        if not isinstance(error, OSError) and not hasattr(error, "code"):
            raise
        log.info("the bundle of the last restore cannot be read", bundle=known.bundle_id, reason=str(error))
        yield None
        return
    try:
        yield Earlier(known, base)
    finally:
        await asyncio.to_thread(file.close)


async def remember(workspace: Workspace, business: BusinessRef, known: Known) -> None:
    """Keep it for the next restore of the business, in place of what was known before."""
    path = _path(workspace, business)
    try:
        await asyncio.to_thread(_write, path, known)
    except OSError as error:
        # The restore itself is done: the next one only takes longer.
        log.warning("what is known was not kept", business=business.name, reason=str(error))


def _path(workspace: Workspace, business: BusinessRef) -> Path:
    return workspace.home.state / "known" / f"{hashlib.sha256(business.id.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> Known | None:
    try:
        return Known.of(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, known: Known) -> None:
    files.make_private_folder(path.parent)
    files.replace_private(path, json.dumps(known.as_dict()).encode())
