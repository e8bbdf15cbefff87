"""The devices of the shop: who they are, who is there, and who is out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from agent.operations.authority import governing
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import PeerError
from certs.roster import Member, Right

if TYPE_CHECKING:
    from protocol.messages import Hello


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the shop. ``online`` is proved by an answer over TLS just now; ``why_not`` says why it is not."""

    member: Member
    this: bool
    online: bool
    software: str = ""
    clock_ahead: float = 0.0
    why_not: str = ""
    clone: bool = False

    @property
    def remark(self) -> str:
        """What people should see beside it: an alarm first, then why it is not there, its label and limits."""
        known = ((right, self.member.limits.of(right)) for right in Right)
        limits = [f"may {right} {len(listed)}" for right, listed in known if listed is not None]
        alarm = "CLONE ALARM" if self.clone else ""
        return "; ".join(filter(None, (alarm, self.why_not.removesuffix("."), self.member.label, *limits)))

    def as_dict(self) -> dict[str, object]:
        return {
            "node_id": self.member.node_id,
            "short_id": self.member.short_id,
            "name": self.member.name,
            "role": self.member.role.value,
            "status": self.member.status.value,
            "added": self.member.added,
            "this": self.this,
            "online": self.online,
            "software": self.software,
            "clock_ahead_seconds": round(self.clock_ahead, 1),
            "why_not": self.why_not,
            "label": self.member.label,
            "replaces": self.member.replaces,
            **{f"may_{right}": _listed(self.member.limits.of(right)) for right in Right},
            "clone_alarm": self.clone,
        }


async def devices(workspace: Workspace, *, within: float = 4.0) -> tuple[Device, ...]:
    """All devices of the roster, each asked whether it is there. This one is online while its agent runs."""
    workspace.config.device_name()
    shop = workspace.store.require_shop()
    own = workspace.store.identity().node_id
    others = [member for member in shop.roster.members if member.node_id != own and member.active]
    answers = await _online(workspace, others, within) if others else {}
    now = utc_now()
    found = []
    for member in shop.roster.members:
        if member.node_id == own:
            found.append(Device(member, True, await asyncio.to_thread(workspace.home.locked, "agent")))
            continue
        answer = answers.get(member.node_id)
        if answer is None:
            found.append(Device(member, False, False, why_not="revoked"))
        elif isinstance(answer, PeerError):
            found.append(Device(member, False, False, why_not=str(answer)))
        else:
            ahead = (answer.time - now).total_seconds()
            found.append(Device(member, False, True, software=answer.software, clock_ahead=ahead))
    alarms = workspace.clones.alarms()
    return tuple(replace(each, clone=each.member.node_id in alarms) for each in found)


async def _online(workspace: Workspace, members: Sequence[Member], within: float) -> dict[str, Hello | PeerError]:
    """What each of them answers; imported here, since a laptop that is alone needs no network."""
    from agent.operations.network import network

    async with network(workspace) as net:
        return await net.directory.online([member.node_id for member in members], within)


def _listed(limit: frozenset[str] | None) -> list[str] | None:
    return None if limit is None else sorted(limit)


@dataclass(frozen=True, slots=True)
class Revoked:
    """A device that was shut out, when, and which others were told at once."""

    member: Member
    roster_version: int
    told: tuple[str, ...]
    at: datetime


async def revoke(workspace: Workspace, text: str) -> Revoked:
    """Shut a device out of the shop, and tell those that are online. Raises ``TrustError``, ``NotKept``."""
    store = workspace.store
    async with governing(workspace) as telling:
        member = store.roster().find(text)
        node_id = member.node_id
        done = await telling.decide(lambda: store.revoke(node_id), lambda held, _: not held.trusts(node_id))
    return Revoked(member, done.roster.version, done.told, utc_now())
