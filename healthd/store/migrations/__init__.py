"""Schema changes, applied in process at start or by ``healthd db upgrade``."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0003"
"""The revision this release works with. A test holds it to the newest file under ``versions``."""


MOVED = "moved"
"""In the revision's place, where all that was in the database lives elsewhere now."""


class WrongSchema(Exception):
    """The database was written by a newer release, whose tables this one does not know, or was moved elsewhere."""


def current(connection: Connection) -> str | None:
    """The database's revision, or ``None`` for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: Connection) -> tuple[str | None, str]:
    """Brings the schema to ``HEAD`` inside the caller's transaction; returns the revisions before and after.

    Raises ``WrongSchema``. Alembic is imported only when there is something to do: it costs a tenth of a second.
    """
    before = current(connection)
    if before == HEAD:
        return before, HEAD
    if before == MOVED:
        raise WrongSchema(
            "What was in this database has been moved to PostgreSQL (healthd db move): name that one in store.url. "
            "To come back all the same, restore the copy that was kept beside this file."
        )
    if before is not None and before > HEAD:
        raise WrongSchema(
            f"The database is at revision {before}, newer than this release's {HEAD}. Run the newer healthd, "
            "or restore a backup made before the upgrade."
        )
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return before, HEAD
