"""Edits: whatever changes, the text comes back, and what is called new is what the earlier text lacks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.edits import Edits, find_edits

PLENTY = 1 << 30


def text(rows: list[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def some_rows(seed: int, count: int, longest: int) -> list[bytes]:
    chance = random.Random(seed)
    return [f"{number}\t{'x' * chance.randrange(longest)}{chance.random()}".encode() for number in range(count)]


def check(rows: list[bytes], before: list[bytes]) -> Edits:
    found = find_edits(text(rows), text(before), PLENTY)
    assert found is not None
    assert found.fits(text(before))
    assert found.apply(text(before)) == text(rows)
    return found


@settings(max_examples=150)
@given(
    st.integers(0, 1 << 30),
    st.integers(1, 400),
    st.sampled_from([1, 40, 3000]),
    st.floats(0, 1),
    st.sampled_from(["change", "delete", "insert", "move", "all"]),
)
def test_any_change_comes_back(seed: int, count: int, longest: int, share: float, how: str) -> None:
    chance = random.Random(seed)
    before = some_rows(seed, count, longest)
    rows = list(before)
    for place in sorted(chance.sample(range(count), round(share * count)), reverse=True):
        what = chance.choice(["change", "delete", "insert", "move"]) if how == "all" else how
        match what:
            case "change":
                rows[place] += b"!"
            case "delete" if len(rows) > 1:
                del rows[min(place, len(rows) - 1)]
            case "insert":
                rows.insert(place, f"new {chance.random()}".encode())
            case "move":
                rows.append(rows.pop(min(place, len(rows) - 1)))
    found = check(rows, before)
    assert set(rows) - set(before) <= set(found.rows.split(b"\n"))


@pytest.mark.parametrize("changed", [3, 300])
def test_only_what_changed_is_new(changed: int) -> None:
    before = some_rows(1, 4000, 200)
    rows = list(before)
    for place in random.Random(2).sample(range(4000), changed):
        rows[place] += b"!"
    assert set(check(rows, before).rows.split(b"\n")) == {*(set(rows) - set(before)), b""}


@pytest.mark.parametrize("gone", [0, 700, 3500])
def test_rows_that_begin_somewhere_in_the_earlier_text(gone: int) -> None:
    before = some_rows(3, 4000, 200)
    assert check(before[gone : gone + 400], before) == Edits(
        ((len(text(before[:gone])), len(text(before[gone : gone + 400]))),), b""
    )


def test_equal_rows_and_empty_ones() -> None:
    check([b"", b"", b"a"], [b"a", b"", b""])
    check([b"a", b"a", b"a"], [b"a"])


def test_too_much_that_is_new_is_not_told() -> None:
    before, rows = some_rows(4, 100, 30), some_rows(5, 100, 30)
    size = len(check(rows, before).rows)
    assert find_edits(text(rows), text(before), size) is not None
    assert find_edits(text(rows), text(before), size - 1) is None
