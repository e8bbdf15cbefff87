"""Two sides of one business: identical, or exactly where they differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.database.businesses import BusinessError
from agent.engine.compare import Comparison, compare
from agent.engine.compare_answers import Answering, TooManyComparisons
from agent.engine.compare_peer import PeerSide
from agent.engine.compare_shapes import TableShape, ask
from agent.engine.compare_sides import bundle_side, live_side
from protocol.manifest import Kind
from protocol.requests import (
    CompareRequest,
    RangeDigests,
    RangeRequest,
    RowHashes,
    RowHashRequest,
    TableDigest,
)
from tests.conftest import MakeDatabase
from tests.support.restores import KITCHEN, OFFICE, Laptop


class Wire:
    """The other laptop behind its questions, every message packed and unpacked, and counted, as it would be."""

    def __init__(self, there: Laptop) -> None:
        self.answering = Answering.of(lambda: there.database.dsn, lambda: there.catalogue)
        self.bytes = 0

    def side(self, business: str) -> PeerSide:
        return PeerSide(business, self.digests, self.ranges, self.rows)

    def over(self, data: bytes) -> bytes:
        self.bytes += len(data)
        return data

    async def digests(self, request: CompareRequest) -> list[TableDigest]:
        asked = CompareRequest.decode(self.over(request.encode()))
        found = self.answering.digests("peer", asked)
        return [TableDigest.decode(self.over(digest.encode())) async for digest in found]

    async def ranges(self, request: RangeRequest) -> RangeDigests:
        asked = RangeRequest.decode(self.over(request.encode()))
        return RangeDigests.decode(self.over((await self.answering.ranges("peer", asked)).encode()))

    async def rows(self, request: RowHashRequest) -> AsyncIterator[RowHashes]:
        asked = RowHashRequest.decode(self.over(request.encode()))
        async for hashes in self.answering.rows("peer", asked):
            yield RowHashes.decode(self.over(hashes.encode()))


async def between(here: Laptop, there: Laptop, business: str) -> Comparison:
    """The comparison of two databases, the same directly and over the wire."""
    async with (
        live_side(here.database.dsn, here.catalogue, business) as ours,
        live_side(there.database.dsn, there.catalogue, business) as theirs,
    ):
        direct = await compare(ours, theirs)
    wire = Wire(there)
    async with live_side(here.database.dsn, here.catalogue, business) as ours:
        remote = await compare(ours, wire.side(business))
    await wire.answering.close()
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


async def test_it_is_told_on_which_side_the_rows_are_newer(office: Laptop, kitchen: Laptop) -> None:
    business = await office.value('SELECT id FROM businesses WHERE NOT "isDemo" ORDER BY id LIMIT 1')
    await kitchen.restore(await office.bundle(Kind.BUSINESS, business))
    first, *_, last = await office.value(
        'SELECT array_agg(id ORDER BY id) FROM business_products WHERE "businessId" = $1', business
    )
    later = 'UPDATE business_products SET "updatedAt" = "updatedAt" + interval \'1 millisecond\' WHERE id = $1'
    await office.execute(later, first)
    here = await between(office, kitchen, business)
    assert (here.newer_here, here.newer_there, here.undated) == (1, 0, 0)
    await kitchen.execute(later, last)
    both = await between(office, kitchen, business)
    assert (both.newer_here, both.newer_there, both.undated) == (1, 1, 0)
    products = both.tables["business_products"]
    assert (products.differ, products.newer_here, products.newer_there) == (2, 1, 1)
    assert sorted(products.examples) == [f"({first})", f"({last})"]
    await kitchen.execute("UPDATE business_products SET name = name || '!' WHERE id NOT IN ($1, $2)", first, last)
    assert (await between(office, kitchen, business)).undated == products.rows_here - 2


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


async def test_one_row_of_many_is_found_with_little_traffic_and_over_one_snapshot(
    office: Laptop, kitchen: Laptop
) -> None:
    business = await office.value('SELECT id FROM businesses WHERE NOT "isDemo" ORDER BY id LIMIT 1')
    await office.execute(
        "INSERT INTO business_products SELECT (jsonb_populate_record(NULL::business_products, to_jsonb(p) || "
        "jsonb_build_object('id', 'many-' || n, 'sku', 'many-' || n, 'barcode', NULL, 'name', 'many ' || n))).* "
        'FROM (SELECT * FROM business_products WHERE "businessId" = $1 ORDER BY id LIMIT 1) p, '
        "generate_series(1, 6000) n",
        business,
    )
    await kitchen.restore(await office.bundle(Kind.BUSINESS, business))
    wire = Wire(kitchen)
    async with live_side(office.database.dsn, office.catalogue, business) as ours:
        assert (await compare(ours, wire.side(business))).identical
    equal = wire.bytes
    assert equal < 60_000

    await kitchen.execute("UPDATE business_products SET name = 'other' WHERE id = 'many-77'")
    wire.bytes = 0
    async with live_side(office.database.dsn, office.catalogue, business) as ours:
        side = wire.side(business)
        await side.shapes()
        # What is changed over there while the comparison goes on is not seen by it.
        await kitchen.execute("UPDATE business_products SET name = 'third' WHERE id = 'many-78'")
        found = await compare(ours, side)
    await wire.answering.close()
    assert found.tables["business_products"].differ == 1
    assert found.tables["business_products"].examples == ("(many-77)",)
    assert wire.bytes < 3 * equal


async def test_comparisons_that_are_left_open_end_and_are_not_without_number(office: Laptop) -> None:
    business = await office.value('SELECT id FROM businesses WHERE NOT "isDemo" ORDER BY id LIMIT 1')
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'comparison'"
    answering = Answering.of(lambda: office.database.dsn, lambda: office.catalogue, kept_seconds=0.5, most=2)
    for number in range(4):
        request = CompareRequest(business, {"businesses": ("id",)}, session=f"s{number}")
        assert [digest.rows async for digest in answering.digests("peer", request)] == [1]
        assert await office.value(sql) <= 2
    held = [answering.digests("peer", CompareRequest(business, session=f"h{number}")) for number in range(2)]
    for each in held:
        await anext(each)
    with pytest.raises(TooManyComparisons):
        await anext(answering.digests("peer", CompareRequest(business, session="one more")))
    for each in held:
        await each.aclose()
    async with asyncio.timeout(10):
        while await office.value(sql):
            await asyncio.sleep(0.1)
    with pytest.raises(BusinessError):
        await anext(answering.digests("peer", CompareRequest("nobody", session="x")))
    await answering.close()


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
