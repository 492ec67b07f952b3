"""The housekeeping, done to its end."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from healthd.store import housekeeping


def tidy(connection: Connection, now: datetime) -> int:
    """All that is to be forgotten by then; how many rows that was."""
    total = 0
    while done := housekeeping.prune(connection, now):
        total += done
    return total
