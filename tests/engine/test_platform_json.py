"""The platform's JSON on real databases: bundles out, files in, and the same bytes again."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.database.connect import connect
from agent.database.reflect import reflect
from agent.engine.bundle_file import VerifiedBundle, verify_bundle
from agent.engine.errors import NothingToBackUp
from agent.engine.export_json import ExportResult, export_json
from agent.engine.import_errors import FileChanged, NoBusinessInFile, UnknownInFile, UnprovenDeviceState, ValuesMisfit
from agent.engine.import_json import Live, Looked, look_at_file, write_bundle
from agent.engine.import_plan import ImportOptions
from agent.engine.restore_errors import DeviceTableRefused
from agent.tables.infer import classify
from protocol.errors import ForeignDeviceState
from protocol.manifest import Kind, Section
from protocol.platform_json.errors import BadChecksum, PlatformFileCutShort
from protocol.platform_json.provenance import Provenance
from tests.conftest import MakeDatabase
from tests.support.backups import MemorySink, open_bundle, origin
from tests.support.restores import KITCHEN, OFFICE, Laptop, verify_as

NOW = datetime(2026, 6, 1, tzinfo=UTC)
BUSINESS_TEXT = re.compile(rb'"businessData":(\{.*?)(?:,"deviceData":\{.*)?\}$', re.DOTALL)


async def export(
    laptop: Laptop, bundle: VerifiedBundle, name: str = "out.json.gz", *, own: bool = True
) -> tuple[Path, ExportResult]:
    sink = MemorySink()
    result = await export_json(
        bundle,
        laptop.catalogue,
        sink,
        laptop.folder,
        own_node=laptop.node if own else "node-other",
        compress=name.endswith(".gz"),
    )
    path = laptop.folder / name
    path.write_bytes(bytes(sink.data))
    assert result.bytes == len(sink.data)
    return path, result


async def imported(laptop: Laptop, path: Path, **options: bool) -> tuple[VerifiedBundle, Looked]:
    connection = await connect(laptop.database.dsn)
    schema = await reflect(connection)
    await connection.close()
    live = Live(schema, classify(schema, laptop.catalogue), "18.0")
    source = origin(laptop.node, f"laptop-{laptop.node}")
    looked = await look_at_file(path, live, source, now=lambda: NOW, options=ImportOptions(**options))
    sink = MemorySink()
    await write_bundle(looked, live, source, sink)
    target = laptop.folder / f"{path.name}.{len(list(laptop.folder.iterdir()))}.bundle"
    target.write_bytes(bytes(sink.data))
    return await verify_bundle(target, verify_as(laptop.node)), looked


async def values_of(laptop: Laptop, table: str) -> list[Any]:
    rows = await laptop.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t ORDER BY id")
    return [json.loads(row["row"], parse_float=Decimal) for row in rows]


def text_of(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def business_text(path: Path) -> bytes:
    found = BUSINESS_TEXT.search(text_of(path))
    assert found is not None
    return found[1]


def write_file(path: Path, business: dict[str, Any], device: dict[str, Any] | None = None, **metadata: Any) -> Path:
    """A file as the platform makes it."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    facts: dict[str, Any] = {
        "version": "3.0",
        "sourceNodeId": "platform-node-7",
        "sourceDeviceName": "till-2",
        "timestamp": "2025-12-24T10:11:12.345Z",
        "createdBy": "sam",
        "backupType": "full",
        "businessFilter": {"includeDemoData": False},
        "checksums": {"businessData": hashlib.sha256(text(business).encode()).hexdigest()},
    }
    sections = {"businessData": business, **({} if device is None else {"deviceData": device})}
    path.write_text(text({"metadata": {**facts, **metadata}, **sections}), encoding="utf-8")
    return path


@pytest.fixture
async def kitchen(database: MakeDatabase, tmp_path: Path) -> Laptop:
    return Laptop(await database("platform"), tmp_path, KITCHEN)


BUSINESS = {
    "id": "b1",
    "name": "Restaurant ABC",
    "type": "restaurant",
    "isActive": True,
    "createdAt": "2025-01-01T00:00:00.000Z",
    "updatedAt": "2025-01-02T03:04:05.600Z",
}


@pytest.mark.parametrize("template", ["filled", "everything"])
async def test_a_full_export_brings_every_row_into_an_empty_platform(
    template: str, database: MakeDatabase, kitchen: Laptop, tmp_path: Path
) -> None:
    office = Laptop(await database(template), tmp_path, OFFICE)
    bundle = await office.bundle(include_demo=True)
    path, exported = await export(office, bundle)
    assert all("more digits than the platform's numbers" in note for note in exported.notes)
    assert template == "everything" or not exported.notes
    again, looked = await imported(kitchen, path)
    assert looked.checked
    assert again.manifest.bundle_id == (await imported(kitchen, path))[0].manifest.bundle_id
    assert again.manifest.total_rows == bundle.manifest.total_rows
    restored = await kitchen.restore(again)
    assert restored.plan.totals.insert == bundle.manifest.total_rows
    theirs, ours = await office.contents(), await kitchen.contents()
    business = {name for name, rule in office.catalogue.rules.items() if rule.table_class == "business"}
    different = {name for name in business if theirs[name] != ours[name]}
    # A laptop of its own has other device rows; references to them are cleared, as with any bundle.
    for name in different - {"mac_acl_entries"}:
        # Numbers in JSON are equal, if not in their layout (12.50 and 12.5).
        assert await values_of(office, name) == await values_of(kitchen, name)
    assert business_text((await export(kitchen, again, "again.json"))[0]) == business_text(path)


@pytest.mark.one_server
async def test_a_full_backup_without_demo_shops_keeps_its_stubs(
    database: MakeDatabase, kitchen: Laptop, tmp_path: Path
) -> None:
    bundle = await Laptop(await database("filled"), tmp_path, OFFICE).bundle()
    again, _ = await imported(kitchen, (await export(kitchen, bundle, own=False))[0])
    stubs = {entry.table: entry.rows for entry in bundle.manifest.tables if entry.stub}
    assert {entry.table: entry.rows for entry in again.manifest.tables if entry.stub} == stubs != {}


@pytest.mark.one_server
async def test_the_file_says_what_the_platform_wants_to_know(database: MakeDatabase, tmp_path: Path) -> None:
    office = Laptop(await database("filled"), tmp_path, OFFICE)
    bundle = await office.bundle(Kind.FULL_DEVICE, include_demo=True)
    path, _ = await export(office, bundle, "out.json")
    file = json.loads(path.read_text("utf-8"))
    metadata = file["metadata"]
    assert list(file) == ["metadata", "businessData", "deviceData"]
    assert (metadata["version"], metadata["backupType"]) == ("3.0", "full-device")
    assert metadata["timestamp"] == "2026-01-01T15:30:45.123Z"
    for section in ("businessData", "deviceData"):
        text = json.dumps(file[section], ensure_ascii=False, separators=(",", ":"))
        assert metadata["checksums"][section] == hashlib.sha256(text.encode()).hexdigest()
    rows = [sum(map(len, file[section].values())) for section in ("businessData", "deviceData")]
    assert [metadata["stats"][key] for key in ("businessRecords", "deviceRecords")] == rows
    assert metadata["stats"]["totalRecords"] == sum(rows) == bundle.manifest.total_rows
    assert metadata["stats"]["totalTables"] == bundle.manifest.table_count
    assert {"businessOrders", "skuSequences", "productPriceChanges", "reprintLog"} <= set(file["businessData"])
    assert file["businessData"]["businesses"][0]["createdAt"].endswith("Z")


async def test_one_business_keeps_its_stubs(database: MakeDatabase, kitchen: Laptop, tmp_path: Path) -> None:
    office = Laptop(await database("everything"), tmp_path, OFFICE)
    bundle = await office.bundle(Kind.BUSINESS, "Business 1")
    path, _ = await export(office, bundle)
    again, _ = await imported(kitchen, path)
    first, second = open_bundle(bundle.path.read_bytes()), open_bundle(again.path.read_bytes())
    assert again.manifest.business == bundle.manifest.business
    assert {name: len(rows) for name, rows in first.stubs.items()} == {n: len(r) for n, r in second.stubs.items()}
    assert first.stub_ids("businesses") == second.stub_ids("businesses") != set()
    assert business_text((await export(kitchen, again, "again.json"))[0]) == business_text(path)
    await kitchen.restore(again)


@pytest.mark.one_server
async def test_an_import_remembers_what_the_file_says_and_vouches_for_nothing_else(kitchen: Laptop) -> None:
    path = write_file(kitchen.folder / "old.json", {"businesses": [BUSINESS], "users": []})
    bundle, _ = await imported(kitchen, path)
    manifest = bundle.manifest
    assert (manifest.source_node, manifest.kind) == (KITCHEN, Kind.FULL)
    assert manifest.created == datetime(2025, 12, 24, 10, 11, 12, 345000, UTC)
    assert manifest.created_by == "tests, from a platform backup by sam on till-2"
    found = Provenance.find(manifest.warnings)
    assert found is not None
    assert (found.source_node, found.source_device) == ("platform-node-7", "till-2")
    out, exported = await export(kitchen, bundle, "out.json")
    assert exported.metadata.source_node == "platform-node-7"
    assert business_text(out) == business_text(path)
    assert (await kitchen.restore(bundle)).plan.totals.insert == 1
    assert await kitchen.value("SELECT name FROM businesses") == "Restaurant ABC"


@pytest.mark.one_server
@pytest.mark.parametrize(
    "row",
    [
        {"settings": {"z": 1, "a": [1.0, 1e-7, 12345678901234567890], "10": None, "2": "é\u2028\u007f\b/"}},
        {"settings": None},
        {"umbrellaBusinessId": None},
        {"settings": [], "umbrellaBusinessId": None},
    ],
)
async def test_files_come_back_byte_for_byte(row: dict[str, Any], kitchen: Laptop) -> None:
    rows = [BUSINESS, {**BUSINESS, "id": "b2", **row}, {**row, **BUSINESS, "id": "b3"}]
    for number, chosen in enumerate((rows[:1], rows[:2], rows[1:2], rows[2:], [rows[2], rows[2] | {"id": "b4"}])):
        path = write_file(kitchen.folder / f"in{number}.json", {"users": [], "businesses": chosen, "employees": []})
        bundle, _ = await imported(kitchen, path)
        if "umbrellaBusinessId" in row and len(chosen) == 2 and chosen[0] is BUSINESS:
            continue  # one row says null where the other leaves the key out: that is not kept
        assert business_text((await export(kitchen, bundle, f"out{number}.json"))[0]) == business_text(path)


@pytest.mark.one_server
async def test_null_in_a_json_column_is_json_null_and_no_key_is_sql_null(kitchen: Laptop) -> None:
    await kitchen.execute("ALTER TABLE businesses ALTER settings DROP NOT NULL, ALTER settings DROP DEFAULT")
    rows = [BUSINESS | {"settings": None}, BUSINESS | {"id": "b2"}]
    bundle, _ = await imported(kitchen, write_file(kitchen.folder / "in.json", {"businesses": rows}))
    await kitchen.restore(bundle)
    found = await kitchen.fetch("SELECT settings::text AS s FROM businesses ORDER BY id")
    assert [row["s"] for row in found] == ["null", None]


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("business", "device", "metadata", "error"),
    [
        ({"businesses": [BUSINESS]}, {"syncNodes": [{"id": "n"}]}, {}, ForeignDeviceState),
        ({"businesses": [BUSINESS]}, None, {"backupType": "full-device"}, ForeignDeviceState),
        (
            {"businesses": [BUSINESS]},
            {"syncNodes": [{"id": "n"}]},
            {"backupType": "full-device", "sourceNodeId": KITCHEN},
            UnprovenDeviceState,
        ),
        ({"businesses": [BUSINESS], "syncNodes": [{"id": "n"}]}, None, {}, DeviceTableRefused),
        ({"businesses": [BUSINESS], "loyaltyCards": [{"id": "n"}]}, None, {}, UnknownInFile),
        ({"businesses": [BUSINESS | {"motto": "fast"}]}, None, {}, UnknownInFile),
        ({"businesses": [BUSINESS | {"isActive": "yes"}]}, None, {}, ValuesMisfit),
        ({"businesses": [BUSINESS | {"createdAt": "2025-01-01 00:00:00"}]}, None, {}, ValuesMisfit),
        ({"businesses": [BUSINESS | {"name": "nul\0"}]}, None, {}, ValuesMisfit),
        ({"businesses": [BUSINESS]}, None, {"checksums": {"businessData": "0" * 64}}, BadChecksum),
        ({"businesses": [BUSINESS]}, None, {"backupType": "business-specific"}, None),
        (
            {"businesses": [BUSINESS]},
            None,
            {"backupType": "business-specific", "businessFilter": {"businessId": "other"}},
            NoBusinessInFile,
        ),
        ({"users": []}, None, {}, NothingToBackUp),
    ],
)
async def test_what_must_not_come_in_is_refused(
    business: dict[str, Any],
    device: dict[str, Any] | None,
    metadata: dict[str, Any],
    error: Any,
    kitchen: Laptop,
) -> None:
    path = write_file(kitchen.folder / "in.json", business, device, **metadata)
    if error is None:
        assert (await imported(kitchen, path))[0].manifest.business is not None
        return
    with pytest.raises(error) as caught:
        await imported(kitchen, path)
    assert caught.value.code
    assert caught.value.hint
    if issubclass(error, (UnknownInFile, ForeignDeviceState, UnprovenDeviceState, DeviceTableRefused)):
        bundle, _ = await imported(kitchen, path, skip_unknown=True, skip_device=True)
        assert bundle.manifest.total_rows == 1
        assert bundle.manifest.kind is Kind.FULL
        assert len(bundle.manifest.warnings) > 1
        assert all(entry.section is Section.BUSINESS for entry in bundle.manifest.tables)


@pytest.mark.one_server
async def test_a_full_device_refusal_is_in_the_plans_words(kitchen: Laptop) -> None:
    path = write_file(kitchen.folder / "in.json", {"businesses": [BUSINESS]}, {"syncNodes": [{"id": "n"}]})
    with pytest.raises(ForeignDeviceState) as caught:
        await imported(kitchen, path)
    assert str(caught.value) == (
        "This is a full device backup from a different device (till-2). Device-specific data cannot be restored to a "
        "different machine. Use a business or full backup instead."
    )


@pytest.mark.one_server
@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: data[: len(data) // 2]])
async def test_a_cut_file_leaves_nothing(change: Callable[[bytes], bytes], kitchen: Laptop) -> None:
    path = write_file(kitchen.folder / "in.json", {"businesses": [BUSINESS]})
    path.write_bytes(change(gzip.compress(path.read_bytes())))
    with pytest.raises(PlatformFileCutShort):
        await imported(kitchen, path)


@pytest.mark.one_server
async def test_a_time_that_cannot_be_is_not_believed(kitchen: Laptop) -> None:
    path = write_file(kitchen.folder / "in.json", {"businesses": [BUSINESS]}, timestamp="2199-01-01T00:00:00.000Z")
    manifest = (await imported(kitchen, path))[0].manifest
    assert manifest.created == NOW
    assert any("2199" in warning for warning in manifest.warnings[1:])


@pytest.mark.one_server
async def test_unclassified_rows_come_back_to_their_own_laptop_alone(kitchen: Laptop) -> None:
    await kitchen.execute("CREATE TABLE odd_facts (id text PRIMARY KEY)")
    rows = {"businesses": [BUSINESS], "oddFacts": [{"id": "x"}]}
    other, _ = await imported(kitchen, write_file(kitchen.folder / "other.json", rows))
    assert "odd_facts" not in {entry.table for entry in other.manifest.tables}
    assert any("odd_facts" in warning for warning in other.manifest.warnings)
    own, _ = await imported(kitchen, write_file(kitchen.folder / "own.json", rows, sourceNodeId=KITCHEN))
    assert {e.table for e in own.manifest.tables if e.section is Section.UNCLASSIFIED} == {"odd_facts"}
    assert replace(own.manifest, tables=()).kind is Kind.FULL


@pytest.mark.one_server
async def test_a_file_that_changes_between_its_two_readings_is_refused(kitchen: Laptop) -> None:
    async with kitchen.database.connect() as connection:
        schema = await reflect(connection)
    live, source = Live(schema, classify(schema, kitchen.catalogue), "18.0"), origin(KITCHEN)
    path = write_file(kitchen.folder / "in.json", {"businesses": [BUSINESS]}, checksums={})
    for changed in ([BUSINESS, BUSINESS | {"id": "b2"}], [], [BUSINESS | {"name": "Other"}], [{"id": "b9"}]):
        path = write_file(path, {"businesses": [BUSINESS]}, checksums={})
        looked = await look_at_file(path, live, source, now=lambda: NOW)
        assert not looked.checked
        write_file(path, {"businesses": changed}, checksums={})
        sink = MemorySink()
        with pytest.raises(FileChanged):
            await write_bundle(looked, live, source, sink)
        assert not sink.committed


@pytest.mark.one_server
async def test_a_platforms_business_file_brings_other_businesses_as_stubs(kitchen: Laptop) -> None:
    other, third = BUSINESS | {"id": "u1", "name": "Umbrella"}, BUSINESS | {"id": "u2", "name": "Third"}
    filters = {"businessId": "b1", "includeDemoData": False}
    for number, rows in enumerate(([other, BUSINESS], [BUSINESS, other], [other, BUSINESS, third])):
        path = kitchen.folder / f"in{number}.json"
        write_file(path, {"businesses": rows, "users": []}, backupType="business-specific", businessFilter=filters)
        bundle, _ = await imported(kitchen, path)
        opened = open_bundle(bundle.path.read_bytes())
        assert opened.ids("businesses") == {"b1"}
        assert opened.stub_ids("businesses") == {row["id"] for row in rows} - {"b1"}
        if number < 2:
            assert business_text((await export(kitchen, bundle, f"out{number}.json"))[0]) == business_text(path)
