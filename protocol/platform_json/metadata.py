"""The metadata of a platform backup file, and what Backroom notes beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from protocol.manifest import Kind
from protocol.platform_json.errors import NotAPlatformFile, PlatformVersionUnknown
from protocol.platform_json.json_text import Number, Value, as_written, quote, write

FILE_VERSION = "3.0"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_LONGEST_TEXT = 4_000
_OWN_KEY = "backroom"


@dataclass(frozen=True, slots=True)
class Stats:
    """``tables`` counts those with rows; ``size`` is bytes of the minified JSON of both sections."""

    business_rows: int
    device_rows: int
    tables: int
    size: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """The platform's own words about a backup (version 3.0).

    ``checksums`` maps a section (``businessData``, ``deviceData``) to the hex SHA-256 of its minified text. ``stubs``
    is Backroom's addition, which the platform ignores: for a key of businessData, from which row up to (not with)
    which they are rows of other businesses that the others need.
    """

    source_node: str
    source_device: str
    source_hostname: str
    source_platform: str
    timestamp: datetime | None
    created_by: str
    kind: Kind
    business_id: str | None
    include_demo: bool
    schema_version: str
    include_audit_logs: bool
    include_business_data: bool = True
    stats: Stats | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    stubs: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def encode(self) -> str:
        """The minified JSON text, keys in the platform's order. ``stats`` and ``timestamp`` must be set."""
        assert self.stats is not None
        assert self.timestamp is not None
        stats = self.stats
        moment = self.timestamp.astimezone(UTC)
        value: dict[str, Any] = {
            "version": FILE_VERSION,
            "sourceNodeId": self.source_node,
            "sourceDeviceName": self.source_device,
            "sourceHostname": self.source_hostname,
            "sourcePlatform": self.source_platform,
            "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
            "createdBy": self.created_by,
            "backupType": self.kind.value,
            "businessFilter": {
                **({"businessId": self.business_id} if self.business_id is not None else {}),
                "includeDemoData": self.include_demo,
            },
            "stats": {
                "totalRecords": Number(stats.business_rows + stats.device_rows),
                "totalTables": Number(stats.tables),
                "businessRecords": Number(stats.business_rows),
                "deviceRecords": Number(stats.device_rows),
                "uncompressedSize": Number(stats.size),
            },
            "schemaVersion": self.schema_version,
            "checksums": dict(self.checksums),
            "includeAuditLogs": self.include_audit_logs,
            "includeBusinessData": self.include_business_data,
        }
        if self.stubs:
            value[_OWN_KEY] = {"stubs": {key: [Number(a), Number(b)] for key, (a, b) in self.stubs.items()}}
        return write(value, as_written, script_order=False, depth=8)

    @classmethod
    def decode(cls, value: Value) -> Metadata:
        """What the file says of itself. Raises ``PlatformVersionUnknown`` or ``NotAPlatformFile``.

        Required as in the platform's own restore: version, timestamp, sourceNodeId, backupType. A timestamp that is
        no time is None: the caller decides.
        """
        if not isinstance(value, dict):
            raise NotAPlatformFile("The metadata of the file is not an object.")
        version = value.get("version")
        if not isinstance(version, str):
            raise NotAPlatformFile("The metadata of the file has no version.")
        if version != FILE_VERSION or isinstance(version, Number):
            raise PlatformVersionUnknown(
                f"The file is a platform backup of version {version[:40]!r}; only {FILE_VERSION} can be read."
            )
        try:
            kind = Kind(_text(value, "backupType"))
        except ValueError:
            raise NotAPlatformFile(f"The file has the unknown backup type {value['backupType']!r:.60}.") from None
        filters = value.get("businessFilter")
        filters = filters if isinstance(filters, dict) else {}
        business = filters.get("businessId")
        return cls(
            source_node=_text(value, "sourceNodeId"),
            source_device=_optional(value, "sourceDeviceName"),
            source_hostname=_optional(value, "sourceHostname"),
            source_platform=_optional(value, "sourcePlatform"),
            timestamp=_moment(_text(value, "timestamp")),
            created_by=_optional(value, "createdBy"),
            kind=kind,
            business_id=business if isinstance(business, str) and 0 < len(business) <= _LONGEST_TEXT else None,
            include_demo=filters.get("includeDemoData") is True,
            schema_version=_optional(value, "schemaVersion"),
            include_audit_logs=value.get("includeAuditLogs") is True,
            include_business_data=value.get("includeBusinessData") is not False,
            checksums=_checksums(value.get("checksums")),
            stubs=_stubs(value.get(_OWN_KEY)),
        )


def _text(value: Mapping[str, Value], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or isinstance(found, Number) or not 0 < len(found) <= _LONGEST_TEXT:
        raise NotAPlatformFile(f"The metadata of the file has no {key}.")
    return found


def _optional(value: Mapping[str, Value], key: str) -> str:
    found = value.get(key)
    return found[:_LONGEST_TEXT] if isinstance(found, str) else ""


def _moment(text: str) -> datetime | None:
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _checksums(value: Value) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text.lower() for key, text in value.items() if isinstance(text, str)}


def _stubs(value: Value) -> dict[str, tuple[int, int]]:
    stubs = value.get("stubs") if isinstance(value, dict) else None
    found: dict[str, tuple[int, int]] = {}
    for key, span in (stubs if isinstance(stubs, dict) else {}).items():
        numbers = span if isinstance(span, list) else []
        if len(numbers) != 2 or not all(isinstance(n, Number) and n.isdecimal() and len(n) < 16 for n in numbers):
            raise NotAPlatformFile(f"The file does not say which rows of {quote(key[:60])} are of other businesses.")
        first, last = (int(number) for number in numbers if isinstance(number, Number))
        found[key] = (first, last)
    return found
