"""Accounts: loading, writing, counting, and the queue of those to be probed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Select, Update, and_, bindparam, case, func, or_, select, text, update

from healthd.core.model import BROKEN, Account, Cause, Lane, State, login_family
from healthd.store.many import insert_many, read_many
from healthd.store.schema import account_counts, accounts, as_time
from healthd.store.words import upsert

T = TypeVar("T")

CHUNK = 500
"""Values in one ``IN (…)``: well under SQLite's limit on bound parameters."""
ONE_PERSONS = 20
"""Accounts behind one login that may be one person's; more of them are many people's who use the same platform."""
WORKING = frozenset({State.UNKNOWN, State.HEALTHY, State.EXPIRING, State.SUSPECT})


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
    auto_paused_at: datetime | None = None
    muted_until: datetime | None = None
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


_STATES = {state.value: state for state in State}
_CAUSES = {None: None} | {cause.value: cause for cause in Cause}
_LANES = {lane.value: lane for lane in Lane}
_MACHINE = tuple(Account.__dataclass_fields__)
_BESIDE = tuple(name for name in StoredAccount.__dataclass_fields__ if name != "account")
STORED = select(*accounts.c[*_MACHINE, *_BESIDE])
"""Accounts as ``rows`` reads them: add what narrows it down."""


def _stored(row: Sequence[Any]) -> StoredAccount:
    """From a row of ``STORED``, by position: these come by the thousand."""
    workspace, ref, platform, state, paused, as_of, changed_at, suspicion, *figures = row[: len(_MACHINE)]
    account_id, *beside = row[len(_MACHINE) :]
    beside[-1] = _LANES[beside[-1]]
    machine = Account(
        workspace, ref, platform, _STATES[state], paused, as_of, changed_at, _CAUSES[suspicion or None], *figures
    )
    return StoredAccount(account_id, machine, *beside)


_BY_REF = STORED.where(
    accounts.c.workspace == bindparam("workspace"), accounts.c.ref.in_(bindparam("refs", expanding=True))
)
_BY_ID = STORED.where(accounts.c.id == bindparam("row_id"))
_BY_IDS = STORED.where(accounts.c.id.in_(bindparam("row_ids", expanding=True)))


def rows(connection: Connection, query: Select[Any]) -> list[StoredAccount]:
    """What a query made of ``STORED`` finds."""
    return [_stored(row) for row in connection.execute(query)]


def load(connection: Connection, workspace: str, refs: Iterable[str]) -> dict[str, StoredAccount]:
    """The accounts with these refs, by ref."""
    found = {}
    for chunk in chunked(dict.fromkeys(refs)):
        for row in connection.execute(_BY_REF, {"workspace": workspace, "refs": chunk}).all():
            stored = _stored(row)
            found[stored.account.ref] = stored
    return found


def by_id(connection: Connection, account_id: int) -> StoredAccount | None:
    row = connection.execute(_BY_ID, {"row_id": account_id}).first()
    return None if row is None else _stored(row)


def by_ids(connection: Connection, account_ids: Iterable[int]) -> dict[int, StoredAccount]:
    """Those that there are, by id."""
    found = {}
    for chunk in chunked(dict.fromkeys(account_ids)):
        for row in connection.execute(_BY_IDS, {"row_ids": chunk}).all():
            stored = _stored(row)
            found[stored.id] = stored
    return found


def find(connection: Connection, words: str, limit: int = 20) -> list[StoredAccount]:
    """Accounts that a person means by ``workspace/ref``, a ref, or a part of a name."""
    workspace, _, ref = words.rpartition("/")
    exact = and_(accounts.c.ref == ref, accounts.c.workspace == workspace) if workspace else accounts.c.ref == words
    rows = connection.execute(STORED.where(exact).limit(limit)).all()
    if not rows:
        named = or_(*(column.icontains(words, autoescape=True) for column in (accounts.c.name, accounts.c.username)))
        rows = connection.execute(STORED.where(named).order_by(accounts.c.id).limit(limit)).all()
    return [_stored(row) for row in rows]


def listing(
    connection: Connection, *, workspace: str | None, states: Sequence[State], platform: str | None, limit: int
) -> list[StoredAccount]:
    query = STORED.order_by(accounts.c.workspace, accounts.c.id).limit(limit)
    if workspace:
        query = query.where(accounts.c.workspace == workspace)
    if states:
        query = query.where(accounts.c.state.in_(states))
    if platform:
        query = query.where(accounts.c.platform == platform)
    return [_stored(row) for row in connection.execute(query)]


_COLUMNS = (*_MACHINE, *_BESIDE)
_of_machine, _of_beside = attrgetter(*_MACHINE), attrgetter(*_BESIDE)


def _values(stored: StoredAccount) -> tuple[Any, ...]:
    """In the order of ``_COLUMNS``."""
    return (*_of_machine(stored.account), *_of_beside(stored))


@cache
def _update_of(columns: tuple[str, ...]) -> Update:
    values = {name: bindparam(f"new_{name}", type_=accounts.c[name].type) for name in columns}
    return update(accounts).where(accounts.c.id == bindparam("row_id")).values(values)


def write(connection: Connection, changed: Sequence[tuple[StoredAccount, StoredAccount]]) -> None:
    """Writes accounts as (before, after) pairs, and keeps the counts true in the same transaction. Only columns that
    differ are written: each that is rewrites the indexes that it stands in.
    """
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for before, after in changed:
        pairs = zip(_COLUMNS, _values(before), _values(after), strict=True)
        new = {name: value for name, old, value in pairs if value != old}
        if new:
            row = {"row_id": after.id} | {f"new_{name}": value for name, value in new.items()}
            alike.setdefault(tuple(new), []).append(row)
    for columns, rows in alike.items():
        connection.execute(_update_of(columns), rows)
    delta: Counter[tuple[str, str, str, bool]] = Counter()
    for before, after in changed:
        delta[_count_key(before)] -= 1
        delta[_count_key(after)] += 1
    _count(connection, delta)


_MUTE = update(accounts).where(accounts.c.id == bindparam("row_id")).values(muted_until=bindparam("until"))


def mute(connection: Connection, account_id: int, until: datetime | None) -> None:
    """Nobody is told of the account until then; of one that is muted no longer they are."""
    connection.execute(_MUTE, {"row_id": account_id, "until": until})


_LAST_ID = select(func.coalesce(func.max(accounts.c.id), 0))
_FROM_SEQUENCE = select(func.nextval("accounts_id_seq")).select_from(
    func.generate_series(1, bindparam("number")).table_valued()
)


def new_ids(connection: Connection, number: int) -> Sequence[int]:
    """Ids for so many new accounts, in a transaction that writes: nobody else gets the same ones."""
    if connection.dialect.name == "postgresql":
        return list(connection.execute(_FROM_SEQUENCE, {"number": number}).scalars())
    last = connection.execute(_LAST_ID).scalar_one()
    return range(last + 1, last + 1 + number)


def create(connection: Connection, fresh: Sequence[StoredAccount]) -> None:
    """Inserts accounts; one that has no ``id`` (0) is given one."""
    if not fresh:
        return
    nameless = [stored for stored in fresh if not stored.id]
    if nameless:
        ids = iter(new_ids(connection, len(nameless)))
        fresh = [stored if stored.id else replace(stored, id=next(ids)) for stored in fresh]
    insert_many(connection, accounts, _COLUMNS, map(_values, fresh))
    _count(connection, Counter(_count_key(stored) for stored in fresh))
    if connection.dialect.name == "postgresql" and any(_doubles(stored.id) for stored in fresh):
        connection.execute(_LOOK_AGAIN)


_LOOK_AGAIN = text("ANALYZE (SKIP_LOCKED) accounts")
"""By itself PostgreSQL looks how a table has grown a minute later. A hundred thousand newcomers would come meanwhile,
each few of them compared with all the others, which is how a table is read that is thought to be small.
"""


def _doubles(account_id: int) -> bool:
    """Whether with this account there have been twice as many as at the last such time."""
    return account_id > CHUNK and account_id & (account_id - 1) == 0


def _count_key(stored: StoredAccount) -> tuple[str, str, str, bool]:
    account = stored.account
    return account.workspace, account.platform, account.state, account.paused


_COUNT = upsert(account_counts)
_COUNT = _COUNT.on_conflict_do_update(
    index_elements=["workspace", "platform", "state", "paused"],
    set_={"total": account_counts.c.total + _COUNT.excluded.total},
)


def _count(connection: Connection, delta: Counter[tuple[str, str, str, bool]]) -> None:
    rows = [
        {"workspace": workspace, "platform": platform, "state": state, "paused": paused, "total": change}
        for (workspace, platform, state, paused), change in delta.items()
        if change
    ]
    if rows:
        connection.execute(_COUNT, rows)


def counts(connection: Connection) -> list[tuple[str, str, State, bool, int]]:
    """``(workspace, platform, state, paused, count)`` without counting a single account."""
    rows = connection.execute(select(account_counts).where(account_counts.c.total != 0))
    return [(row.workspace, row.platform, State(row.state), row.paused, row.total) for row in rows]


class Known(NamedTuple):
    """The few facts of an account against which a sweep compares a reading."""

    state: State
    paused: bool
    validity_days: int | None
    error_since: datetime | None
    missing: bool


class _Sharing(dict[tuple[Any, ...], Known]):
    """Of a million accounts few differ in these facts: those that do not share one object."""

    def __missing__(self, facts: tuple[Any, ...]) -> Known:
        state, paused, validity, errors, missing = facts
        made = self[facts] = Known(_STATES[state], bool(paused), validity, as_time(errors), bool(missing))
        return made


_FACTS = (
    accounts.c.state,
    accounts.c.paused,
    accounts.c.validity_days,
    accounts.c.error_since,
    accounts.c.missing_since.is_not(None),
)
_HERE = and_(accounts.c.workspace == bindparam("workspace"), accounts.c.profile == bindparam("profile"))
_KNOWN = select(accounts.c.ref, *_FACTS).where(_HERE)
_LISTED = select(accounts.c.ref, accounts.c.name, accounts.c.username, *_FACTS).where(_HERE)


def known(connection: Connection, workspace: str, profile: str) -> dict[str, Known]:
    """All accounts of a workspace's profile, as a sweep compares them."""
    sharing = _Sharing()
    rows = read_many(connection, _KNOWN, {"workspace": workspace, "profile": profile})
    return {ref: sharing[tuple(facts)] for ref, *facts in rows}


@dataclass(frozen=True, slots=True)
class OnRecord:
    """All accounts of a workspace's profile, as the inventory compares them; of their names it is enough to know
    whether they differ.
    """

    known: dict[str, Known]
    names: dict[str, int]

    def is_listed_anew(self, ref: str, name: str, username: str | None) -> bool:
        """Whether an entry of the list is one that is not on record so."""
        before = self.known.get(ref)
        if before is None or before.missing or before.state is State.REMOVED:
            return True
        differs = self.names[ref] ^ _digest(name, username)
        return bool(differs if username else differs >> _BITS)


_BITS = 64


def _digest(name: str, username: str | None) -> int:
    """Python's own hashes of both, side by side: they hold for as long as the process does."""
    kept = (1 << _BITS) - 1
    return (hash(name) & kept) << _BITS | (hash(username or "") & kept)


def on_record(connection: Connection, workspace: str, profile: str) -> OnRecord:
    """All accounts of a workspace's profile, with what tells whether their names have changed."""
    sharing, found = _Sharing(), OnRecord({}, {})
    for ref, name, username, *facts in read_many(connection, _LISTED, {"workspace": workspace, "profile": profile}):
        found.known[ref] = sharing[tuple(facts)]
        found.names[ref] = _digest(name, username)
    return found


class Shown(NamedTuple):
    """The few facts of an account against which the inventory compares its entry; ``paused`` by others than us."""

    id: int
    name: str
    username: str | None
    profile: str
    missing: bool
    removed: bool
    paused: bool


_SHOWN = select(
    accounts.c.ref,
    accounts.c.id,
    accounts.c.name,
    accounts.c.username,
    accounts.c.profile,
    accounts.c.missing_since.is_not(None),
    accounts.c.state == State.REMOVED,
    and_(accounts.c.paused, accounts.c.auto_paused_at.is_(None)),
).where(accounts.c.workspace == bindparam("workspace"), accounts.c.ref.in_(bindparam("refs", expanding=True)))


def shown(connection: Connection, workspace: str, refs: Iterable[str]) -> dict[str, Shown]:
    """The accounts with these refs, by ref, as the inventory compares them."""
    return {
        ref: Shown(*facts)
        for chunk in chunked(refs)
        for ref, *facts in connection.execute(_SHOWN, {"workspace": workspace, "refs": chunk}).all()
    }


_DUE = (
    select(accounts.c.id, accounts.c.ref, accounts.c.profile)
    .where(
        accounts.c.workspace == bindparam("workspace"),
        accounts.c.probe_lane == bindparam("lane"),
        accounts.c.probe_at <= bindparam("now"),
    )
    .order_by(accounts.c.probe_at)
    .limit(bindparam("most"))
)
_PUT_OFF = update(accounts).where(accounts.c.id == bindparam("row_id")).values(probe_at=bindparam("until"))


def claim_probes(
    connection: Connection, workspace: str, lanes: Sequence[Lane], now: datetime, lease: timedelta, limit: int
) -> list[Probe]:
    """Takes due accounts, the most urgent and then the longest waiting first; each comes again after ``lease`` unless
    what is learnt of it says otherwise, so a crash loses no probe.
    """
    claimed: list[Probe] = []
    for lane in lanes:
        wanted = {"workspace": workspace, "lane": lane, "now": now, "most": limit - len(claimed)}
        claimed += [Probe(*row, lane=lane) for row in connection.execute(_DUE, wanted)]
        if len(claimed) >= limit:
            break
    if claimed:
        connection.execute(_PUT_OFF, [{"row_id": probe.account_id, "until": now + lease} for probe in claimed])
    return claimed


_NEXT_DUE = select(func.min(accounts.c.probe_at)).where(accounts.c.workspace == bindparam("workspace"))


@cache
def _next_dues(lanes: tuple[Lane, ...]) -> Select[*tuple[datetime | None, ...]]:
    """One column for each lane: asked together, each lane is a look at its index."""
    return select(*(_NEXT_DUE.where(accounts.c.probe_lane == lane).scalar_subquery() for lane in lanes))


def next_due(connection: Connection, workspace: str, lanes: Sequence[Lane]) -> datetime | None:
    """When the next probe in these lanes is due."""
    dues = connection.execute(_next_dues(tuple(lanes)), {"workspace": workspace}).one() if lanes else ()
    return min((due for due in dues if due is not None), default=None)


_AT = bindparam("at", type_=accounts.c.probe_at.type)
_LANE = bindparam("lane", type_=accounts.c.probe_lane.type)
_LATER = or_(accounts.c.probe_at.is_(None), accounts.c.probe_at > _AT)
_BRING_FORWARD = (
    update(accounts)
    .where(
        accounts.c.id.in_(bindparam("ids", expanding=True)),
        or_(_LATER, accounts.c.probe_lane > _LANE),
        accounts.c.state != State.REMOVED,
    )
    .values(
        probe_at=case((_LATER, _AT), else_=accounts.c.probe_at),
        probe_lane=case((accounts.c.probe_lane > _LANE, _LANE), else_=accounts.c.probe_lane),
    )
)


def schedule_probe(connection: Connection, account_ids: Sequence[int], at: datetime, lane: Lane) -> None:
    """Brings probes forward to ``at`` and into ``lane``; what is due earlier, or more urgent, stays so."""
    for chunk in chunked(account_ids):
        connection.execute(_BRING_FORWARD, {"ids": chunk, "at": at, "lane": lane})


_POSTPONE = _PUT_OFF.values(probe_lane=bindparam("lane"))


def postpone_probe(connection: Connection, account_id: int, at: datetime, lane: Lane) -> None:
    """After a probe that could not look."""
    connection.execute(_POSTPONE, {"row_id": account_id, "until": at, "lane": lane})


_OVERDUE = (
    select(accounts.c.workspace, accounts.c.ref)
    .where(accounts.c.confirm_by <= bindparam("now"))
    .order_by(accounts.c.confirm_by)
    .limit(bindparam("most"))
)
_OVERDUE_HERE = _OVERDUE.where(accounts.c.workspace == bindparam("here"))


def overdue_confirmations(
    connection: Connection, now: datetime, limit: int, workspace: str | None = None
) -> list[tuple[str, str]]:
    """``(workspace, ref)`` of suspects, in one workspace or in all, whose time to be confirmed has run out."""
    query = _OVERDUE if workspace is None else _OVERDUE_HERE
    asked = {"now": now, "most": limit, "here": workspace}
    return [(place, ref) for place, ref in connection.execute(query, asked)]


_NEXT_CONFIRMATION = select(func.min(accounts.c.confirm_by)).where(accounts.c.confirm_by.is_not(None))


def next_confirmation(connection: Connection) -> datetime | None:
    """When the time of the next suspect runs out."""
    return connection.execute(_NEXT_CONFIRMATION).scalar()


_SIBLINGS = (
    select(accounts.c.id)
    .where(
        accounts.c.workspace == bindparam("workspace"),
        accounts.c.state.in_(bindparam("states", expanding=True)),
        accounts.c.profile == bindparam("profile"),
        accounts.c.platform.in_(bindparam("platforms", expanding=True)),
        accounts.c.id != bindparam("row_id"),
    )
    .limit(bindparam("most"))
)


def broken_siblings(connection: Connection, stored: StoredAccount, limit: int = 100) -> list[int]:
    """Broken accounts behind the same login: same workspace and profile, same family of platforms."""
    return _siblings(connection, stored, BROKEN, limit)


def well_siblings(connection: Connection, stored: StoredAccount) -> list[int]:
    """The other accounts behind the same login, where they are few enough to be one person's."""
    found = _siblings(connection, stored, WORKING, ONE_PERSONS + 1)
    return found if len(found) <= ONE_PERSONS else []


def has_siblings(connection: Connection, stored: StoredAccount) -> bool:
    """Whether there is another account behind the same login."""
    return bool(_siblings(connection, stored, BROKEN | WORKING, 1))


def _siblings(connection: Connection, stored: StoredAccount, states: Collection[State], limit: int) -> list[int]:
    account = stored.account
    here = {
        "workspace": account.workspace,
        "profile": stored.profile,
        "platforms": list(login_family(account.platform)),
    }
    asked = {**here, "states": list(states), "row_id": stored.id, "most": limit}
    return list(connection.execute(_SIBLINGS, asked).scalars())


_MISS = (
    update(accounts)
    .where(
        accounts.c.workspace == bindparam("here"),
        accounts.c.ref.in_(bindparam("refs", expanding=True)),
        accounts.c.missing_since.is_(None),
    )
    .values(missing_since=bindparam("now"))
    .returning(accounts.c.id)
)


def mark_missing(connection: Connection, workspace: str, refs: Iterable[str], now: datetime) -> list[int]:
    """Notes that the inventory no longer shows these accounts; returns the ids of those newly missed."""
    ids: list[int] = []
    for chunk in chunked(refs):
        ids += connection.execute(_MISS, {"here": workspace, "refs": chunk, "now": now}).scalars()
    return ids


def as_json(stored: StoredAccount) -> dict[str, Any]:
    """The account as a script sees it; times in ISO 8601."""
    facts = asdict(stored.account) | {
        "profile": stored.profile or None,
        "name": stored.name,
        "username": stored.username,
        "muted_until": stored.muted_until,
        "next_probe_at": stored.probe_at,
    }
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in facts.items()}
