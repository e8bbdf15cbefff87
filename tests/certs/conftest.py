"""Stores and shops for the tests of certs: real keys, real files, a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.roster import Role
from certs.store import Store


@dataclass(slots=True)
class Clock:
    """A clock for tests: stands still until it is moved."""

    now: datetime = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


MakeStore = Callable[[str], Store]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_store(tmp_path: Path, clock: Clock) -> MakeStore:
    def make(name: str) -> Store:
        store = Store(tmp_path / name, clock)
        store.load_or_create_identity(name)
        return store

    return make


@pytest.fixture
def admin(make_store: MakeStore) -> Store:
    """The first laptop of a shop."""
    store = make_store("laptop-admin-001")
    store.create_shop("Corner Shop")
    return store


@pytest.fixture
def member(admin: Store, make_store: MakeStore) -> Store:
    """A second laptop of the same shop; both hold the present roster."""
    return enrol(admin, make_store("laptop-finance-001"))


def enrol(admin: Store, store: Store, role: Role = Role.MEMBER) -> Store:
    """Make a device part of the admin's shop without the exchange of joining."""
    identity = store.identity()
    store.join_result(admin.issue(identity.name, identity.public_key, role))
    return store
