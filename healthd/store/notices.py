"""The outbox: notices written with the state they tell of, claimed by lease, and recorded when handed over."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Row, func, or_, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from healthd.core.model import NoticeKind, NoticeStatus, Target
from healthd.store.accounts import chunked
from healthd.store.schema import IN_WORK, notices

WAITING = (NoticeStatus.PENDING, NoticeStatus.HELD)


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """``created_at`` is when the notice is first due, and dates the message. ``lease`` is set while an attempt is under
    way; ``repeat`` when an earlier attempt's outcome is not known.
    """

    id: str
    subject: str
    incident_id: str | None
    account_id: int | None
    trouble_id: str | None
    kind: NoticeKind
    step: int
    target: Target
    status: NoticeStatus
    reason: str | None
    created_at: datetime
    due_at: datetime
    attempts: int
    content: Mapping[str, str] | None
    receipt: Mapping[str, str] | None
    rendered_at: datetime | None
    sent_at: datetime | None
    lease: str | None = None
    repeat: bool = False


def notice_id(subject: str, target: Target, kind: NoticeKind, step: int) -> str:
    """The same notice has the same id wherever and whenever it is written: it is what makes a repeat recognisable."""
    words = "\x1f".join((subject, target.channel, target.address, kind, str(step)))
    return hashlib.sha256(words.encode()).hexdigest()[:24]


def _notice(row: Row[Any], *, repeat: bool = False) -> StoredNotice:
    return StoredNotice(
        id=row.id,
        subject=row.subject,
        incident_id=row.incident_id,
        account_id=row.account_id,
        trouble_id=row.trouble_id,
        kind=NoticeKind(row.kind),
        step=row.step,
        target=Target(row.channel, row.address),
        status=NoticeStatus(row.status),
        reason=row.reason,
        created_at=row.created_at,
        due_at=row.due_at,
        attempts=row.attempts,
        content=orjson.loads(row.content) if row.content else None,
        receipt=orjson.loads(row.receipt) if row.receipt else None,
        rendered_at=row.rendered_at,
        sent_at=row.sent_at,
        lease=row.lease,
        repeat=repeat,
    )


def write(
    connection: Connection,
    *,
    subject: str,
    kind: NoticeKind,
    targets: Sequence[Target],
    due_at: datetime,
    now: datetime,
    incident_id: str | None = None,
    account_id: int | None = None,
    trouble_id: str | None = None,
    step: int = 0,
    status: NoticeStatus = NoticeStatus.PENDING,
    reason: str | None = None,
) -> int:
    """Writes one notice per target; one that was written before stays as it is. Returns how many are new."""
    rows = [
        {
            "id": notice_id(subject, target, kind, step),
            "subject": subject,
            "incident_id": incident_id,
            "account_id": account_id,
            "trouble_id": trouble_id,
            "kind": kind,
            "step": step,
            "channel": target.channel,
            "address": target.address,
            "status": status,
            "reason": reason,
            "created_at": now,
            "due_at": due_at,
        }
        for target in targets
    ]
    return sum(connection.execute(upsert(notices).values(row).on_conflict_do_nothing()).rowcount for row in rows)


def claim(
    connection: Connection, now: datetime, lease: str, until: datetime, limit: int, skip: Collection[str] = ()
) -> list[StoredNotice]:
    """Takes due notices, and those whose sender has not come back within its lease, but none of the channels to be
    skipped.
    """
    due = (
        select(notices.c.id, notices.c.status)
        .where(
            text(IN_WORK),
            notices.c.due_at <= now,
            or_(notices.c.lease_until.is_(None), notices.c.lease_until <= now),
            notices.c.channel.not_in(skip),
        )
        .order_by(notices.c.due_at)
        .limit(limit)
    )
    found = {row.id: row.status == NoticeStatus.SENDING for row in connection.execute(due)}
    if not found:
        return []
    connection.execute(
        update(notices)
        .where(notices.c.id.in_(found))
        .values(status=NoticeStatus.SENDING, lease=lease, lease_until=until, attempts=notices.c.attempts + 1)
    )
    rows = connection.execute(select(notices).where(notices.c.id.in_(found)).order_by(notices.c.due_at))
    return [_notice(row, repeat=found[row.id]) for row in rows]


def release_leases(connection: Connection) -> int:
    """At the start of the only daemon on this store: whatever an earlier process was sending is due again at once."""
    statement = update(notices).where(text(IN_WORK), notices.c.status == NoticeStatus.SENDING).values(lease_until=None)
    return connection.execute(statement).rowcount


def keep_content(connection: Connection, notice_id: str, content: Mapping[str, str], now: datetime) -> None:
    """Commits what will be sent, before it is sent: every later attempt sends the same."""
    connection.execute(
        update(notices)
        .where(notices.c.id == notice_id)
        .values(content=orjson.dumps(dict(content)).decode(), rendered_at=now)
    )


def settle(
    connection: Connection,
    notice: StoredNotice,
    status: NoticeStatus,
    *,
    reason: str | None = None,
    due_at: datetime | None = None,
    receipt: Mapping[str, str] | None = None,
    sent_at: datetime | None = None,
) -> bool:
    """Ends an attempt. False when the lease was lost meanwhile: then another sender has the notice, and this one's
    word no longer counts.
    """
    values: dict[str, Any] = {"status": status, "reason": reason, "lease": None, "lease_until": None}
    if due_at is not None:
        values["due_at"] = due_at
    if receipt is not None:
        values["receipt"] = orjson.dumps(dict(receipt)).decode()
    if sent_at is not None:
        values["sent_at"] = sent_at
    statement = update(notices).where(notices.c.id == notice.id, notices.c.lease == notice.lease).values(values)
    return connection.execute(statement).rowcount > 0


def drop_waiting(connection: Connection, incident_id: str, reason: str) -> int:
    """Withdraws what has not been sent of an incident that is over."""
    statement = (
        update(notices)
        .where(
            notices.c.incident_id == incident_id,
            notices.c.status.in_(WAITING),
            notices.c.kind != NoticeKind.RESOLVED,
        )
        .values(status=NoticeStatus.DROPPED, reason=reason)
    )
    return connection.execute(statement).rowcount


def release_held(connection: Connection, account_ids: Iterable[int], now: datetime) -> int:
    """Lets held notices of these accounts go; each is asked once more whether it is still true."""
    released = 0
    for chunk in chunked(account_ids):
        statement = (
            update(notices)
            .where(
                notices.c.account_id.in_(chunk),
                notices.c.status == NoticeStatus.HELD,
                notices.c.channel != "",
            )
            .values(status=NoticeStatus.PENDING, due_at=now, created_at=now, reason=None)
        )
        released += connection.execute(statement).rowcount
    return released


def renew_dropped(connection: Connection, subject: str, now: datetime) -> int:
    """Notices that were withdrawn because they were no longer true, and are true again."""
    statement = (
        update(notices)
        .where(notices.c.subject == subject, notices.c.status == NoticeStatus.DROPPED)
        .values(status=NoticeStatus.PENDING, due_at=now, created_at=now, reason=None)
    )
    return connection.execute(statement).rowcount


def withdraw(connection: Connection, subject: str, reason: str) -> list[Target]:
    """Drops what has not been sent about a subject. Returns the targets that were told of it."""
    connection.execute(
        update(notices)
        .where(notices.c.subject == subject, notices.c.status.in_(WAITING))
        .values(status=NoticeStatus.DROPPED, reason=reason)
    )
    query = select(notices.c.channel, notices.c.address).where(
        notices.c.subject == subject, notices.c.status == NoticeStatus.SENT
    )
    return [Target(row.channel, row.address) for row in connection.execute(query)]


def told(connection: Connection, incident_id: str) -> list[Target]:
    """Targets to which the opening of this incident was handed over."""
    query = select(notices.c.channel, notices.c.address).where(
        notices.c.incident_id == incident_id,
        notices.c.kind == NoticeKind.OPENED,
        notices.c.status == NoticeStatus.SENT,
    )
    return [Target(row.channel, row.address) for row in connection.execute(query)]


def get(connection: Connection, wanted: str) -> StoredNotice | None:
    row = connection.execute(select(notices).where(notices.c.id == wanted)).first()
    return None if row is None else _notice(row)


def of_account(connection: Connection, account_id: int, limit: int = 100) -> list[StoredNotice]:
    query = select(notices).where(notices.c.account_id == account_id).order_by(notices.c.created_at.desc()).limit(limit)
    return [_notice(row) for row in connection.execute(query)]


def next_due(connection: Connection) -> datetime | None:
    """When the next notice is due, or the next lease ends."""
    moment = func.max(
        notices.c.due_at, func.coalesce(notices.c.lease_until, notices.c.due_at), type_=notices.c.due_at.type
    )
    query = select(func.min(moment, type_=notices.c.due_at.type)).where(text(IN_WORK))
    return connection.execute(query).scalar()


def backlog(connection: Connection, now: datetime) -> tuple[dict[str, int], timedelta]:
    """How many notices are waiting by status, and for how long the longest overdue one has been due."""
    query = (
        select(notices.c.status, func.count(), func.min(notices.c.due_at, type_=notices.c.due_at.type))
        .where(text(IN_WORK))
        .group_by(notices.c.status)
    )
    rows = connection.execute(query).all()
    oldest = min((row[2] for row in rows), default=now)
    return {row[0]: row[1] for row in rows}, max(now - oldest, timedelta(0))
