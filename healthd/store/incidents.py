"""Incidents, their history, and the links that lead to their repair."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from healthd.core.model import Cause, Observation, Resolution, State
from healthd.store.accounts import CHUNK, StoredAccount
from healthd.store.schema import CONNECTIONS, accounts, history, incidents, links, mints


@dataclass(frozen=True, slots=True)
class Incident:
    """``confirmed_at`` is ``None`` while it stands on an event's word alone."""

    id: str
    account_id: int
    workspace: str
    cause: Cause
    broken_at: datetime
    opened_at: datetime
    confirmed_at: datetime | None
    resolved_at: datetime | None
    resolution: Resolution | None


@dataclass(frozen=True, slots=True)
class Link:
    id: str
    incident_id: str
    account_id: int
    target: str
    expires_at: datetime
    revoked_at: datetime | None


def _incident(row: Row[Any]) -> Incident:
    return Incident(
        row.id,
        row.account_id,
        row.workspace,
        Cause(row.cause),
        row.broken_at,
        row.opened_at,
        row.confirmed_at,
        row.resolved_at,
        Resolution(row.resolution) if row.resolution else None,
    )


def get(connection: Connection, incident_id: str) -> Incident | None:
    row = connection.execute(select(incidents).where(incidents.c.id == incident_id)).first()
    return None if row is None else _incident(row)


def open_for(connection: Connection, account_id: int) -> Incident | None:
    """The account's open incident; there is never more than one."""
    query = select(incidents).where(incidents.c.account_id == account_id, incidents.c.resolved_at.is_(None))
    row = connection.execute(query).first()
    return None if row is None else _incident(row)


def create(connection: Connection, incident: Incident) -> None:
    connection.execute(
        insert(incidents).values(
            id=incident.id,
            account_id=incident.account_id,
            workspace=incident.workspace,
            cause=incident.cause,
            broken_at=incident.broken_at,
            opened_at=incident.opened_at,
            confirmed_at=incident.confirmed_at,
        )
    )


def confirm(connection: Connection, incident_id: str, now: datetime) -> bool:
    """Marks the incident confirmed; whether it was not yet."""
    statement = (
        update(incidents)
        .where(incidents.c.id == incident_id, incidents.c.confirmed_at.is_(None))
        .values(confirmed_at=now)
    )
    return connection.execute(statement).rowcount > 0


def resolve(connection: Connection, incident_id: str, how: Resolution, now: datetime) -> None:
    connection.execute(update(incidents).where(incidents.c.id == incident_id).values(resolved_at=now, resolution=how))


def of_account(connection: Connection, account_id: int, limit: int = 50) -> list[Incident]:
    query = (
        select(incidents)
        .where(incidents.c.account_id == account_id)
        .order_by(incidents.c.opened_at.desc())
        .limit(limit)
    )
    return [_incident(row) for row in connection.execute(query)]


def listing(connection: Connection, *, workspace: str | None, only_open: bool, limit: int) -> list[Row[Any]]:
    """Newest first, with the account's ``ref``, ``platform``, ``name`` and ``state``."""
    query = (
        select(incidents, accounts.c.ref, accounts.c.platform, accounts.c.name, accounts.c.state)
        .join(accounts, accounts.c.id == incidents.c.account_id)
        .order_by(incidents.c.opened_at.desc())
        .limit(limit)
    )
    if workspace:
        query = query.where(incidents.c.workspace == workspace)
    if only_open:
        query = query.where(incidents.c.resolved_at.is_(None))
    return list(connection.execute(query))


def open_counts(connection: Connection) -> list[tuple[str, int]]:
    """``(workspace, open incidents)``."""
    query = (
        select(incidents.c.workspace, func.count())
        .where(incidents.c.resolved_at.is_(None))
        .group_by(incidents.c.workspace)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def history_line(
    account_id: int, observation: Observation, before: State, after: State, now: datetime, note: str | None
) -> dict[str, Any]:
    """A line of an account's history, to be written by ``record``."""
    return {
        "account_id": account_id,
        "recorded_at": now,
        "at": observation.at,
        "source": observation.source,
        "signal": observation.signal,
        "before": before,
        "after": after,
        "note": note,
        "event_id": observation.event_id,
        "request_id": observation.request_id,
    }


_RECORD = insert(history)


def record(connection: Connection, lines: list[dict[str, Any]]) -> None:
    """Adds lines to accounts' histories, in their order."""
    if lines:
        connection.execute(_RECORD, lines)


def history_of(connection: Connection, account_id: int, limit: int = 200) -> list[Row[Any]]:
    """The newest lines of an account's history, oldest first."""
    query = select(history).where(history.c.account_id == account_id).order_by(history.c.id.desc()).limit(limit)
    return list(reversed(connection.execute(query).all()))


def link_id(first_notice: str) -> str:
    """The id of the link in an incident's messages to one target, from the id of the first of those messages."""
    return first_notice[:16]


def ensure_link(connection: Connection, link: Link, now: datetime) -> None:
    """One link per incident and target; the one that exists stays."""
    connection.execute(
        upsert(links)
        .values(
            id=link.id,
            incident_id=link.incident_id,
            account_id=link.account_id,
            target=link.target,
            created_at=now,
            expires_at=link.expires_at,
        )
        .on_conflict_do_nothing()
    )


def link(connection: Connection, link_id: str) -> Link | None:
    row = connection.execute(select(links).where(links.c.id == link_id)).first()
    if row is None:
        return None
    return Link(row.id, row.incident_id, row.account_id, row.target, row.expires_at, row.revoked_at)


def record_mint(
    connection: Connection,
    link: Link,
    outcome: str,
    client: str,
    now: datetime,
    *,
    request_id: str | None = None,
) -> None:
    """Audits one press of the button. A successful mint also marks the account as clicked."""
    connection.execute(
        insert(mints).values(
            link_id=link.id,
            account_id=link.account_id,
            at=now,
            outcome=outcome,
            client=client,
            request_id=request_id,
        )
    )
    if outcome == "minted":
        connection.execute(update(accounts).where(accounts.c.id == link.account_id).values(clicked_at=now))


def mints_since(connection: Connection, link_id: str, since: datetime) -> int:
    """How many links were asked for through this one since then."""
    query = select(func.count()).select_from(mints).where(mints.c.link_id == link_id, mints.c.at > since)
    return connection.execute(query).scalar_one()


def other_connected_since(connection: Connection, stored: StoredAccount, since: datetime) -> bool:
    """Whether another account of the same platform was connected there since: perhaps instead of this one."""
    newest = (
        select(history.c.account_id)
        .where(text(CONNECTIONS), history.c.recorded_at > since, history.c.account_id != stored.id)
        .order_by(history.c.recorded_at.desc())
        .limit(CHUNK)
    )
    connected = connection.execute(newest).scalars().all()
    # Asked by id alone: beside more conditions a planner may prefer to walk all accounts of the platform.
    places = select(accounts.c.workspace, accounts.c.profile, accounts.c.platform).where(accounts.c.id.in_(connected))
    here = (stored.account.workspace, stored.profile, stored.account.platform)
    return any(tuple(place) == here for place in connection.execute(places))


def mints_of_account(connection: Connection, account_id: int, limit: int = 50) -> list[Row[Any]]:
    query = select(mints).where(mints.c.account_id == account_id).order_by(mints.c.id.desc()).limit(limit)
    return list(connection.execute(query))
