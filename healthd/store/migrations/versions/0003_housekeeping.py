"""What hangs on an incident is found without a walk when it is forgotten."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("ix_link_incidents_incident_id", "link_incidents", ["incident_id"], unique=False)
