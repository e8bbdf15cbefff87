"""Bundles as files: verified whole before anything is done with them, then read again frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.engine.restore_errors import BundleChanged
from agent.reading import Opener, plainly
from protocol.errors import ProtocolError
from protocol.frames import EncodedFrame, parse_frame
from protocol.limits import DEFAULT_LIMITS, Limits
from protocol.manifest import Manifest
from protocol.places import Packed, Place, unpack_places
from protocol.reader import BundleReader, Event, FrameRead
from protocol.seal import Seal, VerifySignature, verify_seal

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PlacedFrame:
    """A frame of a verified bundle, to be read where it lies by who needs its data."""

    bundle: VerifiedBundle
    place: Place

    @property
    def entry(self) -> int:
        """As :class:`EncodedFrame` has it."""
        return self.place.entry

    @property
    def rows(self) -> int:
        """As :class:`EncodedFrame` has it."""
        return self.place.rows

    @property
    def digest(self) -> bytes:
        """As :class:`EncodedFrame` has it."""
        return self.place.digest

    def load(self) -> EncodedFrame:
        """The frame. Blocking. Raises ``BundleChanged`` if it is not the one that was verified."""
        with self.bundle.opener(self.bundle.path) as file:
            file.seek(self.place.position)
            payload = file.read(self.place.length)
        with suppress(ProtocolError):
            frame, _ = parse_frame(payload, self.bundle.limits)
            if frame.digest == self.place.digest:
                return frame
        raise self.bundle.changed()


Frame = EncodedFrame | PlacedFrame


class BundleSource(Protocol):
    """Where a restore reads a bundle from. ``frames`` may be called again for another reading, and raises at its end
    if what it gave was not the bundle that the manifest announced and the seal closes. ``sparse_frames`` may come
    without their data, for who needs that of few: it is held against what was verified as it is loaded."""

    @property
    def manifest(self) -> Manifest: ...

    def frames(self) -> AsyncGenerator[EncodedFrame, None]: ...

    def sparse_frames(self) -> AsyncGenerator[Frame, None]: ...


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle file whose frames, totals and signature hold. ``signer`` is the node that made it, ``size`` in bytes,
    ``places`` where its frames lie (:mod:`protocol.places`), if that was kept.

    Whether that node is trusted here is for the caller to ask.
    """

    path: Path
    manifest: Manifest
    seal: Seal
    signer: str
    size: int
    limits: Limits = DEFAULT_LIMITS
    opener: Opener = plainly
    places: Packed | None = None

    def changed(self) -> BundleChanged:
        """The error of who finds another file here."""
        return BundleChanged(f"{self.path.name} is not the file that was verified a moment ago.")

    async def sparse_frames(self) -> AsyncGenerator[Frame, None]:
        """The frames in order, without their data if it is known where they lie; else as :meth:`frames` gives them."""
        if self.places is None:
            async with aclosing(self.frames()) as frames:
                async for frame in frames:
                    yield frame
            return
        for place in unpack_places(self.places):
            yield PlacedFrame(self, place)

    async def frames(self) -> AsyncGenerator[EncodedFrame, None]:
        """The frames in order; holds one chunk of the file and its frames in memory.

        Raises ``BundleChanged`` at the end if this is no longer the file that was verified.
        """
        reader = BundleReader(self.limits)
        file = await asyncio.to_thread(self.opener, self.path)

        def read() -> list[Event] | None:
            chunk = file.read(CHUNK_BYTES)
            return reader.feed(chunk) if chunk else None

        try:
            while (events := await asyncio.to_thread(read)) is not None:
                for event in events:
                    if isinstance(event, FrameRead):
                        yield event.frame
            reader.close()
        finally:
            await asyncio.to_thread(file.close)
        if reader.seal != self.seal:
            raise self.changed()


async def verify_bundle(
    path: Path,
    verify: VerifySignature,
    limits: Limits = DEFAULT_LIMITS,
    told: Callable[[int], None] | None = None,
    *,
    opener: Opener = plainly,
) -> VerifiedBundle:
    """Read the file to its end and check everything but trust: frames, chain, totals, seal, signature.

    ``told`` is called, in a thread, with the bytes read so far. ``opener`` reads through the seal of a file that is
    sealed. Raises ``protocol.errors.BundleError`` for what is wrong with the file, what ``opener`` raises, and
    ``OSError`` if it cannot be read.
    """
    return await asyncio.to_thread(_verify, path, verify, limits, told, opener)


def _verify(
    path: Path, verify: VerifySignature, limits: Limits, told: Callable[[int], None] | None, opener: Opener
) -> VerifiedBundle:
    reader = BundleReader(limits)
    size = 0
    with opener(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            reader.feed(chunk)
            size += len(chunk)
            if told is not None:
                told(size)
    reader.close()
    assert reader.manifest is not None
    assert reader.seal is not None
    signer = verify_seal(reader.manifest, reader.seal, verify)
    return VerifiedBundle(path, reader.manifest, reader.seal, signer, size, limits, opener, reader.places)


def manifest_of(path: Path, opener: Opener = plainly) -> Manifest | None:
    """The manifest at the head of a bundle, if that part is whole; it says nothing of the rest. Blocking."""
    reader = BundleReader()
    with opener(path) as file:
        try:
            while reader.manifest is None and (chunk := file.read(CHUNK_BYTES)):
                reader.feed(chunk)
        except ProtocolError:
            pass
    return reader.manifest
