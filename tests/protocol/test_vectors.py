"""Every file in tests/vectors is answered as vectors.toml says, whole and byte by byte."""

from __future__ import annotations

import inspect
import tomllib
from typing import Any

import msgpack
import pytest

from protocol import errors
from protocol.frames import decode_block
from protocol.manifest import Section
from protocol.reader import FrameRead, ManifestRead, SealRead
from protocol.seal import verify_seal
from scripts import make_vectors
from tests.protocol.bundles import events, read, verify

LISTING = tomllib.loads((make_vectors.FOLDER / "vectors.toml").read_text(encoding="utf-8"))
SOURCE_NODE = LISTING.pop("source_node")
GOOD = [name for name, expected in LISTING.items() if "error" not in expected]
WRONG = [name for name in LISTING if name not in GOOD]
CODES = {
    cls.code: cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.ProtocolError)
}


def load(name: str) -> bytes:
    return (make_vectors.FOLDER / f"{name}.bundle").read_bytes()


def use(data: bytes, piece: int | None) -> str:
    """Do all that a restore does with a bundle's bytes, and return the last stage that was begun."""
    stage = "read"
    try:
        found = events(data, piece)
        stage = "unpack"
        for event in found:
            if isinstance(event, FrameRead):
                decode_block(event.frame)
        stage = "verify"
        first, last = found[0], found[-1]
        assert isinstance(first, ManifestRead)
        assert isinstance(last, SealRead)
        verify_seal(first.manifest, last.seal, verify)
    except errors.ProtocolError as error:
        error.add_note(stage)
        raise
    return "done"


@pytest.mark.parametrize("piece", [None, 1, 11])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_is_refused_with_its_error_at_its_stage(name: str, piece: int | None) -> None:
    expected: dict[str, Any] = LISTING[name]
    with pytest.raises(errors.ProtocolError) as caught:
        use(load(name), piece)
    assert (caught.value.code, caught.value.__notes__) == (expected["error"], [expected["stage"]])
    assert type(caught.value) is CODES[expected["error"]]
    assert str(caught.value).endswith(".")
    assert caught.value.hint.endswith(".")


@pytest.mark.parametrize("piece", [None, 1, 11])
@pytest.mark.parametrize("name", GOOD)
def test_good_file_is_read(name: str, piece: int | None) -> None:
    assert use(load(name), piece) == "done"
    assert read(load(name)).manifest.source_node == SOURCE_NODE


@pytest.mark.parametrize("name", GOOD)
def test_stock_unpacker_reads_a_good_file(name: str) -> None:
    unpacker = msgpack.Unpacker(strict_map_key=True)
    unpacker.feed(load(name))
    records = [(tag, msgpack.unpackb(payload)) for tag, payload in unpacker]
    assert [tag for tag, _ in records] == [0, 1, *[2] * (len(records) - 3), 3]
    assert records[0][1] == ["backroom-bundle", 1]
    assert records[1][1]["source_node"] == SOURCE_NODE
    assert records[-1][1]["frames"] == len(records) - 3


def test_rows_of_a_file_are_those_that_went_in() -> None:
    frames = read(load("good-two-tables")).frames
    assert [frame.entry for frame in frames] == [0, 1, 1]
    blocks = [decode_block(frame) for frame in frames]
    assert blocks[0] == b"user-1\ta@example.test\nuser-2\tb@example.test\n"
    assert blocks[2].decode() == "order-3\tPAID\t99999999.99\t寿司 🍣\norder-4\tPENDING\t-1.00\t\n"


def test_good_files_show_every_section_and_stub() -> None:
    entries = [entry for name in GOOD for entry in read(load(name)).manifest.tables]
    assert {entry.section for entry in entries} == set(Section)
    assert any(entry.stub for entry in entries)


def test_files_are_what_the_script_makes() -> None:
    made = make_vectors.vectors()
    assert {vector.name: vector.data for vector in made} == {
        path.stem: path.read_bytes() for path in make_vectors.FOLDER.glob("*.bundle")
    }
    listing = (make_vectors.FOLDER / "vectors.toml").read_text(encoding="utf-8")
    assert listing == make_vectors.listing(made)


def test_every_reading_error_has_a_file() -> None:
    elsewhere = {"protocol-error", "bundle-error", "bad-message", "bad-delta", "foreign-device-state"}
    assert {LISTING[name]["error"] for name in WRONG} == set(CODES) - elsewhere
