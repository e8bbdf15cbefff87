"""Changes of the shop that last: made on top of the newest list of devices there is, told, and looked at again.

A laptop that came back from an old recovery kit holds an old list. What it changes in that is dropped as soon as it
meets one of the others, who have a higher version. So lists are exchanged first; and what was wished is compared with
what is held when the others were told, and made again on top of it where somebody brought a newer one only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.log import get_logger
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace
from agent.peers.errors import PeerError, Unreachable
from certs.errors import RosterConflict
from certs.roster import Roster

if TYPE_CHECKING:
    from agent.operations.network import Network

log = get_logger(__name__)

TRIES = 4
FIRST_SECONDS = 4.0
TELL_SECONDS = 6.0


class NotKept(OperationError):
    code = "change-not-kept"
    hint = "Run it again. Make changes of the shop on one admin's laptop at a time."


@dataclass(frozen=True, slots=True)
class Decided:
    """The roster that the shop has now, with what was wished in it; the names of the others that hold that already."""

    roster: Roster
    told: tuple[str, ...]


class Telling:
    """Exchanging rosters with those that are there."""

    def __init__(self, workspace: Workspace, net: Network) -> None:
        self._store = workspace.store
        self._net = net

    async def exchange(self, seconds: float) -> dict[str, Roster | PeerError]:
        """With every other active device, by name: the roster that both sides hold since, or why there is none."""

        async def tell(node_id: str) -> Roster | PeerError:
            try:
                async with asyncio.timeout(seconds):
                    return await self._net.client.exchange_roster(node_id)
            except TimeoutError:
                return Unreachable("The laptop does not answer in time.")
            except PeerError as error:
                return error

        own = self._store.identity().node_id
        others = [member for member in self._store.roster().members if member.active and member.node_id != own]
        answers = await asyncio.gather(*(tell(member.node_id) for member in others))
        return {member.name: answer for member, answer in zip(others, answers, strict=True)}

    async def decide(self, change: Callable[[], Roster], kept: Callable[[Roster, Roster], bool]) -> Decided:
        """Make a change, and tell those that are there. ``change`` blocks and returns the roster that it made;
        ``kept(held, made)`` says whether what was wished of ``made`` is in ``held``.

        Raises what ``change`` raises, :class:`NotKept`, and ``RosterConflict`` where others hold another roster of
        this version.
        """
        for _ in range(TRIES):
            made = await asyncio.to_thread(change)
            answers = await self.exchange(TELL_SECONDS)
            held = await asyncio.to_thread(self._store.roster)
            if kept(held, made):
                _refuse_conflict(answers, held)
                told = (name for name, has in answers.items() if isinstance(has, Roster) and kept(has, made))
                return Decided(held, tuple(told))
            log.warning("change made again", version=held.version, before=made.version)
        raise NotKept(f"Newer lists of {held.shop_name}'s devices came in meanwhile; this change is not in them.")


def _refuse_conflict(answers: dict[str, Roster | PeerError], held: Roster) -> None:
    codes = {name: has.code for name, has in answers.items() if isinstance(has, PeerError)}
    names = ", ".join(name for name, code in codes.items() if code == RosterConflict.code)
    if names:
        raise RosterConflict(
            f"The change is made here, but {names} will not take it: another list of devices with "
            f"version {held.version} is held there."
        )


@asynccontextmanager
async def governing(workspace: Workspace) -> AsyncIterator[Telling]:
    """For changes of the shop: the newest roster of those that are there is held when the block begins.

    Raises ``NoShop``, ``NotAdmin`` before anybody is asked.
    """
    await asyncio.to_thread(workspace.store.require_authority)
    async with _telling(workspace) as telling:
        await telling.exchange(FIRST_SECONDS)
        yield telling


@asynccontextmanager
async def _telling(workspace: Workspace) -> AsyncIterator[Telling]:
    from agent.operations.network import network  # only here: a laptop that is alone needs no network

    async with network(workspace) as net:
        yield Telling(workspace, net)


async def tell_roster(workspace: Workspace) -> tuple[str, ...]:
    """Exchange rosters with every device that is there; the names of those that hold the same one since."""
    async with _telling(workspace) as telling:
        answers = await telling.exchange(TELL_SECONDS)
    return tuple(name for name, has in answers.items() if isinstance(has, Roster))
