"""The places of deliveries on the page, each tried with its button against a real server: mail, S3, a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent.config import change, load
from agent.config_delivery import DeliverySettings
from agent.home import Home
from tests.browser.conftest import Reader, apart, check_accessible, check_fits
from tests.support.agents import Laptop, Shops
from tests.support.places import PASSWORD, USER, Mailbox, s3_put_bucket, s3_server

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Office:
    """A laptop whose agent trusts the certificate of the mail server beside it."""

    laptop: Laptop
    page: Page
    box: Mailbox

    def kept(self, name: str) -> DeliverySettings:
        """The place as the settings hold it."""
        (found,) = [each for each in load(Home(self.laptop.home), {}).delivery if each.name == name]
        return found

    def form(self, change: str = "") -> None:
        """The form for a new place, or for one that there is."""
        self.page.get_by_role("navigation").get_by_role("link", name="Settings").click()
        self.page.locator(".tiles").get_by_role("link", name="Deliveries").click()
        if change:
            self.page.get_by_role("link", name=f"Change {change}").click()
        elif not self.page.get_by_label("What is there").is_visible():
            self.page.locator("summary", has_text="Add a place").click()

    def fill(self, **fields: str) -> None:
        """Type into the fields of these labels."""
        for label, value in fields.items():
            self.page.get_by_label(label.replace("_", " "), exact=True).fill(value)

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button, exact=True).click()

    def refused(self, words: str) -> None:
        """What was sent is not taken, for this reason, which stands in the form as it was filled in."""
        expect(self.page.get_by_role("alert").get_by_text(words)).to_be_visible()


@pytest.fixture(scope="module")
def office(module_shops: Shops, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("mail")
    laptop = apart(lambda: module_shops.laptop("laptop-office-001", "device"))
    module_shops.shop(laptop)
    change(Home(laptop.home), web_port=0, alerts={"desktop": False})
    with ExitStack() as stack:
        box = stack.enter_context(Mailbox(folder))
        stack.enter_context(laptop.running({"SSL_CERT_FILE": str(folder / "certificate.pem")}))
        yield Office(laptop, reader.open(laptop), box)


def test_mail_is_set_up_tried_and_changed(office: Office, reader: Reader) -> None:
    page = office.page
    office.form()
    office.fill(Name="owner")
    page.get_by_label("What is there").select_option("email")
    expect(page.get_by_label("Endpoint", exact=True)).to_be_hidden()
    office.fill(Mail_server="localhost", Port=str(office.box.port), From="shop@example.com")
    office.press("Add a place")
    office.refused("The field To (with commas between) is empty.")
    page.get_by_label("To (with commas between)").fill("owner@example.com, tax@example.com")
    office.fill(User=USER, Password=PASSWORD)
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 780})
    check_fits(page)
    page.set_viewport_size({"width": 1200, "height": 850})
    office.press("Add a place")
    expect(page.locator("li", has_text="owner")).to_contain_text(
        f"localhost:{office.box.port}, STARTTLS; from shop@example.com to owner@example.com, tax@example.com"
    )
    office.press("Test owner")
    expect(page.get_by_text("takes the login, messages up to")).to_be_visible()

    # What is secret does not come back, and goes to no other server.
    office.form(change="owner")
    assert PASSWORD not in page.content()
    expect(page.get_by_label("Password", exact=True)).to_have_value("")
    expect(page.get_by_label("From")).to_have_value("shop@example.com")
    check_accessible(page)
    office.fill(Mail_server="mail.invalid")
    office.press("Save")
    office.refused("the place is on another server now, so type the password of that one")
    office.fill(Mail_server="localhost", From="backup@example.com")
    page.get_by_label("Largest mail").fill("12")
    office.press("Save")
    expect(page.locator("li", has_text="owner")).to_contain_text("from backup@example.com")
    kept = office.kept("owner")
    assert (kept.max_mb, kept.secret({}), kept.to) == (12, PASSWORD, ("owner@example.com", "tax@example.com"))
    # The same server carries alerts; a webhook that does not work says so, and is shown no more.
    page.get_by_role("navigation").get_by_role("link", name="Settings").click()
    page.get_by_label("Mail it to").fill("admin@example.com")
    page.get_by_label("Send it to a webhook").fill(page.url.partition("/page")[0] + "/secret-path")
    check_accessible(page)
    office.press("Tell these, and try it")
    expect(page.get_by_text("Email: told.").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile(r"^Webhook: the server answered 4\d\d$"))).to_be_visible()
    (letter,) = office.box.letters
    assert (letter["To"], letter["From"]) == ("admin@example.com", "backup@example.com")
    page.get_by_role("navigation").get_by_role("link", name="Settings").click()
    assert "secret-path" not in page.content()
    page.get_by_label("No webhook any more").check()
    office.press("Tell these")
    expect(page.get_by_label("No webhook any more")).to_have_count(0)
    kept_alerts = load(Home(office.laptop.home), {}).alerts
    assert (kept_alerts.email, kept_alerts.webhook, kept_alerts.desktop) == (("admin@example.com",), None, False)

    office.form()
    office.fill(Name="Owner")
    page.get_by_label("Folder", exact=True).fill("/anywhere")
    office.press("Add a place")
    office.refused("there is a place named owner already")
    page.get_by_label("What is there").select_option("email")
    office.fill(Name="open", Mail_server="smtp.example.com", From="a@example.com")
    page.get_by_label("To (with commas between)").fill("b@example.com")
    page.get_by_label("How mail is protected").select_option("none")
    office.press("Add a place")
    office.refused("security none would send the password over the network in the clear")
    reader.complaints.clear()  # the refusals' own status


def test_cloud_storage_is_set_up_tried_and_changed(office: Office, reader: Reader) -> None:
    page = office.page
    with s3_server() as port:
        s3_put_bucket(port, "shop-backups")
        office.form()
        office.fill(Name="cloud")
        page.get_by_label("What is there").select_option("cloud")
        expect(page.get_by_label("Mail server")).to_be_hidden()
        page.get_by_label("Address").fill("s3://shop-backups/office")
        office.fill(User=USER, Password="secret-key", Endpoint=f"http://127.0.0.1:{port}", Region="eu-central-1")
        page.get_by_label("More options").fill("session_token=tok-5678\nvirtual_hosted_style_request")
        office.press("Add a place")
        office.refused("KEY=VALUE is needed, a line each")
        expect(page.get_by_label("Password", exact=True)).to_have_value("")
        office.fill(Password="secret-key")
        page.get_by_label("More options").fill("session_token=tok-5678\nvirtual_hosted_style_request=false")
        check_accessible(page)
        office.press("Add a place")
        office.press("Test cloud")
        expect(page.get_by_text("It did not work", exact=True)).to_be_visible(timeout=60_000)
        office.form(change="cloud")
        for secret in ("secret-key", "tok-5678"):
            assert secret not in page.content()
        expect(page.get_by_text("Kept, and not shown: session_token, virtual_hosted_style_request.")).to_be_visible()
        # Now over http: that is another way, and the key is asked for again.
        page.get_by_label("The endpoint speaks http").check()
        office.press("Save")
        office.refused("so type the password of that one")
        office.fill(Password="other-key")
        office.press("Save")
        office.press("Test cloud")
        expect(page.get_by_text("s3://shop-backups/office can be written.")).to_be_visible()
    kept = {key: value.get_secret_value() for key, value in office.kept("cloud").options.items()}
    assert kept == {"endpoint": f"http://127.0.0.1:{port}", "region": "eu-central-1", "allow_http": "true"}
    reader.complaints.clear()


def test_a_folder_is_set_up_with_its_own_recipients_or_unsealed(office: Office, tmp_path: Path) -> None:
    page = office.page
    office.form()
    office.fill(Name="stick", Folder=str(tmp_path))
    page.locator("summary", has_text="Encryption").click()
    page.get_by_label("Never seal what goes there").check()
    office.press("Add a place")
    office.press("Test stick")
    expect(page.get_by_text("It works.")).to_be_visible()
    assert office.kept("stick").plain is True

    # What was delivered is taken in again from there.
    made = apart(lambda: office.laptop.do("backup", "--full-device"))
    apart(lambda: office.laptop.do("deliver", made["bundle_id"], "--to", "stick"))
    Path(made["file"]).unlink()
    page.get_by_role("navigation").get_by_role("link", name="Settings").click()
    page.locator(".tiles").get_by_role("link", name="Deliveries").click()
    office.press("What lies there: stick")
    expect(page.get_by_text(f"Backups at {tmp_path}, the newest first.")).to_be_visible()
    check_accessible(page)
    office.press(f"Take in {Path(made['file']).name}")
    expect(page.get_by_text("The file is in the archive.")).to_be_visible()
    assert Path(made["file"]).exists()
    office.form(change="stick")
    page.locator("summary", has_text="Encryption").click()
    page.get_by_label("Never seal what goes there").uncheck()
    page.get_by_label("age recipients").fill("age1one, age1two")
    office.press("Save")
    expect(page.get_by_role("link", name="Change stick")).to_be_visible()
    kept = office.kept("stick")
    assert (kept.plain, kept.recipients, kept.path) == (False, ("age1one", "age1two"), str(tmp_path))
