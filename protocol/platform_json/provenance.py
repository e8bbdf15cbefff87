"""Where an imported bundle came from: the words of an unsigned file, kept in the warnings of the manifest.

The device that imports a file seals the bundle, for it vouches for what it read; it cannot vouch for what the file says
of its own origin. So that is kept apart, as a claim, where everyone who looks at the bundle reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from protocol.platform_json.errors import PlatformFileError
from protocol.platform_json.json_text import Value, as_written, parse, write
from protocol.platform_json.metadata import Metadata

_SENTENCE = "Imported from a backup file of the platform, which carries no signature; it says of itself: "
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the file said. ``nulls_left_out``: it leaves out keys whose value is NULL instead of writing ``null``."""

    source_node: str
    source_device: str
    source_hostname: str
    source_platform: str
    created_by: str
    timestamp: str
    schema_version: str
    include_audit_logs: bool
    nulls_left_out: bool

    @classmethod
    def of(cls, metadata: Metadata, *, nulls_left_out: bool) -> Provenance:
        """The claims of a file's metadata, each shortened to 80 characters."""
        return cls(
            source_node=_short(metadata.source_node),
            source_device=_short(metadata.source_device),
            source_hostname=_short(metadata.source_hostname),
            source_platform=_short(metadata.source_platform),
            created_by=_short(metadata.created_by),
            timestamp=metadata.timestamp.isoformat() if metadata.timestamp else "",
            schema_version=_short(metadata.schema_version),
            include_audit_logs=metadata.include_audit_logs,
            nulls_left_out=nulls_left_out,
        )

    def sentence(self) -> str:
        """For the manifest's warnings."""
        value: dict[str, Value] = {
            "sourceNodeId": self.source_node,
            "sourceDeviceName": self.source_device,
            "sourceHostname": self.source_hostname,
            "sourcePlatform": self.source_platform,
            "createdBy": self.created_by,
            "timestamp": self.timestamp,
            "schemaVersion": self.schema_version,
            "includeAuditLogs": self.include_audit_logs,
            "nullsLeftOut": self.nulls_left_out,
        }
        return _SENTENCE + write(value, as_written, script_order=False, depth=1)

    @classmethod
    def find(cls, warnings: Iterable[str]) -> Provenance | None:
        """The claims among a manifest's warnings; None for a bundle that was made from a database."""
        for warning in warnings:
            if warning.startswith(_SENTENCE):
                try:
                    value = parse(warning.removeprefix(_SENTENCE))
                except PlatformFileError:
                    return None
                return cls._from(value) if isinstance(value, dict) else None
        return None

    @classmethod
    def _from(cls, value: dict[str, Any]) -> Provenance:
        def text(key: str) -> str:
            return str(value.get(key) or "")

        return cls(
            source_node=text("sourceNodeId"),
            source_device=text("sourceDeviceName"),
            source_hostname=text("sourceHostname"),
            source_platform=text("sourcePlatform"),
            created_by=text("createdBy"),
            timestamp=text("timestamp"),
            schema_version=text("schemaVersion"),
            include_audit_logs=value.get("includeAuditLogs") is True,
            nulls_left_out=value.get("nullsLeftOut") is True,
        )


def _short(text: str) -> str:
    """At most 80 characters that a manifest can hold."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()[:_LONGEST]
