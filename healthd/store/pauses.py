"""Posting to broken accounts that is to be paused, or resumed: what waits for its call, and what came of it.

The API does not tell who paused an account, so this must: an account is ours to resume only where a sweep had shown it
active just before we paused it. A row is written before each call and says so until the outcome is known, so that a
crash in between leaves nothing paused behind our back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Boolean, Connection, and_, bindparam, case, delete, or_, select, text, update

from healthd.store import accounts, decisions, incidents
from healthd.store.accounts import CHUNK, chunked
from healthd.store.decisions import Decision
from healthd.store.schema import OPEN, pauses, storms
from healthd.store.schema import accounts as accounts_table
from healthd.store.schema import incidents as incidents_table
from healthd.store.words import upsert

LEASE = timedelta(minutes=2)
"""For how long after a call began nothing else is believed to tell its outcome."""
FRESH = timedelta(minutes=10)
"""How old a sweep's word that an account is active may be when it is paused."""


BROKEN, REPAIRED = "the account is broken", "the account was repaired"


class Action(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Wanted:
    """``due_at``: not before. ``seen_at``: when the last sweep asked that showed the account broken and active.
    ``tried_at``: set while a call's outcome is unknown. ``since``: when the first call was made, or it was wanted.
    """

    account_id: int
    workspace: str
    action: Action
    since: datetime
    due_at: datetime
    attempts: int = 0
    seen_at: datetime | None = None
    tried_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What may be done next, with where the account is found."""

    wanted: Wanted
    ref: str
    profile: str
    platform: str
    incident_id: str | None


_FIELDS = tuple(Wanted.__dataclass_fields__)
_COLUMNS = tuple(pauses.c[name] for name in _FIELDS)
_GET = select(*_COLUMNS).where(pauses.c.account_id == bindparam("account"))
_WANT = upsert(pauses)
_WANT = _WANT.on_conflict_do_update(
    index_elements=["account_id"],
    set_={name: _WANT.excluded[name] for name in _FIELDS if name not in {"account_id", "workspace"}},
)
_WITHDRAW = delete(pauses).where(pauses.c.account_id == bindparam("account"))
_MAY_PAUSE = and_(
    pauses.c.action == Action.PAUSE,
    pauses.c.seen_at >= pauses.c.due_at,
    pauses.c.seen_at > bindparam("fresh", type_=pauses.c.seen_at.type),
    incidents_table.c.confirmed_at.is_not(None),
    # While a platform's accounts break all at once it is the platform's fault, and posts may work again in a minute.
    or_(incidents_table.c.storm_id.is_(None), storms.c.ended_at.is_not(None)),
    accounts_table.c.paused.is_(False),
    bindparam("pausing", type_=Boolean()),
)
_MAY_RESUME = and_(pauses.c.action == Action.RESUME, accounts_table.c.auto_paused_at.is_not(None))
_NEXT = (
    select(*_COLUMNS, accounts_table.c.ref, accounts_table.c.profile, accounts_table.c.platform, incidents_table.c.id)
    .join(accounts_table, accounts_table.c.id == pauses.c.account_id)
    .outerjoin(incidents_table, and_(incidents_table.c.account_id == pauses.c.account_id, text(f"incidents.{OPEN}")))
    .outerjoin(storms, storms.c.id == incidents_table.c.storm_id)
    .where(pauses.c.workspace == bindparam("here"), or_(_MAY_PAUSE, _MAY_RESUME))
    .order_by(pauses.c.due_at, pauses.c.account_id)
    .limit(1)
)
_CLAIM = (
    update(pauses)
    .where(pauses.c.account_id == bindparam("account"))
    .values(
        attempts=pauses.c.attempts + 1,
        since=case((pauses.c.attempts == 0, bindparam("now", type_=pauses.c.since.type)), else_=pauses.c.since),
        tried_at=bindparam("now"),
        due_at=bindparam("until"),
    )
)
_POSTPONE = (
    update(pauses)
    .where(pauses.c.account_id == bindparam("account"), pauses.c.action == bindparam("of"))
    .values(due_at=bindparam("at"), tried_at=bindparam("tried"))
)
_UNPAUSED = (
    select(accounts_table.c.ref)
    .join(pauses, pauses.c.account_id == accounts_table.c.id)
    .where(pauses.c.workspace == bindparam("here"), pauses.c.action == Action.PAUSE)
)
_SEEN = (
    update(pauses)
    .where(
        pauses.c.account_id.in_(bindparam("accounts", expanding=True)),
        pauses.c.action == Action.PAUSE,
        pauses.c.due_at <= bindparam("asked", type_=pauses.c.due_at.type),
    )
    .values(seen_at=bindparam("asked"), tried_at=None)
)


def get(connection: Connection, account_id: int) -> Wanted | None:
    row = connection.execute(_GET, {"account": account_id}).first()
    return None if row is None else _wanted(row)


def want(connection: Connection, wanted: Wanted) -> None:
    """Writes down what is to be done, in place of whatever was to be done before."""
    connection.execute(_WANT, {name: getattr(wanted, name) for name in _FIELDS})


def withdraw(connection: Connection, account_id: int) -> None:
    connection.execute(_WITHDRAW, {"account": account_id})


def to_be_paused(connection: Connection, workspace: str) -> set[str]:
    """Refs of the accounts that a sweep is to look out for."""
    return set(connection.execute(_UNPAUSED, {"here": workspace}).scalars())


def seen_active(connection: Connection, workspace: str, refs: Collection[str], asked_at: datetime) -> None:
    """A sweep that was asked then shows these accounts broken and not paused: what may have been tried before had no
    effect. It tells nothing of what was tried later, or shortly before.
    """
    found = accounts.load(connection, workspace, refs)
    for ids in chunked((stored.id for stored in found.values()), CHUNK):
        connection.execute(_SEEN, {"accounts": ids, "asked": asked_at})


def upcoming(connection: Connection, workspace: str, now: datetime, *, pausing: bool) -> Turn | None:
    """What may be done next, now or later. ``pausing`` is false where accounts are only resumed."""
    row = connection.execute(_NEXT, {"here": workspace, "pausing": pausing, "fresh": now - FRESH}).first()
    if row is None:
        return None
    return Turn(_wanted(row[: len(_FIELDS)]), *row[len(_FIELDS) :])


def claim(connection: Connection, workspace: str, now: datetime, *, pausing: bool) -> Turn | None:
    """Takes what is due, if it is still wanted, for a call that begins now and ends within ``LEASE``."""
    turn = upcoming(connection, workspace, now, pausing=pausing)
    if turn is None or turn.wanted.due_at > now:
        return None
    wanted = turn.wanted
    connection.execute(_CLAIM, {"account": wanted.account_id, "now": now, "until": now + LEASE})
    since = wanted.since if wanted.attempts else now
    return replace(
        turn, wanted=replace(wanted, attempts=wanted.attempts + 1, since=since, tried_at=now, due_at=now + LEASE)
    )


def postpone(
    connection: Connection, turn: Turn, at: datetime, now: datetime, *, unknown: bool, stuck: str | None = None
) -> None:
    """The call failed; ``unknown`` where it may have had its effect all the same. ``stuck`` says why it has failed for
    so long that a person may want to know.
    """
    if not unknown and _repaired_meanwhile(connection, turn):
        return
    tried = turn.wanted.tried_at if unknown else None
    connection.execute(
        _POSTPONE, {"account": turn.wanted.account_id, "of": turn.wanted.action, "at": at, "tried": tried}
    )
    what = f"posting not {turn.wanted.action}d yet"
    if stuck is not None and not _noted(connection, turn.wanted, what):
        note(connection, turn.wanted.account_id, what, stuck, now, turn.incident_id)


def give_up(connection: Connection, turn: Turn, reason: str, now: datetime) -> None:
    """The API refuses to pause it."""
    waiting = get(connection, turn.wanted.account_id)
    if waiting is not None and not _repaired_meanwhile(connection, turn):
        withdraw(connection, turn.wanted.account_id)
        note(connection, turn.wanted.account_id, "posting not paused", reason, now, turn.incident_id)


def _noted(connection: Connection, wanted: Wanted, what: str) -> bool:
    found = decisions.of_account(connection, wanted.account_id)
    return any(one.what == what and one.at >= wanted.since for one in found)


def _repaired_meanwhile(connection: Connection, turn: Turn) -> bool:
    """Whether the account counts as paused only because the call might have had its effect. It counts so no longer."""
    account_id = turn.wanted.account_id
    waiting, stored = get(connection, account_id), accounts.by_id(connection, account_id)
    if turn.wanted.action is not Action.PAUSE or waiting is None or waiting.action is not Action.RESUME:
        return False
    if stored is not None:
        active = replace(stored, account=replace(stored.account, paused=False), auto_paused_at=None)
        accounts.write(connection, [(stored, active)])
    withdraw(connection, account_id)
    return True


def paused(connection: Connection, turn: Turn, now: datetime) -> None:
    """The API has paused it. Where it was repaired meanwhile, it is resumed at once."""
    account_id = turn.wanted.account_id
    stored = accounts.by_id(connection, account_id)
    ours = stored is not None and stored.auto_paused_at is not None
    if stored is None or (not ours and get(connection, account_id) is None):
        return  # a sweep has shown meanwhile that somebody else had paused it before
    after = replace(stored, account=replace(stored.account, paused=True), auto_paused_at=now)
    accounts.write(connection, [(stored, after)])
    if not ours:
        note(connection, account_id, "posting paused", BROKEN, now, turn.incident_id)
    if incidents.open_for(connection, account_id) is None:
        want(connection, Wanted(account_id, turn.wanted.workspace, Action.RESUME, now, now))
    else:
        withdraw(connection, account_id)


def resumed(connection: Connection, turn: Turn, now: datetime, *, pausing: bool) -> None:
    """The API has resumed it. Where it broke again meanwhile, it is to be paused again."""
    account_id = turn.wanted.account_id
    stored = accounts.by_id(connection, account_id)
    if stored is None or stored.auto_paused_at is None:
        return  # a sweep has shown it active meanwhile, and what was done since then is not ours
    after = replace(stored, account=replace(stored.account, paused=False), auto_paused_at=None)
    accounts.write(connection, [(stored, after)])
    note(connection, account_id, "posting resumed", REPAIRED, now)
    if pausing and incidents.open_for(connection, account_id) is not None:
        want(connection, Wanted(account_id, turn.wanted.workspace, Action.PAUSE, now, now))
    else:
        withdraw(connection, account_id)


def note(
    connection: Connection, account_id: int, what: str, reason: str, now: datetime, incident_id: str | None = None
) -> None:
    decisions.note(connection, [Decision(now, account_id, what, reason, incident_id)])


def _wanted(row: Collection[object]) -> Wanted:
    found = Wanted(*row)  # type: ignore[arg-type]
    return replace(found, action=Action(found.action))
