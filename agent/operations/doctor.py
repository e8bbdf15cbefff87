"""``backroom doctor``: looks at all that keeps laptops from seeing or reaching each other (judging: ``findings``)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from agent.config import ConfigError
from agent.database.connect import connect
from agent.database.errors import DatabaseError, translating
from agent.database.rights import missing_rights
from agent.operations import findings as judge
from agent.operations.findings import Finding
from agent.operations.look import schema_of, travelling
from agent.operations.network import DEFAULT_PORT, Network, agent_port, network
from agent.operations.workspace import Workspace, utc_now
from agent.peers import survey
from agent.peers.address import Address
from agent.peers.errors import PeerError
from agent.peers.interfaces import Interface
from agent.tables.catalogue import TableClass
from agent.tables.errors import TablesError
from certs import certificates
from certs.errors import TrustError
from certs.roster import Member
from protocol.messages import Hello

WITHIN = 6.0
ANNOUNCED_WITHIN = 4.0


@dataclass(slots=True)
class Diagnosis:
    """What was looked at, and what is wrong; nothing is wrong where ``findings`` is empty."""

    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return not self.findings

    def as_dict(self) -> dict[str, object]:
        return {
            "well": self.well,
            "checked": self.checked,
            "findings": [finding.as_dict() for finding in self.findings],
        }


async def doctor(workspace: Workspace, device: str | None = None, *, within: float = WITHIN) -> Diagnosis:
    """Look at this laptop, and at ``device`` or at all others of the shop.

    Raises ``NotSetUpError`` before ``backroom init`` and ``TrustError`` for a device that the roster does not have;
    everything else that is wrong is a finding.
    """
    diagnosis = Diagnosis()
    await asyncio.to_thread(workspace.store.identity)
    workspace.config.device_name()
    for what, look in (
        ("agent", _agent),
        ("disk", _disk),
        ("database", _database),
    ):
        diagnosis.checked.append(what)
        diagnosis.findings += [finding async for finding in look(workspace)]
    shop = await asyncio.to_thread(workspace.store.shop)
    if shop is None:
        diagnosis.findings.append(
            Finding(
                "no-shop",
                "",
                "This laptop belongs to no shop yet.",
                'Run `backroom shop create "NAME"` on the first laptop, `backroom join CODE` on the others.',
            )
        )
        return diagnosis
    own = workspace.store.identity().node_id
    chosen = [shop.roster.find(device)] if device is not None else list(shop.roster.members)
    others = [member for member in chosen if member.node_id != own and (member.active or device is not None)]
    diagnosis.checked += ["certificate", "network", *(member.name for member in others)]
    certificate = await asyncio.to_thread(certificates.load, shop.certificate)
    diagnosis.findings += judge.judge_certificate(
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        workspace.store.clock(),
        active=shop.roster.trusts(own),
    )
    try:
        workspace.clones.require_clear(own)
    except PeerError as error:
        diagnosis.findings.append(Finding(error.code, "", str(error), error.hint))
    async with network(workspace) as net:
        found = await survey.look()
        active = [member for member in others if member.active]
        answers, heard, windows, sightings = await asyncio.gather(
            net.directory.online([member.node_id for member in active], within),
            survey.multicast(found),
            survey.windows_network(),
            _announced(net, own, min(within, ANNOUNCED_WITHIN) if active else 0.0),
        )
        if len(shop.roster.members) > 1:
            diagnosis.findings += judge.judge_network(found, heard, len(sightings))
        diagnosis.findings += judge.judge_windows(*windows)
        for member in others:
            peer = _Peer(workspace, net, member, found, member.node_id in sightings)
            diagnosis.findings += [finding async for finding in peer.look(answers.get(member.node_id))]
    return diagnosis


async def _announced(net: Network, own: str, within: float) -> set[str]:
    """The other laptops whose announcement has arrived. Who answers at a known address is there sooner than that."""
    end = asyncio.get_running_loop().time() + within
    while True:
        seen = set(net.discovery.sightings()) - {own} if net.discovery is not None else set()
        if seen or net.discovery is None or asyncio.get_running_loop().time() >= end:
            return seen
        await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class _Peer:
    """One other laptop, to be looked at."""

    workspace: Workspace
    net: Network
    member: Member
    found: tuple[Interface, ...]
    announced: bool

    async def look(self, answer: Hello | PeerError | None) -> AsyncIterator[Finding]:
        name = self.member.name
        try:
            self.workspace.clones.require_clear(self.member.node_id)
        except PeerError as error:
            yield Finding(error.code, name, str(error), error.hint)
        if answer is None:
            yield Finding("revoked", name, f"{name} was revoked.", "It only comes back by a new invitation.")
        elif isinstance(answer, PeerError):
            candidates = self.net.directory.candidates(self.member.node_id)
            places = await asyncio.gather(*(survey.reach(address, self.found) for address in candidates))
            absent = judge.Absent(name, answer.code, str(answer), answer.hint, places, self.announced)
            yield judge.judge_absent(absent)
        else:
            for finding in judge.judge_clock(name, answer.time, utc_now()):
                yield finding
            async for finding in self._schema(name):
                yield finding

    async def _schema(self, name: str) -> AsyncIterator[Finding]:
        try:
            ours = await travelling(self.workspace)
            theirs = (await self.net.client.schema(self.member.node_id)).tables
        except PeerError as error:
            yield Finding(error.code, name, f"{name} does not say how its tables are: {error}", error.hint)
            return
        except (DatabaseError, TablesError, ConfigError):
            return  # told by the look at the database
        for finding in judge.judge_schema(name, ours, theirs):
            yield finding


async def _agent(workspace: Workspace) -> AsyncIterator[Finding]:
    running = await asyncio.to_thread(workspace.home.locked, "agent")
    config = workspace.config
    port = (await asyncio.to_thread(agent_port, workspace) if running else None) or config.port or DEFAULT_PORT
    free = answered = True
    host = config.listen[0] if len(config.listen) == 1 else None
    if running:
        places = [Address(each, port) for each in (*config.listen, "127.0.0.1", "::1")]
        found = await survey.look()
        answered = any([(await survey.reach(address, found)).knock is survey.Knock.OPEN for address in places])
        in_shop = await asyncio.to_thread(workspace.store.shop) is not None
        answered = answered or not in_shop  # without a shop it does not listen yet
    elif config.port:  # port 0 takes whichever is free
        free = await survey.port_free(host, port)
    for finding in judge.judge_agent(judge.Agent(running, port, free, answered)):
        yield finding


async def _disk(workspace: Workspace) -> AsyncIterator[Finding]:
    def free() -> dict[str, int]:
        return {str(workspace.home.path): shutil.disk_usage(workspace.home.path).free}

    for finding in judge.judge_disk(await asyncio.to_thread(free)):
        yield finding


async def _database(workspace: Workspace) -> AsyncIterator[Finding]:
    try:
        schema, classification = await schema_of(workspace)
        travel = [schema.tables[name] for name in classification.of_class(TableClass.BUSINESS)]
        connection = await connect(workspace.database_url, application_name="backroom: doctor")
        try:
            with translating("Looking at the rights in the database"):
                missing = await missing_rights(connection, travel)
        finally:
            await connection.close(timeout=5)
    except (DatabaseError, TablesError, ConfigError, TrustError) as error:
        yield Finding(error.code, "database", str(error), error.hint)
        return
    for finding in judge.judge_rights(missing):
        yield finding
    for finding in judge.judge_unclassified(classification.of_class(TableClass.UNCLASSIFIED)):
        yield finding
