"""The README's pictures and the documents that it names are there; pictures are small, since every clone has them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LARGEST = 90_000


def test_what_the_readme_shows_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) >= 5
    for name in pictures:
        data = (ROOT / name).read_bytes()
        assert data.startswith(b"\x89PNG"), name
        assert len(data) <= LARGEST, name
    assert {Path(name).name for name in pictures} == {path.name for path in (ROOT / pictures[0]).parent.glob("*.png")}
    for name in re.findall(r"(?<!!)\[[^\]]+\]\(([^)#:]+)\)", text):
        assert (ROOT / name).exists(), name
