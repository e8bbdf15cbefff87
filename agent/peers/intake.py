"""The body of one upload request: gathered, told in full where it is a delta, checked and kept as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import BinaryIO

from aiohttp import web

from agent.log import get_logger
from agent.peers import http
from agent.peers.errors import RequestError
from agent.peers.handler import Peer
from agent.peers.limits import ServerLimits
from agent.peers.receive import PIECE
from agent.peers.upload import Upload
from agent.reading import Unreadable
from protocol.delta import DeltaReader, News

log = get_logger(__name__)

GATHER_SECONDS = 1.0
"""How long bytes of a slow sender are gathered before they are taken."""
DELTA_EXCESS = 1 << 20
"""By how many bytes a delta may be longer than what it tells."""


async def receive(
    request: web.Request, upload: Upload, limits: ServerLimits, check: Callable[[web.Request], Peer]
) -> None:
    """Take the body. Whatever ends it, what came and was checked is on disk afterwards.

    Raises ``RequestError``, ``BundleError`` (the bundle is bad and thrown away), ``BadDelta``, and what reading raises.
    """
    receiver, loop = upload.receiver, asyncio.get_running_loop()
    is_delta = request.content_type == http.DELTA_TYPE
    most = upload.offer.size - receiver.offset + (DELTA_EXCESS if is_delta else 0)
    if (request.content_length or 0) > most:
        raise _too_large(upload)
    file, reader = await _delta_reader(upload) if is_delta else (None, None)
    upload.meter.note(receiver.offset)
    buffer, came, synced, taken = bytearray(), 0, receiver.offset, loop.time()

    async def take(data: bytes) -> None:
        made: Iterator[bytes] = iter((data,)) if reader is None else reader.feed(data)
        while (piece := await asyncio.to_thread(next, made, None)) is not None:
            await receiver.take(piece)
            upload.meter.note(receiver.offset)

    try:
        while True:
            try:
                async with asyncio.timeout(limits.idle_seconds):
                    data = await request.content.readany()
            except TimeoutError:
                limit = limits.idle_seconds
                raise RequestError(408, "too-slow", f"No byte of the bundle came for {limit:g} seconds.") from None
            buffer += data
            came += len(data)
            if came > most:
                raise _too_large(upload)
            late = loop.time() - taken > GATHER_SECONDS
            # A short delta is a long bundle: it is made while the sender finds the rest.
            if len(buffer) >= PIECE or (buffer and (is_delta or late or not data)):
                taken = loop.time()
                check(request)
                gathered, buffer = bytes(buffer), bytearray()
                await take(gathered)
                if receiver.offset - synced >= limits.sync_bytes:
                    await receiver.sync()
                    synced = receiver.offset
            if not data:
                break
    except (web.RequestPayloadError, ConnectionError):
        if buffer:
            await take(bytes(buffer))
        log.info("upload interrupted", peer=upload.peer.name, offset=receiver.offset, size=upload.offer.size)
        raise
    finally:
        if upload.phase == "receiving":
            await receiver.sync()
        if file is not None:
            await asyncio.to_thread(file.close)


async def _delta_reader(upload: Upload) -> tuple[BinaryIO, DeltaReader]:
    if upload.base is None:
        raise RequestError(409, "no-base", "This upload was not agreed to be a delta.")
    try:
        file, base = await asyncio.to_thread(upload.base.open)
    except Unreadable as error:
        log.warning("no delta", base=upload.base.bundle_id, reason=str(error))
        raise RequestError(409, "no-base", "The earlier bundle cannot be read any more here.") from error
    if upload.news is None:
        upload.news = News(base.content)
    return file, DeltaReader(base, upload.news)


def _too_large(upload: Upload) -> RequestError:
    return RequestError(413, "too-large", f"The bundle was announced with {upload.offer.size} bytes.")
