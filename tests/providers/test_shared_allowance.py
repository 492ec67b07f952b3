"""What one life has spent, the next one and whoever runs beside it do not spend again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from healthd.app import OnRecord
from healthd.core.model import Lane
from healthd.providers.allowance import FIRST_LIMIT, PATIENCE, SETTLING, WINDOW, Allowance, Standing, Taking
from healthd.store.database import Store, StoreUnavailable
from healthd.store.schema import allowance_spends, allowances, metadata
from tests.clockwork import played

STARTS = datetime(2026, 1, 5, 8, 0, 0, 700_000, tzinfo=UTC)
LIMIT, SHARE = 20, 10


def clock() -> float:
    return asyncio.get_running_loop().time()


def busiest_minute(sent: list[float]) -> int:
    return max((sum(1 for other in sent if at - WINDOW < other <= at) for at in sent), default=0)


@dataclass
class Slow:
    """The record behind a disk that takes its time on either side of the commit, or that is full."""

    real: OnRecord
    before: float = 0.0
    after: float = 0.0
    full: bool = False
    takings: list[Taking] = field(default_factory=list)

    @property
    def workspace(self) -> str:
        return self.real.workspace

    async def take(self, taking: Taking) -> Standing:
        await asyncio.sleep(self.before)
        self.takings.append(taking)
        if self.full:
            raise StoreUnavailable("database or disk is full")
        standing = await self.real.take(taking)
        await asyncio.sleep(self.after)
        return standing


@dataclass
class World:
    """One store; ``sent`` is when calls went out, whoever made them; ``ahead`` by how much the wall clock is wrong."""

    store: Store
    sent: list[float] = field(default_factory=list)
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def life(self, *, limit: int = FIRST_LIMIT, **disk: Any) -> Life:
        record = Slow(OnRecord(self.store, "acme", self.now), **disk)
        return Life(self, record, Allowance(0.5, limit, record))


@dataclass
class Life:
    world: World
    record: Slow
    allowance: Allowance
    calls: list[asyncio.Task[None]] = field(default_factory=list)

    async def call(self, lane: Lane = Lane.CLICK) -> None:
        await self.allowance.take(lane)
        self.world.sent.append(clock())

    def begin(self, times: int, lane: Lane = Lane.CLICK) -> None:
        self.calls += [asyncio.create_task(self.call(lane)) for _ in range(times)]

    async def killed(self) -> None:
        """Here and now: nothing that was under way goes on."""
        recording = [self.allowance._recording] if self.allowance._recording is not None else []
        for task in (tasks := [*self.calls, *recording]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.allowance._timer is not None:
            self.allowance._timer.cancel()

    async def ended(self) -> None:
        """In good order: everybody has had a turn."""
        await asyncio.gather(*self.calls)
        await self.allowance.close()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    store = Store("sqlite://")
    try:
        # Of the schema, the part that an allowance is kept in: all of it takes longer than most stories.
        await store.run(metadata.create_all, tables=[allowances, allowance_spends])
        yield World(store)
    finally:
        await store.close()


def play(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with world() as made:
            await story(made)

    played(main, STARTS)


async def told_the_limit(made: World, limit: int = LIMIT) -> None:
    """An earlier life, long ago, has heard the provider's limit."""
    life = made.life()
    life.allowance.learn(limit, limit, 60)
    await life.ended()


def spends(connection: Connection) -> int:
    return int(connection.execute(text("select coalesce(sum(calls), 0) from allowance_spends")).scalar_one())


SPANS = st.integers(0, 8 * 90).map(lambda eighths: eighths / 8)
LIVES = st.tuples(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from(list(Lane)), SPANS.map(lambda span: span / 8)), max_size=5),
    SPANS.map(lambda span: span / 32),
    st.sampled_from([0.0, 0.01, PATIENCE / 2 - 0.01]),
    st.sampled_from([0.0, 0.01, PATIENCE / 2 - 0.01]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(SPANS, LIVES), min_size=1, max_size=4), min_size=1, max_size=3))
def test_however_lives_follow_and_overlap_and_wherever_they_are_killed_no_minute_holds_more_than_the_share(
    processes: list[list[tuple[float, Any]]],
) -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        async with asyncio.TaskGroup() as group:
            for lives in processes:
                group.create_task(one_after_the_other(made, lives))
        assert busiest_minute(made.sent) <= SHARE

    async def one_after_the_other(made: World, lives: list[tuple[float, Any]]) -> None:
        for down, (bursts, rest, before, after) in lives:
            await asyncio.sleep(down / 4)
            life = made.life(before=before, after=after)
            for times, lane, span in bursts:
                life.begin(times, lane)
                await asyncio.sleep(span)
            await asyncio.sleep(rest)
            await life.killed()

    play(story)


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_new_life_goes_on_at_once_with_what_the_last_one_left_and_waits_for_the_rest(how: str) -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        first = made.life()
        first.begin(4)
        await asyncio.sleep(5)
        await getattr(first, how)()
        second = made.life()
        second.begin(SHARE)
        await asyncio.sleep(0)
        await asyncio.sleep(10)
        assert made.sent == [0.0] * 4 + [5.0] * 6
        assert (second.allowance.used, second.allowance.share) == (SHARE, SHARE)
        await asyncio.gather(*second.calls)
        began = 5.0
        assert WINDOW <= made.sent[-1] <= began + WINDOW + SETTLING + 0.1, "as if all had been taken when it began"
        assert busiest_minute(made.sent) <= SHARE

    play(story)


@pytest.mark.parametrize("ahead", [-59, 59])
def test_a_clock_that_is_set_between_two_lives_makes_nobody_take_more(ahead: int) -> None:
    """What was taken just before looks old to a life whose clock is ahead."""

    async def story(made: World) -> None:
        await told_the_limit(made)
        first = made.life()
        first.begin(SHARE)
        await asyncio.sleep(5)
        await first.killed()
        made.ahead = timedelta(seconds=ahead)
        second = made.life()
        second.begin(SHARE)
        await asyncio.gather(*second.calls)
        assert len(made.sent) == 2 * SHARE
        assert busiest_minute(made.sent) <= SHARE

    play(story)


@pytest.mark.parametrize(("before", "after"), [(1.0, 0.0), (0.0, 1.0)])
def test_a_kill_on_either_side_of_the_commit_costs_at_most_what_was_under_way(before: float, after: float) -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        first = made.life(before=before, after=after)
        first.begin(4)
        await asyncio.sleep(1.5)  # the record has been read, and the calls are on their way there or back
        await first.killed()
        second = made.life()
        second.begin(SHARE)
        await asyncio.sleep(1)
        assert len(made.sent) == (SHARE if before else SHARE - 4)

    play(story)


def test_two_beside_each_other_share_one_allowance() -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        daemon, command = made.life(), made.life()
        for life in (daemon, command):
            life.begin(3)
        await asyncio.sleep(1)
        assert len(made.sent) == 6
        for life in (daemon, command):
            life.begin(SHARE)
        await asyncio.sleep(1)
        assert len(made.sent) == SHARE
        for life in (daemon, command):
            await life.ended()
        assert len(made.sent) == 26
        assert busiest_minute(made.sent) <= SHARE

    play(story)


def test_two_that_begin_in_the_same_moment_share_one_allowance() -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        daemon, command = made.life(), made.life()
        for life in (daemon, command):
            life.begin(SHARE)
        await asyncio.sleep(1)
        assert len(made.sent) == SHARE
        for life in (daemon, command):
            await life.ended()
        assert busiest_minute(made.sent) <= SHARE

    play(story)


def test_workspaces_do_not_share() -> None:
    async def story(made: World) -> None:
        for name in ("acme", "other"):
            allowance = Allowance(0.5, LIMIT, OnRecord(made.store, name, made.now))
            for _ in range(SHARE):
                await allowance.take(Lane.CLICK)
        assert clock() == 0

    play(story)


def test_alone_it_counts_by_its_own_clock_to_the_moment() -> None:
    async def story(made: World) -> None:
        life = made.life(limit=LIMIT)
        life.begin(SHARE + 1)
        await life.ended()
        assert made.sent[-1] == pytest.approx(WINDOW, abs=0.01)

    play(story)


def test_calls_that_may_go_together_are_one_transaction() -> None:
    async def story(made: World) -> None:
        life = made.life(limit=1000)
        life.begin(300, Lane.ROTATION)
        await life.ended()
        assert len(made.sent) == 300
        assert [taking.calls for taking in life.record.takings] == [0, 300], "the first one only reads"

    play(story)


def test_a_click_that_comes_while_others_are_put_on_record_goes_first() -> None:
    async def story(made: World) -> None:
        life, order = made.life(after=0.5), []

        async def call(lane: Lane) -> None:
            await life.allowance.take(lane)
            order.append(lane)

        async with asyncio.TaskGroup() as group:
            group.create_task(call(Lane.ROTATION))
            await asyncio.sleep(0.75)
            group.create_task(call(Lane.CLICK))
        assert order == [Lane.CLICK, Lane.ROTATION]

    play(story)


def test_a_pause_outlives_a_kill_and_so_does_the_slower_pace_after_it() -> None:
    async def story(made: World) -> None:
        first = made.life(limit=LIMIT)
        first.begin(1)
        await asyncio.sleep(1)
        first.allowance.refused(300)
        await asyncio.sleep(1)
        await first.killed()
        second = made.life(limit=LIMIT)
        second.begin(SHARE)
        await asyncio.gather(*second.calls)
        assert made.sent[1] == pytest.approx(301, abs=0.1)
        assert made.sent[5] == pytest.approx(301, abs=0.1)
        assert made.sent[6] >= 361, "half the pace"

    play(story)


def test_a_pause_that_one_was_asked_for_stops_the_one_beside_it() -> None:
    async def story(made: World) -> None:
        daemon, command = made.life(limit=100), made.life(limit=100)
        command.begin(1)
        await asyncio.sleep(1)
        daemon.allowance.refused(40)
        await asyncio.sleep(1)
        command.begin(1)
        await command.ended()
        assert made.sent == [0.0, pytest.approx(41, abs=0.1)]
        assert command.allowance.share == 25

    play(story)


def test_the_pace_rises_again_while_the_record_is_asked_and_asked() -> None:
    async def story(made: World) -> None:
        life = made.life(limit=100)
        life.allowance.refused(10)
        for _ in range(7):
            await asyncio.sleep(60)
            await life.call()
        assert life.allowance.share == 50

    play(story)


def test_the_limit_that_was_learnt_last_is_known_to_the_next_life_before_its_first_call() -> None:
    async def story(made: World) -> None:
        await told_the_limit(made, 600)
        await told_the_limit(made, 4)
        life = made.life()
        life.begin(3)
        await asyncio.sleep(1)
        assert len(made.sent) == 2
        assert (life.allowance.limit, life.allowance.share) == (4, 2)
        await life.killed()

    play(story)


def test_a_limit_that_is_heard_while_the_record_is_asked_is_not_forgotten() -> None:
    async def story(made: World) -> None:
        await told_the_limit(made, 600)
        life = made.life(after=1.0)
        life.begin(1)
        await asyncio.sleep(1.5)
        life.allowance.learn(60, 60, 30)
        for _ in range(4):
            await asyncio.sleep(0.75)
            assert life.allowance.limit == 60
        await life.ended()
        assert (await OnRecord(made.store, "acme", made.now).take(Taking(0, 0))).limit == 60

    play(story)


@pytest.mark.parametrize("back", [timedelta(seconds=20), timedelta(minutes=5), timedelta(days=400)])
def test_a_clock_that_was_set_back_makes_nobody_spend_twice_or_wait_for_it(back: timedelta) -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        first = made.life()
        first.begin(SHARE)
        await asyncio.sleep(1)
        first.allowance.refused(100)
        await asyncio.sleep(1)
        await first.killed()
        made.ahead = -back
        second = made.life()
        second.begin(SHARE)
        longest = 3600 if back > timedelta(hours=1) else 100 + back.total_seconds()
        async with asyncio.timeout(longest + 2 * (WINDOW + SETTLING)):
            await asyncio.gather(*second.calls)
        assert busiest_minute(made.sent) <= SHARE

    play(story)


def test_a_full_disk_does_not_stop_the_looking_and_what_went_out_meanwhile_is_put_on_record_later() -> None:
    async def story(made: World) -> None:
        await told_the_limit(made)
        life = made.life()
        life.begin(1)
        await asyncio.sleep(1)
        life.record.full = True
        with capture_logs() as logs:
            life.begin(4)
            await asyncio.sleep(1)
            life.begin(SHARE)
            await asyncio.sleep(1)
        assert len(made.sent) == SHARE, "its own memory keeps the share"
        assert [(entry["event"], entry["log_level"], entry["workspace"], entry["reason"]) for entry in logs] == [
            ("allowance.not_on_record", "warning", "acme", "database or disk is full")
        ]
        life.record.full = False
        life.allowance.learn(24, 20, 30)
        await asyncio.sleep(1)
        assert await made.store.run(spends) == 12
        await life.killed()
        assert busiest_minute(made.sent) <= 12

    play(story)


def test_a_disk_that_hangs_holds_a_call_back_for_two_seconds() -> None:
    async def story(made: World) -> None:
        life = made.life(before=3600)
        life.begin(1)
        await life.ended()
        assert made.sent == [pytest.approx(PATIENCE)]

    play(story)


def test_news_is_on_disk_when_it_was_closed() -> None:
    async def story(made: World) -> None:
        life = made.life(before=1.0)
        life.allowance.learn(600, 600, 30)
        life.allowance.refused(30)
        await life.allowance.close()
        standing = await OnRecord(made.store, "acme", made.now).take(Taking(0, 0))
        assert standing.limit == 600
        assert 29 <= standing.pause <= 30

    play(story)


def test_one_who_gives_up_while_the_record_is_written_keeps_nobody_waiting() -> None:
    async def story(made: World) -> None:
        life = made.life(limit=2, after=0.5)
        impatient = asyncio.create_task(life.call())
        await asyncio.sleep(0.75)
        impatient.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await impatient
        await life.call()
        assert made.sent == [pytest.approx(1.0)]

    play(story)
