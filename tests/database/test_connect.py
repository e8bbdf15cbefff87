"""Opening the database: settings, addresses, and what is said where it fails."""

from __future__ import annotations

import socket

import pytest

from agent.database.connect import PINNED, connect, server_address
from agent.database.errors import BadAddress, DatabaseError, LoginRefused, Unreachable
from tests.conftest import MakeDatabase
from tests.support.databases import Database


@pytest.mark.parametrize(
    ("url", "dsn", "namespace"),
    [
        ("postgres://a:b%40c@h:1/d", "postgresql://a:b%40c@h:1/d", None),
        (" postgresql://h/d?schema=my%20shop\n", "postgresql://h/d", "my shop"),
        (
            "postgresql://h/d?sslmode=require&connection_limit=5&pgbouncer=true",
            "postgresql://h/d?sslmode=require",
            None,
        ),
        ("postgresql://u@/d?host=%2Ftmp%2Fx&port=5", "postgresql://u@/d?host=%2Ftmp%2Fx&port=5", None),
    ],
)
def test_addresses_as_the_platform_writes_them(url: str, dsn: str, namespace: str | None) -> None:
    assert server_address(url) == (dsn, namespace)


@pytest.mark.parametrize(
    "url", ["", "localhost/db", "mysql://h/d", "postgresql://h:port/d", "postgresql://h:99999/d", "postgresql://[::1/d"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadAddress, match="database address") as caught:
        server_address(url)
    assert "postgresql://user:password@localhost" in caught.value.hint


async def test_the_settings_are_pinned(database: MakeDatabase) -> None:
    empty = await database()
    async with empty.connect(admin=True) as connection:
        for setting in ("datestyle = 'German, DMY'", "extra_float_digits = -3", "statement_timeout = '1ms'"):
            await connection.execute(f"ALTER DATABASE {empty.name} SET {setting}")
        if connection.get_server_version().major >= 17:
            await connection.execute(f"ALTER DATABASE {empty.name} SET transaction_timeout = '1s'")
    connection = await connect(empty.dsn, application_name="backroom: test")
    try:
        for name, value in PINNED.items():
            assert await connection.fetchval(f"SHOW {name}") == value, name
        assert await connection.fetchval("SHOW application_name") == "backroom: test"
        assert await connection.fetchval("SELECT 0.1::float8 + 0.2::float8") == 0.1 + 0.2
        if connection.get_server_version().major >= 17:
            assert await connection.fetchval("SHOW transaction_timeout") == "0"
    finally:
        await connection.close()


async def failure(url: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught:
        await connect(url)
    assert "secret" not in str(caught.value)
    return caught.value


async def test_logins_that_are_refused(database: MakeDatabase) -> None:
    empty = await database()
    nobody = await failure(empty.dsn.replace("shop@", "nobody:secret@"))
    assert isinstance(nobody, LoginRefused)
    assert 'role "nobody" does not exist' in str(nobody)
    missing = await failure(empty.dsn.replace(f"/{empty.name}", "/missing"))
    assert isinstance(missing, LoginRefused)
    assert 'database "missing" does not exist' in str(missing)
    async with empty.connect(admin=True) as connection:
        await connection.execute(f"REVOKE CONNECT ON DATABASE {empty.name} FROM public")
        await connection.execute(f"ALTER DATABASE {empty.name} OWNER TO postgres")
    closed = await failure(empty.dsn)
    assert isinstance(closed, LoginRefused)
    assert "permission denied for database" in str(closed)


async def test_an_address_with_a_setting_that_does_not_exist(database: MakeDatabase) -> None:
    empty = await database()
    error = await failure(empty.dsn + "&colour=blue")
    assert isinstance(error, BadAddress)
    assert "colour" in str(error)
    assert isinstance(await failure(empty.dsn + "&sslmode=perhaps"), BadAddress)


async def test_too_many_connections(database: MakeDatabase) -> None:
    empty = await database()
    async with empty.connect(admin=True) as connection:
        await connection.execute(f"ALTER DATABASE {empty.name} CONNECTION LIMIT 0")
    error = await failure(empty.dsn)
    assert isinstance(error, Unreachable)
    assert "too many connections" in str(error)


async def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    error = await failure(f"postgresql://u:secret@127.0.0.1:{port}/d")
    assert isinstance(error, Unreachable)
    assert f"127.0.0.1:{port} does not answer" in str(error)
    assert isinstance(await failure("postgresql://u:secret@no-such-host.invalid/d"), Unreachable)


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.database.connect.CONNECT_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        error = await failure(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/d")
    assert isinstance(error, Unreachable)
    assert "does not answer: nothing came back within 0.3 seconds" in str(error)


async def test_the_schema_of_the_address_is_the_search_path(database: MakeDatabase) -> None:
    empty: Database = await database()
    connection = await connect(empty.dsn + "&schema=a%22b")
    try:
        assert await connection.fetchval("SHOW search_path") == '"a""b"'
    finally:
        await connection.close()
