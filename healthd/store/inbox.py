"""Webhooks as they arrived: committed before they are answered, then drained in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, bindparam, func, insert, literal, select, text, update

from healthd.store.schema import UNSETTLED, inbox
from healthd.store.words import upsert


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


_INSERT = (
    upsert(inbox)
    .values(
        workspace=bindparam("workspace"),
        event_id=bindparam("event_id"),
        body=bindparam("body"),
        received_at=bindparam("received_at"),
        status=literal(InboxStatus.NEW.value),
        trace=bindparam("trace"),
    )
    .on_conflict_do_nothing(index_elements=["workspace", "event_id"])
)


_LAST = select(func.coalesce(func.max(inbox.c.id), 0))
_SINCE = select(inbox.c.workspace, inbox.c.event_id).where(inbox.c.id > bindparam("last"))


def store(connection: Connection, arrivals: Sequence[Arrival]) -> list[bool]:
    """Writes a batch in the caller's transaction; for each arrival, whether it is new."""
    last = connection.execute(_LAST).scalar_one()
    connection.execute(
        _INSERT,
        [
            {
                "workspace": a.workspace,
                "event_id": a.event_id,
                "body": a.body,
                "received_at": a.received_at,
                "trace": a.trace,
            }
            for a in arrivals
        ],
    )
    fresh = {tuple(row) for row in connection.execute(_SINCE, {"last": last})}
    answers = []
    for arrival in arrivals:
        key = (arrival.workspace, arrival.event_id)
        answers.append(key in fresh)
        fresh.discard(key)
    return answers


_WAITING = (
    select(inbox.c.id, inbox.c.workspace, inbox.c.body, inbox.c.received_at, inbox.c.trace)
    .where(text(UNSETTLED), inbox.c.status == InboxStatus.NEW, inbox.c.workspace == bindparam("here"))
    .order_by(inbox.c.id)
    .limit(bindparam("most"))
)
_WORKSPACES = select(inbox.c.workspace).where(text(UNSETTLED), inbox.c.status == InboxStatus.NEW).distinct()
_SETTLE = update(inbox).where(inbox.c.id == bindparam("row")).values(status=bindparam("to"), note=bindparam("why"))


def workspaces(connection: Connection) -> list[str]:
    """Those with webhooks that nobody has looked at."""
    return list(connection.execute(_WORKSPACES).scalars())


def waiting(connection: Connection, workspace: str, limit: int) -> list[Received]:
    """The oldest of a workspace that nobody has looked at."""
    return [Received(*row) for row in connection.execute(_WAITING, {"here": workspace, "most": limit})]


def settle(connection: Connection, done: Sequence[tuple[int, InboxStatus, str | None]]) -> None:
    """Marks webhooks as ``(id, status, note)``, in the transaction of what followed from them."""
    if done:
        connection.execute(_SETTLE, [{"row": row, "to": status, "why": note} for row, status, note in done])


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
