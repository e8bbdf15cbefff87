"""What a device of the shop may not do with a bundle: hand on, misdirect, outdate, flood, or name files by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.archive.history import History
from agent.archive.records import BackupRecord
from agent.config import change
from agent.home import Home
from agent.operations.attending import Attending
from agent.operations.judging import MOST_SPOOLED
from agent.operations.workspace import Workspace, utc_now
from agent.peers.handler import Accept, Decision, IncomingOffer, Peer, Refuse
from certs.roster import Role
from protocol.manifest import BusinessRef, ColumnEntry, Kind, Manifest, Options, Section, TableEntry
from tests.support.agents import Laptop, Shops

Change = Callable[[IncomingOffer], IncomingOffer]


def an_offer(here: Laptop, there: Laptop) -> IncomingOffer:
    """An offer of ``there`` that ``here`` takes."""
    shop = here.store.require_shop()
    manifest = Manifest(
        version=1,
        bundle_id="b" * 32,
        kind=Kind.BUSINESS,
        shop_id=shop.shop_id,
        shop_name=shop.shop_name,
        source_node=there.node_id,
        source_device=there.name,
        target_node=here.node_id,
        business=BusinessRef("b1", "Restaurant ABC"),
        created=utc_now(),
        created_by="test",
        options=Options(),
        schema_fingerprint="0" * 64,
        server_version="15.0",
        tables=(TableEntry("orders", Section.BUSINESS, (ColumnEntry("id", "text"),), ("id",), 1),),
    )
    return IncomingOffer("t-abc", manifest, 1000, None, "newer")


def changed(**fields: object) -> Change:
    return lambda offer: replace(offer, manifest=replace(offer.manifest, **fields))  # type: ignore[arg-type]


def decide(here: Laptop, there: Laptop, *changes: Change, before: BackupRecord | None = None) -> Decision:
    """What the laptop answers to an offer that was changed."""
    offer = an_offer(here, there)
    for each in changes:
        offer = each(offer)

    async def ask() -> Decision:
        workspace = Workspace(Home(here.home))
        async with History.open(workspace.home) as history:
            if before is not None:
                await history.add_backup(before)
            attending = Attending(workspace, history)
            await attending.tidy()
            try:
                return await attending.offer(Peer(there.node_id, there.name, Role.MEMBER, ""), offer)
            finally:
                await attending.close()

    return asyncio.run(ask())


@pytest.fixture
def two(shops: Shops) -> tuple[Laptop, Laptop]:
    here, there = shops.laptop("laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(here, there)
    return here, there


def test_offers(two: tuple[Laptop, Laptop]) -> None:
    here, there = two
    assert isinstance(decide(here, there), Accept)
    assert isinstance(decide(here, there, changed(target_node=None)), Accept)
    now = utc_now()
    cases: dict[str, Change] = {
        "wrong-source": changed(source_node=here.node_id),
        "wrong-target": changed(target_node=there.node_id),
        "wrong-shop": changed(shop_id="shop-elsewhere"),
        "clock": changed(created=now + timedelta(hours=2)),
        "too-old": changed(created=now - timedelta(days=8)),
        "kind-refused": changed(kind=Kind.FULL, business=None),
        "mode-refused": lambda offer: replace(offer, mode="local"),
        "device-quota": lambda offer: replace(offer, size=110_000_000_000),
    }
    for code, change_it in cases.items():
        answer = decide(here, there, change_it)
        assert isinstance(answer, Refuse), code
        assert answer.problem.code == code
        assert answer.problem.message
        assert answer.problem.hint


def test_a_bundle_names_no_file(two: tuple[Laptop, Laptop]) -> None:
    here, there = two
    for number, name in enumerate(("../../etc/cron", "C:\\x", "..", "a/b", "nul", "x" * 100)):
        transfer = f"t-{number}"

        def named(offer: IncomingOffer, transfer: str = transfer) -> IncomingOffer:
            return replace(offer, transfer_id=transfer)

        answer = decide(here, there, changed(bundle_id=name), named)
        assert isinstance(answer, Accept)
        assert answer.part.path == here.home / "spool" / f"{transfer}.part"
    assert not list(here.home.rglob("cron*"))


def test_a_device_has_its_share_of_the_archive_and_no_more(two: tuple[Laptop, Laptop]) -> None:
    here, there = two
    change(Home(here.home), device_quota=0.5)
    kept = BackupRecord(
        id="x",
        filename="x.bundle",
        path="business/x.bundle",
        kind="business-specific",
        created_at=utc_now(),
        created_by="",
        source_node=there.node_id,
        source_device=there.name,
        size=499_999_500,
        raw_size=1,
        records=1,
        tables=1,
        checksum="",
        origin="received",
    )
    answer = decide(here, there, before=kept)
    assert isinstance(answer, Refuse)
    assert answer.problem.code == "device-quota"
    change(Home(here.home), device_quota=0.6)
    assert isinstance(decide(here, there), Accept)


def test_what_lies_in_the_spool_has_its_bound(two: tuple[Laptop, Laptop]) -> None:
    here, there = two
    change(Home(here.home), device_quota=10_000.0)
    answer = decide(here, there, lambda offer: replace(offer, size=MOST_SPOOLED + 1))
    assert isinstance(answer, Refuse)
    assert answer.problem.code == "spool-full"
    assert "backroom transfers" in answer.problem.hint
