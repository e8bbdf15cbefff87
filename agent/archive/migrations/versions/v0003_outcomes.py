"""The database transaction of each restore, by which its outcome can be asked for after a crash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a column."""
    op.add_column("restores", sa.Column("transaction", sa.String(40)))
