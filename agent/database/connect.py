"""Opening the platform's database. asyncpg is used here and beside, nowhere else (DESIGN section 8)."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from agent.database.errors import BadAddress, LoginRefused, Unreachable, UnsupportedServer

CONNECT_SECONDS = 15.0
OLDEST_SERVER = 130000

# Both ends of every transfer pin these, so that the text of a value is the same everywhere (DESIGN section 11).
PINNED = {
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "lc_monetary": "C",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "jit": "off",
    # Else a scan of a large table begins where another one is: rows that nobody touched would stand elsewhere in the
    # next bundle, and a delta against this one would have to find them again.
    "synchronize_seqscans": "off",
    "work_mem": "64MB",
    "statement_timeout": "0",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "0",
    # A receipt is a promise: what it says was applied must survive a crash of the server, however that is set up.
    "synchronous_commit": "on",
}

# Prisma adds its own parameters to DATABASE_URL; a driver that does not know them fails.
_PRISMA_ONLY = {
    "connection_limit",
    "pool_timeout",
    "pgbouncer",
    "socket_timeout",
    "connect_timeout",
    "sslaccept",
    "sslidentity",
    "sslpassword",
    "statement_cache_size",
    "max_idle_connection_lifetime",
    "max_connection_lifetime",
    "single_use_connections",
}


def server_address(url: str) -> tuple[str, str | None]:
    """Split the platform's ``DATABASE_URL`` into a DSN for the driver and the schema that it names (or None).

    Raises :class:`BadAddress` where the text is no PostgreSQL address.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise BadAddress(f"The database address cannot be read: {error}.") from error
    if parts.scheme not in {"postgres", "postgresql"}:
        raise BadAddress("The database address does not start with postgresql://.")
    try:
        _ = parts.port
    except ValueError as error:
        raise BadAddress("The port in the database address is not a number from 1 to 65535.") from error
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    namespace = query.pop("schema", None)
    kept = {name: value for name, value in query.items() if name not in _PRISMA_ONLY}
    return urlunsplit(parts._replace(scheme="postgresql", query=urlencode(kept))), namespace


async def connect(url: str, *, application_name: str = "backroom") -> asyncpg.Connection:
    """A connection with the pinned settings. ``url`` as the platform writes it (``?schema=`` sets the search path).

    Raises :class:`Unreachable`, :class:`LoginRefused`, :class:`BadAddress` or :class:`UnsupportedServer`.
    """
    dsn, namespace = server_address(url)
    settings = {**PINNED, "application_name": application_name}
    if namespace:
        settings["search_path"] = '"' + namespace.replace('"', '""') + '"'
    try:
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=settings)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise LoginRefused(f"The database refused the login: {error}.") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise LoginRefused(f"The database refused the login: {error}.") from error
    except (
        asyncpg.ClientConfigurationError,
        asyncpg.UndefinedObjectError,
        asyncpg.InvalidParameterValueError,
        asyncpg.CantChangeRuntimeParamError,
        ValueError,
    ) as error:
        raise BadAddress(f"The database address cannot be used: {error}.") from error
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        where = urlsplit(dsn).netloc.rpartition("@")[2] or "the local socket"
        why = str(error) or f"nothing came back within {CONNECT_SECONDS:g} seconds"
        raise Unreachable(f"The database at {where} does not answer: {why}.") from error
    try:
        await _settle(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _settle(connection: asyncpg.Connection) -> None:
    """Refuse a server that is too old, and set what cannot be pinned for all versions at the connection's start."""
    if connection.get_server_version() < (OLDEST_SERVER // 10000,):
        version = ".".join(map(str, connection.get_server_version()[:2]))
        raise UnsupportedServer(f"The database server is PostgreSQL {version}, which is too old.")
    if connection.get_server_version() >= (17,):
        # A limit that servers before 17 do not know, and would end a long backup or restore.
        await connection.execute("SET transaction_timeout = 0")
    if connection.get_server_version() >= (14,):
        # A request to cancel may reach the server before the statement does, and is lost then: the server has to see by
        # itself that nobody waits for the statement any more. Windows cannot.
        with suppress(asyncpg.InvalidParameterValueError):
            await connection.execute("SET client_connection_check_interval = '3s'")
