"""Storms: a platform whose accounts broke all at once, and whose people are not asked to repair that yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, or_, select, text, update

from healthd.core.model import State
from healthd.store.schema import ENDED_NOT, OPEN, account_counts, incidents, storms


@dataclass(frozen=True, slots=True)
class Storm:
    """``broken`` counts its incidents, of the ``accounts`` that its workspace has on the platform. ``judge_at`` is when
    it is looked at again. ``decided_by`` is empty where it ended by itself.
    """

    id: str
    workspace: str
    platform: str
    began_at: datetime
    last_at: datetime
    judge_at: datetime
    broken: int
    accounts: int
    ended_at: datetime | None = None
    outcome: str | None = None
    decided_by: str | None = None


def _storm(row: Row[Any]) -> Storm:
    return Storm(**row._mapping)  # noqa: SLF001 - the row's public mapping, in spite of its name


_HERE = (storms.c.workspace == bindparam("workspace"), storms.c.platform == bindparam("platform"))
_CURRENT = select(storms).where(*_HERE, text(ENDED_NOT))
# In no order: asked for one, a planner may walk through all storms there ever were.
_ALL_CURRENT = select(storms).where(text(ENDED_NOT))
_BY_ID = select(storms).where(storms.c.id == bindparam("wanted"))
_NEXT = select(func.min(storms.c.judge_at, type_=storms.c.judge_at.type)).where(text(ENDED_NOT))
_LATEST = select(storms).order_by(storms.c.began_at.desc()).limit(bindparam("most"))
_BROKEN_LATELY = (
    select(func.count())
    .select_from(incidents)
    .where(
        incidents.c.workspace == bindparam("workspace"),
        incidents.c.platform == bindparam("platform"),
        incidents.c.opened_at > bindparam("since"),
        incidents.c.storm_id.is_(None),
        text(OPEN),
    )
)
_ACCOUNTS = select(func.coalesce(func.sum(account_counts.c.total), 0)).where(
    account_counts.c.workspace == bindparam("workspace"),
    account_counts.c.platform == bindparam("platform"),
    account_counts.c.state != State.REMOVED,
)
_STILL_BROKEN = (
    select(func.count()).select_from(incidents).where(incidents.c.storm_id == bindparam("storm"), text(OPEN))
)
_TAKE_IN = (
    update(incidents)
    .where(
        incidents.c.workspace == bindparam("in_workspace"),
        incidents.c.platform == bindparam("on_platform"),
        incidents.c.opened_at > bindparam("since"),
        incidents.c.storm_id.is_(None),
        text(OPEN),
    )
    .values(storm_id=bindparam("storm"))
)
_REFS = select(incidents.c.account_id).where(incidents.c.storm_id == bindparam("storm"), text(OPEN))


def current(connection: Connection, workspace: str, platform: str) -> Storm | None:
    """The storm that lasts there; there is never more than one."""
    row = connection.execute(_CURRENT, {"workspace": workspace, "platform": platform}).first()
    return None if row is None else _storm(row)


def all_current(connection: Connection) -> list[Storm]:
    """Storms that last, the oldest first."""
    return sorted(map(_storm, connection.execute(_ALL_CURRENT)), key=lambda storm: storm.began_at)


def rows(connection: Connection, query: Select[Any]) -> list[Storm]:
    """What a query of whole storms finds."""
    return [_storm(row) for row in connection.execute(query)]


def latest(connection: Connection, limit: int = 50) -> list[Storm]:
    return [_storm(row) for row in connection.execute(_LATEST, {"most": limit})]


def get(connection: Connection, storm_id: str) -> Storm | None:
    row = connection.execute(_BY_ID, {"wanted": storm_id}).first()
    return None if row is None else _storm(row)


def find(connection: Connection, words: str) -> list[Storm]:
    """Storms that last and that a person means by an id or ``workspace/platform``."""
    workspace, _, platform = words.partition("/")
    query = select(storms).where(
        text(ENDED_NOT), or_(storms.c.id == words, (storms.c.workspace == workspace) & (storms.c.platform == platform))
    )
    return [_storm(row) for row in connection.execute(query)]


def next_judgement(connection: Connection) -> datetime | None:
    """When the next storm that lasts is to be looked at again."""
    return connection.execute(_NEXT).scalar()


def broken_lately(connection: Connection, workspace: str, platform: str, since: datetime) -> int:
    """How many accounts there broke since then and are broken still, those of earlier storms aside: of them it has
    been decided.
    """
    facts = {"workspace": workspace, "platform": platform, "since": since}
    return connection.execute(_BROKEN_LATELY, facts).scalar_one()


def accounts_there(connection: Connection, workspace: str, platform: str) -> int:
    """How many accounts the workspace has on the platform, without counting them."""
    return int(connection.execute(_ACCOUNTS, {"workspace": workspace, "platform": platform}).scalar_one())


def begin(connection: Connection, storm: Storm, since: datetime) -> int:
    """Notes a storm and takes in what has broken there since then; returns how many incidents that is."""
    connection.execute(
        insert(storms).values(
            id=storm.id, workspace=storm.workspace, platform=storm.platform, began_at=storm.began_at,
            last_at=storm.last_at, judge_at=storm.judge_at, broken=storm.broken, accounts=storm.accounts,
        )
    )  # fmt: skip
    facts = {"in_workspace": storm.workspace, "on_platform": storm.platform, "since": since, "storm": storm.id}
    return connection.execute(_TAKE_IN, facts).rowcount


_JOIN = update(incidents).where(incidents.c.id == bindparam("incident")).values(storm_id=bindparam("storm"))
_GROW = (
    update(storms)
    .where(storms.c.id == bindparam("storm"))
    .values(last_at=bindparam("now", type_=storms.c.last_at.type), broken=storms.c.broken + bindparam("more"))
)


def join(connection: Connection, joined: Sequence[tuple[str, str]], now: datetime) -> None:
    """More that broke while storms last: each a storm's id and an incident's."""
    if not joined:
        return
    connection.execute(_JOIN, [{"storm": storm, "incident": incident} for storm, incident in joined])
    more = Counter(storm for storm, _ in joined)
    connection.execute(_GROW, [{"storm": storm, "now": now, "more": number} for storm, number in more.items()])


def still_broken(connection: Connection, storm_id: str) -> int:
    return connection.execute(_STILL_BROKEN, {"storm": storm_id}).scalar_one()


def broken_accounts(connection: Connection, storm_id: str, limit: int) -> list[int]:
    """Ids of its accounts that are broken still."""
    return list(connection.execute(_REFS.limit(limit), {"storm": storm_id}).scalars())


def judge_again(connection: Connection, storm_id: str, at: datetime) -> None:
    connection.execute(update(storms).where(storms.c.id == storm_id).values(judge_at=at))


def end(connection: Connection, storm_id: str, now: datetime, outcome: str, decided_by: str | None = None) -> bool:
    """Whether it lasted until now."""
    statement = (
        update(storms)
        .where(storms.c.id == storm_id, text(ENDED_NOT))
        .values(ended_at=now, outcome=outcome, decided_by=decided_by)
    )
    return connection.execute(statement).rowcount > 0


def storm_id(workspace: str, platform: str, began_at: datetime) -> str:
    """Short enough to be typed from a message."""
    return f"{workspace}-{platform}-{int(began_at.timestamp()):x}"
