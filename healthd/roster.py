"""Contacts and owners from files into the store, and what that changes for accounts that are broken now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from healthd.channels.sentences import is_language
from healthd.contact_files import Changes, Channels, Stock, compare, read
from healthd.dispatch import Dispatch
from healthd.store import contacts
from healthd.store.contacts import FILE


def stock(connection: Connection) -> Stock:
    """Everything on record; what the customer's endpoint said is not: it will say it again."""
    people = [one for one in contacts.all_contacts(connection) if one.source != contacts.RESOLVER]
    records = contacts.all_assignments(connection)
    return Stock(
        {one.contact.key: one.contact for one in people},
        {one.owned.place: one.owned for one in records},
        [one.contact.key for one in people if one.source == FILE],
        [one.owned.place for one in records if one.source == FILE],
    )


def take_in(
    connection: Connection,
    dispatch: Dispatch,
    files: Sequence[tuple[str, bytes]],
    now: datetime,
    *,
    channels: Channels,
    workspaces: Collection[str],
    named: Mapping[str, str],
    replace: bool = False,
    dry_run: bool = False,
) -> Changes:
    """Puts what the files say on record, unless this is a dry run, and tells whoever could not be told before. Raises
    ``ContactFileError`` with every mistake; then nothing is changed.
    """
    there = stock(connection)
    book = read(files, channels, workspaces=workspaces, known=there.contacts, is_language=is_language)
    changes = compare(book, there, replace=replace, named=named)
    if not dry_run:
        contacts.put(connection, changes.put, FILE, now)
        contacts.assign(connection, changes.assigned, FILE, now)
        for key in changes.removed:
            contacts.remove(connection, key, now)
        for owned in changes.owners_removed:
            contacts.unassign(connection, *owned.place)
        dispatch.try_again(connection, now)
    return changes
