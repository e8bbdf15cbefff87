"""Makes the pictures of the page in the README: `python3 scripts/screenshots.py`.

They are taken from the real page: of the two laptops of `backroom demo`, with running agents, in the system's Chromium,
and of a third one that is just being set up. Needs what the tests need. Takes about two minutes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import bootstrap

FOLDER = bootstrap.ROOT / "tests" / "browser" / "screenshots"
LARGEST = 90_000
"""Bytes: the pictures are part of every clone."""
BUSINESS = "Restaurant ABC"


@contextlib.contextmanager
def demo() -> Iterator[list[tuple[str, str]]]:
    """`backroom demo --keep` as long as the block lasts: the laptops' data folders and the links to their pages."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "agent.cli.main", "demo", "--keep"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=bootstrap.ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    homes: list[str] = []
    links: list[str] = []
    try:
        for line in process.stdout:
            print(line, end="")
            if found := re.search(r"Their data folders: (\S+) and (\S+)", line):
                homes += found.groups()
            if found := re.search(r"^The page of \S+: (http\S+)", line):
                links.append(found[1])
            if len(links) == 2:
                break
        else:
            sys.exit("The demo ended before its pages were there.")
        yield list(zip(homes, links, strict=True))
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        process.wait(60)


@contextlib.contextmanager
def fresh_laptop(database: str) -> Iterator[str]:
    """An agent on a computer that is not set up, with the platform's `.env` in its user's folder; the link."""
    from agent.home import Home
    from agent.locks import FileLock

    with tempfile.TemporaryDirectory() as user:
        platform, home = Path(user) / "platform", Home(Path(user) / "data")
        platform.mkdir()
        (platform / ".env").write_text(f'DATABASE_URL="{database}"\n')
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli.main", "--home", str(home.path), "open", "--link"],
            env={**os.environ, "HOME": user, "PYTHONPATH": str(bootstrap.ROOT), "BACKROOM_WEB_PORT": "0"},
            cwd=user,
            capture_output=True,
            text=True,
            check=True,
        )
        try:
            yield done.stdout.splitlines()[-1]
        finally:
            pid = FileLock(home.state / "agent.lock").holder()
            if pid is not None and home.locked("agent"):
                os.kill(pid, signal.SIGTERM)
                while home.locked("agent"):
                    time.sleep(0.1)


def backroom(home: str, *words: str) -> None:
    """Run a command on a laptop of the demo."""
    command = [sys.executable, "-m", "agent.cli.main", "--home", home, *words]
    subprocess.run(command, cwd=bootstrap.ROOT, check=True, stdout=subprocess.DEVNULL)


def take(chromium: str) -> None:
    """All pictures."""
    from playwright.sync_api import Page, expect, sync_playwright

    from agent.config import load
    from agent.home import Home

    def keep(page: Page, name: str) -> None:
        file = FOLDER / f"{name}.png"
        page.screenshot(path=file, animations="disabled")
        print(f"{file.relative_to(bootstrap.ROOT)}: {file.stat().st_size:,} bytes")
        assert file.stat().st_size <= LARGEST, "too large"

    FOLDER.mkdir(exist_ok=True)
    with demo() as ((home, link), (_, other)), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def visit(link: str, width: int = 1000, height: int = 600, dark: bool = False) -> Page:
            page = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            ).new_page()
            page.set_default_timeout(30_000)
            page.goto(link)
            return page

        page = visit(link)
        expect(page.get_by_text("Online").first).to_be_visible()
        page.get_by_role("button", name=f"Compare {BUSINESS} with").click()
        expect(page.get_by_text("is identical here and on").first).to_be_visible()
        page.get_by_role("navigation").get_by_role("link", name="Laptops").click()
        expect(page.get_by_text("Not there").first).to_be_visible()
        keep(page, "laptops")
        root = page.url.partition("/page")[0] + "/page"
        phone = visit(other, 390, 700, dark=True)
        expect(phone.get_by_text("Not known")).to_have_count(0)
        phone.locator("tr", has_text=BUSINESS).evaluate("row => row.scrollIntoView()")
        keep(phone, "phone")
        page.goto(f"{root}/invite")
        page.get_by_role("button", name="Show a code").click()
        expect(page.locator(".code")).to_be_visible()
        keep(page, "invite")
        page.get_by_role("button", name="Take it back").click()
        for _ in range(6):  # so that there is something to draw
            backroom(home, "push", BUSINESS, "laptop-kitchen-002")
        page.goto(f"{root}/health")
        expect(page.get_by_text("Looked at:").first).to_be_visible()
        page.locator("section[aria-labelledby=last]").evaluate("part => part.scrollIntoView()")
        keep(page, "health")
        with fresh_laptop(load(Home(home)).database()) as setup:
            page = visit(setup)
            page.get_by_role("button", name="Look at it").click()
            expect(page.get_by_text(BUSINESS)).to_be_visible()
            page.get_by_label("Name", exact=True).fill("laptop-office-001")
            keep(page, "setup")
        browser.close()


def main() -> None:
    """Needs Chromium."""
    bootstrap.enter()
    sys.path.insert(0, str(bootstrap.ROOT))
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("No Chromium is installed: sudo apt-get install chromium")
    take(chromium)


if __name__ == "__main__":
    main()
