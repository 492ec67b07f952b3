"""Posts that failed, by the account that they were for, where only one can be meant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from healthd.core.model import State
from healthd.core.post_failures import PostFailure
from healthd.store.schema import accounts, post_failures
from healthd.store.words import upsert


@dataclass(frozen=True, slots=True)
class FailedPost:
    """``about_grant``: its code says that the account's permission is gone."""

    account_id: int
    post: str
    at: datetime
    code: str
    message: str
    about_grant: bool
    event_id: str | None = None


class Candidate(NamedTuple):
    """An account that a failure may be about."""

    id: int
    ref: str
    state: State


_FIELDS = tuple(FailedPost.__dataclass_fields__)
_PUBLISHING = (
    select(accounts.c.id, accounts.c.ref, accounts.c.state)
    .where(
        accounts.c.workspace == bindparam("of_workspace"),
        accounts.c.profile == bindparam("of_profile"),
        accounts.c.platform == bindparam("of_platform"),
        accounts.c.state.in_([str(state) for state in State if state is not State.REMOVED]),
        accounts.c.paused.is_(False),
    )
    .limit(bindparam("most"))
)
_INSERT = upsert(post_failures)
_CHANGING = ("at", "code", "message", "about_grant", "event_id")
_RECORD = _INSERT.on_conflict_do_update(
    index_elements=["account_id", "post"],
    set_={name: _INSERT.excluded[name] for name in _CHANGING},
    where=post_failures.c.at < _INSERT.excluded.at,
)
_OF_ACCOUNT = (
    select(*(post_failures.c[name] for name in _FIELDS))
    .where(post_failures.c.account_id == bindparam("account"))
    .order_by(post_failures.c.at.desc(), post_failures.c.id.desc())
    .limit(bindparam("most"))
)
_BETWEEN = (
    select(func.count())
    .select_from(post_failures)
    .where(
        post_failures.c.account_id == bindparam("account"),
        post_failures.c.at >= bindparam("since"),
        post_failures.c.at <= bindparam("until"),
    )
)
_OTHERS = _BETWEEN.where(post_failures.c.about_grant, post_failures.c.post != bindparam("but"))


def publishing(connection: Connection, workspace: str, profile: str, platform: str, limit: int) -> list[Candidate]:
    """The accounts on a platform to which posts go: none that is paused or gone."""
    asked = {"of_workspace": workspace, "of_profile": profile, "of_platform": platform, "most": limit}
    return [Candidate(row[0], row[1], State(row[2])) for row in connection.execute(_PUBLISHING, asked)]


def record(
    connection: Connection, account_id: int, failure: PostFailure, event_id: str | None, *, about_grant: bool
) -> None:
    """Keeps a failure; of one post's several the latest."""
    connection.execute(
        _RECORD,
        {
            "account_id": account_id,
            "post": failure.post,
            "at": failure.at,
            "code": failure.code,
            "message": failure.message,
            "about_grant": about_grant,
            "event_id": event_id,
        },
    )


def of_account(connection: Connection, account_id: int, limit: int = 100) -> list[FailedPost]:
    """The newest failures, oldest first."""
    rows = connection.execute(_OF_ACCOUNT, {"account": account_id, "most": limit}).all()
    return [FailedPost(*row) for row in reversed(rows)]


def between(connection: Connection, account_id: int, since: datetime, until: datetime) -> int:
    """How many posts failed within that time."""
    asked = {"account": account_id, "since": since, "until": until}
    return connection.execute(_BETWEEN, asked).scalar_one()


def others_about_grant(connection: Connection, account_id: int, post: str, since: datetime, until: datetime) -> int:
    """How many other posts failed within that time because of the grant."""
    asked = {"account": account_id, "but": post, "since": since, "until": until}
    return connection.execute(_OTHERS, asked).scalar_one()
