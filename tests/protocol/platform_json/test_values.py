"""Values by type: what the platform writes, what PostgreSQL's COPY text holds, and back without a changed byte."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.manifest import ColumnEntry
from protocol.platform_json.copy_text import NULL, escape, format_array, parse_array, unescape
from protocol.platform_json.errors import PlatformFileError, ValueMisfit
from protocol.platform_json.from_json import field_reader
from protocol.platform_json.json_text import minified, parse, quote
from protocol.platform_json.numbers import decimal_text, script_number
from protocol.platform_json.to_json import Notes, field_writer

MOMENT = "timestamp(3) without time zone"

# type, COPY text as PostgreSQL writes it, JSON text as the platform writes it
GOLDEN = [
    ("boolean", "t", "true"),
    ("integer", "-7", "-7"),
    ("smallint", "0", "0"),
    ("bigint", "9007199254740993", '"9007199254740993"'),
    ("numeric(10,2)", "10.50", '"10.5"'),
    ("numeric(10,2)", "0.00", '"0"'),
    ("numeric(10,2)", "-100.00", '"-100"'),
    ("numeric", "0.0000001", '"1e-7"'),
    ("numeric", "0.000001", '"0.000001"'),
    ("numeric", "-0.00000012300", '"-1.23e-7"'),
    ("numeric", "100000000000000000000", '"100000000000000000000"'),
    ("numeric", "1000000000000000000000", '"1e+21"'),
    ("numeric", "NaN", '"NaN"'),
    ("double precision", "0.1", "0.1"),
    ("double precision", "1e+20", "100000000000000000000"),
    ("double precision", "1e+21", "1e+21"),
    ("double precision", "1e-07", "1e-7"),
    ("real", "3.4028e+38", "3.4028e+38"),
    ("double precision", "-Infinity", '"-Infinity"'),
    ("text", r"tab\there\nand \\ back", r'"tab\there\nand \\ back"'),
    ("text", "", '""'),
    ("text", NULL, "null"),
    ("text", r"\\N", r'"\\N"'),
    ("text", '\x01\x7f\u2028/"é日🧾', '"\\u0001\x7f\u2028/\\"é日🧾"'),
    ("character varying(10)", "ab", '"ab"'),
    ("uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", '"0f8fad5b-d9cb-469f-a165-70867728950e"'),
    (MOMENT, "2026-01-01 15:30:45.12", '"2026-01-01T15:30:45.120Z"'),
    (MOMENT, "2026-01-01 00:00:00", '"2026-01-01T00:00:00.000Z"'),
    (MOMENT, "12026-01-01 00:00:00", '"+012026-01-01T00:00:00.000Z"'),
    (MOMENT, "0044-03-15 00:00:00 BC", '"-000043-03-15T00:00:00.000Z"'),
    (MOMENT, "0001-03-15 00:00:00 BC", '"0000-03-15T00:00:00.000Z"'),
    (MOMENT, "infinity", '"infinity"'),
    ("timestamp with time zone", "2026-01-01 15:30:45.123+00", '"2026-01-01T15:30:45.123Z"'),
    ("timestamp with time zone", "0044-03-15 10:00:00+00 BC", '"-000043-03-15T10:00:00.000Z"'),
    ("date", "2026-02-28", '"2026-02-28T00:00:00.000Z"'),
    ("time without time zone", "10:11:12.5", '"1970-01-01T10:11:12.500Z"'),
    ("time without time zone", "24:00:00", '"1970-01-02T00:00:00.000Z"'),
    ("bytea", r"\\x0001ff", '{"type":"Buffer","data":[0,1,255]}'),
    ("bytea", r"\\x", '{"type":"Buffer","data":[]}'),
    ("jsonb", "null", "null"),
    ("jsonb", '{"a":[1,2.5,{"b":null}],"c":"\\\\n"}', '{"a":[1,2.5,{"b":null}],"c":"\\n"}'),
    ("text[]", "{}", "[]"),
    ("text[]", r'{a,"b c",NULL,"NULL","","q\\"q","back\\\\slash"}', r'["a","b c",null,"NULL","","q\"q","back\\slash"]'),
    ("integer[]", "{1,2,3}", "[1,2,3]"),
    ("integer[]", "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
    ("numeric(5,2)[]", "{1.5}", '["1.5"]'),
    ("boolean[]", "{t,f}", "[true,false]"),
    ("jsonb[]", r'{"{\\"a\\":1}","[1,2]"}', '[{"a":1},[1,2]]'),
    ("inet", "10.0.0.1/32", '"10.0.0.1/32"'),
]


def _write(kind: str, raw: str, *, verbatim: bool = False, enum: str | None = None) -> tuple[str | None, Notes]:
    notes = Notes()
    return field_writer("t", ColumnEntry("c", kind, enum), notes, verbatim=verbatim)(raw), notes


def _read(kind: str, text: str, labels: list[str] | None = None) -> str:
    return field_reader(ColumnEntry("c", kind), labels)(parse(text))


@pytest.mark.parametrize(("kind", "raw", "text"), GOLDEN)
def test_values_are_written_as_the_platform_writes_them(kind: str, raw: str, text: str) -> None:
    assert _write(kind, raw)[0] == text


@pytest.mark.parametrize(("kind", "raw", "text"), GOLDEN)
def test_values_come_back_to_the_last_byte(kind: str, raw: str, text: str) -> None:
    again = _read(kind, text)
    assert _write(kind, again)[0] == text
    assert _write(kind, again, verbatim=True)[0] == text
    if not kind.startswith(("numeric", "double", "real")):
        assert again == raw


def test_null_in_a_json_column_is_left_out() -> None:
    assert _write("jsonb", NULL)[0] is None
    assert _write("jsonb[]", NULL)[0] == "null"
    assert _read("jsonb", "null") == "null"
    assert _read("text", "null") == NULL


@pytest.mark.parametrize(
    ("kind", "raw", "words"),
    [
        (MOMENT, "2026-01-01 15:30:45.123456", "milliseconds"),
        ("double precision", "NaN", "NaN or infinite"),
        ("date", "-infinity", "NaN or infinite"),
        ("jsonb", "12345678901234567890", "more digits"),
        ("jsonb", "1e400", "more digits"),
    ],
)
def test_what_is_lost_is_said(kind: str, raw: str, words: str) -> None:
    text, notes = _write(kind, raw)
    assert text is not None
    (line,) = notes.lines()
    assert line.startswith("t.c ")
    assert words in line


def test_json_of_the_database_is_laid_out_as_javascript_does() -> None:
    text, notes = _write("jsonb", '{"b": 1.0, "10": 2.50, "9": 100e1, "a": 0.00000010}')
    assert text == '{"9":1000,"10":2.5,"b":1,"a":1e-7}'
    assert notes.lines() == ()


def test_json_of_a_file_keeps_its_numbers() -> None:
    assert _write("jsonb", '{"b":1.0,"10":2.50,"a":1E5}', verbatim=True)[0] == '{"b":1.0,"10":2.50,"a":1E5}'


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("boolean", '"t"'),
        ("boolean", "1"),
        ("integer", "2147483648"),
        ("integer", "1.5"),
        ("integer", '"1"'),
        ("smallint", "-32769"),
        ("bigint", '"9223372036854775808"'),
        ("bigint", '"abc"'),
        ("numeric(4,2)", '"100"'),
        ("numeric(4,2)", '"1.005"'),
        ("numeric(4,2)", '"Infinity"'),
        ("numeric", '"1,5"'),
        ("numeric", '"1e999999"'),
        ("numeric", "true"),
        ("double precision", "1e999"),
        ("double precision", '"high"'),
        ("text", "5"),
        ("text", "{}"),
        ("text", r'"\u0000"'),
        ("text", r'"\ud800"'),
        ("character varying(2)", '"abc"'),
        ("uuid", '"no"'),
        (MOMENT, '"2026-01-01T15:30:45Z"'),
        (MOMENT, '"2026-01-01T15:30:45.123+00:00"'),
        (MOMENT, '"2026-02-30T15:30:45.123Z"'),
        (MOMENT, '"2026-01-01T25:30:45.123Z"'),
        (MOMENT, "5"),
        ("timestamp(0) without time zone", '"2026-01-01T15:30:45.123Z"'),
        ("date", '"2026-01-01T15:30:45.000Z"'),
        ("time without time zone", '"2026-01-01T15:30:45.000Z"'),
        ("bytea", '"aGk="'),
        ("bytea", '{"type":"Buffer","data":[256]}'),
        ("bytea", '{"type":"Buffer","data":["1"]}'),
        ("jsonb", r'{"a":"\u0000"}'),
        ("jsonb", r'{"\udc00":1}'),
        ("jsonb", "1e99999"),
        ("text[]", '"a"'),
        ("text[]", "[1]"),
        ("integer[]", "[[1],[2,3]]"),
        ("integer[]", "[1,[2]]"),
        ("integer[]", "[[]]"),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueMisfit) as caught:
        _read(kind, text)
    assert not caught.value.reason.endswith(".")


def test_an_enum_takes_its_labels_alone() -> None:
    assert _read("Mood", '"calm"', ["calm", "busy"]) == "calm"
    assert _read("Mood[]", '["calm","busy"]', ["calm", "busy"]) == "{calm,busy}"
    with pytest.raises(ValueMisfit, match="angry"):
        _read("Mood", '"angry"', ["calm", "busy"])
    assert _write("Mood", "calm", enum="Mood")[0] == '"calm"'


@pytest.mark.parametrize("raw", ["{", "}", "{a", "{a,}", "{,a}", "a", "{a}b", "{{a},b", "{a b", '{"a}', "{}{}", ""])
def test_arrays_that_are_none_are_refused(raw: str) -> None:
    with pytest.raises(ValueMisfit):
        parse_array(raw)


def test_lower_bounds_of_an_array_are_passed_over() -> None:
    assert parse_array("[0:1]={1,2}") == ["1", "2"]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(TEXTS)
def test_copy_text_holds_any_text(text: str) -> None:
    field = escape(text)
    assert "\n" not in field
    assert "\t" not in field
    assert unescape(field) == text
    assert json.loads(quote(text)) == text


@given(st.recursive(TEXTS | st.none(), lambda inner: st.lists(inner, min_size=1, max_size=1), max_leaves=4))
def test_arrays_hold_any_texts(item: Any) -> None:
    items = [item, item]
    try:
        literal = format_array(items, lambda value: value)  # type: ignore[arg-type,return-value]
    except ValueMisfit:
        return
    assert parse_array(literal) == items


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_decimals_keep_their_value(number: Decimal) -> None:
    short = decimal_text(f"{number:f}")
    assert Decimal(short) == number
    assert decimal_text(short) == short


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_has_one_text(number: float) -> None:
    text, exact = script_number(repr(number))
    assert exact
    assert float(text) == number
    assert script_number(text) == (text, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_goes_through_a_bundle_unchanged(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    field = _read("jsonb", text)
    assert _write("jsonb", field, verbatim=True)[0] == text
    script = _write("jsonb", field)[0]
    assert script is not None
    assert _write("jsonb", escape(script))[0] == script


@given(JSON)
def test_minified_text_is_the_text_without_spaces(value: Any) -> None:
    for indent in (1, None):
        spaced = json.dumps([value], ensure_ascii=False, indent=indent)
        assert minified(spaced) == json.dumps([value], ensure_ascii=False, separators=(",", ":"))


@given(st.sampled_from([kind for kind, _, _ in GOLDEN]), st.text(max_size=20))
def test_nothing_but_our_own_errors_escapes(kind: str, raw: str) -> None:
    with suppress(PlatformFileError):
        _write(kind, raw)
    with suppress(PlatformFileError):
        _read(kind, json.dumps(raw))
