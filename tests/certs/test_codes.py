"""Codes: their shape, their words, and how people type them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.codes import HIGHEST_WINDOW, Code, new_code, parse_code
from certs.errors import BadCode
from certs.words import WORDS


def test_the_words_have_thirty_bits() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert 3 * math.log2(len(WORDS)) >= 30


def test_the_words_are_those_of_the_specification() -> None:
    digest = hashlib.sha256("\n".join(WORDS).encode()).hexdigest()
    assert digest == "010f260903786dbe6145c4962a151acccaf0edba977091c24531b04e034fd677"


def test_the_words_are_short_lower_case_and_sorted() -> None:
    assert all(4 <= len(word) <= 7 and word.isascii() and word.isalpha() and word.islower() for word in WORDS)
    assert list(WORDS) == sorted(WORDS)


def test_no_two_words_are_one_letter_apart() -> None:
    """With a wildcard for one letter put in or in the place of one, two words one letter apart give the same text."""
    seen: dict[str, str] = {}
    for word in WORDS:
        replaced = {word[:i] + "*" + word[i + 1 :] for i in range(len(word))}
        inserted = {word[:i] + "*" + word[i:] for i in range(len(word) + 1)}
        for text in replaced | inserted:
            assert seen.setdefault(text, word) == word, (word, seen[text])


def test_no_two_words_are_one_swap_apart() -> None:
    for word in WORDS:
        swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
        assert not (swapped - {word}) & set(WORDS)


def test_no_word_begins_another() -> None:
    assert not any(later.startswith(word) for word, later in itertools.pairwise(WORDS))


def test_a_code_reads_as_people_expect() -> None:
    assert str(Code(7, ("copper", "lantern", "violin"))) == "7-copper-lantern-violin"


def test_the_words_stay_out_of_logs() -> None:
    assert "copper" not in repr(Code(7, ("copper", "lantern", "violin")))


@given(seed=st.integers())
def test_every_code_is_read_back(seed: int) -> None:
    code = new_code(random.Random(seed))
    assert parse_code(str(code)) == code
    assert 1 <= code.window <= HIGHEST_WINDOW


def test_codes_differ() -> None:
    assert len({str(new_code()) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        "7-copper-lantern-violin",
        "  7 Copper LANTERN violin ",
        "7, copper, lantern, violin.",
        "7copper-lantern_violin",
        "07—copper—lantern—violin",
    ],
)
def test_typed_forms(text: str) -> None:
    assert parse_code(text) == Code(7, ("copper", "lantern", "violin"))


@pytest.mark.parametrize("text", ["", "7", "copper-lantern-violin", "7-copper-lantern", "7-8-9-10", "x" * 100_000])
def test_what_is_no_code(text: str) -> None:
    with pytest.raises(BadCode):
        parse_code(text)


@pytest.mark.parametrize("number", ["0", "100", "0007999", "9" * 50])
def test_numbers_out_of_range(number: str) -> None:
    with pytest.raises(BadCode, match="between 1 and 99"):
        parse_code(f"{number}-copper-lantern-violin")


def test_a_mistyped_word_is_named_with_the_nearest() -> None:
    with pytest.raises(BadCode, match="'latern'") as caught:
        parse_code("7-copper-latern-violin")
    assert "'lantern'" in caught.value.hint


@given(text=st.text(max_size=60))
def test_any_text_is_a_code_or_a_bad_code(text: str) -> None:
    with contextlib.suppress(BadCode):
        assert parse_code(text).words
