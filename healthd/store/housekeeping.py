"""What keeps the database from growing for ever, a small transaction at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Table,
    TextClause,
    and_,
    bindparam,
    delete,
    or_,
    select,
    text,
    tuple_,
    update,
)

from healthd.core.model import NoticeStatus
from healthd.store.answers import KEEP as KEEP_ANSWERS
from healthd.store.contacts import RESOLVER
from healthd.store.inbox import InboxStatus
from healthd.store.schema import (
    WITH_BODY,
    answers,
    audit,
    contacts,
    decisions,
    history,
    inbox,
    incidents,
    link_incidents,
    links,
    mints,
    notices,
    post_failures,
    resolved,
    sessions,
    troubles,
)

KEEP_BODIES = timedelta(days=7)
KEEP_EVENT_IDS = timedelta(days=100)
"""Longer than the 90 days for which the provider can replay an event: a repeat is always recognised."""
KEEP_HISTORY = timedelta(days=400)
"""Lines of history, reasons, what operators did; incidents that are over, and their messages."""
KEEP_RESOLVED = timedelta(days=30)
"""What the customer's endpoint said of accounts that it was not asked about again."""
AT_ONCE = 500
"""Rows in one transaction: some milliseconds, so that nobody waits for it."""
INCIDENTS_AT_ONCE = 50
"""With all that hangs on them."""

Chore = Callable[[Connection, datetime], int]
"""Does a part of it, in a transaction; how many rows that were. None are left where it found none."""

_BEFORE: BindParameter[Any] = bindparam("before")
_MOST: BindParameter[int] = bindparam("most")
_GONE: BindParameter[Any] = bindparam("gone", expanding=True)


def _key(table: Table) -> Any:
    columns = tuple(table.primary_key)
    return tuple_(*columns) if len(columns) > 1 else columns[0]


def _old(table: Table, age: ColumnElement[Any], *more: ColumnElement[bool] | TextClause) -> Select[Any]:
    """The keys of the oldest rows. They are read first, since a planner may prefer to walk through the whole table to
    joining it with them.
    """
    return select(*table.primary_key).where(age < _BEFORE, *more).order_by(age).limit(_MOST)


def _do(connection: Connection, old: Select[Any], what: Executable, before: datetime) -> int:
    found = connection.execute(old, {"before": before, "most": AT_ONCE}).all()
    if found:
        connection.execute(what, {"gone": [row[0] if len(row) == 1 else tuple(row) for row in found]})
    return len(found)


def _forget(table: Table, age: ColumnElement[Any], keep: timedelta, *more: ColumnElement[bool]) -> Chore:
    """Rows of the table whose time lies further back than they are kept."""
    old, gone = _old(table, age, *more), delete(table).where(_key(table).in_(_GONE))
    return lambda connection, now: _do(connection, old, gone, now - keep)


_OLD_BODIES = _old(inbox, inbox.c.received_at, text(WITH_BODY), inbox.c.status == InboxStatus.DONE)
_EMPTY = update(inbox).where(inbox.c.id.in_(_GONE)).values(body=b"")


def _empty_bodies(connection: Connection, now: datetime) -> int:
    return _do(connection, _OLD_BODIES, _EMPTY, now - KEEP_BODIES)


_OVER = (
    select(incidents.c.id)
    .where(incidents.c.opened_at < _BEFORE, incidents.c.resolved_at < _BEFORE)
    .order_by(incidents.c.opened_at)
    .limit(_MOST)
)
_THEIR_LINKS = select(links.c.id).where(links.c.incident_id.in_(_GONE))
_WITH_THEM = (
    delete(mints).where(mints.c.link_id.in_(_THEIR_LINKS)),
    delete(link_incidents).where(link_incidents.c.link_id.in_(_THEIR_LINKS)),
    delete(link_incidents).where(link_incidents.c.incident_id.in_(_GONE)),
    delete(links).where(links.c.incident_id.in_(_GONE)),
    delete(notices).where(notices.c.incident_id.in_(_GONE)),
    delete(incidents).where(incidents.c.id.in_(_GONE)),
)


def _forget_incidents(connection: Connection, now: datetime) -> int:
    """Those that are over, with their links and messages; one that is open is kept whatever its age."""
    asked = {"before": now - KEEP_HISTORY, "most": INCIDENTS_AT_ONCE}
    gone = connection.execute(_OVER, asked).scalars().all()
    if gone:
        for statement in _WITH_THEM:
            connection.execute(statement, {"gone": gone})
    return len(gone)


SETTLED = (NoticeStatus.SENT, NoticeStatus.DROPPED, NoticeStatus.DEAD)
_ENDED = select(troubles.c.id).where(troubles.c.ended_at.is_not(None))
_OF_NOTHING_OPEN = and_(
    notices.c.incident_id.is_(None),
    notices.c.status.in_(SETTLED),
    or_(notices.c.trouble_id.is_(None), notices.c.trouble_id.in_(_ENDED)),
)

CHORES: Sequence[Chore] = (
    _empty_bodies,
    _forget(inbox, inbox.c.received_at, KEEP_EVENT_IDS),
    _forget(history, history.c.recorded_at, KEEP_HISTORY),
    _forget(decisions, decisions.c.at, KEEP_HISTORY),
    _forget(post_failures, post_failures.c.at, KEEP_HISTORY),
    _forget(audit, audit.c.at, KEEP_HISTORY),
    _forget(resolved, resolved.c.fetched_at, KEEP_RESOLVED),
    _forget(contacts, contacts.c.updated_at, KEEP_RESOLVED, contacts.c.source == RESOLVER),
    _forget(sessions, sessions.c.expires_at, -timedelta(microseconds=1)),
    _forget(answers, answers.c.at, KEEP_ANSWERS),
    _forget_incidents,
    _forget(notices, notices.c.created_at, KEEP_HISTORY, _OF_NOTHING_OPEN),
)


def prune(connection: Connection, now: datetime) -> int:
    """Forgets some of what is older than it is kept: as much as is soon done. Returns how much that was; call it again,
    in a transaction of its own, until there is nothing left.
    """
    return next((done for chore in CHORES if (done := chore(connection, now))), 0)
