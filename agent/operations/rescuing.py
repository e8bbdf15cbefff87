"""Before a laptop is replaced: everything of it that can be had comes into this archive, and is proved to restore."""

from __future__ import annotations

from dataclasses import dataclass

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.engine.progress import Progress, silent
from agent.log import get_logger
from agent.operations.drills import NoScratch, drill
from agent.operations.errors import OperationError
from agent.operations.network import network
from agent.operations.pulling import pull
from agent.operations.replacing import fetch_held, held_by_others
from agent.operations.targets import other_device
from agent.operations.verify import verify_files
from agent.operations.workspace import Workspace
from agent.peers.errors import PeerError
from certs.roster import Member
from protocol.manifest import Kind

log = get_logger(__name__)

DRILL, VERIFY = "drill", "verify"


class NothingHeld(OperationError):
    code = "no-backups"
    hint = "Switch the laptop itself or more of the others on and try again; or push its businesses from one of them."


@dataclass(frozen=True, slots=True)
class Proved:
    """A backup of the old laptop in this archive, and whether it held. ``problem`` is empty where it did."""

    backup: BackupRecord
    problem: str


@dataclass(frozen=True, slots=True)
class Rescued:
    """What there is of the old laptop, oldest first. ``why_not`` says why it did not give a backup itself, else empty;
    ``proof``: ``drill``, or ``verify`` where no PostgreSQL is installed to hold a drill in; ``silent`` did not answer.
    """

    old: Member
    backups: tuple[Proved, ...]
    why_not: str
    proof: str
    silent: tuple[str, ...]

    @property
    def well(self) -> bool:
        return not any(each.problem for each in self.backups)


def newest(backups: tuple[BackupRecord, ...]) -> tuple[BackupRecord, ...]:
    """Of one laptop's backups the newest full one, and of each business the newest that is newer; oldest first."""
    chosen: dict[str | None, BackupRecord] = {}
    for each in sorted(backups, key=lambda one: one.created_at):
        if each.kind == Kind.FULL.value:
            chosen = {None: each}
        elif each.kind == Kind.BUSINESS.value and each.business_id is not None:
            chosen[each.business_id] = each
    return tuple(sorted(chosen.values(), key=lambda one: one.created_at))


async def rescue(workspace: Workspace, history: History, device: str, *, progress: Progress = silent) -> Rescued:
    """Pull everything from a laptop, or fetch the newest that the others hold where it does not answer; then prove it.

    Raises ``TrustError``, :class:`NothingHeld`, and what drills raise.
    """
    old = other_device(workspace, device)
    why_not = ""
    quiet: tuple[str, ...] = ()
    try:
        await pull(workspace, history, old.node_id, Kind.FULL, include_demo=True, progress=progress)
    except PeerError as error:
        why_not = str(error)
        quiet = await _fetch_held(workspace, history, old, progress)
    chosen = newest(await history.backups(device=old.node_id))
    if not chosen:
        raise NothingHeld(f"{why_not} Nobody who answers holds a backup of {old.name}.")
    proof, proved = await _prove(workspace, history, chosen, progress)
    return Rescued(old, proved, why_not, proof, quiet)


async def _fetch_held(workspace: Workspace, history: History, old: Member, progress: Progress) -> tuple[str, ...]:
    """Bring what others hold and this archive lacks; who of them did not answer."""
    async with network(workspace) as net:
        found, quiet = await held_by_others(workspace, net, old)
        here = {each.id for each in await history.backups(device=old.node_id)}
        kinds = (Kind.FULL.value, Kind.BUSINESS.value)
        held = {each.item.bundle_id: each for each in found if each.item.kind in kinds}
        for bundle_id in held.keys() - here:
            try:
                await fetch_held(workspace, history, net, old, held[bundle_id], progress)
            except PeerError as error:
                log.warning("not fetched", peer=held[bundle_id].holder.name, reason=str(error))
    return tuple(name for name in quiet if name != old.name)


async def _prove(
    workspace: Workspace, history: History, chosen: tuple[BackupRecord, ...], progress: Progress
) -> tuple[str, tuple[Proved, ...]]:
    try:
        drilled = [each async for each in drill(workspace, history, backups=chosen, progress=progress)]
        return DRILL, tuple(Proved(each.backup, "" if each.passed else each.record.error or "?") for each in drilled)
    except NoScratch:
        files = tuple((workspace.archive.locate(each.path), each) for each in chosen)
        verified = [each async for each in verify_files(workspace, history, files, deep=True, progress=progress)]
        return VERIFY, tuple(Proved(record, each.problem) for record, each in zip(chosen, verified, strict=True))
