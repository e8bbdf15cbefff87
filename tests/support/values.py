"""Values of any PostgreSQL type, as the text that the server reads: awkward on purpose, the same for the same seed."""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

AWKWARD = (
    "",
    " leading and trailing ",
    "tab\there",
    "line\nbreak\r\nand return",
    "back\\slash and \\N and \\.",
    "quotes ' \" `",
    "{braces},commas",
    "NULL",
    "Ünïcødé 日本語 🧾",
    "plain words",
)
_JSON = (
    None,
    True,
    0,
    -1.5,
    12345678901234567890,
    "text with \t tab, \\ backslash and \u2028",
    [],
    {},
    [1, [2, None], {"a": "b"}],
    {"name": "Ünï", "nested": {"list": [1.0, "2"], "null": None}},
)


def value_text(kind: str, rng: random.Random, enums: Mapping[str, Sequence[str]], *, unique: str | None = None) -> str:
    """A value of type ``kind`` (as ``format_type`` writes it) in PostgreSQL's input text.

    ``unique`` is a text that no other row of the column gets, made part of texts; digits in it become numbers.
    Raises ``LookupError`` for a type that is not known here.
    """
    if kind.endswith("[]"):
        items = [None if rng.random() < 0.15 else value_text(kind[:-2], rng, enums) for _ in range(rng.randrange(4))]
        if unique is not None:
            items.append(value_text(kind[:-2], rng, enums, unique=unique))
        return "{" + ",".join("NULL" if item is None else json_quoted(item) for item in items) + "}"
    labels = enums.get(kind.strip('"').split('"."')[-1]) or enums.get(kind)
    if labels:
        return rng.choice(list(labels))
    base, size = _parts(kind)
    number = int("".join(filter(str.isdigit, unique or "")) or 0)
    return _plain(base, size, rng, unique, number)


def json_quoted(text: str) -> str:
    """An element of an array literal, quoted."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parts(kind: str) -> tuple[str, tuple[int, ...]]:
    found = re.match(r"([^(]+?)\s*(?:\(([\d,\s-]+)\))?(\s+with(?:out)? time zone)?$", kind)
    if not found:
        return kind, ()
    size = tuple(int(part) for part in found[2].split(",")) if found[2] else ()
    return found[1] + (found[3] or ""), size


def _plain(base: str, size: tuple[int, ...], rng: random.Random, unique: str | None, number: int) -> str:
    match base:
        case "text" | "character varying" | "character" | "citext" | "name":
            text = rng.choice(AWKWARD) if unique is None else f"{unique} {rng.choice(AWKWARD)}".strip()
            limit = size[0] if size else (63 if base == "name" else 1 if base == "character" else len(text))
            return text[: min(limit, 15) if base == "name" else limit]
        case "integer" | "bigint" | "smallint" | "oid":
            top = {"integer": 2**31, "bigint": 2**63, "smallint": 2**15, "oid": 2**31}[base]
            return str(number if unique is not None else rng.choice((0, 1, top - 1, rng.randrange(top))))
        case "numeric":
            return _numeric(size, rng, number if unique is not None else None)
        case "double precision" | "real":
            special = ("NaN", "Infinity", "-Infinity", "-0", "1e-30", "0.1", "3.4028e+38")
            return str(number) if unique is not None else rng.choice((*special, repr(rng.uniform(-1e9, 1e9))))
        case "boolean":
            return rng.choice(("true", "false"))
        case "uuid":
            return f"{rng.getrandbits(128):032x}"
        case "jsonb" | "json":
            return json.dumps(rng.choice(_JSON) if unique is None else {"unique": unique})
        case "bytea":
            return "\\x" + rng.randbytes(rng.randrange(12)).hex() + (unique or "").encode().hex()
        case "date":
            return str((datetime(1990, 1, 1, tzinfo=UTC) + timedelta(days=number or rng.randrange(20000))).date())
        case "money":
            return str(number or rng.randrange(10**6) / 100)
        case "interval":
            return f"{rng.randrange(30)} days {number or rng.randrange(10**6)}.000001 seconds"
        case "inet" | "cidr":
            return f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256 or rng.randrange(256)}/32"
        case "macaddr":
            return f"02{number or rng.getrandbits(40):010x}"
        case "bit" | "bit varying":
            return "".join(rng.choice("01") for _ in range(size[0] if size else 1))
        case "point":
            return f"({rng.uniform(-90, 90)},{rng.uniform(-180, 180)})"
        case "int4range" | "int8range" | "numrange":
            low = number or rng.randrange(1000)
            return f"[{low},{low + 5})"
        case "tsvector":
            return "'" + "".join(rng.choices(string.ascii_lowercase, k=5)) + "':1"
        case "xml":
            return f"<a b='{number}'>text &amp; more</a>"
    return _moment(base, size, rng, number)


def _moment(base: str, size: tuple[int, ...], rng: random.Random, number: int) -> str:
    if not base.startswith("time"):
        raise LookupError(f"no values are known for the type {base}")
    digits = size[0] if size else 6
    fraction = f".{rng.randrange(10**digits):0{digits}}" if digits else ""
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(
        seconds=number * 86_400 if number else rng.randrange(200_000_000)
    )
    zone = "+02" if base.endswith("with time zone") and "without" not in base else ""
    return (
        f"{moment:%H:%M:%S}{fraction}{zone}"
        if base.split()[0] == "time"
        else f"{moment:%Y-%m-%d %H:%M:%S}{fraction}{zone}"
    )


def _numeric(size: tuple[int, ...], rng: random.Random, number: int | None) -> str:
    if not size:
        wild = ("NaN", f"{rng.randrange(10**38)}", f"0.{rng.randrange(10**30):030}", "-1.50", "0.00")
        return str(number) if number is not None else rng.choice(wild)
    scale = size[1] if len(size) > 1 else 0
    whole = number if number is not None else rng.choice((0, rng.randrange(10 ** (size[0] - scale))))
    sign = rng.choice(("", "-")) if number is None else ""
    return f"{sign}{whole}" + (f".{rng.randrange(10**scale):0{scale}}" if scale > 0 else "")
