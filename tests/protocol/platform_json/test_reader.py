"""The reader of platform backup files, on good files in any pieces and on hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.platform_json.errors import (
    BadChecksum,
    NotAPlatformFile,
    PlatformFileCutShort,
    PlatformFileDamaged,
    PlatformFileError,
    PlatformFileTooLarge,
    PlatformVersionUnknown,
)
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.metadata import Metadata
from protocol.platform_json.reader import MetadataRead, PlatformFileReader, RowsRead, TableRead

METADATA: dict[str, Any] = {
    "version": "3.0",
    "sourceNodeId": "node-1",
    "sourceDeviceName": "laptop",
    "timestamp": "2026-01-01T15:30:45.123Z",
    "backupType": "full",
    "businessFilter": {"includeDemoData": True},
}
ROWS: Any = {
    "users": [{"id": "1", "name": 'é " \\ [ { 🧾'}, {"id": "2", "n": 1.50}],
    "empty": [],
    "orders": [{"id": "3"}],
}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def make(business: Any = ROWS, device: Any = None, **metadata: Any) -> bytes:
    checksum = hashlib.sha256(compact(business).encode()).hexdigest()
    facts = {**METADATA, "checksums": {"businessData": checksum}, **metadata}
    sections = {"businessData": business} if device is None else {"businessData": business, "deviceData": device}
    return compact({"metadata": facts, **sections}).encode()


def read(data: bytes, size: int = 1 << 16, limits: FileLimits = DEFAULT_FILE_LIMITS) -> tuple[Metadata, Any]:
    reader = PlatformFileReader(limits)
    events = [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]
    events += reader.close()
    tables: dict[str, dict[str, list[Any]]] = {}
    rows: list[Any] = []
    for event in events:
        match event:
            case TableRead(section, key):
                rows = tables.setdefault(section, {}).setdefault(key, [])
            case RowsRead(found):
                rows += found
            case MetadataRead(metadata):
                assert metadata is reader.metadata
    assert reader.metadata is not None
    return reader.metadata, tables


def test_a_file_is_read_in_any_pieces_plain_and_packed() -> None:
    expected = {"businessData": {"users": [ROWS["users"][0], {"id": "2", "n": "1.5"}], **dict(list(ROWS.items())[1:])}}
    for data in (make(), gzip.compress(make()), gzip.compress(make()[:50]) + gzip.compress(make()[50:])):
        for size in (1, 2, 7, 64, 1 << 20):
            metadata, tables = read(data, size)
            assert tables == expected
            assert metadata.include_demo


def test_spaces_between_values_do_not_count_for_the_checksum() -> None:
    value = json.loads(make())
    for indent in (1, 4, None):
        data = json.dumps(value, ensure_ascii=False, indent=indent).encode()
        assert read(data)[1]["businessData"]["orders"] == [{"id": "3"}]
        assert read(b"\xef\xbb\xbf \n" + data + b"\r\n")[1]


def test_metadata_may_come_last() -> None:
    value = json.loads(make())
    data = compact({"businessData": value["businessData"], "extra": [1, {}], "metadata": value["metadata"]}).encode()
    assert read(data)[0].source_node == "node-1"


def test_many_rows_come_in_bounded_memory() -> None:
    row = compact({"id": "x" * 36, "name": "Some product", "price": "10.5", "at": "2026-01-01T15:30:45.123Z"})
    rows = 100_000
    text = f'{{"metadata":{compact(METADATA)},"businessData":{{"products":[{",".join([row] * rows)}]}}}}'.encode()
    reader = PlatformFileReader()
    found = 0
    tracemalloc.start()
    for at in range(0, len(text), 1 << 18):
        for event in reader.feed(text[at : at + (1 << 18)]):
            found += len(event.rows) if isinstance(event, RowsRead) else 0
    list(reader.close())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == rows
    assert peak < 16 << 20


HOSTILE: list[tuple[bytes, type[PlatformFileError]]] = [
    (b"", NotAPlatformFile),
    (b"\x1f", NotAPlatformFile),
    (b"hello", NotAPlatformFile),
    (b"[]", NotAPlatformFile),
    (b"{}", NotAPlatformFile),
    (b"\xff\xfe{}", NotAPlatformFile),
    (make()[:-1], PlatformFileCutShort),
    (make()[:-30], PlatformFileCutShort),
    (make() + b"{}", NotAPlatformFile),
    (gzip.compress(make())[:-4], PlatformFileCutShort),
    (gzip.compress(make())[:-8] + b"\xff" * 8, PlatformFileDamaged),
    (gzip.compress(make()) + b"more", PlatformFileDamaged),
    (make(version="2.0"), PlatformVersionUnknown),
    (make(version=3.0), PlatformVersionUnknown),
    (make(version=None), NotAPlatformFile),
    (make(backupType="everything"), NotAPlatformFile),
    (make(sourceNodeId=""), NotAPlatformFile),
    (make(timestamp=5), NotAPlatformFile),
    (make(checksums={"businessData": "00"}), BadChecksum),
    (make().replace(b'"3"', b'"4"'), BadChecksum),
    (make(business={}), NotAPlatformFile),
    (make(business=[]), NotAPlatformFile),
    (make(business={"users": {}}), NotAPlatformFile),
    (make(business={"users": None}), NotAPlatformFile),
    (make(business={"users": [1]}), NotAPlatformFile),
    (make(business={"users": [[]]}), NotAPlatformFile),
    (make(business={"users": [{"a": float("nan")}]}), NotAPlatformFile),
    (b'{"metadata":{},"metadata":{}}', NotAPlatformFile),
    (b'{"metadata":' + compact(METADATA).encode() + b"}", NotAPlatformFile),
    (b'{"businessData":{"a":[],"a":[]}}', NotAPlatformFile),
    (b'{"businessData":{"a":[{"x":1},]}}', NotAPlatformFile),
    (b'{"businessData":{"a":[{"x":1}{"x":1}]}}', NotAPlatformFile),
    (b'{"businessData":{"a":[{"x":01}]}}' + b" " * 50, NotAPlatformFile),
    (b'{"businessData":{"a":[{"x":"\n"}]}}' + b" " * 50, NotAPlatformFile),
    (b'{"businessData":{"a":[{"x":' + b"[" * 100_000, PlatformFileTooLarge),
    (b'{"businessData":{"a":[{"x":' + b'{"a":' * 100_000, PlatformFileTooLarge),
    (b'{"metadata":{"x":"' + b"x" * (2 << 20) + b'"}}', PlatformFileTooLarge),
    (b'{"businessData":{"' + b"x" * 1_000 + b'":[]}}', PlatformFileTooLarge),
    (b'{"' + b"x" * 1_000, PlatformFileTooLarge),
]


@pytest.mark.parametrize("size", [13, 1 << 18])
@pytest.mark.parametrize(("data", "error"), HOSTILE)
def test_hostile_files_are_refused_each_with_its_reason(data: bytes, error: type[PlatformFileError], size: int) -> None:
    with pytest.raises(error) as caught:
        read(data, max(size, len(data) // 50))
    assert type(caught.value) is error
    assert str(caught.value).endswith(".")
    assert caught.value.hint


def _bomb(start: bytes, filling: bytes, megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = packer.compress(start)
    for _ in range(megabytes):
        data += packer.compress(filling * ((1 << 20) // len(filling)))
    return data + packer.flush()


@pytest.mark.parametrize(
    ("start", "filling"),
    [
        (b"", b" "),
        (b'{"businessData":{"a":[{"x":"', b"x"),
        (b'{"businessData":{"a":[{"x":[', b"[],"),
        (b'{"businessData":{"a":[', b'{"a":1},'),
    ],
)
def test_bombs_are_refused_before_they_fill_the_memory(start: bytes, filling: bytes) -> None:
    data = _bomb(start, filling, 64)
    limits = replace(DEFAULT_FILE_LIMITS, row=1 << 20, unpacked_free=8 << 20)
    tracemalloc.start()
    reader = PlatformFileReader(limits)
    pieces = (data[at : at + 4096] for at in range(0, len(data), 4096))
    with pytest.raises(PlatformFileTooLarge):
        deque((event for piece in pieces for event in reader.feed(piece)), maxlen=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.size < 20 << 20
    assert peak < 64 << 20


CHANGES: list[Callable[[bytes, int], bytes]] = [
    lambda data, at: data[:at],
    lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
    lambda data, at: data[:at] + b"\0" + data[at:],
    lambda data, at: data[:at] + data[at + 1 :],
]


@given(st.integers(0, 10_000), st.sampled_from(CHANGES), st.booleans())
def test_a_damaged_file_never_raises_anything_else(
    at: int, change: Callable[[bytes, int], bytes], packed: bool
) -> None:
    data = gzip.compress(make(), mtime=0) if packed else make()
    try:
        _, tables = read(change(data, at % len(data)))
    except PlatformFileError:
        return
    # What passes is outside of businessData, which its checksum covers.
    assert tables == read(make())[1]
