"""The way from this laptop to the others: discovery, the directory of peers, and the client over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from agent.config import Config
from agent.operations.workspace import Workspace
from agent.peers.address import Address
from agent.peers.client import PeerClient
from agent.peers.directory import Directory
from agent.peers.discovery import Discovery
from agent.peers.errors import DiscoveryError
from agent.peers.pace import Throttle

log = structlog.get_logger(__name__)

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
