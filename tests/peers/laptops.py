"""Laptops for the tests of peers: real keys, a real shop, real TLS over loopback sockets, and a simple real handler."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from agent.archive.spool import Spool
from agent.home import Home
from agent.peers.address import Address
from agent.peers.client import PeerClient
from agent.peers.delta import BaseFile
from agent.peers.directory import Directory
from agent.peers.handler import Accept, Arrived, Decision, Done, IncomingOffer, Part, Peer, Prepared, Refuse, Report
from agent.peers.limits import ClientLimits, ServerLimits
from agent.peers.server import PeerServer
from certs.errors import TrustError
from certs.roster import Role
from certs.store import Store
from protocol.frames import encode_frame
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from protocol.messages import Problem, Receipt, SignedReceipt
from protocol.requests import (
    BusinessItem,
    BusinessList,
    CompareRequest,
    PullRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    SchemaAnswer,
    TableDigest,
    TableMark,
    Whereabouts,
)
from protocol.writer import BundleWriter

QUICK_SERVER = ServerLimits(handshake_seconds=3, first_request_seconds=3, idle_seconds=3)
QUICK_CLIENT = ClientLimits(
    connect_seconds=3, answer_seconds=5, idle_seconds=3, retry_seconds=5, first_pause=0.05, longest_pause=0.2
)


class DeclinedError(Exception):
    """What a handler may raise: it has a code and a hint."""

    code = "declined"
    hint = "Ask again tomorrow."


@dataclass(eq=False)
class Shelf:
    """A handler that keeps bundles in a folder and signs receipts that say ``stored``."""

    store: Store
    home: Home
    refuse: Problem | None = None
    fail: Exception | None = None
    offers: list[IncomingOffer] = field(default_factory=list)
    applied: list[IncomingOffer] = field(default_factory=list)
    receipts: dict[str, SignedReceipt] = field(default_factory=dict)
    told: list[Whereabouts] = field(default_factory=list)
    places: Whereabouts = field(default_factory=lambda: Whereabouts({}))
    stops: list[tuple[str, bool]] = field(default_factory=list)
    ready: dict[str, Path] = field(default_factory=dict)
    asked: list[PullRequest] = field(default_factory=list)
    bases: dict[str, Path] = field(default_factory=dict)

    async def offer(self, peer: Peer, offer: IncomingOffer) -> Decision:
        self.offers.append(offer)
        if self.refuse is not None:
            return Refuse(self.refuse)
        if (receipt := self.receipts.get(offer.manifest.bundle_id)) is not None:
            return Done(receipt)
        base = next((BaseFile(each, self.bases[each]) for each in offer.bases if each in self.bases), None)
        return Accept(Spool(self.home).open(offer.manifest.bundle_id, offer.size), base=base)

    async def apply(
        self, peer: Peer, offer: IncomingOffer, part: Part, arrived: Arrived | None, report: Report
    ) -> SignedReceipt:
        if self.fail is not None:
            raise self.fail
        report("applying", 1, 2, "half")
        self.applied.append(offer)
        target = self.home.path / f"{offer.manifest.bundle_id}.bundle"
        target.write_bytes(b"".join([piece async for piece in part.read()]))
        await part.discard()
        identity = self.store.identity()
        receipt = Receipt(
            bundle_id=offer.manifest.bundle_id,
            receiver_node=identity.node_id,
            receiver_name=identity.name,
            outcome="stored",
            tables={"orders": {"inserted": offer.manifest.total_rows}},
            totals={"inserted": offer.manifest.total_rows},
            message="",
            at=datetime.now(UTC),
        )
        signed = receipt.sign(identity.certificate, identity.sign)
        self.receipts[offer.manifest.bundle_id] = signed
        return signed

    async def stopped(self, peer: Peer, offer: IncomingOffer, *, cancelled: bool) -> None:
        self.stops.append((offer.manifest.bundle_id, cancelled))

    async def prepare_pull(self, peer: Peer, request: PullRequest, report: Report) -> Prepared:
        self.asked.append(request)
        if request.business == "nobody" or not self.ready:
            raise DeclinedError("There is no business called nobody.")
        report("applying", 5, 10, "making it")
        bundle_id, path = next(iter(self.ready.items()))
        return Prepared(path, bundle_id, path.stat().st_size)

    async def businesses(self, peer: Peer) -> BusinessList:
        return BusinessList((BusinessItem("b1", "Restaurant ABC", "restaurant-abc"), BusinessItem("b2", "Café Ölü")))

    async def mark(self, peer: Peer) -> TableMark:
        if self.fail is not None:
            raise self.fail
        return TableMark("epoch", "counts")

    async def table_digests(self, peer: Peer, request: CompareRequest) -> AsyncIterator[TableDigest]:
        if request.business != "b1":
            raise DeclinedError("There is no such business.")
        for table in ("orders", "users"):
            digest = hashlib.sha256(table.encode()).digest()
            yield TableDigest(table, 3, digest, ("id", "name"), ("text", "text"), ("id",))

    async def range_digests(self, peer: Peer, request: RangeRequest) -> RangeDigests:
        return RangeDigests((3, 17), (1, 2), (b"5:6", b"7:8"))

    async def whereabouts(self, peer: Peer, theirs: Whereabouts) -> Whereabouts:
        self.told.append(theirs)
        return self.places

    async def schema(self, peer: Peer) -> SchemaAnswer:
        return SchemaAnswer({"orders": {"id": "text", "total": "numeric(10,2)"}})

    async def row_hashes(self, peer: Peer, request: RowHashRequest) -> AsyncIterator[RowHashes]:
        for start in range(0, 5000, 1000):
            keys = tuple(str(number) for number in range(start, start + 1000))
            yield RowHashes(keys, tuple(hashlib.md5(key.encode()).digest() for key in keys))


@dataclass(eq=False)
class Laptop:
    """One laptop with a folder of its own. ``serve`` gives its peer server, ``client`` what talks to others."""

    name: str
    home: Home
    store: Store
    shelf: Shelf

    @property
    def node_id(self) -> str:
        return self.store.identity().node_id

    def serve(self, port: int = 0, limits: ServerLimits = QUICK_SERVER) -> PeerServer:
        return PeerServer(self.store, self.shelf, host="127.0.0.1", port=port, limits=limits)

    def directory(self, *ports: int, limits: ClientLimits = QUICK_CLIENT) -> Directory:
        places = [Address("127.0.0.1", port) for port in ports]
        return Directory(self.store, state=self.home.state / "peers.json", manual=places, limits=limits)

    def client(self, *ports: int, limits: ClientLimits = QUICK_CLIENT) -> PeerClient:
        return PeerClient(self.directory(*ports, limits=limits))

    def bundle(self, size: int = 300_000, kind: Kind = Kind.BUSINESS, seed: int | None = None) -> Path:
        """A sealed bundle of about ``size`` bytes of rows that do not compress; equal seeds make equal rows."""
        return write_bundle(self, size, kind, random.Random(seed))


def make_laptop(folder: Path, name: str) -> Laptop:
    """A laptop with an identity, in no shop yet."""
    home = Home(folder / name).ensure()
    store = Store(home.path)
    store.load_or_create_identity(name)
    return Laptop(name, home, store, Shelf(store, home))


def make_shop(folder: Path, names: Sequence[str], shop: str = "Corner Shop") -> list[Laptop]:
    """Laptops of one shop; the first is its admin."""
    laptops = [make_laptop(folder, name) for name in names]
    laptops[0].store.create_shop(shop)
    for laptop in laptops[1:]:
        admit(laptops[0], laptop)
    for laptop in laptops[1:]:
        laptop.store.save_roster(laptops[0].store.signed_roster().encode())
    return laptops


def admit(admin: Laptop, joiner: Laptop, role: Role = Role.MEMBER) -> None:
    """Make a laptop part of the admin's shop, without the joining protocol."""
    joiner.store.join_result(admin.store.issue(joiner.name, joiner.store.identity().public_key, role))


def write_bundle(laptop: Laptop, size: int, kind: Kind, chance: random.Random) -> Path:
    identity = laptop.store.identity()
    block = 100_000
    count = max(1, size // block)
    row = 50
    per_block = block // row
    columns = (ColumnEntry("id", "text"),)
    try:
        shop = laptop.store.require_shop()
        shop_id, shop_name = shop.shop_id, shop.shop_name
    except TrustError:
        shop_id = shop_name = None  # type: ignore[assignment]
    manifest = Manifest(
        version=1,
        bundle_id=uuid.uuid4().hex,
        kind=kind,
        shop_id=shop_id,
        shop_name=shop_name,
        source_node=identity.node_id,
        source_device=identity.name,
        target_node=None,
        business=BusinessRef("b1", "Restaurant ABC") if kind is Kind.BUSINESS else None,
        created=datetime.now(UTC),
        created_by="test",
        options=Options(),
        schema_fingerprint="0" * 64,
        server_version="15.0",
        tables=(TableEntry("orders", Section.BUSINESS, columns, ("id",), count * per_block),),
    )
    writer = BundleWriter(manifest)
    path = laptop.home.path / f"{manifest.bundle_id}.made"
    with path.open("wb") as file:
        file.write(writer.header())
        for _ in range(count):
            rows = b"".join(chance.randbytes(24).hex().encode() + b"x\n" for _ in range(per_block))
            file.write(writer.frame(encode_frame(0, per_block, rows, compress=False)))
        file.write(writer.seal(identity.sign, identity.certificate))
    return path
