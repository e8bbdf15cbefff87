"""An alert by email, to a real mail server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config import change
from agent.operations.alerts import Alert, Alerts
from agent.operations.workspace import Workspace
from tests.support.archives import workspace_at
from tests.support.places import PASSWORD, USER, Mailbox


async def test_an_alert_is_mailed_with_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = workspace_at(tmp_path / "home")
    folder = tmp_path / "mail"
    folder.mkdir()
    with Mailbox(folder) as box:
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
        monkeypatch.setenv("BACKROOM_DELIVERY_MAIL_PASSWORD", PASSWORD)
        mail = {"name": "mail", "kind": "email", "server": "localhost", "port": box.port, "user": USER}
        mail |= {"sender": "shop@example.com", "to": ("owner@example.com",)}
        change(workspace.home, delivery=(mail,), alerts={"email": "admin@example.com", "desktop": False})
        alert = Alert("schedule/nightly", "backup-missing", "nightly is missing since yesterday.")
        await Alerts(Workspace(workspace.home)).hold("schedule/", (alert,))
        (letter,) = box.letters
        assert letter["To"] == "admin@example.com"
        assert letter["Subject"] == "Backroom on laptop-office-001: nightly is missing since yesterday."
        (attachment,) = letter.iter_attachments()
        assert json.loads(attachment.get_content())["code"] == "backup-missing"
