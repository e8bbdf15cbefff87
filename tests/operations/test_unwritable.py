"""What becomes of a push, and of the agent, when a disk is full or the history cannot be written to at a bad moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.archive.errors import ArchiveError, DiskFullError, HistoryError
from agent.archive.history import History
from agent.archive.writer import Writer
from agent.config import change
from agent.database.merge import Conflicts
from agent.engine.bundle_file import VerifiedBundle
from agent.home import Home
from agent.operations import arriving, receive, upkeep
from agent.operations.upkeep import keep_up
from tests.operations.test_early import BUSINESS, Coming, bundle, coming, off_loop, office, sales
from tests.support.agents import Laptop, Shops, ended

__all__ = ["bundle", "office", "sales"]


def broken(error: Exception) -> Callable[..., Awaitable[None]]:
    async def fails(*_: object, **__: object) -> None:
        raise error

    return fails


async def applied(push: Coming) -> Any:
    part = await push.accepted()
    part.follower = None
    await push.send(part, 1.0)
    try:
        return await push.apply(part)
    finally:
        await part.close()


@pytest.mark.parametrize("noting", ["end_transfer", "add_backup", "end_restore"])
async def test_rows_that_are_in_are_never_told_to_be_refused(
    office: Laptop, sales: Laptop, bundle: VerifiedBundle, noting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has committed: the sender gets its receipt, whatever cannot be noted here."""
    before = await off_loop(sales.digest)
    async with coming(sales, office, bundle) as push:
        with monkeypatch.context() as patch:
            patch.setattr(History, noting, broken(HistoryError("The history is locked.")))
            receipt = await applied(push)
        assert receipt.outcome == "applied"
        rows = await off_loop(sales.digest)
        assert rows != before
        # Asked again, it says the same: from its history, or since all is here already.
        again = await push.reception.offer(push.peer, push.offer)
        assert type(again).__name__ == ("Accept" if noting == "end_transfer" else "Done")
    if noting == "end_restore":
        record = (await off_loop(sales.history))["restores"][0]
        assert record["transaction"]
        assert record["undo_path"]


async def test_a_comparison_that_cannot_be_made_does_not_make_the_push_look_refused(
    office: Laptop, sales: Laptop, bundle: VerifiedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "proved", broken(OSError(5, "a bad sector")))
    async with coming(sales, office, bundle) as push:
        monkeypatch.setattr(
            push.reception.approvals, "decide", _with_the_bundle_winning(push.reception.approvals.decide)
        )
        receipt = await applied(push)
    assert receipt.outcome == "applied"
    assert "not compared with the bundle" in receipt.message


def _with_the_bundle_winning(decide: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def decided(*arguments: Any) -> Any:
        return replace(await decide(*arguments), conflicts=Conflicts.BUNDLE)

    return decided


async def test_no_room_for_the_undo_bundle(
    office: Laptop, sales: Laptop, bundle: VerifiedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is restored, the history says why, and the same push goes on once there is room."""
    before = await off_loop(sales.digest)
    commit = Writer.commit

    async def full(writer: Writer, name: str) -> Any:
        if "undo" in name:
            raise DiskFullError("The disk is full.")
        return await commit(writer, name)

    async with coming(sales, office, bundle) as push:
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "commit", full)
            with pytest.raises(DiskFullError):
                await applied(push)
        assert await off_loop(sales.digest) == before
        history = await off_loop(sales.history)
        assert [(each["state"], each["error_code"]) for each in history["transfers"]] == [("failed", "disk-full")]
        assert [(each["state"], each["error_code"]) for each in history["restores"]] == [("failed", "disk-full")]
        assert (await applied(push)).outcome == "applied"
    assert [each["state"] for each in (await off_loop(sales.history))["transfers"]] == ["done"]


async def test_a_transfer_that_fell_silent_is_noted_once_that_is_possible(
    office: Laptop, sales: Laptop, bundle: VerifiedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(arriving, "_POLL_SECONDS", 0.02)
    async with coming(sales, office, bundle) as push:
        part = await push.accepted()
        await push.send(part, 0.3)
        ending, failed = History.end_transfer, asyncio.Event()

        async def once(history: History, *arguments: Any, **options: Any) -> None:
            if not failed.is_set():
                failed.set()
                raise HistoryError("The history is locked.")
            await ending(history, *arguments, **options)

        monkeypatch.setattr(History, "end_transfer", once)
        watching = asyncio.create_task(push.reception.arrivals.watch())
        async with asyncio.timeout(10):
            while [each["state"] for each in (await off_loop(sales.history))["transfers"]] != ["interrupted"]:
                await asyncio.sleep(0.02)
        assert failed.is_set()
        watching.cancel()
        await part.close()


async def test_nothing_is_kept_of_pushes_that_come_no_further(
    office: Laptop, sales: Laptop, bundle: VerifiedBundle
) -> None:
    async with coming(sales, office, bundle) as push:
        early = push.reception._early
        part = await push.accepted()
        await push.send(part, 0.3)
        assert early._early
        await part.close()
        await push.reception.stopped(push.peer, push.offer, cancelled=False)
        assert not early._early
        # A sender that says no word: forgotten when the next one offers something.
        part = await push.accepted()
        await part.close()
        assert early._early
        unasked = push.reception.approvals.unasked(push.peer, push.offer)
        await early.expect("another-transfer", bundle.manifest, part.path, unasked)
        assert set(early._early) == {"another-transfer"}


def test_an_agent_goes_on_where_it_cannot_say_how_transfers_stand(shops: Shops) -> None:
    """As with a full disk, on which a file cannot be written: the push comes through, and the agent stays."""
    office, sales = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-sales-002")
    shops.shop(office, sales)
    change(Home(office.home), bandwidth_limit=0.1)
    with sales.running() as agent:
        # Where its file would be written first there is a folder.
        (sales.home / "state" / f"transfers.{agent.process.pid}").mkdir()
        office.knows(agent.port)
        answer = ended(office.start("push", BUSINESS, sales.name))
        assert answer.code == 0, answer
        assert answer.value["outcome"] == "applied"
        agent.wait_for("this will be tried again")
        assert agent.process.poll() is None
        (sales.home / "state" / f"transfers.{agent.process.pid}").rmdir()


async def test_what_is_kept_up_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "AGAIN_SECONDS", 0.0)
    errors: list[Exception] = [OSError(28, "No space left on device"), ArchiveError("no room"), ArchiveError("no room")]
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        if errors:
            raise errors.pop()

    await keep_up("working", work)
    assert times == 4

    errors.append(ValueError("a mistake of ours"))
    with pytest.raises(ValueError, match="ours"):
        await keep_up("working", work)
