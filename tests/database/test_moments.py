"""Whether any transaction ended between two moments."""

from __future__ import annotations

import pytest

from agent.database.moments import Moment, moment, quiet
from tests.conftest import MakeDatabase
from tests.support.databases import Database


def at(following: int, *running: int) -> Moment:
    return Moment(following, frozenset(running))


@pytest.mark.parametrize(
    ("before", "now", "own", "same"),
    [
        (at(10), at(10), (), True),
        (at(10, 7), at(10, 7), (), True),
        (at(10, 7), at(10), (), False),  # 7 has ended
        (at(10), at(11), (), False),  # 10 began and ended
        (at(10), at(12, 10), (), False),  # 11 did
        (at(10), at(12, 10), (11,), True),
        (at(10, 7), at(12, 7), (10, 11), True),
        (at(10, 7), at(12), (10, 11), False),
        (at(10), at(9), (), False),
        (at(10), at(1 << 40), (), False),
    ],
)
def test_only_our_own_may_have_ended(before: Moment, now: Moment, own: tuple[int, ...], same: bool) -> None:
    assert quiet(before, now, own) is same


@pytest.fixture
async def empty(undisturbed: None, database: MakeDatabase) -> Database:
    return await database()


async def test_whoever_writes_is_seen_once_it_has_ended(empty: Database) -> None:
    async with empty.connect() as looking, empty.connect() as writing:
        await writing.execute("CREATE TABLE rows (id integer)")
        first = await moment(looking)
        assert await moment(looking) == first
        await writing.execute("BEGIN; INSERT INTO rows VALUES (1)")
        open_ = await moment(looking)
        assert quiet(first, open_)
        await writing.execute("ROLLBACK")
        assert not quiet(first, await moment(looking))
        await writing.execute("BEGIN; SAVEPOINT s; INSERT INTO rows VALUES (2); RELEASE s")
        first = await moment(looking)
        await writing.execute("COMMIT")
        assert not quiet(first, await moment(looking))


async def test_the_connection_s_own_writing_ends_nothing(empty: Database) -> None:
    async with empty.connect() as connection:
        await connection.execute("CREATE TABLE rows (id integer); BEGIN")
        first = await moment(connection)
        await connection.execute("CREATE TEMP TABLE stage ON COMMIT DROP AS TABLE rows; INSERT INTO rows VALUES (1)")
        assert quiet(first, await moment(connection))
        await connection.execute("COMMIT")
        assert not quiet(first, await moment(connection))
