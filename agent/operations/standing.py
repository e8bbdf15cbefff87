"""Transfers that are under way, seen and cancelled from another process: by files in ``state/``, read each second.

The agent writes where bundles on their way in stand; a command that cancels leaves a file named by the transfer, which
the process that works on the transfer finds and takes away.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.archive.errors import NoSuchRecordError
from agent.archive.history import History
from agent.archive.records import INTERRUPTED, STARTED, TransferRecord
from agent.beat import beat
from agent.home import Home
from agent.log import get_logger
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace

if TYPE_CHECKING:
    from agent.peers.server import PeerServer
    from agent.peers.upload import Standing

log = get_logger(__name__)

POLL_SECONDS = 1.0
CANCEL_SECONDS = 5.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class NotCancelled(OperationError):
    code = "not-cancelled"
    hint = "See `backroom transfers`."


@dataclass(frozen=True, slots=True)
class Moving:
    """One transfer that is not over. ``rate`` in bytes a second and ``left`` in seconds, where something moves."""

    id: str
    direction: str
    peer: str
    what: str
    phase: str
    offset: int
    size: int
    text: str = ""
    rate: float = 0.0
    left: float | None = None
    since: datetime | None = None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def _moving(standing: Standing) -> dict[str, object]:
    progress, manifest = standing.progress, standing.offer.manifest
    return {
        "id": progress.transfer_id,
        "direction": "received",
        "peer": standing.peer.name,
        "what": manifest.business.name if manifest.business else manifest.kind.value,
        "phase": progress.phase,
        "offset": progress.offset,
        "size": progress.size,
        "text": progress.text,
        "rate": round(standing.rate),
        "left": None if standing.left is None else round(standing.left, 1),
    }


def _file(home: Home) -> Path:
    return home.state / "transfers.json"


def _requests(home: Home) -> Path:
    return home.state / "cancel"


async def keep_standing(workspace: Workspace, server: PeerServer) -> None:
    """The agent's part, until cancelled: say where transfers stand, and cancel those that somebody wants cancelled."""
    home, here = workspace.home, workspace.config.device_name()
    told = True
    try:
        while True:
            moving = [_moving(each) for each in server.transfers()]
            if moving or told:
                # First, since it may be what makes room for writing anything.
                for name in await asyncio.to_thread(_wanted, home):
                    if await server.cancel(name, here):
                        log.warning("transfer cancelled", transfer=name)
                        await asyncio.to_thread(_done, home, name)
                await asyncio.to_thread(_write, home, moving)
            told = bool(moving)
            await beat(POLL_SECONDS)
    finally:
        _write(home, [])


def _write(home: Home, moving: Sequence[dict[str, object]]) -> None:
    path = _file(home)
    if not moving:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(moving), encoding="utf-8")
    fresh.replace(path)


def _wanted(home: Home) -> list[str]:
    folder = _requests(home)
    return [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []


def _done(home: Home, name: str) -> None:
    (_requests(home) / name).unlink(missing_ok=True)


async def heed_cancel(home: Home, transfer_id: str, stop: Callable[[], None]) -> None:
    """The sending process's part, until cancelled: call ``stop`` when somebody wants this transfer cancelled."""
    path = _requests(home) / transfer_id
    while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(POLL_SECONDS / 2)
    await asyncio.to_thread(_done, home, transfer_id)
    stop()


async def transfers(workspace: Workspace, history: History) -> tuple[Moving, ...]:
    """The transfers that are not over: under way, or interrupted and to be gone on with."""
    await history.mark_interrupted()
    live = {str(each["id"]): each for each in await asyncio.to_thread(_read, workspace.home)}
    found = []
    for record in await history.transfers(limit=200):
        if record.state not in (STARTED, INTERRUPTED):
            continue
        known = live.get(record.id, {}) if record.direction == "received" else {}
        phase = "sending" if record.direction == "sent" and record.mode == "push" else "receiving"
        found.append(
            Moving(
                id=record.id,
                direction=record.direction,
                peer=record.peer_name,
                what=record.business_name or record.kind,
                phase=str(known.get("phase", record.state if record.state == INTERRUPTED else phase)),
                offset=_number(known.get("offset", record.bytes_done)),
                size=_number(known.get("size", record.bytes_total or 0)),
                text=str(known.get("text", "")),
                rate=float(_number(known.get("rate", 0))),
                left=_maybe_number(known.get("left")),
                since=record.started_at,
            )
        )
    return tuple(found)


def arrivals(home: Home) -> tuple[tuple[str, str], ...]:
    """What comes in now, and from whom. Blocking, for a small file."""
    return tuple((str(each.get("what", "")), str(each.get("peer", ""))) for each in _read(home))


def _read(home: Home) -> list[dict[str, object]]:
    try:
        listed = json.loads(_file(home).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _maybe_number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


async def cancel(workspace: Workspace, history: History, text: str) -> TransferRecord:
    """Cancel a transfer for good, by its ID or the beginning of it: what came of it is thrown away.

    Raises ``NoSuchRecordError`` and :class:`NotCancelled`.
    """
    await history.mark_interrupted()
    known = [each for each in await history.transfers(limit=500) if each.id.startswith(text)]
    if len(known) != 1:
        found = "no transfer" if not known else f"{len(known)} transfers"
        raise NoSuchRecordError(f"The history has {found} {text!r}.", "See `backroom transfers`.")
    (record,) = known
    if record.state not in (STARTED, INTERRUPTED):
        raise NotCancelled(f"The transfer is over: {record.state}.")
    if record.state == INTERRUPTED:
        return await _give_up(workspace, history, record)
    path = _requests(workspace.home) / record.id
    await asyncio.to_thread(_ask, path)
    try:
        await _until(lambda: _gone(path))
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)
    return record


async def _give_up(workspace: Workspace, history: History, record: TransferRecord) -> TransferRecord:
    """An interrupted transfer has nobody who works on it."""
    from agent.archive.spool import Spool

    if record.direction == "received":
        async with Spool(workspace.home).open(record.id, record.bytes_total or 0) as part:
            await part.discard()
    await history.end_transfer(record.id, "refused", error_code="cancelled", error="The transfer was cancelled.")
    return record


def _ask(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch()


async def _gone(path: Path) -> bool:
    return not await asyncio.to_thread(path.exists)


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            while not await true():  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotCancelled(
            "The transfer was not cancelled: its bundle is being applied, or nobody works on it any more."
        ) from None
