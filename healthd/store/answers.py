"""What writes of the API answered, for whoever sends one again under the same key: a repeat is answered, not done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from healthd.store.schema import answers
from healthd.store.words import upsert

KEEP = timedelta(hours=24)
LOST_AFTER = timedelta(minutes=1)
"""A write that is under way for longer than this was cut off with its process: whoever repeats it takes it over."""
NOT_KEPT = 0
"""In place of a status: it was done, and its answer must not be stored. A repeat is done again."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class UnderWay(Exception):
    """The same write has begun and is not finished."""


class AnotherRequest(Exception):
    """The key was used for something else."""


def begin(connection: Connection, who: str, key: str, request: str, now: datetime) -> Answer | None:
    """The answer of a write that was done already, or ``None`` where it is to be done now. ``request`` is a digest of
    all that makes it the same one. Raises ``UnderWay`` or ``AnotherRequest``.
    """
    connection.execute(delete(answers).where(_of(who, key), answers.c.at < now - KEEP))
    fresh = upsert(answers).values(who=who, key=key, request=request, at=now).on_conflict_do_nothing()
    if connection.execute(fresh).rowcount:
        return None
    row = connection.execute(select(answers).where(_of(who, key))).one()
    if row.request != request:
        raise AnotherRequest(key)
    if row.status:
        return Answer(row.status, row.body, orjson.loads(row.headers))
    if row.status is None and now - row.at < LOST_AFTER:
        raise UnderWay(key)
    connection.execute(update(answers).where(_of(who, key)).values(at=now, status=None))
    return None


def end(connection: Connection, who: str, key: str, began_at: datetime, answer: Answer) -> None:
    """Keeps the answer, unless somebody else has taken the write over meanwhile."""
    connection.execute(
        update(answers)
        .where(_of(who, key), answers.c.at == began_at)
        .values(status=answer.status, headers=orjson.dumps(dict(answer.headers)).decode(), body=answer.body)
    )


def forget(connection: Connection, who: str, key: str, began_at: datetime) -> None:
    """The write failed and has changed nothing: a repeat is done anew."""
    connection.execute(delete(answers).where(_of(who, key), answers.c.at == began_at))


def _of(who: str, key: str) -> ColumnElement[bool]:
    return and_(answers.c.who == who, answers.c.key == key)
