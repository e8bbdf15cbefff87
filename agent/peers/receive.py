"""A bundle on its way in: checked by the bundle reader while it is written, so that nothing wrong is kept.

Used by both sides: the server receives uploads with it, the client pulls. The reader and the hashing run in threads;
the bytes go to a ``Part``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.peers.handler import Part
from certs.identity import verify_signature
from protocol.errors import BundleError, ManifestInvalid, TooLarge
from protocol.manifest import Manifest
from protocol.reader import BundleReader
from protocol.seal import verify_seal

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

    @property
    def offset(self) -> int:
        """How many bytes are here."""
        return self.part.offset

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self.offset == self.size

    async def open(self) -> None:
        """Enter the part and check again what it holds from before; what is damaged there is thrown away."""
        await self.part.__aenter__()
        try:
            async for data in self.part.read():
                await asyncio.to_thread(self._reader.feed, data)
        except BundleError:
            await self._start_again()
        except BaseException:
            await self.part.close()
            raise

    async def take(self, data: bytes) -> None:
        """Check and keep the next bytes. A ``BundleError`` means that the bundle is bad: the part is discarded."""
        try:
            if self.offset + len(data) > self.size:
                raise TooLarge(f"More bytes came than the {self.size} that were announced.")
            await asyncio.to_thread(self._reader.feed, data)
        except BundleError:
            await self.part.discard()
            raise
        await self.part.write(data)

    async def finish(self) -> Manifest:
        """After the last byte: sync, check the end and the seal; returns the manifest. Raises ``BundleError``."""
        await self.part.sync()
        try:
            self._reader.close()
            manifest, seal = self._reader.manifest, self._reader.seal
            if manifest is None or seal is None:
                raise ManifestInvalid("The bundle has no manifest or no seal.")
            await asyncio.to_thread(verify_seal, manifest, seal, verify_signature)
        except BundleError:
            await self.part.discard()
            raise
        return manifest

    async def close(self) -> None:
        """Leave the part; what is there stays for the next attempt."""
        await self.part.close()

    async def _start_again(self) -> None:
        await self.part.discard()
        await self.part.close()
        await self.part.__aenter__()
        self._reader = self._fresh()

    def _fresh(self) -> BundleReader:
        return BundleReader(accept=self._check)

    def _check(self, manifest: Manifest) -> None:
        if self._expected is not None and manifest != self._expected:
            raise ManifestInvalid("The bundle that came has another manifest than the one that was offered.")
        if self._accept is not None:
            self._accept(manifest)
