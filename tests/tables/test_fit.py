"""Which column types fit into which."""

from __future__ import annotations

import pytest

from agent.tables.fit import (
    FITS,
    AtMostCharacters,
    Check,
    Digits,
    NoValue,
    OneOf,
    Seconds,
    TypeText,
    WholeNumber,
    fit,
)
from agent.tables.schema import Column

RED_BLUE = ("RED", "BLUE")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("text", TypeText("text", (), False)),
        ("character varying(255)", TypeText("character varying", (255,), False)),
        ("numeric(12,2)[]", TypeText("numeric", (12, 2), True)),
        ("numeric(5,-2)", TypeText("numeric", (5, -2), False)),
        ("timestamp(3) without time zone", TypeText("timestamp without time zone", (3,), False)),
        ('"Status (2)"[]', TypeText('"Status (2)"', (), True)),
    ],
)
def test_types_are_taken_apart(text: str, parsed: TypeText) -> None:
    assert TypeText.parse(text) == parsed


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("text", "text"),
        ("character varying(10)", "character varying(20)"),
        ("character varying(10)", "text"),
        ("character(3)", "text"),
        ("uuid", "text"),
        ("uuid", "character varying(36)"),
        ("smallint", "integer"),
        ("integer", "bigint"),
        ("bigint", "numeric"),
        ("integer", "numeric(12,2)"),
        ("numeric(10,2)", "numeric(12,4)"),
        ("numeric(10,2)", "numeric"),
        ("real", "double precision"),
        ("timestamp(3) without time zone", "timestamp without time zone"),
        ("timestamp(3) without time zone", "timestamp(3) with time zone"),
        ("text[]", "text[]"),
        ("character varying(5)[]", "text[]"),
        ("bit(3)", "bit"),
    ],
)
def test_wider_types_take_anything(source: str, target: str) -> None:
    assert fit(source, None, Column("c", target), None) == FITS


@pytest.mark.parametrize(
    ("source", "target", "check"),
    [
        ("text", "character varying(20)", AtMostCharacters(20)),
        ("character varying(30)[]", "character varying(20)[]", AtMostCharacters(20)),
        ("bigint", "integer", WholeNumber(4)),
        ("numeric(10,2)", "integer", WholeNumber(4)),
        ("numeric", "numeric(12,2)", Digits(12, 2)),
        ("numeric(12,4)", "numeric(12,2)", Digits(12, 2)),
        ("bigint", "numeric(12,2)", Digits(12, 2)),
        ("timestamp without time zone", "timestamp(3) without time zone", Seconds("timestamp without time zone", 3)),
    ],
)
def test_narrower_types_take_what_fits(source: str, target: str, check: Check) -> None:
    found = fit(source, None, Column("c", target), None)
    assert found.check == check
    assert found.array == source.endswith("[]")
    assert found.problem


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("text", "integer"),
        ("integer", "text"),
        ("jsonb", "text"),
        ("text", "text[]"),
        ("text[]", "text"),
        ("timestamp without time zone", "date"),
        ("double precision", "real"),
        ("double precision", "numeric"),
        ("bytea", "text"),
    ],
)
def test_types_that_have_nothing_to_do_with_each_other_take_no_value(source: str, target: str) -> None:
    assert fit(source, None, Column("c", target), None).check == NoValue()


def test_enums_fit_by_their_labels() -> None:
    column = Column("c", '"Colour"', enum="Colour")
    assert fit('"Colour"', ("BLUE",), column, RED_BLUE) == FITS
    assert fit('"Shade"', ("BLUE",), column, RED_BLUE) == FITS
    assert fit('"Colour"', ("BLUE", "GREEN"), column, RED_BLUE).check == OneOf(RED_BLUE)
    assert fit("text", None, column, RED_BLUE).check == OneOf(RED_BLUE)
    assert fit("integer", None, column, RED_BLUE).check == NoValue()
    assert fit('"Colour"', RED_BLUE, Column("c", "text"), None) == FITS
    assert fit('"Colour"', RED_BLUE, Column("c", "character varying(3)"), None).check == AtMostCharacters(3)
    array = Column("c", '"Colour"[]', enum="Colour")
    assert fit('"Colour"[]', ("GREEN",), array, RED_BLUE).array
    assert fit('"Colour"', ("BLUE",), array, RED_BLUE).check == NoValue()


def test_generated_columns_are_ignored() -> None:
    assert fit("integer", None, Column("c", "integer", generated=True), None).ignored
