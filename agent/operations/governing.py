"""What an admin decides about the shop: roles, labels and limits of devices, its authority, clone alarms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.database.businesses import find_business
from agent.operations.authority import governing
from agent.operations.errors import OperationError
from agent.operations.look import businesses
from agent.operations.network import network
from agent.operations.passphrases import check, opened, sealed
from agent.operations.workspace import Workspace
from agent.peers.trusting import share_authority as hand_over
from certs.errors import NotAdmin, WrongKit
from certs.files import replace_private, write_new
from certs.roster import Limits, Member, Right, Role, Roster
from certs.store import ShopState
from protocol.trusting import MAX_SEALED

if TYPE_CHECKING:
    from agent.peers.handler import Peer

NOTHING = "none"
EVERYTHING = "all"


class NoAuthority(OperationError):
    code = "no-authority-shared"
    hint = "Run `backroom authority share DEVICE` on the laptop that holds it, or give the FILE."


@dataclass(frozen=True, slots=True)
class Governed:
    """A device as it stands after a change, and who was told at once."""

    member: Member
    roster_version: int
    told: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "node_id": self.member.node_id,
            "name": self.member.name,
            "role": self.member.role.value,
            "label": self.member.label,
            **limits_dict(self.member.limits),
            "roster_version": self.roster_version,
            "told": list(self.told),
        }


def limits_dict(limits: Limits) -> dict[str, object]:
    """Limits as JSON: lists of business IDs, None where there is none."""
    return {f"may_{right}": None if (listed := limits.of(right)) is None else sorted(listed) for right in Right}


async def set_device(
    workspace: Workspace,
    device: str,
    *,
    role: Role | None = None,
    label: str | None = None,
    may: dict[Right, tuple[str, ...]] | None = None,
) -> Governed:
    """Change what is given of a device. ``may`` maps rights to businesses (id, name or slug), "all" or "none".

    Raises ``TrustError`` (``NotAdmin`` without the authority) and ``BusinessError``.
    """
    store = workspace.store
    await asyncio.to_thread(store.require_authority)
    chosen = {right.value: await _limit(workspace, texts) for right, texts in (may or {}).items()}
    async with governing(workspace) as telling:
        node_id = store.roster().find(device).node_id

        def change() -> Roster:
            limits = replace(store.roster().require(node_id).limits, **chosen) if chosen else None
            return store.change(node_id, role=role, label=label, limits=limits)

        def kept(held: Roster, made: Roster) -> bool:
            has, wished = held.member(node_id), made.require(node_id)
            return (
                has is not None
                and has.active
                and (role is None or has.role == wished.role)
                and (label is None or has.label == wished.label)
                and all(getattr(has.limits, right) == getattr(wished.limits, right) for right in chosen)
            )

        done = await telling.decide(change, kept)
    return Governed(done.roster.require(node_id), done.roster.version, done.told)


async def _limit(workspace: Workspace, texts: Iterable[str]) -> frozenset[str] | None:
    wanted = tuple(texts)
    if wanted == (EVERYTHING,):
        return None
    if wanted == (NOTHING,):
        return frozenset()
    known = await businesses(workspace)
    return frozenset(find_business(known, text).id for text in wanted)


async def resolve_clone(workspace: Workspace, device: str) -> Governed:
    """Settle the clone alarms about a device, on all laptops. Raises ``TrustError``."""
    store = workspace.store
    async with governing(workspace) as telling:
        node_id = store.roster().find(device).node_id

        def kept(held: Roster, made: Roster) -> bool:
            has = held.member(node_id)
            return has is not None and has.active and has.cleared >= made.require(node_id).cleared

        done = await telling.decide(lambda: store.change(node_id, cleared=True), kept)
    return Governed(done.roster.require(node_id), done.roster.version, done.told)


# The authority.


async def share_authority(workspace: Workspace, device: str, passphrase: str, *, file: Path | None = None) -> Member:
    """Seal the authority's key with a passphrase for another admin, and send it there or write it into a file.

    Raises ``TrustError``, ``SealingError``, ``PeerError``.
    """
    store = workspace.store
    check(passphrase)
    key = await asyncio.to_thread(store.authority_key)
    member = store.roster().find(device)
    if not member.admin:
        raise NotAdmin(f"{member.name} is no admin.", hint=f"Run `backroom device set {device} --role admin` first.")
    content = json.dumps({"for": member.node_id, "shop": store.roster().shop_id, "key": key.decode()}).encode()
    data = await asyncio.to_thread(sealed, content, passphrase)
    if file is not None:
        await asyncio.to_thread(_write_once, file, data)
        return member
    async with network(workspace) as net:
        await hand_over(net.directory, member.node_id, data)
    return member


def _write_once(file: Path, data: bytes) -> None:
    if file.exists():
        raise OperationError(f"{file} exists already.", "Choose another file.")
    write_new(file, data)


async def keep_shared(workspace: Workspace, peer: Peer, data: bytes) -> None:
    """Lay a sealed authority down until a person opens it. Raises ``NotAdmin`` where this laptop is no admin."""

    def work() -> None:
        member = workspace.store.roster().require(workspace.store.identity().node_id)
        if not member.admin:
            raise NotAdmin(f"{member.name} is no admin.")
        replace_private(_shared(workspace), data)

    await asyncio.to_thread(work)


async def is_shared(workspace: Workspace) -> bool:
    """Whether an authority lies here that nobody has opened yet."""
    return await asyncio.to_thread(_shared(workspace).exists)


async def accept_authority(workspace: Workspace, passphrase: str, *, file: Path | None = None) -> ShopState:
    """Open a shared authority and keep it. Raises ``SealingError``, ``TrustError``, :class:`NoAuthority`."""

    def work() -> ShopState:
        path = file or _shared(workspace)
        try:
            data = path.read_bytes()[: MAX_SEALED + 1]
        except OSError as error:
            raise NoAuthority(f"No authority was shared with this laptop ({path}: {error.strerror}).") from error
        try:
            content = json.loads(opened(data, passphrase))
            wanted, key = str(content["for"]), str(content["key"]).encode()
        except (ValueError, KeyError, TypeError) as error:
            raise WrongKit("This file holds no authority.") from error
        if wanted != workspace.store.identity().node_id:
            raise WrongKit("This authority was shared with another laptop.")
        workspace.store.take_authority(key)
        _shared(workspace).unlink(missing_ok=True)
        return workspace.store.require_shop()

    return await asyncio.to_thread(work)


def _shared(workspace: Workspace) -> Path:
    return workspace.home.state / "authority-shared.age"


async def roll_over(workspace: Workspace) -> tuple[int, tuple[str, ...]]:
    """Roll the authority over; the roster's version and who was told at once. Raises ``NotAdmin``."""
    async with governing(workspace) as telling:
        # No roster by the former authority is taken from then on; who holds a higher one of it is outranked.
        done = await telling.decide(workspace.store.roll_over, lambda held, made: held.version >= made.version)
    return done.roster.version, done.told
