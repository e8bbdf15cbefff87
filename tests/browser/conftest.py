"""Two laptops with running agents, a page on each, and a browser: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from agent.config import change
from agent.home import Home
from tests.support.agent_fixtures import module_shops
from tests.support.agents import Agent, Laptop, Shops

__all__ = ["module_shops"]

T = TypeVar("T")
AXE = Path(__file__).parent / "axe.min.js"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


def apart(work: Callable[[], T]) -> T:
    """Do it in another thread: Playwright has an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@dataclass
class Reader:
    """Opens pages of laptops, and keeps what the browser complains about."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def open(self, laptop: Laptop, *, width: int = 1200, dark: bool = False) -> Page:
        """The laptop's page in a browser of its own, entered by the link that `backroom open` gives."""
        return self.visit(laptop.do("open")["link"], width=width, dark=dark)

    def visit(self, link: str, *, width: int = 1200, dark: bool = False) -> Page:
        """A page in a browser of its own."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 850}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        # Results stand on the page, and are said to screen readers too: tests look at what is to be seen.
        page.get_by_text = page.locator("body > :not(#said)").get_by_text  # type: ignore[method-assign]
        page.on("console", lambda said: self._complain(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(link)
        return page

    def _complain(self, text: str) -> None:
        # htmx says so of a part that was on its way when somebody went to another page.
        if not text.startswith(("htmx:afterRequest", "htmx:sendError", "htmx:sendAbort")):
            self.complaints.append(text)


@dataclass(frozen=True)
class Stage:
    """The shop of these tests: the office has the businesses, the kitchen nothing yet."""

    office: Laptop
    kitchen: Laptop
    reader: Reader
    agent: Agent
    """The kitchen's; a test may stop it."""
    stack: ExitStack


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """A browser for all tests of a module."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium is installed")
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Reader(browser)
        browser.close()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, module_shops: Shops, reader: Reader) -> Iterator[Stage]:
    """Its laptops and businesses are called as the module's ``LAPTOPS`` and ``BUSINESSES`` say, where they do."""
    names = getattr(request.module, "LAPTOPS", ("laptop-office-001", "laptop-kitchen-002"))
    office = apart(lambda: module_shops.laptop(names[0], "shop"))
    kitchen = apart(lambda: module_shops.laptop(names[1]))
    module_shops.shop(office, kitchen)
    named = "UPDATE businesses SET name = $1 WHERE name = $2 RETURNING 1"
    for name, new in getattr(request.module, "BUSINESSES", {}).items():
        assert apart(lambda name=name, new=new: office.query(named, new, name))
    with ExitStack() as stack:
        agents = []
        for laptop in (office, kitchen):
            change(Home(laptop.home), web_port=0, alerts={"desktop": False})
            agents.append(stack.enter_context(laptop.running()))
        office.knows(agents[1].port)
        kitchen.knows(agents[0].port)
        yield Stage(office, kitchen, reader, agents[1], stack)


@pytest.fixture(autouse=True)
def nothing_to_complain(request: pytest.FixtureRequest) -> Iterator[None]:
    """No page breaks the content security policy, and no script fails."""
    yield
    if "reader" in request.fixturenames:
        complaints = request.getfixturevalue("reader").complaints
        said, complaints[:] = list(complaints), []
        assert said == []


def check_accessible(page: Page) -> None:
    """No serious or critical finding of axe on the page as it is now."""
    found = page.evaluate(
        f"async () => {{ {AXE.read_text('utf-8')}; const found = await axe.run(); "
        "return found.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
        ".map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))]) }"
    )
    assert found == [], page.url


def check_fits(page: Page) -> None:
    """Nothing makes the page itself scroll sideways."""
    wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], (page.url, wide)
