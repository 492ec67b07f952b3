"""Pages of accounts, incidents and notices, for people and scripts that look through many of them.

Each page begins where the one before ended (keyset paging): the thousandth page of a million rows costs what the first
one does, and nothing is shown twice because something else came in meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
)

from healthd.core.model import BROKEN, Cause, NoticeKind, NoticeStatus, State
from healthd.store import accounts as stored_accounts
from healthd.store import contacts as stored_contacts
from healthd.store import incidents as stored_incidents
from healthd.store import notices as stored_notices
from healthd.store import storms as stored_storms
from healthd.store.accounts import StoredAccount
from healthd.store.contacts import BadAddress, StoredAssignment, StoredContact
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from healthd.store.schema import (
    DEAD,
    EPOCH,
    HELD,
    OPEN,
    accounts,
    assignments,
    bad_addresses,
    contacts,
    incidents,
    notices,
    storms,
)
from healthd.store.storms import Storm

T = TypeVar("T")

MOST = 200
"""Rows of a page."""


class BadCursor(ValueError):
    """A page was asked for with a place that no page of this kind has given."""


class Sort(StrEnum):
    """``CHANGED`` shows first what has been in its state for the longest, ``NEWEST`` what moved last. Accounts of which
    nothing is known yet stand in neither: they have been in no state.
    """

    NAME = "name"
    CHANGED = "changed"
    NEWEST = "newest"
    ID = "id"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """``after`` is where the next page begins; ``None`` on the last one."""

    rows: list[T]
    after: str | None = None


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts; what is empty does not matter. ``muted_at``: those that are ``muted`` then, or are not.
    ``words``: an id, ``workspace/id``, or a part of a name or a handle.
    """

    workspaces: Sequence[str] = ()
    platforms: Sequence[str] = ()
    states: Sequence[State] = ()
    profile: str | None = None
    paused: bool | None = None
    muted_at: datetime | None = None
    muted: bool = True
    words: str = ""


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident with the account that it is about."""

    incident: Incident
    account: StoredAccount


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A notice; ``account`` where it is about one."""

    notice: StoredNotice
    account: StoredAccount | None


def cursor(*place: Any) -> str:
    """A place in an order, as one word that is safe in an address."""
    text_of = json.dumps(
        [(at - EPOCH) // timedelta(microseconds=1) if isinstance(at, datetime) else at for at in place]
    )
    return base64.urlsafe_b64encode(text_of.encode()).decode().rstrip("=")


def place(given: str, *kinds: type) -> list[Any]:
    """What ``cursor`` made it of. Raises ``BadCursor``."""
    try:
        found = json.loads(base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise BadCursor("this page does not exist: begin again without a cursor") from None
    if not isinstance(found, list) or len(found) != len(kinds):
        raise BadCursor("this page does not exist: begin again without a cursor")
    return [_as(kind, value) for kind, value in zip(kinds, found, strict=True)]


def _as(kind: type, value: object) -> Any:
    if kind is datetime and type(value) is int and 0 <= value < 1 << 57:
        return EPOCH + timedelta(microseconds=value)
    if kind is int and type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value
    # Half a surrogate pair is text to Python, and to no database.
    if kind is str and isinstance(value, str) and value.encode("utf-8", "ignore").decode() == value:
        return value
    raise BadCursor("this page does not exist: begin again without a cursor")


# Not the bare column, so that no index has this order: what narrows a query down further is taken instead.
_BY_CHANGE = type_coerce(type_coerce(accounts.c.changed_at, BigInteger) + 0, accounts.c.changed_at.type)
_UNORDERED: Mapping[Sort, Any] = {
    Sort.NAME: accounts.c.name + "",
    Sort.CHANGED: _BY_CHANGE,
    Sort.NEWEST: _BY_CHANGE,
    Sort.ID: accounts.c.id + 0,
}
_ORDERS: Mapping[Sort, tuple[Callable[[StoredAccount], Any], type, Any]] = {
    Sort.NAME: (lambda one: one.name, str, accounts.c.name),
    Sort.CHANGED: (lambda one: one.account.changed_at, datetime, accounts.c.changed_at),
    Sort.NEWEST: (lambda one: one.account.changed_at, datetime, accounts.c.changed_at),
    Sort.ID: (lambda one: one.id, int, accounts.c.id),
}


def accounts_page(
    connection: Connection, wanted: AccountFilter, sort: Sort = Sort.ID, after: str | None = None, limit: int = 50
) -> Page[StoredAccount]:
    """Accounts in this order, from the cursor on. Raises ``BadCursor``."""
    value_of, kind, column = _ORDERS[sort]
    if _is_narrow(wanted):
        column = _UNORDERED[sort]
    downwards = sort is Sort.NEWEST
    query = stored_accounts.STORED.where(*_account_conditions(connection, wanted))
    if kind is datetime:
        query = query.where(accounts.c.changed_at.is_not(None))
    if after is not None:
        value, last = place(after, kind, int)
        query = query.where(_beyond((column, accounts.c.id), (value, last), downwards=downwards))
    order = (column.desc(), accounts.c.id.desc()) if downwards else (column, accounts.c.id)
    found = stored_accounts.rows(connection, query.order_by(*order).limit(min(limit, MOST) + 1))
    return _cut(found, limit, lambda one: cursor(value_of(one), one.id))


def _is_narrow(wanted: AccountFilter) -> bool:
    """Whether an index leaves few rows, which are sorted then. SQLite has no figures, and would walk through a million
    rows in their order to find the three that match.
    """
    broken = bool(wanted.states) and State.HEALTHY not in wanted.states and bool(wanted.workspaces)
    return broken or wanted.paused is True or (wanted.muted_at is not None and wanted.muted)


def _account_conditions(connection: Connection, wanted: AccountFilter) -> list[ColumnElement[bool]]:
    words = wanted.words.strip()
    # In a search the index of names is walked, which the one of workspaces would not leave.
    workspace = accounts.c.workspace + "" if words else accounts.c.workspace
    named: list[ColumnElement[bool]] = [
        column.in_(values)
        for column, values in (
            (workspace, wanted.workspaces),
            (accounts.c.platform, wanted.platforms),
            (accounts.c.state, wanted.states),
        )
        if values
    ]
    if wanted.profile is not None:
        named.append(accounts.c.profile == wanted.profile)
    if wanted.paused is not None:
        named.append(text("paused") if wanted.paused else text("NOT paused"))  # type: ignore[arg-type]
    if wanted.muted_at is not None:
        silent = accounts.c.muted_until > wanted.muted_at
        named.append(silent if wanted.muted else or_(accounts.c.muted_until.is_(None), ~silent))
    if words:
        named.append(_called(connection, words))
    return named


def _called(connection: Connection, words: str) -> ColumnElement[bool]:
    here, _, ref = words.rpartition("/")
    if here and (found := stored_accounts.load(connection, here, [ref])):
        return accounts.c.id == found[ref].id
    searched = (accounts.c.name, accounts.c.username)
    return or_(accounts.c.ref == words, *(column.icontains(words, autoescape=True) for column in searched))


def _beyond(columns: Sequence[Any], given: Sequence[Any], *, downwards: bool) -> ColumnElement[bool]:
    """Rows after this place. Each value takes its column's type, which a tuple would not give it."""
    here = tuple_(*columns)
    there = tuple_(*(literal(value, column.type) for column, value in zip(columns, given, strict=True)))
    return here < there if downwards else here > there


def _cut(found: list[T], limit: int, place_of: Callable[[T], str]) -> Page[T]:
    """One row more than a page was asked for: it says that there is a next one."""
    most = min(limit, MOST)
    return Page(found[:most], place_of(found[most - 1]) if len(found) > most else None)


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """Which incidents. ``only_open`` without those that are over, ``only_over`` without the others."""

    workspaces: Sequence[str] = ()
    platforms: Sequence[str] = ()
    causes: Sequence[Cause] = ()
    account_id: int | None = None
    storm_id: str | None = None
    only_open: bool = False
    only_over: bool = False
    untold: bool = False


def incidents_page(
    connection: Connection, wanted: IncidentFilter, after: str | None = None, limit: int = 50
) -> Page[IncidentRow]:
    """Incidents, the newest first. Raises ``BadCursor``."""
    query = stored_incidents.INCIDENTS.where(*_incident_conditions(wanted))
    if after is not None:
        opened_at, last = place(after, datetime, str)
        query = query.where(_beyond((incidents.c.opened_at, incidents.c.id), (opened_at, last), downwards=True))
    query = query.order_by(incidents.c.opened_at.desc(), incidents.c.id.desc()).limit(min(limit, MOST) + 1)
    page = _cut(stored_incidents.rows(connection, query), limit, lambda one: cursor(one.opened_at, one.id))
    about = stored_accounts.by_ids(connection, [one.account_id for one in page.rows])
    return Page([IncidentRow(one, about[one.account_id]) for one in page.rows], page.after)


def _incident_conditions(wanted: IncidentFilter) -> list[ColumnElement[bool]]:
    named: list[ColumnElement[bool]] = [
        column.in_(values)
        for column, values in (
            (incidents.c.workspace, wanted.workspaces),
            (incidents.c.platform, wanted.platforms),
            (incidents.c.cause, wanted.causes),
        )
        if values
    ]
    if wanted.account_id is not None:
        named.append(incidents.c.account_id == wanted.account_id)
    if wanted.storm_id is not None:
        named.append(incidents.c.storm_id == wanted.storm_id)
    if wanted.only_open or wanted.untold:
        named.append(text(OPEN))  # type: ignore[arg-type]  # word for word: see schema.IN_WORK
    if wanted.only_over:
        named.append(incidents.c.resolved_at.is_not(None))
    if wanted.untold:
        named.append(~exists().where(*stored_notices.REACHES_SOMEBODY))
    return named


@dataclass(frozen=True, slots=True)
class NoticeFilter:
    """Which notices; those for a customer's own app (``EVENT``) only where they are asked for by kind."""

    statuses: Sequence[NoticeStatus] = ()
    kinds: Sequence[NoticeKind] = ()
    channels: Sequence[str] = ()
    account_id: int | None = None
    incident_id: str | None = None
    contact: str = ""


def notices_page(
    connection: Connection, wanted: NoticeFilter, after: str | None = None, limit: int = 50
) -> Page[NoticeRow]:
    """Notices, the newest first. Raises ``BadCursor``."""
    query: Select[Any] = select(notices).where(*_notice_conditions(wanted))
    if after is not None:
        created_at, last = place(after, datetime, str)
        query = query.where(_beyond((notices.c.created_at, notices.c.id), (created_at, last), downwards=True))
    query = query.order_by(notices.c.created_at.desc(), notices.c.id.desc()).limit(min(limit, MOST) + 1)
    page = _cut(stored_notices.rows(connection, query), limit, lambda one: cursor(one.created_at, one.id))
    about = stored_accounts.by_ids(connection, [one.account_id for one in page.rows if one.account_id is not None])
    return Page([NoticeRow(one, about.get(one.account_id or 0)) for one in page.rows], page.after)


WORD_FOR_WORD = {NoticeStatus.HELD: HELD, NoticeStatus.DEAD: DEAD}
"""Said so that a database sees which partial index covers it: see ``schema.IN_WORK``."""


def _notice_conditions(wanted: NoticeFilter) -> list[ColumnElement[bool]]:
    named: list[ColumnElement[bool]] = [
        column.in_(values)
        for column, values in (
            (notices.c.status, wanted.statuses),
            (notices.c.kind, wanted.kinds),
            (notices.c.channel, wanted.channels),
        )
        if values
    ]
    named += [text(said) for status, said in WORD_FOR_WORD.items() if [*wanted.statuses] == [status]]  # type: ignore[misc]
    if not wanted.kinds:
        named.append(notices.c.kind != NoticeKind.EVENT)
    if wanted.account_id is not None:
        named.append(notices.c.account_id == wanted.account_id)
    if wanted.incident_id is not None:
        named.append(notices.c.incident_id == wanted.incident_id)
    if wanted.contact:
        named.append(notices.c.contact == wanted.contact)
    return named


def storms_page(
    connection: Connection, after: str | None = None, limit: int = 50, *, lasting: bool | None = None
) -> Page[Storm]:
    """Storms, the newest first; ``lasting`` or over. Raises ``BadCursor``."""
    query = select(storms).order_by(storms.c.began_at.desc(), storms.c.id.desc())
    if lasting is not None:
        query = query.where(storms.c.ended_at.is_(None) if lasting else storms.c.ended_at.is_not(None))
    if after is not None:
        began_at, last = place(after, datetime, str)
        query = query.where(tuple_(storms.c.began_at, storms.c.id) < tuple_(began_at, last))
    found = stored_storms.rows(connection, query.limit(min(limit, MOST) + 1))
    return _cut(found, limit, lambda one: cursor(one.began_at, one.id))


def contacts_page(connection: Connection, after: str | None = None, limit: int = 50) -> Page[StoredContact]:
    """Contacts by key. Raises ``BadCursor``."""
    query = select(contacts).order_by(contacts.c.key)
    if after is not None:
        query = query.where(contacts.c.key > place(after, str)[0])
    found = stored_contacts.contact_rows(connection, query.limit(min(limit, MOST) + 1))
    return _cut(found, limit, lambda one: cursor(one.contact.key))


def owners_page(
    connection: Connection, workspaces: Sequence[str] = (), after: str | None = None, limit: int = 50
) -> Page[StoredAssignment]:
    """Owners on record, by workspace, scope and ref. Raises ``BadCursor``."""
    key = (assignments.c.workspace, assignments.c.scope, assignments.c.ref)
    query = select(assignments).order_by(*key)
    if workspaces:
        query = query.where(assignments.c.workspace.in_(workspaces))
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*place(after, str, str, str)))
    found = stored_contacts.assignment_rows(connection, query.limit(min(limit, MOST) + 1))
    return _cut(found, limit, lambda one: cursor(*one.owned.place))


def bad_addresses_page(connection: Connection, after: str | None = None, limit: int = 50) -> Page[BadAddress]:
    """Addresses that reach nobody, by channel and address. Raises ``BadCursor``."""
    key = (bad_addresses.c.channel, bad_addresses.c.address)
    query = select(bad_addresses).order_by(*key)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*place(after, str, str)))
    found = stored_contacts.bad_rows(connection, query.limit(min(limit, MOST) + 1))
    return _cut(found, limit, lambda one: cursor(one.target.channel, one.target.address))


def broken_by_day(connection: Connection, since: datetime, workspaces: Sequence[str]) -> dict[str, Counter[date]]:
    """How many incidents opened on each day (UTC) since then, by platform."""
    day = (type_coerce(incidents.c.opened_at, BigInteger) // 86_400_000_000).label("day")
    query = (
        select(incidents.c.platform, day, func.count())
        .where(incidents.c.workspace.in_(workspaces) if workspaces else false(), incidents.c.opened_at >= since)
        .group_by(incidents.c.platform, text("day"))
    )
    found: dict[str, Counter[date]] = {}
    for platform, number, count in connection.execute(query):
        found.setdefault(platform, Counter())[(EPOCH + timedelta(days=number)).date()] = count
    return found


def longest_broken(connection: Connection, workspaces: Sequence[str], limit: int = 10) -> list[StoredAccount]:
    """Accounts that have been broken for the longest."""
    wanted = AccountFilter(workspaces=workspaces, states=sorted(BROKEN))
    return accounts_page(connection, wanted, Sort.CHANGED, limit=limit).rows
