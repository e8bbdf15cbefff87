"""A new shop from two new computers, and a laptop replaced, with the page alone: no command but `backroom open`."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent.home import Home
from agent.locks import FileLock
from tests.browser.conftest import Reader, apart, check_accessible, check_fits
from tests.support.agents import LOOPBACK, Agent, Laptop, Shops, backroom, wait_until

pytestmark = pytest.mark.timeout(400)
PASSPHRASE = "correct horse battery"
ABC = "Restaurant ABC"


@dataclass(frozen=True)
class New:
    """Computers on which Backroom was just installed, and what ends what they start."""

    shops: Shops
    folder: Path
    stack: ExitStack

    def laptop(self, name: str, content: str) -> Laptop:
        """A laptop with the platform and without settings; its agent is not started."""
        return Laptop(name, self.folder / name, apart(lambda: self.shops.database(content, f"node-of-{name}")))

    def known(self, name: str, content: str) -> Laptop:
        """A laptop that is set up already."""
        return apart(lambda: self.shops.laptop(name, content))

    def env(self, laptop: Laptop, **more: str) -> dict[str, str]:
        """A user's folder with nothing in it but what a test puts there; ports that nobody else has."""
        user = self.folder / f"user-of-{laptop.name}"
        user.mkdir(exist_ok=True)
        return {**LOOPBACK, "HOME": str(user), "BACKROOM_PORT": "0", "BACKROOM_WEB_PORT": "0", **more}

    def opened(self, laptop: Laptop, **more: str) -> str:
        """`backroom open` on a computer where no agent runs; its link."""
        answer = backroom(*laptop.arguments("open"), env=self.env(laptop, **more))
        assert answer.code == 0, answer
        self.stack.callback(self.stop, laptop)
        assert answer.value["started"] is True
        return str(answer.value["link"])

    def stop(self, laptop: Laptop) -> None:
        pid = FileLock(laptop.home / "state" / "agent.lock").holder()
        if pid is not None and Home(laptop.home).locked("agent"):
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not Home(laptop.home).locked("agent"), what="the agent's end")


@pytest.fixture(scope="module")
def new(module_shops: Shops, tmp_path_factory: pytest.TempPathFactory) -> Iterator[New]:
    with ExitStack() as stack:
        yield New(module_shops, tmp_path_factory.mktemp("new"), stack)


def look(page: Page) -> None:
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 780})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})


def password_of(laptop: Laptop) -> str:
    found = re.search(r"//[^:]+:([^@]+)@", laptop.database.dsn)
    return found[1] if found else laptop.database.dsn


def choose_database(page: Page, laptop: Laptop) -> None:
    """By its address, and the name of the laptop."""
    page.get_by_label("I know its address").check()
    page.get_by_label("Address", exact=True).fill(laptop.database.dsn)
    page.get_by_role("button", name="Look at it").click()
    give_name(page, laptop.name)


def give_name(page: Page, name: str) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Which shop does it belong to?")


def enter_code(page: Page, code: str, place: str) -> None:
    page.get_by_label("Number").fill(code)
    page.get_by_text("The laptops do not find each other").click()
    page.get_by_label("Address that the other laptop shows").fill(place)
    page.get_by_role("button", name="Join").click()


def let_in(admin: Page, joiner: Page, name: str, shop: str) -> None:
    """Both ends show both names and IDs; both say yes."""
    yes = joiner.get_by_role("button", name=f"Join {shop}")
    expect(yes).to_be_visible()
    ids = joiner.locator("code.id").all_inner_texts()
    check_accessible(joiner)
    yes.click()
    expect(joiner.get_by_text("Waiting for the yes of the admin")).to_be_visible()
    expect(admin.get_by_text(f"{name} knows the code")).to_be_visible()
    assert sorted(admin.locator("code.id").all_inner_texts()) == sorted(ids)
    check_accessible(admin)
    admin.get_by_role("button", name=f"Let {name} in").click()
    expect(admin.get_by_text(f"{name} belongs to the shop now")).to_be_visible()
    expect(joiner.get_by_text(f"This laptop belongs to {shop} now")).to_be_visible()


def invitation(page: Page) -> tuple[str, str]:
    """The code and an address, as the page shows them."""
    code = page.locator(".code").inner_text()
    return code, page.locator("code", has_text=re.compile(r"^127\.0\.0\.1:\d+$")).inner_text()


def test_a_new_shop_from_two_new_computers(new: New, reader: Reader) -> None:
    office, kitchen = new.laptop("laptop-office-001", "shop"), new.laptop("laptop-kitchen-002", "device")
    platform = Path(new.env(office)["HOME"]) / "platform"
    platform.mkdir()
    dsn = office.database.dsn
    address = f"{dsn}{'&' if '?' in dsn else '?'}schema=public"
    (platform / ".env").write_text(f'PORT=3000\nDATABASE_URL="{address}"\n')

    page = reader.visit(new.opened(office))
    expect(page.get_by_role("heading", level=1)).to_have_text("Where is the platform’s database?")
    expect(page.get_by_text(f"found in {platform / '.env'}")).to_be_visible()
    assert password_of(office) not in page.content()
    look(page)
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_text(ABC)).to_be_visible()
    expect(page.get_by_text("may do all that Backroom needs")).to_be_visible()
    assert password_of(office) not in page.content()
    look(page)
    assert not (office.home / "config.toml").exists()
    page.get_by_label("Name", exact=True).fill(office.name)
    page.get_by_role("button", name="Next").click()
    look(page)
    page.get_by_label("Name of the shop").fill("Corner Shops")
    page.get_by_role("button", name="Start the shop").click()

    page.get_by_label("Passphrase", exact=True).fill(PASSPHRASE)
    page.get_by_label("The same again").fill(f"{PASSPHRASE} not")
    page.get_by_role("button", name="Make the kit").click()
    expect(page.get_by_text("The two passphrases are not the same")).to_be_visible()
    expect(page.get_by_text("type the same passphrase twice")).to_be_visible()
    reader.complaints.clear()  # the refusal's own status
    page.go_back()
    look(page)
    page.get_by_label("Passphrase", exact=True).fill(PASSPHRASE)
    page.get_by_label("The same again").fill(PASSPHRASE)
    page.get_by_role("button", name="Make the kit").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download laptop-office-001.kit").click()
    assert download.value.path().read_bytes().startswith(b"age-encryption.org/v1")
    page.get_by_role("link", name="Next").click()
    page.get_by_role("button", name="Back up").click()
    expect(page.get_by_text("The backup is made")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_label("A full backup")).to_be_checked()
    look(page)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("This laptop is ready")
    look(page)
    listed = apart(lambda: office.do("schedule", "list"))
    assert {"nightly", "check", "tidy"} <= {each["name"] for each in listed}

    page.get_by_role("link", name="Invite a laptop").click()
    look(page)
    page.get_by_role("button", name="Show a code").click()
    code, place = invitation(page)
    expect(page.get_by_text(re.compile(r"4:\d\d left"))).to_be_visible()
    look(page)

    other = reader.visit(new.opened(kitchen))
    choose_database(other, kitchen)
    enter_code(other, code.rsplit("-", 1)[0] + "-zebraa", place)
    expect(other.get_by_text("is in no invitation code")).to_be_visible()
    reader.complaints.clear()
    other.go_back()
    other.reload()
    enter_code(other, code, place)
    let_in(page, other, kitchen.name, "Corner Shops")
    other.get_by_role("link", name="Next").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Recovery kit")
    assert {each["name"] for each in apart(lambda: office.do("devices"))} == {office.name, kitchen.name}
    assert password_of(kitchen) not in (kitchen.home / "logs" / "backroom.jsonl").read_text()


def test_a_laptop_that_declines_or_is_declined_stays_out(new: New, reader: Reader) -> None:
    office, stranger = new.known("laptop-front-001", "device"), new.laptop("laptop-stranger", "device")
    new.shops.shop(office, name="Front")
    with office.running(LOOPBACK | {"BACKROOM_WEB_PORT": "0"}):
        page, other = reader.open(office), reader.visit(new.opened(stranger))
        (stranger.home.parent / "platform.env").write_text(f"DATABASE_URL={stranger.database.dsn}\n")
        other.get_by_label("In a file of the platform").check()
        other.get_by_label("Folder or file").fill(str(stranger.home.parent / "nowhere"))
        other.get_by_role("button", name="Look at it").click()
        expect(other.get_by_text("There is no DATABASE_URL")).to_be_visible()
        reader.complaints.clear()  # the refusal's own status
        other.get_by_role("link", name="Back", exact=True).click()
        other.get_by_label("In a file of the platform").check()
        other.get_by_label("Folder or file").fill(str(stranger.home.parent / "platform.env"))
        other.get_by_role("button", name="Look at it").click()
        give_name(other, stranger.name)
        for who, words in (("joiner", "Joining was stopped"), ("admin", "declined")):
            page.goto(page.url.partition("/page")[0] + "/page/invite")
            page.get_by_role("button", name="Show a code").click()
            enter_code(other, *invitation(page))
            if who == "joiner":
                other.get_by_role("button", name="Stop").click()
            else:
                other.get_by_role("button", name="Join Front").click()
                page.get_by_role("button", name="Decline").click()
                expect(page.get_by_text("The invitation is over")).to_be_visible()
            expect(other.get_by_text(words)).to_be_visible()
            other.get_by_role("link", name="Enter the code again").click()
            if who == "joiner":
                page.get_by_role("button", name="Take it back").click()
        assert len(office.store.roster().members) == 1
        assert stranger.store.shop() is None


def test_a_laptop_is_replaced(new: New, reader: Reader) -> None:
    office = new.known("laptop-admin-001", "device")
    old, fresh = new.known("laptop-sales-002", "shop"), new.laptop("laptop-sales-003", "device")
    new.shops.shop(office, old, name="Sales")
    quiet = LOOPBACK | {"BACKROOM_WEB_PORT": "0"}
    with office.running(quiet) as agent, old.running(quiet) as leaving:
        office.knows(leaving.port)
        page = reader.open(office)
        page.goto(page.url.partition("/page")[0] + "/page/replace")
        page.get_by_label("laptop-sales-002").check()
        expect(page.get_by_text("a full backup is pulled from it now")).to_be_visible()
        look(page)
        page.get_by_role("button", name="Bring its backups here").click()
        expect(page.get_by_text("they hold")).to_be_visible(timeout=90_000)
        look(page)
        before = apart(lambda: old.query("SELECT id, name FROM businesses ORDER BY id"))
        replaced(new, reader, page, office, agent, fresh)
    assert not office.store.roster().find("laptop-sales-002").active
    after = apart(lambda: fresh.query("SELECT id, name FROM businesses ORDER BY id"))
    assert [tuple(each) for each in after] == [tuple(each) for each in before]


def replaced(new: New, reader: Reader, page: Page, office: Laptop, agent: Agent, fresh: Laptop) -> None:
    page.get_by_role("button", name="Invite the new laptop").click()
    code, place = invitation(page)
    other = reader.visit(new.opened(fresh, BACKROOM_PEERS=f"127.0.0.1:{agent.port}"))
    choose_database(other, fresh)
    enter_code(other, code, place)
    let_in(page, other, fresh.name, "Sales")
    expect(page.get_by_text("laptop-sales-002 is shut out")).to_be_visible()
    other.get_by_role("link", name="Next").click()
    expect(other.get_by_text("This laptop is in the place of laptop-sales-002")).to_be_visible()
    look(other)
    other.get_by_role("button", name="Restore").click()
    expect(other.get_by_text("This laptop has what laptop-sales-002 had")).to_be_visible(timeout=90_000)
    look(other)
