"""Whether anybody wrote to a database between two moments, told by the transactions that ended meanwhile.

Whoever writes has a transaction id, and what was written is seen once that transaction has ended. A snapshot says which
ids were given out, and which of these were still at work: if the same are at work in a later one, and all ids that were
given out since as well, nobody's rows came between. So what was looked at then need not be looked at again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

# Of more ids than this it is not worth telling.
_MOST_BEGUN = 10_000


@dataclass(frozen=True, slots=True)
class Moment:
    """The other transactions as a snapshot sees them: ids from ``next`` on were not given out when any had ended last,
    and those ``running`` are older and had not ended."""

    next: int
    running: frozenset[int]


async def moment(connection: asyncpg.Connection) -> Moment:
    """This moment. The connection's own transaction is not in it."""
    _, following, running = str(await connection.fetchval("SELECT pg_current_snapshot()::text")).split(":")
    return Moment(int(following), frozenset(map(int, filter(None, running.split(",")))))


def quiet(before: Moment, now: Moment, own: Collection[int] = ()) -> bool:
    """Whether no transaction but those ``own`` has ended between two moments of one run of a server."""
    if not before.next <= now.next <= before.next + _MOST_BEGUN:
        return False
    return now.running == before.running.union(range(before.next, now.next)).difference(own)
