"""Small parts of HTTP that server and client share: bounded bodies, messages, problems, streams of messages.

A stream is a body of frames: one byte that says what it is, four bytes of length (big endian), then the payload.
Its frames are items, signs of life while nothing is ready, and exactly one end or problem at the end, so that a
stream that was cut short is never taken for a short one.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import TYPE_CHECKING

from agent.log import get_logger
from agent.peers.errors import BadAnswer, Refused, RequestError
from protocol.messages import Message, Problem

if TYPE_CHECKING:
    from aiohttp import StreamReader, web

log = get_logger(__name__)

CONTENT_TYPE = "application/msgpack"
NODE_HEADER = "Backroom-Node"
INSTANCE_HEADER = "Backroom-Instance"
OFFSET_HEADER = "Upload-Offset"
LENGTH_HEADER = "Upload-Length"
COMPLETE_HEADER = "Upload-Complete"
ANYONE = "any.backroom"
"""The TLS name for an address whose owner is not known yet."""
UPLOAD_TYPE = "application/partial-upload"
DELTA_TYPE = "application/vnd.backroom.delta"
ALIVE_SECONDS = 5.0
MAX_FRAME = 1 << 20
_HEAD = struct.Struct(">BI")


class Frame(IntEnum):
    """What a frame of a stream is."""

    ALIVE = 0
    ITEM = 1
    END = 2
    PROBLEM = 3


def answer(message: Message, status: int = 200) -> web.Response:
    """A message as a response."""
    from aiohttp import web  # only here: a client never answers

    return web.Response(status=status, body=message.encode(), content_type=CONTENT_TYPE)


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """The whole body, at most ``limit`` bytes within ``seconds``; raises ``RequestError`` otherwise."""
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return await bounded(request.content, limit)
    except TimeoutError:
        raise RequestError(408, "too-slow", f"The request did not arrive within {seconds:g} seconds.") from None
    except BadAnswer:
        raise too_large(limit) from None


async def bounded(content: StreamReader, limit: int) -> bytes:
    """All of a stream, at most ``limit`` bytes; raises ``BadAnswer`` otherwise."""
    data = bytearray()
    while piece := await content.readany():
        data += piece
        if len(data) > limit:
            raise BadAnswer(f"The other laptop sends more than the {limit} bytes that are allowed here.")
    return bytes(data)


def too_large(limit: int) -> RequestError:
    """The refusal of a body over its limit."""
    return RequestError(413, "too-large", f"The request has more than the {limit} bytes that are allowed.")


def internal_error() -> RequestError:
    """What a peer is told about an error that it cannot do anything about; the log has the rest."""
    return RequestError(500, "internal", "Something went wrong on the other laptop; its log says more.")


def frame(kind: Frame, payload: bytes = b"") -> bytes:
    """One frame of a stream."""
    return _HEAD.pack(kind, len(payload)) + payload


async def send_stream(request: web.Request, items: AsyncIterator[Message], idle_seconds: float) -> web.StreamResponse:
    """Send messages as they come, with a sign of life every few seconds in between."""
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)
    iterator = items.__aiter__()
    pending: asyncio.Future[Message] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(iterator))
            done, _ = await asyncio.wait({pending}, timeout=ALIVE_SECONDS)
            if not done:
                data = frame(Frame.ALIVE)
            else:
                ready, pending = pending, None
                try:
                    data = frame(Frame.ITEM, ready.result().encode())
                except StopAsyncIteration:
                    data = frame(Frame.END)
                except Exception as error:
                    if not hasattr(error, "code"):
                        log.exception("stream failed", path=request.path)
                        error = internal_error()
                    data = frame(Frame.PROBLEM, Problem.of(error).encode())
            async with asyncio.timeout(idle_seconds):
                await response.write(data)
            if done and data[0] != Frame.ITEM:
                break
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
    await response.write_eof()
    return response


async def read_stream(content: StreamReader, idle_seconds: float) -> AsyncIterator[bytes]:
    """The items of a stream. Raises ``Refused`` for a problem and ``BadAnswer`` for anything that is no stream."""
    while True:
        async with asyncio.timeout(idle_seconds):
            kind, length = _HEAD.unpack(await content.readexactly(_HEAD.size))
            if length > MAX_FRAME or kind not in (0, 1, 2, 3):
                raise BadAnswer("The other laptop sends a stream that is not one.")
            payload = await content.readexactly(length)
        if kind == Frame.END:
            return
        if kind == Frame.PROBLEM:
            raise Refused(Problem.decode(payload))
        if kind == Frame.ITEM:
            yield payload
