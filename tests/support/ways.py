"""The ways of a bundle to whoever restores it, and rows that change between two pushes, for tests that compare ways."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from agent.archive.spool import Spool
from agent.engine.bundle_file import VerifiedBundle
from agent.growing import Growing
from agent.home import Home
from agent.peers.delta import BaseFile, pieces
from agent.peers.receive import Receiver
from protocol.delta import DeltaReader, News
from tests.support.restores import Laptop, verify_as

_STEP = 997
_COLUMNS = """
SELECT DISTINCT ON (c.oid) c.relname AS table, a.attname AS column
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attnotnull
AND a.atttypid <> 'timestamp'::regtype AND c.relname <> 'businesses' AND NOT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND (a.attnum = ANY (i.indkey) OR i.indexprs IS NOT NULL)
) ORDER BY c.oid, a.attnum DESC
"""
"""A column of each table that may be emptied."""


async def as_pushed(
    bundle: VerifiedBundle, base: VerifiedBundle, node: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[VerifiedBundle, News]:
    """The bundle of ``node`` as it came while it was made, as a delta against ``base``, verified as it came, and
    the news that were learned. The file is another one with the same bytes."""
    monkeypatch.setattr("agent.peers.receive.verify_signature", verify_as(node))
    whole, growing = bundle.path.read_bytes(), Growing(bundle.path)
    spool = Spool(Home(bundle.path.parent / f"{bundle.path.stem}.home"))

    async def grow() -> None:
        for size in range(0, len(whole), _STEP):
            growing.grew(size)
            await asyncio.sleep(0)
        growing.grew(len(whole))
        growing.end(bundle.path)

    here, made_of = await asyncio.to_thread(_open(base).open)
    there, known = await asyncio.to_thread(_open(base).open)
    with here, there, closing(growing.open()) as file:
        news = News(known.content)
        reader = DeltaReader(known, news)
        receiver = Receiver(spool.open("push", len(whole)), len(whole), expected=bundle.manifest)
        await receiver.open()
        growth = asyncio.create_task(grow())
        parts = pieces(file, made_of, 0)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            for data in reader.feed(part[0]):
                await receiver.take(data)
        await growth
        await receiver.finish()
        await receiver.close()
    arrived, path = receiver.arrived, receiver.part.path
    assert arrived is not None
    assert path.read_bytes() == whole
    return VerifiedBundle(path, bundle.manifest, arrived.seal, arrived.signer, len(whole), places=arrived.places), news


def _open(bundle: VerifiedBundle) -> BaseFile:
    return BaseFile(bundle.manifest.bundle_id, bundle.path)


async def change_some(laptop: Laptop) -> None:
    """Change a few of the rows, and delete a few to which nothing refers, as a day of work would do."""
    for table, column in await laptop.fetch(_COLUMNS):
        some = f'md5(t::text) < \'1\' OR ctid = (SELECT min(ctid) FROM "{table}" WHERE "{column}" IS NOT NULL)'
        await laptop.execute(f'UPDATE "{table}" t SET "{column}" = NULL WHERE {some}')
        for (place,) in await laptop.fetch(f"SELECT ctid::text FROM \"{table}\" t WHERE md5(t::text) > 'f'"):
            await laptop.execute(
                f"DO $$BEGIN DELETE FROM \"{table}\" WHERE ctid = '{place}'; "
                "EXCEPTION WHEN foreign_key_violation THEN NULL; END$$"
            )
