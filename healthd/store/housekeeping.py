"""What keeps the database from growing for ever."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, text, update

from healthd.store import access, answers, contacts, decisions, post_failures
from healthd.store.inbox import InboxStatus
from healthd.store.schema import WITH_BODY, history, inbox

KEEP_BODIES = timedelta(days=7)
KEEP_EVENT_IDS = timedelta(days=100)
"""Longer than the 90 days for which the provider can replay an event: a repeat is always recognised."""
KEEP_HISTORY = timedelta(days=400)
KEEP_ANSWERS = timedelta(days=30)
"""What the customer's endpoint said of accounts that it was not asked about again."""


def prune(connection: Connection, now: datetime) -> None:
    """Empties old webhooks, then forgets them, and forgets the oldest lines of history and reasons."""
    connection.execute(
        update(inbox)
        .where(text(WITH_BODY), inbox.c.received_at < now - KEEP_BODIES, inbox.c.status == InboxStatus.DONE)
        .values(body=b"")
    )
    connection.execute(delete(inbox).where(inbox.c.received_at < now - KEEP_EVENT_IDS))
    connection.execute(delete(history).where(history.c.recorded_at < now - KEEP_HISTORY))
    decisions.prune(connection, now - KEEP_HISTORY)
    post_failures.prune(connection, now - KEEP_HISTORY)
    contacts.prune(connection, now - KEEP_ANSWERS)
    access.prune(connection, now, now - KEEP_HISTORY)
    answers.prune(connection, now)
