"""``backroom history`` and ``status`` on a real archive, as a user runs them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from protocol.manifest import Kind
from tests.support.agents import backroom
from tests.support.archives import NOON, keep, workspace_at


async def test_history_is_browsed_by_kind_business_device_and_time(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    async with workspace.history() as history:
        full = await keep(workspace, history, NOON)
        business = await keep(workspace, history, NOON + timedelta(days=2), Kind.BUSINESS)
        gone = await keep(workspace, history, NOON + timedelta(days=3))
        await history.change_backup(gone.id, removed_at=NOON, removed_why="past the rules")
        await history.change_backup(full.id, notes="before the move", pinned=True)

    async def ids(*options: str) -> list[str]:
        said = await asyncio.to_thread(
            backroom, "--home", str(workspace.home.path), "--json", "history", *options, env={"TZ": "UTC"}
        )
        assert said.code == 0, said
        return [each["id"] for each in said.value["backups"]]

    assert await ids() == [business.id, full.id]
    assert await ids("--kind", "full") == [full.id]
    assert await ids("--business", "Restaurant ABC") == await ids("-b", "biz-1") == [business.id]
    assert await ids("--device", "laptop-office-001") == [business.id, full.id]
    assert await ids("--device", "laptop-nowhere") == []
    assert await ids("--since", "2026-06-02") == [business.id]
    assert await ids("--until", "2026-06-01 12:30") == [full.id]
    assert await ids("--removed") == [gone.id]
    words = await asyncio.to_thread(backroom, "--home", str(workspace.home.path), "history")
    assert "pinned" in words.out
    assert "before the move" in words.err
    seen = await asyncio.to_thread(backroom, "--home", str(workspace.home.path), "--json", "status")
    assert (seen.value["last_drill"], seen.value["alerts"]) == (None, [])
