"""What several daemons on one PostgreSQL rely on: turns, leases on work, words to each other, one clock."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import psycopg
import pytest
from sqlalchemy import Connection, text, update

from healthd.core.cadence import Cadence
from healthd.core.model import Target
from healthd.store import jobs, migrations, notices, profiles
from healthd.store.clock import DatabaseClock
from healthd.store.database import Store, StoreUnavailable
from healthd.store.schema import notices as notices_table
from healthd.store.wakeups import Wakeups
from tests import postgres
from tests.store.rows import HOUR, MINUTE, NOON, add_account, add_notice

T = TypeVar("T")
PATIENCE = 60.0
LONG = 0.3
"""Seconds in which whoever need not wait would have gone ahead."""


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.fresh_database() as found:
        yield found


@pytest.fixture
async def two(url: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two daemons' connections."""
    stores = Store(url), Store(url)
    yield stores
    for store in stores:
        await store.close()


def nothing(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


@asynccontextmanager
async def busy(
    turn: Callable[[Callable[[Connection], None]], object], first: Callable[[Connection], object] = nothing
) -> AsyncIterator[asyncio.Task[object]]:
    """A transaction that does something and then lasts as long as the block."""
    began, may_end = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        first(connection)
        began.set()
        assert may_end.wait(PATIENCE)

    task: asyncio.Task[object] = asyncio.ensure_future(turn(work))  # type: ignore[call-overload]
    assert await asyncio.to_thread(began.wait, PATIENCE)
    try:
        yield task
    finally:
        may_end.set()
        with contextlib.suppress(StoreUnavailable):
            await task


HELD_BY = {"all": lambda store: store.run, "acme": lambda store: store.within("acme").run}
WAITS = {
    "all": {"all": True, "acme": True},
    "acme": {"all": True, "acme": True},
    "other": {"all": True, "acme": False},
    "alongside": {"all": False, "acme": False},
}
WANTED_BY = HELD_BY | {"other": lambda store: store.within("other").run, "alongside": lambda store: store.alongside}


@pytest.mark.parametrize("holder", HELD_BY)
@pytest.mark.parametrize("wanted", WANTED_BY)
async def test_whoever_changes_the_same_waits_and_nobody_else(
    two: tuple[Store, Store], wanted: str, holder: str
) -> None:
    one, other = two
    async with busy(HELD_BY[holder](one)):
        asked = asyncio.ensure_future(WANTED_BY[wanted](other)(nothing))
        if WAITS[wanted][holder]:
            await asyncio.wait([asked], timeout=LONG)
            assert not asked.done()
        else:
            await asyncio.wait_for(asked, PATIENCE)
    await asyncio.wait_for(asked, PATIENCE)


async def test_a_process_that_stands_still_in_its_turn_loses_it(two: tuple[Store, Store]) -> None:
    one, other = two

    def impatiently(work: Callable[[Connection], None]) -> object:
        def shortened(connection: Connection) -> None:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '100ms'"))
            work(connection)

        return one.within("acme").run(shortened)

    async with busy(impatiently) as stuck:
        await asyncio.wait_for(other.within("acme").run(nothing), PATIENCE)
    with pytest.raises(StoreUnavailable):
        await stuck
    await one.within("acme").run(nothing)


async def test_every_transaction_of_ours_would_lose_its_turn_that_way(two: tuple[Store, Store]) -> None:
    def limits(connection: Connection) -> list[object]:
        names = ("idle_in_transaction_session_timeout", "statement_timeout", "synchronous_commit")
        return [connection.execute(text(f"SHOW {name}")).scalar() for name in names]

    for turn in (two[0].run, two[0].within("acme").run, two[0].alongside):
        assert await turn(limits) == ["15s", "2min", "on"]


async def test_of_many_that_start_on_an_empty_database_one_makes_the_tables() -> None:
    url = postgres.server().get_uri(postgres.blank())
    stores = [Store(url) for _ in range(4)]
    found = await asyncio.gather(*(store.upgrade() for store in stores))
    assert sorted(found, key=str) == [(migrations.HEAD, migrations.HEAD)] * 3 + [(None, migrations.HEAD)]
    for store in stores:
        await store.close()


async def test_a_connection_that_was_lost_is_made_again(two: tuple[Store, Store], url: str) -> None:
    one, _ = two

    def pid(connection: Connection) -> int:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    for turn in (one.run, one.alongside, one.read, one.browse):
        await turn(pid)
    with psycopg.connect(url, autocommit=True) as killer:
        killer.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'healthd%'")
    for turn in (one.run, one.alongside, one.read, one.browse):
        for _ in range(2):  # a lane of several connections may have another lost one
            with contextlib.suppress(StoreUnavailable):
                await turn(pid)
        assert await turn(pid)
    assert one.writable


async def test_nul_in_a_question_finds_nothing_and_breaks_nothing(two: tuple[Store, Store]) -> None:
    assert await two[0].read(profiles.get, "acme\0", "") is None


async def test_a_notice_that_somebody_is_changing_holds_no_sender_up(two: tuple[Store, Store]) -> None:
    one, other = two

    def claim(connection: Connection) -> list[str]:
        batches = notices.claim(connection, NOON, "mine", NOON + MINUTE, 10, (), Cadence())
        return [batch.leader.id for batch in batches]

    def two_people(connection: Connection) -> list[str]:
        account = add_account(connection, "1")
        return [add_notice(connection, account, target=Target("mail", f"{name}@acme.example")) for name in "ab"]

    def change(connection: Connection) -> None:
        connection.execute(update(notices_table).where(notices_table.c.id == changing).values(reason="changed"))

    changing, left = await one.run(two_people)
    async with busy(one.within("acme").run, change):
        assert await asyncio.wait_for(other.within("@outbox").run(claim), PATIENCE) == [left]
    assert await other.within("@outbox").run(claim) == [changing]


def work(connection: Connection, who: str, now: datetime, lasts: timedelta = MINUTE) -> bool:
    return jobs.take(connection, "bulk:acme", who, now, now + lasts)


def test_what_one_is_at_nobody_else_begins(connection: Connection) -> None:
    assert work(connection, "a", NOON)
    assert not work(connection, "b", NOON)
    assert not work(connection, "a", NOON), "nor the same one a second time"
    assert jobs.held_until(connection, "bulk:acme", NOON) == NOON + MINUTE


def test_what_is_done_is_due_again_when_it_was_said(connection: Connection) -> None:
    work(connection, "a", NOON)
    jobs.done(connection, "bulk:acme", "a", NOON + HOUR)
    assert jobs.held_until(connection, "bulk:acme", NOON) is None
    assert not work(connection, "b", NOON + HOUR - MINUTE)
    assert work(connection, "b", NOON + HOUR)


def test_what_is_done_can_be_due_sooner_but_not_at_once(connection: Connection) -> None:
    def sooner(now: datetime) -> bool:
        return jobs.bring_forward(connection, "bulk:acme", now, now + 20 * MINUTE)

    work(connection, "a", NOON)
    assert not sooner(NOON + MINUTE), "somebody is at it"
    jobs.done(connection, "bulk:acme", "a", NOON + HOUR)
    assert not sooner(NOON + 39 * MINUTE)
    assert not work(connection, "b", NOON + 39 * MINUTE)
    assert sooner(NOON + 40 * MINUTE)
    assert work(connection, "b", NOON + 40 * MINUTE)


def test_the_dead_lose_what_they_were_at_when_its_lease_ends_and_not_before(connection: Connection) -> None:
    work(connection, "dead", NOON)
    assert jobs.keep(connection, "bulk:acme", "dead", NOON + 2 * MINUTE)
    assert not work(connection, "b", NOON + MINUTE)
    assert work(connection, "b", NOON + 2 * MINUTE)
    assert not jobs.keep(connection, "bulk:acme", "dead", NOON + HOUR), "who wakes up finds it taken"
    jobs.done(connection, "bulk:acme", "dead", NOON + HOUR)
    assert jobs.held_until(connection, "bulk:acme", NOON + 2 * MINUTE) == NOON + 3 * MINUTE


@asynccontextmanager
async def listening(store: Store, heard: list[str]) -> AsyncIterator[Wakeups]:
    found = Wakeups(store, heard.append)
    task = asyncio.create_task(found.listen())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await found.close()


async def until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not said():  # noqa: ASYNC110 - lists that grow
            await asyncio.sleep(0.01)


async def test_the_others_hear_what_one_says_and_it_does_not_hear_itself(two: tuple[Store, Store]) -> None:
    said: tuple[list[str], list[str]] = [], []
    async with listening(two[0], said[0]) as one, listening(two[1], said[1]):
        await until(lambda: all(said))
        for word in ("outbox", "probe acme", "outbox", *(f"show {number:0100}" for number in range(200))):
            one.say(word)
        await until(lambda: len(said[1]) == 1 + 202)
        assert said[1][1:3] == ["outbox", "probe acme"]
        assert said[0] == [""]


async def test_whoever_lost_the_connection_looks_for_what_it_may_have_missed(
    two: tuple[Store, Store], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthd.store.wakeups.LISTEN_AGAIN", 0.05)
    heard: list[str] = []
    async with listening(two[0], heard):
        await until(lambda: heard == [""])
        with psycopg.connect(url, autocommit=True) as killer:
            killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'healthd-listener'"
            )
        await until(lambda: heard == ["", ""])


async def test_all_go_by_the_databases_clock_and_not_by_their_own(two: tuple[Store, Store]) -> None:
    steady = 1_000.0
    clock = DatabaseClock(two[0], lambda: steady)
    await clock.ask()
    asked_at = clock()
    assert abs(asked_at - datetime.now(UTC)) < timedelta(seconds=PATIENCE), "this test's database runs on this machine"
    steady += 90
    assert clock() - asked_at == timedelta(seconds=90)
    await clock.ask()
    assert clock() - asked_at < timedelta(seconds=90), "it was set right"
