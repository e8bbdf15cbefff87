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
# Libraries that take tens of milliseconds each. Each command imports those beside it, and no others.
HEAVY = (
    *("aiohttp", "aiosmtplib", "alembic", "asyncpg", "cryptography", "jinja2", "obstore", "prometheus_client"),
    *("pydantic", "pyrage", "rich", "smbclient", "sqlalchemy", "structlog", "zeroconf", "zstandard"),
)
USED = {
    "--version": "",
    "--help": "",
    "push --help": "",
    "requests": "pydantic",
    "devices": "cryptography pydantic",
    "businesses": "asyncpg pydantic",
    "history": "pydantic",
    "transfers": "pydantic",
    "status": "asyncpg cryptography pydantic",
}
CODE = """
import sys
from agent.cli.main import main
try:
    main(sys.argv[2:])
finally:
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
    code = f"import sys, agent.app; print(*sorted({seldom} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
