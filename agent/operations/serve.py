"""The running agent's work: serve peers, keep the roster in step, open invitations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from agent.home import Home
from agent.log import get_logger
from agent.operations.attending import Attending
from agent.operations.meetings import Meetings
from agent.operations.network import DEFAULT_PORT, Network, interfaces, network, throttle, whereabouts
from agent.operations.renewing import keep_certificate
from agent.operations.shops import serve_invitations
from agent.operations.standing import keep_standing
from agent.operations.trusting import TrustDesk
from agent.operations.upkeep import keep_up
from agent.operations.workspace import Workspace
from agent.peers.discovery import Discovery, Sighting
from agent.peers.errors import DiscoveryError, PeerError
from agent.peers.server import PeerServer, PortTaken
from certs.errors import TrustError
from certs.roster import Member

log = get_logger(__name__)

SHOP_POLL_SECONDS = 1.0
LOOK_SECONDS = 30.0
CLEAN_SECONDS = 3600.0


async def wait_for_setup(workspace: Workspace) -> None:
    """Until this laptop has its settings: its page or another process makes them."""
    if await asyncio.to_thread(workspace.home.config.exists):
        return
    log.info("not set up yet", next="run 'backroom open' and set this laptop up there; this goes on by itself")
    while not await asyncio.to_thread(workspace.home.config.exists):  # noqa: ASYNC110 - the page ends it
        await asyncio.sleep(SHOP_POLL_SECONDS)


async def wait_for_shop(workspace: Workspace) -> None:
    """Until this laptop belongs to a shop: another process founds or joins it."""
    if await asyncio.to_thread(workspace.store.shop) is not None:
        return
    log.info("no shop yet", next="run 'backroom shop create NAME' or 'backroom join CODE'; this goes on by itself")
    while await asyncio.to_thread(workspace.store.shop) is None:  # noqa: ASYNC110 - another process ends it
        await asyncio.sleep(SHOP_POLL_SECONDS)


def note_port(home: Home, port: int) -> None:
    """Leave word for other processes on which port the agent listens."""
    (home.state / "port").write_text(f"{port}\n", encoding="ascii")


@asynccontextmanager
async def serving(workspace: Workspace) -> AsyncIterator[PeerServer]:
    """Serve peers as long as the block lasts. Waits for a shop first. Raises errors of the layers below."""
    await asyncio.to_thread(workspace.store.identity)
    await wait_for_shop(workspace)
    news, clashed, clock = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().time
    meetings = Meetings(workspace.store.identity().node_id, clock())

    def seen(sighting: Sighting) -> None:
        log.debug("seen", node=sighting.label)
        with suppress(TrustError):
            if workspace.store.roster().trusts(sighting.label):  # laptops of other shops are no news here
                meetings.seen(sighting.label, clock())
                news.set()

    def clash(node_id: str) -> None:
        log.error("another device uses this laptop's ID", node=node_id)
        clashed.set()

    async with workspace.history() as history:
        attending = Attending(workspace, history)
        await attending.tidy()
        server = await _listen(workspace, attending, TrustDesk(workspace, history))
        await asyncio.to_thread(note_port, workspace.home, server.port)
        try:
            discovery: Discovery | None = Discovery(
                interfaces=interfaces(workspace.config), on_change=seen, on_clash=clash
            )
            assert discovery is not None
            try:
                await discovery.start()
                await discovery.advertise(workspace.store.identity().node_id, server.port)
            except DiscoveryError as error:
                log.warning("no discovery", reason=str(error))
                discovery = None
            try:
                async with network(workspace, discovery=discovery) as net, asyncio.TaskGroup() as tasks:
                    attending.hear = net.directory.hear
                    attending.met = lambda peer: meetings.met(peer, clock(), workspace.store.roster().version)
                    works: dict[str, Callable[[], Awaitable[None]]] = {
                        "meeting the others": partial(_keep_roster, workspace, net, meetings, news),
                        "serving invitations": partial(serve_invitations, workspace, discovery),
                        "tidying the spool": partial(_keep_clean, attending),
                        "renewing the certificate": partial(keep_certificate, workspace, net, server),
                        "watching for clones": partial(_watch_own_name, workspace, net, clashed),
                        "telling where transfers stand": partial(keep_standing, workspace, server),
                        "going on with what waited for a yes": attending.go_on,
                    }
                    background = [tasks.create_task(keep_up(doing, work)) for doing, work in works.items()]
                    log.info(
                        "ready",
                        name=workspace.config.device_name(),
                        shop=workspace.store.require_shop().shop_name,
                        port=server.port,
                    )
                    yield server
                    for task in background:
                        task.cancel()
            finally:
                if discovery is not None:
                    await discovery.close()
        finally:
            await server.close()
            await attending.close()


async def _listen(workspace: Workspace, attending: Attending, trust: TrustDesk) -> PeerServer:
    """A server on the configured port; where the usual port is taken (several agents on one machine), on any."""
    config = workspace.config
    make = partial(
        PeerServer,
        workspace.store,
        attending,
        host=config.listen,
        trust=trust,
        clones=workspace.clones,
        throttle=throttle(config),
    )
    server = make(port=config.port)
    try:
        await server.start()
    except PortTaken as error:
        if config.port != DEFAULT_PORT:
            raise
        log.warning("the usual port is taken, using another", reason=str(error))
        server = make(port=0)
        await server.start()
    return server


async def _keep_roster(workspace: Workspace, net: Network, meetings: Meetings, news: asyncio.Event) -> None:
    """Meet the others, as ``meetings`` says: rosters and whereabouts are exchanged."""
    own, clock = workspace.store.identity().node_id, asyncio.get_running_loop().time
    while True:
        news.clear()
        wait = LOOK_SECONDS
        try:
            for member in workspace.store.roster().members:
                if member.node_id != own and member.active and net.directory.candidates(member.node_id):
                    if (left := _left(workspace, net, meetings, member.node_id) - clock()) <= 0:
                        await _meet(workspace, net, member)
                        meetings.dialled(member.node_id, clock(), workspace.store.roster().version)
                    else:
                        wait = min(wait, left)
        except TrustError as error:
            log.warning("the roster cannot be read", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await news.wait()


def _left(workspace: Workspace, net: Network, meetings: Meetings, node_id: str) -> float:
    roster = workspace.store.roster()
    return meetings.due(node_id, roster.version, len(roster.members), proven=net.directory.proven(node_id))


async def _meet(workspace: Workspace, net: Network, member: Member) -> None:
    try:
        async with asyncio.timeout(10):
            await net.client.meet(member.node_id, await whereabouts(workspace))
            await net.directory.warn(member.node_id)
    except (PeerError, TimeoutError) as error:
        log.debug("no roster exchange", peer=member.name, reason=str(error))


async def _watch_own_name(workspace: Workspace, net: Network, clashed: asyncio.Event) -> None:
    """Look who else is announced under this laptop's ID. mDNS proves nothing: the alarm is raised by who answers."""
    own = workspace.store.identity().node_id
    while True:
        for address in net.discovery.elsewhere(own) if net.discovery is not None else ():
            try:
                async with asyncio.timeout(10):
                    await net.directory.who_is_at(address)
            except (PeerError, TimeoutError) as error:
                log.debug("nobody under this laptop's ID", address=str(address), reason=str(error))
        clashed.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await clashed.wait()
                await asyncio.sleep(1)
        except TimeoutError:
            pass


async def _keep_clean(attending: Attending) -> None:
    while True:
        await asyncio.sleep(CLEAN_SECONDS)
        await attending.tidy()
