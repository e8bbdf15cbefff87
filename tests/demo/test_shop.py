"""The two laptops of the demo."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from agent.demo import shop
from agent.demo.errors import DemoFolderInUse
from agent.demo.shop import create_demo_laptop


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="br-"))
    yield made
    shutil.rmtree(made)


async def fetch(dsn: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_two_laptops_side_by_side(folder: Path) -> None:
    first, second = await asyncio.gather(
        create_demo_laptop(folder / "one of two", "first", scale=10), create_demo_laptop(folder / "two", "second")
    )
    try:
        assert len(await fetch(first.dsn, "SELECT name FROM businesses")) == 5
        assert await fetch(second.dsn, "SELECT name FROM businesses") == []
        known = 'SELECT "nodeName" FROM sync_nodes WHERE "nodeId" = \'{}\''
        for laptop in (first, second):
            assert await fetch(laptop.dsn, known.format(laptop.platform_node)) == [(laptop.name,)]
        assert await fetch(second.dsn, known.format(first.platform_node))
        assert not first.home.exists()
    finally:
        await first.stop()
        await second.stop()


async def test_a_laptop_starts_again_with_what_it_had(folder: Path) -> None:
    laptop = await create_demo_laptop(folder / "a", "second")
    await fetch(laptop.dsn, "CREATE TABLE mine (id int)")
    await laptop.stop()
    again = await create_demo_laptop(folder / "a", "second")
    try:
        assert again.dsn == laptop.dsn
        assert await fetch(again.dsn, "SELECT * FROM mine") == []
    finally:
        await again.stop()


async def test_a_laptop_half_filled_is_filled_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ConnectionError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(shop, "fill_device_state", broken)
        with pytest.raises(ConnectionError):
            await create_demo_laptop(folder / "a", "second")
    assert not (folder / "a" / "postgres" / "data" / "postmaster.pid").exists()
    laptop = await create_demo_laptop(folder / "a", "second")
    try:
        assert await fetch(laptop.dsn, "SELECT count(*) FROM sync_nodes") == [(2,)]
        assert await laptop.cluster.database_names() == {"platform"}
    finally:
        await laptop.stop()


async def test_a_folder_with_other_things_is_left_alone(folder: Path) -> None:
    (folder / "thesis.txt").touch()
    with pytest.raises(DemoFolderInUse, match="not empty"):
        await create_demo_laptop(folder, "first")
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
