"""What keeps the database from growing for ever: what goes, what stays, and that nobody waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from healthd.core.model import NoticeStatus, Observation, Resolution, Signal, Source, State
from healthd.store import housekeeping, incidents, notices
from healthd.store.housekeeping import AT_ONCE, INCIDENTS_AT_ONCE, KEEP_HISTORY
from healthd.store.schema import metadata
from tests.store.rows import DAY, NOON, SECOND, add_account, add_incident, add_link, add_notice
from tests.tidy import tidy

OLD = NOON + KEEP_HISTORY + SECOND
OF_AN_INCIDENT = ("incidents", "links", "link_incidents", "mints", "notices")


def rows(connection: Connection) -> Mapping[str, int]:
    """How many there are in each table of what hangs on an incident."""
    tables = (metadata.tables[name] for name in OF_AN_INCIDENT)
    return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


def add_story(connection: Connection, ref: str, **facts: Any) -> str:
    """An incident with its message, its link, and somebody who pressed it; its id."""
    stored = add_account(connection, ref)
    incident = add_incident(connection, stored, **facts)
    add_notice(connection, stored, incident.id, incident_id=incident.id)
    link = add_link(connection, incident, f"l{ref}")
    incidents.cover(connection, link.id, [incident.id])
    incidents.record_mint(connection, link, "minted", "127.0.0.1", NOON)
    return incident.id


def test_an_incident_that_is_over_goes_with_all_that_hangs_on_it(connection: Connection) -> None:
    first, later = add_story(connection, "1"), add_story(connection, "2")
    add_story(connection, "3")
    incidents.cover(connection, "l2", [first])  # both stood in one message
    incidents.resolve(connection, first, Resolution.REPAIRED, NOON)
    incidents.resolve(connection, later, Resolution.REPAIRED, NOON + DAY)
    tidy(connection, OLD)
    assert incidents.get(connection, first) is None
    assert incidents.get(connection, later) is not None
    assert rows(connection) == dict.fromkeys(OF_AN_INCIDENT, 2)


def test_one_that_is_open_stays_whatever_its_age_and_so_do_its_messages(connection: Connection) -> None:
    incident = add_story(connection, "1")
    notices.withdraw(connection, incident, "for the test")
    tidy(connection, OLD + 1000 * DAY)
    assert rows(connection) == dict.fromkeys(OF_AN_INCIDENT, 1)


def test_of_messages_without_an_incident_those_that_are_settled_go(connection: Connection) -> None:
    stored = add_account(connection, "1")
    for subject in ("sent long ago", "waits"):
        add_notice(connection, stored, subject)
    notices.withdraw(connection, "sent long ago", "over")
    tidy(connection, OLD)
    left = notices.of_account(connection, stored.id)
    assert [notice.status for notice in left] == [NoticeStatus.PENDING]


def test_a_transaction_forgets_a_part_and_the_next_ones_the_rest(connection: Connection) -> None:
    stored = add_account(connection, "1")
    seen = Observation("1", Signal.OK, Source.BULK, NOON)
    line = incidents.history_line(stored.id, seen, State.UNKNOWN, State.HEALTHY, NOON, None)
    incidents.record(connection, [line] * (2 * AT_ONCE + 1))
    assert [housekeeping.prune(connection, OLD) for _ in range(4)] == [AT_ONCE, AT_ONCE, 1, 0]


def test_incidents_go_in_smaller_parts_since_so_much_hangs_on_them(connection: Connection) -> None:
    for number in range(INCIDENTS_AT_ONCE + 1):
        incidents.resolve(connection, add_story(connection, str(number)), Resolution.REPAIRED, NOON)
    parts = []
    while done := housekeeping.prune(connection, OLD):
        parts.append(done)
    assert parts == [INCIDENTS_AT_ONCE, 1]
    assert rows(connection) == dict.fromkeys(OF_AN_INCIDENT, 0)
