from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import Value, pack, unpack
from protocol.errors import Malformed

LEAVES = st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.text(max_size=40) | st.binary(max_size=300)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner))


def decode(data: bytes, values: int = 10_000, nesting: int = 50) -> Value:
    return unpack(data, what="thing", error=Malformed, values=values, nesting=nesting)


@given(VALUES)
def test_round_trip_and_agreement_with_stock_msgpack(value: Value) -> None:
    data = pack(value)
    assert decode(data) == value == msgpack.unpackb(data)


@given(st.binary(max_size=200))
def test_whatever_is_accepted_has_one_encoding(data: bytes) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert pack(value) == data


@pytest.mark.parametrize("length", [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_every_width_of_length(length: int) -> None:
    for value in ("x" * length, b"x" * length, [None] * length, {str(number): 1 for number in range(length)}):
        assert decode(pack(value), values=200_000) == value


# Long forms, signs, floats, ext types and timestamps, text that is none, keys that are none or come twice, loose ends.
OTHER_ENCODINGS = """
empty cc7f cd00ff ce0000ffff cf0000000000000001 d90178 c5000178 dc0001c0 de0001a161c0 dd00000001c0 c1 ff d080
ca00000000 d40178 d6ff00000000 c7010578 a1ff 810101 81c4016101 82a16101a16101 c0c0 92c0
"""


@pytest.mark.parametrize("text", OTHER_ENCODINGS.split())
def test_other_encodings_are_refused(text: str) -> None:
    with pytest.raises(Malformed, match=r"^The thing "):
        decode(bytes.fromhex(text.replace("empty", "")))


def test_bounds_on_values_and_nesting() -> None:
    assert decode(b"\x93\xc0\xc0\xc0", values=4) == [None] * 3
    with pytest.raises(Malformed, match="too many"):
        decode(b"\x93\xc0\xc0\xc0", values=3)
    assert decode(b"\x91\x91\xc0", nesting=2) == [[None]]
    with pytest.raises(Malformed, match="too deeply"):
        decode(b"\x91\x91\x90", nesting=2)
    with pytest.raises(Malformed, match="too deeply"):
        decode(b"\x91" * 100_000, values=1_000_000, nesting=6)


def test_announced_length_takes_no_memory() -> None:
    with pytest.raises(Malformed, match="ends inside"):
        decode(b"\xdd\xff\xff\xff\xff")
    with pytest.raises(Malformed, match="ends inside"):
        decode(b"\xc6\xff\xff\xff\xff")


def test_text_that_is_not_unicode_cannot_be_packed() -> None:
    with pytest.raises(UnicodeEncodeError):
        pack("\ud800")
