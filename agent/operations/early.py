"""Restores that begin while their bundle still comes: the rows of a large push are read into the database meanwhile.

All is done by the code that restores a bundle which is there, in the same one transaction. What is different is where
it waits: for the next frame, and at the end for the word that the bundle is whole, is signed, and may be restored. So
nothing of it lasts before that, nor stands in the history; and where the bundle comes no further, or takes too long,
the transaction is rolled back, and the bundle is restored once it is there, as if nothing had been.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.archive.history import History
from agent.engine.bundle_file import VerifiedBundle
from agent.engine.choices import NO_CHOICES
from agent.engine.coming import ComingBundle
from agent.engine.plan import RestoreResult
from agent.engine.progress import Progress, silent
from agent.growing import Growing
from agent.log import get_logger
from agent.operations.applying import carry_out, restore_record, telling
from agent.operations.approving import Approval
from agent.operations.outcomes import RunningRestore
from agent.operations.workspace import Workspace
from agent.peers.handler import Report
from protocol.manifest import Manifest

log = get_logger(__name__)

LEAST_ROWS = 10_000
"""A bundle of fewer rows is restored in a moment, once it is there."""
SOON_SECONDS = 5.0
"""It begins when the rest should be here so soon: tables may be held, and who uses them waits for a transfer then."""
LONGEST_SECONDS = 15.0
"""It is given up where the rest takes that long after all."""


class EarlyRestore:
    """The restore of one bundle that comes into ``path``, as ``approval`` says, while the lock ``turn`` is held.

    Whoever writes the file tells it how far that is (``agent.operations.arriving.Follower``). It ends by
    :meth:`result`, or by :meth:`gone` and :meth:`over`.
    """

    def __init__(
        self,
        workspace: Workspace,
        history: History,
        manifest: Manifest,
        path: Path,
        approval: Approval,
        transfer_id: str,
        turn: asyncio.Lock,
    ) -> None:
        self._history = history
        self._manifest = manifest
        self._approval = approval
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._first: tuple[int, float] | None = None
        self._growing = Growing(path)
        self._coming = ComingBundle(manifest, self._growing)
        record = restore_record(
            workspace,
            manifest,
            path,
            approval.conflicts,
            NO_CHOICES,
            approver=approval.approver,
            transfer_id=transfer_id,
        )
        self._running = RunningRestore(workspace, history, record)
        self._task: asyncio.Task[RestoreResult] | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._whole = False
        self._told: Progress = silent

    def grew(self, written: int, size: int) -> None:
        """So many of the bundle's bytes can be read by now, of ``size``, which may be a guess."""
        self._growing.grew(written)
        idle = self._task is None and not self._growing.failed and not self._turn.locked()
        if self._soon(written, size) and idle:
            log.info("restore begins", bundle=self._manifest.bundle_id, here=written, size=size)
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)
            self._limit = self._loop.call_later(LONGEST_SECONDS, self.gone)

    def _soon(self, written: int, size: int) -> bool:
        """Whether the rest should be here soon. What was here before says nothing of how fast that comes."""
        self._first = self._first or (written, self._loop.time())
        come, passed = written - self._first[0], self._loop.time() - self._first[1]
        return come > 0 and (size - written) * passed <= come * SOON_SECONDS

    def gone(self) -> None:
        """No more bytes come, or too slowly: it is rolled back. Without effect on a bundle that is whole."""
        self._growing.fail()
        if self._task is not None and not self._whole:
            self._task.cancel()

    @property
    def given_up(self) -> bool:
        """Whether nothing can come of it any more, and nothing of it is under way."""
        return self._growing.failed and (self._task is None or self._task.done())

    async def over(self) -> None:
        """Wait until nothing of a restore that was given up is under way any more."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def result(self, bundle: VerifiedBundle, approval: Approval, report: Report) -> RestoreResult | None:
        """What came of it, now that the bundle is whole and may be restored as ``approval`` says. None where nothing
        did: it was not begun, or given up, and all is as it was.

        Raises what a restore raises, and has it recorded.
        """
        task = self._task
        if task is None or task.done() or self._growing.failed or approval != self._approval:
            self.gone()
            await self.over()
            return None
        assert self._limit is not None
        self._limit.cancel()
        self._told = telling(report, self._manifest.total_rows)
        await self._running.enter()
        self._whole = True
        self._coming.complete(bundle)
        return await task

    async def _run(self) -> RestoreResult:
        try:
            async with self._turn:
                return await carry_out(
                    self._running,
                    self._history,
                    self._coming,
                    conflicts=self._approval.conflicts,
                    expected=self._approval.expected,
                    progress=lambda step: self._told(step),
                )
        finally:
            # A thread may still wait for more of the file.
            self._growing.fail()

    def _ended(self, task: asyncio.Task[RestoreResult]) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if not self._whole:
            reason = "the bundle comes no further" if task.cancelled() else str(task.exception())
            log.info("restore given up for now", bundle=self._manifest.bundle_id, reason=reason)


class EarlyRestores:
    """Those of one agent, by transfer; each as long as its bundle comes."""

    def __init__(self, workspace: Workspace, history: History, turn: asyncio.Lock) -> None:
        self._workspace = workspace
        self._history = history
        self._turn = turn
        self._early: dict[str, EarlyRestore] = {}

    async def expect(self, transfer_id: str, manifest: Manifest, path: Path, approval: Approval) -> EarlyRestore | None:
        """Who is to be told how the bundle grows, if it is large enough."""
        await self.forget(transfer_id)
        # Senders that fell silent for good say no word.
        self._early = {name: early for name, early in self._early.items() if not early.given_up}
        if manifest.total_rows < LEAST_ROWS:
            return None
        early = EarlyRestore(self._workspace, self._history, manifest, path, approval, transfer_id, self._turn)
        self._early[transfer_id] = early
        return early

    async def result(
        self, transfer_id: str, bundle: VerifiedBundle, approval: Approval, report: Report
    ) -> RestoreResult | None:
        """As :meth:`EarlyRestore.result` says."""
        early = self._early.pop(transfer_id, None)
        return await early.result(bundle, approval, report) if early is not None else None

    async def close(self) -> None:
        """Give all of them up."""
        for transfer_id in tuple(self._early):
            await self.forget(transfer_id)

    async def forget(self, transfer_id: str) -> None:
        """Give that of this transfer up, if there is one."""
        if (early := self._early.pop(transfer_id, None)) is not None:
            early.gone()
            await early.over()
