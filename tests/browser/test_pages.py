"""The page as people use it: two laptops, two browsers, one shop."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import Locator, Page, expect

from agent.config import change
from agent.home import Home
from agent.sealing.age import new_identity
from tests.browser.conftest import Stage, apart, check_accessible, check_fits

ABC = "Restaurant ABC"

pytestmark = pytest.mark.timeout(400)


def cell(page: Page, business: str, column: int = 2) -> Locator:
    return page.locator("tr", has_text=business).locator("td").nth(column - 1)


def go(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()


def push(page: Page, business: str, device: str) -> None:
    go(page, "Laptops")
    page.get_by_role("link", name=f"Push {business} to {device}").click()


def business_id(stage: Stage) -> str:
    return str(apart(lambda: stage.office.query("SELECT id FROM businesses WHERE name = $1", ABC))[0][0])


def test_a_day_of_two_laptops(stage: Stage) -> None:
    """Each part goes on from the one before."""
    push_progress_receipt_and_undo_over_there(stage)
    a_push_that_replaces_waits_for_a_yes_over_there(stage)
    a_laptop_that_goes_and_comes_is_seen_by_itself(stage)


def push_progress_receipt_and_undo_over_there(stage: Stage) -> None:
    office, kitchen = stage.reader.open(stage.office), stage.reader.open(stage.kitchen, dark=True)
    expect(office.get_by_role("heading", level=1)).to_have_text("Corner Shops")
    expect(cell(office, ABC)).to_contain_text("Not there")
    expect(office.locator("thead")).to_contain_text("Online")
    expect(kitchen.locator("thead .mine")).to_contain_text("laptop-kitchen-002")
    check_accessible(office)
    check_accessible(kitchen)

    push(office, ABC, "laptop-kitchen-002")
    expect(office.get_by_text("is not on laptop-kitchen-002 yet")).to_be_visible()
    check_accessible(office)
    office.get_by_label("type its name").fill("laptop-other")
    office.get_by_role("button", name="Push to laptop-kitchen-002").click()
    expect(office.get_by_text("The name that you typed is not")).to_be_visible()
    stage.reader.complaints.clear()  # the refusal's own status
    office.go_back()
    office.get_by_label("type its name").fill("Laptop-Kitchen-002")
    office.get_by_role("button", name="Push to laptop-kitchen-002").click()
    expect(office.get_by_text("Restaurant ABC is on laptop-kitchen-002.")).to_be_visible(timeout=60_000)
    expect(office.get_by_text("signed this receipt")).to_be_visible()
    expect(office.get_by_text("Compared afterwards: identical on both laptops")).to_be_visible()
    expect(office.get_by_role("status")).to_contain_text("Done. Restaurant ABC is on laptop-kitchen-002.")
    check_accessible(office)

    # The other laptop's page shows it by itself.
    expect(kitchen.locator("tr", has_text=ABC)).to_be_visible()
    go(office, "Laptops")
    expect(cell(office, ABC)).to_contain_text("Identical")
    expect(cell(office, ABC)).to_contain_text("checked just now")

    go(kitchen, "Activity")
    expect(kitchen.get_by_text("Came from laptop-office-001")).to_be_visible()
    check_accessible(kitchen)
    kitchen.get_by_role("button", name="Take it back").click()
    expect(kitchen.get_by_text("inserted rows go")).to_be_visible()
    check_accessible(kitchen)
    kitchen.get_by_role("button", name="Take it back").click()
    expect(kitchen.get_by_text("Taken back in")).to_be_visible()
    assert apart(lambda: stage.kitchen.query("SELECT count(*) FROM businesses"))[0][0] == 0
    expect(cell(office, ABC)).to_contain_text("Not there", timeout=40_000)


def a_push_that_replaces_waits_for_a_yes_over_there(stage: Stage) -> None:
    office, kitchen = stage.reader.open(stage.office), stage.reader.open(stage.kitchen)
    push(office, ABC, "laptop-kitchen-002")
    office.get_by_role("button", name="Push to laptop-kitchen-002").click()
    expect(office.get_by_text("signed this receipt")).to_be_visible(timeout=60_000)
    renamed = "UPDATE business_products SET name = 'theirs', \"updatedAt\" = now()"
    newer = f"{renamed} WHERE \"businessId\" = '{business_id(stage)}'"
    apart(lambda: stage.kitchen.execute(newer))

    push(office, ABC, "laptop-kitchen-002")
    looked = office.locator(".figures > div", has_text="kept: newer over there")
    expect(looked.locator("dd")).not_to_have_text("0")
    check_accessible(office)
    office.get_by_label("My rows win over there").check()
    office.get_by_role("button", name="Push to laptop-kitchen-002").click()
    expect(office.get_by_text("Waiting for a yes over there").first).to_be_visible(timeout=30_000)
    expect(kitchen.get_by_text("1 waits for your yes")).to_be_visible()
    kitchen.get_by_role("link", name="Look at it").click()
    expect(kitchen.get_by_text("wants its rows of Restaurant ABC to replace those here")).to_be_visible()
    check_accessible(kitchen)
    kitchen.get_by_role("button", name="Approve").click()
    expect(kitchen.get_by_text("Nothing waits for you.")).to_be_visible()
    expect(office.get_by_text("Compared afterwards: identical")).to_be_visible(timeout=60_000)
    left = apart(lambda: stage.kitchen.query("SELECT count(*) FROM business_products WHERE name = 'theirs'"))
    assert left[0][0] == 0


def test_backup_search_details_restore_and_undo(stage: Stage) -> None:
    page = stage.reader.open(stage.office)
    go(page, "Backups")
    page.locator("details").first.evaluate("each => each.open = true")
    page.get_by_label("Everything that may go").check()
    expect(page.locator("#business")).to_be_hidden()
    page.get_by_label("One business").check()
    page.locator("#business").select_option(label=ABC)
    check_accessible(page)
    page.get_by_role("button", name="Back up").click()
    expect(page.get_by_text("The backup is made")).to_be_visible()
    go(page, "Backups")
    page.get_by_label("Search").fill("nothing has this name")
    expect(page.get_by_text("No backup fits.")).to_be_visible()
    page.get_by_label("Search").fill("office abc")
    page.locator("#found").get_by_role("link", name=ABC).first.click()
    apart(lambda: stage.office.do("keys", "add", new_identity()[1]))
    for link, suffix in (("Download, sealed", ".bundle.age"), ("Download unsealed", ".bundle")):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).click()
        assert download.value.suggested_filename.endswith(suffix)
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("The file is whole.")).to_be_visible()
    page.get_by_role("link", name="Back", exact=True).click()

    identity = business_id(stage)
    change = f"UPDATE business_products SET name = 'spoilt', \"updatedAt\" = now() WHERE \"businessId\" = '{identity}'"
    apart(lambda: stage.office.execute(change))
    page.get_by_role("link", name="Restore").click()
    check_accessible(page)
    page.get_by_label("Exactly the backup").check()
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Nothing has been changed yet")).to_be_visible()
    expect(page.get_by_role("table", name="By table")).to_contain_text("business_products")
    check_accessible(page)
    page.get_by_label("To go on, type").fill("Restaurant")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("The name that you typed is not")).to_be_visible()
    stage.reader.complaints.clear()
    page.go_back()
    page.get_by_label("To go on, type").fill(ABC)
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("Compared with the backup: identical")).to_be_visible(timeout=60_000)
    check_accessible(page)
    spoilt = "SELECT count(*) FROM business_products WHERE name = 'spoilt'"
    assert apart(lambda: stage.office.query(spoilt))[0][0] == 0
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("changed rows become as they were")).to_be_visible()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("Taken back in")).to_be_visible()
    assert apart(lambda: stage.office.query(spoilt))[0][0] > 0


def test_another_origin_gets_nothing(stage: Stage) -> None:
    page = stage.reader.open(stage.office)
    own = re.match(r"http://[^/]+", page.url)
    assert own is not None
    before = len(apart(stage.office.history)["backups"])

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (
                f'<form method="post" action="{own[0]}/page/backups"><input name="kind" value="full"><button>x</button>'
                f'</form><a href="{own[0]}/page/">in</a>'
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Evil)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        evil = f"http://127.0.0.1:{server.server_port}/"
        page.goto(evil)
        page.get_by_role("button").click()
        expect(page.get_by_text("another site's page")).to_be_visible()
        page.goto(evil)
        blocked = page.evaluate(
            f"fetch('{own[0]}/page/', {{credentials: 'include'}}).then(() => 'read', () => 'blocked')"
        )
        assert blocked == "blocked"
        framed = page.evaluate(
            f"new Promise(done => {{ const f = document.createElement('iframe'); f.src = '{own[0]}/page/';"
            " f.onload = () => { try { done(f.contentDocument ? 'read' : 'blocked') } catch { done('blocked') } };"
            " document.body.append(f) })"
        )
        assert framed == "blocked"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(apart(stage.office.history)["backups"]) == before
    stage.reader.complaints.clear()  # the browser says what it refused


def test_theme_narrow_screen_and_keyboard(stage: Stage) -> None:
    page = stage.reader.open(stage.office, width=360)
    for name in ("Laptops", "Backups", "Requests", "Activity", "Settings"):
        go(page, name)
        check_fits(page)
        check_accessible(page)
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_label("Dark").check()
    page.get_by_role("button", name="Save").click()
    assert page.evaluate(colour) != light
    go(page, "Laptops")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    check_accessible(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def a_laptop_that_goes_and_comes_is_seen_by_itself(stage: Stage) -> None:
    office, kitchen = stage.reader.open(stage.office), stage.reader.open(stage.kitchen)
    expect(office.locator("thead")).to_contain_text("Online")
    change(Home(stage.kitchen.home), port=stage.agent.port, web_port=int(kitchen.url.split(":")[2].split("/")[0]))
    stage.agent.stop()
    expect(office.locator("thead")).to_contain_text("Offline, last seen just now")
    check_accessible(office)
    expect(kitchen.get_by_role("alert")).to_contain_text("The agent does not answer")
    stage.stack.enter_context(stage.kitchen.running())
    expect(office.locator("thead")).to_contain_text("Online")
    # The session ended with the agent, and the page says how to go on.
    expect(kitchen.get_by_text("This page opens with a link of its own.")).to_be_visible()
    stage.reader.complaints.clear()  # connections refused meanwhile
