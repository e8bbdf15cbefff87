"""Who may do what: certificate x roster x role x limits x action, each cell over real TLS, against the tables below."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import structlog

from agent.home import Home
from agent.operations.receive import Reception
from agent.operations.trusting import TrustDesk
from agent.operations.workspace import Workspace, utc_now
from agent.peers import http
from agent.peers.limits import ServerLimits
from agent.peers.server import PeerServer
from certs.authority import Authority
from certs.certificates import make_device, to_pem
from certs.identity import Identity
from certs.keys import private_to_pem, server_name
from certs.roster import Limits, Member, Role, Roster, Status
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.messages import Offer, OfferAnswer, Problem
from protocol.requests import CompareRequest, PullAnswer, PullRequest
from protocol.trusting import SharedAuthority
from tests.support.agents import Laptop, Shops

# What each role may ask, and which limits it needs: "take" this business, "offer" it, either ("see"), or "all" of them.
# Where the answer is no, the code of the refusal.
ACTIONS = """
action            member           admin            limits
hello             yes              yes              -
clock             yes              yes              -
roster            yes              yes              -
renewal           yes              yes              -
businesses        yes              yes              -
compare           yes              yes              see
offer             yes              yes              offer
offer-full        kind-refused     kind-refused     -
pull-business     yes              yes              take
pull-full         admin-only       yes              all
pull-full-device  admin-only       yes              all
share-authority   admin-only       yes              -
backups-of-own    yes              yes              -
backups-of-other  not-allowed      yes              -
"""
# Which of it is looked at at all, by certificate and roster; "rights" is the table above.
STATES = """
certificate       roster           everything                 clock, renewal
valid             active           rights                     rights
valid             revoked          revoked-device             revoked-device
valid             missing          unknown-device             unknown-device
ended             active           expired-certificate        rights
ended             revoked          revoked-device             revoked-device
ended             missing          unknown-device             unknown-device
future            active           certificate-not-yet-valid  rights
future            revoked          revoked-device             revoked-device
future            missing          unknown-device             unknown-device
other-shop        active           no-tls                     no-tls
other-shop        revoked          no-tls                     no-tls
other-shop        missing          no-tls                     no-tls
self-signed       active           no-tls                     no-tls
self-signed       revoked          no-tls                     no-tls
self-signed       missing          no-tls                     no-tls
"""
# Limits of the one who asks and of the laptop that is asked: none, this business alone, or another one alone.
LIMITS = ("none", "this", "other")


def table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.strip().splitlines()[1:]]


RIGHTS = {action: {"member": member, "admin": admin, "limits": need} for action, member, admin, need in table(ACTIONS)}
BY_STATE = {(certificate, roster): (rest, undated) for certificate, roster, rest, undated in table(STATES)}


@dataclass(frozen=True, slots=True)
class Cell:
    """One state of the world, in which every action is tried."""

    certificate: str
    roster: str
    role: str
    asking: str
    asked: str

    def expected(self, action: str) -> str:
        rest, undated = BY_STATE[self.certificate, self.roster]
        outcome = undated if action in ("clock", "renewal") else rest
        if outcome != "rights":
            return outcome
        right = RIGHTS[action]
        if right[self.role] != "yes":
            return right[self.role]
        takes = self.asking in ("none", "this") and self.asked in ("none", "this")
        fine = {"-": True, "see": takes, "offer": takes, "take": takes, "all": self.asking == self.asked == "none"}
        return "yes" if fine[right["limits"]] else "not-allowed"


CELLS = [
    Cell(certificate, roster, role, asking, asked)
    for (certificate, roster), role in itertools.product(BY_STATE, ("member", "admin"))
    for asking, asked in itertools.product(LIMITS, LIMITS)
]


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of refusals are logged; a failure is told by its cell."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(scope="module")
def office(module_shops: Shops) -> Laptop:
    laptop = module_shops.laptop("laptop-office", "shop")
    module_shops.shop(laptop)
    return laptop


@asynccontextmanager
async def serving(laptop: Laptop) -> AsyncIterator[PeerServer]:
    workspace = Workspace(Home(laptop.home))
    async with workspace.history() as history:
        reception, trust = Reception(workspace, history), TrustDesk(workspace, history)
        limits = ServerLimits(
            connections=10_000,
            connections_per_peer=10_000,
            uploads=10_000,
            uploads_per_peer=10_000,
            pulls_per_peer=10_000,
        )
        async with PeerServer(workspace.store, reception, host="127.0.0.1", limits=limits, trust=trust) as server:
            yield server


class World:
    """The office as it is asked, and a device that asks in any state."""

    def __init__(self, office: Laptop, folder: Path, business: BusinessRef) -> None:
        self.office = office
        self.business = business
        self.caller = Identity.create("laptop-caller", utc_now())
        self.key = folder / "caller.key"
        self.key.write_bytes(private_to_pem(self.caller.private_key))
        self.chain = folder / "caller.pem"
        self.authority = office.store.require_authority()
        self.other = Authority.create(utc_now())

    def limits(self, name: str) -> Limits:
        listed = {"none": None, "this": frozenset({self.business.id}), "other": frozenset({"another"})}[name]
        return Limits(listed, listed, listed)

    def arrange(self, cell: Cell) -> ssl.SSLContext:
        """Make the roster and the caller's certificate as the cell says."""
        store, now = self.office.store, utc_now().replace(microsecond=0)
        own = store.roster().require(self.office.node_id)
        members = [Member(own.node_id, own.name, own.role, own.status, own.added, limits=self.limits(cell.asked))]
        if cell.roster != "missing":
            status = Status.ACTIVE if cell.roster == "active" else Status.REVOKED
            limits = self.limits(cell.asking)
            name = self.caller.name
            members.append(Member(self.caller.node_id, name, Role(cell.role), status, now, limits=limits))
        roster = Roster(self.authority.shop_id, "Corner Shops", store.roster().version + 1, now, tuple(members))
        store.save_roster(self.authority.sign_roster(roster).encode())
        self.chain.write_bytes(to_pem(self.certificate(cell.certificate)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.chain, self.key)
        return context

    def certificate(self, state: str) -> bytes:
        public, now = self.caller.public_key, utc_now()
        match state:
            case "valid":
                return self.authority.issue(public, now)
            case "ended":
                return self.authority.issue(public, now - timedelta(days=3 * 365))
            case "future":
                return self.authority.issue(public, now + timedelta(days=30))
            case "other-shop":
                return self.other.issue(public, now)
            case _:
                key = self.caller.private_key
                return make_device(key.public_key(), now, issuer_key=key, shop_id=None)

    def manifest(self, kind: Kind) -> bytes:
        """What the caller offers, anew each time."""
        made = Manifest(
            version=1,
            bundle_id=uuid.uuid4().hex,
            kind=kind,
            shop_id=self.authority.shop_id,
            shop_name="Corner Shops",
            source_node=self.caller.node_id,
            source_device=self.caller.name,
            target_node=self.office.node_id,
            business=self.business if kind is Kind.BUSINESS else None,
            created=utc_now(),
            created_by="test",
            options=Options(),
            schema_fingerprint="0" * 64,
            server_version="15.0",
            tables=(TableEntry("orders", Section.BUSINESS, (ColumnEntry("id", "text"),), ("id",), 1),),
        )
        return made.encode()

    def request(self, action: str) -> tuple[str, str, bytes | None]:
        business = self.business.id
        match action:
            case "hello" | "clock" | "businesses":
                return "GET", f"/v1/{action}", None
            case "roster":
                return "POST", "/v1/roster", self.office.store.signed_roster().encode()
            case "renewal":
                return "POST", "/v1/renewal", b""
            case "compare":
                return "POST", "/v1/compare", CompareRequest(business).encode()
            case "offer":
                return "POST", "/v1/offers", Offer(self.manifest(Kind.BUSINESS), 1000).encode()
            case "offer-full":
                return "POST", "/v1/offers", Offer(self.manifest(Kind.FULL), 1000).encode()
            case "pull-business":
                return "POST", "/v1/pulls", PullRequest("business-specific", business).encode()
            case "pull-full":
                return "POST", "/v1/pulls", PullRequest("full").encode()
            case "pull-full-device":
                return "POST", "/v1/pulls", PullRequest("full-device").encode()
            case "share-authority":
                return "POST", "/v1/authority", SharedAuthority(b"sealed").encode()
            case "backups-of-own":
                return "GET", f"/v1/backups/{self.caller.node_id}", None
            case _:
                return "GET", f"/v1/backups/{self.office.node_id}", None

    async def outcome(self, session: aiohttp.ClientSession, context: ssl.SSLContext, port: int, action: str) -> str:
        """ "yes", or the code of the refusal."""
        method, path, body = self.request(action)
        status, data = await self.ask(session, context, port, method, path, body)
        if status == 0:
            return "no-tls"
        if status >= 300:
            return Problem.decode(data).code
        if action.startswith("offer"):
            answer = OfferAnswer.decode(data)
            return answer.problem.code if answer.problem else "yes"
        while action.startswith("pull") and (pull := PullAnswer.decode(data)).status != "ready":
            if pull.problem is not None:
                return pull.problem.code
            path = f"/v1/pulls/{pull.transfer_id}?wait=1"
            status, data = await self.ask(session, context, port, "GET", path, None)
        return "yes"

    async def ask(
        self,
        session: aiohttp.ClientSession,
        context: ssl.SSLContext,
        port: int,
        method: str,
        path: str,
        body: bytes | None,
    ) -> tuple[int, bytes]:
        headers: Mapping[str, str] = {http.NODE_HEADER: self.caller.node_id}
        try:
            async with session.request(
                method,
                f"https://127.0.0.1:{port}{path}",
                data=body,
                headers=headers,
                ssl=context,
                server_hostname=server_name(self.office.node_id),
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientConnectionError, ConnectionError):
            return 0, b""


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quiet")
async def test_every_cell(office: Laptop, tmp_path: Path) -> None:
    name = "Restaurant ABC"
    found = await asyncio.to_thread(office.query, "SELECT id FROM businesses WHERE name = $1", name)
    world = World(office, tmp_path, BusinessRef(str(found[0][0]), name))
    wrong, tried, pulled = [], 0, set[str]()
    async with serving(office) as server:
        for cell in CELLS:
            context = world.arrange(cell)
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
                for action in RIGHTS:
                    expected = cell.expected(action)
                    if expected == "no-tls" and (cell.asking, cell.asked) != ("none", "none") and action != "hello":
                        continue  # nothing is read from such a connection; one request of each such cell shows it
                    if action.startswith("pull") and expected == "yes":
                        # Making the backup takes seconds: once for each role is enough.
                        if f"{action} {cell.role}" in pulled:
                            continue
                        pulled.add(f"{action} {cell.role}")
                    tried += 1
                    seen = await world.outcome(session, context, server.port, action)
                    if seen != expected:
                        wrong.append(f"{cell} {action}: {seen}, expected {expected}")
    assert not wrong, "\n".join(wrong[:40])
    assert tried > 2_000
    assert len(pulled) == 4


def test_the_tables_name_every_state() -> None:
    certificates, rosters = zip(*BY_STATE, strict=True)
    assert set(BY_STATE) == set(itertools.product(dict.fromkeys(certificates), dict.fromkeys(rosters)))
    assert len(CELLS) == len(BY_STATE) * 2 * 9
