"""The way from this laptop to the others: discovery, the directory of peers, and the client over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from agent.config import Config
from agent.log import get_logger
from agent.operations.workspace import Workspace
from agent.peers.address import Address
from agent.peers.client import PeerClient
from agent.peers.directory import Directory, load_addresses
from agent.peers.discovery import Discovery, local_addresses
from agent.peers.errors import DiscoveryError
from agent.peers.pace import Throttle
from protocol.requests import MAX_NODES, MAX_PLACES, Whereabouts

log = get_logger(__name__)

DEFAULT_PORT = 47600


def interfaces(config: Config) -> tuple[str, ...] | None:
    """The addresses that mDNS may use: those that the agent listens on; None for all."""
    return config.listen or None


def throttle(config: Config) -> Throttle:
    """What holds this laptop's sending back, by the settings; one for all that goes on at the same time."""
    return Throttle(config.bandwidth_limit * 1e6 if config.bandwidth_limit is not None else None)


@dataclass(frozen=True, slots=True)
class Network:
    """``discovery`` is None where mDNS cannot be used: then known and configured addresses have to do."""

    client: PeerClient
    directory: Directory
    discovery: Discovery | None


@asynccontextmanager
async def network(workspace: Workspace, *, discovery: Discovery | None = None) -> AsyncIterator[Network]:
    """The network as long as the block lasts. ``discovery`` is one that runs already, else one is started."""
    manual = [Address.parse(text, DEFAULT_PORT) for text in workspace.config.peers]
    async with AsyncExitStack() as stack:
        if discovery is None:
            try:
                discovery = await stack.enter_async_context(Discovery(interfaces=interfaces(workspace.config)))
            except DiscoveryError as error:
                log.warning("no discovery", reason=str(error))
        directory = Directory(
            workspace.store,
            discovery=discovery,
            state=workspace.home.state / "peers.json",
            manual=manual,
            clones=workspace.clones,
        )
        yield Network(PeerClient(directory, throttle(workspace.config)), directory, discovery)


async def whereabouts(workspace: Workspace) -> Whereabouts:
    """What this laptop can tell others about where devices are: itself, while its agent runs, and whom it has met."""
    own = workspace.store.identity().node_id
    met = await asyncio.to_thread(load_addresses, workspace.home.state / "peers.json")
    nodes = {node: tuple(str(place) for place in places) for node, places in met.items()}
    port = await asyncio.to_thread(agent_port, workspace)
    if port is not None:
        nodes[own] = (await asyncio.to_thread(own_places, workspace.config, port))[:MAX_PLACES]
    return Whereabouts(dict(list(nodes.items())[:MAX_NODES]))


def own_places(config: Config, port: int) -> tuple[str, ...]:
    """Where others may try a port of this laptop, as ``HOST:PORT``; at least one. Blocking."""
    return tuple(str(Address(host, port)) for host in local_addresses(interfaces(config)))


def agent_port(workspace: Workspace) -> int | None:
    """The port on which this laptop's agent listened last."""
    try:
        return int((workspace.home.state / "port").read_text("ascii"))
    except (OSError, ValueError):
        return None
