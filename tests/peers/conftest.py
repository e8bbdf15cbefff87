"""Fixtures of the peer tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.peers.laptops import Laptop, make_shop

Events = list[structlog.typing.EventDict]


@pytest.fixture
def shop(tmp_path: Path) -> list[Laptop]:
    """Three laptops of one shop; the first is the admin."""
    return make_shop(tmp_path, ["laptop-admin", "laptop-front", "laptop-back"])


@pytest.fixture
def events() -> Iterator[Events]:
    """What was logged, as structlog events."""
    with structlog.testing.capture_logs() as captured:
        yield captured
