"""A command imports what it uses and no more: libraries are most of the time that a command takes to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.archive.history import History
from agent.config import change
from agent.home import Home
from certs.store import Store

ROOT = Path(__file__).parents[2]
# Libraries and parts of Backroom that take tens of milliseconds each. A command imports those beside it, no others.
HEAVY = (
    *("aiohttp", "aiohttp.web", "aiosmtplib", "alembic", "asyncpg", "cryptography", "jinja2", "obstore"),
    *("prometheus_client", "pydantic", "pyrage", "rich", "smbclient", "sqlalchemy", "structlog", "zeroconf"),
    *("zstandard", "agent.engine.backup", "agent.engine.restore", "agent.operations.transfers", "agent.web"),
    # What takes bundles in, apart from what hands them over.
    *("agent.peers.fetch", "agent.peers.receive", "agent.peers.server"),
)
NETWORK = "aiohttp cryptography pydantic zeroconf"
USED = {
    "--version": "",
    "--help": "",
    "push --help": "",
    "requests": "pydantic",
    "devices": "cryptography pydantic",
    "businesses": "asyncpg pydantic",
    "history": "pydantic",
    "transfers": "pydantic",
    "schedule list": "pydantic",
    "status": "asyncpg cryptography pydantic",
    "backup --full": "agent.engine.backup asyncpg cryptography pydantic zstandard",
    # What sends comes while the database is at work, and it does not answer here.
    "push b other": "agent.engine.backup agent.operations.transfers asyncpg cryptography pydantic zstandard",
    "pull other --full": f"agent.engine.backup asyncpg {NETWORK} zstandard",
    "compare -b b --with other": f"asyncpg {NETWORK} pyrage zstandard",
    "restore nothing": "agent.engine.backup agent.engine.restore asyncpg cryptography pydantic zstandard",
}
CODE = """
import sys
from agent.cli.main import main
try:
    main(sys.argv[2:])
finally:
    connector = sys.modules.get("aiohttp.connector")
    if connector is not None:  # it came without the system's authorities
        assert not connector._SSL_CONTEXT_VERIFIED.get_ca_certs()
    print(*sorted(set(sys.argv[1].split()) & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    """A laptop that is set up and alone; nothing answers where its database should be."""
    home = Home(tmp_path)
    store = Store(tmp_path)
    store.load_or_create_identity("office")
    store.create_shop("Corner Shops")
    change(home, name="office", database_url="postgresql://shop@127.0.0.1:1/none")
    async with History.open(home):
        return home


@pytest.mark.parametrize("command", USED)
async def test_a_command_imports_no_library_that_it_does_not_use(command: str, home: Home) -> None:
    arguments = [" ".join(HEAVY), "--home", str(home.path), *command.split()]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    *said, imported = done.stderr.splitlines()
    assert imported.split() == sorted(USED[command].split())
    assert not [line for line in said if "Traceback" in line]


def test_an_agent_that_is_idle_has_not_imported_what_it_may_never_need() -> None:
    seldom = {"aiosmtplib", "alembic", "obstore", "prometheus_client", "smbclient", "spake2", "sqlalchemy"}
    seldom |= {"agent.web.api.app", "agent.web.pages", "jinja2", "protocol.platform_json", "rich"}
    seldom |= {"agent.database", "agent.operations.receive", "agent.operations.deliveries", "asyncpg", "pyrage"}
    code = f"""if True:
        import sys, agent.app
        from agent.log import get_logger
        get_logger("x").error("the first event")
        print(*sorted({seldom} & set(sys.modules)), len(ssl_context.get_ca_certs()))
    """.replace("ssl_context", "sys.modules['aiohttp.connector']._SSL_CONTEXT_VERIFIED")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
