"""Storms: one at a time in each place, with what broke there, and an end on record."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from healthd.core.model import Resolution, State
from healthd.store import incidents, storms
from healthd.store.storms import Storm
from tests.store.rows import DAY, HOUR, MINUTE, NOON, SECOND, add_account, add_incident


def begin(connection: Connection, platform: str = "facebook", minutes: int = 0, workspace: str = "acme") -> Storm:
    at = NOON + minutes * MINUTE
    storm = Storm(
        storms.storm_id(workspace, platform, at), workspace, platform, at, at, at + 3 * MINUTE, broken=3, accounts=9
    )
    storms.begin(connection, storm, at - 10 * MINUTE)
    return storm


def broken(connection: Connection, ref: str, minutes: int = 0, **facts: str) -> str:
    stored = add_account(connection, ref, state=State.EXPIRED, **facts)
    return add_incident(connection, stored, opened_at=NOON + minutes * MINUTE).id


def test_a_storm_takes_in_what_broke_there_lately_and_nothing_else(connection: Connection) -> None:
    inside = [broken(connection, "1", -9), broken(connection, "2", -1)]
    long_ago, elsewhere = broken(connection, "3", -11), broken(connection, "4", -1, platform="reddit")
    other, repaired = broken(connection, "5", -1, workspace="other"), broken(connection, "6", -1)
    incidents.resolve(connection, repaired, Resolution.REPAIRED, NOON)
    since = NOON - 10 * MINUTE
    assert storms.broken_lately(connection, "acme", "facebook", since) == 2
    storm = begin(connection)
    assert storms.still_broken(connection, storm.id) == 2

    def taken(name: str) -> bool:
        found = incidents.get(connection, name)
        assert found is not None
        return found.storm_id == storm.id

    assert [taken(name) for name in inside] == [True, True]
    assert not any(taken(name) for name in (long_ago, elsewhere, other, repaired))


def test_what_one_storm_had_makes_no_other(connection: Connection) -> None:
    """Of those it has been decided already."""
    for ref in "123":
        broken(connection, ref, -1)
    storm = begin(connection)
    storms.end(connection, storm.id, NOON, "by hand")
    assert storms.broken_lately(connection, "acme", "facebook", NOON - 10 * MINUTE) == 0
    broken(connection, "4", 1)
    assert storms.broken_lately(connection, "acme", "facebook", NOON - 10 * MINUTE) == 1


def test_the_database_itself_refuses_a_second_storm_in_one_place(connection: Connection) -> None:
    storm = begin(connection)
    with pytest.raises(IntegrityError), connection.begin_nested():
        begin(connection, minutes=1)
    begin(connection, "reddit")
    begin(connection, workspace="other")
    assert storms.current(connection, "acme", "facebook") == storm
    assert len(storms.all_current(connection)) == 3
    assert storms.end(connection, storm.id, NOON + HOUR, "over")
    begin(connection, minutes=61)


def test_one_more_that_breaks_is_counted_and_keeps_it_awake(connection: Connection) -> None:
    storm = begin(connection)
    storms.join(connection, [(storm.id, broken(connection, "1"))], NOON + MINUTE)
    lasting = storms.get(connection, storm.id)
    assert lasting is not None
    assert (lasting.broken, lasting.last_at) == (4, NOON + MINUTE)
    assert storms.broken_accounts(connection, storm.id, 9) == [1]


def test_an_end_is_on_record_with_its_reason_and_comes_once(connection: Connection) -> None:
    storm = begin(connection)
    assert storms.end(connection, storm.id, NOON + HOUR, "by hand", "Olga")
    assert not storms.end(connection, storm.id, NOON + DAY, "it abated")
    ended = storms.get(connection, storm.id)
    assert ended is not None
    assert (ended.ended_at, ended.outcome, ended.decided_by) == (NOON + HOUR, "by hand", "Olga")
    assert storms.current(connection, "acme", "facebook") is None


def test_the_next_judgement_is_the_earliest_of_those_that_last(connection: Connection) -> None:
    assert storms.next_judgement(connection) is None
    first, second = begin(connection), begin(connection, "reddit", 1)
    assert storms.next_judgement(connection) == first.judge_at
    storms.judge_again(connection, first.id, NOON + HOUR)
    assert storms.next_judgement(connection) == second.judge_at
    storms.end(connection, second.id, NOON, "over")
    assert storms.next_judgement(connection) == NOON + HOUR


def test_a_person_names_a_storm_by_its_id_or_its_place(connection: Connection) -> None:
    storm = begin(connection)
    assert storms.find(connection, storm.id) == storms.find(connection, "acme/facebook") == [storm]
    assert storms.find(connection, "acme/reddit") == []
    storms.end(connection, storm.id, NOON, "over")
    assert storms.find(connection, storm.id) == []
    assert storms.latest(connection)[0].id == storm.id


def test_how_many_accounts_there_are_leaves_out_the_removed(connection: Connection) -> None:
    for ref, state in (("1", State.HEALTHY), ("2", State.EXPIRED), ("3", State.REMOVED)):
        add_account(connection, ref, state=state)
    add_account(connection, "4", platform="reddit")
    assert storms.accounts_there(connection, "acme", "facebook") == 2
    assert storms.accounts_there(connection, "other", "facebook") == 0


def test_storms_of_different_seconds_have_different_names() -> None:
    assert storms.storm_id("acme", "facebook", NOON) != storms.storm_id("acme", "facebook", NOON + SECOND)
