"""Webhooks: each is kept once, in order, until somebody has understood it, and for as long as it can be replayed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from healthd.core.model import Observation, Signal, Source, State
from healthd.store import housekeeping, inbox, incidents, migrations
from healthd.store.database import sqlite_engine
from healthd.store.inbox import Arrival, InboxStatus
from tests.store.rows import DAY, NOON, SECOND, add_account
from tests.tidy import tidy


def arrival(event: str, workspace: str = "acme", body: bytes = b"{}") -> Arrival:
    return Arrival(workspace, event, body, NOON)


BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["acme", "other"])), min_size=1, max_size=8), max_size=5
)


def test_an_event_is_new_once_within_and_across_batches() -> None:
    engine = sqlite_engine("sqlite://")
    with engine.begin() as connection:
        migrations.upgrade(connection)

    @given(BATCHES)
    def check(batches: list[list[tuple[str, str]]]) -> None:
        known: set[tuple[str, str]] = set()
        with engine.connect() as connection:
            for batch in batches:
                answers = inbox.store(connection, [arrival(*one) for one in batch])
                for one, fresh in zip(batch, answers, strict=True):
                    assert fresh == (one not in known)
                    known.add(one)
            waiting = [one for place in inbox.workspaces(connection) for one in inbox.waiting(connection, place, 100)]
            assert len(waiting) == len(known)
            connection.rollback()

    check()
    engine.dispose()


def test_the_first_body_under_an_id_is_the_one_that_is_kept(connection: Connection) -> None:
    assert inbox.store(connection, [arrival("1", body=b"first"), arrival("1", body=b"second")]) == [True, False]
    assert inbox.store(connection, [arrival("1", body=b"third")]) == [False]
    assert [one.body for one in inbox.waiting(connection, "acme", 10)] == [b"first"]


@pytest.mark.parametrize("body", [b"", b"\x00\xff\xfe", b'{"name": "\xed\xa0\x80"}', "Käse".encode("utf-16")])
def test_bodies_are_kept_byte_for_byte(connection: Connection, body: bytes) -> None:
    inbox.store(connection, [arrival("1", body=body)])
    (kept,) = inbox.waiting(connection, "acme", 10)
    assert (kept.body, kept.workspace, kept.received_at) == (body, "acme", NOON)


def test_webhooks_are_looked_at_in_the_order_of_their_arrival_until_they_are_settled(connection: Connection) -> None:
    inbox.store(connection, [arrival(event) for event in "cab"])
    first, second, third = inbox.waiting(connection, "acme", 10)
    assert [one.id for one in inbox.waiting(connection, "acme", 2)] == [first.id, second.id]
    inbox.settle(connection, [(first.id, InboxStatus.DONE, "ok"), (second.id, InboxStatus.PARKED, "not JSON")])
    assert inbox.waiting(connection, "acme", 10) == [third]
    assert inbox.counts(connection) == {"new": 1, "parked": 1}
    assert inbox.store(connection, [arrival("c"), arrival("a")]) == [False, False]


def test_proving_that_a_webhook_could_be_stored_leaves_nothing_behind(connection: Connection) -> None:
    for _ in range(2):
        inbox.probe_write(connection)
    assert connection.execute(text("SELECT count(*) FROM inbox")).scalar() == 0


def test_old_bodies_are_emptied_but_their_ids_are_known_for_as_long_as_they_can_be_replayed(
    connection: Connection,
) -> None:
    inbox.store(connection, [arrival("done"), arrival("parked"), arrival("new")])
    done, parked, _ = inbox.waiting(connection, "acme", 10)
    inbox.settle(connection, [(done.id, InboxStatus.DONE, None), (parked.id, InboxStatus.PARKED, "not JSON")])

    def bodies() -> dict[str, bytes]:
        return {row.event_id: row.body for row in connection.execute(text("SELECT event_id, body FROM inbox"))}

    tidy(connection, NOON + housekeeping.KEEP_BODIES)
    assert bodies() == {"done": b"{}", "parked": b"{}", "new": b"{}"}
    tidy(connection, NOON + housekeeping.KEEP_BODIES + SECOND)
    assert bodies() == {"done": b"", "parked": b"{}", "new": b"{}"}
    tidy(connection, NOON + 90 * DAY)
    assert inbox.store(connection, [arrival("done")]) == [False]
    tidy(connection, NOON + housekeeping.KEEP_EVENT_IDS + SECOND)
    assert bodies() == {}


def test_history_is_kept_for_more_than_a_year_and_then_forgotten(connection: Connection) -> None:
    stored = add_account(connection, "1")
    seen = Observation("1", Signal.OK, Source.BULK, NOON)
    for days in (0, 35):
        now = NOON + days * DAY
        line = incidents.history_line(stored.id, seen, State.UNKNOWN, State.HEALTHY, now, None)
        incidents.record(connection, [line])
    tidy(connection, NOON + housekeeping.KEEP_HISTORY + SECOND)
    assert [line.recorded_at for line in incidents.history_of(connection, stored.id)] == [NOON + 35 * DAY]
