"""People, who is responsible for what, what the customer's endpoint said of it, and addresses that reach nobody.

What another version of healthd, or a hand, wrote badly is read as far as it goes, and what does not is named: an
account whose contact cannot be read must not keep the engine from opening its incident.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, and_, bindparam, delete, exists, func, or_, select, text, update

from healthd.core.contacts import (
    EVERY_DAY,
    Contact,
    Hours,
    format_days,
    format_quiet,
    format_zone,
    parse_days,
    parse_quiet,
    parse_zone,
)
from healthd.core.model import Target
from healthd.core.owners import SCOPES, Assignment, Owned, Resolved, ResolvedLevel, assigned
from healthd.store.schema import assignments, bad_addresses, contacts, links, notices, resolved
from healthd.store.words import upsert

T = TypeVar("T")

FILE, API, RESOLVER = "file", "api", "resolver"

_NO_ADDRESSES: tuple[Target, ...] = ()
_NO_OWNERS: tuple[tuple[str, ...], ...] = ()
_NO_LEVELS: tuple[ResolvedLevel, ...] = ()
_NO_LABELS: Mapping[str, str] = {}
_NO_ZONE: tzinfo = UTC

_CONTACT = tuple(column.name for column in contacts.c)
_ALL = select(contacts).order_by(contacts.c.key)
_ONE = select(contacts).where(contacts.c.key == bindparam("wanted"))
_THESE = select(contacts).where(contacts.c.key.in_(bindparam("wanted", expanding=True)))
_FORGET = delete(contacts).where(contacts.c.key == bindparam("wanted"))
_REVOKE = (
    update(links)
    .where(
        links.c.target == bindparam("of_target"),
        links.c.incident_id.in_(
            select(notices.c.incident_id).where(
                notices.c.channel == bindparam("of_channel"),
                notices.c.address == bindparam("of_address"),
                notices.c.contact == bindparam("of_key"),
            )
        ),
    )
    .values(revoked_at=bindparam("now"))
)
_INSERT = upsert(contacts)
_PUT = _INSERT.on_conflict_do_update(
    index_elements=["key"], set_={name: _INSERT.excluded[name] for name in _CONTACT if name != "key"}
)
_PUT_RESOLVED = _INSERT.on_conflict_do_update(
    index_elements=["key"],
    set_={name: _INSERT.excluded[name] for name in _CONTACT if name != "key"},
    where=text(f"contacts.source = '{RESOLVER}'"),
)

_OWNED = select(assignments).order_by(assignments.c.workspace, assignments.c.scope, assignments.c.ref)
_APPLYING = select(assignments).where(
    assignments.c.workspace == bindparam("of_workspace"),
    or_(
        *(
            and_(
                assignments.c.scope == scope,
                assignments.c.ref == (bindparam(f"of_{scope}") if scope != "workspace" else ""),
            )
            for scope in SCOPES
        )
    ),
)
_INSERT_OWNED = upsert(assignments)
_ASSIGN = _INSERT_OWNED.on_conflict_do_update(
    index_elements=["workspace", "scope", "ref"],
    set_={name: _INSERT_OWNED.excluded[name] for name in ("owners", "labels", "source", "updated_at")},
)
_UNASSIGN = delete(assignments).where(
    assignments.c.workspace == bindparam("of_workspace"),
    assignments.c.scope == bindparam("of_scope"),
    assignments.c.ref == bindparam("of_ref"),
)

_INSERT_RESOLVED = upsert(resolved)
_KEEP = _INSERT_RESOLVED.on_conflict_do_update(
    index_elements=["workspace", "profile", "account"],
    set_={name: _INSERT_RESOLVED.excluded[name] for name in ("fetched_at", "levels", "labels")},
)
_KEPT = select(resolved).where(
    resolved.c.workspace == bindparam("of_workspace"),
    resolved.c.profile == bindparam("of_profile"),
    resolved.c.account == bindparam("of_account"),
)

_MARK = upsert(bad_addresses).on_conflict_do_nothing()
_CLEAR = delete(bad_addresses).where(
    bad_addresses.c.channel == bindparam("of_channel"), bad_addresses.c.address == bindparam("of_address")
)
_BAD = select(bad_addresses).order_by(bad_addresses.c.since, bad_addresses.c.channel, bad_addresses.c.address)
_BAD_AMONG = select(bad_addresses.c.channel, bad_addresses.c.address).where(
    bad_addresses.c.channel.in_(bindparam("channels", expanding=True)),
    bad_addresses.c.address.in_(bindparam("addresses", expanding=True)),
)


@dataclass(frozen=True, slots=True)
class StoredContact:
    """``wrong`` names what of the row could not be read: the contact does without it."""

    contact: Contact
    source: str
    updated_at: datetime
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """Contacts by key, as a plan asks for them, and what of each could not be read."""

    contacts: Mapping[str, Contact]
    wrong: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredAssignment:
    owned: Owned
    source: str
    updated_at: datetime
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the customer's endpoint said last, and when."""

    answer: Resolved
    fetched_at: datetime
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BadAddress:
    """An address that reaches nobody. ``reason`` is for operators, ``source`` who said so, such as ``"dsn"``."""

    target: Target
    since: datetime
    reason: str
    source: str


def put(connection: Connection, given: Iterable[Contact], source: str, now: datetime) -> None:
    """Adds the contacts, each in place of the one that was called so."""
    rows = [_row(contact, source, now) for contact in given]
    if rows:
        connection.execute(_PUT, rows)


def remove(connection: Connection, key: str, now: datetime) -> bool:
    """Whether there was such a contact. What names it still does, and reaches nobody there; the links that it was sent
    open nothing any more, unless somebody else is reached at that address.
    """
    found = get(connection, key)
    if found is None:
        return False
    connection.execute(_FORGET, {"wanted": key})
    elsewhere = {target for one in all_contacts(connection) for target in one.contact.addresses}
    for target in found.contact.addresses:
        if target not in elsewhere:
            about = {"of_key": key, "of_channel": target.channel, "of_address": target.address}
            connection.execute(_REVOKE, about | {"of_target": target.key, "now": now})
    return True


def get(connection: Connection, key: str) -> StoredContact | None:
    row = connection.execute(_ONE, {"wanted": key}).first()
    return None if row is None else _stored(row)


def all_contacts(connection: Connection) -> list[StoredContact]:
    """Everybody, by key."""
    return contact_rows(connection, _ALL)


def contact_rows(connection: Connection, query: Select[Any]) -> list[StoredContact]:
    """What a query of whole contacts finds."""
    return [_stored(row) for row in connection.execute(query)]


def directory(connection: Connection, keys: Iterable[str]) -> Directory:
    """The contacts of these keys that there are, in one read."""
    wanted = sorted(set(keys))
    found = [_stored(row) for row in connection.execute(_THESE, {"wanted": wanted})] if wanted else []
    return Directory(
        {one.contact.key: one.contact for one in found}, {one.contact.key: one.wrong for one in found if one.wrong}
    )


def assign(connection: Connection, given: Iterable[Owned], source: str, now: datetime) -> None:
    """Puts owners and labels on record, each in place of what stood there. Raises ``ValueError`` for no known scope."""
    rows = []
    for owned in given:
        if owned.scope not in SCOPES:
            raise ValueError(f"{owned.scope!r} is no scope: owners are on record for one of {', '.join(SCOPES)}")
        rows.append(
            {
                "workspace": owned.workspace,
                "scope": owned.scope,
                "ref": owned.ref,
                "owners": json.dumps([list(level) for level in owned.owners]),
                "labels": json.dumps(dict(owned.labels), ensure_ascii=False),
                "source": source,
                "updated_at": now,
            }
        )
    if rows:
        connection.execute(_ASSIGN, rows)


def unassign(connection: Connection, workspace: str, scope: str, ref: str) -> bool:
    """Whether anything was on record there."""
    place = {"of_workspace": workspace, "of_scope": scope, "of_ref": ref}
    return connection.execute(_UNASSIGN, place).rowcount > 0


def all_assignments(connection: Connection) -> list[StoredAssignment]:
    return assignment_rows(connection, _OWNED)


def assignment_rows(connection: Connection, query: Select[Any]) -> list[StoredAssignment]:
    """What a query of whole records of owners finds."""
    return [_stored_assignment(row) for row in connection.execute(query)]


def owned_at(connection: Connection, place: tuple[str, str, str]) -> StoredAssignment | None:
    """What is on record for exactly this workspace, scope and ref."""
    workspace, scope, ref = place
    query = select(assignments).where(
        assignments.c.workspace == workspace, assignments.c.scope == scope, assignments.c.ref == ref
    )
    return next(iter(assignment_rows(connection, query)), None)


_ANY = select(exists().where(assignments.c.workspace == bindparam("of_workspace")))


def has_assignments(connection: Connection, workspace: str) -> bool:
    """Whether anything is on record of whom this workspace's accounts belong to."""
    return bool(connection.execute(_ANY, {"of_workspace": workspace}).scalar())


def assignment(connection: Connection, workspace: str, platform: str, profile: str, account: str) -> Assignment:
    """Whom an account belongs to, in one read: the owners of the most specific record that has any, and all labels."""
    place = {"of_workspace": workspace, "of_platform": platform, "of_profile": profile, "of_account": account}
    found = [_stored_assignment(row) for row in connection.execute(_APPLYING, place)]
    decided = assigned(one.owned for one in found)
    wrong = tuple(f"{one.owned.says}: {what}" for one in found for what in one.wrong)
    return Assignment(decided.owners, decided.labels, decided.why, wrong)


def keep_answer(
    connection: Connection, workspace: str, profile: str, account: str, answer: Resolved, now: datetime
) -> None:
    """Keeps what the customer's endpoint said. Its contacts never take the place of those from a file or the API."""
    rows = [_row(contact, RESOLVER, now) for contact in answer.contacts.values()]
    if rows:
        connection.execute(_PUT_RESOLVED, rows)
    levels = [
        {"keys": list(level.keys), "after": None if level.after is None else level.after.total_seconds()}
        for level in answer.levels
    ]
    connection.execute(
        _KEEP,
        {
            "workspace": workspace,
            "profile": profile,
            "account": account,
            "fetched_at": now,
            "levels": json.dumps(levels),
            "labels": json.dumps(dict(answer.labels), ensure_ascii=False),
        },
    )


def kept_answer(connection: Connection, workspace: str, profile: str, account: str) -> KeptAnswer | None:
    """What it said last. Its contacts are as they stand in the store now, those from a file or the API among them."""
    place = {"of_workspace": workspace, "of_profile": profile, "of_account": account}
    row = connection.execute(_KEPT, place).first()
    if row is None:
        return None
    wrong: list[str] = []
    levels = _read(wrong, "levels", _levels, row.levels, _NO_LEVELS)
    labels = _read(wrong, "labels", _labels, row.labels, _NO_LABELS)
    found = directory(connection, (key for level in levels for key in level.keys))
    wrong += [f"contact {key}: {what}" for key, whats in found.wrong.items() for what in whats]
    return KeptAnswer(Resolved(levels, found.contacts, labels), row.fetched_at, tuple(wrong))


def mark_bad(connection: Connection, target: Target, now: datetime, reason: str, source: str) -> bool:
    """Notes that an address reaches nobody; whether that is news."""
    facts = {"channel": target.channel, "address": target.address, "since": now, "reason": reason, "source": source}
    return connection.execute(_MARK, facts).rowcount > 0


def clear_bad(connection: Connection, target: Target) -> bool:
    """Trusts an address again; whether it was marked."""
    place = {"of_channel": target.channel, "of_address": target.address}
    return connection.execute(_CLEAR, place).rowcount > 0


def all_bad(connection: Connection) -> list[BadAddress]:
    """Addresses that reach nobody, the longest known first."""
    return bad_rows(connection, _BAD)


def bad_rows(connection: Connection, query: Select[Any]) -> list[BadAddress]:
    """What a query of whole bad addresses finds."""
    return [
        BadAddress(Target(row.channel, row.address), row.since, row.reason, row.source)
        for row in connection.execute(query)
    ]


_BAD_COUNTS = select(bad_addresses.c.channel, func.count().label("total")).group_by(bad_addresses.c.channel)


def bad_counts(connection: Connection) -> dict[str, int]:
    """How many addresses of each channel reach nobody."""
    return {row.channel: row.total for row in connection.execute(_BAD_COUNTS)}


def bad_among(connection: Connection, targets: Iterable[Target]) -> frozenset[Target]:
    """Those of the targets that reach nobody, in one read."""
    wanted = frozenset(targets)
    if not wanted:
        return frozenset()
    names = {
        "channels": sorted({target.channel for target in wanted}),
        "addresses": sorted({target.address for target in wanted}),
    }
    return wanted & {Target(row.channel, row.address) for row in connection.execute(_BAD_AMONG, names)}


def _row(contact: Contact, source: str, now: datetime) -> dict[str, Any]:
    return {
        "key": contact.key,
        "name": contact.name,
        "addresses": json.dumps([target.key for target in contact.addresses], ensure_ascii=False),
        "zone": format_zone(contact.hours.zone),
        "quiet": format_quiet(contact.hours.quiet),
        "days": format_days(contact.hours.days),
        "language": contact.language,
        "source": source,
        "updated_at": now,
    }


def _stored(row: Row[Any]) -> StoredContact:
    wrong: list[str] = []
    hours = Hours(
        _read(wrong, "zone", parse_zone, row.zone, _NO_ZONE),
        _read(wrong, "quiet hours", parse_quiet, row.quiet, None),
        _read(wrong, "working days", parse_days, row.days, EVERY_DAY),
    )
    addresses = _read(wrong, "addresses", _addresses, row.addresses, _NO_ADDRESSES)
    return StoredContact(
        Contact(row.key, row.name, addresses, hours, row.language), row.source, row.updated_at, tuple(wrong)
    )


def _stored_assignment(row: Row[Any]) -> StoredAssignment:
    wrong: list[str] = []
    owners = _read(wrong, "owners", _owners, row.owners, _NO_OWNERS)
    labels = _read(wrong, "labels", _labels, row.labels, _NO_LABELS)
    owned = Owned(row.workspace, row.scope, row.ref, owners, labels)
    return StoredAssignment(owned, row.source, row.updated_at, tuple(wrong))


def _read(wrong: list[str], what: str, parse: Callable[[str], T], stored: str, otherwise: T) -> T:
    try:
        return parse(stored)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError):
        wrong.append(f"the {what} cannot be read")
        return otherwise


def _addresses(stored: str) -> tuple[Target, ...]:
    return tuple(map(Target.parse, _texts(json.loads(stored))))


def _owners(stored: str) -> tuple[tuple[str, ...], ...]:
    return tuple(map(_texts, _list(json.loads(stored))))


def _labels(stored: str) -> Mapping[str, str]:
    found = json.loads(stored)
    return dict(zip(found, _texts(list(found.values())), strict=True))


def _levels(stored: str) -> tuple[ResolvedLevel, ...]:
    return tuple(
        ResolvedLevel(_texts(level["keys"]), None if level["after"] is None else timedelta(seconds=level["after"]))
        for level in map(dict, _list(json.loads(stored)))
    )


def _list(found: object) -> Sequence[Any]:
    if not isinstance(found, list):
        raise TypeError("no list")
    return found


def _texts(found: object) -> tuple[str, ...]:
    if not all(isinstance(one, str) for one in _list(found)):
        raise TypeError("no texts")
    return tuple(_list(found))
