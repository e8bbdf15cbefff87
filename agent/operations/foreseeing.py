"""A look before a push, on the sender's side: the bundle goes over and is planned there; the push then applies it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.database.businesses import Business, find_business
from agent.engine.backup import BackupRequest
from agent.engine.progress import Progress, silent
from agent.operations.backups import make_backup
from agent.operations.errors import OperationError
from agent.operations.handing import PushRefused, hand_over, push_record
from agent.operations.look import businesses
from agent.operations.looking import LOOK
from agent.operations.requests import PushMode
from agent.operations.rights import require_push
from agent.operations.targets import other_device
from agent.operations.transfers import WAIT_SECONDS, PushDone, push_made
from agent.operations.workspace import Workspace
from agent.peers.errors import Refused
from certs.roster import Member
from protocol.manifest import Kind
from protocol.messages import Receipt

_NO_LOOKS = "mode-refused"
"""What a laptop with an older Backroom answers."""


class WouldBeRefused(OperationError):
    """The other laptop has planned the push, and would not take it; its words are the message."""

    code = "would-be-refused"
    hint = "Nothing was changed over there."


class NoLooks(OperationError):
    """The other laptop cannot plan a push ahead."""

    code = "no-looks"
    hint = "Update Backroom over there."


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A push that is made and planned over there, and not yet applied. ``receipt`` is the other laptop's word: its
    totals and tables are what would become of the rows. ``at`` is when it was made, by the loop's clock."""

    member: Member
    business: Business
    backup: BackupRecord
    file: Path
    receipt: Receipt
    sent: int
    warnings: tuple[str, ...]
    at: float


async def foresee(
    workspace: Workspace, history: History, business: str, device: str, *, progress: Progress = silent
) -> Foreseen:
    """Back the business up, hand it over, and hear what it would change there. Nothing is changed.

    Raises what a push raises, :class:`WouldBeRefused`, and :class:`NoLooks`.
    """
    member = other_device(workspace, device)
    chosen = find_business(await businesses(workspace), business)
    workspace.clones.require_clear(member.node_id)
    own = workspace.store.identity().node_id
    require_push(workspace.store.roster(), own, member.node_id, chosen.id, chosen.name)
    request = BackupRequest(Kind.BUSINESS, chosen.id, target_node=member.node_id)
    made = await make_backup(workspace, history, request, progress=progress)
    transfer = replace(push_record(made.record.id, made.record.size, member, chosen), mode=LOOK)
    transfer = await history.start_transfer(transfer)
    try:
        pushed = await hand_over(
            workspace,
            history,
            member,
            transfer,
            made.file,
            mode="store",
            patience=WAIT_SECONDS,
            progress=progress,
        )
    except PushRefused as error:
        raise WouldBeRefused(str(error)) from error
    except Refused as error:
        if error.code == _NO_LOOKS:
            raise NoLooks(f"{member.name} cannot say beforehand what a push would change.") from error
        raise
    return Foreseen(
        member,
        chosen,
        made.record,
        made.file,
        pushed.receipt,
        pushed.sent,
        made.result.manifest.warnings,
        asyncio.get_running_loop().time(),
    )


async def push_foreseen(
    workspace: Workspace,
    history: History,
    foreseen: Foreseen,
    *,
    mode: PushMode = "newer",
    patience: float = WAIT_SECONDS,
    progress: Progress = silent,
) -> PushDone:
    """Have the other laptop apply what it has planned: what is over there already is not sent again.

    Raises what a push raises.
    """
    member, started = foreseen.member, asyncio.get_running_loop().time()
    workspace.clones.require_clear(member.node_id)
    return await push_made(
        workspace,
        history,
        member,
        foreseen.business,
        foreseen.backup,
        foreseen.file,
        mode=mode,
        patience=patience,
        progress=progress,
        warnings=foreseen.warnings,
        started=started,
        sent=foreseen.sent,
    )
