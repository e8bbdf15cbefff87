"""Bundles that peers push here: offers, uploads with offsets, and what became of them (PEER.md, "Pushing").

An upload belongs to a device and a bundle: its transfer ID is derived from both, so the same offer after a lost
connection or a restart leads to the same upload, and it goes on where the bytes on disk end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from agent.log import get_logger
from agent.peers import http
from agent.peers.errors import Cancelled, RequestError
from agent.peers.handler import Accept, Done, Handler, IncomingOffer, Peer, Refuse
from agent.peers.intake import receive
from agent.peers.limits import ServerLimits
from agent.peers.receive import Receiver
from agent.peers.upload import Standing, Upload, transfer_id
from protocol.delta import TELLING
from protocol.errors import BundleError
from protocol.manifest import Manifest
from protocol.messages import MAX_MANIFEST_BYTES, Offer, OfferAnswer, Problem

log = get_logger(__name__)

LONGEST_WAIT = 20.0
REMEMBERED = 256
ABANDONED_SECONDS = 600.0


class Uploads:
    """All uploads of this server, and the routes that serve them. ``check`` raises once a peer may not go on."""

    def __init__(self, handler: Handler, limits: ServerLimits, check: Callable[[web.Request], Peer]) -> None:
        self._handler = handler
        self._limits = limits
        self._check = check
        self._uploads: dict[str, Upload] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._deciding = asyncio.Lock()
        self._offered: dict[str, deque[float]] = {}

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        return [
            web.post("/v1/offers", self._offers),
            web.head("/v1/uploads/{transfer}", self._head),
            web.patch("/v1/uploads/{transfer}", self._patch),
            web.delete("/v1/uploads/{transfer}", self._delete),
            web.get("/v1/transfers/{transfer}", self._transfer, allow_head=False),
        ]

    async def close(self) -> None:
        """Stop: what is being applied is cancelled, what has arrived stays on disk."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for upload in self._uploads.values():
            if upload.phase == "receiving":
                await upload.receiver.close()
        self._uploads.clear()

    def active(self) -> tuple[Standing, ...]:
        """Where all uploads stand that are not over, for this laptop's own status."""
        return tuple(upload.standing() for upload in self._uploads.values() if not upload.ended.is_set())

    async def cancel(self, name: str, by: str) -> bool:
        """End a transfer for good and throw away what came of it; False where it is over or being applied."""
        upload = self._uploads.get(name)
        if upload is None or upload.ended.is_set() or upload.phase in ("applying", "done"):
            return False
        upload.cancelled = Cancelled(f"The transfer was cancelled on {by}.")
        if upload.phase == "receiving":
            async with upload.sole_writer():
                if not upload.ended.is_set():
                    await upload.receiver.part.discard()
                    await upload.receiver.close()
                    self._fail(upload, upload.cancelled)
        elif upload.finishing is not None:
            upload.finishing.cancel()
            await asyncio.wait({upload.finishing})
        await self._handler.stopped(upload.peer, upload.offer, cancelled=True)
        return True

    async def _offers(self, request: web.Request) -> web.Response:
        peer = self._check(request)
        self._count(peer)
        data = await http.read_body(request, MAX_MANIFEST_BYTES + (1 << 20), self._limits.idle_seconds)
        offer = await asyncio.to_thread(Offer.decode, data)
        manifest = await asyncio.to_thread(Manifest.decode, offer.manifest)
        if offer.size > self._limits.bundle_bytes:
            limit = self._limits.bundle_bytes
            raise RequestError(
                413, "too-large", f"The bundle has {offer.size} bytes; this laptop takes at most {limit}."
            )
        name = transfer_id(peer.node_id, offer, manifest.bundle_id)
        bases = offer.bases if offer.packing == TELLING else ()
        incoming = IncomingOffer(name, manifest, offer.size, offer.sha256, offer.mode, bases)
        async with self._deciding:
            reply = await self._decide(peer, incoming)
        log.info(
            "offer answered",
            peer=peer.name,
            bundle=manifest.bundle_id,
            kind=manifest.kind.value,
            status=reply.status,
            offset=reply.offset,
            reason=reply.problem.message if reply.problem else None,
        )
        return http.answer(reply)

    def _count(self, peer: Peer) -> None:
        """Refuse a device that offers without end."""
        now, lately = _now(), self._offered.setdefault(peer.node_id, deque())
        while lately and lately[0] < now - 60:
            lately.popleft()
        if len(lately) >= self._limits.offers_per_minute:
            raise RequestError(429, "too-many-offers", f"{peer.name} offers too many bundles.", hint="Try again later.")
        lately.append(now)

    async def _decide(self, peer: Peer, offer: IncomingOffer) -> OfferAnswer:
        known = self._uploads.get(offer.transfer_id)
        if known is not None and known.phase == "done" and known.receipt is not None:
            return OfferAnswer("done", offer.transfer_id, offer.size, receipt=known.receipt)
        if known is not None and not known.ended.is_set():
            return await self._again(known, offer.size)
        await self._make_room(peer, offer)
        decision = await self._handler.offer(peer, offer)
        if isinstance(decision, Refuse):
            return OfferAnswer("refuse", offer.transfer_id, problem=decision.problem)
        if isinstance(decision, Done):
            return OfferAnswer("done", offer.transfer_id, offer.size, receipt=decision.receipt)
        return await self._accept(peer, offer, decision)

    async def _accept(self, peer: Peer, offer: IncomingOffer, decision: Accept) -> OfferAnswer:
        receiver = Receiver(decision.part, offer.size, expected=offer.manifest)
        await receiver.open()
        upload = Upload(peer, offer, receiver, decision.ask, _now(), decision.base)
        self._uploads[offer.transfer_id] = upload
        offset = receiver.offset
        if receiver.complete:
            self._start_finish(upload)
        return upload.answer(offset)

    async def _again(self, upload: Upload, size: int) -> OfferAnswer:
        """The same offer while its upload is open: the old connection is dead or about to be, or the sender, which was
        still making the bundle, has more of it."""
        offset = upload.offer.size
        if upload.phase == "receiving":
            async with upload.sole_writer():
                await upload.receiver.sync()
                upload.resize(size)
                offset = upload.receiver.offset
            if upload.receiver.complete and upload.phase == "receiving":
                self._start_finish(upload)
        return upload.answer(offset)

    async def _head(self, request: web.Request) -> web.Response:
        upload = self._find(request)
        if upload.phase == "receiving":
            async with upload.sole_writer():
                await upload.receiver.sync()
        return web.Response(status=204, headers=upload.headers())

    async def _patch(self, request: web.Request) -> web.Response:
        upload = self._find(request)
        if upload.phase != "receiving":
            raise RequestError(409, "not-receiving", "All bytes of this bundle are here already.")
        if request.content_type not in (http.UPLOAD_TYPE, http.DELTA_TYPE):
            raise RequestError(415, "bad-request", f"An upload must have the content type {http.UPLOAD_TYPE}.")
        text = request.headers.get(http.OFFSET_HEADER, "")
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise RequestError(400, "bad-request", f"An upload needs the header {http.OFFSET_HEADER}.")
        async with upload.sole_writer():
            if upload.ended.is_set() or self._uploads.get(upload.offer.transfer_id) is not upload:
                raise RequestError(409, "not-receiving", "This transfer was stopped meanwhile.")
            if int(text) != upload.receiver.offset:
                problem = Problem(
                    "wrong-offset",
                    f"The upload goes on at byte {upload.receiver.offset}, not at byte {text}.",
                    "Ask for the offset again.",
                )
                response = http.answer(problem, 409)
                response.headers.update(upload.headers())
                return response
            upload.writing = request.transport
            try:
                await receive(request, upload, self._limits, self._check)
            except BundleError as error:
                self._fail(upload, error)
                raise
            finally:
                upload.writing = None
                upload.touched = _now()
                if not upload.receiver.in_step and upload.phase == "receiving":
                    await upload.receiver.close()
                    self._uploads.pop(upload.offer.transfer_id, None)
        if upload.receiver.complete and upload.phase == "receiving":
            self._start_finish(upload)
        return web.Response(status=204, headers=upload.headers())

    async def _delete(self, request: web.Request) -> web.Response:
        """The sender goes: for now, and what came is kept; or for good."""
        upload = self._find(request)
        if "keep" not in request.query:
            if not await self.cancel(upload.offer.transfer_id, upload.peer.name):
                raise RequestError(
                    409,
                    "too-late",
                    "This bundle is being applied or has been dealt with: it cannot be cancelled any more.",
                    hint="See the history there.",
                )
        elif upload.phase == "receiving":
            async with upload.sole_writer():
                await upload.receiver.sync()
                await upload.receiver.close()
                self._uploads.pop(upload.offer.transfer_id, None)
            await self._handler.stopped(upload.peer, upload.offer, cancelled=False)
        return web.Response(status=204)

    async def _transfer(self, request: web.Request) -> web.Response:
        upload = self._find(request)
        try:
            seconds = min(LONGEST_WAIT, max(0.0, float(request.query.get("wait", "0"))))
        except ValueError:
            raise RequestError(400, "bad-request", "The parameter 'wait' is not a number of seconds.") from None
        if seconds and not upload.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await upload.ended.wait()
        return http.answer(upload.progress())

    def _start_finish(self, upload: Upload) -> None:
        upload.phase = "checking"
        task = upload.finishing = asyncio.create_task(self._finish(upload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, upload: Upload) -> None:
        bundle = upload.offer.manifest.bundle_id
        try:
            await upload.receiver.finish()
            arrived = upload.receiver.arrived
            if arrived is not None:
                arrived = replace(arrived, news=upload.news)
            receipt = await self._handler.apply(
                upload.peer, upload.offer, upload.receiver.part, arrived, upload.report()
            )
            upload.receipt, upload.phase = receipt, "done"
            log.info("bundle done", peer=upload.peer.name, bundle=bundle)
        except asyncio.CancelledError:
            if upload.cancelled is None:
                self._fail(upload, RequestError(503, "stopping", "This laptop's agent was stopped. Push again."))
                raise
            await upload.receiver.part.discard()
            self._fail(upload, upload.cancelled)
        except BundleError as error:
            if not upload.receiver.resumed:
                self._fail(upload, error)
                return
            # What came before the interruption was damaged on this disk meanwhile.
            await upload.receiver.part.discard()
            self._fail(upload, RequestError(422, "damaged-part", f"What had come before was damaged: {error}"))
        except Exception as error:
            self._fail(upload, error)
        finally:
            await upload.receiver.close()
            upload.touched = _now()
            upload.ended.set()

    def _fail(self, upload: Upload, error: Exception) -> None:
        known = hasattr(error, "code")
        upload.phase, upload.problem = "failed", Problem.of(error if known else http.internal_error())
        upload.ended.set()
        log.warning(
            "bundle failed",
            peer=upload.peer.name,
            bundle=upload.offer.manifest.bundle_id,
            error=upload.problem.code,
            reason=str(error),
            exc_info=None if known else error,
        )

    def _find(self, request: web.Request) -> Upload:
        peer = self._check(request)
        upload = self._uploads.get(request.match_info["transfer"])
        if upload is None or upload.peer.node_id != peer.node_id:
            raise RequestError(404, "unknown-transfer", "This laptop knows no such transfer.", hint="Offer it again.")
        upload.touched = _now()
        return upload

    async def _make_room(self, peer: Peer, offer: IncomingOffer) -> None:
        """Forget what is long over and refuse what is too much."""
        now = _now()
        for name, upload in list(self._uploads.items()):
            if name == offer.transfer_id or (
                upload.ended.is_set() and now - upload.touched > self._limits.remembered_seconds
            ):
                del self._uploads[name]
            elif upload.phase == "receiving" and upload.writing is None and now - upload.touched > ABANDONED_SECONDS:
                await upload.receiver.close()
                del self._uploads[name]
        over = [name for name, upload in self._uploads.items() if upload.ended.is_set()]
        for name in over[: max(0, len(over) - REMEMBERED)]:
            del self._uploads[name]
        running = [upload for upload in self._uploads.values() if not upload.ended.is_set()]
        mine = sum(1 for upload in running if upload.peer.node_id == peer.node_id)
        if len(running) >= self._limits.uploads or mine >= self._limits.uploads_per_peer:
            raise RequestError(429, "too-many-uploads", "This laptop is receiving too many bundles already.")


def _now() -> float:
    return asyncio.get_running_loop().time()
