"""Bundles that arrive, and the truth about them in the history: a sender that fell silent is not "started" for ever."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from agent.archive.errors import ArchiveError, DiskFullError
from agent.archive.history import History
from agent.archive.incoming import Incoming
from agent.archive.records import FAILED, INTERRUPTED, REFUSED, STARTED
from agent.archive.spool import Spool
from agent.home import Home
from agent.log import get_logger

log = get_logger(__name__)

SILENT_SECONDS = 6.0
_POLL_SECONDS = 1.0
_OLDER = 20
_WATCH_EVERY = 32_000_000
SPARE_BYTES = 100_000_000
"""What must stay free beside the bundles on their way in."""
CANCELLED = "cancelled"


class Follower(Protocol):
    """Who reads a file as it grows."""

    def grew(self, written: int, size: int) -> None:
        """So many bytes can be read now, of ``size``, which may be a guess."""

    def gone(self) -> None:
        """The file grows no further: it is complete, or let go."""


class Arriving(Incoming):
    """The spool's file of one transfer. Its record in the history is open as long as bytes come.

    ``follower`` is told how it grows.
    """

    def __init__(self, path: Path, bundle_id: str, size: int, transfer_id: str, history: History) -> None:
        super().__init__(path, bundle_id, size)
        self._transfer_id = transfer_id
        self._history = history
        self._moved = time.monotonic()
        self._under_way = True
        self._unwatched = 0
        self._noting = asyncio.Lock()
        self.follower: Follower | None = None
        self.replaced = False
        """Whether its sender has offered something newer."""

    async def write(self, data: bytes) -> None:
        """Append ``data``; a transfer that was taken for interrupted goes on, and one whose disk is full has failed."""
        await self.goes_on()
        self._unwatched += len(data)
        if self._unwatched >= _WATCH_EVERY:
            self._unwatched = 0
            await self._kept(self._watch_disk())
        await self._kept(super().write(data))
        if self.follower is not None:
            self.follower.grew(self.written, self.size)

    async def sync(self) -> None:
        """Bring all that was received to the disk."""
        await self._kept(super().sync())

    async def _watch_disk(self) -> None:
        """Stop before the disk is full to the brim: the database beside it needs room, too."""
        free = (await asyncio.to_thread(shutil.disk_usage, self.path.parent)).free
        if free < SPARE_BYTES // 10:
            raise DiskFullError(
                f"Only {free // 1_000_000} MB are free on the receiving laptop; what came so far is kept.",
                "Free some space there: the push goes on then.",
            )

    async def discard(self) -> None:
        """Delete what was received: the receiver found it damaged."""
        self._gone()
        await self.end(FAILED, "damaged", "What came of the bundle was damaged, and was thrown away.")
        await super().discard()

    async def close(self) -> None:
        """Keep what was received."""
        self._gone()
        await super().close()

    async def give_up(self) -> None:
        """Delete what was received: the sender has something newer."""
        self._gone()
        await super().discard()

    def _gone(self) -> None:
        if self.follower is not None:
            self.follower.gone()

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
            await self.end(INTERRUPTED, "interrupted", message)
            if self.replaced:
                await self.give_up()

    async def _kept(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except ArchiveError as error:
            await self.end(FAILED, error.code, str(error))
            raise

    async def end(self, state: str, code: str, message: str) -> None:
        """Note that no more bytes come, unless that is noted already."""
        async with self._noting:
            if not self._under_way:
                return
            await self._history.end_transfer(
                self._transfer_id, state, bytes_done=self.offset, error_code=code, error=message
            )
            self._under_way = False


class Arrivals:
    """The transfers between offer and last byte, and the spool that they arrive in."""

    def __init__(self, home: Home, history: History) -> None:
        self._spool = Spool(home)
        self._history = history
        # Weak: the receiver holds what it still receives.
        self._arriving: WeakValueDictionary[str, Arriving] = WeakValueDictionary()

    def reserved(self, but: str = "") -> int:
        """How many bytes the bundles on their way in still need, without that of transfer ``but``."""
        arriving = tuple(self._arriving.items())
        return sum(each.size - each.offset for transfer, each in arriving if transfer != but)

    async def here(self, transfer_id: str) -> int:
        """How many bytes of a transfer are in the spool."""
        return await self._spool.offset(transfer_id)

    async def held(self) -> int:
        """How many bytes lie in the spool."""
        return sum(part.size for part in await self._spool.parts())

    async def stopped(self, transfer_id: str, by: str, *, cancelled: bool) -> None:
        """The sender has stopped, or it was cancelled for good: noted at once."""
        if cancelled:
            self._arriving.pop(transfer_id, None)
            await self._history.end_transfer(
                transfer_id, REFUSED, error_code=CANCELLED, error=f"The transfer was cancelled. It came from {by}."
            )
        elif (arriving := self._arriving.pop(transfer_id, None)) is not None:
            await arriving.end(INTERRUPTED, "stopped", f"{by} stopped the push. Run again, it goes on.")

    def expect(self, transfer_id: str, bundle_id: str, size: int) -> Arriving:
        """The file for a transfer that is noted as started, to be entered by the receiver.

        It is named by the transfer, which belongs to device and bundle: nobody can name a file of somebody else's.
        """
        path = self._spool.open(transfer_id, size).path
        self._arriving[transfer_id] = arriving = Arriving(path, bundle_id, size, transfer_id, self._history)
        return arriving

    async def arrived(self, transfer_id: str, size: int) -> None:
        """All ``size`` bytes are here: from now on the transfer is this laptop's own work."""
        arriving = self._arriving.pop(transfer_id, None)
        if arriving is not None:
            await arriving.goes_on()
            # Its sender may have had to guess when it offered it.
            await self._history.progress_transfer(transfer_id, size, size)

    async def take_over(self, looked: str, transfer_id: str) -> None:
        """What came to be looked at is pushed now: its bytes are those of the push, and need not come again."""
        await self._spool.rename(looked, transfer_id)

    async def watch(self) -> None:
        """Note silent transfers as interrupted, until cancelled."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for arriving in tuple(self._arriving.values()):
                try:
                    await arriving.fell_silent()
                except (ArchiveError, OSError) as error:
                    log.warning("a silent transfer is not noted yet", bundle=arriving.bundle_id, reason=str(error))

    async def forget_older(self, peer: str, business: str | None, bundle_id: str) -> None:
        """Throw away what came of earlier bundles of a business that its sender has replaced by a newer one."""
        older = await self._history.transfers(direction="received", peer=peer, business=business, limit=_OLDER)
        for each in older:
            if each.bundle_id == bundle_id:
                continue
            arriving = self._arriving.get(each.id)
            if each.state == STARTED:
                if arriving is not None:
                    arriving.replaced = True  # it may still come; once it falls silent it goes
                continue
            if not await self._spool.offset(each.id):
                continue
            with contextlib.suppress(ArchiveError):
                if arriving is not None:
                    await arriving.give_up()
                async with self._spool.open(each.id, 0) as part:
                    await part.discard()
