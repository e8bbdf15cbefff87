"""A bundle that is still coming, for a restore that begins meanwhile: read as its file grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from agent.engine.bundle_file import CHUNK_BYTES, VerifiedBundle
from agent.engine.restore_errors import BundleChanged
from agent.growing import Growing
from protocol.frames import EncodedFrame
from protocol.manifest import Manifest
from protocol.reader import BundleReader, Event, FrameRead


class ComingBundle:
    """A ``BundleSource`` that has its manifest, and of whose frames some are on the disk.

    Whoever takes it in tells ``growing`` how much is there, and :meth:`complete` once all of it is, and holds. Where it
    comes no further, ``growing`` fails, and so does who reads.
    """

    def __init__(self, manifest: Manifest, growing: Growing) -> None:
        self._manifest = manifest
        self._growing = growing
        self._whole: asyncio.Future[VerifiedBundle] = asyncio.get_running_loop().create_future()

    @property
    def manifest(self) -> Manifest:
        """As it was offered; that of the bundle is the same, or it is refused."""
        return self._manifest

    def complete(self, bundle: VerifiedBundle) -> None:
        """All of it is there, and was verified to be this."""
        self._whole.set_result(bundle)
        self._growing.grew(bundle.size)
        self._growing.end(bundle.path)

    def sparse_frames(self) -> AsyncGenerator[EncodedFrame, None]:
        """The same as :meth:`frames`: what comes is read once anyway."""
        return self.frames()

    async def frames(self) -> AsyncGenerator[EncodedFrame, None]:
        """The frames in order, each once it is there. The end comes when the bundle is known to be whole and verified.

        Raises ``agent.growing.Unfinished`` where it comes no further, ``BundleError`` where what comes is wrong, and
        ``BundleChanged`` if what was read is not what was verified.
        """
        reader = BundleReader()
        # Waiting for bytes takes a thread, and those that all share are needed to bring them. Whoever waits for a file
        # that comes no further is woken by its failing.
        thread, loop = ThreadPoolExecutor(1, "coming"), asyncio.get_running_loop()
        try:
            file = await loop.run_in_executor(thread, self._growing.open)

            def read() -> list[Event] | None:
                chunk = file.read1(CHUNK_BYTES)
                return reader.feed(chunk) if chunk else None

            try:
                while (events := await loop.run_in_executor(thread, read)) is not None:
                    for event in events:
                        if isinstance(event, FrameRead):
                            yield event.frame
                await loop.run_in_executor(thread, file.close)
            finally:
                thread.submit(file.close)
        finally:
            thread.shutdown(wait=False)
        reader.close()
        whole = await self._whole
        if reader.seal != whole.seal or reader.manifest != whole.manifest:
            raise BundleChanged(f"{whole.path.name} is not the file that was verified a moment ago.")
