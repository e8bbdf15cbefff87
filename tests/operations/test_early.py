"""Large pushes are read into the database while they come: the same as afterwards, and nothing where they break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent.config import change
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.home import Home
from agent.operations import early
from agent.operations.arriving import Arriving
from agent.operations.receive import Reception
from agent.operations.workspace import Workspace
from agent.peers.handler import Accept, Arrived, IncomingOffer, Peer
from certs.identity import verify_signature
from certs.roster import Limits, Roster
from protocol.messages import Receipt
from tests.engine.test_restore_loading import load_from
from tests.support.agents import Laptop, Shops, ended, wait_until

BUSINESS = "Restaurant ABC"
_RESTORING = """
SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""


class Coming:
    """A bundle of the office on its way to a laptop, as its receiver hands it over: piece by piece."""

    def __init__(self, laptop: Laptop, office: Laptop, bundle: VerifiedBundle, reception: Reception) -> None:
        self.laptop = laptop
        self.bundle = bundle
        self.reception = reception
        self.peer = Peer.of(office.store.roster().require(office.node_id), "127.0.0.1")
        self.offer = IncomingOffer("a-transfer", bundle.manifest, bundle.size, None, "newer")
        self.phases: list[str] = []

    async def accepted(self) -> Arriving:
        decision = await self.reception.offer(self.peer, self.offer)
        assert isinstance(decision, Accept)
        assert isinstance(decision.part, Arriving)
        await decision.part.__aenter__()
        return decision.part

    async def send(self, part: Arriving, share: float) -> None:
        """Write up to that share of the bundle, in pieces that are on the disk at once."""
        data = self.bundle.path.read_bytes()[: int(self.bundle.size * share)]
        while part.offset < len(data):
            await part.write(data[part.offset : part.offset + 20_000])

    async def apply(self, part: Arriving) -> Receipt:
        await part.sync()
        arrived = Arrived(self.bundle.seal, self.bundle.signer)
        signed = await self.reception.apply(
            self.peer, self.offer, part, arrived, lambda phase, *_: self.phases.append(phase)
        )
        return Receipt.decode(signed.body)

    async def restoring(self, *, wanted: bool) -> None:
        """Wait until a restore is under way in the database, or none."""
        async with self.laptop.database.connect(admin=True) as connection:
            async with asyncio.timeout(20):
                while bool(await connection.fetch(_RESTORING)) is not wanted:
                    await asyncio.sleep(0.02)


@pytest.fixture
def office(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    monkeypatch.setattr(early, "LEAST_ROWS", 1)
    monkeypatch.setattr(early, "SOON_SECONDS", 3600.0)
    monkeypatch.setattr("agent.archive.incoming.BUFFER", 1)
    return shops.laptop("laptop-office-001", "shop")


@pytest.fixture
def sales(shops: Shops, office: Laptop) -> Laptop:
    sales = shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    return sales


@pytest.fixture
def both(shops: Shops, office: Laptop) -> tuple[Laptop, Laptop]:
    sales, there = shops.laptop("laptop-sales-002"), shops.laptop("laptop-other-003")
    shops.shop(office, sales, there)
    return sales, there


@pytest.fixture
def bundle(office: Laptop) -> VerifiedBundle:
    made = office.do("backup", "--business", BUSINESS, "--no-compress")
    return asyncio.run(verify_bundle(Path(made["file"]), verify_signature))


@asynccontextmanager
async def coming(sales: Laptop, office: Laptop, bundle: VerifiedBundle) -> AsyncIterator[Coming]:
    workspace = Workspace(Home(sales.home))
    async with workspace.history() as history:
        reception = Reception(workspace, history)
        try:
            yield Coming(sales, office, bundle, reception)
        finally:
            await reception.close()


async def off_loop(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "staged"])
async def test_what_comes_of_it_is_what_comes_of_it_afterwards(
    office: Laptop,
    both: tuple[Laptop, Laptop],
    bundle: VerifiedBundle,
    loaded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The receipt, the plan, the rows, the history and the undo."""
    sales, there = both
    load_from(monkeypatch, 1 if loaded else 1 << 40)
    empty = await off_loop(sales.digest)
    async with coming(sales, office, bundle) as push:
        part = await push.accepted()
        await push.send(part, 0.6)
        await push.restoring(wanted=True)
        assert loaded or await off_loop(sales.digest) == empty
        assert (await off_loop(sales.history))["restores"] == []
        await push.send(part, 1.0)
        receipt = await push.apply(part)
        await part.close()
        assert "queued" not in push.phases

        monkeypatch.setattr(early, "LEAST_ROWS", 1 << 40)
    async with coming(there, office, bundle) as plain:
        part = await plain.accepted()
        assert part.follower is None
        await plain.send(part, 1.0)
        afterwards = await plain.apply(part)
        await part.close()
    assert receipt.outcome == "applied"
    assert receipt.totals == afterwards.totals
    assert receipt.tables == afterwards.tables
    rows, others = await off_loop(sales.digest), await off_loop(there.digest)
    assert {name: rows[name] for name in receipt.tables} == {name: others[name] for name in receipt.tables}
    one, other = [(await off_loop(each.history))["restores"] for each in (sales, there)]
    assert len(one) == len(other) == 1
    same = ("state", "mode", "kind", "counts", "plan_digest", "approver", "business_id", "source_node", "transfer_id")
    assert {name: one[0][name] for name in same} == {name: other[0][name] for name in same}
    assert one[0]["transaction"]
    assert one[0]["undo_path"]
    assert await off_loop(lambda: sales.files("spool")) == []
    await off_loop(lambda: sales.do("undo", one[0]["id"], "--yes"))
    assert await off_loop(sales.digest) == empty


async def breaks_off(push: Coming, part: Arriving) -> None:
    await part.close()


async def is_damaged(push: Coming, part: Arriving) -> None:
    await part.discard()


async def is_too_slow(push: Coming, part: Arriving) -> None:
    """What it waits for comes only after its time; the upload itself goes on."""


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "staged"])
@pytest.mark.parametrize("ends", [breaks_off, is_damaged, is_too_slow])
async def test_a_bundle_that_comes_no_further_leaves_nothing(
    office: Laptop,
    sales: Laptop,
    bundle: VerifiedBundle,
    ends: Callable[[Coming, Arriving], Awaitable[None]],
    loaded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_from(monkeypatch, 1 if loaded else 1 << 40)
    before = await off_loop(sales.digest)
    if ends is is_too_slow:
        monkeypatch.setattr(early, "LONGEST_SECONDS", 0.5)
    async with coming(sales, office, bundle) as push:
        part = await push.accepted()
        with structlog.testing.capture_logs() as logged:
            await push.send(part, 0.5)
            if ends is not is_too_slow:
                await push.restoring(wanted=True)
            await ends(push, part)
            async with asyncio.timeout(20):
                while [each["event"] for each in logged][-1] != "restore given up for now":
                    await asyncio.sleep(0.02)
        await push.restoring(wanted=False)
        assert await off_loop(sales.digest) == before
        assert (await off_loop(sales.history))["restores"] == []
        if ends is not is_too_slow:
            part = await push.accepted()
            assert bool(part.offset) is (ends is breaks_off)
        await push.send(part, 1.0)
        receipt = await push.apply(part)
        await part.close()
    assert receipt.outcome == "applied"
    restores = (await off_loop(sales.history))["restores"]
    assert [each["state"] for each in restores] == ["applied"]


async def test_a_right_that_is_taken_away_while_it_comes(office: Laptop, sales: Laptop, bundle: VerifiedBundle) -> None:
    """It is asked for again when all is there: what was read by then is rolled back."""
    before = await off_loop(sales.digest)
    async with coming(sales, office, bundle) as push:
        part = await push.accepted()
        await push.send(part, 0.8)
        await push.restoring(wanted=True)
        roster = office.store.roster()
        nothing = Limits(frozenset(), frozenset(), frozenset())
        members = tuple(replace(each, limits=nothing) for each in roster.members)
        narrower = Roster(roster.shop_id, roster.shop_name, roster.version + 1, roster.issued, members)
        sales.store.save_roster(office.store.require_authority().sign_roster(narrower).encode())
        await push.send(part, 1.0)
        receipt = await push.apply(part)
        await part.close()
        await push.restoring(wanted=False)
    assert receipt.outcome == "refused"
    assert await off_loop(sales.digest) == before
    assert (await off_loop(sales.history))["restores"] == []


async def test_what_is_wrong_with_the_rows_is_said_once(office: Laptop, sales: Laptop, bundle: VerifiedBundle) -> None:
    """A restore that fails after all of it came is in the history, with its reason, like any other."""
    await off_loop(lambda: sales.execute("ALTER TABLE business_orders ADD CONSTRAINT few CHECK (id = 'none')"))
    before = await off_loop(sales.digest)
    async with coming(sales, office, bundle) as push:
        part = await push.accepted()
        await push.send(part, 0.6)
        await push.restoring(wanted=True)
        await push.send(part, 1.0)
        with pytest.raises(Exception, match="few"):
            await push.apply(part)
        await part.close()
    history = await off_loop(sales.history)
    assert [(each["state"], each["error_code"]) for each in history["restores"]] == [("failed", "rows-refused")]
    assert [each["state"] for each in history["transfers"]] == ["failed"]
    assert await off_loop(sales.digest) == before


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "left alone"])
def test_between_two_laptops(shops: Shops, killed: bool) -> None:
    """As users have it; where the receiver dies while rows are read, the push goes on once it is back."""
    office = shops.laptop("laptop-office-001", shops.large_database(2_000))
    sales = shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    change(Home(office.home), bandwidth_limit=1.2)
    before = sales.digest()
    with sales.running() as agent:
        office.knows(agent.port)
        push = office.start("push", BUSINESS, sales.name, "--no-compress")
        agent.wait_for("restore begins")
        if killed:
            wait_until(lambda: sales.query(_RESTORING), what="the restore")
            agent.kill()
            assert sales.digest() == before
        else:
            answer = ended(push)
    if killed:
        change(Home(sales.home), port=agent.port)
        with sales.running():
            answer = ended(push)
    assert answer.code == 0, answer
    assert answer.value["outcome"] == "applied"
    history = sales.history()
    assert [each["state"] for each in history["restores"]] == ["applied"]
    assert [each["state"] for each in history["transfers"]] == ["done"]
    assert "restore given up" not in sales.logs()
