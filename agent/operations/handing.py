"""Handing a bundle that is made over to another laptop: sent, cancelled, waited for, and noted whatever comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.archive.history import History, new_id
from agent.archive.records import DONE, FAILED, INTERRUPTED, REFUSED, TransferRecord
from agent.database.businesses import Business
from agent.engine.progress import BYTES, Progress, Step
from agent.growing import Growing
from agent.log import get_logger
from agent.operations.deltas import sent_before
from agent.operations.errors import OperationError
from agent.operations.requests import WAITS
from agent.operations.standing import heed_cancel
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import Cancelled, Refused
from certs.roster import Member
from protocol.manifest import Kind

if TYPE_CHECKING:
    from agent.operations.network import Network
    from agent.peers.push import Pushed, Tell

log = get_logger(__name__)

SentMode = Literal["newer", "bundle", "store"]
NOTE_SECONDS = 2.0
MOVING = ("sending", "fetching")
BROKE_OFF = "broke-off"
"""The code of an interrupted push that asks: it is not taken up again, the next one asks anew."""


class PushRefused(OperationError):
    """The other laptop has the bundle and said no; its words are the message."""

    code = "push-refused"
    hint = "The bundle is in the archive of both laptops. Nothing was changed over there."


class WaitsForYes(OperationError):
    """The bundle is over there; a person has to say yes before it is applied."""

    code = WAITS
    hint = "Run the same push again later: it then tells what came of it."


def push_record(bundle_id: str, size: int | None, member: Member, business: Business) -> TransferRecord:
    """A push of this bundle of ``size`` bytes (None: it is still being made) to the device, as it begins."""
    return TransferRecord(
        id=new_id(),
        direction="sent",
        mode="push",
        kind=Kind.BUSINESS.value,
        peer_node=member.node_id,
        peer_name=member.name,
        state="started",
        started_at=utc_now(),
        bundle_id=bundle_id,
        business_id=business.id,
        business_name=business.name,
        bytes_total=size,
    )


def telling(progress: Progress) -> Callable[[str, int, int, str], None]:
    """The peer client's way of telling, as progress: what moves over the network is counted in bytes."""

    def tell(phase: str, done: int, total: int, text: str) -> None:
        if phase in MOVING:
            progress(Step(phase, done, total, unit=BYTES))  # the words are its rate, which the progress has anyway
        else:
            progress(Step(phase, done, total, text))

    return tell


def _once_made(progress: Progress, growing: Growing) -> Progress:
    def told(step: Step) -> None:
        if growing.complete:
            progress(step)

    return told


def _patient(
    tell: Callable[[str, int, int, str], None], name: str, patience: float
) -> Callable[[str, int, int, str], None]:
    """``tell`` that does not wait for a person over there for longer than ``patience`` seconds."""
    since: float | None = None

    def told(phase: str, done: int, total: int, text: str) -> None:
        nonlocal since
        tell(phase, done, total, text)
        now = asyncio.get_running_loop().time()
        since = (since or now) if phase == "waiting" else None
        if since is not None and now - since >= patience:
            raise WaitsForYes(f"The bundle is on {name} and waits there {text}.")

    return told


@asynccontextmanager
async def opening_network(workspace: Workspace) -> AsyncIterator[Awaitable[Network]]:
    """The network as long as the block lasts, opened while something else is done in it: loading what it needs takes as
    long as a database takes to find the rows of a business."""
    opened: asyncio.Future[Network] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def keep() -> None:
        try:
            loaded = await asyncio.to_thread(import_module, "agent.operations.network")
            async with loaded.network(workspace) as net:
                opened.set_result(net)
                await over.wait()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise

    keeping = asyncio.create_task(keep())
    try:
        yield opened
    finally:
        over.set()
        opened.cancel()
        if opened.cancelled():
            keeping.cancel()  # nobody waits any more: it may not be open yet
        ended, _ = await asyncio.gather(keeping, opened, return_exceptions=True)
        if isinstance(ended, Exception):
            log.warning("the network was not closed well", reason=str(ended))


async def hand_over(
    workspace: Workspace,
    history: History,
    member: Member,
    transfer: TransferRecord,
    bundle: Path | Growing,
    *,
    mode: SentMode,
    patience: float,
    space_seconds: float = 0.0,
    progress: Progress,
    resumes: bool = False,
    net: Network | Awaitable[Network] | None = None,
) -> Pushed:
    """Send a bundle that is made, or being made, and note what came of it. ``net`` is a network that is there already,
    or is being opened.

    Nothing is told of the sending as long as the bundle is being made.
    """
    growing = bundle if isinstance(bundle, Growing) else None
    tell = _patient(telling(progress if growing is None else _once_made(progress, growing)), member.name, patience)
    try:
        async with AsyncExitStack() as stack:
            found = net if net is not None else await stack.enter_async_context(opening_network(workspace))
            way = await found if isinstance(found, Awaitable) else found
            try:
                pushed = await _send(
                    workspace, history, way, member, transfer, bundle, mode=mode, tell=tell, space_seconds=space_seconds
                )
            except Refused as error:
                if error.code == WAITS:
                    raise WaitsForYes(str(error)) from error
                raise
    except (Refused, Cancelled) as error:
        await history.end_transfer(transfer.id, REFUSED, error_code=error.code, error=str(error))
        raise
    except BaseException as error:
        code = str(getattr(error, "code", "stopped"))
        unmade = growing is not None and growing.failed
        await history.end_transfer(
            transfer.id,
            FAILED if unmade else INTERRUPTED,
            error_code=code if mode == "newer" or code == WAITS else BROKE_OFF,
            error="The bundle was not finished." if unmade else str(error) or "The push was stopped.",
        )
        raise
    receipt = pushed.receipt
    state = {"applied": DONE, "stored": DONE, "refused": REFUSED}.get(receipt.outcome, FAILED)
    await history.end_transfer(
        transfer.id,
        state,
        bytes_done=pushed.size,
        receipt=pushed.signed.encode(),
        totals=receipt.totals,
        error_code=None if state == DONE else "push-refused",
        error=None if state == DONE else receipt.message,
    )
    if state != DONE and not resumes:
        raise PushRefused(f"{member.name} did not take it: {receipt.message}")
    return pushed


async def _send(
    workspace: Workspace,
    history: History,
    net: Network,
    member: Member,
    transfer: TransferRecord,
    bundle: Path | Growing,
    *,
    mode: SentMode,
    tell: Tell,
    space_seconds: float,
) -> Pushed:
    """Push, note now and then how far it is, and stop when `backroom cancel` says so."""
    dropped = asyncio.Event()
    sent = [0]

    def told(phase: str, done: int, total: int, text: str) -> None:
        if phase == "sending":
            sent[0] = done
        tell(phase, done, total, text)

    async def note() -> None:
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await history.progress_transfer(transfer.id, sent[0])

    def stop() -> None:
        dropped.set()
        pushing.cancel()

    path, growing = (bundle.path, bundle) if isinstance(bundle, Growing) else (bundle, None)
    bases = await sent_before(workspace, history, transfer)
    pushing = asyncio.create_task(
        net.client.push(
            member.node_id,
            path,
            mode=mode,
            tell=told,
            dropped=dropped,
            space_seconds=space_seconds,
            opener=workspace.bundle_files.open,
            bases=bases,
            growing=growing,
        )
    )
    beside = [asyncio.create_task(note()), asyncio.create_task(heed_cancel(workspace.home, transfer.id, stop))]
    try:
        return await pushing
    except asyncio.CancelledError:
        if dropped.is_set():
            raise Cancelled(f"The push to {member.name} was cancelled.") from None
        raise
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
