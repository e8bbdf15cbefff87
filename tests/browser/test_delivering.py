"""A backup is proved by a drill and taken elsewhere from the page: real mail, a real share, a real object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url
from playwright.sync_api import Locator, Page, expect

from agent.config import change
from agent.config_delivery import DeliverySettings
from agent.home import Home
from tests.browser.conftest import Reader, apart, check_accessible, check_fits
from tests.support.agents import Laptop, Shops
from tests.support.places import PASSWORD, SMB_USER, USER, Mailbox, free_port, s3_put_bucket, s3_server, smb_reason
from tests.support.places import smb_server as samba

ABC = "Restaurant ABC"
WORDS = "three small horses"

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Office:
    """One laptop with a business, a backup of it, and a mail server that its agent trusts."""

    laptop: Laptop
    backup: str
    mailbox: Mailbox
    page: Page

    def places(self, *places: dict[str, object]) -> None:
        """These are the places of the settings now."""
        change(Home(self.laptop.home), delivery=tuple(DeliverySettings.model_validate(each) for each in places))

    def mail(self, password: str = PASSWORD) -> dict[str, object]:
        server = {"server": "localhost", "port": self.mailbox.port, "user": USER, "password": password}
        return {"name": "owner", "kind": "email", "sender": "shop@example.com", "to": "owner@example.com", **server}

    def open(self) -> None:
        """The page of the backup."""
        self.page.goto(f"{self.page.url.partition('/page')[0]}/page/backups/{self.backup}")

    def deliver(self, where: str, seal: str = "passphrase") -> None:
        """Deliver the backup to a place of the settings, or to an address."""
        self.open()
        self.page.locator("summary", has_text="Deliver it").click()
        to = self.page.get_by_label("Where to")
        if to.locator(f"option[value='{where}']").count():
            to.select_option(where)
        else:
            to.select_option("other")
            self.page.get_by_label("Address").fill(where)
        self.page.get_by_label("Encryption of what is delivered").select_option(seal)
        if seal == "passphrase":
            self.page.get_by_label("Passphrase", exact=True).fill(WORDS)
        self.page.get_by_role("button", name="Deliver", exact=True).click()

    def delivered(self) -> None:
        expect(self.page.get_by_text("Delivered to")).to_be_visible(timeout=60_000)

    def fact(self, name: str) -> Locator:
        """What the backup's page says under this name."""
        self.open()
        return self.page.locator("dt", has_text=name).locator("xpath=following-sibling::dd[1]")

    def whole(self, file: Path) -> None:
        """What was delivered is this backup, whole, and opens with the passphrase."""
        seen = self.laptop.cli("inspect", str(file), env={"BACKROOM_PASSPHRASE": WORDS})
        assert (seen.value.get("valid"), seen.value.get("bundle_id")) == (True, self.backup), seen


@pytest.fixture(scope="module")
def office(module_shops: Shops, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    def make() -> Laptop:
        laptop = module_shops.laptop("laptop-office-001", "shop")
        module_shops.shop(laptop)
        change(Home(laptop.home), web_port=0, alerts={"desktop": False})
        return laptop

    laptop = apart(make)
    backup = apart(lambda: laptop.do("backup", "--business", ABC))["bundle_id"]
    post = tmp_path_factory.mktemp("post")
    with Mailbox(post) as mailbox, laptop.running({"SSL_CERT_FILE": str(post / "certificate.pem")}):
        yield Office(laptop, backup, mailbox, reader.open(laptop))


def test_a_drill_shows_its_progress_its_result_and_its_date(office: Office) -> None:
    page = office.page
    expect(office.fact("Last drill")).to_have_text("none yet")
    page.get_by_role("button", name="Hold a drill").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Drill: backup-business-")
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_text("The drill passed:")).to_be_visible(timeout=60_000)
    check_accessible(page)
    rows = apart(office.laptop.history)["backups"][0]["records"]
    expect(page.get_by_text(f"{rows:,} rows were restored into a scratch database")).to_be_visible()
    expect(office.fact("Last drill")).to_contain_text("passed")
    page.get_by_role("link", name="Backups").first.click()
    expect(page.locator("#found tbody tr")).to_contain_text("drill passed just now")
    page.set_viewport_size({"width": 360, "height": 800})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})

    # A file that was damaged since: the drill fails, and both pages say so.
    record = apart(office.laptop.history)["backups"][0]
    file = office.laptop.home / "archive" / record["path"]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    try:
        office.open()
        page.get_by_role("button", name="Hold a drill").click()
        expect(page.get_by_text("The drill failed:")).to_be_visible(timeout=60_000)
        expect(office.fact("Last drill")).to_contain_text("failed")
        expect(page.get_by_text("This file is damaged")).to_be_visible()
    finally:
        file.write_bytes(whole)
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_text("The file is whole.")).to_be_visible()
    office.open()
    expect(page.get_by_text("This file is damaged")).to_have_count(0)


def test_an_email_refused_then_sent_by_trying_again(office: Office, tmp_path: Path) -> None:
    page = office.page
    office.places(office.mail("wrong"))
    office.deliver("owner")
    expect(page.get_by_text(f"localhost:{office.mailbox.port} refuses the login of {USER}")).to_be_visible()
    check_accessible(page)
    page.get_by_role("link", name="Deliveries that wait").click()
    waiting = page.locator("li", has_text="owner").last
    expect(waiting).to_contain_text("refuses the login")
    expect(waiting).to_contain_text("failed")
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 800})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})
    office.places(office.mail())
    page.get_by_role("button", name="Try now").click()
    office.delivered()
    expect(page.get_by_text("accepted by localhost")).to_be_visible()
    page.get_by_role("link", name="Back", exact=True).click()
    expect(page.get_by_role("button", name="Try now")).to_have_count(0)
    (letter,) = office.mailbox.letters
    assert (letter["To"], ABC in letter["Subject"]) == ("owner@example.com", True)
    (attached,) = letter.iter_attachments()
    (tmp_path / "came.bundle.age").write_bytes(attached.get_content())
    office.whole(tmp_path / "came.bundle.age")

    # To somebody else over the same server, by an address alone.
    office.deliver("email:accountant@example.com")
    office.delivered()
    assert office.mailbox.letters[-1]["To"] == "accountant@example.com"
    expect(office.fact("Emailed")).to_contain_text("owner@example.com, accountant@example.com")
    office.places({**office.mail(), "max_mb": 1, "name": "tiny"}, office.mail())
    office.deliver("email:not-an-address")
    expect(page.get_by_text("is not an email address")).to_be_visible()


def test_a_share_that_is_switched_off_then_on(office: Office, tmp_path: Path) -> None:
    if (reason := smb_reason()) is not None:
        pytest.skip(reason)
    page, port = office.page, free_port()
    nas = {"name": "nas", "kind": "smb", "user": SMB_USER, "password": PASSWORD}
    office.places({**nas, "url": f"smb://127.0.0.1:{port}/backups/shop"})
    office.deliver("nas")
    expect(page.get_by_text("The delivery waits as")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Deliveries that wait").click()
    expect(page.locator("li", has_text="nas").last).to_contain_text("waiting")
    (tmp_path / "nas").mkdir()
    with samba(tmp_path / "nas") as (port, share):
        office.places({**nas, "url": f"smb://127.0.0.1:{port}/backups/shop"})
        page.get_by_role("button", name="Try now").click()
        office.delivered()
        expect(page.get_by_text("sha256 read back")).to_be_visible()
        (file,) = (share / "shop").iterdir()
        office.whole(file)
        # The login of the place that is set up goes for other addresses of that server too.
        office.deliver(f"smb://127.0.0.1:{port}/nothing")
        expect(page.get_by_text("has no share 'nothing'")).to_be_visible()
    expect(office.fact("Copied to")).to_contain_text(f"smb://127.0.0.1:{port}/backups/shop/{file.name}")
    page.goto(f"{page.url.partition('/page')[0]}/page/deliveries")
    page.get_by_role("button", name="Drop").click()
    expect(page.get_by_role("button", name="Drop")).to_have_count(0)


def test_a_cloud_without_its_bucket_then_with_it(office: Office, tmp_path: Path) -> None:
    page = office.page
    with s3_server() as port:
        options = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}
        login = {"access_key_id": USER, "secret_access_key": PASSWORD}
        cloud = {"name": "vault", "kind": "cloud", "url": "s3://shop-backups/abc", "user": USER, "password": PASSWORD}
        office.places({**cloud, "options": {**options, "allow_http": "true"}})
        office.deliver("vault")
        expect(page.get_by_text("s3://shop-backups/abc is not there.")).to_be_visible(timeout=60_000)
        expect(page.get_by_text("Make the bucket first")).to_be_visible()
        s3_put_bucket(port, "shop-backups")
        page.get_by_role("link", name="Deliveries that wait").click()
        page.get_by_role("button", name="Try now").click()
        office.delivered()
        store = from_url("s3://shop-backups", config={**options, **login}, client_options={"allow_http": True})  # type: ignore[arg-type]
        (there,) = obstore.list(store).collect()
        (tmp_path / "came.bundle.age").write_bytes(bytes(obstore.get(store, there["path"]).bytes()))
    office.whole(tmp_path / "came.bundle.age")
    expect(office.fact("In the cloud")).to_contain_text(f"s3://shop-backups/{there['path']}")
    assert PASSWORD not in page.content()


def test_a_folder_by_its_path_and_one_that_is_not_there(office: Office, tmp_path: Path) -> None:
    page = office.page
    office.deliver(f"path:{tmp_path}", seal="shop")
    expect(page.get_by_text("It did not work")).to_be_visible()  # nobody made a recovery key in this shop
    assert list(tmp_path.iterdir()) == []
    office.deliver(f"path:{tmp_path}", seal="plain")
    office.delivered()
    (file,) = tmp_path.iterdir()
    office.whole(file)
    office.deliver(f"path:{tmp_path}/missing", seal="plain")
    expect(page.get_by_text("There is no folder")).to_be_visible()
    page.get_by_role("link", name="Deliveries that wait").click()
    (tmp_path / "missing").mkdir()
    page.get_by_role("button", name="Try now").click()
    office.delivered()
    assert [each.name for each in (tmp_path / "missing").iterdir()] == [file.name]
