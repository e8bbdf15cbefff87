"""Reading a platform backup file as it arrives: metadata and rows, in bounded memory, checksums computed on the way."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from protocol.platform_json.errors import (
    BadChecksum,
    NotAPlatformFile,
    PlatformFileCutShort,
    PlatformFileTooLarge,
)
from protocol.platform_json.inflate import Inflater
from protocol.platform_json.json_text import DECODER, Value, minified
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits
from protocol.platform_json.metadata import Metadata

BUSINESS, DEVICE = "businessData", "deviceData"
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_BATCH = 500
_LONG_ROW = 1 << 16
# An error this close to the end of what has arrived may only mean that the rest has not.
_CUT = 16


@dataclass(frozen=True, slots=True)
class MetadataRead:
    """The file's words about itself. They come first in files of the platform; in others they may come later."""

    metadata: Metadata


@dataclass(frozen=True, slots=True)
class TableRead:
    """A table begins: ``key`` in ``section`` (businessData or deviceData)."""

    section: str
    key: str


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Rows of the table that began last."""

    rows: list[dict[str, Value]]


Event: TypeAlias = MetadataRead | TableRead | RowsRead
_Steps: TypeAlias = Iterator["Event | None"]


class PlatformFileReader:
    """``feed`` bytes (plain or gzip) and use the events; ``close`` at the end of the file.

    Nothing may be kept that came before ``close`` returned: only then are the checksums known to hold. ``checksums``
    are those computed, ``size`` counts unpacked bytes. Raises errors of ``platform_json.errors`` and nothing else.
    """

    def __init__(self, limits: FileLimits = DEFAULT_FILE_LIMITS) -> None:
        self._limits = limits
        self._inflater = Inflater(limits)
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._ended = False
        self._pending: list[str] = []
        self._wanted = 0
        self._arrived = 0
        self._steps = self._file()
        self.metadata: Metadata | None = None
        self.checksums: dict[str, str] = {}

    @property
    def size(self) -> int:
        """Bytes of text so far."""
        return self._inflater.unpacked

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip."""
        return self._inflater.compressed

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events in ``data``. Read to its end before the next call."""
        for piece in self._inflater.feed(data):
            yield from self._take(piece, final=False)

    def close(self) -> Iterator[Event]:
        """The last events; then the file is known to be whole and its checksums to hold."""
        for piece in self._inflater.close():
            yield from self._take(piece, final=False)
        yield from self._take(b"", final=True)
        if self.metadata is None:
            raise NotAPlatformFile("The file has no metadata: it is no backup of the platform.")
        if BUSINESS not in self.checksums:
            raise NotAPlatformFile(f"The file has no {BUSINESS}: it is no backup of the platform.")
        for section, found in self.checksums.items():
            stated = self.metadata.checksums.get(section)
            if stated is not None and stated != found:
                raise BadChecksum(f"The checksum of the file's {section} does not hold: it is not what was written.")

    def _take(self, piece: bytes, *, final: bool) -> Iterator[Event]:
        try:
            text = self._decode.decode(piece, final)
        except UnicodeDecodeError:
            raise NotAPlatformFile("The file is not UTF-8 text: it is no backup of the platform.") from None
        self._pending.append(text)
        self._arrived += len(text)
        self._ended = final
        if self._arrived < self._wanted and not final:
            return
        self._text = self._text[self._at :] + "".join(self._pending)
        self._at, self._arrived, self._wanted = 0, 0, 0
        self._pending.clear()
        for event in self._steps:
            if event is None:
                return
            yield event

    # The file as a coroutine: it yields None where it needs more text.

    def _file(self) -> _Steps:
        yield from self._skip("\ufeff")
        if not self._text[self._at :]:
            raise NotAPlatformFile("The file is empty.")
        yield from self._expect("{")
        seen: set[str] = set()
        while True:
            key = yield from self._key(seen, first=not seen)
            if key is None:
                break
            if key == "metadata":
                text = yield from self._value(self._limits.metadata)
                self.metadata = Metadata.decode(text[0])
                yield MetadataRead(self.metadata)
            elif key in {BUSINESS, DEVICE}:
                yield from self._section(key)
            else:
                yield from self._value(self._limits.metadata)
        yield from self._skip("")
        if (yield from self._peek()):
            raise NotAPlatformFile("Something follows the end of the backup in the file.")

    def _section(self, section: str) -> _Steps:
        digest = hashlib.sha256(b"{")
        yield from self._expect("{")
        seen: set[str] = set()
        while True:
            first = not seen
            key = yield from self._key(seen, first=first)
            if key is None:
                break
            if len(seen) > self._limits.tables:
                raise PlatformFileTooLarge(f"The file has more than {self._limits.tables} tables in its {section}.")
            digest.update(f"{'' if first else ','}{self._raw}:[".encode("utf-8", "surrogatepass"))
            yield TableRead(section, key)
            yield from self._rows(key, digest.update)
            digest.update(b"]")
        if section == BUSINESS and not seen:
            raise NotAPlatformFile(f"The file's {BUSINESS} is empty: it is no backup of the platform.")
        digest.update(b"}")
        self.checksums[section] = digest.hexdigest()

    def _rows(self, key: str, update: Callable[[bytes], None]) -> _Steps:
        yield from self._expect("[")
        rows: list[dict[str, Value]] = []
        texts: list[str] = []
        between = ""
        closed = (yield from self._peek()) == "]"
        while not closed:
            self._take_rows(rows, texts)
            value, raw = yield from self._value(self._limits.row)
            if not isinstance(value, dict):
                raise NotAPlatformFile(f"A row of {key[:60]!r} in the file is not an object.")
            rows.append(value)
            texts.append(minified(raw))
            mark = yield from self._peek()
            if mark not in {",", "]"}:
                raise self._unexpected()
            closed = mark == "]"
            if closed or len(rows) >= _BATCH or len(raw) >= _LONG_ROW:
                update((between + ",".join(texts)).encode("utf-8", "surrogatepass"))
                yield RowsRead(rows)
                rows, texts, between = [], [], ","
            if not closed:
                self._at += 1
                yield from self._skip("")
        yield from self._expect("]")

    def _take_rows(self, rows: list[dict[str, Value]], texts: list[str]) -> None:
        """The quick way over rows that have arrived whole and have a successor; stops before any other."""
        text, at = self._text, self._at
        decode = DECODER.raw_decode
        while len(rows) < _BATCH and text.startswith("{", at):
            try:
                row, end = decode(text, at)
            except (json.JSONDecodeError, RecursionError):
                break
            found = _COMMA.match(text, end)
            if found is None or found.end() == len(text) or end - at >= _LONG_ROW:
                break
            rows.append(row)
            texts.append(minified(text[at:end]))
            at = found.end()
        self._at = at

    def _key(self, seen: set[str], *, first: bool) -> Any:
        """The next key of an object; None at its end. ``self._raw`` is its text."""
        mark = yield from self._peek()
        if mark == "}":
            self._at += 1
            return None
        if not first:
            yield from self._expect(",")
            mark = yield from self._peek()
        if mark != '"':
            raise self._unexpected()
        key, self._raw = yield from self._value(self._limits.name + 2)
        if key in seen:
            raise NotAPlatformFile(f"The file has {key[:60]!r} twice.")
        seen.add(key)
        yield from self._expect(":")
        return key

    def _value(self, longest: int) -> Any:
        """The next value and its text, of at most ``longest`` characters."""
        yield from self._peek()
        while True:
            start = self._at
            left = len(self._text) - start
            try:
                value, end = DECODER.raw_decode(self._text, start)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _CUT
                # A whole file ends with a brace; one that was cut seldom does.
                if not unfinished or (self._ended and self._text.rstrip().endswith("}")):
                    before = self._shown(error.pos)
                    raise NotAPlatformFile(f"The file is no JSON: {error.msg}, after {before!r}.") from None
                if self._ended:
                    raise PlatformFileCutShort("The file ends in the middle.") from None
            except RecursionError:
                raise PlatformFileTooLarge("The file's values are nested too deeply.") from None
            else:
                # A bare number may go on; nothing else can.
                if end < len(self._text) or self._ended or self._text[end - 1] in '}]"':
                    self._check_value(start, end, longest)
                    self._at = end
                    return value, self._text[start:end]
            if left > longest:
                raise PlatformFileTooLarge(f"The file has a value of more than {longest} characters.")
            # Ask for as much again each time, so that a long row is not read over and over.
            self._wanted = max(left, 1)
            yield None

    def _check_value(self, start: int, end: int, longest: int) -> None:
        if end - start > longest:
            raise PlatformFileTooLarge(f"The file has a value of more than {longest} characters.")
        if end - start > self._limits.containers:
            containers = self._text.count("[", start, end) + self._text.count("{", start, end)
            if containers > self._limits.containers:
                raise PlatformFileTooLarge("A row of the file has too many objects and arrays.")

    def _skip(self, mark: str) -> _Steps:
        """Over spaces, and over one ``mark`` where it stands."""
        while True:
            if mark and self._text.startswith(mark, self._at):
                self._at += 1
                mark = ""
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text) or self._ended:
                return
            yield None

    def _peek(self) -> Any:
        """The next character that is no space; "" at the end of the file."""
        yield from self._skip("")
        return self._text[self._at : self._at + 1]

    def _expect(self, mark: str) -> _Steps:
        found = yield from self._peek()
        if found != mark:
            raise self._unexpected()
        self._at += 1

    def _unexpected(self) -> Exception:
        if self._at >= len(self._text):
            return PlatformFileCutShort("The file ends in the middle.")
        return NotAPlatformFile(
            f"The file is no backup of the platform: {self._text[self._at]!r} is not expected after "
            f"{self._shown(self._at)!r}."
        )

    def _shown(self, at: int) -> str:
        return self._text[max(0, at - 40) : at]
