"""Refusals of each kind of place, in words that say what to do, and without secrets."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.delivery.cloud import CloudDelivery
from agent.delivery.errors import (
    BadPlaceError,
    LoginError,
    RejectedError,
    TooLargeError,
    UnreachableError,
)
from agent.delivery.folder import FolderDelivery
from agent.delivery.mail import encoded_size
from agent.delivery.smb import SmbDelivery
from tests.delivery.conftest import MakeParcel, mail, s3_options
from tests.support.places import PASSWORD, SMB_USER, USER, Mailbox, s3_put_bucket


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 5_000_000])
async def test_the_size_of_a_message_is_known_beforehand(mailbox: Mailbox, parcel: MakeParcel, size: int) -> None:
    place = mail(mailbox)
    message = place._message(parcel(os.urandom(size)))
    assert encoded_size(size) - 8192 < len(message) <= encoded_size(size)


async def test_too_large_is_said_before_anything_is_sent(mailbox: Mailbox, parcel: MakeParcel) -> None:
    sent = parcel(os.urandom(200_000))
    place = replace(mail(mailbox, limit=250_000), port=1)  # nobody is there: it must not even be tried
    with pytest.raises(TooLargeError, match=r"0\.2 MB, as an email 0\.3 MB") as caught:
        await place.deliver(sent)
    assert "network share" in caught.value.hint
    assert not caught.value.temporary


async def test_the_server_s_own_limit_is_asked_first(tmp_path: Path, parcel: MakeParcel) -> None:
    with Mailbox(tmp_path, limit=100_000) as box:
        with pytest.raises(TooLargeError, match=r"takes\. Nothing was sent"):
            await mail(box).deliver(parcel(os.urandom(200_000)))
        assert box.letters == []
        assert "0.1 MB" in await mail(box).check()


async def test_a_letter_for_people(mailbox: Mailbox, parcel: MakeParcel) -> None:
    sent = parcel(b"data")
    await mail(mailbox).deliver(sent)
    (letter,) = mailbox.letters
    assert letter["Subject"] == "Backup of Café Ümläut"
    assert letter["Message-ID"] == "<0a1b2c@backroom.invalid>"
    assert letter["To"] == "owner@example.com"
    body = letter.get_body()
    assert body is not None
    assert sent.sha256 in body.get_content()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # aiosmtpd thinks of STARTTLS alone
async def test_tls_from_the_first_byte(tmp_path: Path, parcel: MakeParcel) -> None:
    with Mailbox(tmp_path, tls=True) as box:
        await mail(box, security="tls").deliver(parcel(b"data"))
        assert len(box.letters) == 1


async def test_a_wrong_password_a_refused_address_and_a_stranger_s_certificate(
    mailbox: Mailbox, parcel: MakeParcel
) -> None:
    sent = parcel(b"data")
    with pytest.raises(LoginError) as login:
        await replace(mail(mailbox), password="wrong words").deliver(sent)
    assert "wrong words" not in str(login.value)
    mailbox.refuse["owner@example.com"] = "550 nobody of that name"
    with pytest.raises(RejectedError, match="550 nobody of that name"):
        await mail(mailbox).deliver(sent)
    mailbox.refuse["owner@example.com"] = "450 come back later"
    with pytest.raises(UnreachableError, match="450 come back later") as later:
        await mail(mailbox).deliver(sent)
    assert later.value.temporary
    with pytest.raises(RejectedError, match="not to be trusted"):
        await replace(mail(mailbox), trust=None).deliver(sent)
    assert mailbox.letters == []


async def test_one_of_two_addresses_refused(mailbox: Mailbox, parcel: MakeParcel) -> None:
    mailbox.refuse["old@example.com"] = "550 gone"
    place = replace(mail(mailbox), to=("owner@example.com", "old@example.com"))
    with pytest.raises(RejectedError, match=r"others have it.*old@example\.com") as caught:
        await place.deliver(parcel(b"data"))
    assert not caught.value.temporary
    assert len(mailbox.letters) == 1


async def test_a_share_that_is_not_mounted_is_waited_for_and_not_made(tmp_path: Path, parcel: MakeParcel) -> None:
    place = FolderDelivery(tmp_path / "nas")
    with pytest.raises(UnreachableError, match="no folder"):
        await place.deliver(parcel(b"data"))
    assert not (tmp_path / "nas").exists()
    with pytest.raises(BadPlaceError):
        await FolderDelivery(Path("relative")).deliver(parcel(b"data"))


async def test_leftovers_of_a_killed_try_are_written_over(tmp_path: Path, parcel: MakeParcel) -> None:
    sent = parcel(b"data")
    (tmp_path / "nas").mkdir()
    (tmp_path / "nas" / f".backroom-{sent.key}.partial").write_bytes(b"half of it and more than that")
    await FolderDelivery(tmp_path / "nas").deliver(sent)
    assert [path.name for path in (tmp_path / "nas").iterdir()] == [sent.name]


async def test_a_share_s_refusals(smb: tuple[int, Path], parcel: MakeParcel) -> None:
    port, _ = smb
    good = SmbDelivery("127.0.0.1", "backups", "words", SMB_USER, PASSWORD, port)
    for place, error in [
        (replace(good, password="wrong words"), LoginError),
        (replace(good, share="readonly"), LoginError),
        (replace(good, share="nosuch"), BadPlaceError),
        (replace(good, port=1), UnreachableError),
    ]:
        with pytest.raises(error) as caught:
            await place.deliver(parcel(b"data"))
        assert "words" not in str(caught.value).replace("/words", "")
    assert (await replace(good, encrypt=True).deliver(parcel(b"data"))).where.endswith("/words/" + parcel(b"").name)


async def test_a_cloud_s_refusals(s3_port: int, parcel: MakeParcel) -> None:
    options = {**s3_options(s3_port), "allow_http": "true"}
    with pytest.raises(BadPlaceError, match="is not there"):
        await CloudDelivery("s3://nosuchbucket/x", USER, PASSWORD, options).deliver(parcel(b"data"))
    with pytest.raises(BadPlaceError, match="cannot be used"):
        await CloudDelivery("s3://b/x", USER, PASSWORD, {"nonsense": "1"}).deliver(parcel(b"data"))
    with pytest.raises(BadPlaceError, match=r"\(timeout\) is none of a store"):
        await CloudDelivery("s3://b/x", USER, PASSWORD, {"timeout": "5s"}).deliver(parcel(b"data"))
    s3_put_bucket(s3_port, "words")
    insecure = CloudDelivery("s3://words/x", USER, PASSWORD, s3_options(s3_port))
    with pytest.raises((UnreachableError, BadPlaceError)):
        await insecure.deliver(parcel(b"data"))


async def test_a_share_that_is_not_mounted_takes_nothing(
    tmp_path: Path, parcel: MakeParcel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mount point is a folder as well: what is written there would stay on the laptop, under the next mount."""
    share, sent = tmp_path / "the share", parcel(b"data")
    (share / "backups").mkdir(parents=True)
    table, written = tmp_path / "fstab", str(share).replace(" ", "\\040")
    table.write_text(f"# /elsewhere\n//nas/shop {written} cifs rw 0 0\nUUID=1 none swap\n")
    monkeypatch.setattr("agent.delivery.folder._MOUNTS", table)
    place = FolderDelivery(share / "backups")
    for doing in (place.deliver(sent), place.check(), place.there()):
        with pytest.raises(UnreachableError, match="the share is not mounted") as caught:
            await doing
        assert caught.value.temporary
    assert list((share / "backups").iterdir()) == []
    table.write_text("//nas/other /mnt/other cifs rw 0 0\n")
    assert (await place.deliver(sent)).already is False
