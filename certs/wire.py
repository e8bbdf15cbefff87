"""Bounded msgpack: the one way in which certs turns values into bytes and back.

Decoding is strict: one map, exactly the expected fields, each once, exactly the expected types, nothing behind it, no
longer than the stated limit. Only `Malformed` comes out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from certs.errors import Malformed

Fields = Mapping[str, type | tuple[type, ...]]


def pack(value: Mapping[str, object]) -> bytes:
    """Encode one map as msgpack (bytes as bin, text as str)."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes, fields: Fields, *, what: str, limit: int) -> dict[str, Any]:
    """Decode one map of at most `limit` bytes whose keys and types are those of `fields`.

    `what` names the thing in the error ("The roster"). Raises `Malformed`.
    """
    if len(data) > limit:
        raise Malformed(f"{what} has {len(data)} bytes; at most {limit} are allowed.")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_once)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Malformed(f"{what} cannot be decoded.") from error
    return checked(value, fields, what=what)


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A map as a dict; one with a key twice would mean one thing here and another to the next reader."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def checked(value: object, fields: Fields, *, what: str) -> dict[str, Any]:
    """Return `value` as a dict if it is a map with exactly these fields and types; raise `Malformed` if not."""
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise Malformed(f"{what} does not have the expected fields.")
    for name, kinds in fields.items():
        found = value[name]
        allowed = kinds if isinstance(kinds, tuple) else (kinds,)
        if type(found) not in allowed:
            raise Malformed(f"{what} has a field {name!r} of the wrong type.")
    return value
