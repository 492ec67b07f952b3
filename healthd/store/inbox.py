"""Webhooks as they arrived: committed before they are answered, then drained in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import chain

from sqlalchemy import Connection, bindparam, func, insert, select, text, update

from healthd.store.accounts import chunked
from healthd.store.schema import UNSETTLED, inbox, microseconds


class InboxStatus(StrEnum):
    NEW = "new"
    DONE = "done"
    PARKED = "parked"
    """Authentic, but not readable; kept for a person to look at."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified webhook on its way to disk."""

    workspace: str
    event_id: str
    body: bytes
    received_at: datetime
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A webhook that is on disk and waits to be understood."""

    id: int
    workspace: str
    body: bytes
    received_at: datetime
    trace: str | None = None


Settled = tuple[int, InboxStatus, str | None]
"""What became of a webhook: its id, its status, and a note."""


_TOGETHER = 500
"""Rows of one statement: SQLite takes 32,766 values in all."""
_HEAD = "INSERT INTO inbox (workspace, event_id, body, received_at, status, trace) "
_TAIL = " ON CONFLICT (workspace, event_id) DO NOTHING RETURNING workspace, event_id"
_ROW = f"(?, ?, ?, ?, '{InboxStatus.NEW}', ?)"
_UNNESTED = (
    f"SELECT place, event, body, at, '{InboxStatus.NEW}', trace "  # noqa: S608 - a word of our own
    "FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::bigint[], %s::text[]) AS one (place, event, body, at, trace)"
)


def store(connection: Connection, arrivals: Sequence[Arrival]) -> list[bool]:
    """Writes a batch in the caller's transaction; for each arrival, whether it is new."""
    fresh: set[tuple[str, str]] = set()
    for together in chunked(arrivals, _TOGETHER):
        fresh.update(_insert(connection, together))
    answers = []
    for arrival in arrivals:
        key = (arrival.workspace, arrival.event_id)
        answers.append(key in fresh)
        fresh.discard(key)
    return answers


def _insert(connection: Connection, arrivals: Sequence[Arrival]) -> list[tuple[str, str]]:
    """In one statement, and in the driver's words: compiling it costs more than the rows do, and a statement for each
    row would hand the interpreter back and forth between threads as often. Which were new.
    """
    rows = [(one.workspace, one.event_id, one.body, microseconds(one.received_at), one.trace) for one in arrivals]
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql(_HEAD + _UNNESTED + _TAIL, tuple(map(list, zip(*rows, strict=True))))
    else:
        values = ", ".join([_ROW] * len(rows))
        found = connection.exec_driver_sql(f"{_HEAD}VALUES {values}{_TAIL}", tuple(chain.from_iterable(rows)))
    return [(workspace, event_id) for workspace, event_id in found]


_WAITING = (
    select(inbox.c.id, inbox.c.workspace, inbox.c.body, inbox.c.received_at, inbox.c.trace)
    .where(text(UNSETTLED), inbox.c.status == InboxStatus.NEW, inbox.c.workspace == bindparam("here"))
    .order_by(inbox.c.id)
    .limit(bindparam("most"))
)
_WORKSPACES = select(inbox.c.workspace).where(text(UNSETTLED), inbox.c.status == InboxStatus.NEW).distinct()
_SETTLE = (
    update(inbox)
    .where(inbox.c.id.in_(bindparam("rows", expanding=True)))
    .values(status=bindparam("to"), note=bindparam("why"))
)


def workspaces(connection: Connection) -> list[str]:
    """Those with webhooks that nobody has looked at."""
    return list(connection.execute(_WORKSPACES).scalars())


def waiting(connection: Connection, workspace: str, limit: int) -> list[Received]:
    """The oldest of a workspace that nobody has looked at."""
    return [Received(*row) for row in connection.execute(_WAITING, {"here": workspace, "most": limit})]


def settle(connection: Connection, done: Sequence[Settled]) -> None:
    """Marks webhooks, in the transaction of what followed from them."""
    alike: defaultdict[tuple[InboxStatus, str | None], list[int]] = defaultdict(list)
    for row, status, note in done:
        alike[status, note].append(row)
    for (status, note), ids in alike.items():
        for rows in chunked(ids):
            connection.execute(_SETTLE, {"rows": rows, "to": status, "why": note})


def counts(connection: Connection) -> dict[str, int]:
    """How many are waiting and how many are parked."""
    query = select(inbox.c.status, func.count()).where(text(UNSETTLED)).group_by(inbox.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def received_at(connection: Connection, workspace: str, event_id: str) -> datetime | None:
    """When this event reached us, if it did."""
    query = select(inbox.c.received_at).where(inbox.c.workspace == workspace, inbox.c.event_id == event_id)
    return connection.execute(query).scalar()


def probe_write(connection: Connection) -> None:
    """Writes and undoes: proves that a webhook could be stored now."""
    savepoint = connection.begin_nested()
    connection.execute(
        insert(inbox).values(
            workspace="",
            event_id="",
            body=b"",
            received_at=datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
            status=InboxStatus.DONE,
        )
    )
    savepoint.rollback()
