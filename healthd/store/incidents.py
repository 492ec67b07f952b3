"""Incidents, their history, and the links that lead to their repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, case, func, insert, select, text, union, update

from healthd.core.model import Cause, Observation, Resolution, State
from healthd.store.accounts import CHUNK, StoredAccount, chunked
from healthd.store.schema import CONNECTIONS, OPEN, accounts, history, incidents, link_incidents, links, mints, notices
from healthd.store.words import upsert


@dataclass(frozen=True, slots=True)
class Incident:
    """``confirmed_at`` is ``None`` while it stands on an event's word alone. Until ``acknowledged_until`` somebody has
    taken it on, until ``snoozed_until`` nobody wants to be reminded. ``page_at``: when its page was shown first, to a
    person or a robot.
    """

    id: str
    account_id: int
    workspace: str
    platform: str
    cause: Cause
    broken_at: datetime
    opened_at: datetime
    confirmed_at: datetime | None = None
    resolved_at: datetime | None = None
    resolution: Resolution | None = None
    storm_id: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_until: datetime | None = None
    acknowledged_by: str | None = None
    snoozed_until: datetime | None = None
    page_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """An incident that came so far for the first time."""

    name: str
    workspace: str
    platform: str


@dataclass(frozen=True, slots=True)
class Link:
    id: str
    incident_id: str
    account_id: int
    target: str
    expires_at: datetime
    revoked_at: datetime | None


_COLUMNS = tuple(incidents.c[name] for name in Incident.__dataclass_fields__)


def _incident(row: Row[Any]) -> Incident:
    """From a row that begins with ``_COLUMNS``."""
    found = Incident(*row[: len(_COLUMNS)])
    resolution = Resolution(found.resolution) if found.resolution else None
    return replace(found, cause=Cause(found.cause), resolution=resolution)


INCIDENTS = select(*_COLUMNS)
"""Incidents as ``rows`` reads them: add what narrows it down."""
_BY_ID = INCIDENTS.where(incidents.c.id == bindparam("wanted"))
_OPEN_FOR = select(*_COLUMNS).where(incidents.c.account_id == bindparam("account"), text(OPEN))
_CREATE = insert(incidents)
_CONFIRM = (
    update(incidents)
    .where(incidents.c.id == bindparam("wanted"), incidents.c.confirmed_at.is_(None))
    .values(confirmed_at=bindparam("now"))
)
_RESOLVE = (
    update(incidents)
    .where(incidents.c.id == bindparam("wanted"))
    .values(resolved_at=bindparam("now"), resolution=bindparam("how"))
)


def rows(connection: Connection, query: Select[Any]) -> list[Incident]:
    """What a query made of ``INCIDENTS`` finds."""
    return [_incident(row) for row in connection.execute(query)]


def get(connection: Connection, incident_id: str) -> Incident | None:
    row = connection.execute(_BY_ID, {"wanted": incident_id}).first()
    return None if row is None else _incident(row)


def open_for(connection: Connection, account_id: int) -> Incident | None:
    """The account's open incident; there is never more than one."""
    row = connection.execute(_OPEN_FOR, {"account": account_id}).first()
    return None if row is None else _incident(row)


def create(connection: Connection, begun: Sequence[Incident]) -> None:
    rows = [
        {
            "id": incident.id,
            "account_id": incident.account_id,
            "workspace": incident.workspace,
            "platform": incident.platform,
            "cause": incident.cause,
            "broken_at": incident.broken_at,
            "opened_at": incident.opened_at,
            "confirmed_at": incident.confirmed_at,
        }
        for incident in begun
    ]
    if rows:
        connection.execute(_CREATE, rows)


def confirm(connection: Connection, incident_id: str, now: datetime) -> bool:
    """Marks the incident confirmed; whether it was not yet."""
    return connection.execute(_CONFIRM, {"wanted": incident_id, "now": now}).rowcount > 0


def resolve(connection: Connection, incident_id: str, how: Resolution, now: datetime) -> None:
    connection.execute(_RESOLVE, {"wanted": incident_id, "how": how, "now": now})


_REPAIRS = (
    select(incidents.c.resolved_at)
    .where(
        incidents.c.account_id == bindparam("account"),
        incidents.c.resolution == Resolution.REPAIRED,
        incidents.c.resolved_at > bindparam("since"),
    )
    .order_by(incidents.c.resolved_at)
)


def repairs_since(connection: Connection, account_id: int, since: datetime) -> list[datetime]:
    """When the account was repaired since then, oldest first."""
    return list(connection.execute(_REPAIRS, {"account": account_id, "since": since}).scalars())


def acknowledge(connection: Connection, incident_id: str, now: datetime, until: datetime, who: str) -> None:
    """Somebody takes it on."""
    connection.execute(
        update(incidents)
        .where(incidents.c.id == incident_id, text(OPEN))
        .values(acknowledged_at=now, acknowledged_until=until, acknowledged_by=who)
    )


def snooze(connection: Connection, incident_id: str, until: datetime) -> None:
    connection.execute(update(incidents).where(incidents.c.id == incident_id, text(OPEN)).values(snoozed_until=until))


def resume(connection: Connection, incident_id: str) -> None:
    """Takes an acknowledgement and a snooze back."""
    connection.execute(
        update(incidents)
        .where(incidents.c.id == incident_id)
        .values(acknowledged_at=None, acknowledged_until=None, acknowledged_by=None, snoozed_until=None)
    )


def of_account(connection: Connection, account_id: int, limit: int = 50) -> list[Incident]:
    query = (
        select(*_COLUMNS)
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


STEPS = {"told": "told_at", "opened": "page_at", "minted": "minted_at"}
_REACHED = {
    step: update(incidents)
    .where(incidents.c.id.in_(bindparam("wanted", expanding=True)), incidents.c[column].is_(None))
    .values({column: bindparam("now")})
    .returning(incidents.c.workspace, incidents.c.platform)
    for step, column in STEPS.items()
}


def reached(connection: Connection, step: str, wanted: Sequence[str], now: datetime) -> list[Step]:
    """Notes that these incidents came to that step (one of ``STEPS``); those that had not before."""
    return [
        Step(step, *row)
        for chunk in chunked(wanted, CHUNK)
        for row in connection.execute(_REACHED[step], {"wanted": chunk, "now": now})
    ]


LONG = {"1d": timedelta(days=1), "3d": timedelta(days=3), "7d": timedelta(days=7), "30d": timedelta(days=30)}
"""Spans after which a repair takes long, as a metric's label says them."""


def open_for_long(connection: Connection, now: datetime) -> list[tuple[str, str, int]]:
    """``(workspace, one of LONG, open incidents older than that)``, without accounts that are muted."""
    # Muted accounts are few and have an index of their own; a look at each broken account would take much longer.
    muted = select(accounts.c.id).where(accounts.c.muted_until.is_not(None), accounts.c.muted_until > now)
    older = (func.sum(case((incidents.c.opened_at <= now - span, 1), else_=0)) for span in LONG.values())
    query = (
        select(incidents.c.workspace, *older)
        .where(text(OPEN), incidents.c.opened_at <= now - min(LONG.values()), incidents.c.account_id.not_in(muted))
        .group_by(incidents.c.workspace)
    )
    return [
        (row[0], label, int(number))
        for row in connection.execute(query)
        for label, number in zip(LONG, row[1:], strict=True)
    ]


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


_ENSURE_LINK = upsert(links).on_conflict_do_nothing()


def ensure_links(connection: Connection, wanted: Sequence[Link], now: datetime) -> None:
    """One link per incident and target; the one that exists stays."""
    rows = [
        {
            "id": link.id,
            "incident_id": link.incident_id,
            "account_id": link.account_id,
            "target": link.target,
            "created_at": now,
            "expires_at": link.expires_at,
        }
        for link in wanted
    ]
    if rows:
        connection.execute(_ENSURE_LINK, rows)


_LINK = select(links).where(links.c.id == bindparam("wanted"))
_COVER = upsert(link_incidents).on_conflict_do_nothing()
_COVERED = (
    select(*_COLUMNS)
    .join(link_incidents, link_incidents.c.incident_id == incidents.c.id)
    .where(link_incidents.c.link_id == bindparam("wanted"))
    .order_by(incidents.c.broken_at, incidents.c.id)
    .limit(bindparam("most"))
)
_ANY_LINK = (
    select(links.c.id)
    .where(links.c.incident_id == bindparam("incident"), links.c.revoked_at.is_(None))
    .order_by(links.c.created_at, links.c.id)
    .limit(1)
)
_REVOKE = (
    update(links)
    .where(links.c.incident_id == bindparam("incident"), links.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


def link(connection: Connection, link_id: str) -> Link | None:
    row = connection.execute(_LINK, {"wanted": link_id}).first()
    if row is None:
        return None
    return Link(row.id, row.incident_id, row.account_id, row.target, row.expires_at, row.revoked_at)


def cover(connection: Connection, link_id: str, incident_ids: Sequence[str]) -> None:
    """The link leads to these incidents, too: they stood in the same message."""
    rows = [{"link_id": link_id, "incident_id": one} for one in incident_ids]
    if rows:
        connection.execute(_COVER, rows)


def covered(connection: Connection, link_id: str, limit: int = 100) -> list[Incident]:
    """The incidents of the messages that this link stood in, the longest broken first; none where there was just its
    own.
    """
    return [_incident(row) for row in connection.execute(_COVERED, {"wanted": link_id, "most": limit})]


def any_link(connection: Connection, incident_id: str) -> str | None:
    """A link to this incident for a reader that has none of its own, such as a customer's app."""
    return connection.execute(_ANY_LINK, {"incident": incident_id}).scalar()


def revoke_links(connection: Connection, incident_id: str, now: datetime) -> None:
    connection.execute(_REVOKE, {"incident": incident_id, "now": now})


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


_LATEST_MINT = (
    select(links.c.target)
    .join(links, links.c.id == mints.c.link_id)
    .where(mints.c.account_id == bindparam("account"), mints.c.outcome == "minted", mints.c.at >= bindparam("since"))
    .order_by(mints.c.id.desc())
    .limit(1)
)


def latest_mint(connection: Connection, account_id: int, since: datetime) -> str | None:
    """Whose link the newest press since then came through that led to a link of the provider's."""
    return connection.execute(_LATEST_MINT, {"account": account_id, "since": since}).scalar()


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


_OF_MESSAGE = (
    select(*_COLUMNS)
    .where(
        incidents.c.id.in_(
            union(
                select(notices.c.incident_id).where(notices.c.id == bindparam("message")),
                select(notices.c.incident_id).where(notices.c.group_id == bindparam("message")),
            )
        )
    )
    .order_by(incidents.c.broken_at, incidents.c.id)
)


def of_message(connection: Connection, message_id: str) -> list[Incident]:
    """The incidents that one message is about, the longest broken first."""
    return [_incident(row) for row in connection.execute(_OF_MESSAGE, {"message": message_id})]
