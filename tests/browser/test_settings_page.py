"""Settings and health on the page: two laptops of one shop, the first of which keeps its authority."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from certs.roster import Right, Role
from tests.browser.conftest import Reader, Stage, apart, check_accessible, check_fits

pytestmark = pytest.mark.timeout(400)
ABC = "Restaurant ABC"
HOSTILE = "<img src=x onerror='window.hacked=1'> {{ 7*7 }}"


@pytest.fixture(scope="module")
def page(stage: Stage) -> Page:
    return stage.reader.open(stage.office)


def visit(page: Page, name: str) -> None:
    """A page of settings, by its tile."""
    page.get_by_role("navigation").get_by_role("link", name="Settings").click()
    page.locator(".tiles").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def look(page: Page) -> None:
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 780})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})


def test_the_schedule_is_added_to_run_and_switched_off(stage: Stage, page: Page) -> None:
    visit(page, "Schedule")
    expect(page.get_by_text("Nothing is scheduled.")).to_be_visible()
    look(page)
    page.get_by_label("Name").fill("abc")
    page.get_by_label("What").select_option("backup")
    page.get_by_label("Kind").select_option("business")
    page.get_by_label("Business").select_option(label=ABC)
    page.get_by_label("At", exact=True).fill("03:15")
    page.get_by_role("button", name="Add").click()
    line = page.locator("li", has_text="abc")
    expect(line).to_contain_text("not done yet")
    expect(line).to_contain_text("03:15")
    page.get_by_role("button", name="Run now: abc").click()
    expect(page.get_by_text(re.compile(r"\d+ rows, \d+ bytes"))).to_be_visible(timeout=60_000)
    visit(page, "Schedule")
    expect(line).to_contain_text("last done just now")
    page.get_by_role("button", name="Switch off abc").click()
    expect(line.locator(".tag")).to_have_text("off")
    listed = apart(lambda: stage.office.do("schedule", "list"))
    assert [(each["name"], each["off"], each["next"]) for each in listed] == [("abc", True, None)]
    look(page)
    page.get_by_role("button", name="Switch on abc").click()
    expect(line).to_contain_text("next")
    page.get_by_role("button", name="Remove abc").click()
    expect(page.get_by_text("Nothing is scheduled.")).to_be_visible()


def test_health_shows_findings_numbers_and_the_log(stage: Stage, page: Page) -> None:
    for _ in range(2):
        apart(lambda: stage.office.do("backup", "--full"))
    visit(page, "Health")
    expect(page.get_by_text("Looked at: agent, disk, database")).to_be_visible(timeout=40_000)
    chart = page.get_by_role("img", name=re.compile(r"^Size of a backup: Full: \d+ values between .* and "))
    expect(chart).to_be_visible()
    assert len(str(chart.locator("polyline").get_attribute("points")).split()) >= 2
    expect(page.locator("dt", has_text=re.compile("^backup$")).locator("xpath=following-sibling::dd[1]")).to_have_text(
        "just now"
    )
    look(page)


def test_tables_are_listed_by_class(stage: Stage, page: Page) -> None:
    visit(page, "Tables")
    page.get_by_text("Business data").click()
    expect(page.locator("tr", has_text="business_products").first).to_contain_text("Backroom’s list")
    look(page)


def test_a_place_is_added_tested_and_removed(stage: Stage, page: Page) -> None:
    target = stage.office.home.parent / "elsewhere"
    target.mkdir()
    visit(page, "Deliveries")
    look(page)
    page.get_by_label("Name").fill("stick")
    page.get_by_label("What is there").select_option("email")
    expect(page.get_by_label("Folder", exact=True)).to_be_hidden()
    expect(page.get_by_label("Password")).to_be_visible()
    page.get_by_label("What is there").select_option("folder")
    page.get_by_label("Folder", exact=True).fill(str(target))
    page.get_by_role("button", name="Add a place").click()
    page.get_by_role("button", name="Test stick").click()
    expect(page.get_by_text("It works.")).to_be_visible()
    visit(page, "Deliveries")
    page.locator("summary", has_text="Add a place").click()
    page.get_by_label("Name").fill("nas")
    page.get_by_label("What is there").select_option("smb")
    page.get_by_label("Address").fill("smb://nas.invalid/backups")
    page.get_by_label("Password").fill("s3cr3t-of-nas")
    page.get_by_role("button", name="Add a place").click()
    expect(page.locator("li", has_text="nas")).to_be_visible()
    assert "s3cr3t-of-nas" not in page.content()
    assert "s3cr3t-of-nas" in (stage.office.home / "config.toml").read_text()
    look(page)
    for name in ("nas", "stick"):
        page.get_by_role("button", name=f"Remove {name}").click()
    expect(page.get_by_text("There is no place yet.")).to_be_visible()


def test_rules_for_keeping_are_changed_and_checked(stage: Stage, page: Page) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Settings").click()
    look(page)
    page.get_by_label("Full", exact=True).fill("9d 2w")
    page.get_by_role("button", name="Keep to these rules").click()
    expect(page.get_by_label("Full", exact=True)).to_have_value("9d 2w")
    assert 'full = "9d 2w"' in (stage.office.home / "config.toml").read_text()
    page.get_by_label("Full", exact=True).fill("w w")
    page.get_by_role("button", name="Keep to these rules").click()
    expect(page.get_by_text("must be a rule such as")).to_be_visible()
    stage.reader.complaints.clear()  # the refusal's own status
    page.get_by_role("link", name="Back", exact=True).click()
    expect(page.get_by_label("Full", exact=True)).to_have_value("9d 2w")


def test_an_admin_limits_a_laptop_and_shuts_it_out(stage: Stage, page: Page) -> None:
    member = stage.office.store.roster().find("laptop-kitchen-002")
    visit(page, "Laptops of the shop")
    look(page)
    card = page.locator(f"section[aria-labelledby='laptop-{member.node_id}']")
    card.get_by_text("Change", exact=True).click()
    card.get_by_label("What is the new laptop?").select_option("admin")
    card.get_by_label("Label").fill(HOSTILE)
    takes = card.get_by_role("group", name="May receive and pull")
    takes.get_by_label("Only these").check()
    takes.get_by_label(ABC).check()
    look(page)
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text(f"admin · {HOSTILE}")
    assert page.evaluate("window.hacked") is None
    changed = stage.office.store.roster().require(member.node_id)
    known = apart(lambda: stage.office.query("SELECT id FROM businesses WHERE name = $1", ABC))[0][0]
    assert (changed.role, changed.limits.of(Right.TAKE)) == (Role.ADMIN, frozenset({str(known)}))
    assert changed.limits.of(Right.OFFER) is None
    shared(stage, page, card)
    card.get_by_text("Shut out", exact=True).click()
    card.get_by_label("To go on, type its name").fill("laptop-office-001")
    card.get_by_role("button", name="Shut laptop-kitchen-002 out").click()
    expect(page.get_by_text("The name that you typed is not")).to_be_visible()
    stage.reader.complaints.clear()
    page.get_by_role("link", name="Back", exact=True).click()
    card.get_by_text("Shut out", exact=True).click()
    card.get_by_label("To go on, type its name").fill("laptop-kitchen-002")
    card.get_by_role("button", name="Shut laptop-kitchen-002 out").click()
    expect(card.locator(".tag.bad")).to_have_text("shut out")
    assert not stage.office.store.roster().trusts(member.node_id)


def shared(stage: Stage, page: Page, card: Locator) -> None:
    """The second admin gets the authority, and opens it with the passphrase."""
    words = "two small donkeys"
    card.get_by_text("Share the authority").click()
    card.get_by_label("Passphrase").fill(words)
    card.get_by_label("The same again").fill(words)
    card.get_by_role("button", name="Send it to laptop-kitchen-002").click()
    expect(page.get_by_text("The authority is on laptop-kitchen-002, sealed.").first).to_be_visible()
    other = stage.reader.open(stage.kitchen)
    visit(other, "Laptops of the shop")
    look(other)
    other.get_by_label("Passphrase").fill(words)
    other.get_by_role("button", name="Open and keep it").click()
    expect(other.get_by_role("link", name="Invite a laptop")).to_be_visible()
    assert stage.kitchen.store.require_shop().holds_authority
    visit(page, "Laptops of the shop")


def test_an_assistant_sees_and_pushes_and_nothing_else(stage: Stage, reader: Reader) -> None:
    apart(lambda: stage.office.do("backup", "--full"))
    page = reader.visit(apart(lambda: stage.office.do("open", "--assistant"))["link"])
    expect(page.get_by_role("heading", level=1)).to_have_text("Corner Shops")
    page.get_by_role("navigation").get_by_role("link", name="Backups").click()
    expect(page.get_by_text("Make a backup")).to_have_count(0)
    page.locator("#found").get_by_role("link", name="Full").first.click()
    for words in ("Restore", "Download", "Check the file"):
        expect(page.get_by_text(words)).to_have_count(0)
    page.get_by_role("navigation").get_by_role("link", name="Settings").click()
    expect(page.locator(".tiles")).to_have_count(0)
    page.goto(page.url.partition("/page")[0] + "/page/schedule")
    expect(page.get_by_text("That is for an admin of this laptop")).to_be_visible()
    check_accessible(page)
    reader.complaints.clear()
