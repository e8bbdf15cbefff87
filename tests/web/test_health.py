"""``/healthz`` and ``/metrics`` over real sockets."""

from __future__ import annotations

from pathlib import Path

from agent.operations.alerts import Alert, Alerts
from tests.support.archives import many, workspace_at
from tests.web.test_api import serving


async def test_health_and_numbers_are_given_to_who_has_the_token(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home")
    async with workspace.history() as history:
        await many(workspace, history, 3)
    async with serving(workspace) as asker:
        assert await asker.json("GET", "/healthz") == {"status": "ok", "problems": []}
        async with asker.ask("GET", "/metrics") as response:
            assert response.content_type == "text/plain"
            assert "backroom_backups 3.0" in await response.text()
        await Alerts(workspace, {}).hold("schedule/", (Alert("schedule/x", "backup-missing", "x"),))
        assert (await asker.json("GET", "/healthz", 503))["problems"] == ["schedule/x"]
        async with asker.session.get(f"{asker.url}/metrics") as response:
            assert response.status == 401
