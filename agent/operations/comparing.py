"""Whether a business is the same here and elsewhere: on another laptop, or in a bundle file."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from agent.database.businesses import Business, find_business
from agent.engine.compare import Comparison, compare
from agent.engine.compare_peer import PeerSide
from agent.engine.compare_sides import bundle_side, live_side
from agent.engine.progress import Progress, silent
from agent.operations.bringing import readable
from agent.operations.errors import OperationError
from agent.operations.inspect import verified
from agent.operations.keys import Ask, nobody
from agent.operations.look import businesses
from agent.operations.marking import NO_MARKS, Marker, Marks
from agent.operations.network import network
from agent.operations.targets import other_device
from agent.operations.workspace import Workspace
from certs.errors import TrustError


class NothingToCompare(OperationError):
    code = "no-such-device-or-file"
    hint = "Name a laptop of the shop (`backroom devices`), or a bundle file or id (`backroom history`)."


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison, of what and with whom."""

    business: Business
    other: str
    comparison: Comparison
    marks: Marks = NO_MARKS
    """Of another laptop's database and this one's, read before the rows were."""

    def as_dict(self) -> dict[str, object]:
        return {
            **self.comparison.as_dict(),
            "business": {"id": self.business.id, "name": self.business.name},
            "with": self.other,
        }


async def compare_business(
    workspace: Workspace,
    business: str,
    other: str,
    *,
    trust_source: bool = False,
    ask: Ask = nobody,
    identity: Path | None = None,
    progress: Progress = silent,
) -> Compared:
    """Compare a business here with the same on the device, or in the bundle, that ``other`` names.

    A sealed bundle is opened with ``identity``, or with the passphrase that ``ask`` gives (see ``keys.unlock``).
    Raises ``BusinessError``, :class:`NothingToCompare`, ``PeerError`` and what reading the bundle raises.
    """
    chosen = find_business(await businesses(workspace), business)
    url, catalogue = workspace.database_url, workspace.catalogue()
    try:
        member = other_device(workspace, other)
    except TrustError as not_a_device:
        from agent.archive.errors import ArchiveError

        async with AsyncExitStack() as stack:
            try:
                wanted = readable(workspace, other, ask, identity=identity, progress=progress)
                path = await stack.enter_async_context(wanted)
            except ArchiveError:
                raise NothingToCompare(f"{other!r} is neither a laptop of the shop nor a bundle.") from not_a_device
            bundle = await verified(workspace, path, trust_source=trust_source, progress=progress)
            here = await stack.enter_async_context(live_side(url, catalogue, chosen.id))
            there = await stack.enter_async_context(bundle_side(url, bundle))
            return Compared(chosen, path.name, await compare(here, there, progress=progress))
    async with network(workspace) as net:
        marks = Marks(await Marker(workspace).now(), await net.client.mark(member.node_id))
        there_peer = PeerSide(
            chosen.id,
            lambda request: net.client.table_digests(member.node_id, request),
            lambda request: net.client.range_digests(member.node_id, request),
            lambda request: net.client.row_hashes(member.node_id, request),
        )
        async with there_peer.asked(), live_side(url, catalogue, chosen.id) as here:
            return Compared(chosen, member.name, await compare(here, there_peer, progress=progress), marks)
