from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.manifest import BusinessRef, Kind
from protocol.names import bundle_name, folder_for, slug
from tests.vectors.drafts import full, manifest


def test_names_are_those_of_the_design() -> None:
    assert bundle_name(full()) == "backup-full-20260101-153045.bundle"
    assert bundle_name(manifest()) == "backup-business-restaurant-abc-20260101-153045.bundle"
    device = full(kind=Kind.FULL_DEVICE)
    assert bundle_name(device) == "backup-full-device-laptop-finance-001-20260101-153045.bundle"
    assert bundle_name(full(), ".json.gz") == "backup-full-20260101-153045.json.gz"


def test_folders() -> None:
    assert [folder_for(kind) for kind in Kind] == ["full", "business", "device", "undo"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Restaurant ABC", "restaurant-abc"),
        ("  Café Zürich & Söhne ", "cafe-zurich-sohne"),
        ("../../etc/passwd", "etc-passwd"),
        ("a:b|c?", "a-b-c"),
        ("CON", "con"),
        ("x" * 100, "x" * 60),
        ("x" * 59 + " yes", "x" * 59),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_names_without_latin_letters_stay_apart() -> None:
    assert slug("寿司") != slug("拉面")
    assert bundle_name(manifest(business=BusinessRef("b", "寿司"))) == bundle_name(
        manifest(business=BusinessRef("c", "寿司"))
    )


@given(st.text())
def test_any_text_becomes_part_of_a_file_name(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(text))
    assert len(slug(text)) <= 60
