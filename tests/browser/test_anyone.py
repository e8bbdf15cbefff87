"""Whoever uses the page and whatever things are called: keyboard alone, a screen reader, reduced motion; names that are
markup, that turn the writing's direction, and as long as they may be."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Stage, apart, check_accessible, check_fits

HARDWARE = "Corner Hardware"
LAPTOPS = ('<img src=x onerror="hacked=1">&lt;{{ 7*7 }}' + "W" * 20, "</script><script>hacked=1</script>'" + "W" * 29)
OFFICE, KITCHEN = LAPTOPS
HOSTILE = "<svg onload=hacked=1>\"'</title></select><b>bold</b>{{ 7*7 }}" + "W" * 300
TURNED = "Green Valley \u202eodnammoC"
BUSINESSES = {"Restaurant ABC": HOSTILE, "Green Valley Grocery": TURNED}

LISTEN = """addEventListener("DOMContentLoaded", () => {
  const said = document.getElementById("said");
  const keep = () => sessionStorage.setItem("said", (sessionStorage.getItem("said") ?? "") + said.textContent + "|");
  new MutationObserver(keep).observe(said, { childList: true, characterData: true, subtree: true });
});"""
SEEN = """(() => {
  const element = document.activeElement;
  return element === document.body || getComputedStyle(element).outlineStyle !== "none";
})()"""
HIDE = """(() => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => %s });
  document.dispatchEvent(new Event("visibilitychange"));
})()"""
SETTLED = """() => [new Promise((done) => {
  document.addEventListener("htmx:afterSettle", () => done(true), { once: true });
})]"""
MOVE = """new Promise((done) => {
  document.addEventListener("htmx:afterSettle", done, { once: true });
  htmx.trigger(document.querySelector("%s"), "moved");
})"""

pytestmark = pytest.mark.timeout(300)


def focused(place: Locator) -> bool:
    return bool(place.evaluate("element => element === document.activeElement"))


def tab_to(page: Page, place: Locator) -> None:
    """Press Tab until it is there; where the focus is can be seen all the way."""
    expect(place).to_be_visible()
    for _ in range(80):
        if focused(place):
            return
        page.keyboard.press("Tab")
        assert page.evaluate(SEEN)
    raise AssertionError(f"Tab does not come to {place}")


def go(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()


def test_by_the_keyboard_alone_and_then_by_names_that_are_markup(stage: Stage) -> None:
    """The second part goes on from the first, which has pushed something to that laptop for the first time."""
    by_the_keyboard_alone(stage)
    with_names_that_are_markup(stage)


def by_the_keyboard_alone(stage: Stage) -> None:
    page = stage.reader.open(stage.office)
    page.add_init_script(LISTEN)
    page.reload()
    expect(page.locator("thead")).to_contain_text("Online")
    link = page.get_by_role("link", name=f"Push {HARDWARE} to {KITCHEN}")
    tab_to(page, link)
    page.evaluate(MOVE % "#shop")
    assert focused(link)
    # A table that scrolls sideways has no ID: it keeps the focus too, and stays where it was scrolled to.
    page.set_viewport_size({"width": 760, "height": 800})
    table = page.locator("#shop .scroll")
    table.focus()
    scrolled = table.evaluate("element => { element.scrollLeft = 90; return element.scrollLeft }")
    assert scrolled > 0
    page.evaluate(MOVE % "#shop")
    assert focused(table)
    assert table.evaluate("element => element.scrollLeft") == scrolled
    page.set_viewport_size({"width": 1200, "height": 850})

    tab_to(page, link)
    page.keyboard.press("Enter")
    # The other laptop looks by itself; whoever is on its Cancel button then is not thrown out of the part.
    typed = page.get_by_label("Type its name")
    tab_to(page, typed)
    page.keyboard.type(KITCHEN)
    tab_to(page, page.get_by_role("button", name="Push to"))
    with stage.kitchen.blocking("business_products"):
        page.keyboard.press("Enter")
        cancel = page.get_by_role("button", name="Cancel")
        expect(page.get_by_text("Waiting for the platform")).to_be_visible()
        tab_to(page, cancel)
        page.evaluate(MOVE % "main [data-events]")
        assert focused(cancel)
    expect(page.get_by_text("signed this receipt")).to_be_visible(timeout=60_000)
    assert focused(page.locator("[data-events]"))
    status = page.get_by_role("status")
    assert status.evaluate("element => element.getAttribute('aria-live') ?? element.role") == "status"
    expect(status).to_contain_text(f"Done. {HARDWARE} is on {KITCHEN}. Compared afterwards: identical on both laptops,")
    said = str(page.evaluate("sessionStorage.getItem('said')")).split("|")
    assert f"Done. {KITCHEN} has looked at it. Nothing has been changed yet." in said
    assert said.index("Sending") < said.index("Done."), said
    tab_to(page, page.get_by_role("link", name="To the laptops"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Corner Shops")


def with_names_that_are_markup(stage: Stage) -> None:
    office, kitchen = stage.reader.open(stage.office), stage.reader.open(stage.kitchen)
    expect(office.locator("tbody th", has_text="onload")).to_have_text(HOSTILE)
    plain(office, HOSTILE, KITCHEN, OFFICE)
    check_accessible(office)

    first = "(SELECT min(id) FROM business_products)"
    spoil = f"UPDATE business_products SET name = 'theirs', \"updatedAt\" = now() WHERE id = {first}"
    apart(lambda: stage.kitchen.execute(spoil))
    office.get_by_role("link", name=f"Push {HOSTILE} to").click()
    expect(office.locator(".figures")).to_contain_text("kept: newer over there")
    plain(office, HOSTILE, KITCHEN)
    office.get_by_label("My rows win over there").check()
    office.get_by_role("button", name="Push to").click()
    expect(office.get_by_text("Waiting for a yes over there").first).to_be_visible(timeout=30_000)
    go(kitchen, "Requests")
    expect(kitchen.get_by_text("wants its rows of")).to_be_visible()
    plain(kitchen, OFFICE)
    kitchen.get_by_role("button", name="Always from").click()
    expect(kitchen.get_by_text("Permitted for good")).to_be_visible()
    plain(kitchen, OFFICE, HOSTILE)
    expect(office.get_by_text("signed this receipt")).to_be_visible(timeout=60_000)
    plain(office, HOSTILE, KITCHEN)
    for each, there in ((office, (HOSTILE, KITCHEN)), (kitchen, (HOSTILE, OFFICE))):
        go(each, "Activity")
        plain(each, *there)
    go(office, "Laptops")
    office.get_by_role("button", name=f"Pull {HOSTILE} from").or_(
        office.get_by_role("button", name=f"Compare {HOSTILE} with")
    ).first.click()
    plain(office, HOSTILE, KITCHEN)
    go(kitchen, "Backups")
    kitchen.locator("#found").get_by_role("link").first.click()
    plain(kitchen, HOSTILE, OFFICE)
    kitchen.get_by_role("link", name="Restore").click()
    plain(kitchen, HOSTILE, OFFICE)
    kitchen.get_by_role("button", name="Show what will happen").click()
    expect(kitchen.get_by_text("Nothing would change")).to_be_visible(timeout=60_000)
    plain(kitchen, HOSTILE)
    go(office, "Settings")
    for tile in ("Schedule", "Laptops of the shop", "Health"):
        go(office, "Settings")
        office.locator(".tiles").get_by_role("link", name=tile).click()
        plain(office)
    for path, there in (("invite", ()), ("replace", (KITCHEN,)), ("kit", ()), ("laptops", (KITCHEN, OFFICE))):
        office.goto(f"{office.url.partition('/page')[0]}/page/{path}")
        plain(office, *there)


def plain(page: Page, *names: str) -> None:
    """The names stand there as they are, as text and nothing else, and do not make the page scroll sideways."""
    expect(page.locator("#lost")).to_be_hidden()
    text = " ".join(page.locator("body").inner_text().split())
    for name in names:
        assert name in text, (page.url, name, text)
    assert page.title().endswith(" · Backroom")
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("main img, main script:not([src]), main b, main svg:not([role=img])").count() == 0, page.url
    check_fits(page)
    page.set_viewport_size({"width": 360, "height": 850})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})


def test_a_name_does_not_turn_the_direction_of_what_stands_after_it(stage: Stage) -> None:
    page = stage.reader.open(stage.office)
    expect(page.locator("tbody")).to_contain_text("odnammoC")
    go(page, "Backups")
    page.locator("details").first.evaluate("each => each.open = true")
    page.locator("#business").select_option(label=TURNED.replace("\u202e", "\ufffd"))
    page.get_by_role("button", name="Back up").click()
    page.get_by_role("link", name="Look at it").click(timeout=60_000)
    assert "\u202e" not in page.content()
    # Somebody can type what they see, without the character that they do not.
    page.get_by_role("link", name="Restore").click()
    page.get_by_label("Exactly the backup").check()
    apart(lambda: stage.office.execute("UPDATE business_products SET name = 'spoilt', \"updatedAt\" = now()"))
    page.get_by_role("button", name="Show what will happen").click()
    page.get_by_label("To go on, type").fill("green valley odnammoC")
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_text("Restored in")).to_be_visible(timeout=60_000)


def test_tabs_that_nobody_looks_at_leave_the_connections_to_the_others(stage: Stage) -> None:
    """A browser has six connections to one address, and a tab that listens keeps one."""
    first = stage.reader.open(stage.office)
    tabs = [first]
    for _ in range(8):
        tabs[-1].evaluate(HIDE % "true")
        tabs.append(first.context.new_page())
        tabs[-1].set_default_timeout(10_000)
        tabs[-1].goto(first.url)
    expect(tabs[-1].get_by_role("heading", level=1)).to_have_text("Corner Shops")
    # Who comes back to a tab sees what has moved meanwhile.
    settled = first.evaluate_handle(SETTLED)
    first.evaluate(HIDE % "false")
    assert first.evaluate("([settled]) => settled", [settled])
    for tab in tabs[1:]:
        tab.close()


def test_nothing_moves_for_whoever_wants_that(stage: Stage) -> None:
    page = stage.reader.open(stage.office)
    dot = "(() => { const dot = document.querySelector('.dot'); dot.classList.add('asking'); "
    dot += "return getComputedStyle(dot).animationName })()"
    assert page.evaluate(dot) == "breathe"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(dot) == "none"
    assert page.evaluate("document.getAnimations().length") == 0
