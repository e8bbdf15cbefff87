"""Another language is another table of texts: pages are made with every text of it marked, and what stands on them
unmarked is data. Without a browser, in this process: the table is changed for the test."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from agent.config import change
from agent.home import Home
from agent.operations.look import schema_of
from agent.operations.workspace import Workspace
from agent.tables.catalogue import TableClass
from agent.web.pages import texts
from agent.web.pages.app import make_pages
from agent.web.pages.render import PREFIX
from agent.web.serving import serving_api
from tests.browser.test_door import Door
from tests.support.agents import LOOPBACK, Laptop, Shops

ABC = "Restaurant ABC"
KITCHEN = "laptop-kitchen-002"
SAID = ("aria-label", "placeholder", "title", "alt")
UNSEEN = ("script", "style", "code", "head")
UNITS = {"bytes", "kB", "MB", "min", "PostgreSQL"}
IDS = r"\b(?=[a-z0-9-]*\d)[a-z0-9-]{16,}\b"
_NO_END = {"area", "br", "hr", "img", "input", "link", "meta", "wbr", "polyline", "line", "circle", "path"}

pytestmark = pytest.mark.timeout(200)


class Words(HTMLParser):
    """Collects what a page shows or says, but for code, which is typed in every language."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in _NO_END:
            self.open.append(tag)
        self.found += [value for name, value in attributes if name in SAID and value]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and not set(UNSEEN) & set(self.open):
            self.found.append(data.strip())


def unmarked(page: str) -> set[str]:
    """The words that came from nowhere in the table. A marked text may hold others, and tags."""
    words = Words()
    words.feed(page)
    text = re.sub(IDS, "", "\n".join(words.found))
    while (less := re.sub(r"«[^«»]*»", "", text)) != text:
        text = less
    return words_of([text]) - UNITS


def words_of(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[^\W\d]{2,}", text)}


def data(laptop: Laptop) -> set[str]:
    """The words of names that are on the pages: of businesses and laptops, products, tables and columns."""
    names = laptop.query(
        "SELECT name FROM businesses UNION SELECT name FROM business_products UNION SELECT name FROM product_variants "
        "UNION SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' "
        "UNION SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    more = (laptop.name, KITCHEN, str(laptop.home), "Corner Shops", getpass.getuser(), "backroom", "spoilt", ".bundle")
    return words_of((*(row[0] for row in names), *more))


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)
    for table in (texts.TEXTS, texts._STAGES):
        for key, value in list(table.items()):
            monkeypatch.setitem(table, key, f"«{value}»" if value else "")


@pytest.fixture
def laptops(module_shops: Shops) -> Iterator[tuple[Laptop, Laptop]]:
    office, kitchen = module_shops.laptop("laptop-office-001", "shop"), module_shops.laptop(KITCHEN)
    module_shops.shop(office, kitchen)
    with kitchen.running() as agent:
        office.knows(agent.port)
        change(Home(office.home), web_port=0, alerts={"desktop": False})
        yield office, kitchen


class Reader(Door):
    """Goes through the pages and notes what is not from the table."""

    token = ""
    left: dict[str, set[str]]

    async def page(self, path: str) -> str:
        status, body, headers = await self.ask("GET", f"{PREFIX}{path}")
        if status == 303:
            return await self.page(headers["Location"].removeprefix(PREFIX))
        self.left[path] = unmarked(body)
        return body

    async def do(self, path: str, **data: str) -> str:
        """Send a form; the page of its job once that has ended."""
        _, _, headers = await self.ask("POST", f"{PREFIX}{path}", data={"csrf": self.token, **data})
        place = headers["Location"].removeprefix(PREFIX)
        while "<progress" in (body := await self.page(place)):
            await asyncio.sleep(0.2)
        self.left[path] = self.left.pop(place)
        return body


def only(pattern: str, page: str) -> str:
    """What the page has at the pattern's group."""
    found = re.search(pattern, page)
    assert found is not None, page
    return found[1]


async def test_every_sentence_of_the_page_is_in_the_one_table(laptops: tuple[Laptop, Laptop], marked: None) -> None:
    office, _ = laptops
    workspace = Workspace(Home(office.home))
    query = "SELECT id FROM businesses WHERE name = $1"
    ((business,),) = await asyncio.to_thread(office.query, query, ABC)
    whom = {"business": business, "device": KITCHEN}
    async with serving_api(workspace) as served, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        reader = Reader(workspace, client, served.port)
        reader.left = {}
        await reader.enter()
        reader.token = await reader.csrf()
        made = await reader.do("/backups", kind="business-specific", business=business)
        backup = only(f'{PREFIX}(/backups/[0-9a-f-]{{36}})"', made)
        await reader.do("/push/look", **whom)
        await reader.do("/push", **whom, typed=KITCHEN)
        await reader.do("/compare", **whom)
        await reader.do(f"{backup}/check")
        await reader.do(f"{backup}/deliver", to="other", address=f"path:{office.home.parent}", seal="plain")
        await asyncio.to_thread(office.execute, "UPDATE business_products SET name = 'spoilt', \"updatedAt\" = now()")
        await reader.do("/compare", **whom)
        planned = await reader.do(f"{backup}/restore", policy="bundle")
        done = await reader.do("/restores", plan=only(r'name="plan" value="(\w+)"', planned), typed=ABC)
        undo = await reader.do("/undo/plan", restore=only(r'name="restore" value="(\w+)"', done))
        await reader.do("/undo", plan=only(r'name="plan" value="(\w+)"', undo))
        await reader.do("/pull", **whom)
        assert business not in await reader.page("/activity")  # it has a name
        for path in (backup, f"{backup}/restore", f"/push?business={business}&device={KITCHEN}", "/nothing-here"):
            await reader.page(path)
        for route in make_pages(workspace, "x").router.routes():
            path = route.resource.canonical.removeprefix(PREFIX) if route.resource else ""
            if route.method == "GET" and not re.search(r"[{]|^/(push|.*events|enter|.*file|static)$", path):
                await reader.page(path)
    known = await asyncio.to_thread(data, office)
    assert len(reader.left) > 30
    # A table's rule and an error say the same as in the commands: the operations' own words.
    _, classification = await schema_of(workspace)
    rules = [classification.rule(name) for each in TableClass for name in classification.of_class(each)]
    reader.left["/tables"] -= words_of(f"{rule.describe()} {rule.why}" for rule in rules)
    strange = {path: sorted(left - known) for path, left in reader.left.items() if left - known}
    assert not strange, strange


async def test_set_up_is_in_the_table_too(
    module_shops: Shops, tmp_path: Path, marked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BACKROOM_WEB_PORT": "0", "BACKROOM_PORT": "0", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    database = await asyncio.to_thread(module_shops.database, "device", "node-of-new")
    laptop = Laptop("laptop-new-003", tmp_path / "home", database)
    workspace = Workspace(Home(laptop.home).ensure())
    async with serving_api(workspace) as served, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        reader = Reader(workspace, client, served.port)
        reader.left = {}
        await reader.enter()
        # Whoever comes to a later step is led to the first one.
        for later in ("/", "/setup/shop", "/setup/join", "/setup/backup", "/setup/done"):
            reader.token = only(r'name="csrf" value="([^"]+)"', await reader.page(later))
        assert reader.left.keys() == {"/setup/database"}
        await reader.do("/setup/database", choice="address", address=database.dsn)
        await reader.do("/setup/name", name=laptop.name)
        await reader.do("/setup/shop", shop="Corner Shops")
        await reader.do("/setup/backup")
        for later in ("kit", "backup", "schedule", "import", "done"):
            await reader.page(f"/setup/{later}")
    known = await asyncio.to_thread(data, laptop) | words_of([database.dsn, socket.gethostname()])
    strange = {path: sorted(left - known) for path, left in reader.left.items() if left - known}
    assert not strange, strange


def test_every_step_of_long_work_has_words() -> None:
    sources = [path.read_text("utf-8") for path in Path(texts.__file__).parents[2].rglob("*.py")]
    named = r"""(?:\bStep\(|telling_bytes\(\w+, )"([^"]+)\""""
    steps = {step for source in sources for step in re.findall(named, source)}
    assert len(steps) > 20
    assert steps - texts._STAGES.keys() == set()
