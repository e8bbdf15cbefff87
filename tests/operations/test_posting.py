"""The running agent works its queue off: nothing goes out twice, no delivery stands in the way of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.archive.errors import HistoryError
from agent.archive.history import History
from agent.config import change
from agent.delivery.outbox import WAITING, Job, Outbox
from agent.operations import deliveries, posting
from agent.operations.deliveries import Busy, hand_over, queue_delivery
from agent.operations.posting import outbox, serve_outbox
from agent.operations.workspace import Workspace, utc_now
from tests.support.archives import many, workspace_at
from tests.support.places import PASSWORD, USER, Mailbox


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(posting, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(posting, "UNNOTED_SECONDS", 0.3)
    (tmp_path / "nas").mkdir()
    return workspace_at(tmp_path / "home")


@pytest.fixture
def mailbox(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "mail"
    folder.mkdir()
    with Mailbox(folder) as box:
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
        monkeypatch.setenv("BACKROOM_DELIVERY_MAIL_PASSWORD", PASSWORD)
        mail = {"name": "mail", "kind": "email", "server": "localhost", "port": box.port, "user": USER}
        change(workspace.home, delivery=({**mail, "sender": "shop@example.com", "to": ("owner@example.com",)},))
        yield box


async def queued(workspace: Workspace, *places: str) -> list[Job]:
    """A job for each of the places, in the order in which they are due."""
    workspace = workspace.anew()
    async with workspace.history() as history:
        (record,) = await many(workspace, history, 1)
    path = workspace.archive.locate(record.path)
    return [await queue_delivery(workspace, path, place, plain=True) for place in places]


@asynccontextmanager
async def served(workspace: Workspace) -> AsyncIterator[None]:
    serving = asyncio.create_task(serve_outbox(workspace))
    try:
        yield
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("error", [HistoryError("database is locked"), OSError("no space left")])
async def test_what_cannot_be_noted_is_sent_once_and_the_next_has_its_turn(
    workspace: Workspace, mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    await queued(workspace, "mail", f"path:{tmp_path}/nas")

    def locked(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(History, "change_backup", locked)
    async with served(workspace):
        await until(lambda: not outbox(workspace).jobs())
        await asyncio.sleep(0.5)
    assert len(mailbox.letters) == 1
    assert len(list((tmp_path / "nas").iterdir())) == 1


async def test_an_error_nobody_foresaw_is_tried_later_and_the_next_has_its_turn(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await queued(workspace, f"path:{tmp_path}/odd", f"path:{tmp_path}/nas")
    tried = []

    def find(text: str, places: object) -> Any:
        if text == first.place:
            tried.append(text)
            raise ValueError("Header values may not contain linefeed")
        return found(text, places)  # type: ignore[arg-type]

    found = deliveries.find_place
    monkeypatch.setattr(deliveries, "find_place", find)
    async with served(workspace):
        await until(lambda: len(outbox(workspace).jobs()) == 1)
        await asyncio.sleep(0.3)
    (left,) = outbox(workspace).jobs()
    assert (left.id, left.state, left.attempts, left.error_code) == (first.id, WAITING, 1, "unexpected")
    assert left.next_at > utc_now()
    assert len(tried) == 1


async def test_what_cannot_be_taken_out_of_the_queue_is_sent_once(
    workspace: Workspace, mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = await queued(workspace, "mail", f"path:{tmp_path}/nas")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "done", refuse)
        patched.setattr(Outbox, "_write", refuse)
        async with served(workspace):
            await until(lambda: mailbox.letters and list((tmp_path / "nas").iterdir()))
            await asyncio.sleep(0.8)
        assert len(outbox(workspace).jobs()) == 2
        async with workspace.history() as history:
            with pytest.raises(Busy):
                await hand_over(workspace, history, job)
    async with served(workspace):
        await until(lambda: not outbox(workspace).jobs())
    assert len(mailbox.letters) == 1


async def test_a_queue_that_cannot_be_written_is_not_asked_at_every_beat(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queued(workspace, f"path:{tmp_path}/nas")
    monkeypatch.setattr(posting, "UNNOTED_SECONDS", 60)
    tried = []

    def refuse(*_: object, **__: object) -> None:
        tried.append(1)
        raise PermissionError("read-only")

    monkeypatch.setattr(Outbox, "claim", refuse)
    monkeypatch.setattr(Outbox, "_write", refuse)
    async with served(workspace):
        await until(lambda: tried)
        await asyncio.sleep(0.5)
    assert len(tried) == 2, "once to take it up, once to note that"


async def test_a_business_named_over_two_lines_is_mailed(workspace: Workspace, mailbox: Mailbox) -> None:
    (job,) = await queued(workspace, "mail")
    outbox(workspace).add(replace(job, title="Backup of Restaurant\r\nABC\x85Two", name="a\nb.bundle"))
    async with served(workspace):
        await until(lambda: not outbox(workspace).jobs())
    (letter,) = mailbox.letters
    assert letter["Subject"] == "Backup of Restaurant ABC Two"
    (attachment,) = letter.iter_attachments()
    assert attachment.get_filename() == "a b.bundle"


async def test_each_goes_by_the_present_settings_and_by_the_last_good_ones_where_they_are_broken(
    workspace: Workspace, tmp_path: Path
) -> None:
    assert workspace.config.delivery == (), "as the agent started"
    change(workspace.home, delivery=({"name": "nas", "kind": "folder", "path": f"{tmp_path}/nas"},))
    good = workspace.home.config.read_text()
    async with served(workspace):
        await queued(workspace, "nas")
        await until(lambda: not outbox(workspace).jobs())
        (job,) = await queued(workspace, f"path:{tmp_path}/usb")
        workspace.home.config.write_text(good + "\n[[[nonsense")
        (tmp_path / "usb").mkdir()
        outbox(workspace).retry(job, utc_now())
        await until(lambda: not outbox(workspace).jobs())
    assert len(list((tmp_path / "nas").iterdir())) == 1
    assert len(list((tmp_path / "usb").iterdir())) == 1
