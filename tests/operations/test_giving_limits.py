"""What a limited laptop is given: names and limits may become others while its backup is made."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.archive.history import History
from agent.database.businesses import NoSuchBusiness
from agent.engine.backup import BackupRequest
from agent.home import Home
from agent.operations import giving
from agent.operations.backups import make_backup
from agent.operations.giving import Giving, NoSuchBundle
from agent.operations.pulling import PullDone, pull
from agent.operations.receive import Reception
from agent.operations.rights import NotAllowed
from agent.operations.workspace import Workspace
from agent.peers.errors import Refused
from agent.peers.handler import Peer, Prepared
from agent.peers.server import PeerServer
from certs.roster import Limits
from protocol.manifest import Kind
from protocol.requests import CompareRequest, PullRequest
from tests.support.agents import NO_MDNS, Laptop, Shops

BUSINESS, OTHER = "Restaurant ABC", "Green Valley Grocery"
GONE = "business-that-is-not-here"
SWAP = f"""
UPDATE businesses SET name = CASE name WHEN '{BUSINESS}' THEN '{OTHER}' ELSE '{BUSINESS}' END
WHERE name IN ('{BUSINESS}', '{OTHER}')
"""
Pull = Callable[[str], Awaitable[PullDone]]


class Pair:
    """An office with the whole shop, and a laptop that may take one business of it."""

    def __init__(self, office: Laptop, sales: Laptop) -> None:
        self.office = office
        self.sales = sales
        named = dict(office.query("SELECT name, id FROM businesses"))
        self.business, self.other = str(named[BUSINESS]), str(named[OTHER])
        self.limit(self.business)
        sales.store.save_roster(office.store.signed_roster().encode())

    def limit(self, business: str) -> None:
        """Have the laptop take that business alone; it does not know of it yet."""
        self.office.store.change(self.sales.node_id, limits=Limits(take=frozenset({business})))

    @asynccontextmanager
    async def pulling(self) -> AsyncIterator[Pull]:
        """Pulls from the office over real TLS."""
        async with self.at_office() as (workspace, history):
            reception = Reception(workspace, history)
            async with PeerServer(workspace.store, reception, host="127.0.0.1") as server:
                self.sales.knows(server.port)

                async def pulled(business: str) -> PullDone:
                    there = Workspace(Home(self.sales.home))
                    async with there.history() as noted:
                        return await pull(there, noted, self.office.name, Kind.BUSINESS, business=business)

                yield pulled
            await reception.close()

    @asynccontextmanager
    async def at_office(self) -> AsyncIterator[tuple[Workspace, History]]:
        workspace = Workspace(Home(self.office.home))
        async with workspace.history() as history:
            yield workspace, history


@pytest.fixture
def pair(shops: Shops, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setenv("BACKROOM_LISTEN", NO_MDNS["BACKROOM_LISTEN"])
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    return Pair(office, sales)


async def test_names_that_change_places_give_no_other_business(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = giving.businesses

    async def renamed(workspace: Workspace) -> Any:
        found = await looked(workspace)
        await asyncio.to_thread(pair.office.execute, SWAP)
        return found

    monkeypatch.setattr(giving, "businesses", renamed)
    async with pair.pulling() as pulled:
        done = await pulled(BUSINESS)
    assert done.manifest.business is not None
    assert (done.manifest.business.id, done.manifest.business.name) == (pair.business, OTHER)
    (made,) = (await asyncio.to_thread(pair.office.history))["backups"]
    assert made["business_id"] == pair.business


async def test_a_backup_is_not_handed_out_where_the_limits_were_narrowed_meanwhile(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def narrowed(*arguments: Any, **options: Any) -> Any:
        made = await make_backup(*arguments, **options)
        pair.limit(pair.other)
        return made

    monkeypatch.setattr(giving, "make_backup", narrowed)
    async with pair.pulling() as pulled:
        with pytest.raises(Refused) as caught:
            await pulled(BUSINESS)
    assert caught.value.code == "not-allowed"
    assert BUSINESS in str(caught.value)
    noted = await asyncio.to_thread(pair.office.history)
    (transfer,), (made,) = noted["transfers"], noted["backups"]
    assert (transfer["state"], transfer["error_code"], transfer["bundle_id"]) == ("failed", "not-allowed", None)
    assert made["business_id"] == pair.business
    assert (pair.office.home / "archive" / made["path"]).is_file()
    assert [path for path in pair.sales.files("archive") if "bundle" in path.name] == []


async def test_a_bundle_is_handed_out_again_within_the_limits_of_then(pair: Pair) -> None:
    async with pair.at_office() as (workspace, history):
        gives = Giving(workspace, history)

        async def prepared(request: PullRequest) -> Prepared:
            peer = Peer.of(workspace.store.roster().require(pair.sales.node_id), "127.0.0.1")
            return await gives.prepare_pull(peer, request, lambda *_: None)

        made = await prepared(PullRequest("business-specific", BUSINESS))
        again = PullRequest("business-specific", bundle_id=made.bundle_id)
        assert await prepared(again) == made
        pair.limit(pair.other)
        with pytest.raises(NotAllowed):
            await prepared(again)
        pair.limit(pair.business)
        assert await prepared(again) == made
        # Its name is all that is left of it.
        other = await make_backup(workspace, history, BackupRequest(Kind.BUSINESS, pair.other))
        shutil.copy(other.file, made.path)
        with pytest.raises(NoSuchBundle):
            await prepared(again)


async def test_a_mistaken_name_tells_nothing_of_what_one_may_not_know_of(pair: Pair) -> None:
    only = frozenset({pair.business})
    pair.office.store.change(pair.sales.node_id, limits=Limits(offer=only, take=only))
    async with pair.pulling() as pulled:
        with pytest.raises(Refused) as caught:
            await pulled(OTHER[:-1])
    assert caught.value.code == "no-such-business"
    assert OTHER not in str(caught.value)
    assert pair.other not in str(caught.value)


async def test_a_comparison_is_of_the_business_with_that_id(pair: Pair) -> None:
    """Limits hold IDs: a business that is only called like one that may be compared is not answered for."""
    await asyncio.to_thread(pair.office.execute, f"UPDATE businesses SET name = '{GONE}' WHERE id = '{pair.other}'")
    pair.limit(GONE)
    async with pair.at_office() as (workspace, history):
        reception = Reception(workspace, history)
        peer = Peer.of(workspace.store.roster().require(pair.sales.node_id), "127.0.0.1")
        with pytest.raises(NoSuchBusiness):
            async for _ in reception.table_digests(peer, CompareRequest(GONE, {}, {}, "a-session")):
                pass
        await reception.close()
