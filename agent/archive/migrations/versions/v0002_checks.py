"""Damage and removal of backups; drills; runs of the schedule."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add four columns and two tables."""
    for column in (
        sa.Column("damaged_at", sa.DateTime()),
        sa.Column("damage", sa.Text()),
        sa.Column("removed_at", sa.DateTime()),
        sa.Column("removed_why", sa.Text()),
    ):
        op.add_column("backups", column)
    op.create_table(
        "drills",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("bundle_id", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("source_node", sa.String(100)),
        sa.Column("source_device", sa.Text()),
        sa.Column("business_id", sa.Text()),
        sa.Column("business_name", sa.Text()),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("tables", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", sa.Text()),
        sa.Column("owner", sa.String(64)),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("entry", sa.String(100), nullable=False),
        sa.Column("task", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("slot", sa.DateTime()),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("detail", sa.Text()),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error", sa.Text()),
        sa.Column("owner", sa.String(64)),
    )
    op.create_index("drills_by_time", "drills", ["started_at"])
    op.create_index("drills_by_bundle", "drills", ["bundle_id"])
    op.create_index("runs_by_entry", "runs", ["entry", "started_at"])
    op.create_index("runs_by_state", "runs", ["state"])
