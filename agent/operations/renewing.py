"""Certificates that never run out: renewed half a year before their end, and looked at again after every sleep."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from agent.beat import beat
from agent.log import get_logger
from agent.operations.errors import OperationError
from agent.operations.network import Network, network
from agent.operations.workspace import Workspace
from agent.peers.clocks import CLOCK_PATH
from agent.peers.errors import NotFound, PeerError
from agent.peers.link import Link
from agent.peers.server import PeerServer
from agent.peers.trusting import renewal
from certs import certificates
from certs.clock import TOLERANCE, behind, compare
from certs.errors import TrustError, WrongShop
from certs.roster import Member
from certs.store import ShopState, Store
from protocol.messages import Hello

log = get_logger(__name__)

EARLY = timedelta(days=180)
"""Before its end a certificate is renewed this much earlier: a laptop may lie in a drawer for months."""
LOOK_SECONDS = 3.0
AGAIN = timedelta(minutes=10)
LATER = timedelta(days=1)
CLOCK_SECONDS = 6.0
SLEPT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Renewal:
    """``renewed`` by the laptop ``by``, valid ``until``; or it waits there for a yes, as ``text`` says."""

    renewed: bool
    by: str
    until: datetime
    text: str = ""


class NotTaken(OperationError):
    code = "renewal-not-taken"
    hint = "The present one stays. If the clock of that laptop is behind, set it and run this again."


def due(shop: ShopState, now: datetime) -> bool:
    """Whether the certificate should be renewed: its end is near, its start is still to come (the clock that made it
    was ahead, if this one is not behind), or the authority behind it was handed over."""
    ends, handed_over = _facts(shop.certificate, shop.authority)
    return handed_over or ends - now < EARLY or to_come(shop, now)


def to_come(shop: ShopState, now: datetime) -> bool:
    """Whether the certificate begins in the future of this laptop's clock."""
    return now < certificates.issued(shop.certificate) - certificates.BACKDATED


@lru_cache(maxsize=4)
def _facts(certificate: bytes, authority: bytes) -> tuple[datetime, bool]:
    """When a certificate ends, and whether another authority than this one made it: looked at every few seconds."""
    try:
        certificates.check_device(certificate, authority)
    except WrongShop:
        return certificates.expires(certificate), True
    return certificates.expires(certificate), False


async def renew_certificate(workspace: Workspace, *, now: bool = False, net: Network | None = None) -> Renewal:
    """Renew this laptop's certificate where that is due (or ``now``), from any admin that holds the authority.

    Raises ``TrustError``, ``PeerError`` and :class:`NotTaken`: the last refusal of those who were asked.
    """
    store = workspace.store
    shop = await asyncio.to_thread(store.require_shop)
    own = await asyncio.to_thread(store.identity)
    if not now and not due(shop, store.clock()):
        return Renewal(False, own.name, certificates.expires(shop.certificate))
    if await asyncio.to_thread(store.authority) is not None:
        if net is not None and to_come(shop, store.clock()):
            await _ask_clocks(shop, net, own.node_id)
        await asyncio.to_thread(lambda: _take(store, store.renew(own.public_key), own.name))
        return Renewal(True, own.name, certificates.expires(store.identity().certificate))
    if net is not None:
        return await _ask(workspace, shop, net)
    async with network(workspace) as opened:
        return await _ask(workspace, shop, opened)


async def _ask(workspace: Workspace, shop: ShopState, net: Network) -> Renewal:
    store = workspace.store
    own = store.identity().node_id
    failure: Exception = NotFound("No admin's laptop is in the list of devices.")
    waiting: Renewal | None = None
    for member in shop.roster.members:
        if not member.admin or member.node_id == own:
            continue
        try:
            if net.discovery is not None and not net.directory.candidates(member.node_id):
                await net.discovery.wait_for(member.node_id, 3.0)
            answer = await renewal(net.directory, member.node_id)
            if answer.status == "waiting":
                waiting = Renewal(False, member.name, certificates.expires(shop.certificate), answer.text)
                continue
            await asyncio.to_thread(_take, store, answer.certificate, member.name)
        except (PeerError, TrustError, NotTaken) as error:
            log.debug("not renewed", admin=member.name, reason=str(error))
            failure = error
            continue
        until = certificates.expires(store.identity().certificate)
        log.info("certificate renewed", by=member.name, until=until.isoformat())
        return Renewal(True, member.name, until)
    if waiting is not None:
        return waiting
    raise failure


def _take(store: Store, certificate: bytes, maker: str) -> None:
    """Use it, or raise :class:`NotTaken`. Blocking."""
    if not store.take_certificate(certificate):
        raise NotTaken(f"The certificate that {maker} made ends no later than the present one.")


async def _ask_clocks(shop: ShopState, net: Network, own: str) -> None:
    """Raise ``WrongClock`` where another laptop's clock has reached the making of this laptop's certificate: then the
    clock here is behind, and a certificate by it would be worse. An admin's answer tells that by itself."""
    others = [member for member in shop.roster.members if member.active and member.node_id != own]

    async def ask(member: Member) -> datetime | None:
        directory = net.directory
        for address in directory.candidates(member.node_id):
            try:
                async with Link(directory.store, address, member.node_id, directory.limits, dates=False) as link:
                    return (await link.read(Hello.decode, "GET", CLOCK_PATH, seconds=CLOCK_SECONDS)).time
            except PeerError:
                continue
        return None

    for member, theirs in zip(others, await asyncio.gather(*map(ask, others)), strict=True):
        if theirs is not None and theirs >= certificates.issued(shop.certificate) - TOLERANCE:
            raise compare(net.directory.store.clock(), theirs, member.name, shop)


async def keep_certificate(workspace: Workspace, net: Network, server: PeerServer) -> None:
    """The agent's care: renew in time, use what another process renewed, notice wrong clocks. Until cancelled."""
    store, loop = workspace.store, asyncio.get_running_loop()
    stamp, next_try, said = None, store.clock(), ""
    wall, steady = store.clock(), loop.time()
    while True:
        try:
            shop, fresh = await asyncio.to_thread(_look, store)
            if stamp not in (None, fresh):
                await server.reload()
                log.info("certificate in use", until=certificates.expires(shop.certificate).isoformat())
            stamp = fresh
            wrong = behind(store.clock(), shop)
            if wrong is not None and said != str(wrong)[:40]:
                log.warning("wrong clock", reason=str(wrong))
            said = str(wrong)[:40] if wrong else ""
            if due(shop, store.clock()) and store.clock() >= next_try:
                next_try = store.clock() + AGAIN
                done = await renew_certificate(workspace, net=net)
                if not done.renewed:
                    log.warning("the certificate waits to be renewed", admin=done.by, reason=done.text)
                elif to_come(await asyncio.to_thread(store.require_shop), store.clock()):
                    next_try = store.clock() + LATER  # the clocks of the two laptops do not agree
                continue
        except (TrustError, PeerError, NotTaken, OSError) as error:
            log.warning("certificate not renewed", reason=str(error))
        await beat(LOOK_SECONDS)
        slept = (store.clock() - wall) - timedelta(seconds=loop.time() - steady)
        wall, steady = store.clock(), loop.time()
        if abs(slept) > SLEPT:
            log.info("woke up", after=str(slept))
            next_try = wall


def _look(store: Store) -> tuple[ShopState, tuple[tuple[int, ...], ...]]:
    """The shop, and the stamp of the files that OpenSSL reads. Blocking."""
    shop = store.require_shop()
    return shop, store.tls_files().stamp()
