"""What stands between us and a workspace's API: noted while it lasts, and kept afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from healthd.store.schema import EPOCH, troubles


@dataclass(frozen=True, slots=True)
class Trouble:
    """``question`` is what was asked when it showed first. One trouble of a kind is enough, whatever else meets it."""

    id: str
    workspace: str
    kind: str
    question: str
    since: datetime
    message: str
    remedy: str
    request_id: str | None = None
    ended_at: datetime | None = None


def trouble_id(workspace: str, kind: str, since: datetime) -> str:
    return f"{workspace}:{kind}:{int((since - EPOCH).total_seconds() * 1_000_000):x}"


def _trouble(row: Row[Any]) -> Trouble:
    return Trouble(**row._mapping)  # noqa: SLF001 - the row's public mapping, in spite of its name


def begin(connection: Connection, trouble: Trouble) -> bool:
    """Notes a trouble; whether it is news. There is one of a kind at a time, which the database itself sees to."""
    return connection.execute(upsert(troubles).values(asdict(trouble)).on_conflict_do_nothing()).rowcount > 0


def end(connection: Connection, ended: list[Trouble], now: datetime) -> None:
    connection.execute(
        update(troubles).where(troubles.c.id.in_([trouble.id for trouble in ended])).values(ended_at=now)
    )


def current(connection: Connection, workspace: str | None = None) -> list[Trouble]:
    """Troubles that last, the oldest first."""
    query = select(troubles).where(troubles.c.ended_at.is_(None)).order_by(troubles.c.since)
    if workspace is not None:
        query = query.where(troubles.c.workspace == workspace)
    return [_trouble(row) for row in connection.execute(query)]


def get(connection: Connection, wanted: str) -> Trouble | None:
    row = connection.execute(select(troubles).where(troubles.c.id == wanted)).first()
    return None if row is None else _trouble(row)
