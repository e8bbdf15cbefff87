"""Many small questions in few round trips: most tables are small, and asking costs more than looking."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import asyncpg

_AT_ONCE = 16

Asked = TypeVar("Asked", bound=Hashable)


async def scalars(connection: asyncpg.Connection, expressions: Mapping[Asked, str]) -> dict[Asked, Any]:
    """The value of each SQL expression (a scalar subquery, an EXISTS), by what it was asked for."""
    keys = list(expressions)
    found: dict[Asked, Any] = {}
    for start in range(0, len(keys), _AT_ONCE):
        several = keys[start : start + _AT_ONCE]
        row = await connection.fetchrow(f"SELECT {', '.join(expressions[key] for key in several)}")
        assert row is not None
        found |= zip(several, row, strict=True)
    return found
