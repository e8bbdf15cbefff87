"""Founding a shop, inviting into it, joining it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.beat import beat
from agent.config import change
from agent.log import get_logger
from agent.operations.authority import FIRST_SECONDS, Telling
from agent.operations.network import network
from agent.operations.workspace import Workspace
from agent.peers.address import Address
from agent.peers.discovery import Discovery
from agent.peers.joining import Window, join
from certs.codes import Code, new_code, parse_code
from certs.joining import Inviter, InviteSide, JoinRequest
from certs.roster import Role
from certs.store import ShopState, Store

log = get_logger(__name__)

LIFETIME_SECONDS = 300
_HANDOVER_SECONDS = 10.0
_POLL_SECONDS = 1.0


def create_shop(workspace: Workspace, name: str) -> ShopState:
    """Found a shop with this laptop as its admin. Blocking. Raises ``AlreadyInShop``, ``NoIdentity``."""
    workspace.config.device_name()
    return workspace.store.create_shop(name)


def invitation(store: Store, code: Code, role: Role, replaces: str | None = None) -> InviteSide:
    """The inviting side for one code. ``replaces`` is the node ID of a device that is revoked when the new one joins.

    Raises ``NoShop`` and ``NotAdmin`` before anything is shown to anyone.
    """
    shop = store.require_shop()
    store.require_authority()
    return InviteSide(
        code,
        store.identity(),
        shop.shop_name,
        shop.authority,
        lambda name, public_key: store.issue(name, public_key, role, replaces=replaces),
    )


@asynccontextmanager
async def open_window(
    workspace: Workspace,
    role: Role,
    approve: Callable[[JoinRequest], Awaitable[bool]],
    *,
    port: int = 0,
    replaces: str | None = None,
) -> AsyncIterator[tuple[Code, Window]]:
    """An invitation of this process's own, advertised by mDNS where that works. Whom it lets in is noted in the newest
    list of devices that others have: it is asked for while the code is typed."""
    workspace.config.device_name()
    code = new_code()
    side = await asyncio.to_thread(invitation, workspace.store, code, role, replaces)
    async with network(workspace) as net, Window(side, approve, discovery=net.discovery, port=port) as window:
        exchanging = asyncio.create_task(Telling(workspace, net).exchange(FIRST_SECONDS))
        try:
            yield code, window
        finally:
            exchanging.cancel()
            await asyncio.gather(exchanging, return_exceptions=True)


async def join_shop(
    workspace: Workspace,
    code: str,
    confirm: Callable[[Inviter], Awaitable[bool]],
    *,
    address: str | None = None,
) -> tuple[ShopState, Inviter]:
    """Join the shop that the code is for. An address is kept in the settings as one to try later.

    Raises ``TrustError`` (a wrong code, a full window, another shop) and ``PeerError`` (nobody found or reached).
    """
    workspace.config.device_name()
    parsed = parse_code(code)
    place = Address.parse(address) if address else None
    identity = workspace.store.identity()
    present = await asyncio.to_thread(workspace.store.shop)
    shop_id = present.shop_id if present else None
    async with network(workspace) as net:
        membership, inviter = await join(
            parsed, identity, confirm, address=place, discovery=net.discovery, shop_id=shop_id
        )
    shop = await asyncio.to_thread(workspace.store.join_result, membership)
    if place is not None and place.host not in workspace.config.peers:
        peers = (*workspace.config.peers, place.host)
        await asyncio.to_thread(lambda: change(workspace.home, peers=peers))
    return shop, inviter


# A running agent opens the window for `backroom invite`, so that the command need not wait: one file asks, one answers.


@dataclass(frozen=True, slots=True)
class _Handover:
    asked: Path
    opened: Path

    @classmethod
    def of(cls, workspace: Workspace) -> _Handover:
        return cls(workspace.home.state / "invite-asked.json", workspace.home.state / "invite-opened.json")


def _write_private(path: Path, value: Mapping[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
    temporary.replace(path)


def _take(path: Path) -> dict[str, object] | None:
    """The value of the file, which is gone afterwards; None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    path.unlink(missing_ok=True)
    return value if isinstance(value, dict) else None


def _is_there(path: Path) -> bool:
    """Whether there is such a file, at the price of one ``stat``: cheaper than a thread that asks."""
    return path.exists()


async def invite_by_agent(workspace: Workspace, role: Role, replaces: str | None = None) -> tuple[Code, int] | None:
    """Have the running agent open a window: its code and port, or None where no agent took it up."""
    handover = _Handover.of(workspace)
    code = new_code()
    await asyncio.to_thread(invitation, workspace.store, code, role)
    await asyncio.to_thread(handover.opened.unlink, missing_ok=True)
    asked = {"code": str(code), "role": role.value, "replaces": replaces or ""}
    await asyncio.to_thread(_write_private, handover.asked, asked)
    try:
        async with asyncio.timeout(_HANDOVER_SECONDS):
            while True:
                answer = await asyncio.to_thread(_take, handover.opened)
                if answer is not None and answer.get("window") == code.window:
                    return code, int(str(answer["port"]))
                await asyncio.sleep(0.1)
    except TimeoutError:
        return None
    finally:
        await asyncio.to_thread(handover.asked.unlink, missing_ok=True)


async def serve_invitations(workspace: Workspace, discovery: Discovery | None) -> None:
    """The agent's side of :func:`invite_by_agent`, until cancelled. A newer invitation ends an older one."""
    handover = _Handover.of(workspace)
    current: asyncio.Task[None] | None = None
    try:
        while True:
            asked = await asyncio.to_thread(_take, handover.asked) if _is_there(handover.asked) else None
            if asked is not None:
                if current is not None:
                    current.cancel()
                    with suppress(asyncio.CancelledError):
                        await current
                current = asyncio.create_task(_serve_one(workspace, handover, asked, discovery))
            await beat(_POLL_SECONDS)
    finally:
        if current is not None:
            current.cancel()
            with suppress(asyncio.CancelledError):
                await current


async def _serve_one(
    workspace: Workspace, handover: _Handover, asked: dict[str, object], discovery: Discovery | None
) -> None:
    async def approve(request: JoinRequest) -> bool:
        # Whoever ran `backroom invite` gave the code to this person; the name is in the log and in `backroom devices`.
        log.info("device joins", name=request.name, node=request.node_id)
        return True

    try:
        code, role = parse_code(str(asked["code"])), Role(str(asked["role"]))
        replaces = str(asked.get("replaces") or "") or None
        side = await asyncio.to_thread(invitation, workspace.store, code, role, replaces)
        async with Window(side, approve, discovery=discovery) as window:
            await asyncio.to_thread(_write_private, handover.opened, {"window": code.window, "port": window.port})
            await window.joined()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.warning("invitation ended", reason=str(error))
