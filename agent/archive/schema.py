"""The history database's tables, as the newest migration leaves them (held by a test)."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

HEAD = "0003"


class UtcDateTime(TypeDecorator[datetime]):
    """UTC-aware datetimes to the microsecond, kept without zone: SQLite has none."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware in any zone; naive times are an error."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


METADATA = MetaData()

backups = Table(
    "backups",
    METADATA,
    Column("id", String(100), primary_key=True),
    Column("filename", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("source_node", String(100), nullable=False),
    Column("source_device", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("raw_size", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("tables", Integer, nullable=False),
    Column("checksum", String(64), nullable=False),
    Column("schema_fingerprint", String(100), nullable=False),
    Column("business_id", Text),
    Column("business_name", Text),
    Column("origin", String(16), nullable=False),
    Column("options", JSON, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("notes", Text),
    Column("pinned", Boolean, nullable=False),
    Column("verified_at", UtcDateTime),
    Column("downloaded_at", UtcDateTime),
    Column("emailed_to", Text),
    Column("emailed_at", UtcDateTime),
    Column("network_path", Text),
    Column("network_copied_at", UtcDateTime),
    Column("cloud_location", Text),
    Column("cloud_copied_at", UtcDateTime),
    Column("damaged_at", UtcDateTime),
    Column("damage", Text),
    Column("removed_at", UtcDateTime),
    Column("removed_why", Text),
    Index("backups_by_time", "created_at"),
    Index("backups_by_kind", "kind", "business_id", "created_at"),
)

transfers = Table(
    "transfers",
    METADATA,
    Column("id", String(100), primary_key=True),
    Column("direction", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("peer_node", String(100), nullable=False),
    Column("peer_name", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("bundle_id", String(100)),
    Column("business_id", Text),
    Column("business_name", Text),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger),
    Column("ended_at", UtcDateTime),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("receipt", LargeBinary),
    Column("totals", JSON, nullable=False),
    Column("owner", String(64)),
    Index("transfers_by_time", "started_at"),
    Index("transfers_by_state", "state"),
    Index("transfers_by_bundle", "bundle_id"),
)

restores = Table(
    "restores",
    METADATA,
    Column("id", String(100), primary_key=True),
    Column("bundle_id", String(100), nullable=False),
    Column("file", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("source_node", String(100)),
    Column("source_device", Text),
    Column("business_id", Text),
    Column("business_name", Text),
    Column("transfer_id", String(100)),
    Column("counts", JSON, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("approver", Text),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("plan_digest", String(100)),
    Column("undo_path", Text),
    Column("transaction", String(40)),
    Column("owner", String(64)),
    Index("restores_by_time", "started_at"),
    Index("restores_by_state", "state"),
    Index("restores_by_bundle", "bundle_id"),
)

drills = Table(
    "drills",
    METADATA,
    Column("id", String(100), primary_key=True),
    Column("bundle_id", String(100), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("source_node", String(100)),
    Column("source_device", Text),
    Column("business_id", Text),
    Column("business_name", Text),
    Column("place", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("tables", Integer, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("owner", String(64)),
    Index("drills_by_time", "started_at"),
    Index("drills_by_bundle", "bundle_id"),
)

runs = Table(
    "runs",
    METADATA,
    Column("id", String(100), primary_key=True),
    Column("entry", String(100), nullable=False),
    Column("task", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("slot", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("detail", Text),
    Column("error_code", String(64)),
    Column("error", Text),
    Column("owner", String(64)),
    Index("runs_by_entry", "entry", "started_at"),
    Index("runs_by_state", "state"),
)
