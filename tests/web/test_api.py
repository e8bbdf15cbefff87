"""The local API over real sockets: who may ask, what is answered, jobs watched and cancelled, the plan's download."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pyrage
import pytest

from agent.config import change
from agent.engine.bundle_file import verify_bundle
from agent.engine.progress import Progress, Step
from agent.operations.workspace import Workspace
from agent.sealing.age import new_identity
from agent.web.api import app as api
from agent.web.api.endpoints import ENDPOINTS
from agent.web.api.errors import PortsTaken
from agent.web.api.jobs import KEPT, Jobs
from agent.web.serving import serving_api
from certs.identity import verify_signature
from protocol.manifest import Kind
from tests.support.archives import many, workspace_at
from tests.support.databases import Database


class Asker:
    def __init__(self, workspace: Workspace, port: int, session: aiohttp.ClientSession) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.token = (workspace.home.state / "api-token").read_text().strip()
        self.session = session

    @asynccontextmanager
    async def ask(self, method: str, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **more) as response:
            yield response

    async def json(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        async with self.ask(method, path, **more) as response:
            answer = await response.json()
            assert response.status == status, answer
            return answer

    async def done(self, path: str, body: dict[str, Any]) -> Any:
        """Start a job and watch it to its end by its events."""
        job = await self.json("POST", path, 202, json=body)
        events = []
        async with self.ask("GET", f"/api/jobs/{job['id']}/events") as response:
            assert response.content_type == "text/event-stream"
            text = (await response.read()).decode()
        for event in text.strip().split("\n\n"):
            if event.startswith("event: "):
                name, data = event.removeprefix("event: ").split("\ndata: ")
                events.append((name, json.loads(data)))
        assert events[-1][0] == events[-1][1]["state"]
        return events[-1][1]


@asynccontextmanager
async def serving(workspace: Workspace) -> AsyncIterator[Asker]:
    change(workspace.home, web_port=0)
    fresh = Workspace(workspace.home)
    async with serving_api(fresh) as found, aiohttp.ClientSession() as session:
        yield Asker(fresh, found.port, session)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "home")


@pytest.fixture
async def asker(workspace: Workspace) -> AsyncIterator[Asker]:
    async with serving(workspace) as found:
        yield found


async def test_only_who_can_read_the_token(workspace: Workspace, asker: Asker) -> None:
    if os.name == "posix":
        assert (workspace.home.state / "api-token").stat().st_mode & 0o777 == 0o600
    assert (workspace.home.state / "api-port").read_text().strip() == asker.url.rpartition(":")[2]
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {asker.token}"}):
        async with asker.session.get(f"{asker.url}/api/status", headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "no-token"
    assert (await asker.json("GET", "/api/status"))["name"] == "laptop-office-001"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "backroom.evil.example:47601"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_no_other_site_and_no_rebinding(asker: Asker, headers: dict[str, str]) -> None:
    assert (await asker.json("GET", "/api/status", 403, headers=headers))["error"]["code"] == "wrong-place"


async def test_its_own_page_may(asker: Asker) -> None:
    await asker.json("GET", "/api/status", headers={"Origin": asker.url, "Sec-Fetch-Site": "same-origin"})


async def test_it_listens_on_the_loopback_address_alone(asker: Asker) -> None:
    port = int(asker.url.rpartition(":")[2])
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with socket.socket() as sock:
            assert sock.connect_ex((str(address), port)) != 0


async def test_the_document_lists_every_route(asker: Asker) -> None:
    found = await asker.json("GET", "/api/openapi.json")
    assert found["openapi"] == "3.1.0"
    said = {(method.upper(), path) for path, item in found["paths"].items() for method in item}
    served = {(each.method, each.path) for each in ENDPOINTS}
    routes = api.make_app(Workspace(Path("/nowhere")), "t").router.routes()  # type: ignore[arg-type]
    real = {(route.method, route.resource.canonical) for route in routes if route.resource and route.method != "HEAD"}
    assert served < said
    assert said == {route for route in real if route[1].startswith("/api/")} - {("GET", "/api/openapi.json")}
    names = [item[method]["operationId"] for item in found["paths"].values() for method in item]
    assert len(names) == len(set(names))
    parameters = {each["name"] for each in found["paths"]["/api/backup"]["get"]["parameters"]}
    assert parameters == {"businessId", "compress", "includeDemoData", "includeDeviceData", "plain"}
    assert "$ref" not in json.dumps(found["components"]["schemas"]["BackupAsked"])


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/api/nothing", {}, 404),
        ("GET", "/api/history?limit=0", {}, 400),
        ("GET", "/api/history?colour=red", {}, 400),
        ("GET", "/api/history?limit=1&limit=2", {}, 400),
        ("GET", "/api/backup?compress=perhaps", {}, 400),
        ("GET", "/api/backup?businessId=x&includeDeviceData=true", {}, 400),
        ("GET", "/api/jobs/none", {}, 404),
        ("GET", "/api/jobs/none/events", {}, 404),
        ("DELETE", "/api/jobs/none", {}, 404),
        ("GET", "/api/bundles/none-such", {}, 404),
        ("POST", "/api/backups", {"json": {"kind": "everything"}}, 400),
        ("POST", "/api/backups", {"json": [1]}, 400),
        ("POST", "/api/backups", {"data": "{", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", "/api/backups", {"data": "kind=full"}, 400),
        ("POST", "/api/backups", {"json": {"kind": "x" * 100_000}}, 413),
        ("DELETE", "/api/status", {}, 405),
    ],
)
async def test_bad_requests_have_words(asker: Asker, method: str, path: str, more: dict[str, Any], status: int) -> None:
    error = (await asker.json(method, path, status, **more))["error"]
    assert error["code"]
    assert error["message"].endswith(".")


async def test_the_archive_s_bundles_download_whole_and_in_parts(workspace: Workspace, asker: Asker) -> None:
    async with workspace.history() as history:
        (record,) = await many(workspace, history, 1)
    url = f"/api/bundles/{record.id}?plain=true"
    async with asker.ask("GET", url) as response:
        data = await response.read()
        assert response.headers["Backroom-Sha256"] == record.checksum == hashlib.sha256(data).hexdigest()
        assert record.filename in response.headers["Content-Disposition"]
    async with asker.ask("GET", url, headers={"Range": "bytes=100-199"}) as response:
        assert response.status == 206
        assert await response.read() == data[100:200]
    found = (await asker.json("GET", "/api/history"))["backups"]
    assert found[0]["downloaded_at"].endswith("Z")


@pytest.mark.parametrize("archive_sealed", [False, True])
async def test_downloads_are_sealed_unless_they_are_asked_for_plain(
    workspace: Workspace, asker: Asker, archive_sealed: bool
) -> None:
    change(workspace.home, encrypt_archive=archive_sealed)
    workspace = Workspace(workspace.home)
    async with workspace.history() as history:
        (record,) = await many(workspace, history, 1)
    url = f"/api/bundles/{record.id}"
    refused = (await asker.json("GET", url, 409))["error"]
    assert refused["code"] == "no-recipient"
    assert "identity export" in refused["hint"]
    assert (await asker.json("GET", "/api/backup", 409))["error"]["code"] == "no-recipient"
    identity, recipient = new_identity()
    change(workspace.home, age_recipients=(recipient,))
    with workspace.bundle_files.open(workspace.archive.locate(record.path)) as file:
        content = file.read()
    async with asker.ask("GET", url, headers={"Range": "bytes=100-199"}) as response:
        assert response.status == 200
        data = await response.read()
        assert response.content_length == len(data)
        assert f'"{record.filename.removesuffix(".age")}.age"' in response.headers["Content-Disposition"]
    assert pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(identity)]) == content
    async with asker.ask("HEAD", url) as response:
        assert response.content_length == len(data)
    async with asker.ask("GET", f"{url}?plain=true") as response:
        assert await response.read() == content
        assert f'"{record.filename.removesuffix(".age")}"' in response.headers["Content-Disposition"]


async def test_a_delivery_as_a_job(workspace: Workspace, asker: Asker, tmp_path: Path) -> None:
    async with workspace.history() as history:
        (record,) = await many(workspace, history, 1)
    (tmp_path / "nas").mkdir()
    body = {"bundle": record.id, "to": f"path:{tmp_path / 'nas'}"}
    failed = await asker.done("/api/deliveries", body)
    assert failed["state"] == "failed"
    assert failed["error"]["code"] == "no-recipient"
    done = await asker.done("/api/deliveries", {**body, "passphrase": "copper lantern violin"})
    assert done["result"]["state"] == "delivered"
    assert (tmp_path / "nas" / f"{record.filename}.age").exists()
    await asker.done("/api/deliveries", {**body, "plain": True, "queue": True})
    (waiting,) = await asker.json("GET", "/api/deliveries")
    assert waiting["state"] == "waiting"
    assert [job["verb"] for job in await asker.json("GET", "/api/jobs")] == ["deliveries"] * 3
    assert await asker.json("GET", "/api/places") == []


async def test_backups_are_looked_after_over_the_api(workspace: Workspace, asker: Asker) -> None:
    async with workspace.history() as history:
        made = await many(workspace, history, 3)
    file = workspace.archive.locate(made[0].path)
    data = file.read_bytes()
    file.write_bytes(data[:-9] + b"x" + data[-8:])
    checked = (await asker.done("/api/verify", {"all": True}))["result"]
    assert checked["ok"] is False
    assert [each["bundle_id"] for each in checked["files"] if not each["ok"]] == [made[0].id]
    assert (await asker.done("/api/verify", {"all": True, "due": True}))["error"]["code"] == "bad-request"
    noted = (await asker.done("/api/notes", {"bundle": made[2].id, "notes": "before the move", "pinned": True}))[
        "result"
    ]
    assert (noted["notes"], noted["pinned"]) == ("before the move", True)
    plan = await asker.json("GET", "/api/prune")
    done = (await asker.done("/api/prune", {}))["result"]
    assert len(done["removed"]) == plan["remove"]
    assert {each["bundle_id"]: each["keep"] for each in plan["items"]}[made[2].id] is True
    assert (await asker.done("/api/rebuild", {}))["result"]["added"] == []


@pytest.mark.one_server
async def test_out_in_back_and_compared_over_the_api(filled_database: Database, tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home", filled_database.dsn)
    async with serving(workspace) as asker:
        (business, *_) = await asker.json("GET", "/api/businesses")
        asked = {"kind": "business-specific", "business": business["id"]}
        made = (await asker.done("/api/backups", asked))["result"]
        export = {"bundle": made["bundle_id"], "output": str(tmp_path)}
        assert (await asker.done("/api/exports", export))["error"]["code"] == "no-recipient"
        sealed = (await asker.done("/api/exports", {**export, "passphrase": "copper lantern violin"}))["result"]
        assert sealed["file"].endswith(".json.gz.age")
        unopened = await asker.done("/api/imports", {"file": sealed["file"]})
        assert unopened["error"]["code"] == "bad-request"
        opening = {"file": sealed["file"], "passphrase": "copper lantern violin"}
        taken = (await asker.done("/api/imports", opening))["result"]
        assert (taken["rows"], taken["checksum"]) == (made["rows"], "holds")
        same = (await asker.done("/api/comparisons", {"business": business["id"], "with": made["bundle_id"]}))["result"]
        assert same["identical"] is True
        assert (await asker.done("/api/undos/plan", {}))["error"]["code"] == "nothing-to-undo"
        address = "SELECT address FROM businesses WHERE id = $1"
        async with filled_database.connect() as connection:
            await connection.execute("UPDATE businesses SET address = 'Elsewhere 1' WHERE id = $1", business["id"])
            found = (await asker.done("/api/restores/plan", {"bundle": made["bundle_id"]}))["result"]
            digest = {"planDigest": found["plan_digest"]}
            assert (await asker.done("/api/restores", {"bundle": made["bundle_id"], **digest}))["result"]["applied"]
            assert await connection.fetchval(address, business["id"]) != "Elsewhere 1"
            planned = (await asker.done("/api/undos/plan", {}))["result"]
            wrong = await asker.done("/api/undos", {"planDigest": "another"})
            assert wrong["error"]["code"] == "plan-changed"
            undone = await asker.done("/api/undos", {"planDigest": planned["plan_digest"]})
            assert undone["result"]["applied"] is True
            assert await connection.fetchval(address, business["id"]) == "Elsewhere 1"


@pytest.mark.one_server
@pytest.mark.parametrize("query", ["", "?compress=false&includeDemoData=true", "?includeDeviceData=true", "business"])
async def test_the_plan_s_download_endpoint(filled_database: Database, tmp_path: Path, query: str) -> None:
    workspace = workspace_at(tmp_path / "home", filled_database.dsn)
    async with serving(workspace) as asker:
        (business, *_) = await asker.json("GET", "/api/businesses")
        query = f"?businessId={business['id']}" if query == "business" else query
        identity, recipient = new_identity()
        change(workspace.home, age_recipients=(recipient,))
        async with asker.ask("GET", f"/api/backup{query}") as response:
            assert response.status == 200
            data = await response.read()
            name = response.headers["Content-Disposition"].partition('filename="')[2].rstrip('"')
        (tmp_path / name).write_bytes(pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(identity)]))
        assert name.endswith(".bundle.age")
        bundle = await verify_bundle(tmp_path / name, verify_signature)
        kind = Kind.BUSINESS if "businessId" in query else Kind.FULL_DEVICE if "Device" in query else Kind.FULL
        assert bundle.manifest.kind is kind
        assert bundle.manifest.options.compress == ("compress=false" not in query)
        assert bundle.manifest.options.include_demo == ("includeDemo" in query)
        record = (await asker.json("GET", "/api/history"))["backups"][0]
        assert record["id"] == bundle.manifest.bundle_id
        assert record["downloaded_at"]
        assert len(await asker.json("GET", "/api/tables")) > 100


@pytest.mark.one_server
async def test_backup_plan_and_exactly_that_restore(filled_database: Database, tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path / "home", filled_database.dsn)
    async with serving(workspace) as asker:
        made = (await asker.done("/api/backups", {"kind": "full"}))["result"]
        plan = (await asker.done("/api/restores/plan", {"bundle": made["bundle_id"]}))["result"]
        assert plan["inserted"] == plan["updated"] == 0
        body = {"bundle": made["bundle_id"], "planDigest": "another"}
        assert (await asker.done("/api/restores", body))["error"]["code"] == "plan-changed"
        done = await asker.done("/api/restores", {**body, "planDigest": plan["plan_digest"]})
        assert done["result"]["applied"] is True
        wrong = await asker.done("/api/backups", {"kind": "business-specific"})
        assert wrong["error"]["code"] == "bad-request"


async def test_jobs_are_cancelled_and_forgotten_when_many() -> None:
    jobs = Jobs()
    running, stopped = asyncio.Event(), asyncio.Event()

    async def forever(progress: Progress) -> None:
        progress(Step("going on", 1, 2, "x"))
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    job = jobs.start("wait", forever)
    await running.wait()
    shown = {"stage": "going on", "done": 1, "total": 2, "what": "x", "unit": "rows", "bytes": 0}
    assert job.as_dict()["progress"] == {**shown, "rate": None, "seconds_left": None}
    assert (await jobs.cancel(job.id)).state == "cancelled"
    assert stopped.is_set()

    async def quick(progress: Progress) -> int:
        return 1

    for _ in range(KEPT + 5):
        quick_job = jobs.start("quick", quick)
        assert quick_job.task is not None
        await quick_job.task
    assert len(jobs.all()) <= KEPT + 1

    async def breaks(progress: Progress) -> None:
        raise ZeroDivisionError("the details")

    broken = jobs.start("breaks", breaks)
    assert broken.task is not None
    await broken.task
    assert broken.error is not None
    assert broken.error["code"] == "unexpected"
    assert "details" not in json.dumps(broken.as_dict(), default=str)
    await jobs.close()


async def test_a_port_that_is_taken(workspace: Workspace) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        change(workspace.home, web_port=port)
        with pytest.raises(PortsTaken):
            async with serving_api(Workspace(workspace.home)):
                pass
