"""Finding laptops on the local network by mDNS (DNS-SD, RFC 6762 and 6763). Whatever it finds is a hint, never trusted.

An agent is ``<node ID>._backroom._tcp.local.`` with the TXT record ``v=1`` and nothing else: names, roles and
businesses are told only after TLS. An open invitation is ``<nameplate>._backroom-join._tcp.local.``, where the
nameplate is the public number at the start of its code.

A browser that has gone deaf (sleep, drivers) is found out by its not hearing this laptop itself, and started anew.
Addresses come and go, so the machine's interfaces are looked at every ``poll`` seconds, and the sockets and the
advertised addresses follow. A name that is already taken is never changed: it may be a clone, and is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from zeroconf import (
    InterfaceChoice,
    IPVersion,
    NonUniqueNameException,
    RecordUpdate,
    RecordUpdateListener,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from agent.beat import beat
from agent.log import get_logger
from agent.peers.address import Address, Origin
from agent.peers.errors import DiscoveryError
from agent.peers.interfaces import interfaces, nearness, worth_telling

log = get_logger(__name__)

AGENT_TYPE = "_backroom._tcp.local."
WINDOW_TYPE = "_backroom-join._tcp.local."
RESOLVE_SECONDS = 3.0
RETRY_CLASH_SECONDS = 30.0
EARS_SECONDS = 60.0
HEAR_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """An instance seen on the network: its label (node ID or nameplate) and where it says it is, best first."""

    label: str
    addresses: tuple[Address, ...]


def local_addresses(only: Sequence[str] | None = None) -> tuple[str, ...]:
    """This machine's own IP addresses that a peer could use; only those in ``only`` where that is given. Blocking."""
    return worth_telling(interfaces(), only)


def _present(only: Sequence[str]) -> list[str]:
    """Those of the addresses that this machine has now. Blocking."""
    own = {str(address) for each in interfaces() for address, _ in each.addresses}
    return [address for address in only if address in own]


class _Ears(RecordUpdateListener):
    """Remembers when any mDNS answer arrived, this laptop's own included."""

    def __init__(self) -> None:
        self.heard_at = 0.0

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        self.heard_at = asyncio.get_running_loop().time()


class Discovery:
    """Advertises this agent and watches for others. Use as ``async with Discovery() as discovery``.

    ``interfaces`` limits it to these IP addresses (all interfaces where None). ``on_change`` is called in the event
    loop with each new or changed sighting of an agent, ``on_clash`` with a node ID that someone else advertises too.
    """

    def __init__(
        self,
        *,
        interfaces: Sequence[str] | None = None,
        poll: float = 2.0,
        ears: float = EARS_SECONDS,
        on_change: Callable[[Sighting], None] | None = None,
        on_clash: Callable[[str], None] | None = None,
    ) -> None:
        self._only = list(interfaces) if interfaces is not None else None
        self._poll = poll
        self._ears_every = ears
        self._ears = _Ears()
        self.restarts = 0
        """How often the browser had to be started anew because it had gone deaf."""
        self._on_change = on_change
        self._on_clash = on_clash
        self._zeroconf: AsyncZeroconf | None = None
        self._browsers: list[AsyncServiceBrowser] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._published: dict[str, ServiceInfo] = {}
        self._seen: dict[str, dict[str, Sighting]] = {AGENT_TYPE: {}, WINDOW_TYPE: {}}
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Discovery:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to browse. Raises ``DiscoveryError`` where mDNS cannot be used."""
        await self._open()
        self._spawn(self._watch_interfaces())
        self._spawn(self._watch_ears())

    async def _open(self) -> None:
        here = await asyncio.to_thread(_present, self._only) if self._only is not None else None
        if here == []:
            # zeroconf finds this out itself, but leaves a socket open then.
            raise DiscoveryError(f"Looking for laptops by mDNS: {', '.join(self._only or ())} is not this laptop's.")
        try:
            self._zeroconf = AsyncZeroconf(
                interfaces=here if here is not None else InterfaceChoice.All,
                ip_version=None if self._only is not None else IPVersion.All,
            )
            await self._zeroconf.zeroconf.async_wait_for_start()
        except Exception as error:  # zeroconf raises OSError, RuntimeError and its own errors here
            await self._shut()
            raise DiscoveryError(f"Looking for laptops by mDNS does not work here: {error}.") from error
        except BaseException:
            await self._shut()
            raise
        self._zeroconf.zeroconf.async_add_listener(self._ears, None)
        self._browse()

    def _browse(self) -> None:
        if self._zeroconf is not None:
            types = [AGENT_TYPE, WINDOW_TYPE]
            self._browsers.append(AsyncServiceBrowser(self._zeroconf.zeroconf, types, handlers=[self._on_state]))

    async def _hush(self) -> None:
        browsers, self._browsers = self._browsers, []
        for browser in browsers:
            await browser.async_cancel()

    async def _shut(self) -> None:
        await self._hush()
        if self._zeroconf is not None:
            zeroconf, self._zeroconf = self._zeroconf, None
            await zeroconf.async_close()

    async def close(self) -> None:
        """Say goodbye and stop."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._shut()
        self._published.clear()

    def sightings(self) -> Mapping[str, Sighting]:
        """Agents seen lately, by node ID. They may be gone already: a goodbye is easily lost."""
        return dict(self._seen[AGENT_TYPE])

    def elsewhere(self, node_id: str) -> tuple[Address, ...]:
        """Where an agent is seen, without the addresses that this one announces under the same name itself."""
        sighting, own = self._seen[AGENT_TYPE].get(node_id), self._published.get(f"{node_id}.{AGENT_TYPE}")
        ours = {(host, own.port) for host in own.parsed_scoped_addresses()} if own is not None else set()
        return tuple(each for each in (sighting.addresses if sighting else ()) if each.place not in ours)

    async def wait_for(self, node_id: str, within: float = 3.0) -> Sighting | None:
        """The sighting of an agent, waiting up to ``within`` seconds for it."""
        return await self._wait(AGENT_TYPE, node_id, within)

    async def find_window(self, nameplate: str, within: float = 5.0) -> Sighting | None:
        """Where the invitation with this nameplate is open, waiting up to ``within`` seconds for it."""
        return await self._wait(WINDOW_TYPE, nameplate, within)

    async def advertise(self, node_id: str, port: int) -> None:
        """Announce this agent until ``close``. A name that is taken is reported and tried again later."""
        await self._publish(AGENT_TYPE, node_id, port)

    async def open_window(self, nameplate: str, port: int) -> None:
        """Announce an open invitation."""
        await self._publish(WINDOW_TYPE, nameplate, port)

    async def close_window(self, nameplate: str) -> None:
        """Withdraw an invitation."""
        info = self._published.pop(f"{nameplate}.{WINDOW_TYPE}", None)
        if info is not None and self._zeroconf is not None:
            await (await self._zeroconf.async_unregister_service(info))

    async def _publish(self, kind: str, label: str, port: int) -> None:
        name = f"{label}.{kind}"
        self._published[name] = ServiceInfo(
            kind,
            name,
            port=port,
            properties={"v": "1"},
            server=f"{label}.local.",
            parsed_addresses=list(local_addresses(self._only)),
        )
        if not await self._register(name):
            self._spawn(self._register_again(name))

    async def _register(self, name: str) -> bool:
        if self._zeroconf is None:
            raise DiscoveryError("mDNS is not running.")
        try:
            await (await self._zeroconf.async_register_service(self._published[name], allow_name_change=False))
        except NonUniqueNameException:
            label = name.partition(".")[0]
            log.warning("name-taken", label=label, reason="another device on this network advertises the same ID")
            if self._on_clash is not None:
                self._on_clash(label)
            return False
        return True

    async def _register_again(self, name: str) -> None:
        while name in self._published:
            await asyncio.sleep(RETRY_CLASH_SECONDS)
            if name in self._published and await self._register(name):
                return

    async def _watch_interfaces(self) -> None:
        before = await asyncio.to_thread(local_addresses)
        while True:
            await beat(self._poll)
            now = await asyncio.to_thread(local_addresses)
            if now == before:
                continue
            log.info("network-changed", added=sorted(set(now) - set(before)), gone=sorted(set(before) - set(now)))
            try:
                await self._follow()
            except Exception as error:  # half-configured interfaces fail in many ways; the next poll tries again
                log.warning("network-change-failed", reason=str(error))
                continue
            before = now

    async def _watch_ears(self) -> None:
        loop, wait = asyncio.get_running_loop(), self._ears_every
        while True:
            await asyncio.sleep(wait)
            # Answers that others asked for show as well that this laptop hears; the first who misses them asks for all.
            quiet = loop.time() - self._ears.heard_at
            if quiet < self._ears_every:
                wait = self._ears_every * random.uniform(1.0, 1.2) - quiet  # noqa: S311 - no secret
                continue
            wait = self._ears_every
            try:
                if self._published and not await self._hears():
                    self.restarts += 1
                    log.warning("discovery-deaf", reason="its own announcement is not heard: started anew")
                    await self._restart()
            except Exception as error:  # no network at all, perhaps: the next look tries again
                log.warning("discovery-restart-failed", reason=str(error))

    async def _hears(self) -> bool:
        """Ask the network again, this laptop included, and listen for any answer."""
        begun = asyncio.get_running_loop().time()
        await self._hush()
        self._browse()
        while self._ears.heard_at < begun:
            if asyncio.get_running_loop().time() - begun > HEAR_SECONDS:
                return False
            await asyncio.sleep(0.1)
        return True

    async def _restart(self) -> None:
        await self._shut()
        await self._open()
        for name in tuple(self._published):
            if not await self._register(name):
                self._spawn(self._register_again(name))

    async def _follow(self) -> None:
        """Bring sockets and published addresses in line with the interfaces that there are now."""
        if self._zeroconf is None:
            return
        for name, info in list(self._published.items()):
            fresh = ServiceInfo(
                info.type,
                name,
                port=info.port,
                properties={"v": "1"},
                server=info.server,
                parsed_addresses=list(local_addresses(self._only)),
            )
            self._published[name] = fresh
            if self._zeroconf.zeroconf.registry.async_get_info_name(name.lower()) is not None:
                await (await self._zeroconf.async_update_service(fresh))
        await self._zeroconf.async_update_interfaces()

    def _on_state(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self._spawn(self._forget(service_type, name))
        else:
            self._spawn(self._resolve(zeroconf, service_type, name))

    async def _resolve(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
        info = AsyncServiceInfo(kind, name)
        if not await info.async_request(zeroconf, int(RESOLVE_SECONDS * 1000)) or not info.port:
            return
        hosts = info.parsed_scoped_addresses()
        own = await asyncio.to_thread(interfaces)
        addresses = sorted(
            (Address(host, info.port, Origin.MDNS) for host in hosts), key=lambda each: nearness(each.host, own)
        )
        label = name[: -len(kind) - 1]
        sighting = Sighting(label, tuple(addresses))
        if not addresses or self._seen[kind].get(label) == sighting:
            return
        async with self._changed:
            self._seen[kind][label] = sighting
            self._changed.notify_all()
        if kind == AGENT_TYPE and self._on_change is not None:
            self._on_change(sighting)

    async def _forget(self, kind: str, name: str) -> None:
        async with self._changed:
            self._seen[kind].pop(name[: -len(kind) - 1], None)
            self._changed.notify_all()

    async def _wait(self, kind: str, label: str, within: float) -> Sighting | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: label in self._seen[kind])
        return self._seen[kind].get(label)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("discovery-failed", reason=str(error), kind=type(error).__name__)
