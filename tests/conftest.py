"""Fixtures for every test that needs a database. The servers are real; nothing is faked."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.databases import EMBEDDED, Database, Server, Servers, server_names

MakeDatabase = Callable[..., Awaitable[Database]]


# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_server: run on the embedded PostgreSQL alone")
    config.addinivalue_line("markers", "every_server: run on each version of PostgreSQL at hand")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that share a module's laptops run in one worker, so that these are set up once."""
    if "module_shops" in getattr(item, "fixturenames", ()) and item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", _servers_of(metafunc.definition), indirect=True)


def _servers_of(test: pytest.Function | pytest.Item) -> list[str]:
    """Where the versions matter, a test is marked to run on each. The others are dealt out among them by their names:
    each test on one, each version with its share, always the same."""
    names = server_names()
    if test.get_closest_marker("one_server") is not None:
        return [EMBEDDED]
    if test.get_closest_marker("every_server") is not None:
        return names
    return [names[zlib.crc32(test.nodeid.encode()) % len(names)]]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this test process. Take ``server`` unless one test needs several."""
    running = Servers()
    yield running
    running.stop()


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """A PostgreSQL server: a test that takes it (or a database) runs once for each version at hand."""
    if request.param == "installed":
        pytest.skip("no PostgreSQL is installed beside the embedded one")
    return servers.get(request.param)


@pytest.fixture
async def database(server: Server) -> AsyncIterator[MakeDatabase]:
    """Makes fresh databases: ``await database()``, ``await database("platform")``, ``"filled"``, ``"everything"``."""
    made: list[Database] = []

    async def make(template: str = "empty") -> Database:
        made.append(await server.fresh(template))
        return made[-1]

    yield make
    for each in made:
        await server.drop(each)


@pytest.fixture
async def undisturbed(server: Server) -> AsyncIterator[None]:
    """While the test runs, its server does nothing by itself that takes a transaction id."""
    async with server.undisturbed():
        yield


@pytest.fixture
async def platform_database(database: MakeDatabase) -> Database:
    """The platform's 143 tables, without rows."""
    return await database("platform")


@pytest.fixture
async def filled_database(database: MakeDatabase) -> Database:
    """The demo's first laptop: three businesses and a demo one, 20 orders each."""
    return await database("filled")


@pytest.fixture
async def everything_database(database: MakeDatabase) -> Database:
    """The platform's 143 tables with rows in every one of them, for three businesses."""
    return await database("everything")
