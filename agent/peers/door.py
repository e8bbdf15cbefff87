"""The door of the peer server: accepts connections and does the TLS handshake before HTTP sees anything.

aiohttp's own sites leave a failed handshake to asyncio, which drops it without a word. Here the handshake is awaited,
so that every stranger who is turned away is reported with the reason, and OpenSSL still does all the verifying.
The door also knows every open connection: it closes those that send no request, those over the limit, and those of
devices that were revoked meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from agent.beat import beat
from agent.log import get_logger
from agent.peers.errors import ConnectionRefusedHere
from agent.peers.handshake import attempt
from agent.peers.limits import ServerLimits
from agent.peers.listen import listen
from certs.errors import HandshakeFailed, TrustError, WrongNode
from certs.keys import short_id
from certs.tls import explain

log = get_logger(__name__)

SWEEP_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Connection:
    """One TLS connection. ``node_id`` is set once a request on it was let through; ``meant`` is the name dialled."""

    transport: asyncio.Transport
    address: str
    opened: float
    meant: str | None = None
    node_id: str | None = None
    asked: bool = False


class Door:
    """Listens, shakes hands, and gives each good connection to a protocol made by ``protocols``.

    ``context`` must have ``note_failure`` as its listener. ``refused`` is called with address and error for every
    handshake that fails; ``welcome`` says whether a node ID may still be connected.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        protocols: Callable[[], asyncio.Protocol],
        *,
        limits: ServerLimits,
        refused: Callable[[str, Exception], None],
        welcome: Callable[[str], bool],
    ) -> None:
        self._context = context
        self._protocols = protocols
        self._limits = limits
        self._refused = refused
        self._welcome = welcome
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._shaking = 0
        self._meant: weakref.WeakKeyDictionary[ssl.SSLObject, str] = weakref.WeakKeyDictionary()
        self._connections: dict[asyncio.Transport, Connection] = {}
        context.sni_callback = self._on_name

    def listen(self, hosts: Sequence[str], port: int) -> int:
        """Open the sockets, on these addresses alone or, where there are none, on all interfaces (IPv4 and IPv6).

        All have one port, which is returned; 0 takes a free one. Raises ``OSError`` where one cannot be opened.
        """
        for host in hosts or (None,):
            self._listeners.append(listen(host, port))
            port = int(self._listeners[-1].getsockname()[1])
        for listener in self._listeners:
            self._spawn(self._accept(listener))
        return port

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for each in self._connections.values():
            each.transport.abort()
        self._connections.clear()

    def connection(self, transport: asyncio.BaseTransport | None) -> Connection | None:
        """The connection behind a request's transport."""
        return self._know(transport) if isinstance(transport, asyncio.Transport) else None

    def count(self, node_id: str) -> int:
        """Open connections of one device."""
        return sum(1 for each in self._connections.values() if each.node_id == node_id)

    def drop(self, node_id: str) -> None:
        """Cut every connection of a device."""
        for each in list(self._connections.values()):
            if each.node_id == node_id:
                each.transport.abort()

    def _know(self, transport: asyncio.Transport) -> Connection:
        """The entry of a connection; its first request may come before the task that shook hands goes on."""
        known = self._connections.get(transport)
        if known is None:
            tls = transport.get_extra_info("ssl_object")
            meant = self._meant.get(tls)
            address = _place(transport.get_extra_info("peername") or ("", 0))
            known = Connection(transport, address, asyncio.get_running_loop().time(), meant)
            self._connections[transport] = known
            if len(self._connections) == 1:
                self._spawn(self._sweep())
        return known

    def _on_name(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        if name and isinstance(tls, ssl.SSLObject):
            self._meant[tls] = name

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or the caller was gone before we picked up
                log.warning("accept-failed", reason=str(error))
                await asyncio.sleep(0.2)
                continue
            place = _place(address)
            if len(self._connections) + self._shaking >= self._limits.connections:
                client.close()
                self._refused(place, ConnectionRefusedHere("This laptop has too many connections open."))
                continue
            self._shaking += 1
            self._spawn(self._shake(client, place))

    async def _shake(self, client: socket.socket, place: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await attempt(
                loop.connect_accepted_socket(
                    self._protocols, client, ssl=self._context, ssl_handshake_timeout=self._limits.handshake_seconds
                )
            )
        except (OSError, TrustError) as error:
            self._refused(place, _reason(error))
            return
        finally:
            self._shaking -= 1
        self._know(transport)

    async def _sweep(self) -> None:
        """As long as there are connections."""
        loop = asyncio.get_running_loop()
        while self._connections:
            await beat(SWEEP_SECONDS)
            for transport, each in list(self._connections.items()):
                if transport.is_closing():
                    del self._connections[transport]
                elif not each.asked and loop.time() - each.opened > self._limits.first_request_seconds:
                    self._refused(each.address, ConnectionRefusedHere("It connected, but sent no complete request."))
                    transport.abort()
                elif each.node_id is not None and not self._welcome(each.node_id):
                    transport.abort()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                log.error("door-failed", reason=str(error), kind=type(error).__name__)


def _reason(error: OSError | TrustError) -> TrustError:
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return HandshakeFailed("The other side did not finish the TLS handshake in time.")
    return explain(error) or HandshakeFailed("The other side hung up during the TLS handshake.")


def misdirected(who: str, name: str) -> WrongNode:
    """The refusal of a caller that asked for another TLS name than this laptop's."""
    return WrongNode(f"{who} dialled another device ({short_id(name.removesuffix('.backroom'))}) at this address.")


def _place(address: tuple[Any, ...]) -> str:
    host, port = str(address[0]).removeprefix("::ffff:"), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
