"""An invitation that the page holds open: its code, who knocks, and the admin's answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from agent.log import get_logger
from agent.operations.errors import OperationError
from agent.operations.network import interfaces
from agent.operations.shops import LIFETIME_SECONDS, open_window
from agent.operations.workspace import Workspace
from agent.peers.discovery import local_addresses
from certs.codes import Code
from certs.joining import JoinRequest
from certs.roster import Role

log = get_logger(__name__)

OPENING, OPEN, ASKING, LETTING, JOINED, ENDED = "opening", "open", "asking", "letting", "joined", "ended"
_OVER = (JOINED, ENDED)


class NoInvitation(OperationError):
    code = "no-invitation"
    hint = "Make a new one."


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation as it stands.

    ``state``: ``opening``, ``open`` (the code is good), ``asking`` (``joiner`` knows the code and waits for a yes),
    ``letting``, ``joined``, ``ended`` (``why``). ``places`` are the addresses for laptops that do not find it.
    """

    state: str
    role: Role
    code: Code | None = None
    places: tuple[str, ...] = ()
    until: float = 0.0
    joiner: JoinRequest | None = None
    replaces: str | None = None
    why: str = ""

    @property
    def over(self) -> bool:
        return self.state in _OVER

    @property
    def seconds_left(self) -> int:
        """How long the code is still good."""
        return max(0, round(self.until - asyncio.get_running_loop().time()))


class Inviting:
    """One invitation of this laptop at a time; a new one ends the one before."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[bool] | None = None
        self._now: Invited | None = None
        self._beginning = asyncio.Lock()

    @property
    def now(self) -> Invited | None:
        """The invitation as it stands; None where there was none since the agent began."""
        return self._now

    async def begin(self, role: Role, replaces: str | None = None) -> Invited:
        """Open one. ``replaces`` is a device of the shop, by name or ID, that is revoked as the new one joins.

        Raises ``TrustError`` (``NotAdmin`` without the shop's authority) and ``PeerError``, and :class:`NoInvitation`
        where it is taken back before it is open.
        """
        store = self._workspace.store
        shop = await asyncio.to_thread(store.require_shop)
        await asyncio.to_thread(store.require_authority)
        old = shop.roster.find(replaces) if replaces else None
        async with self._beginning:
            await self.end()
            self._now = Invited(OPENING, role, replaces=old.node_id if old else None)
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._task = task = asyncio.create_task(self._serve(role, self._now.replaces, opened))
            await asyncio.wait((task, opened), return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                self._show(ENDED)  # a task that is cancelled before it began says nothing itself
                raise NoInvitation("The invitation was taken back.")
            await opened
            return self._now

    async def answer(self, yes: bool) -> None:
        """The admin's word on who knocks. Raises :class:`NoInvitation` where nobody does."""
        if self._answer is None or self._answer.done():
            raise NoInvitation("Nobody waits to be let in.")
        self._answer.set_result(yes)

    async def end(self) -> None:
        """Take the invitation back, if there is one."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._task is task:
                self._task = None

    async def _serve(self, role: Role, replaces: str | None, opened: asyncio.Future[None]) -> None:
        workspace = Workspace(self._workspace.home)

        async def approve(request: JoinRequest) -> bool:
            self._answer = asyncio.get_running_loop().create_future()
            self._show(ASKING, joiner=request)
            try:
                yes = await self._answer
            finally:
                self._answer = None
            self._show(LETTING if yes else ENDED)
            return yes

        try:
            async with open_window(workspace, role, approve, replaces=replaces) as (code, window):
                here = await asyncio.to_thread(local_addresses, interfaces(workspace.config))
                until = asyncio.get_running_loop().time() + LIFETIME_SECONDS
                places = tuple(f"{host}:{window.port}" for host in here if ":" not in host)
                self._show(OPEN, code=code, places=places, until=until)
                opened.set_result(None)
                joined = await window.joined()
            self._show(JOINED, joiner=joined)
        except asyncio.CancelledError:
            self._show(ENDED)
            raise
        except Exception as error:
            if not isinstance(getattr(error, "code", None), str):
                log.exception("invitation failed")
            self._show(ENDED, why=str(error))
            if not opened.done():
                opened.set_exception(error)

    def _show(self, state: str, **more: object) -> None:
        assert self._now is not None
        if not self._now.over:
            self._now = replace(self._now, state=state, **more)  # type: ignore[arg-type]
