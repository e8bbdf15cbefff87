"""Quoting of names and texts."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.database.names import column_list, literal, qualified, quote
from tests.support.databases import Servers
from tests.support.tables import table

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=15)


def test_names_are_quoted() -> None:
    assert quote("createdAt") == '"createdAt"'
    assert quote('a"b') == '"a""b"'
    assert qualified(table('o"x', "id", namespace="My Schema")) == '"My Schema"."o""x"'
    assert column_list(["a", 'b"']) == '"a", "b"""'
    assert column_list(["a", "b"], "t") == 't."a", t."b"'


@pytest.mark.parametrize("function", [quote, literal])
def test_nul_is_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="NUL"):
        function("a\0b")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(TEXT, min_size=1, max_size=20))
async def test_any_text_comes_through(servers: Servers, texts: list[str]) -> None:
    cluster = servers.get("embedded-18").cluster
    connection = await asyncpg.connect(cluster.dsn("postgres"))
    try:
        for conforming in ("on", "off") if connection.get_server_version().major < 19 else ("on",):
            await connection.execute(f"SET standard_conforming_strings = {conforming}; SET escape_string_warning = off")
            row = await connection.fetchrow(f"SELECT {', '.join(map(literal, texts))}")
            assert list(row) == texts
        names = [text.encode()[:60].decode(errors="ignore") or "x" for text in texts]
        assert [
            attribute.name
            for attribute in (
                await connection.prepare(f"SELECT {', '.join(f'1 AS {quote(name)}' for name in names)}")
            ).get_attributes()
        ] == names
    finally:
        await connection.close()
