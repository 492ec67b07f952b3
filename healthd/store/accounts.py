"""Accounts: loading, writing, counting, and the queue of those to be probed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, and_, bindparam, case, func, insert, literal, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from healthd.core.model import BROKEN, Account, Cause, Lane, State, login_family
from healthd.store.schema import account_counts, accounts

T = TypeVar("T")

CHUNK = 500
"""Values in one ``IN (…)``: well under SQLite's limit on bound parameters."""


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account with what is kept beside the machine's own facts."""

    id: int
    account: Account
    profile: str
    name: str
    username: str | None
    first_seen_at: datetime
    missing_since: datetime | None = None
    clicked_at: datetime | None = None
    warned_deadline: datetime | None = None
    probe_at: datetime | None = None
    probe_lane: Lane = Lane.ROTATION


@dataclass(frozen=True, slots=True)
class Probe:
    """An account whose turn it is to be asked about."""

    account_id: int
    ref: str
    profile: str
    lane: Lane


def chunked(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _stored(row: Row[Any]) -> StoredAccount:
    machine = Account(
        workspace=row.workspace,
        ref=row.ref,
        platform=row.platform,
        state=State(row.state),
        paused=row.paused,
        as_of=row.as_of,
        changed_at=row.changed_at,
        suspicion=Cause(row.suspicion) if row.suspicion else None,
        confirm_by=row.confirm_by,
        error_since=row.error_since,
        validity_days=row.validity_days,
        refresh_floor=row.refresh_floor,
    )
    return StoredAccount(
        row.id,
        machine,
        row.profile,
        row.name,
        row.username,
        row.first_seen_at,
        row.missing_since,
        row.clicked_at,
        row.warned_deadline,
        row.probe_at,
        Lane(row.probe_lane),
    )


def load(connection: Connection, workspace: str, refs: Iterable[str]) -> dict[str, StoredAccount]:
    """The accounts with these refs, by ref."""
    found = {}
    for chunk in chunked(dict.fromkeys(refs)):
        query = select(accounts).where(accounts.c.workspace == workspace, accounts.c.ref.in_(chunk))
        found.update({row.ref: _stored(row) for row in connection.execute(query)})
    return found


def by_id(connection: Connection, account_id: int) -> StoredAccount | None:
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).first()
    return None if row is None else _stored(row)


def find(connection: Connection, words: str, limit: int = 20) -> list[StoredAccount]:
    """Accounts that a person means by ``workspace/ref``, a ref, or a part of a name."""
    workspace, _, ref = words.rpartition("/")
    exact = and_(accounts.c.ref == ref, accounts.c.workspace == workspace) if workspace else accounts.c.ref == words
    rows = connection.execute(select(accounts).where(exact).limit(limit)).all()
    if not rows:
        named = or_(*(column.icontains(words, autoescape=True) for column in (accounts.c.name, accounts.c.username)))
        rows = connection.execute(select(accounts).where(named).order_by(accounts.c.id).limit(limit)).all()
    return [_stored(row) for row in rows]


def listing(
    connection: Connection, *, workspace: str | None, states: Sequence[State], platform: str | None, limit: int
) -> list[StoredAccount]:
    query = select(accounts).order_by(accounts.c.workspace, accounts.c.id).limit(limit)
    if workspace:
        query = query.where(accounts.c.workspace == workspace)
    if states:
        query = query.where(accounts.c.state.in_(states))
    if platform:
        query = query.where(accounts.c.platform == platform)
    return [_stored(row) for row in connection.execute(query)]


_MACHINE = tuple(name for name in Account.__dataclass_fields__ if name not in {"workspace", "ref", "platform"})
_KEPT = ("profile", "name", "username", "missing_since", "clicked_at", "warned_deadline", "probe_at", "probe_lane")
_UPDATE = (
    update(accounts)
    .where(accounts.c.id == bindparam("row_id"))
    .values({name: bindparam(name) for name in (*_MACHINE, *_KEPT, "platform")})
)


def _values(stored: StoredAccount) -> dict[str, Any]:
    machine = {name: getattr(stored.account, name) for name in (*_MACHINE, "platform")}
    return machine | {name: getattr(stored, name) for name in _KEPT}


def write(connection: Connection, changed: Sequence[tuple[StoredAccount, StoredAccount]]) -> None:
    """Writes accounts as (before, after) pairs, and keeps the counts true in the same transaction."""
    if not changed:
        return
    connection.execute(_UPDATE, [{"row_id": after.id, **_values(after)} for _, after in changed])
    delta: Counter[tuple[str, str, str, bool]] = Counter()
    for before, after in changed:
        delta[_count_key(before)] -= 1
        delta[_count_key(after)] += 1
    _count(connection, delta)


def create(connection: Connection, fresh: Sequence[StoredAccount]) -> None:
    """Inserts accounts; their ``id`` is given by the database."""
    if not fresh:
        return
    rows = [
        {"workspace": a.account.workspace, "ref": a.account.ref, "first_seen_at": a.first_seen_at, **_values(a)}
        for a in fresh
    ]
    connection.execute(insert(accounts), rows)
    _count(connection, Counter(_count_key(stored) for stored in fresh))


def _count_key(stored: StoredAccount) -> tuple[str, str, str, bool]:
    account = stored.account
    return account.workspace, account.platform, account.state, account.paused


def _count(connection: Connection, delta: Counter[tuple[str, str, str, bool]]) -> None:
    rows = [
        {"workspace": workspace, "platform": platform, "state": state, "paused": paused, "total": change}
        for (workspace, platform, state, paused), change in delta.items()
        if change
    ]
    if rows:
        statement = upsert(account_counts)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["workspace", "platform", "state", "paused"],
                set_={"total": account_counts.c.total + statement.excluded.total},
            ),
            rows,
        )


def counts(connection: Connection) -> list[tuple[str, str, State, bool, int]]:
    """``(workspace, platform, state, paused, count)`` without counting a single account."""
    rows = connection.execute(select(account_counts).where(account_counts.c.total != 0))
    return [(row.workspace, row.platform, State(row.state), row.paused, row.total) for row in rows]


@dataclass(frozen=True, slots=True)
class Known:
    """The few facts of an account against which a sweep compares a reading."""

    state: State
    paused: bool
    validity_days: int | None
    error_since: datetime | None
    missing: bool


def known(connection: Connection, workspace: str, profile: str) -> dict[str, Known]:
    """All accounts of a workspace's profile, as a sweep compares them."""
    columns = accounts.c
    query = select(
        columns.ref,
        columns.state,
        columns.paused,
        columns.validity_days,
        columns.error_since,
        columns.missing_since,
    ).where(columns.workspace == workspace, columns.profile == profile)
    states = {state.value: state for state in State}
    return {
        ref: Known(states[state], paused, validity, errors, missing is not None)
        for ref, state, paused, validity, errors, missing in connection.execute(query)
    }


def claim_probes(
    connection: Connection, workspace: str, lanes: Sequence[Lane], now: datetime, lease: timedelta, limit: int
) -> list[Probe]:
    """Takes due accounts, the most urgent and then the longest waiting first; each comes again after ``lease`` unless
    what is learnt of it says otherwise, so a crash loses no probe.
    """
    claimed: list[Probe] = []
    for lane in lanes:
        due = (
            select(accounts.c.id)
            .where(accounts.c.workspace == workspace, accounts.c.probe_lane == lane, accounts.c.probe_at <= now)
            .order_by(accounts.c.probe_at)
            .limit(limit - len(claimed))
        )
        ids = connection.execute(due).scalars().all()
        if ids:
            taken = (
                update(accounts)
                .where(accounts.c.id.in_(ids))
                .values(probe_at=now + lease)
                .returning(accounts.c.id, accounts.c.ref, accounts.c.profile)
            )
            found = {row.id: Probe(row.id, row.ref, row.profile, lane) for row in connection.execute(taken)}
            claimed += [found[account_id] for account_id in ids]
        if len(claimed) >= limit:
            break
    return claimed


_NEXT_DUE = select(func.min(accounts.c.probe_at)).where(
    accounts.c.workspace == bindparam("workspace"), accounts.c.probe_lane == bindparam("lane")
)


def next_due(connection: Connection, workspace: str, lanes: Sequence[Lane]) -> datetime | None:
    """When the next probe in these lanes is due."""
    dues = [connection.execute(_NEXT_DUE, {"workspace": workspace, "lane": lane}).scalar() for lane in lanes]
    return min((due for due in dues if due is not None), default=None)


def schedule_probe(connection: Connection, account_ids: Sequence[int], at: datetime, lane: Lane) -> None:
    """Brings probes forward to ``at`` and into ``lane``; what is due earlier, or more urgent, stays so."""
    at_last = or_(accounts.c.probe_at.is_(None), accounts.c.probe_at > at)
    for chunk in chunked(account_ids):
        connection.execute(
            update(accounts)
            .where(
                accounts.c.id.in_(chunk),
                or_(at_last, accounts.c.probe_lane > lane),
                accounts.c.state != State.REMOVED,
            )
            .values(
                probe_at=case((at_last, literal(at, accounts.c.probe_at.type)), else_=accounts.c.probe_at),
                probe_lane=case((accounts.c.probe_lane > lane, lane), else_=accounts.c.probe_lane),
            )
        )


def postpone_probe(connection: Connection, account_id: int, at: datetime, lane: Lane) -> None:
    """After a probe that could not look."""
    connection.execute(update(accounts).where(accounts.c.id == account_id).values(probe_at=at, probe_lane=lane))


def overdue_confirmations(connection: Connection, now: datetime, limit: int) -> list[tuple[str, str]]:
    """``(workspace, ref)`` of suspects whose time to be confirmed has run out."""
    query = (
        select(accounts.c.workspace, accounts.c.ref)
        .where(accounts.c.confirm_by <= now)
        .order_by(accounts.c.confirm_by)
        .limit(limit)
    )
    return [(row.workspace, row.ref) for row in connection.execute(query)]


def next_confirmation(connection: Connection) -> datetime | None:
    """When the time of the next suspect runs out."""
    return connection.execute(
        select(func.min(accounts.c.confirm_by)).where(accounts.c.confirm_by.is_not(None))
    ).scalar()


def broken_siblings(connection: Connection, stored: StoredAccount, limit: int = 100) -> list[int]:
    """Broken accounts behind the same login: same workspace and profile, same family of platforms."""
    query = (
        select(accounts.c.id)
        .where(
            accounts.c.workspace == stored.account.workspace,
            accounts.c.state.in_(BROKEN),
            accounts.c.profile == stored.profile,
            accounts.c.platform.in_(login_family(stored.account.platform)),
            accounts.c.id != stored.id,
        )
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def mark_missing(connection: Connection, workspace: str, refs: Iterable[str], now: datetime) -> list[int]:
    """Notes that the inventory no longer shows these accounts; returns the ids of those newly missed."""
    ids: list[int] = []
    for chunk in chunked(refs):
        statement = (
            update(accounts)
            .where(accounts.c.workspace == workspace, accounts.c.ref.in_(chunk), accounts.c.missing_since.is_(None))
            .values(missing_since=now)
            .returning(accounts.c.id)
        )
        ids += connection.execute(statement).scalars()
    return ids


def as_json(stored: StoredAccount) -> dict[str, Any]:
    """The account as a script sees it; times in ISO 8601."""
    facts = asdict(stored.account) | {
        "profile": stored.profile or None,
        "name": stored.name,
        "username": stored.username,
        "next_probe_at": stored.probe_at,
    }
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in facts.items()}
