"""What the operator's pages show beside whole accounts, incidents and notices: each in one query, whatever the number
of rows on a page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text

from healthd.core.model import TELLS_OF_TROUBLE, NoticeStatus
from healthd.store import incidents as stored_incidents
from healthd.store import notices as stored_notices
from healthd.store.accounts import chunked
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from healthd.store.schema import DEAD, OPEN, incidents, links, mints, notices

MOST_IN_TIMELINE = 200


@dataclass(frozen=True, slots=True)
class Click:
    """Somebody pressed a button of the reconnect page. ``incident_id`` and ``target`` tell through whose link."""

    at: datetime
    outcome: str
    client: str
    incident_id: str
    target: str


def open_incidents(connection: Connection, account_ids: Iterable[int]) -> dict[int, Incident]:
    """The open incidents of these accounts, by account."""
    found = {}
    for chunk in chunked(account_ids):
        query = stored_incidents.INCIDENTS.where(incidents.c.account_id.in_(chunk), text(OPEN))
        found.update({one.account_id: one for one in stored_incidents.rows(connection, query)})
    return found


def told_of(connection: Connection, incident_ids: Iterable[str]) -> dict[str, list[StoredNotice]]:
    """What was handed over of the beginning of these incidents, the latest first, by incident."""
    found: dict[str, list[StoredNotice]] = {}
    for chunk in chunked(incident_ids):
        query = (
            select(notices)
            .where(
                notices.c.incident_id.in_(chunk),
                notices.c.kind.in_(TELLS_OF_TROUBLE),
                notices.c.status == NoticeStatus.SENT,
            )
            .order_by(notices.c.sent_at.desc(), notices.c.id)
        )
        for one in stored_notices.rows(connection, query):
            found.setdefault(one.incident_id or "", []).append(one)
    return found


def clicks_of(connection: Connection, account_id: int, limit: int = MOST_IN_TIMELINE) -> list[Click]:
    """Presses about one account, the newest first."""
    query = (
        select(mints.c.at, mints.c.outcome, mints.c.client, links.c.incident_id, links.c.target)
        .join(links, links.c.id == mints.c.link_id)
        .where(mints.c.account_id == account_id)
        .order_by(mints.c.id.desc())
        .limit(limit)
    )
    return [Click(*row) for row in connection.execute(query)]


def clicked_incidents(connection: Connection, incident_ids: Iterable[str]) -> dict[str, datetime]:
    """When a button about each of these incidents was last pressed."""
    found: dict[str, datetime] = {}
    for chunk in chunked(incident_ids):
        query = (
            select(links.c.incident_id, func.max(mints.c.at, type_=mints.c.at.type))
            .join(mints, mints.c.link_id == links.c.id)
            .where(links.c.incident_id.in_(chunk))
            .group_by(links.c.incident_id)
        )
        found.update({row[0]: row[1] for row in connection.execute(query)})
    return found


def dead_count(connection: Connection, since: datetime) -> int:
    """How many notices of this time were given up."""
    query = select(func.count()).select_from(notices).where(text(DEAD), notices.c.created_at >= since)
    return connection.execute(query).scalar_one()
