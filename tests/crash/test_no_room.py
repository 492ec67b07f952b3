"""The disk is full, or the database cannot be written: nothing is acknowledged that is not kept, and it passes."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.crash.lives import Life, Stage, life, stage
from tests.daemon.test_receiver import event, signed

PRAGMAS = "pragmas"
LARGE = "x" * 60_000
"""In a webhook it needs pages of its own, where a small one could still find room in a page that is there."""
SMALL_FILES = 64 * 1024
"""More than the log takes, and less than the database's write-ahead log has reached."""


def _file_limit(daemon: Life, size: int) -> Iterator[None]:
    pid = daemon.process.pid
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def _pragma(daemon: Life, during: str, afterwards: str) -> Iterator[None]:
    file = daemon.scene.folder / PRAGMAS
    file.write_text(during)
    yield
    file.write_text(afterwards)


@contextmanager
def no_file_may_grow(daemon: Life) -> Iterator[None]:
    assert (daemon.scene.folder / "healthd.db-wal").stat().st_size > SMALL_FILES
    yield from _file_limit(daemon, SMALL_FILES)


@contextmanager
def not_even_the_log_may_grow(daemon: Life) -> Iterator[None]:
    yield from _file_limit(daemon, 1)


@contextmanager
def the_database_may_not_grow(daemon: Life) -> Iterator[None]:
    yield from _pragma(daemon, "max_page_count=1", "max_page_count=1000000")


@contextmanager
def read_only(daemon: Life) -> Iterator[None]:
    yield from _pragma(daemon, "query_only=on", "query_only=off")


@contextmanager
def locked_by_another(daemon: Life) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(daemon.scene.folder / "healthd.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


Trouble = Callable[[Life], AbstractContextManager[None]]
NOTHING_CAN_BE_WRITTEN: dict[str, Trouble] = {
    "no file may grow": no_file_may_grow,
    "not even the log may grow": not_even_the_log_may_grow,
    "read-only": read_only,
    "locked by another": locked_by_another,
}
NOTHING_LARGE_CAN_BE_WRITTEN: dict[str, Trouble] = {"the database may not grow": the_database_may_not_grow}
TROUBLES = NOTHING_CAN_BE_WRITTEN | NOTHING_LARGE_CAN_BE_WRITTEN


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def settled(on: Stage) -> AsyncIterator[Life]:
    async with life(on, MORTAL_PRAGMA=str(on.scene.folder / PRAGMAS)) as daemon:
        await on.until_swept()
        yield daemon


async def deliver(on: Stage, body: bytes) -> tuple[int, str]:
    answer = await on.scene.http.post(
        f"{on.scene.public}/webhooks/sandbox", content=body, headers=signed(on.scene, body)
    )
    return answer.status_code, answer.headers.get("retry-after", "")


async def ready(on: Stage) -> int:
    return (await on.scene.http.get(f"{on.scene.admin}/readyz")).status_code


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_webhook_that_cannot_be_kept_is_refused_with_the_time_to_come_again(on: Stage, name: str) -> None:
    async with settled(on) as daemon:
        kept, refused = event(), event(name="account.connected", padding=LARGE)
        assert (await deliver(on, kept))[0] == 202
        with TROUBLES[name](daemon):
            assert await deliver(on, refused) == (503, "5")
            assert (await on.scene.http.get(f"{on.scene.admin}/livez")).status_code == 200
        assert (await deliver(on, refused))[0] in {200, 202}, "200 where it waited for the lock longer than its sender"
        assert (await deliver(on, kept))[0] == 200, "what was acknowledged before is still there"
        await on.until_quiet()
        assert on.value("select count(*) from inbox where status = 'done'") == 2


@pytest.mark.parametrize("name", NOTHING_CAN_BE_WRITTEN)
async def test_readiness_and_the_metrics_say_so_and_stop_saying_so_by_themselves(on: Stage, name: str) -> None:
    async with settled(on) as daemon:
        with NOTHING_CAN_BE_WRITTEN[name](daemon):
            assert await ready(on) == 503
            await deliver(on, event())
            assert await on.scene.metric("healthd_webhooks_total", outcome="not_stored") == 1
        assert await ready(on) == 200


@pytest.mark.parametrize("name", [name for name in TROUBLES if name != "not even the log may grow"])
async def test_the_log_says_so(on: Stage, name: str) -> None:
    async with settled(on) as daemon:
        with TROUBLES[name](daemon):
            await deliver(on, event(padding=LARGE))
        (line,) = daemon.events("webhook.not_stored")
        assert line["workspace"] == "sandbox"
        assert line["reason"]


@pytest.mark.parametrize("name", TROUBLES)
async def test_afterwards_the_daemon_goes_on_as_if_nothing_had_been(on: Stage, name: str) -> None:
    async with settled(on) as daemon:
        account = on.scene.account("twitter")
        with TROUBLES[name](daemon):
            assert (await deliver(on, event(padding=LARGE)))[0] == 503
            on.scene.expire(account)
        opened = await on.scene.mail(account.name)
        await on.scene.person.reconnect(opened.link or "")
        await on.scene.mail("connected again")
        await on.until_quiet()
        assert not daemon.over
        assert on.value("select count(*) from incidents") == 1
        assert on.check_letters() == 0


async def test_a_webhook_that_is_kept_after_its_sender_was_sent_away_is_seen_to_all_the_same(on: Stage) -> None:
    async with settled(on) as daemon:
        with locked_by_another(daemon):
            # Two that wait for the lock: the webhook's commit comes after them, and later than its sender has patience.
            waiting = [asyncio.create_task(ready(on)) for _ in range(2)]
            await on.scene.http.get(f"{on.scene.admin}/livez")
            assert await deliver(on, event()) == (503, "5")
        assert [await one for one in waiting] == [503, 503]
        await on.scene.until(lambda: on.rows("select status from inbox") == [("done",)], "the webhook's turn")
