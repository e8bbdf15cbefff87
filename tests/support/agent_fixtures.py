"""Fixtures for tests with real agents; a folder's conftest.py imports those that its tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agents import Shops
from tests.support.databases import Servers


@pytest.fixture
def shops(servers: Servers, tmp_path: Path) -> Iterator[Shops]:
    """Makes laptops for one test."""
    made = Shops.on(servers, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def module_shops(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shops]:
    """Makes laptops for all tests of a module."""
    made = Shops.on(servers, tmp_path_factory.mktemp("laptops"))
    yield made
    made.close()
