"""Where peers are: what mDNS says, where they were last, and what the configuration names. All of it is only a hint.

``connect`` tries several addresses at once; the first at which the device proves its node ID wins. Whether a peer is
online is asked of the peer itself, never guessed from mDNS, whose goodbyes get lost.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from agent.log import get_logger
from agent.peers import clocks
from agent.peers.address import Address, Origin
from agent.peers.clones import Clones
from agent.peers.discovery import Discovery
from agent.peers.errors import BadAnswer, NotFound, NotTrusted, PeerError, Refused, TooOld, Unreachable, WrongDevice
from agent.peers.limits import DEFAULT_CLIENT_LIMITS, ClientLimits
from agent.peers.link import Link
from certs.errors import TrustError
from certs.store import Store
from protocol.messages import Hello

log = get_logger(__name__)

KEPT_PER_NODE = 4
AT_ONCE = 16
_TELLING = (Refused, TooOld, NotTrusted, WrongDevice, BadAnswer, Unreachable)
"""Failures by how much they say, when all addresses of a device fail."""


class Directory:
    """Finds peers. ``state`` is a file for last-good addresses, ``manual`` are addresses of whoever answers there.

    ``within`` is how long ``connect`` waits for mDNS to bring an address where none works yet, in seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        discovery: Discovery | None = None,
        state: Path | None = None,
        manual: Sequence[Address] = (),
        limits: ClientLimits = DEFAULT_CLIENT_LIMITS,
        within: float = 3.0,
        clones: Clones | None = None,
    ) -> None:
        self.store = store
        self.clones = clones
        self.limits = limits
        self._discovery = discovery
        self._state = state
        self._manual = tuple(manual)
        self._within = within
        self._good = load_addresses(state)
        self._told: dict[str, tuple[Address, ...]] = {}

    def candidates(self, node_id: str) -> tuple[Address, ...]:
        """Addresses worth trying for a device, each once, likeliest first."""
        sighting = self._discovery.sightings().get(node_id) if self._discovery is not None else None
        listed = [*(sighting.addresses if sighting else ()), *self._good.get(node_id, ()), *self._manual]
        listed += self._told.get(node_id, ())
        unique: dict[tuple[str, int], Address] = {}
        for address in listed:
            unique.setdefault(address.place, address)
        return tuple(unique.values())

    def proven(self, node_id: str) -> bool:
        """Whether the device was reached at an address at which mDNS sees it now, or where it does not see it, at
        any."""
        sighting = self._discovery.sightings().get(node_id) if self._discovery is not None else None
        good = self._good.get(node_id, ())
        seen = {address.place for address in sighting.addresses} if sighting is not None else None
        return any(seen is None or address.place in seen for address in good)

    def hear(self, told: Mapping[str, Sequence[str]]) -> None:
        """Take what another device says about where the others are: hints like all, for active devices alone, in
        private networks alone, so that nobody can send this laptop knocking about the internet."""
        roster = self.store.roster()
        for node_id, texts in told.items():
            if roster.trusts(node_id):
                found = (_told(text) for text in texts[:KEPT_PER_NODE])
                self._told[node_id] = tuple(address for address in found if address is not None)

    def _doubtful(self, node_id: str) -> set[tuple[str, int]]:
        """Places where another device was last: tried for this one only when all else has failed."""
        return {places[0].place for node, places in self._good.items() if node != node_id and places}

    async def connect(self, node_id: str) -> Link:
        """An open link to the device, which has proven its ID there; the caller closes it.

        Raises ``NotFound``, ``NotTrusted``, ``Unreachable`` and other ``PeerError``.
        """
        try:
            name = self.store.roster().require(node_id).name
        except TrustError as error:
            raise NotTrusted.of(error) from error
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._within if self._discovery is not None else 0.0)
        tasks: dict[tuple[str, int], asyncio.Task[Link]] = {}
        failures: dict[Address, PeerError] = {}
        won: Link | None = None
        doubtful = self._doubtful(node_id)
        try:
            while True:
                for address in self.candidates(node_id):
                    if address.place not in tasks and address.place not in doubtful and len(tasks) < AT_ONCE:
                        tasks[address.place] = asyncio.create_task(self._try(node_id, address, failures))
                running = [task for task in tasks.values() if not task.done()]
                if running:
                    await asyncio.wait(running, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
                elif loop.time() < deadline:
                    await asyncio.sleep(0.2)
                elif doubtful:
                    doubtful = set()
                else:
                    raise _failure(name, failures)
                for task in tasks.values():
                    if task.done() and not isinstance(task.exception(), PeerError):
                        won = task.result()
                        await self._remember(node_id, won.address)
                        return won
        finally:
            await _drop(tasks.values(), won)

    async def warn(self, node_id: str) -> None:
        """Tell the device of the clone alarms that stand here, if any do: its hello told its own to this laptop alone.

        Raises what ``connect`` raises.
        """
        if self.clones is None or not self.clones.notes():
            return
        from agent.peers.questions import hello, this_software

        link = await self.connect(node_id)
        try:
            own = await asyncio.to_thread(hello, self.store, this_software(), self.clones)
            await link.call("POST", "/v1/hello", own)
        except Refused as error:
            log.debug("not warned", node=node_id, reason=str(error))  # an older Backroom, which is told when it asks
        finally:
            await link.close()

    async def hello(self, node_id: str) -> Hello:
        """Ask the device itself whether it is there. Raises what ``connect`` raises."""
        link = await self.connect(node_id)
        try:
            return await link.hello()
        finally:
            await link.close()

    async def online(self, node_ids: Iterable[str], within: float = 4.0) -> dict[str, Hello | PeerError]:
        """For each device its hello, or why there is none, all asked at once within so many seconds."""

        async def ask(node_id: str) -> Hello | PeerError:
            try:
                async with asyncio.timeout(within):
                    return await self.hello(node_id)
            except TimeoutError:
                return Unreachable("The laptop does not answer in time.")
            except PeerError as error:
                return error

        wanted = list(dict.fromkeys(node_ids))
        answers = await asyncio.gather(*(ask(node_id) for node_id in wanted))
        return dict(zip(wanted, answers, strict=True))

    async def who_is_at(self, address: Address) -> Hello:
        """Which device of the shop answers at an address. Raises ``PeerError``."""
        async with self._link(address, None) as link:
            hello = await self._greet(link)
            await self._remember(hello.node_id, address)
            return hello

    async def _try(self, node_id: str, address: Address, failures: dict[Address, PeerError]) -> Link:
        link = self._link(address, node_id)
        try:
            await link.open()
            await self._greet(link)
        except BaseException as error:
            await link.close()
            if isinstance(error, PeerError):
                failures[address] = judged = await clocks.judged(self.store, address, node_id, self.limits, error)
                raise judged from error
            raise
        return link

    def _link(self, address: Address, node_id: str | None) -> Link:
        instance = self.clones.instance if self.clones is not None else ""
        return Link(self.store, address, node_id, self.limits, instance=instance)

    async def _greet(self, link: Link) -> Hello:
        hello = await link.hello()
        if self.clones is not None:
            self.clones.seen(hello.node_id, hello.instance, str(link.address))
            self.clones.told(hello.name, hello.clones)
        return hello

    async def _remember(self, node_id: str, address: Address) -> None:
        old = self._good.get(node_id, ())
        if old and old[0].place == address.place:
            return
        others = [each for each in old if each.place != address.place]
        kept = (Address(address.host, address.port, Origin.LAST_GOOD), *others)[:KEPT_PER_NODE]
        self._good[node_id] = kept
        if self._state is not None:
            try:
                await asyncio.to_thread(_save, self._state, self._good)
            except OSError as error:
                log.warning("addresses not saved", reason=str(error))


def _failure(name: str, failures: dict[Address, PeerError]) -> PeerError:
    if not failures:
        return NotFound(f"{name} was not found on this network.")
    told = sorted(failures.items(), key=lambda item: _TELLING.index(type(item[1])) if type(item[1]) in _TELLING else 9)
    best = told[0][1]
    if isinstance(best, Unreachable):
        tried = "; ".join(f"{address} ({address.origin.value})" for address, _ in told)
        return Unreachable(f"{name} does not answer. Tried: {tried}.")
    return best


async def _drop(tasks: Collection[asyncio.Task[Link]], won: Link | None) -> None:
    """Cancel what still runs and close what connected but did not win."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Link) and result is not won:
            await result.close()


def _told(text: str) -> Address | None:
    try:
        address = Address.parse(text, origin=Origin.TOLD)
        private = ipaddress.ip_address(address.host.partition("%")[0]).is_private
    except (PeerError, ValueError):
        return None
    return address if private else None


def load_addresses(path: Path | None) -> dict[str, tuple[Address, ...]]:
    """Where devices were reached, latest first: what ``_save`` wrote.

    A file that cannot be read is as good as none: it only saves time.
    """
    try:
        listed = json.loads(path.read_text("utf-8")) if path is not None else {}
        return {
            str(node): tuple(Address(str(host), int(port), Origin.LAST_GOOD) for host, port in places[:KEPT_PER_NODE])
            for node, places in listed["addresses"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save(path: Path, good: dict[str, tuple[Address, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = {node: [[each.host, each.port] for each in places] for node, places in good.items()}
    text = json.dumps({"addresses": listed, "saved": int(time.time())}, indent=1)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
