"""The connection: durable, one writer, readers that cannot write, and refusals that everybody understands."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, literal, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from healthd.store import inbox
from healthd.store.database import BUSY_TIMEOUT, Store, StoreUnavailable, sqlite_engine
from healthd.store.inbox import Arrival
from healthd.store.schema import Time, profiles
from tests.store.rows import NOON


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    found = Store(f"sqlite:///{path}", busy_timeout=0.05)
    yield found
    await found.close()


def pragma(connection: Connection, name: str) -> object:
    return connection.execute(text(f"PRAGMA {name}")).scalar()


def receive(connection: Connection, event: str = "evt_1") -> list[bool]:
    return inbox.store(connection, [Arrival("acme", event, b"{}", NOON)])


def count(connection: Connection) -> object:
    return connection.execute(text("SELECT count(*) FROM inbox")).scalar()


SETTINGS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
"""``synchronous = 2`` is FULL: what is committed has reached the disk."""


@pytest.mark.parametrize(("name", "value"), SETTINGS.items())
async def test_what_is_committed_is_on_disk(store: Store, name: str, value: object) -> None:
    assert await store.run(pragma, name) == value


async def test_what_returns_is_committed_for_all_to_see(store: Store, path: Path) -> None:
    assert await store.run(receive) == [True]
    with closing(sqlite3.connect(path)) as other, other:
        assert other.execute("SELECT count(*) FROM inbox").fetchone() == (1,)
    other.close()
    assert await store.read(count) == 1


async def test_what_raises_has_changed_nothing(store: Store) -> None:
    def receive_and_fail(connection: Connection) -> None:
        receive(connection)
        raise LookupError("half-way")

    with pytest.raises(LookupError, match="half-way"):
        await store.run(receive_and_fail)
    assert await store.read(count) == 0


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(receive)
    assert await store.read(count) == 0


async def test_a_reader_sees_one_moment_while_the_writer_goes_on(store: Store) -> None:
    began, written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[object, object]:
        before = count(connection)
        began.set()
        assert written.wait(30)
        return before, count(connection)

    looking = asyncio.create_task(store.read(look_twice))
    await asyncio.to_thread(began.wait, 30)
    await store.run(receive)
    written.set()
    assert await looking == (0, 0)
    assert await store.read(count) == 1


async def test_what_waits_for_nobody_goes_before_all_that_waits_to_write(store: Store) -> None:
    """On SQLite, where one thread writes: webhooks go to disk before the messages of a storm are accounted for."""
    began, may_end, order = threading.Event(), threading.Event(), list[str]()

    def busy(_: Connection) -> None:
        began.set()
        may_end.wait(timeout=60)

    def noted(_: Connection, name: str) -> None:
        order.append(name)

    first = asyncio.create_task(store.run(busy))
    await asyncio.to_thread(began.wait, 60)
    waiting = [asyncio.create_task(store.run(noted, name)) for name in ("a message", "another message")]
    waiting.append(asyncio.create_task(store.alongside(noted, "a webhook")))
    await asyncio.sleep(0.05)  # each of them waits for the thread now
    may_end.set()
    await asyncio.gather(first, *waiting)
    assert order == ["a webhook", "a message", "another message"]


async def test_a_locked_database_is_unavailable_and_then_available_again(store: Store, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.run(receive)
    assert await store.read(count) == 0
    other.execute("ROLLBACK")
    other.close()
    assert await store.run(receive) == [True]


async def test_a_full_disk_is_unavailable_and_nothing_of_the_batch_is_kept(store: Store) -> None:
    def fill(connection: Connection) -> None:
        pages = pragma(connection, "page_count")
        pragma(connection, f"max_page_count={pages}")
        inbox.store(connection, [Arrival("acme", f"evt_{n}", b"x" * 60_000, NOON) for n in range(20)])

    with pytest.raises(StoreUnavailable, match="full"):
        await store.run(fill)
    assert await store.read(count) == 0
    await store.run(pragma, "max_page_count=1000000")
    assert await store.run(receive) == [True]


async def test_a_read_only_database_is_unavailable(path: Path) -> None:
    store = Store(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.run(receive)
    await store.close()


DAMAGES = {"not a database": b"This is a text file." * 1000, "damaged": None}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_cannot_be_read_is_unavailable(path: Path, content: bytes | None) -> None:
    good = path.read_bytes()
    path.write_bytes(content or good[:4096] + b"\xff" * (len(good) - 4096))

    async def write() -> None:
        store = Store(f"sqlite:///{path}")
        with pytest.raises(StoreUnavailable):
            await store.run(receive)
        await store.close()

    asyncio.run(write())


async def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'nowhere' / 'healthd.db'}")
    with pytest.raises(StoreUnavailable, match="unable to open"):
        await store.run(receive)
    await store.close()


async def test_what_a_refusal_says_holds_nothing_of_what_was_to_be_written(store: Store, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as refused:
        await store.run(inbox.store, [Arrival("acme", "evt_1", b"ada@acme.example", NOON)])
    other.close()
    assert str(refused.value) == "database is locked"


async def test_a_mistake_of_ours_is_not_taken_for_an_unavailable_store(store: Store) -> None:
    def write_twice(connection: Connection) -> None:
        for _ in range(2):
            connection.execute(insert(profiles).values(workspace="acme", ref=""))

    with pytest.raises(IntegrityError):
        await store.run(write_twice)


def test_a_webhook_that_cannot_be_stored_is_refused_within_two_seconds() -> None:
    assert BUSY_TIMEOUT < 2


MOMENTS = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))]),
)


@given(st.lists(MOMENTS, min_size=1, max_size=5))
def test_times_come_back_exactly_and_are_ordered_as_they_are(moments: list[datetime]) -> None:
    engine = sqlite_engine("sqlite://")
    with engine.begin() as connection:
        kept = [connection.execute(select(literal(moment, Time))).scalar_one() for moment in moments]
        numbers = [Time().bind_processor(engine.dialect)(moment) for moment in moments]
    engine.dispose()
    assert kept == moments
    assert all(moment.tzinfo is UTC for moment in kept)
    assert [moments[i] for i in sorted(range(len(moments)), key=lambda i: numbers[i] or 0)] == sorted(moments)


def test_a_time_without_its_zone_is_refused() -> None:
    engine = sqlite_engine("sqlite://")
    with engine.begin() as connection, pytest.raises(StatementError, match="offset-naive"):
        connection.execute(select(literal(datetime(2026, 3, 1), Time)))  # noqa: DTZ001
    engine.dispose()
