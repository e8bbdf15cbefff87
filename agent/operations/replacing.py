"""A new laptop in the place of an old one: its business data comes from the newest backups that the others hold of it.

The new laptop has an ID of its own, which the roster marks as replacing the old one; device state does not move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.database.merge import Conflicts
from agent.engine.progress import Progress, silent
from agent.log import get_logger
from agent.operations.applying import totals
from agent.operations.errors import OperationError
from agent.operations.fetching import Wanted, WrongBundle, fetch
from agent.operations.network import Network, network
from agent.operations.restores import restore_file
from agent.operations.workspace import Workspace
from agent.peers.errors import PeerError
from agent.peers.trusting import backups_of
from certs.roster import Member
from protocol.manifest import Kind, Manifest
from protocol.requests import PullKind, PullRequest
from protocol.trusting import BackupItem

log = get_logger(__name__)


class NotReplacing(OperationError):
    code = "not-replacing"
    hint = "Run `backroom invite --replaces OLD` on the admin's laptop, then `backroom replace OLD CODE` here."


class NoBackups(OperationError):
    code = "no-backups"
    hint = "Switch the other laptops on and run `backroom replace OLD` again; or push the businesses from one of them."


@dataclass(frozen=True, slots=True)
class Found:
    """A backup of the old laptop, and a laptop that holds it."""

    item: BackupItem
    holder: Member


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup that was fetched and restored; ``counts`` are rows by what became of them."""

    found: Found
    record: BackupRecord
    counts: Mapping[str, int]

    def as_dict(self) -> dict[str, object]:
        item = self.found.item
        return {
            "bundle_id": item.bundle_id,
            "kind": item.kind,
            "business": item.business_name,
            "created": item.created,
            "from": self.found.holder.name,
            **self.counts,
        }


@dataclass(frozen=True, slots=True)
class Replaced:
    """The old laptop, what was restored of it (oldest first), and which laptops did not answer."""

    old: Member
    taken: tuple[Taken, ...]
    silent: tuple[str, ...]


def replaced_device(workspace: Workspace, text: str) -> Member:
    """The device that this laptop replaces, if it is the one that ``text`` names. Raises :class:`NotReplacing`."""
    roster = workspace.store.require_shop().roster
    own = roster.require(workspace.store.identity().node_id)
    old = roster.member(own.replaces) if own.replaces else None
    if old is None or text.strip().casefold() not in (old.name.casefold(), old.node_id, old.short_id):
        what = f"replaces {old.name}, not {text!r}" if old else "replaces no other laptop"
        raise NotReplacing(f"In the list of {roster.shop_name} this laptop {what}.")
    return old


def choose(found: Iterable[Found]) -> tuple[Found, ...]:
    """What to restore, oldest first: the newest full backup, and of each business the newest that is newer still."""
    newest: dict[str | None, Found] = {}
    for each in sorted(found, key=lambda f: f.item.created):
        if each.item.kind == Kind.FULL.value:
            newest = {None: each}
        elif each.item.kind == Kind.BUSINESS.value and each.item.business is not None:
            newest[each.item.business] = each
    return tuple(sorted(newest.values(), key=lambda f: f.item.created))


async def replace(workspace: Workspace, history: History, old_name: str, *, progress: Progress = silent) -> Replaced:
    """Fetch and restore the newest backups of the laptop that this one replaces. Rows that are newer here stay.

    Raises :class:`NotReplacing`, :class:`NoBackups`, and what pulling and restoring raise.
    """
    old = await asyncio.to_thread(replaced_device, workspace, old_name)
    async with network(workspace) as net:
        found, quiet = await held_by_others(workspace, net, old)
        chosen = choose(found)
        if not chosen:
            missing = f" No answer from {', '.join(quiet)}." if quiet else ""
            raise NoBackups(f"No laptop that answers holds a backup of {old.name}.{missing}")
        taken = [await _take(workspace, history, net, old, each, progress) for each in chosen]
    return Replaced(old, tuple(taken), quiet)


async def held_by_others(workspace: Workspace, net: Network, old: Member) -> tuple[list[Found], tuple[str, ...]]:
    """The backups of ``old`` that the other laptops hold, and which of them did not answer."""
    own = workspace.store.identity().node_id
    others = [member for member in workspace.store.roster().members if member.active and member.node_id != own]

    async def ask(member: Member) -> list[Found] | None:
        try:
            async with asyncio.timeout(20):
                listed = await backups_of(net.directory, member.node_id, old.node_id)
        except (PeerError, TimeoutError) as error:
            log.info("not asked for backups", peer=member.name, reason=str(error))
            return None
        return [Found(item, member) for item in listed.backups if item.source_node == old.node_id]

    answers = await asyncio.gather(*(ask(member) for member in others))
    quiet = tuple(member.name for member, answer in zip(others, answers, strict=True) if answer is None)
    return [each for answer in answers for each in answer or ()], quiet


async def fetch_held(
    workspace: Workspace, history: History, net: Network, old: Member, found: Found, progress: Progress
) -> tuple[BackupRecord, Path]:
    """Fetch a backup of ``old`` from its holder into the archive. Raises what ``fetching.fetch`` does."""
    item, holder = found.item, found.holder
    kind = Kind(item.kind)

    def accept(manifest: Manifest) -> None:
        if (manifest.source_node, manifest.kind, manifest.bundle_id) != (old.node_id, kind, item.bundle_id):
            raise WrongBundle(f"{holder.name} sent another bundle than the one that was asked for.")

    request = PullRequest(cast(PullKind, item.kind), bundle_id=item.bundle_id)
    wanted = Wanted(holder, old, request, accept, item.business, item.business_name)
    _, record, path = await fetch(workspace, history, net, wanted, progress)
    return record, path


async def _take(
    workspace: Workspace, history: History, net: Network, old: Member, found: Found, progress: Progress
) -> Taken:
    record, path = await fetch_held(workspace, history, net, old, found, progress)
    # The old laptop is revoked, and its word is what the shop's list says that this one may have.
    result = await restore_file(
        workspace, history, path, conflicts=Conflicts.NEWER, trust_source=True, progress=progress
    )
    return Taken(found, record, totals(result.plan))
