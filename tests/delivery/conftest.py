"""Every kind of place, behind one small interface for the conformance tests."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from agent.delivery.base import Delivery, Parcel
from agent.delivery.cloud import CloudDelivery
from agent.delivery.folder import FolderDelivery
from agent.delivery.mail import MailDelivery
from agent.delivery.smb import SmbDelivery
from tests.support.cut import Cut
from tests.support.places import (
    PASSWORD,
    SMB_USER,
    USER,
    Mailbox,
    s3_put_bucket,
    s3_server,
    smb_reason,
    smb_server,
)

MakeParcel = Callable[..., Parcel]
KINDS = ["folder", "email", "smb", "s3"]


class Place:
    """A place under test. ``overwrites``: whether a file of the same name and other content needs another name."""

    overwrites = True

    def __init__(self, delivery: Delivery, cut: Cut | None = None) -> None:
        self.delivery = delivery
        self.cut = cut

    @abstractmethod
    async def received(self) -> dict[str, list[bytes]]:
        """What is there, by name: more than one where it came twice. Partial and hidden files count too."""


class FolderPlace(Place):
    def __init__(self, delivery: Delivery, folder: Path, cut: Cut | None = None) -> None:
        super().__init__(delivery, cut)
        self.folder = folder

    async def received(self) -> dict[str, list[bytes]]:
        return {path.name: [path.read_bytes()] for path in self.folder.rglob("*") if path.is_file()}


class MailPlace(Place):
    overwrites = False

    def __init__(self, delivery: Delivery, mailbox: Mailbox, cut: Cut | None = None) -> None:
        super().__init__(delivery, cut)
        self.mailbox = mailbox

    async def received(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for letter in self.mailbox.letters:
            for part in letter.iter_attachments():
                found.setdefault(part.get_filename() or "", []).append(part.get_content())
        return found


class S3Place(Place):
    def __init__(self, delivery: Delivery, port: int, bucket: str, cut: Cut) -> None:
        super().__init__(delivery, cut)
        self.bucket = bucket
        self.port = port

    async def received(self) -> dict[str, list[bytes]]:
        config = s3_options(self.port)
        store = from_url(
            f"s3://{self.bucket}",
            config=config,
            client_options={"allow_http": True},
            **s3_login(),  # type: ignore[arg-type]
        )
        found = {}
        for item in obstore.list(store).collect():
            data = bytes(obstore.get(store, item["path"]).bytes())
            found[item["path"].removeprefix("shop/")] = [data]
        return found


def s3_options(port: int) -> dict[str, str]:
    return {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}


def s3_login() -> dict[str, str]:
    return {"access_key_id": USER, "secret_access_key": PASSWORD}


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(scope="session")
def smb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    if (reason := smb_reason()) is not None:
        pytest.skip(reason)
    with smb_server(tmp_path_factory.mktemp("samba")) as found:
        yield found


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    folder = tmp_path / "mail"
    folder.mkdir()
    with Mailbox(folder) as box:
        yield box


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        kind = request.param
        if kind == "folder":
            (tmp_path / "nas").mkdir()
            yield FolderPlace(FolderDelivery(tmp_path / "nas"), tmp_path / "nas")
        elif kind == "email":
            box: Mailbox = request.getfixturevalue("mailbox")
            cut = await stack.enter_async_context(Cut(box.port))
            yield MailPlace(mail(box, cut.port), box, cut)
        elif kind == "smb":
            port, share = request.getfixturevalue("smb")
            cut = await stack.enter_async_context(Cut(port))
            folder = f"{tmp_path.parent.name}/{tmp_path.name}"
            yield FolderPlace(
                SmbDelivery("127.0.0.1", "backups", folder, SMB_USER, PASSWORD, cut.port), share / folder, cut
            )
        else:
            port = request.getfixturevalue("s3_port")
            cut = await stack.enter_async_context(Cut(port))
            bucket = f"b{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:20]}"
            s3_put_bucket(port, bucket)
            delivery = CloudDelivery(
                f"s3://{bucket}/shop", USER, PASSWORD, {**s3_options(cut.port), "allow_http": "true"}
            )
            yield S3Place(delivery, port, bucket, cut)


def mail(box: Mailbox, port: int | None = None, *, limit: int = 25_000_000, security: str = "starttls") -> MailDelivery:
    return MailDelivery(
        server="localhost",
        port=port or box.port,
        security=security,
        sender="shop@example.com",
        to=("owner@example.com",),
        limit=limit,
        user=USER,
        password=PASSWORD,
        trust=box.trust,
    )


@pytest.fixture
def parcel(tmp_path: Path) -> MakeParcel:
    """Makes parcels: ``parcel(b"...", name="a.bundle.age", key="k")``."""

    def make(data: bytes, *, name: str = "backup-full-20260101-153045.bundle.age", key: str = "0a1b2c") -> Parcel:
        path = tmp_path / f"parcel-{key}"
        path.write_bytes(data)
        return Parcel(
            key=key,
            path=path,
            name=name,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            created=datetime(2026, 1, 1, 15, 30, 45, tzinfo=UTC),
            title="Backup of Café Ümläut",
            lines=("Made on laptop-office-001.",),
        )

    return make
