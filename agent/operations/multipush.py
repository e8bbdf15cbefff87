"""One backup of a business for several laptops: made once, sent to all at the same time, each with its own receipt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.database.businesses import find_business
from agent.engine.backup import BackupRequest
from agent.engine.progress import Progress, Step, silent
from agent.operations.backups import make_backup
from agent.operations.handing import hand_over, push_record
from agent.operations.look import businesses
from agent.operations.network import Network, network
from agent.operations.requests import PushMode
from agent.operations.rights import require_push
from agent.operations.targets import WrongTarget, other_device
from agent.operations.workspace import Workspace
from agent.peers.push import Pushed
from certs.roster import Member
from protocol.manifest import Kind
from protocol.messages import Problem

AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of it on one laptop: the push with its receipt, or the problem."""

    member: Member
    pushed: Pushed | None
    problem: Problem | None

    def as_dict(self) -> dict[str, object]:
        found: dict[str, object] = {"device": {"node_id": self.member.node_id, "name": self.member.name}}
        if self.pushed is not None:
            receipt = self.pushed.receipt
            found |= {"outcome": receipt.outcome, "bytes_sent": self.pushed.sent, **receipt.totals}
        if self.problem is not None:
            error = {"code": self.problem.code, "message": self.problem.message, "hint": self.problem.hint}
            found |= {"outcome": "failed", "error": error}
        return found


@dataclass(frozen=True, slots=True)
class SentToAll:
    """A business pushed to several laptops."""

    backup: BackupRecord
    file: Path
    results: tuple[Sent, ...]
    seconds: float
    warnings: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all of them have it."""
        return all(each.pushed is not None for each in self.results)

    def as_dict(self) -> dict[str, object]:
        return {
            "complete": self.complete,
            "business": {"id": self.backup.business_id, "name": self.backup.business_name},
            "bundle_id": self.backup.id,
            "file": str(self.file),
            "rows": self.backup.records,
            "bytes": self.backup.size,
            "seconds": round(self.seconds, 3),
            "results": [each.as_dict() for each in self.results],
            "warnings": list(self.warnings),
        }


def all_others(workspace: Workspace) -> tuple[str, ...]:
    """The IDs of all other active laptops of the shop. Raises :class:`WrongTarget` where there is none."""
    own = workspace.store.identity().node_id
    members = workspace.store.require_shop().roster.members
    others = tuple(member.node_id for member in members if member.active and member.node_id != own)
    if not others:
        raise WrongTarget("This laptop is the only one of its shop.")
    return others


async def push_to_many(
    workspace: Workspace,
    history: History,
    business: str,
    devices: Sequence[str],
    *,
    compress: bool = True,
    mode: PushMode = "newer",
    patience: float,
    space_seconds: float = 0.0,
    progress: Progress = silent,
) -> SentToAll:
    """Push a business as it is now to several laptops. A laptop that fails does not keep the others from getting it.

    The bundle names no target: each receiver takes it because this laptop itself hands it over (PEER.md). Raises
    ``TrustError``, :class:`WrongTarget`, and what a backup raises.
    """
    members = {member.node_id: member for member in (other_device(workspace, text) for text in devices)}
    chosen = find_business(await businesses(workspace), business)
    await history.mark_interrupted()
    started = asyncio.get_running_loop().time()
    made = await make_backup(
        workspace, history, BackupRequest(Kind.BUSINESS, chosen.id, compress=compress), progress=progress
    )
    room = asyncio.Semaphore(AT_ONCE)
    own = workspace.store.identity().node_id

    async def one(net: Network, member: Member) -> Sent:
        async with room:
            try:
                workspace.clones.require_clear(member.node_id)
                require_push(workspace.store.roster(), own, member.node_id, chosen.id, chosen.name)
                transfer = await history.start_transfer(push_record(made.record.id, made.record.size, member, chosen))
                pushed = await hand_over(
                    workspace,
                    history,
                    member,
                    transfer,
                    made.file,
                    mode=mode,
                    patience=patience,
                    space_seconds=space_seconds,
                    progress=_named(progress, member.name),
                    net=net,
                )
            except Exception as error:
                if not hasattr(error, "code"):
                    raise
                return Sent(member, None, Problem.of(error))
            return Sent(member, pushed, None)

    async with network(workspace) as net, asyncio.TaskGroup() as tasks:
        sending = [tasks.create_task(one(net, member)) for member in members.values()]
    return SentToAll(
        made.record,
        made.file,
        tuple(task.result() for task in sending),
        asyncio.get_running_loop().time() - started,
        made.result.manifest.warnings,
    )


def _named(progress: Progress, name: str) -> Callable[[Step], None]:
    def told(step: Step) -> None:
        progress(replace(step, stage=f"{name}: {step.stage}"))

    return told
