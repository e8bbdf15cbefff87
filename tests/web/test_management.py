"""The API's endpoints for what is set and what waits, over a real socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.archive.records import TransferRecord
from agent.config import load
from agent.operations.requests import WAITING, Requests
from agent.operations.workspace import Workspace, utc_now
from tests.support.archives import workspace_at
from tests.web.test_api import serving


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "home")


async def test_the_schedule(workspace: Workspace) -> None:
    async with serving(workspace) as asker:
        entry = {"name": "nightly", "task": "backup", "kind": "full", "at": ["22:15"], "alarmHours": 20}
        assert (await asker.done("/api/schedule", entry))["state"] == "done"
        (kept,) = load(workspace.home).schedule
        assert (kept.name, kept.at, kept.alarm_hours, kept.off) == ("nightly", ("22:15",), 20, False)
        assert (await asker.done("/api/schedule/switches", {"name": "Nightly", "on": False}))["state"] == "done"
        (seen,) = (await asker.json("GET", "/api/schedule"))["entries"]
        assert (seen["name"], seen["off"]) == ("nightly", True)
        wrong = await asker.done("/api/schedule", {"name": "x", "task": "push"})
        assert wrong["error"]["code"] == "bad-config"
        assert "a business and a device" in wrong["error"]["message"]
        assert (await asker.done("/api/schedule/removals", {"name": "nightly"}))["state"] == "done"
        assert (await asker.json("GET", "/api/schedule"))["entries"] == []
        gone = await asker.done("/api/schedule/removals", {"name": "nightly"})
        assert gone["error"]["code"] == "no-such-entry"


async def test_places_are_tried_and_forgotten(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    async with serving(workspace) as asker:
        tried = await asker.done("/api/places/tests", {"name": f"path:{tmp_path / 'nas'}"})
        assert tried["state"] == "done", tried
        assert list((tmp_path / "nas").iterdir()) == []
        assert (await asker.done("/api/places/removals", {"name": "nas"}))["state"] == "failed"


async def test_transfers_are_listed_and_cancelled(workspace: Workspace) -> None:
    async with workspace.history() as history:
        await history.start_transfer(
            TransferRecord(
                id="t-1234567890",
                direction="sent",
                mode="push",
                kind="business-specific",
                peer_node="node-x",
                peer_name="laptop-sales-002",
                state="started",
                started_at=utc_now(),
            )
        )
        await history.end_transfer("t-1234567890", "interrupted", error_code="stopped", error="It was stopped.")
    async with serving(workspace) as asker:
        (listed,) = await asker.json("GET", "/api/transfers")
        assert (listed["id"], listed["phase"]) == ("t-1234567890", "interrupted")
        done = await asker.done("/api/cancellations", {"transfer": "t-1234"})
        assert done["result"] == {"id": "t-1234567890", "state": "cancelled", "direction": "sent"}
        assert await asker.json("GET", "/api/transfers") == []


async def test_requests_are_answered(workspace: Workspace) -> None:
    book = Requests(workspace.home)
    first, second = (
        book.ask("push", key, "node-a", "laptop-a", "wants", business_id="b1", business="ABC") for key in ("t-1", "t-2")
    )
    renewal = book.ask("renewal", "r", "node-a", "laptop-a", "asks")
    async with serving(workspace) as asker:
        assert {each["id"] for each in await asker.json("GET", "/api/requests")} == {first.id, second.id, renewal.id}
        for asked in ({"request": second.id, "yes": False}, {"request": renewal.id, "yes": True}):
            refused = await asker.done("/api/answers", {**asked, "always": True})
            assert refused["error"]["code"] == "bad-request"
        assert {each.state for each in book.all()} == {WAITING}
        approved = await asker.done("/api/answers", {"request": first.id, "yes": True, "always": True})
        assert approved["result"]["state"] == "approved"
        assert book.permitted("node-a", "b1", "bundle")
        declined = await asker.done("/api/answers", {"request": second.id, "yes": False})
        assert declined["result"]["state"] == "declined"
        again = await asker.done("/api/answers", {"request": second.id, "yes": True})
        assert again["error"]["code"] == "request-over"


async def test_the_doctor_is_asked(workspace: Workspace) -> None:
    async with serving(workspace) as asker:
        found = await asker.done("/api/diagnoses", {})
        assert found["state"] == "done", found
        assert {"code", "message"} <= set(found["result"]["findings"][0])
