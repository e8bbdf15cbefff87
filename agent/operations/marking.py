"""Whether rows changed since a comparison: the marks of the tables that travel, here and as others tell of theirs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agent.database.connect import connect
from agent.database.errors import translating
from agent.database.marks import read_mark
from agent.database.reflect import reflect
from agent.operations.workspace import Workspace
from agent.tables.catalogue import TableClass
from agent.tables.infer import classify
from protocol.requests import TableMark

KEPT_SECONDS = 60.0
"""How long the names of the tables that stay here are believed; a table that is not among them counts."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Both sides' marks, read before a comparison; None where a side gives none."""

    here: TableMark | None = None
    there: TableMark | None = None


NO_MARKS = Marks()


class Marker:
    """Reads the mark of this laptop's database again and again; costs a connection and two small questions."""

    def __init__(self, workspace: Workspace) -> None:
        self._home = workspace.home
        self._apart: tuple[str, ...] = ()
        self._until = float("-inf")

    async def now(self) -> TableMark:
        """The mark as it is. Raises errors of ``agent.database``, ``agent.tables`` and ``agent.config``."""
        workspace = Workspace(self._home)
        connection = await connect(workspace.database_url, application_name="backroom: marks")
        try:
            with translating("Looking whether rows changed"):
                now = asyncio.get_running_loop().time()
                if now >= self._until:
                    schema = await reflect(connection)
                    classification = classify(schema, workspace.catalogue())
                    self._apart = tuple(set(schema.tables) - set(classification.of_class(TableClass.BUSINESS)))
                    self._until = now + KEPT_SECONDS
                return await read_mark(connection, self._apart)
        finally:
            await connection.close(timeout=5)


def since(then: Marks, now: Marks) -> str:
    """What may have happened since: ``""`` nothing, ``here``, ``there`` or ``both``; ``unknown`` where nobody watched.

    Of the other side no word means nothing: it may be away, or its Backroom older.
    """
    here, there = _moved(then.here, now.here), _moved(then.there, now.there)
    if here and there:
        return "both"
    if here or there:
        return "here" if here else "there"
    return "unknown" if here is None or (there is None and then.there and now.there) else ""


def _moved(then: TableMark | None, now: TableMark | None) -> bool | None:
    """Whether rows may have changed; None where that cannot be told."""
    if then is None or now is None or not then.epoch or then.epoch != now.epoch:
        return None
    return then.counts != now.counts
