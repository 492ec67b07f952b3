"""What all processes together have taken of a workspace's allowance within the last minute."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from healthd.store import allowances
from healthd.store.allowances import Standing
from healthd.store.database import sqlite_engine
from healthd.store.schema import allowance_spends
from tests.store.rows import NOON

KEEP = timedelta(seconds=63)
LONGEST = timedelta(hours=1)


def take(connection: Connection, holder: str, late: float = 0.0, **what: Any) -> Standing:
    told: dict[str, Any] = {"calls": 1, "beside": 100, "keep": KEEP, "longest_pause": LONGEST} | what
    workspace: str = told.pop("workspace", "acme")
    return allowances.take(connection, workspace, holder, NOON + timedelta(seconds=late), **told)


def seen(connection: Connection, late: float = 0.0) -> int:
    """What somebody new would count."""
    return sum(calls for _, calls in take(connection, "looks", late, calls=0).others)


def test_others_see_what_was_taken_and_its_taker_does_not(connection: Connection) -> None:
    assert take(connection, "daemon", calls=3) == Standing(True, [], None, None)
    assert take(connection, "daemon", calls=2).others == []
    assert take(connection, "command", calls=1).others == [(NOON, 5)]


def test_a_taking_beside_more_than_it_knew_of_is_refused_and_leaves_nothing(connection: Connection) -> None:
    take(connection, "daemon", calls=3)
    assert not take(connection, "command", calls=2, beside=2).granted
    assert seen(connection) == 3
    assert take(connection, "command", calls=2, beside=3).granted
    assert seen(connection) == 5


def test_what_was_taken_is_forgotten_after_its_time_and_not_before(connection: Connection) -> None:
    take(connection, "daemon", late=0.9, calls=3)
    assert seen(connection, late=62.9) == 3
    assert seen(connection, late=63) == 0
    assert connection.execute(select(allowance_spends)).all() == []


def test_there_are_no_more_rows_than_seconds(connection: Connection) -> None:
    for number in range(600):
        take(connection, "daemon", late=number / 4, calls=2)
    assert len(connection.execute(select(allowance_spends)).all()) <= KEEP.total_seconds() + 1
    assert seen(connection, late=149.75) == 2 * 4 * KEEP.total_seconds()


def test_workspaces_are_counted_apart(connection: Connection) -> None:
    take(connection, "daemon", calls=3, limit=60, paused_until=NOON + timedelta(minutes=1))
    assert take(connection, "command", workspace="other") == Standing(True, [], None, None)


def test_calls_that_were_made_without_it_are_added_even_where_nothing_more_may_go(connection: Connection) -> None:
    take(connection, "daemon", calls=3)
    assert not take(connection, "command", calls=2, beside=0, owed=4).granted
    assert seen(connection) == 7


def test_during_a_pause_nothing_is_taken(connection: Connection) -> None:
    until = NOON + timedelta(seconds=30)
    take(connection, "daemon", calls=0, paused_until=until)
    assert take(connection, "command", late=29.9) == Standing(False, [], None, until)
    assert take(connection, "command", late=30).granted


def test_a_pause_becomes_longer_and_never_shorter(connection: Connection) -> None:
    first, shorter, longer = (NOON + timedelta(seconds=seconds) for seconds in (30, 10, 50))
    for told, known in ((first, first), (shorter, first), (None, first), (longer, longer)):
        assert take(connection, "daemon", paused_until=told).paused_until == known


def test_the_limit_is_the_one_that_was_told_last(connection: Connection) -> None:
    for told, known in ((None, None), (600, 600), (None, 600), (60, 60)):
        assert take(connection, "daemon", limit=told).limit == known


@pytest.mark.parametrize("ahead", [timedelta(minutes=2), timedelta(days=400)])
def test_times_of_a_clock_that_was_far_ahead_are_taken_for_now(connection: Connection, ahead: timedelta) -> None:
    until = NOON + ahead + LONGEST
    take(connection, "daemon", late=ahead.total_seconds(), calls=3)
    take(connection, "daemon", late=ahead.total_seconds(), calls=0, paused_until=until)
    assert take(connection, "looks") == Standing(False, [(NOON, 3)], None, NOON + LONGEST)
    assert seen(connection, late=63) == 0
    assert take(connection, "looks", late=3600).granted


def test_processes_that_take_at_once_never_take_more_than_there_is(path: Path) -> None:
    taken: list[int] = []

    def live(holder: str) -> None:
        engine = sqlite_engine(f"sqlite:///{path}", busy_timeout=30)
        own = 0
        for _ in range(20):
            with engine.begin() as connection:
                own += take(connection, holder, calls=1, beside=24 - own).granted
        engine.dispose()
        taken.append(own)

    threads = [threading.Thread(target=live, args=(f"life {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 25
