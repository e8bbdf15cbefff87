"""From a field of COPY text to the JSON text of its value, by PostgreSQL type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from protocol.manifest import ColumnEntry
from protocol.platform_json import moments
from protocol.platform_json.copy_text import NULL, Nested, parse_array, unescape
from protocol.platform_json.errors import ValueMisfit
from protocol.platform_json.json_text import as_script, as_written, parse, quote, write
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.numbers import NOT_FINITE, decimal_text, is_number, script_number
from protocol.platform_json.types import Form, PgType

FieldWriter: TypeAlias = Callable[[str], "str | None"]
"""Takes a raw field of COPY text, gives JSON text; None: the key is left out."""

_TextWriter: TypeAlias = Callable[[str], str]


class Note(StrEnum):
    """What of a value the platform's form cannot hold, in words that follow a column's name."""

    MILLISECONDS = "is exact to the microsecond; the platform's form keeps milliseconds"
    NOT_FINITE = "is NaN or infinite; the platform does not take such a value"
    NUMBER = (
        "has more digits than the platform's numbers; the file has all of them, the platform will round, "
        "and may find the checksum changed"
    )


@dataclass(slots=True)
class Notes:
    """How many values of which column were noted."""

    counts: dict[tuple[str, str, Note], int] = field(default_factory=dict)

    def add(self, table: str, column: str, note: Note) -> None:
        key = (table, column, note)
        self.counts[key] = self.counts.get(key, 0) + 1

    def lines(self) -> tuple[str, ...]:
        """A sentence for each column and note."""
        return tuple(
            f"{table}.{column} {note.value} ({rows} value{'' if rows == 1 else 's'})."
            for (table, column, note), rows in self.counts.items()
        )


def field_writer(
    table: str,
    column: ColumnEntry,
    notes: Notes,
    *,
    verbatim: bool = False,
    omit_nulls: bool = False,
    limits: FileLimits = DEFAULT_FILE_LIMITS,
) -> FieldWriter:
    """The writer for one column. ``verbatim`` keeps the text of numbers as it is in the bundle (of one that was
    imported: then it is the file's own); ``omit_nulls`` leaves out what is NULL. Raises ``ValueMisfit`` when called.
    """

    def note(what: Note) -> None:
        notes.add(table, column.name, what)

    kind = PgType.parse(column.type)
    form = Form.TEXT if column.enum is not None else kind.form
    write_text = _scalar(form, note, verbatim, limits)
    if kind.array:
        write_text = _array(write_text)
    null = None if omit_nulls or (kind.is_json and column.enum is None) else "null"

    def write_field(raw: str) -> str | None:
        if raw == NULL:
            return null
        return write_text(unescape(raw) if "\\" in raw else raw)

    return write_field


def _scalar(form: Form, note: Callable[[Note], None], verbatim: bool, limits: FileLimits) -> _TextWriter:
    match form:
        case Form.BOOLEAN:
            return _boolean
        case Form.INTEGER:
            return _integer
        case Form.BIGINT:
            return lambda text: f'"{_integer(text)}"'
        case Form.DECIMAL:
            return _decimal_as_it_is if verbatim else _decimal
        case Form.FLOAT:
            return _float(note, verbatim)
        case Form.BYTES:
            return _bytes
        case Form.MOMENT:
            return _moment(moments.written, note)
        case Form.CLOCK:
            return _moment(moments.written_clock, note)
        case Form.JSON:
            return _json(note, verbatim, limits)
        case Form.TEXT:
            return quote


def _boolean(text: str) -> str:
    if text not in {"t", "f"}:
        raise ValueMisfit(f"is neither true nor false: {text[:60]!r}")
    return "true" if text == "t" else "false"


def _integer(text: str) -> str:
    if not text.removeprefix("-").isdecimal() or not text.isascii():
        raise ValueMisfit(f"is no whole number: {text[:60]!r}")
    return text


def _decimal(text: str) -> str:
    try:
        return f'"{text if text in NOT_FINITE else decimal_text(text)}"'
    except ValueError as error:
        raise ValueMisfit(str(error)) from None


def _decimal_as_it_is(text: str) -> str:
    if text not in NOT_FINITE and not is_number(text):
        raise ValueMisfit(f"is no number: {text[:60]!r}")
    return f'"{text}"'


def _float(note: Callable[[Note], None], verbatim: bool) -> _TextWriter:
    def write_float(text: str) -> str:
        if text in NOT_FINITE:
            note(Note.NOT_FINITE)
            return f'"{text}"'
        try:
            shown, _ = script_number(text)
        except ValueError as error:
            raise ValueMisfit(str(error)) from None
        return text if verbatim else shown

    return write_float


def _bytes(text: str) -> str:
    try:
        if not text.startswith("\\x"):
            raise ValueError
        data = bytes.fromhex(text[2:])
    except ValueError:
        raise ValueMisfit("is no hexadecimal bytea") from None
    return '{"type":"Buffer","data":[' + ",".join(map(str, data)) + "]}"


def _moment(convert: Callable[[str], tuple[str, bool]], note: Callable[[Note], None]) -> _TextWriter:
    def write_moment(text: str) -> str:
        shown, exact = convert(text)
        if shown in moments.INFINITE:
            note(Note.NOT_FINITE)
        elif not exact:
            note(Note.MILLISECONDS)
        return f'"{shown}"'

    return write_moment


def _json(note: Callable[[Note], None], verbatim: bool, limits: FileLimits) -> _TextWriter:
    number = as_written if verbatim else as_script(lambda: note(Note.NUMBER))

    def write_json(text: str) -> str:
        return write(parse(text, limits), number, script_order=not verbatim, depth=limits.depth)

    return write_json


def _array(element: _TextWriter) -> _TextWriter:
    def write_item(item: Nested) -> str:
        if item is None:
            return "null"
        return element(item) if isinstance(item, str) else write_items(item)

    def write_items(items: list[Nested]) -> str:
        return "[" + ",".join(map(write_item, items)) + "]"

    return lambda text: write_items(parse_array(text))
