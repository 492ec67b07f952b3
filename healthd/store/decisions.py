"""Why: each decision to send, hold, group, drop or escalate, with its reason and, where a person decided, with who."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from sqlalchemy import Connection, bindparam, exists, insert, select

from healthd.store.schema import decisions


@dataclass(frozen=True, slots=True)
class Decision:
    """``what`` is a word such as ``"sent"`` or ``"held"``; ``who`` is empty where a rule decided."""

    at: datetime
    account_id: int | None
    what: str
    reason: str
    incident_id: str | None = None
    notice_id: str | None = None
    who: str = ""


_FIELDS = tuple(Decision.__dataclass_fields__)
_of = attrgetter(*_FIELDS)
_NOTE = insert(decisions)
_OF_ACCOUNT = (
    select(*(decisions.c[name] for name in _FIELDS))
    .where(decisions.c.account_id == bindparam("account"))
    .order_by(decisions.c.id.desc())
    .limit(bindparam("most"))
)


def note(connection: Connection, made: Iterable[Decision]) -> None:
    rows = [dict(zip(_FIELDS, _of(one), strict=True)) for one in made]
    if rows:
        connection.execute(_NOTE, rows)


def of_account(connection: Connection, account_id: int, limit: int = 200) -> list[Decision]:
    """The newest decisions about an account, oldest first."""
    rows = connection.execute(_OF_ACCOUNT, {"account": account_id, "most": limit}).all()
    return [Decision(*row) for row in reversed(rows)]


_SAID = select(
    exists().where(
        decisions.c.account_id == bindparam("account"), decisions.c.what == bindparam("said"),
        decisions.c.at > bindparam("since"),
    )
)  # fmt: skip


def said_since(connection: Connection, account_id: int, what: str, since: datetime) -> bool:
    """Whether such a decision about the account is younger than that."""
    return bool(connection.execute(_SAID, {"account": account_id, "said": what, "since": since}).scalar())
