"""Bundles that arrive, and the truth about them in the history: a sender that fell silent is not "started" for ever."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from pathlib import Path
from weakref import WeakValueDictionary

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.records import FAILED, INTERRUPTED, STARTED
from agent.archive.spool import Incoming, Spool
from agent.home import Home

SILENT_SECONDS = 6.0
_POLL_SECONDS = 1.0
_OLDER = 20


class Arriving(Incoming):
    """The spool's file of one transfer. Its record in the history is open as long as bytes come."""

    def __init__(self, path: Path, bundle_id: str, size: int, transfer_id: str, history: History) -> None:
        super().__init__(path, bundle_id, size)
        self._transfer_id = transfer_id
        self._history = history
        self._moved = time.monotonic()
        self._under_way = True
        self._noting = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        """Append ``data``; a transfer that was taken for interrupted goes on, and one whose disk is full has failed."""
        await self.goes_on()
        await self._kept(super().write(data))

    async def sync(self) -> None:
        """Bring all that was received to the disk."""
        await self._kept(super().sync())

    async def discard(self) -> None:
        """Delete what was received: the receiver found it damaged."""
        await self._end(FAILED, "damaged", "What came of the bundle was damaged, and was thrown away.")
        await super().discard()

    async def give_up(self) -> None:
        """Delete what was received: the sender has something newer."""
        await super().discard()

    async def goes_on(self) -> None:
        """Bytes came, or all are here."""
        self._moved = time.monotonic()
        if not self._under_way:
            async with self._noting:
                self._under_way = True
                await self._history.resume_transfer(self._transfer_id)

    async def fell_silent(self) -> None:
        """Note the transfer as interrupted if nothing came for a while."""
        if self._moved < time.monotonic() - SILENT_SECONDS:
            message = "The sender fell silent. Run again, the push goes on where it stopped."
            await self._end(INTERRUPTED, "interrupted", message)

    async def _kept(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except ArchiveError as error:
            await self._end(FAILED, error.code, str(error))
            raise

    async def _end(self, state: str, code: str, message: str) -> None:
        if not self._under_way:
            return
        async with self._noting:
            self._under_way = False
            await self._history.end_transfer(
                self._transfer_id, state, bytes_done=self.offset, error_code=code, error=message
            )


class Arrivals:
    """The transfers between offer and last byte, and the spool that they arrive in."""

    def __init__(self, home: Home, history: History) -> None:
        self._spool = Spool(home)
        self._history = history
        # Weak: the receiver holds what it still receives.
        self._arriving: WeakValueDictionary[str, Arriving] = WeakValueDictionary()

    def expect(self, transfer_id: str, bundle_id: str, size: int) -> Arriving:
        """The file for a transfer that is noted as started, to be entered by the receiver."""
        path = self._spool.open(bundle_id, size).path
        self._arriving[transfer_id] = arriving = Arriving(path, bundle_id, size, transfer_id, self._history)
        return arriving

    async def arrived(self, transfer_id: str) -> None:
        """All bytes are here: from now on the transfer is this laptop's own work."""
        arriving = self._arriving.pop(transfer_id, None)
        if arriving is not None:
            await arriving.goes_on()

    async def watch(self) -> None:
        """Note silent transfers as interrupted, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for arriving in tuple(self._arriving.values()):
                await arriving.fell_silent()

    async def forget_older(self, peer: str, business: str | None, bundle_id: str) -> None:
        """Throw away what came of earlier bundles of a business that its sender has replaced by a newer one."""
        older = await self._history.transfers(
            direction="received", mode="push", peer=peer, business=business, limit=_OLDER
        )
        for each in older:
            left = each.bundle_id
            if left is None or left == bundle_id or each.state == STARTED or not await self._spool.offset(left):
                continue
            with contextlib.suppress(ArchiveError):
                if (arriving := self._arriving.get(each.id)) is not None:
                    await arriving.give_up()
                async with self._spool.open(left, 0) as part:
                    await part.discard()

    async def clean(self) -> list[str]:
        """Throw away what is too old or too much to go on with. Returns bundle IDs."""
        return await self._spool.clean()
