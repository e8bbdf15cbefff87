"""Carrying the messages of a join: a small HTTP listener for the time of an invitation, and the way to it.

The messages protect themselves (certs.joining, TRUST.md), so this is plain HTTP on a port of its own that is open only
while the invitation is. ``POST /v1/join`` takes one message and answers with the reply. What is here is counting:
the size and time of messages, how many come at once, and how often one address may try.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from agent.aiohttp_lean import aiohttp
from agent.log import get_logger
from agent.peers import http
from agent.peers.address import Address
from agent.peers.discovery import Discovery
from agent.peers.errors import BadAnswer, PeerError, RequestError, WindowError
from agent.peers.listen import listen
from certs.authority import Membership
from certs.codes import Code
from certs.errors import NoWindow
from certs.identity import Identity
from certs.joining import Inviter, InviteSide, JoinRequest, JoinSide
from protocol.errors import MessageError
from protocol.messages import Problem

log = get_logger(__name__)

Approve = Callable[[JoinRequest], Awaitable[bool]]
Confirm = Callable[[Inviter], Awaitable[bool]]

MAX_REQUEST = 4096
MAX_REPLY = 600 << 10
REQUESTS_PER_ADDRESS = 60
"""In one window; a join takes three, a lost reply a few more."""
AT_ONCE = 4
MESSAGE_SECONDS = 10.0
ANSWER_SECONDS = 330.0
"""The last reply waits for the admin's yes, five minutes at most."""


class Window:
    """An open invitation. Use as ``async with Window(...) as window``, then ``await window.joined()``.

    ``approve`` asks the admin about a device that has proved the code. ``discovery`` advertises the code's number.
    """

    def __init__(
        self,
        side: InviteSide,
        approve: Approve,
        *,
        discovery: Discovery | None = None,
        host: str | None = None,
        port: int = 0,
    ) -> None:
        self.port = port
        self._side = side
        self._approve = approve
        self._discovery = discovery
        self._host = host
        self._runner: web.AppRunner | None = None
        self._tries: Counter[str] = Counter()
        self._busy = asyncio.Semaphore(AT_ONCE)
        self._asked: dict[bytes, asyncio.Task[bytes]] = {}
        self._joined: asyncio.Future[JoinRequest] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Window:
        app = web.Application()
        app.router.add_post("/v1/join", self._post)
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=5.0, auto_decompress=False, shutdown_timeout=2.0
        )
        await self._runner.setup()
        try:
            listener = listen(self._host, self.port)
        except OSError as error:
            await self.close()
            raise WindowError(f"Port {self.port} cannot be used for the invitation: {error.strerror}.") from error
        await web.SockSite(self._runner, listener).start()
        self.port = int(listener.getsockname()[1])
        if self._discovery is not None:
            await self._discovery.open_window(str(self._side.code.window), self.port)
        log.info("invitation open", port=self.port, number=self._side.code.window)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the invitation and stop listening."""
        self._side.close()
        self._joined.cancel()
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        if self._discovery is not None:
            await self._discovery.close_window(str(self._side.code.window))
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def joined(self) -> JoinRequest:
        """Wait for a device to join. Raises ``WindowError`` once the invitation is over without one."""
        while True:
            done, _ = await asyncio.wait({self._joined}, timeout=0.5)
            if done:
                return self._joined.result()
            if not self._side.open and not any(not task.done() for task in self._asked.values()):
                # A device that has proved the code may still be between two requests: give it its moment.
                done, _ = await asyncio.wait({self._joined}, timeout=MESSAGE_SECONDS)
                if done or any(not task.done() for task in self._asked.values()):
                    continue
                raise WindowError("The invitation is over, and no laptop has joined with it.")

    async def _post(self, request: web.Request) -> web.Response:
        place = request.remote or ""
        self._tries[place] += 1
        try:
            if self._tries[place] > REQUESTS_PER_ADDRESS or self._busy.locked():
                raise RequestError(429, "too-many-requests", "There are too many requests to this invitation.")
            async with self._busy:
                data = await http.read_body(request, MAX_REQUEST, MESSAGE_SECONDS)
                answer = await asyncio.to_thread(self._side.receive, data)
        except RequestError as error:
            log.warning("join refused", address=place, error=error.code, reason=str(error))
            return http.answer(Problem.of(error), error.status)
        if answer.error is not None:
            log.warning("join refused", address=place, error=answer.error.code, reason=str(answer.error))
        reply = answer.data
        if answer.ask is not None:
            reply = await self._ask(answer.ask, place)
        return web.Response(body=reply, content_type=http.CONTENT_TYPE)

    async def _ask(self, request: JoinRequest, place: str) -> bytes:
        """The admin's answer; a request that is repeated meanwhile waits for the same one."""
        task = self._asked.get(request.session)
        if task is None:
            task = asyncio.create_task(self._decide(request, place))
            self._asked[request.session] = task
        return await asyncio.shield(task)

    async def _decide(self, request: JoinRequest, place: str) -> bytes:
        approved = await self._approve(request)
        answer = await asyncio.to_thread(self._side.decide, request, approved)
        if answer.joined is not None:
            log.info("device joined", address=place, name=request.name, node=request.node_id)
            if not self._joined.done():
                # After the reply is on its way: whoever waits for this may close the window.
                asyncio.get_running_loop().call_later(0.2, self._settle, answer.joined)
        elif answer.error is not None:
            log.warning("join refused", address=place, error=answer.error.code, reason=str(answer.error))
        return answer.data

    def _settle(self, joined: JoinRequest) -> None:
        if not self._joined.done():
            self._joined.set_result(joined)


async def join(
    code: Code,
    identity: Identity,
    confirm: Confirm,
    *,
    address: Address | None = None,
    discovery: Discovery | None = None,
    within: float = 10.0,
    shop_id: str | None = None,
) -> tuple[Membership, Inviter]:
    """Join with ``code``: find the window (by ``address`` or mDNS), exchange the messages, return what it brought.

    ``confirm`` is shown who invites before this laptop tells its own name; ``shop_id`` is the shop that it is in.
    Raises ``TrustError`` for what the exchange refuses (a wrong code first of all) and ``WindowError`` where the window
    cannot be found or reached.
    """
    side = JoinSide(code, identity, shop_id)
    places = (address,) if address is not None else await _find(code, discovery, within)
    message: bytes | None = await asyncio.to_thread(side.first_message)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=5.0)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        failure: PeerError | None = None
        asked = False
        for place in places:
            try:
                while message is not None:
                    reply = await _send(session, place, message)
                    message = await asyncio.to_thread(side.receive, reply)
                    asked = True
                    if side.inviter is not None and side.result is None and not await confirm(side.inviter):
                        raise WindowError("Joining was stopped on this laptop.", hint="Nothing was changed.")
                break
            except WindowError as error:
                if asked:
                    raise
                failure = error
        if side.result is None or side.inviter is None:
            raise failure or WindowError("No invitation answers.")
        return side.result, side.inviter


async def _find(code: Code, discovery: Discovery | None, within: float) -> tuple[Address, ...]:
    sighting = await discovery.find_window(str(code.window), within) if discovery is not None else None
    if sighting is None:
        raise NoWindow(
            f"No invitation with the number {code.window} was found on this network.",
            hint="Check that 'backroom invite' is open on the admin laptop, or give its --address HOST:PORT.",
        )
    return sighting.addresses


async def _send(session: aiohttp.ClientSession, place: Address, message: bytes) -> bytes:
    host = f"[{place.host}]" if ":" in place.host else place.host
    try:
        async with session.post(f"http://{host}:{place.port}/v1/join", data=message, allow_redirects=False) as response:
            data = await http.bounded(response.content, MAX_REPLY)
            if response.status != 200:
                raise WindowError(f"The laptop at {place} refused: {Problem.decode(data).message}")
            return data
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise WindowError(f"The laptop that invites does not answer at {place}.") from error
    except (MessageError, BadAnswer) as error:
        raise WindowError(f"What answers at {place} is no invitation.") from error
