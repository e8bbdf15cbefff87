"""A recovery kit taken on the page: on a new computer in set-up, and on a laptop that is somebody already."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent.config import load
from agent.home import Home
from tests.browser.conftest import Reader, apart, check_accessible
from tests.browser.test_setup_page import New, choose_database, look, new
from tests.support.agents import Laptop

__all__ = ["new"]

pytestmark = pytest.mark.timeout(300)
PASSPHRASE = "correct horse battery"
OFFICE = "laptop-office-001"


def kit_of(laptop: Laptop, folder: Path) -> Path:
    """The laptop's kit, made with the command."""
    words, kit = folder / "words", folder / f"{laptop.name}.kit"
    words.write_text(f"{PASSPHRASE}\n")
    apart(lambda: laptop.do("identity", "export", str(kit), "--passphrase-file", str(words)))
    return kit


def open_kit(page: Page, kit: Path, words: str) -> None:
    page.get_by_label("Drop the recovery kit here").set_input_files(kit)
    page.get_by_label("Passphrase").fill(words)
    page.get_by_role("button", name="Open the kit").click()


def test_a_new_computer_becomes_the_laptop_of_the_kit(new: New, reader: Reader, tmp_path: Path) -> None:
    office = new.known(OFFICE, "device")
    new.shops.shop(office, name="Front")
    kit = kit_of(office, tmp_path)
    fresh = new.laptop("laptop-repaired", "device")
    page = reader.visit(new.opened(fresh))
    choose_database(page, fresh)
    page.get_by_role("link", name="Use a recovery kit").click()
    look(page)
    open_kit(page, kit, "not the passphrase")
    expect(page.get_by_role("alert").get_by_text("passphrase")).to_be_visible()
    reader.complaints.clear()  # the refusal's own status
    open_kit(page, kit, PASSPHRASE)
    inside = page.get_by_role("region", name=f"What is in {kit.name}")
    for words in (f"{OFFICE} ({office.store.identity().short_id})", "Front", "authority", "sealed backups"):
        expect(inside).to_contain_text(words)
    before = fresh.store.identity()
    expect(inside).to_contain_text(f"This laptop has an identity of its own now, {before.short_id}")
    expect(inside).to_contain_text("Never use one kit on two laptops")
    assert PASSPHRASE not in page.content()
    look(page)

    # Nothing is replaced before the name is typed.
    page.get_by_label("To go on, type the name").fill(fresh.name)
    page.get_by_role("button", name=f"Be {OFFICE} again").click()
    expect(page.get_by_text(f"The name that you typed is not “{OFFICE}”")).to_be_visible()
    reader.complaints.clear()
    assert fresh.store.identity().node_id == before.node_id
    page.get_by_role("link", name="Back", exact=True).click()
    page.get_by_label("To go on, type the name").fill(OFFICE)
    page.get_by_role("button", name=f"Be {OFFICE} again").click()
    expect(page.get_by_text(f"This laptop is {OFFICE} ({office.store.identity().short_id}) again")).to_be_visible()
    expect(page.get_by_text("The keys of its sealed backups are back")).to_be_visible()
    check_accessible(page)
    assert fresh.node_id == office.node_id
    assert fresh.store.require_shop().holds_authority
    assert load(Home(fresh.home), {}).name == OFFICE
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery kit")

    # The same kit again takes nothing away, so no name is asked for.
    page.goto(page.url.partition("/page")[0] + "/page/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Front")
    expect(page.get_by_role("columnheader", name=OFFICE)).to_be_visible()
    page.goto(page.url + "kit")
    page.get_by_role("link", name="Use a recovery kit").click()
    open_kit(page, kit, PASSPHRASE)
    expect(page.get_by_text(f"This laptop is {OFFICE} already.")).to_be_visible()
    look(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Open the kit")).to_be_visible()
