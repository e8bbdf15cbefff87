"""The ten test cases of the plan, by name, each from the command line to the rows, as the shop's people would do it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.sealing.age import new_identity
from tests.support.agents import NO_MDNS, Laptop, Shops
from tests.support.places import PASSWORD, SMB_USER, USER, Mailbox, s3_put_bucket, s3_server, smb_reason, smb_server

WORDS = "copper lantern violin harbour"
SECRET = {**NO_MDNS, "BACKROOM_PASSPHRASE": WORDS}
NAMES = "SELECT name FROM businesses ORDER BY 1"
ORDERS = 'SELECT o::text FROM business_orders o JOIN businesses b ON b.id = o."businessId" WHERE b.name = $1 ORDER BY 1'


# Its rows name the laptop that they are enforced on: a device reference, which stays behind.
NAMES_DEVICE = {"mac_acl_entries"}


def differing(one: Laptop, other: Laptop) -> set[str]:
    """The tables whose rows may go to another laptop and that do not hold the same on both."""
    classes = {each["table"]: each["class"] for each in one.do("tables")}
    here, there = one.digest(), other.digest()
    return {name for name in here if here[name] != there[name] and classes[name] not in {"device", "transient"}}


def without_demo(shops: Shops, name: str) -> Laptop:
    """A laptop with the whole shop."""
    laptop = shops.laptop(name, "shop")
    assert len(laptop.query(NAMES)) > 2
    return laptop


def restore(laptop: Laptop, file: str | Path, *options: str, env: dict[str, str] | None = None) -> Any:
    return laptop.do("restore", str(file), "--yes", *options, env=env or NO_MDNS)


def test_1_full_to_full_on_the_same_device(shops: Shops) -> None:
    office = without_demo(shops, "laptop-office-001")
    before = office.digest()
    made = office.do("backup", "--full", "--include-demo")
    office.execute("DELETE FROM business_order_items; UPDATE businesses SET name = name || ' (wrong)'")
    assert office.digest() != before
    assert restore(office, made["bundle_id"])["applied"] is True
    assert office.digest() == before


def test_2_full_to_full_on_a_different_device(shops: Shops, tmp_path: Path) -> None:
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    own = sales.digest()
    made = office.do("backup", "--full", "--include-demo", "--plain", "--output", str(tmp_path))
    restore(sales, made["file"])
    assert differing(office, sales) <= NAMES_DEVICE
    device = {each["table"] for each in sales.do("tables") if each["class"] == "device"}
    assert all(sales.digest()[name][0] >= own[name][0] for name in device)
    whole = office.do("backup", "--full-device", "--plain", "--output", str(tmp_path))
    refused = sales.cli("restore", whole["file"], "--yes").error
    assert "full device backup from a different device (laptop-office-001)" in refused["message"]


def test_3_business_on_a_different_device(shops: Shops, tmp_path: Path) -> None:
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    identity, recipient = new_identity()
    (tmp_path / "key.txt").write_text(identity)
    office.do("keys", "add", recipient)
    made = office.do("backup", "--business", "Restaurant ABC", "--output", str(tmp_path))
    assert made["file"].endswith(".bundle.age")
    assert sales.cli("restore", made["file"], "--yes").error["code"] == "key-needed"
    assert restore(sales, made["file"], "--identity", str(tmp_path / "key.txt"))["identical"] is True
    assert sales.query(ORDERS, "Restaurant ABC") == office.query(ORDERS, "Restaurant ABC") != []
    assert sales.query('SELECT count(DISTINCT "businessId") FROM business_orders')[0][0] == 1


def test_4_several_business_backups(shops: Shops, tmp_path: Path) -> None:
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    names = ["Restaurant ABC", "Green Valley Grocery", "Corner Hardware"]
    made = [office.do("backup", "--business", name, "--plain", "--output", str(tmp_path)) for name in names]
    assert len({each["file"] for each in made}) == len(names) > 1
    for place, each in enumerate(made):
        restore(sales, each["file"])
        for name in names[: place + 1]:  # what came before is as it was
            assert sales.query(ORDERS, name) == office.query(ORDERS, name)
        assert all(sales.query(ORDERS, name) == [] for name in names[place + 1 :])


def test_5_compression_on_and_off(shops: Shops, tmp_path: Path) -> None:
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    small = office.do("backup", "--full", "--plain", "--output", str(tmp_path / "small.bundle"))
    large = office.do("backup", "--full", "--no-compress", "--plain", "--output", str(tmp_path / "large.bundle"))
    assert small["rows"] == large["rows"]
    assert small["raw_bytes"] == large["raw_bytes"]
    assert small["bytes"] * 2 < large["bytes"]
    assert Path(large["file"]).stat().st_size == large["bytes"] >= large["raw_bytes"]
    restore(sales, small["file"])
    same = restore(sales, large["file"])
    assert (same["inserted"], same["updated"]) == (0, 0)
    for suffix, option in ((".json.gz", ()), (".json", ("--no-compress",))):
        exported = office.do("export", large["file"], *option, "--plain", "--output", str(tmp_path / f"file{suffix}"))
        assert (Path(exported["file"]).read_bytes()[:2] == b"\x1f\x8b") is (not option)
    identity, recipient = new_identity()
    (tmp_path / "key.txt").write_text(identity)
    office.do("keys", "add", recipient)
    sealed = office.do("export", large["file"], "--output", str(tmp_path))
    assert sealed["file"].endswith(".json.gz.age")
    taken = office.do("import", sealed["file"], "--identity", str(tmp_path / "key.txt"))
    assert (taken["rows"], taken["checksum"]) == (large["rows"], "holds")


def test_6_email(shops: Shops, tmp_path: Path) -> None:
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    office.do("keys", "make", env=SECRET)
    made = office.do("backup", "--business", "Restaurant ABC")
    post = tmp_path / "post"
    post.mkdir()
    with Mailbox(post) as box:
        mail = {**NO_MDNS, "SSL_CERT_FILE": str(post / "certificate.pem"), "BACKROOM_DELIVERY_OWNER_PASSWORD": PASSWORD}
        place = ("--email", "--server", "localhost", "--port", str(box.port), "--user", USER)
        office.do("delivery", "add", "owner", *place, "--from", "shop@example.com", "--to", "owner@example.com")
        sent = office.do("deliver", made["bundle_id"], "--to", "owner", env=mail)
        office.do(
            "delivery", "add", "tiny", *place, "--from", "a@example.com", "--to", "b@example.com", "--max-mb", "1"
        )
        large = office.do("backup", "--full-device", "--no-compress", "--include-demo")
        if large["bytes"] > 1_000_000:
            refused = office.cli("deliver", large["bundle_id"], "--to", "tiny", "--plain", env=mail).error
            assert "Nothing was sent" in refused["message"]
        (letter,) = box.letters
    assert sent["state"] == "delivered"
    (attached,) = letter.iter_attachments()
    file = tmp_path / str(attached.get_filename())
    file.write_bytes(attached.get_content())
    assert file.name == f"{Path(made['file']).name}.age"
    (kept,) = [each for each in office.history()["backups"] if each["id"] == made["bundle_id"]]
    assert kept["emailed_to"] == "owner@example.com"
    assert kept["emailed_at"] is not None
    key = str(office.home / "keys" / "recovery.age")
    assert sales.cli("restore", str(file), "--yes").error["code"] == "key-needed"
    restore(sales, file, "--identity", key, env=SECRET)
    assert sales.query(ORDERS, "Restaurant ABC") == office.query(ORDERS, "Restaurant ABC") != []


@contextmanager
def share(how: str, folder: Path, *laptops: Laptop) -> Iterator[tuple[str, dict[str, str]]]:
    """A place to save to and load from, set up on the laptops: its name or address, and its password."""
    folder.mkdir()
    env = {**NO_MDNS, "BACKROOM_DELIVERY_NAS_PASSWORD": PASSWORD}
    if how == "mounted":
        yield f"path:{folder}", env
    elif how == "smb":
        with smb_server(folder) as (port, _):
            for laptop in laptops:
                url = f"smb://127.0.0.1:{port}/backups/shop"
                laptop.do("delivery", "add", "nas", "--smb", "--url", url, "--user", SMB_USER)
            yield "nas", env
    else:
        with s3_server() as port:
            s3_put_bucket(port, "backups")
            for laptop in laptops:
                options = (f"endpoint=http://127.0.0.1:{port}", "region=us-east-1", "allow_http=true")
                given = [part for each in options for part in ("--option", each)]
                laptop.do("delivery", "add", "nas", "--cloud", "--url", "s3://backups/shop", "--user", USER, *given)
            yield "nas", env


@pytest.mark.parametrize("how", ["mounted", "smb", "s3"])
def test_7_network_share_save_and_load(shops: Shops, tmp_path: Path, how: str) -> None:
    if how == "smb" and (reason := smb_reason()) is not None:
        pytest.skip(reason)
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    made = office.do("backup", "--business", "Restaurant ABC")
    with share(how, tmp_path / "place", office, sales) as (place, env):
        sent = office.do("deliver", made["bundle_id"], "--to", place, "--plain", env=env)
        assert sent["state"] == "delivered"
        again = office.do("deliver", made["bundle_id"], "--to", place, "--plain", env=env)
        assert again["already"] is True
        (there,) = sales.do("delivery", "files", place, env=env)["files"]
        assert there == {"name": Path(made["file"]).name, "bytes": made["bytes"]}
        which = sales.cli("restore", place, "--yes", env=env).error
        assert (which["code"], there["name"] in which["message"]) == ("which-backup", True)
        file = f"{place}/{there['name']}" if how == "mounted" else f"{place}:{there['name']}"
        assert restore(sales, file, env=env)["file"] == file
    (kept,) = office.history()["backups"]
    assert kept["cloud_location" if how == "s3" else "network_path"] == sent["where"]
    assert sales.query(ORDERS, "Restaurant ABC") == office.query(ORDERS, "Restaurant ABC") != []
    assert sales.files("spool") == []
    assert sales.history()["restores"][0]["file"] == there["name"]


def test_8_version_management(shops: Shops) -> None:
    office = without_demo(shops, "laptop-office-001")
    versions = []
    for number in range(3):
        office.execute(f"UPDATE businesses SET address = 'Street {number}' WHERE name = 'Restaurant ABC'")
        versions.append(office.do("backup", "--business", "Restaurant ABC"))
    ids = [each["bundle_id"] for each in versions]
    listed = office.do("history", "--kind", "business", "--business", "Restaurant ABC")["backups"]
    assert [each["id"] for each in listed] == ids[::-1]
    office.do("archive", "note", ids[0], "before the stocktaking")
    office.do("archive", "pin", ids[0])
    pruned = office.do("prune", "--yes")
    assert set(pruned["removed"]) == set(ids[1:2])  # one a day stays: the newest; and the pinned one
    assert office.do("archive", "check")["whole"] is True
    restore(office, ids[0])
    street = "SELECT address FROM businesses WHERE name = 'Restaurant ABC'"
    assert office.query(street)[0][0] == "Street 0"
    office.do("archive", "untrash", ids[1])
    restore(office, ids[1])
    assert office.query(street)[0][0] == "Street 1"
    office.do("undo", "--yes")
    assert office.query(street)[0][0] == "Street 0"


def test_9_checksum_validation(shops: Shops, tmp_path: Path) -> None:
    office, sales = without_demo(shops, "laptop-office-001"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    made = office.do("backup", "--full")
    exported = office.do("export", made["file"], "--no-compress", "--plain", "--output", str(tmp_path))
    before = sales.digest()
    whole = Path(made["file"]).read_bytes()
    bad = tmp_path / "bad.bundle"
    for place in (40, len(whole) // 2, len(whole) - 40):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert sales.cli("restore", str(bad), "--yes", "--trust-source").error["message"]
    Path(made["file"]).write_bytes(bad.read_bytes())
    checked = office.cli("verify", "--all")
    assert checked.code == 1
    assert Path(made["file"]).name in checked.out
    text = Path(exported["file"]).read_text(encoding="utf-8")
    assert json.loads(text)["metadata"]["checksums"]["businessData"]
    changed = tmp_path / "changed.json"
    changed.write_text(text.replace("Restaurant ABC", "Restaurant XYZ"), encoding="utf-8")
    assert sales.cli("import", str(changed), "--restore", "--yes").error["code"] == "platform-checksum"
    assert sales.digest() == before
    assert sales.history()["backups"] == []


def test_10_a_large_data_set(shops: Shops, tmp_path: Path) -> None:
    office = shops.laptop("laptop-office-001", shops.large_database(int(os.environ.get("BACKROOM_TEST_SCALE", "2000"))))
    sales = shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    made = office.do("backup", "--full", "--include-demo", "--plain", "--output", str(tmp_path))
    assert made["rows"] > 50_000
    restored = restore(sales, made["file"])
    assert restored["inserted"] + restored["updated"] + restored["unchanged"] + restored["kept"] == made["rows"]
    assert differing(office, sales) <= NAMES_DEVICE
