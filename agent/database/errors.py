"""What can go wrong between Backroom and the platform's database, each with its sentence and hint."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg


class DatabaseError(Exception):
    """Root of this package's errors. ``str(error)`` says what happened to what, ``hint`` what to do next."""

    code = "database"
    hint = "Run `backroom status` to see the state of the database connection."

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class Unreachable(DatabaseError):
    code = "database-unreachable"
    hint = "Check that PostgreSQL runs and that the address in config.toml is right (`backroom init --database URL`)."


class BadAddress(DatabaseError):
    code = "database-address"
    hint = (
        "Write it like postgresql://user:password@localhost:5432/database (the platform's .env has it as DATABASE_URL)."
    )


class LoginRefused(DatabaseError):
    code = "database-login"
    hint = "Check user, password and database name in the address (the platform's .env has the right ones)."


class NoRights(DatabaseError):
    code = "database-rights"
    hint = (
        "Use the platform's own database user, or let its owner run: "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO <user>;"
    )


class NoTemporaryTables(NoRights):
    code = "database-temporary"
    hint = (
        "Backroom keeps its notes of a backup in temporary tables. Let the database's owner run: "
        "GRANT TEMPORARY ON DATABASE <database> TO <user>;"
    )


class RowSecurity(NoRights):
    code = "row-security"
    hint = (
        "Row security hides rows from this user: a backup would be incomplete. Use the owner or a user with BYPASSRLS."
    )


class LockTimeout(DatabaseError):
    code = "database-locked"
    hint = "Another program holds a lock (a migration, a long job). Wait for it to end, then try again."


class Deadlock(LockTimeout):
    code = "database-deadlock"


class ConnectionLost(DatabaseError):
    code = "database-connection-lost"
    hint = "Nothing was changed by this command. Check that PostgreSQL runs, then try again."


class OutOfSpace(DatabaseError):
    code = "database-disk-full"
    hint = "Free some space on the disk of the database, then try again. Nothing was changed."


class OutOfMemory(DatabaseError):
    code = "database-memory"
    hint = "Close other programs, or raise what the message names in postgresql.conf, then try again."


class Cancelled(DatabaseError):
    code = "database-cancelled"
    hint = "Somebody or something on the database server ended this work. Nothing was changed; try again."


class SchemaChanged(DatabaseError):
    code = "schema-changed"
    hint = "A migration of the platform seems to be running. Wait for it to end, then try again."


class UnsupportedServer(DatabaseError):
    code = "database-version"
    hint = "Backroom needs PostgreSQL 13 or newer."


class StatementFailed(DatabaseError):
    code = "database-statement"
    hint = "This is unexpected. Please report it with the log in the data folder."


_RELATION = re.compile(r"(?:table|relation|view|sequence|schema|database) \"?([^\" ]+)\"?")


def _translated(error: BaseException, doing: str) -> DatabaseError | None:
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    match error:
        case DatabaseError():
            return None
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return LoginRefused(f"The database refused the login: {text}.")
        case asyncpg.InsufficientPrivilegeError():
            if "row-level security" in text:
                return RowSecurity(f"{doing} failed: {text}.")
            if "temporary tables" in text:
                return NoTemporaryTables(f"{doing} failed: the database user may not make temporary tables ({text}).")
            found = _RELATION.search(text)
            what = f" on {found.group(1)}" if found else ""
            return NoRights(f"{doing} failed: the database user has no rights{what} ({text}).")
        case asyncpg.LockNotAvailableError():
            return LockTimeout(f"{doing} stopped: a lock was not granted in time ({text}).")
        case asyncpg.DeadlockDetectedError():
            return Deadlock(f"{doing} stopped: it waited in a circle with another program's transaction ({text}).")
        case asyncpg.DiskFullError():
            return OutOfSpace(f"{doing} failed: the database server is out of space ({text}).")
        case asyncpg.OutOfMemoryError():
            return OutOfMemory(f"{doing} failed: the database server is out of memory ({text}).")
        case asyncpg.QueryCanceledError():
            return Cancelled(f"{doing} stopped: the database server was told to end it ({text}).")
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.AdminShutdownError()
            | asyncpg.CrashShutdownError()
            | asyncpg.CannotConnectNowError()
            | asyncpg.ConnectionDoesNotExistError()
            | asyncpg.InterfaceError()
            | asyncpg.InternalClientError()
        ):
            return ConnectionLost(f"{doing} stopped: the connection to the database was lost ({text}).")
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            return SchemaChanged(f"{doing} stopped: the schema changed meanwhile ({text}).")
        case asyncpg.PostgresError():
            return StatementFailed(f"{doing} failed: {text} (SQLSTATE {error.sqlstate}).")
        case _:
            return None


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Turn driver errors into :class:`DatabaseError`. ``doing`` starts the sentence ("The backup", "The restore").

    Plain ``OSError`` passes: the driver wraps its own, so that one is the caller's, from a file or another socket.
    """
    try:
        yield
    except asyncio.CancelledError:
        raise
    except Exception as error:
        better = _translated(error, doing)
        if better is None:
            raise
        raise better from error
