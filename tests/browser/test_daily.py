"""What shop people do every day on the page: look where what is newer, push, pull, answer, back up and restore."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Stage, apart, check_accessible, check_fits
from tests.support.agents import NO_MDNS, ended

ABC = "Restaurant ABC"
KITCHEN = "laptop-kitchen-002"

pytestmark = pytest.mark.timeout(400)


def cell(page: Page, business: str, column: int = 2) -> Locator:
    return page.locator("tr", has=page.get_by_role("rowheader", name=business)).locator("td").nth(column - 1)


def go(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()


def rename(stage: Stage, where: str, name: str) -> None:
    """Change one product of the business on a laptop, now."""
    laptop = stage.office if where == "office" else stage.kitchen
    which = 'SELECT min(p.id) FROM business_products p JOIN businesses b ON b.id = p."businessId" WHERE b.name = $2'
    change = f'UPDATE business_products SET name = $1, "updatedAt" = now() WHERE id = ({which}) RETURNING 1'
    assert apart(lambda: laptop.query(change, name, ABC))


def compare(page: Page) -> None:
    go(page, "Laptops")
    page.get_by_role("button", name=f"Compare {ABC} with {KITCHEN}").click()


def test_home_says_where_it_is_newer_and_what_to_do(stage: Stage) -> None:
    # Whatever another test left newer in the kitchen would stay as it is there.
    apart(lambda: stage.kitchen.execute("UPDATE business_products SET \"updatedAt\" = '2020-01-01'"))
    stage.office.do("push", ABC, KITCHEN)
    page, kitchen = stage.reader.open(stage.office), stage.reader.open(stage.kitchen)
    # Other businesses came along as a name, since rows of this one refer to them: they are not on that laptop.
    names = {row[0] for row in apart(lambda: stage.kitchen.query("SELECT name FROM businesses"))}
    others = sorted(names - {ABC})
    assert others
    expect(cell(kitchen, ABC, 1)).to_contain_text("Here")
    for other in others:
        expect(cell(page, other)).to_contain_text("Not there", timeout=40_000)
        expect(cell(kitchen, other, 1)).to_contain_text("Only its name")
        expect(cell(kitchen, other, 1).get_by_role("link")).to_have_count(0)
    expect(cell(kitchen, "Green Valley Grocery", 2)).to_contain_text("There")

    # Nobody compares from the kitchen in these tests.
    expect(cell(kitchen, ABC, 2)).to_contain_text("Not checked")
    compare(page)
    expect(page.get_by_text("is identical here and on")).to_be_visible()
    go(page, "Laptops")
    expect(cell(page, ABC)).to_contain_text("Identical")
    expect(cell(page, ABC)).to_contain_text("checked just now")
    expect(cell(page, ABC)).not_to_contain_text("since")

    # What changes afterwards is told without a reload, also of the other laptop, and over a new session.
    rename(stage, "office", "newer in the office")
    expect(cell(page, ABC)).to_contain_text("may have changed here since")
    rename(stage, "kitchen", "older in the kitchen")
    expect(cell(page, ABC)).to_contain_text("Identical")
    expect(cell(page, ABC)).to_contain_text("may have changed on both since")
    check_accessible(page)
    rename(stage, "office", "newer in the office")
    compare(page)
    expect(page.get_by_text("Newer here, or only here: 1 row.")).to_be_visible()
    check_accessible(page)
    go(page, "Laptops")
    expect(cell(page, ABC)).to_contain_text("Newer here")
    expect(cell(page, ABC)).to_contain_text("1 row, checked just now")

    stage.office.do("push", ABC, KITCHEN)
    rename(stage, "kitchen", "newer in the kitchen")
    compare(page)
    expect(page.get_by_text("Newer on laptop-kitchen-002, or only there: 1 row.")).to_be_visible()
    go(page, "Laptops")
    expect(cell(page, ABC)).to_contain_text("Newer there")
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 800})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})

    # What is newer there is pulled, looked at as a plan, and restored.
    page.get_by_role("button", name=f"Pull {ABC} from {KITCHEN}").click()
    expect(page.get_by_text("is here, in the archive. Nothing was restored yet.")).to_be_visible(timeout=60_000)
    check_accessible(page)
    page.get_by_role("link", name="Restore").click()
    page.get_by_role("button", name="Show what will happen").click()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("Restored in")).to_be_visible(timeout=60_000)
    came = "SELECT count(*) FROM business_products WHERE name = 'newer in the kitchen'"
    assert apart(lambda: stage.office.query(came))[0][0] == 1
    compare(page)
    expect(page.get_by_text("is identical here and on")).to_be_visible()

    rename(stage, "office", "changed here")
    last = "WHERE id = (SELECT max(id) FROM business_products)"
    change = f"UPDATE business_products SET name = 'changed there', \"updatedAt\" = now() {last}"
    apart(lambda: stage.kitchen.execute(change))
    compare(page)
    expect(page.get_by_text("differs between here and")).to_be_visible()
    go(page, "Laptops")
    expect(cell(page, ABC)).to_contain_text("Both changed")


def test_what_comes_in_is_seen_and_stopped(stage: Stage) -> None:
    grocery = "Green Valley Grocery"
    kitchen = stage.reader.open(stage.kitchen)
    slowly = {**NO_MDNS, "BACKROOM_BANDWIDTH_LIMIT": "0.004"}
    pushing = stage.office.start("push", grocery, KITCHEN, env=slowly)
    kitchen.get_by_role("link", name=f"{grocery} from laptop-office-001").click(timeout=40_000)
    line = kitchen.get_by_role("listitem").filter(has_text=grocery)
    expect(line).to_contain_text(re.compile(r"Coming in: .* of "))
    check_accessible(kitchen)
    kitchen.set_viewport_size({"width": 360, "height": 800})
    check_fits(kitchen)
    kitchen.get_by_role("button", name=f"Stop {grocery} for good").click()
    expect(kitchen.get_by_text("Nothing is on its way.")).to_be_visible()
    assert ended(pushing, 30).error["code"] == "cancelled"


def open_all(page: Page) -> None:
    """Unfold what is folded."""
    page.evaluate("for (const each of document.querySelectorAll('main details')) each.open = true")


def bring(page: Page, file: Path, words: str = "") -> None:
    """Take a file in, as by dropping it."""
    go(page, "Backups")
    open_all(page)
    page.get_by_label("Passphrase of a sealed file").fill(words)
    page.get_by_label("Drop a backup file here").set_input_files(file)


def test_a_backup_is_made_delivered_kept_thrown_away_and_taken_in_again(stage: Stage, tmp_path: Path) -> None:
    page = stage.reader.open(stage.office)
    go(page, "Backups")
    open_all(page)
    page.locator("#business").select_option(label=ABC)
    expect(page.get_by_label("Address")).to_be_hidden()
    page.get_by_label("Where to").select_option("other")
    page.get_by_label("Address").fill(f"path:{tmp_path}")
    page.get_by_label("Encryption of what is delivered").select_option("passphrase")
    page.get_by_label("Passphrase", exact=True).fill("three small horses")
    check_accessible(page)
    page.get_by_role("button", name="Back up").click()
    expect(page.get_by_text("The backup is made and in the archive.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Delivered to")).to_be_visible()
    (sealed,) = tmp_path.glob("*.age")

    page.get_by_role("link", name="Look at it").click()
    expect(page.get_by_text("Copied to")).to_be_visible()
    page.get_by_label("Note").fill("before the stock-taking")
    page.get_by_role("button", name="Save the note").click()
    page.get_by_role("button", name="Pin").click()
    expect(page.get_by_text("Pinned: no rule removes it.")).to_be_visible()
    open_all(page)
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 800})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})
    go(page, "Backups")
    with page.expect_response(lambda answer: "stock-taking" in answer.url):
        page.get_by_label("Search").fill("stock-taking")
    # A link of the first list would be gone under the pointer when the second comes.
    with page.expect_response(lambda answer: "stock-taking" in answer.url and "pinned" in answer.url):
        page.get_by_label("Show").select_option("pinned")
    expect(page.locator("#found tbody tr")).to_have_count(1)
    page.wait_for_load_state("networkidle")
    page.locator("#found").get_by_role("link", name=ABC).click()
    page.get_by_role("button", name="Unpin").click()
    page.get_by_role("button", name="Delete to the trash").click()
    expect(page.get_by_text("Not in the archive any more since")).to_be_visible()
    expect(page.get_by_role("link", name="Restore")).to_have_count(0)
    at = page.url
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("Pinned: no rule removes it.")).to_be_visible()
    page.get_by_role("button", name="Unpin").click()
    page.get_by_role("button", name="Delete to the trash").click()
    expect(page.get_by_text("Not in the archive any more since")).to_be_visible()

    bring(page, sealed)
    expect(page.get_by_text("The file is sealed, and no passphrase was given.")).to_be_visible()
    bring(page, sealed, "three small horses")
    expect(page.get_by_text("The file is in the archive.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("It was made by laptop-office-001 (this laptop), and its seal holds.")).to_be_visible()
    check_accessible(page)
    page.get_by_role("link", name="Look at it").click()
    assert page.url == at
    expect(page.get_by_role("link", name="Restore")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download for the platform").click()
    exported = tmp_path / download.value.suggested_filename
    download.value.save_as(exported)
    assert exported.name.endswith(".json.gz")
    bring(page, exported)
    expect(page.get_by_text("It is not signed; nothing proves that.")).to_be_visible(timeout=60_000)
    broken = tmp_path / "broken.bundle"
    broken.write_bytes(b"no bundle")
    bring(page, broken)
    expect(page.get_by_text("It did not work", exact=True)).to_be_visible()


def test_a_restore_is_chosen_seen_and_done_in_part_and_as_a_second_business(stage: Stage) -> None:
    made = stage.office.do("backup", "--business", ABC)["bundle_id"]
    rename(stage, "office", "spoilt")
    page = stage.reader.open(stage.office)
    root = page.url.rstrip("/")
    page.goto(f"{root}/backups/{made}/restore")
    open_all(page)
    check_accessible(page)
    page.get_by_label("Exactly the backup").check()
    page.get_by_label("business_products", exact=True).check()
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("is of the whole business, not of some tables")).to_be_visible()
    stage.reader.complaints.clear()  # the refusal's own status
    page.go_back()
    page.locator("input[name=policy][value=bundle]").check()
    open_all(page)
    page.set_viewport_size({"width": 360, "height": 800})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Only: business_products, and what they need.")).to_be_visible()
    open_all(page)
    expect(page.get_by_role("cell", name="spoilt")).to_be_visible()
    check_accessible(page)
    page.get_by_label("To go on, type").fill(ABC)
    page.get_by_label("To go on, type").press("Enter")
    expect(page.get_by_text("Restored in")).to_be_visible(timeout=60_000)
    spoilt = "SELECT count(*) FROM business_products WHERE name = 'spoilt'"
    assert apart(lambda: stage.office.query(spoilt))[0][0] == 0

    page.goto(f"{root}/backups/{made}/restore")
    open_all(page)
    page.get_by_label("As a second business").fill("Restaurant North")
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("As a second business: Restaurant North.")).to_be_visible()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("Restored in")).to_be_visible(timeout=60_000)
    go(page, "Laptops")
    expect(cell(page, "Restaurant North", 1)).to_contain_text("Here", timeout=40_000)


def test_device_data_of_another_laptop_is_refused_and_something_else_offered(stage: Stage) -> None:
    stage.office.do("push", ABC, KITCHEN)
    bundle = stage.office.do("pull", KITCHEN, "--full-device")["bundle_id"]
    page = stage.reader.open(stage.office)
    page.goto(f"{page.url.rstrip('/')}/backups/{bundle}/restore")
    expect(page.get_by_text(f"This is a full device backup from a different device ({KITCHEN})")).to_be_visible()
    expect(page.get_by_role("button", name="Show what will happen")).to_have_count(0)
    check_accessible(page)
    page.get_by_role("button", name="Pull everything that may go").click()
    expect(page.get_by_text(f"The backup of {KITCHEN} is here, in the archive.")).to_be_visible(timeout=60_000)
    page.goto(f"{page.url.partition('/page')[0]}/page/laptops")
    page.get_by_role("button", name=f"Pull everything from {KITCHEN}").click()
    expect(page.get_by_text(f"The backup of {KITCHEN} is here, in the archive.")).to_be_visible(timeout=60_000)
    page.goto(f"{page.url.partition('/page')[0]}/page/backups/{bundle}/restore")
    page.get_by_role("listitem").get_by_role("link", name="Full").first.click()
    expect(page.get_by_role("button", name="Show what will happen")).to_be_visible()


def test_a_push_that_replaces_is_asked_about_once_or_never_again(stage: Stage) -> None:
    stage.office.do("push", ABC, KITCHEN)
    office, kitchen = stage.reader.open(stage.office), stage.reader.open(stage.kitchen)
    go(kitchen, "Requests")
    expect(kitchen.get_by_text("Nothing waits for you.")).to_be_visible()

    def push_over(name: str) -> None:
        rename(stage, "kitchen", name)
        go(office, "Laptops")
        office.get_by_role("link", name=f"Push {ABC} to {KITCHEN}").click()
        office.get_by_label("My rows win over there").check()
        office.get_by_role("button", name=f"Push to {KITCHEN}").click()

    def left(name: str) -> int:
        count = "SELECT count(*) FROM business_products WHERE name = $1"
        return int(apart(lambda: stage.kitchen.query(count, name))[0][0])

    push_over("theirs 1")
    # The page says by itself that somebody asks, and moves nothing.
    kitchen.get_by_role("link", name="Show them").click(timeout=60_000)
    expect(kitchen.get_by_text("wants its rows of Restaurant ABC to replace those here")).to_be_visible()
    check_accessible(kitchen)
    kitchen.get_by_role("button", name="Always from laptop-office-001").click()
    expect(kitchen.get_by_text("Permitted for good")).to_be_visible()
    expect(office.get_by_text("Compared afterwards: identical")).to_be_visible(timeout=60_000)
    check_accessible(kitchen)
    kitchen.set_viewport_size({"width": 360, "height": 800})
    check_fits(kitchen)
    push_over("theirs 2")
    expect(office.get_by_text("Compared afterwards: identical")).to_be_visible(timeout=60_000)
    assert (left("theirs 1"), left("theirs 2")) == (0, 0)
    kitchen.get_by_role("button", name=f"Ask again about {ABC} from laptop-office-001").click()
    expect(kitchen.get_by_text("Permitted for good")).to_have_count(0)
    push_over("theirs 3")
    kitchen.get_by_role("link", name="Show them").click(timeout=60_000)
    kitchen.get_by_role("button", name="Decline").click()
    expect(office.get_by_text("declined it")).to_be_visible(timeout=30_000)
    assert left("theirs 3") == 1
