"""What several daemons on one store share."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_jobs")),
    )
    # Webhooks are worked through by workspace.
    op.drop_index("ix_inbox_unsettled", table_name="inbox")
    op.create_index(
        "ix_inbox_unsettled",
        "inbox",
        ["status", "workspace", "id"],
        unique=False,
        sqlite_where=sa.text("status <> 'done'"),
        postgresql_where=sa.text("status <> 'done'"),
    )
    op.add_column("profiles", sa.Column("short_since", sa.BigInteger(), nullable=True))
