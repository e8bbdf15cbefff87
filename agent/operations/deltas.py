"""Which earlier bundles a push can build on, so that only what changed travels: those that both laptops have kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from agent.archive.history import History
from agent.archive.records import TransferRecord
from agent.operations.placing import kept_places
from agent.operations.workspace import Workspace
from agent.peers.delta import BaseFile
from protocol.manifest import Kind

MOST = 8


async def sent_before(workspace: Workspace, history: History, push: TransferRecord) -> tuple[BaseFile, ...]:
    """Bundles of the same business that this laptop made and handed to the same device, newest first."""
    earlier = await history.transfers(
        direction="sent", mode="push", peer=push.peer_node, business=push.business_id, limit=2 * MOST
    )
    # Without a receipt the other laptop may not have it.
    ids = [each.bundle_id for each in earlier if each.receipt is not None and each.bundle_id is not None]
    found = [await kept_bundle(workspace, history, each) for each in dict.fromkeys(ids) if each != push.bundle_id]
    return tuple(each for each in found if each is not None)[:MOST]


async def first_kept(
    workspace: Workspace, history: History, source_node: str, bundle_ids: Iterable[str]
) -> BaseFile | None:
    """The first of these bundles that this laptop has, if the device that offers them made it."""
    for bundle_id in bundle_ids:
        kept = await kept_bundle(workspace, history, bundle_id, source_node)
        if kept is not None:
            return kept
    return None


async def kept_bundle(
    workspace: Workspace, history: History, bundle_id: str, source_node: str | None = None
) -> BaseFile | None:
    record = await history.backup(bundle_id)
    if record is None or record.kind != Kind.BUSINESS.value or source_node not in (None, record.source_node):
        return None
    path = workspace.archive.locate(record.path)
    if not await asyncio.to_thread(path.is_file):
        return None
    return BaseFile(bundle_id, path, workspace.bundle_files.open, partial(kept_places, workspace.home, bundle_id))
