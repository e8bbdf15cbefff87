"""A shop that has grown: fifty laptops, ten thousand backups and as much activity, and names as long as they may be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from agent.archive.history import History
from agent.archive.records import APPLIED, DONE, REFUSED, RestoreRecord, TransferRecord
from agent.archive.sql import backups, restores, transfers
from agent.config import change
from agent.home import Home
from agent.operations.workspace import utc_now
from certs.identity import Identity
from certs.roster import Role
from tests.browser.conftest import Reader, apart, check_accessible, check_fits
from tests.support.agents import Laptop, Shops

LONG = "W" * 60
BUSINESS = "Ristorante-" + "x" * 400
OTHERS = 49
ROWS = 10_000

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def office(module_shops: Shops, reader: Reader) -> Iterator[Laptop]:
    """One laptop of fifty; the others are in the roster and never answer."""

    def make() -> Laptop:
        laptop = module_shops.laptop(f"laptop-{LONG[:40]}", "shop")
        module_shops.shop(laptop)
        for number in range(OTHERS):
            name = f"laptop-{number:02}-{LONG}"[:63]
            laptop.store.issue(name, Identity.create(name, utc_now()).public_key, Role.MEMBER)
        laptop.do("backup", "--business", "Restaurant ABC")
        asyncio.run(_fill(laptop))
        laptop.query("UPDATE businesses SET name = $1 WHERE name = 'Restaurant ABC' RETURNING 1", BUSINESS)
        change(Home(laptop.home), web_port=0, alerts={"desktop": False})
        return laptop

    laptop = apart(make)
    with laptop.running():
        yield laptop


async def _fill(laptop: Laptop) -> None:
    async with History.open(Home(laptop.home)) as history:
        (one,) = await history.backups()
        many = [
            replace(one, id=f"id-{n:05}", business_name=BUSINESS, created_at=one.created_at - timedelta(minutes=n))
            for n in range(ROWS)
        ]
        many[0] = replace(many[0], size=500_000_000, created_at=one.created_at + timedelta(minutes=1))
        inserts = [backups.insert(each) for each in many]
        for n in range(ROWS):
            # One in a thousand did not go well.
            state, why = (REFUSED, "Declined by Mr Gupta.") if n % 1000 == 7 else ("", "")
            about = {"kind": one.kind, "started_at": one.created_at - timedelta(minutes=n), "business_name": BUSINESS}
            restored = RestoreRecord(f"r-{n:05}", one.id, one.path, mode="newer", state=state or APPLIED, **about)
            sent = TransferRecord(
                f"t-{n:05}", "sent", "push", peer_node="n", peer_name=LONG, state=state or DONE, **about
            )
            inserts += [restores.insert(replace(restored, error=why)), transfers.insert(replace(sent, error=why))]
        await history._database.run(lambda connection: [connection.execute(each) for each in inserts], write=True)


def test_fifty_laptops_and_ten_thousand_backups(office: Laptop, reader: Reader) -> None:
    page = reader.open(office)
    expect(page.locator("thead th")).to_have_count(2 + OTHERS)
    expect(page.locator("tbody th", has_text="Ristorante")).to_have_text(BUSINESS)
    everywhere(page)
    page.goto(f"{page.url.rstrip('/')}/backups")
    expect(page.locator("#found tbody tr")).to_have_count(50)
    page.get_by_label("Search").fill("ristorante")
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="Newer")).to_be_visible()
    everywhere(page)
    page.locator("#found").get_by_role("link", name="Ristorante").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(BUSINESS)
    everywhere(page)


def test_ten_thousand_restores_and_transfers_are_paged_searched_and_filtered(office: Laptop, reader: Reader) -> None:
    page = reader.open(office)
    page.goto(f"{page.url.rstrip('/')}/activity")
    restored, sent = (page.locator("#found section").nth(each) for each in (0, 1))
    expect(restored.locator("li")).to_have_count(30)
    expect(sent.locator("li")).to_have_count(30)
    everywhere(page)
    sent.get_by_role("link", name="Older").click()
    sent.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="What went over the network: Newer")).to_be_visible()
    # Each list turns its own pages.
    expect(page.get_by_role("link", name="What changed this laptop: Newer")).to_have_count(0)
    assert "transfers=2" in page.url
    page.get_by_label("How it went").select_option("wrong")
    expect(restored.locator("li")).to_have_count(10)
    expect(sent.locator("li")).to_have_count(10)
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    page.get_by_label("Search").fill("gupta RISTORANTE")
    expect(sent.locator("li")).to_have_count(10)
    page.get_by_label("Search").fill("100%")
    expect(page.get_by_text("Nothing fits.").first).to_be_visible()
    page.get_by_label("Search").fill("")
    page.get_by_label("How it went").select_option("")
    expect(restored.locator("li")).to_have_count(30)
    everywhere(page)


def test_what_is_large_is_sent_to_be_looked_at_when_somebody_wants_it(office: Laptop, reader: Reader) -> None:
    page = reader.open(office)
    page.get_by_role("link", name=f"Push {BUSINESS} to laptop-00").click()
    expect(page.get_by_text("The last backup of it has 500")).to_be_visible()
    everywhere(page)
    page.get_by_role("button", name="Look what will change").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Stopped. What was not finished was put back.")).to_be_visible()


def everywhere(page: Page) -> None:
    """Nothing scrolls sideways but what has a bar of its own, wide or narrow, and axe finds nothing serious."""
    for width in (1200, 360):
        page.set_viewport_size({"width": width, "height": 850})
        check_fits(page)
    check_accessible(page)
    page.set_viewport_size({"width": 1200, "height": 850})
