"""A bundle on its way in: checked by the bundle reader while it is written, so that nothing wrong is kept.

Used by both sides: the server receives uploads with it, the client pulls. The reader and the hashing run in threads;
the bytes go to a ``Part``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import aclosing

from agent.peers.handler import Arrived, Part
from certs.identity import verify_signature
from protocol.errors import BundleError, ManifestInvalid, TooLarge
from protocol.manifest import Manifest
from protocol.reader import BundleReader, Mark
from protocol.seal import verify_seal

TAIL, TAIL_DIGEST = 64 << 10, 32
REREAD = 256 << 20
"""A part without a mark is read again up to this size, in bytes; a longer one starts anew: no offer waits long."""
PIECE = 1 << 20
"""How many bytes are gathered before they go through the reader and to the part."""


class Receiver:
    """Feeds one bundle through the reader into ``part``.

    ``expected`` is the manifest that was offered, if there was an offer; ``accept`` may refuse another one by raising.
    ``size`` is how many bytes the bundle has.
    """

    def __init__(
        self,
        part: Part,
        size: int,
        *,
        expected: Manifest | None = None,
        accept: Callable[[Manifest], None] | None = None,
    ) -> None:
        self.part = part
        self.size = size
        self._expected = expected
        self._accept = accept
        self._reader = self._fresh()
        self._marked = 0
        self.arrived: Arrived | None = None
        """What was found out, once all is here and was read in one go."""
        self.resumed = False
        """Whether bytes are here that were not read again when it went on."""
        self.in_step = True
        """Whether all that was read is in the part, too: not after a failed write; then it must be opened anew."""

    @property
    def offset(self) -> int:
        """How many bytes are here."""
        return self.part.offset

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self.offset == self.size

    def resize(self, size: int) -> None:
        """The bundle has so many bytes after all."""
        self.size = self.part.size = size

    async def open(self) -> None:
        """Enter the part and go on from where its mark says, or from what can be checked again quickly.

        Bytes before the mark are not read again: they were checked when they came, and the whole is verified before it
        is used. What does not fit is thrown away.
        """
        await self.part.__aenter__()
        try:
            start = await self._take_up()
            if not start and self.offset > REREAD:
                await self._start_again()
                return
            async for data in self.part.read(start=start):
                await asyncio.to_thread(self._reader.feed, data)
        except BundleError:
            await self._start_again()
        except BaseException:
            await self.part.close()
            raise

    async def sync(self) -> None:
        """Bring what is here to the disk, with the mark from which to go on."""
        await self.part.sync()
        mark = self._reader.mark() if self.in_step else None
        if mark is not None and mark.position > self._marked:
            self._marked = mark.position
            tail = await self._tail(mark.position)
            await self.part.remember(hashlib.sha256(tail).digest() + mark.encode())

    async def _take_up(self) -> int:
        """Bring the reader to the part's mark; the position to go on reading from, 0 where there is no good mark."""
        memory = await self.part.memory()
        if memory is None:
            return 0
        try:
            mark = Mark.decode(memory[TAIL_DIGEST:])
            if mark.position > self.offset:
                return 0
            if hashlib.sha256(await self._tail(mark.position)).digest() != memory[:TAIL_DIGEST]:
                return 0
            self._reader.feed(await self._piece(0, mark.head))
            self._reader.go_on(mark)
        except BundleError:
            self._reader = self._fresh()
            return 0
        self.resumed, self._marked = True, mark.position
        return mark.position

    async def _tail(self, position: int) -> bytes:
        start = max(0, position - TAIL)
        return await self._piece(start, position - start)

    async def _piece(self, start: int, size: int) -> bytes:
        found = bytearray()
        async with aclosing(self.part.read(start=start)) as pieces:
            async for data in pieces:
                found += data[: size - len(found)]
                if len(found) == size:
                    break
        return bytes(found)

    async def take(self, data: bytes) -> None:
        """Check and keep the next bytes. A ``BundleError`` means that the bundle is bad: the part is discarded."""
        try:
            if self.offset + len(data) > self.size:
                raise TooLarge(f"More bytes came than the {self.size} that were announced.")
            self.in_step = False
            await asyncio.to_thread(self._reader.feed, data)
        except BundleError:
            await self.part.discard()
            raise
        await self.part.write(data)
        self.in_step = True

    async def finish(self) -> Manifest:
        """After the last byte: sync, check the end and the seal; returns the manifest. Raises ``BundleError``."""
        await self.part.sync()
        try:
            self._reader.close()
            manifest, seal = self._reader.manifest, self._reader.seal
            if manifest is None or seal is None:
                raise ManifestInvalid("The bundle has no manifest or no seal.")
            signer = await asyncio.to_thread(verify_seal, manifest, seal, verify_signature)
        except BundleError:
            await self.part.discard()
            raise
        self.arrived = None if self.resumed else Arrived(seal, signer, self._reader.places)
        return manifest

    async def close(self) -> None:
        """Leave the part; what is there stays for the next attempt."""
        await self.part.close()

    async def _start_again(self) -> None:
        await self.part.discard()
        await self.part.close()
        await self.part.__aenter__()
        self._reader, self.resumed, self._marked = self._fresh(), False, 0

    def _fresh(self) -> BundleReader:
        return BundleReader(accept=self._check)

    def _check(self, manifest: Manifest) -> None:
        if self._expected is not None and manifest != self._expected:
            raise ManifestInvalid("The bundle that came has another manifest than the one that was offered.")
        if self._accept is not None:
            self._accept(manifest)
