"""The first history: backups, transfers, restores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "backups",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("source_node", sa.String(100), nullable=False),
        sa.Column("source_device", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("raw_size", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("tables", sa.Integer(), nullable=False),
        sa.Column("checksum", sa.String(64), nullable=False),
        sa.Column("schema_fingerprint", sa.String(100), nullable=False),
        sa.Column("business_id", sa.Text()),
        sa.Column("business_name", sa.Text()),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(), nullable=False),
        sa.Column("notes", sa.Text()),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("verified_at", sa.DateTime()),
        sa.Column("downloaded_at", sa.DateTime()),
        sa.Column("emailed_to", sa.Text()),
        sa.Column("emailed_at", sa.DateTime()),
        sa.Column("network_path", sa.Text()),
        sa.Column("network_copied_at", sa.DateTime()),
        sa.Column("cloud_location", sa.Text()),
        sa.Column("cloud_copied_at", sa.DateTime()),
    )
    op.create_table(
        "transfers",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("direction", sa.String(16), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("peer_node", sa.String(100), nullable=False),
        sa.Column("peer_name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("bundle_id", sa.String(100)),
        sa.Column("business_id", sa.Text()),
        sa.Column("business_name", sa.Text()),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger()),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", sa.Text()),
        sa.Column("receipt", sa.LargeBinary()),
        sa.Column("totals", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(64)),
    )
    op.create_table(
        "restores",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("bundle_id", sa.String(100), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("source_node", sa.String(100)),
        sa.Column("source_device", sa.Text()),
        sa.Column("business_id", sa.Text()),
        sa.Column("business_name", sa.Text()),
        sa.Column("transfer_id", sa.String(100)),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("approver", sa.Text()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", sa.Text()),
        sa.Column("plan_digest", sa.String(100)),
        sa.Column("undo_path", sa.Text()),
        sa.Column("owner", sa.String(64)),
    )
    op.create_index("backups_by_time", "backups", ["created_at"])
    op.create_index("backups_by_kind", "backups", ["kind", "business_id", "created_at"])
    op.create_index("transfers_by_time", "transfers", ["started_at"])
    op.create_index("transfers_by_state", "transfers", ["state"])
    op.create_index("transfers_by_bundle", "transfers", ["bundle_id"])
    op.create_index("restores_by_time", "restores", ["started_at"])
    op.create_index("restores_by_state", "restores", ["state"])
    op.create_index("restores_by_bundle", "restores", ["bundle_id"])
