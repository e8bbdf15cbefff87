"""Two sides of one business: identical, or exactly where they differ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.engine.compare import Comparison, TableShape, ask, compare
from agent.engine.compare_peer import PeerSide, answer_digests, answer_rows
from agent.engine.compare_sides import bundle_side, live_side
from protocol.manifest import Kind
from protocol.requests import CompareRequest, RowHashes, RowHashRequest, TableDigest
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Laptop


def peer_side(there: Laptop, business: str) -> PeerSide:
    """The other laptop behind its two requests, every message packed and unpacked as it would be on the way."""

    async def digests(request: CompareRequest) -> list[TableDigest]:
        asked = CompareRequest.decode(request.encode())
        found = answer_digests(there.database.dsn, there.catalogue, asked)
        return [TableDigest.decode(digest.encode()) async for digest in found]

    async def rows(request: RowHashRequest) -> AsyncIterator[RowHashes]:
        asked = RowHashRequest.decode(request.encode())
        async for hashes in answer_rows(there.database.dsn, there.catalogue, asked):
            yield RowHashes.decode(hashes.encode())

    return PeerSide(business, digests, rows)


async def between(here: Laptop, there: Laptop, business: str) -> Comparison:
    """The comparison of two databases, the same directly and over the wire."""
    async with (
        live_side(here.database.dsn, here.catalogue, business) as ours,
        live_side(there.database.dsn, there.catalogue, business) as theirs,
    ):
        direct = await compare(ours, theirs)
    async with live_side(here.database.dsn, here.catalogue, business) as ours:
        remote = await compare(ours, peer_side(there, business))
    assert remote == direct
    return direct


async def with_file(here: Laptop, bundle: object, business: str) -> Comparison:
    async with (
        live_side(here.database.dsn, here.catalogue, business) as ours,
        bundle_side(here.database.dsn, bundle) as theirs,  # type: ignore[arg-type]
    ):
        return await compare(ours, theirs)


@pytest.fixture
async def office(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("filled"), tmp_path, OFFICE)


@pytest.fixture
async def kitchen(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("platform"), tmp_path, KITCHEN)


async def test_a_restored_business_is_identical_and_each_change_is_found(office: Laptop, kitchen: Laptop) -> None:
    business = await office.value('SELECT id FROM businesses WHERE NOT "isDemo" ORDER BY id LIMIT 1')
    bundle = await office.bundle(Kind.BUSINESS, business)
    await kitchen.restore(bundle)
    same = await between(office, kitchen, business)
    assert same.identical, same.as_dict()
    assert same.rows > 500
    assert not same.notes
    assert (await with_file(kitchen, bundle, business)).identical

    await kitchen.execute("UPDATE business_products SET name = name || '!' WHERE \"businessId\" = $1", business)
    await kitchen.execute(
        "DELETE FROM business_stock_movements WHERE id = (SELECT min(id) FROM business_stock_movements)"
    )
    after = await between(office, kitchen, business)
    changed = {name: table for name, table in after.tables.items() if not table.identical}
    assert set(changed) == {"business_products", "business_stock_movements"}
    products = changed["business_products"]
    assert products.differ == products.rows_here == products.rows_there
    assert changed["business_stock_movements"].only_here == 1
    assert changed["business_stock_movements"].examples
    assert {
        name for name, table in (await with_file(kitchen, bundle, business)).tables.items() if not table.identical
    } == set(changed)


async def test_reference_rows_that_the_business_does_not_use_are_no_difference(office: Laptop, kitchen: Laptop) -> None:
    business = await office.value('SELECT id FROM businesses WHERE NOT "isDemo" ORDER BY id LIMIT 1')
    bundle = await office.bundle(Kind.BUSINESS, business)
    await kitchen.restore(bundle)
    await kitchen.execute(
        'INSERT INTO job_titles SELECT (jsonb_populate_record(j, \'{"id": "mine", "title": "mine"}\')).* '
        "FROM job_titles j LIMIT 1"
    )
    result = await between(office, kitchen, business)
    assert result.identical
    assert result.tables["job_titles"].reference_only_there == 1
    assert (await with_file(kitchen, bundle, business)).identical


def test_only_columns_of_both_sides_are_compared_and_the_others_named() -> None:
    ours = {"t": TableShape("t", {"id": "text", "a": "numeric(10,2)", "mine": "text", "device": "text"}, ("id",))}
    theirs = {
        "t": TableShape("t", {"a": "numeric(12,4)", "id": "text", "device": "text"}, ("id",), frozenset({"device"}))
    }
    (question,), notes = ask(ours, theirs)
    assert question.columns == ("a", "id")
    assert question.key == ("id",)
    assert question.numbers == ("a",)
    assert notes == ["Only one side has t.mine; not compared."]
