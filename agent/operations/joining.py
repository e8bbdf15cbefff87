"""Joining a shop from the page: who invites is shown, the person says yes, and the admin over there does too."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from agent.log import get_logger
from agent.operations.authority import tell_roster
from agent.operations.errors import OperationError
from agent.operations.shops import join_shop
from agent.operations.workspace import Workspace
from agent.peers.address import Address
from certs.codes import parse_code
from certs.joining import Inviter

log = get_logger(__name__)

LOOKING, ASKING, WAITING, JOINED, FAILED = "looking", "asking", "waiting", "joined", "failed"


class NotJoining(OperationError):
    code = "not-joining"
    hint = "Enter the code again."


@dataclass(frozen=True, slots=True)
class JoinSeen:
    """A join as it stands: ``looking`` for the laptop with that code, ``asking`` (``inviter`` is known, and waits for
    this person's yes), ``waiting`` for the admin's yes over there, ``joined``, ``failed`` (``why``, ``hint``)."""

    state: str
    inviter: Inviter | None = None
    why: str = ""
    hint: str = ""

    @property
    def over(self) -> bool:
        return self.state in (JOINED, FAILED)


class Joining:
    """One join of this laptop at a time."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[bool] | None = None
        self._now: JoinSeen | None = None

    @property
    def now(self) -> JoinSeen | None:
        """The join as it stands; None where there was none since the agent began."""
        return self._now

    async def begin(self, code: str, address: str | None = None) -> None:
        """Look for the invitation of that code. Raises ``BadCode`` and ``ValueError``-like errors of the address."""
        parse_code(code)
        if address:
            Address.parse(address)
        await self.end()
        self._now = JoinSeen(LOOKING)
        self._task = asyncio.create_task(self._join(code, address))

    async def answer(self, yes: bool) -> None:
        """This person's word on who invites. Raises :class:`NotJoining` where nobody asks."""
        if self._answer is None or self._answer.done():
            raise NotJoining("No laptop is inviting this one any more.")
        self._answer.set_result(yes)

    async def end(self) -> None:
        """Stop it, if there is one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _join(self, code: str, address: str | None) -> None:
        workspace = Workspace(self._workspace.home)

        async def confirm(inviter: Inviter) -> bool:
            self._answer = asyncio.get_running_loop().create_future()
            self._now = JoinSeen(ASKING, inviter)
            try:
                yes = await self._answer
            finally:
                self._answer = None
            self._now = JoinSeen(WAITING, inviter)
            return yes

        try:
            await join_shop(workspace, code, confirm, address=address)
            await tell_roster(workspace)
        except asyncio.CancelledError:
            self._now = None
            raise
        except Exception as error:
            hint = getattr(error, "hint", None)
            if not isinstance(hint, str):
                log.exception("join failed")
                hint = ""
            self._now = JoinSeen(FAILED, self._now.inviter if self._now else None, str(error), hint)
            return
        assert self._now is not None
        self._now = replace(self._now, state=JOINED)
