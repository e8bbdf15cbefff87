"""What a restore from the page does to the rows: every choice, files of strangers, and what is not restored here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Stage, apart, check_accessible, check_fits
from tests.support.agents import Laptop, Shops

ABC, HARDWARE = "Restaurant ABC", "Corner Hardware"
KITCHEN = "laptop-kitchen-002"
STRANGER = "laptop-elsewhere-009"

pytestmark = pytest.mark.timeout(300)

ORDER = """INSERT INTO business_orders SELECT (jsonb_populate_record(o, jsonb_build_object(
    'id', '{id}', 'orderNumber', 'N-0001', 'customerId', NULL, 'employeeId', NULL))).*
    FROM business_orders o JOIN businesses b ON b.id = o."businessId" WHERE b.name = 'Restaurant ABC' LIMIT 1"""
FORGET_ORDERS = "DELETE FROM business_orders WHERE id IN ('in-backup', 'made-here')"
ORDERS = "SELECT id, \"orderNumber\" FROM business_orders WHERE id IN ('in-backup', 'made-here') ORDER BY id"
PRODUCTS = (
    'SELECT p.id FROM business_products p JOIN businesses b ON b.id = p."businessId" WHERE b.name = $1 ORDER BY 1'
)
NAMES = "SELECT name FROM business_products WHERE id IN ($1, $2) ORDER BY id"
CUSTOMERS = "SELECT id FROM business_customers WHERE id IN ('backup-alone', 'here-alone') ORDER BY 1"
CUSTOMER = """INSERT INTO business_customers SELECT (jsonb_populate_record(c, jsonb_build_object(
    'id', '{id}', 'customerNumber', '{id}'))).* FROM business_customers c
    JOIN businesses b ON b.id = c."businessId" WHERE b.name = 'Restaurant ABC' LIMIT 1"""
FORGET_CUSTOMERS = "DELETE FROM business_customers WHERE id IN ('backup-alone', 'here-alone')"
STRANGERS = """SELECT count(*) FROM business_products p JOIN businesses b ON b.id = p."businessId"
    WHERE b.name = $1 AND p.name = 'of a stranger'"""


@dataclass(frozen=True)
class Rows:
    """A backup of the business, and what changed since: of two products one is newer here and one older; both sides
    have an order N-0001, which is not the same; one customer is in the backup alone, another here alone."""

    office: Laptop
    backup: str
    first: str
    second: str

    def change(self) -> None:
        """As after those changes, whatever was restored since."""
        named = "UPDATE business_products SET name = '{}', \"updatedAt\" = {} WHERE id = '{}'"
        for sql in (
            named.format("newer here", "now()", self.first),
            named.format("older here", "now() - interval '9 years'", self.second),
            FORGET_ORDERS,
            ORDER.format(id="made-here"),
            FORGET_CUSTOMERS,
            CUSTOMER.format(id="here-alone"),
        ):
            self.office.execute(sql)

    def found(self) -> tuple[list[str], dict[str, str], list[str]]:
        """The two products' names, the numbers of the orders, and which of the customers are there."""
        names = [row[0] for row in self.office.query(NAMES, self.first, self.second)]
        orders = {row[0]: row[1] for row in self.office.query(ORDERS)}
        return names, orders, [row[0] for row in self.office.query(CUSTOMERS)]


@pytest.fixture(scope="module")
def rows(stage: Stage) -> Rows:
    def make() -> Rows:
        office = stage.office
        first, second = (row[0] for row in office.query(PRODUCTS, ABC)[:2])
        for each in (first, second):
            office.execute(f"UPDATE business_products SET name = 'in the backup' WHERE id = '{each}'")
        office.execute(ORDER.format(id="in-backup"))
        office.execute(CUSTOMER.format(id="backup-alone"))
        return Rows(office, office.do("backup", "--business", ABC)["bundle_id"], first, second)

    return apart(make)


@pytest.fixture(scope="module")
def page(stage: Stage) -> Page:
    return stage.reader.open(stage.office)


def root(page: Page) -> str:
    return page.url.partition("/page")[0] + "/page"


def plan(page: Page, backup: str, policy: str = "", meet: str = "") -> None:
    """The steps to a plan, as somebody takes them."""
    page.goto(f"{root(page)}/backups/{backup}/restore")
    if policy:
        page.get_by_role("radio", name=policy).check()
    if meet:
        page.get_by_text("More choices").click()
        page.get_by_label(meet).check()
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible(timeout=60_000)


def apply(page: Page, typed: str = "") -> None:
    if typed:
        page.get_by_label("To go on, type").fill(typed)
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_text("Restored in")).to_be_visible(timeout=60_000)


KEEP, RENUMBER = "Leave the backup's row out", "Give the backup's row the next free number"
HERE, BOTH = {"made-here": "N-0001"}, ["backup-alone", "here-alone"]


@pytest.mark.parametrize(
    ("policy", "meet", "typed", "names", "orders", "customers"),
    [
        ("The newer row", KEEP, "", ["newer here", "in the backup"], HERE, BOTH),
        ("The newer row", RENUMBER, "", ["newer here", "in the backup"], {**HERE, "in-backup": "N-0002"}, BOTH),
        ("The row that is here", KEEP, "", ["newer here", "older here"], HERE, BOTH),
        ("The backup's row Rows", KEEP, ABC, ["in the backup", "in the backup"], HERE, BOTH),
        (
            "Exactly the backup",
            "",
            "restaurant  abc",
            ["in the backup", "in the backup"],
            {"in-backup": "N-0001"},
            ["backup-alone"],
        ),
    ],
    ids=["newer", "renumber", "local", "bundle", "mirror"],
)
def test_what_stands_in_the_database_after_each_choice(
    page: Page,
    rows: Rows,
    policy: str,
    meet: str,
    typed: str,
    names: list[str],
    orders: dict[str, str],
    customers: list[str],
) -> None:
    apart(rows.change)
    before = apart(rows.found)
    plan(page, rows.backup, policy, meet)
    if meet == RENUMBER:
        expect(page.get_by_text(re.compile("N-0001.*N-0002"))).to_be_visible()
    if typed:
        expect(page.get_by_text("Rows that are here now will be lost.")).to_be_visible()
    assert apart(rows.found) == before
    apply(page, typed)
    assert apart(rows.found) == (names, orders, customers)
    if orders == HERE:
        return
    page.get_by_role("button", name="Take it back").click()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("Taken back in")).to_be_visible(timeout=60_000)
    assert apart(rows.found) == before


def test_two_things_with_one_number_stop_a_restore_that_nobody_told_what_to_do(page: Page, rows: Rows) -> None:
    apart(rows.change)
    before = apart(rows.found)
    plan(page, rows.backup)
    expect(page.get_by_text("This stops the restore")).to_be_visible()
    expect(page.locator(".note.bad")).to_contain_text("business_orders: 1 with the same businessId, orderNumber")
    expect(page.get_by_role("button", name="Restore", exact=True)).to_have_count(0)
    check_accessible(page)
    assert apart(rows.found) == before


@pytest.fixture(scope="module")
def stranger(stage: Stage, module_shops: Shops) -> Iterator[Laptop]:
    """A laptop of another shop, which has a business of the same ID."""

    def make() -> Laptop:
        laptop = module_shops.laptop(STRANGER, "shop")
        module_shops.shop(laptop, name="Elsewhere")
        laptop.execute("UPDATE business_products SET name = 'of a stranger', \"updatedAt\" = now()")
        return laptop

    return apart(make)


def bring(page: Page, file: Path) -> None:
    page.goto(f"{root(page)}/backups")
    page.get_by_text("Take a file in").click()
    page.get_by_label("Drop a backup file here").set_input_files(file)


def of_strangers(stage: Stage, business: str) -> int:
    """How many products of the stranger's are here."""
    return int(apart(lambda: stage.office.query(STRANGERS, business))[0][0])


def test_a_file_of_another_shop_is_restored_only_by_who_says_that_it_is_known(
    stage: Stage, page: Page, stranger: Laptop, tmp_path: Path
) -> None:
    made = apart(lambda: stranger.do("backup", "--business", ABC, "--plain", "--output", str(tmp_path)))
    file, known = Path(made["file"]), len(apart(stage.office.history)["backups"])
    broken = tmp_path / "broken.bundle"
    data = file.read_bytes()
    broken.write_bytes(data[:-2000] + bytes([data[-2000] ^ 1]) + data[-1999:])
    bring(page, broken)
    expect(page.get_by_text("It did not work", exact=True)).to_be_visible()
    assert len(apart(stage.office.history)["backups"]) == known

    bring(page, file)
    expect(page.get_by_text(f"It was made by {STRANGER}, which this shop does not know.")).to_be_visible(timeout=60_000)
    expect(page.locator(".note.warn")).to_contain_text("does not know")
    check_accessible(page)
    page.get_by_role("link", name="Restore").click()
    at = page.url
    page.set_viewport_size({"width": 360, "height": 800})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})
    page.get_by_role("button", name="Show what will happen").click()
    assert page.url == at  # the browser asks for the tick first
    # Without the browser's help the agent itself asks.
    page.evaluate("document.querySelector('[name=trust]').required = false")
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("which this laptop's shop does not know.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("go back and say so")).to_be_visible()
    assert of_strangers(stage, ABC) == 0
    page.goto(at)
    page.get_by_label("I know where this file comes from").check()
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible(timeout=60_000)
    assert of_strangers(stage, ABC) == 0
    apply(page)
    assert of_strangers(stage, ABC) > 0


def test_a_file_that_nobody_signed_is_restored_only_by_who_says_that_it_is_known(
    stage: Stage, page: Page, stranger: Laptop, tmp_path: Path
) -> None:
    made = apart(lambda: stranger.do("backup", "--business", HARDWARE))["bundle_id"]
    file = apart(lambda: stranger.do("export", made, "--plain", "--output", str(tmp_path)))["file"]
    bring(page, Path(file))
    expect(page.get_by_text("It is not signed; nothing proves that.")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Look at it").click()
    expect(page.get_by_text(f"The file says that {STRANGER} made it.")).to_be_visible()
    page.get_by_role("link", name="Restore").click()
    page.evaluate("document.querySelector('[name=trust]').required = false")
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Nothing proves who made this file.")).to_be_visible()
    stage.reader.complaints.clear()  # the refusal's own status
    page.get_by_role("link", name="Back", exact=True).click()
    page.get_by_label("I know where this file comes from").check()
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible(timeout=60_000)
    assert of_strangers(stage, HARDWARE) == 0
    apply(page)
    assert of_strangers(stage, HARDWARE) > 0


def test_instead_of_anothers_device_data_what_may_come_is_restored(stage: Stage, page: Page) -> None:
    apart(lambda: stage.office.do("push", "Green Valley Grocery", KITCHEN))
    product = apart(lambda: stage.kitchen.query(PRODUCTS, "Green Valley Grocery"))[0][0]
    renamed = f"UPDATE business_products SET name = 'from the kitchen', \"updatedAt\" = now() WHERE id = '{product}'"
    apart(lambda: stage.kitchen.execute(renamed))
    bundle = apart(lambda: stage.office.do("pull", KITCHEN, "--full-device"))["bundle_id"]
    device = "SELECT count(*) FROM business_products WHERE name = 'from the kitchen'"
    before = apart(stage.office.digest)
    page.goto(f"{root(page)}/backups/{bundle}/restore")
    expect(page.get_by_text("Device-specific data cannot be restored to a different machine.")).to_be_visible()
    # Whoever sends the form all the same is refused by the agent.
    csrf = page.locator("input[name=csrf]").first.input_value()
    answer = page.request.post(page.url, form={"csrf": csrf, "policy": "bundle", "trust": "yes"})
    page.goto(answer.url)
    expect(page.get_by_text(f"This is a full device backup from a different device ({KITCHEN}).")).to_be_visible()
    assert apart(stage.office.digest) == before

    page.goto(f"{root(page)}/backups/{bundle}/restore")
    page.get_by_role("button", name="Pull everything that may go").click()
    expect(page.get_by_text(f"The backup of {KITCHEN} is here, in the archive.")).to_be_visible(timeout=60_000)
    page.goto(f"{root(page)}/backups/{bundle}/restore")
    page.get_by_role("listitem").get_by_role("link", name="Full").first.click()
    page.get_by_role("button", name="Show what will happen").click()
    expect(page.get_by_text("Nothing has been changed yet.")).to_be_visible(timeout=60_000)
    apply(page)
    assert apart(lambda: stage.office.query(device))[0][0] == 1
