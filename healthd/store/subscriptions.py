"""What each workspace's provider said of the webhook that it is to call, and how far its log has been read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from healthd.store import inbox
from healthd.store.inbox import Arrival
from healthd.store.schema import subscriptions
from healthd.store.words import upsert


@dataclass(frozen=True, slots=True)
class Looked:
    """The webhook as of the last look. ``ref`` is empty where there is none, ``problem`` where nothing is wrong."""

    workspace: str
    ref: str
    url: str
    status: str
    events: tuple[str, ...]
    checked_at: datetime
    problem: str = ""
    repaired_at: datetime | None = None
    read_back_to: datetime | None = None


_COLUMNS = subscriptions.c[*Looked.__dataclass_fields__]
_ALL = select(*_COLUMNS).order_by(subscriptions.c.workspace)
_ONE = select(*_COLUMNS).where(subscriptions.c.workspace == bindparam("here"))
_SEEN = ("ref", "url", "status", "events", "checked_at", "problem")
_INSERT = upsert(subscriptions)
_NOTE = _INSERT.on_conflict_do_update(
    index_elements=["workspace"], set_={name: _INSERT.excluded[name] for name in _SEEN}
)


def _looked(row: Row[Any]) -> Looked:
    facts: dict[str, Any] = dict(zip(Looked.__dataclass_fields__, row, strict=True))
    return Looked(**facts | {"events": tuple(json.loads(facts["events"]))})


def get(connection: Connection, workspace: str) -> Looked | None:
    row = connection.execute(_ONE, {"here": workspace}).first()
    return None if row is None else _looked(row)


def everywhere(connection: Connection) -> list[Looked]:
    return [_looked(row) for row in connection.execute(_ALL)]


def note(connection: Connection, looked: Looked, *, repaired: bool = False) -> None:
    """Puts a look on record. How far the log was read back is not for a look to change."""
    facts = {name: getattr(looked, name) for name in ("workspace", *_SEEN)}
    connection.execute(_NOTE, facts | {"events": json.dumps(looked.events)})
    if repaired:
        _change(connection, looked.workspace, repaired_at=looked.checked_at)


def _change(connection: Connection, workspace: str, **times: datetime) -> None:
    connection.execute(update(subscriptions).where(subscriptions.c.workspace == workspace).values(times))


def forget(connection: Connection, workspace: str) -> None:
    """The webhook there is no longer looked after."""
    connection.execute(delete(subscriptions).where(subscriptions.c.workspace == workspace))


def read_back(
    connection: Connection, workspace: str, arrivals: Sequence[Arrival], up_to: datetime | None
) -> list[bool]:
    """Stores what was read from the log; for each, whether it is new. ``up_to`` is given with the last of it: that the
    log has been read so far must not stand there before all of it does.
    """
    fresh = inbox.store(connection, arrivals) if arrivals else []
    if up_to is not None:
        _change(connection, workspace, read_back_to=up_to)
    return fresh
