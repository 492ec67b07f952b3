"""What stands between us and a workspace's API: noted while it lasts, and kept afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from healthd.store.schema import EPOCH, troubles
from healthd.store.words import upsert


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


_BEGIN = upsert(troubles).on_conflict_do_nothing()
_TROUBLE = select(*troubles.c[*Trouble.__dataclass_fields__])
_BY_ID = _TROUBLE.where(troubles.c.id == bindparam("wanted"))
_LASTING = _TROUBLE.where(troubles.c.ended_at.is_(None)).order_by(troubles.c.since)
_LASTING_HERE = _LASTING.where(troubles.c.workspace == bindparam("here"))


def begin(connection: Connection, trouble: Trouble) -> bool:
    """Notes a trouble; whether it is news. There is one of a kind at a time, which the database itself sees to."""
    return connection.execute(_BEGIN, asdict(trouble)).rowcount > 0


def end(connection: Connection, ended: list[Trouble], now: datetime) -> None:
    connection.execute(
        update(troubles).where(troubles.c.id.in_([trouble.id for trouble in ended])).values(ended_at=now)
    )


def current(connection: Connection, workspace: str | None = None) -> list[Trouble]:
    """Troubles that last, the oldest first."""
    query = _LASTING if workspace is None else _LASTING_HERE
    return [Trouble(*row) for row in connection.execute(query, {"here": workspace})]


def get(connection: Connection, wanted: str) -> Trouble | None:
    row = connection.execute(_BY_ID, {"wanted": wanted}).first()
    return None if row is None else Trouble(*row)
