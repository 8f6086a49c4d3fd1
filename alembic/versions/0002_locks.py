"""Locks of dependencies: what was resolved, from what, and which job runs with which.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "locks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("format IN ('npm', 'pylock', 'requirements')", name=op.f("ck_locks_format")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_locks")),
    )
    op.create_table(
        "resolutions",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("lock_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["lock_id"], ["locks.id"], name=op.f("fk_resolutions_lock_id_locks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_resolutions")),
    )
    op.create_index(op.f("ix_resolutions_lock_id"), "resolutions", ["lock_id"])
    op.create_table(
        "job_locks",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("lock_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_locks_job_id_jobs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lock_id"], ["locks.id"], name=op.f("fk_job_locks_lock_id_locks")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_locks")),
    )
    op.create_index(op.f("ix_job_locks_lock_id"), "job_locks", ["lock_id"])


def downgrade() -> None:
    """Go back."""
    op.drop_table("job_locks")
    op.drop_table("resolutions")
    op.drop_table("locks")
