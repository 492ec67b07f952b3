"""No more than our share of the customer's allowance, less when they need it, and the most urgent first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.model import Lane
from healthd.providers.allowance import FIRST_LIMIT, HIGHEST_LIMIT, LONGEST_PAUSE, WINDOW, Allowance, Ledger, Standing
from tests.clockwork import played

LANES = st.sampled_from(list(Lane))
QUARTERS = st.integers(0, 4 * 90).map(lambda quarters: quarters / 4)
"""Steps of time that floating point adds up exactly."""


def busiest_minute(sent: list[float]) -> int:
    return max((sum(1 for other in sent if at - WINDOW < other <= at) for at in sent), default=0)


def spend(ledger: Ledger, times: int, now: float) -> None:
    for _ in range(times):
        ledger.spend(now)


@given(
    st.lists(st.tuples(QUARTERS, LANES), max_size=200),
    st.integers(1, 60),
    st.floats(0.01, 1.0),
)
def test_no_minute_holds_more_requests_than_our_share(
    attempts: list[tuple[float, Lane]], limit: int, rate_share: float
) -> None:
    ledger = Ledger(rate_share, limit)
    now, sent = 0.0, []
    for step, lane in attempts:
        now += step / 20 if step < 60 else step
        if ledger.wait(lane, now) == 0:
            ledger.spend(now)
            sent.append(now)
    assert busiest_minute(sent) <= max(1, limit * rate_share)


def goes_in_turn(ledger: Ledger, lane: Lane, now: float) -> None:
    if ledger.wait(lane, now) == 0:
        assert ledger.used(now) < ledger.share
        ledger.spend(now)


_happenings: st.SearchStrategy[Callable[[Ledger, float], None]] = st.one_of(
    LANES.map(lambda lane: lambda ledger, now: goes_in_turn(ledger, lane, now)),
    st.tuples(
        st.one_of(st.integers(1, 100), st.sampled_from([-1, 0, 10**15])),
        st.integers(-5, 120),
        st.one_of(st.integers(-10, 120).map(float), st.sampled_from([-1e12, 1e12])),
    ).map(lambda said: lambda ledger, now: ledger.learn(*said, now)),
    st.sampled_from([-1.0, 0.0, 1.0, 30.0, 1e9]).map(lambda said: lambda ledger, now: ledger.refused(said, now)),
)


@given(st.lists(st.tuples(QUARTERS, _happenings), max_size=100))
def test_whatever_the_provider_says_the_share_is_kept_and_the_more_urgent_wait_no_longer(
    happenings: list[tuple[float, Callable[[Ledger, float], None]]],
) -> None:
    ledger, now = Ledger(0.5), 0.0
    for step, happens in happenings:
        now += step
        happens(ledger, now)
        waits = [ledger.wait(lane, now) for lane in Lane]
        assert waits == sorted(waits)
        assert 0 <= waits[0] <= waits[-1] <= LONGEST_PAUSE
        assert 1 <= ledger.limit <= HIGHEST_LIMIT
        assert 1 <= ledger.share <= max(1, ledger.limit / 2)


@given(st.lists(QUARTERS.map(lambda step: step / 8), min_size=1, max_size=60), st.integers(1, 40), LANES)
def test_a_wait_is_as_long_as_it_says(steps: list[float], limit: int, lane: Lane) -> None:
    ledger, now = Ledger(1.0, limit), 0.0
    for step in steps:
        now += step
        if ledger.wait(lane, now) == 0:
            ledger.spend(now)
    wait = ledger.wait(lane, now)
    if wait > 0:
        assert ledger.wait(lane, now + wait - 1 / 64) > 0
        assert ledger.wait(lane, now + wait) == 0


def test_before_the_provider_has_spoken_its_smallest_tier_is_assumed() -> None:
    assert Ledger(0.5).limit == FIRST_LIMIT == 60
    assert Ledger(0.5).share == 30


@pytest.mark.parametrize(
    ("lane", "most"), [(Lane.CLICK, 100), (Lane.CONFIRM, 95), (Lane.BULK, 85), (Lane.ROTATION, 70)]
)
def test_a_lane_fills_its_part_of_the_share_and_leaves_the_rest_to_the_more_urgent(lane: Lane, most: int) -> None:
    ledger = Ledger(0.5, 200)
    sent = 0
    while ledger.wait(lane, 0.0) == 0:
        ledger.spend(0.0)
        sent += 1
    assert sent == most
    assert ledger.wait(lane, 10.0) == 50.0
    assert all(ledger.wait(other, 10.0) == 0 for other in Lane if other < lane)


@given(st.integers(2, 2000), st.lists(LANES.filter(lambda lane: lane is not Lane.CLICK), max_size=300))
def test_nothing_that_the_other_lanes_do_keeps_a_click_waiting(share: int, others: list[Lane]) -> None:
    ledger = Ledger(1.0, share)
    for lane in others:
        if ledger.wait(lane, 0.0) == 0:
            ledger.spend(0.0)
    for lane in (Lane.CONFIRM, Lane.BULK, Lane.ROTATION):
        while ledger.wait(lane, 0.0) == 0:
            ledger.spend(0.0)
    assert ledger.wait(Lane.CLICK, 0.0) == 0


@pytest.mark.parametrize(
    ("remaining", "going"),
    [
        (100, {Lane.CLICK, Lane.CONFIRM, Lane.BULK, Lane.ROTATION}),
        (26, {Lane.CLICK, Lane.CONFIRM, Lane.BULK, Lane.ROTATION}),
        (25, {Lane.CLICK, Lane.CONFIRM, Lane.BULK}),
        (10, {Lane.CLICK, Lane.CONFIRM}),
        (5, {Lane.CLICK}),
        (1, {Lane.CLICK}),
        (0, set()),
    ],
)
def test_what_the_customers_own_traffic_needs_is_left_to_it(remaining: int, going: set[Lane]) -> None:
    ledger = Ledger(0.5, 100)
    ledger.learn(100, remaining, 40.0, now=0.0)
    assert {lane for lane in Lane if ledger.wait(lane, 0.0) == 0} == going
    assert {ledger.wait(lane, 10.0) for lane in Lane if lane not in going} <= {30.0}
    assert all(ledger.wait(lane, 40.0) == 0 for lane in Lane)


def test_requests_of_ours_count_against_what_was_left_until_the_provider_says_again() -> None:
    ledger = Ledger(1.0, 100)
    ledger.learn(100, 28, 40.0, now=0.0)
    spend(ledger, 3, 0.0)
    assert ledger.wait(Lane.ROTATION, 0.0) == 40.0
    assert ledger.wait(Lane.BULK, 0.0) == 0
    ledger.learn(100, 90, 40.0, now=1.0)
    assert ledger.wait(Lane.ROTATION, 1.0) == 0


@pytest.mark.parametrize("limit", [0, -1, -(10**9), HIGHEST_LIMIT + 1, 10**15])
def test_a_limit_that_cannot_be_is_passed_over(limit: int) -> None:
    ledger = Ledger(0.5, 600)
    ledger.learn(limit, 500, 30.0, now=0.0)
    assert (ledger.limit, ledger.share) == (600, 300)


@pytest.mark.parametrize("remaining", [-1, 601, 10**15])
def test_a_remainder_that_cannot_be_is_passed_over(remaining: int) -> None:
    ledger = Ledger(0.5, 60)
    ledger.learn(600, remaining, 30.0, now=0.0)
    assert ledger.limit == 600
    assert [ledger.wait(lane, 0.0) for lane in Lane] == [0, 0, 0, 0]


@pytest.mark.parametrize(("said", "waited"), [(-1e12, 1.0), (0.0, 1.0), (30.0, 30.0), (60.0, 60.0), (1e12, 60.0)])
def test_a_reset_lies_between_a_second_and_a_minute_ahead(said: float, waited: float) -> None:
    ledger = Ledger(0.5, 60)
    ledger.learn(60, 0, said, now=100.0)
    assert ledger.wait(Lane.CLICK, 100.0) == waited


def test_a_refusal_stops_everything_then_halves_the_pace_which_rises_again_by_the_minute() -> None:
    ledger = Ledger(1.0, 100)
    ledger.refused(20.0, now=0.0)
    assert [ledger.wait(lane, 5.0) for lane in Lane] == [15.0] * 4
    assert [ledger.wait(lane, 20.0) for lane in Lane] == [0.0] * 4
    shares = []
    for minute in range(7):
        ledger.spend(20.0 + minute * 60)
        shares.append(ledger.share)
    assert shares == pytest.approx([50, 60, 70, 80, 90, 100, 100], abs=1)


def test_the_pace_does_not_rise_within_the_minute_after_a_pause() -> None:
    ledger = Ledger(1.0, 100)
    ledger.refused(3600.0, now=0.0)
    for late in range(60):
        ledger.spend(3600.0 + late)
    assert ledger.share == 50


def test_many_refusals_of_requests_under_way_together_halve_the_pace_once() -> None:
    ledger = Ledger(1.0, 100)
    for number in range(64):
        ledger.refused(10.0, now=number / 64)
    assert ledger.share == 50
    assert ledger.wait(Lane.CLICK, 1.0) == pytest.approx(10.0, abs=0.1)


def test_refusals_again_and_again_end_at_a_tenth_of_the_pace() -> None:
    ledger = Ledger(1.0, 100)
    shares = []
    for number in range(6):
        ledger.refused(10.0, now=number * 20.0)
        shares.append(ledger.share)
    assert shares == [50, 25, 12, 10, 10, 10]


@pytest.mark.parametrize(("asked", "paused"), [(-5.0, 1.0), (0.0, 1.0), (7.0, 7.0), (1e9, LONGEST_PAUSE)])
def test_a_pause_is_between_a_second_and_an_hour(asked: float, paused: float) -> None:
    ledger = Ledger(0.5)
    ledger.refused(asked, now=0.0)
    assert ledger.wait(Lane.CLICK, 0.0) == paused


def test_a_shorter_refusal_does_not_shorten_a_pause() -> None:
    ledger = Ledger(0.5)
    ledger.refused(100.0, now=0.0)
    ledger.refused(1.0, now=1.0)
    assert ledger.wait(Lane.CLICK, 1.0) == 99.0


def test_a_pause_that_a_slower_clock_still_remembers_halves_the_pace_only_once() -> None:
    ledger = Ledger(1.0, 100)
    ledger.refused(300.0, now=0.0)
    ledger.hear(Standing(granted=False, pause=0.5), now=300.0)
    assert ledger.wait(Lane.CLICK, 300.0) == 0.5
    assert ledger.share == 50


@given(
    st.lists(st.tuples(QUARTERS.map(lambda step: step / 8), LANES), max_size=60),
    st.lists(st.tuples(QUARTERS, st.integers(1, 9)), max_size=5),
    st.integers(1, 100),
    st.integers(0, 100),
)
def test_there_is_room_for_as_many_as_could_go_one_after_the_other(
    steps: list[tuple[float, Lane]], others: list[tuple[float, int]], limit: int, remaining: int
) -> None:
    ledger, now = Ledger(0.5, limit), 0.0
    ledger.hear(Standing(granted=True, others=others), now)
    ledger.learn(limit, remaining, 30.0, now)
    for step, lane in steps:
        now += step
        room, gone = ledger.room(lane, now), 0
        while gone < room and gone < 3:
            assert ledger.wait(lane, now) == 0
            ledger.spend(now)
            gone += 1
        assert ledger.room(lane, now) == room - gone
        assert (ledger.wait(lane, now) == 0) == (room > gone)


def clock() -> float:
    return asyncio.get_running_loop().time()


async def taken(allowance: Allowance, lane: Lane, order: list[Any], name: Any = None) -> None:
    await allowance.take(lane)
    order.append((lane if name is None else name, round(clock(), 1)))


def test_a_call_goes_at_once_while_there_is_room() -> None:
    async def main() -> None:
        allowance = Allowance(0.5, 60)
        for _ in range(21):
            await allowance.take(Lane.ROTATION)
        assert clock() == 0
        assert (allowance.used, allowance.share, allowance.limit) == (21, 30, 60)
        await allowance.take(Lane.ROTATION)
        assert 60 <= clock() < 60.1

    played(main)


def test_thousands_that_wait_to_be_confirmed_do_not_keep_out_the_sweep_that_answers_for_all_of_them() -> None:
    async def main() -> None:
        allowance, order = Allowance(1.0, 60), list[Any]()

        async def confirm() -> None:
            while True:
                await taken(allowance, Lane.CONFIRM, order, "one")

        confirming = [asyncio.create_task(confirm()) for _ in range(16)]
        await asyncio.sleep(1)
        await taken(allowance, Lane.BULK, order, "sweep")
        for task in confirming:
            task.cancel()
        await asyncio.gather(*confirming, return_exceptions=True)
        assert order[-1] == ("sweep", 60.0)

    played(main)


def test_a_sweep_lets_those_go_first_who_are_more_urgent_for_a_while() -> None:
    async def main() -> None:
        allowance, order = Allowance(1.0, 60), list[Any]()
        for _ in range(57):
            await allowance.take(Lane.CONFIRM)
        await asyncio.sleep(58)
        async with asyncio.TaskGroup() as group:
            for lane in (Lane.BULK, Lane.CONFIRM, Lane.CLICK):
                group.create_task(taken(allowance, lane, order, lane))
        assert [who for who, _ in order] == [Lane.CLICK, Lane.CONFIRM, Lane.BULK]

    played(main)


def test_the_most_urgent_goes_first_and_equals_in_order_of_arrival() -> None:
    async def main() -> None:
        allowance, order = Allowance(1.0, 1), list[Any]()
        lanes = [lane for lane in Lane if lane is not Lane.BULK]
        await allowance.take(Lane.ROTATION)
        async with asyncio.TaskGroup() as group:
            for name in ("a", "b"):
                for lane in reversed(lanes):
                    group.create_task(taken(allowance, lane, order, (lane, name)))
        assert [who for who, _ in order] == [(lane, name) for lane in lanes for name in ("a", "b")]
        assert [at for _, at in order] == [60.0 * turn for turn in range(1, 7)]

    played(main)


def test_a_click_overtakes_a_thousand_that_wait() -> None:
    async def main() -> None:
        allowance, order = Allowance(1.0, 20), list[Any]()
        rotation = [asyncio.create_task(taken(allowance, Lane.ROTATION, order)) for _ in range(1000)]
        await asyncio.sleep(0.01)
        assert len(order) == 14
        assert allowance.waiting == {Lane.ROTATION: 986}
        for _ in range(6):
            await allowance.take(Lane.CLICK)
        assert clock() == 0.01
        for task in rotation:
            task.cancel()
        await asyncio.wait(rotation)
        assert allowance.waiting == {}

    played(main)


@pytest.mark.parametrize("limit", [1, 7, 60])
def test_under_any_rush_no_minute_holds_more_than_the_share_and_everybody_gets_a_turn(limit: int) -> None:
    async def main() -> None:
        allowance, order = Allowance(0.5, limit), list[Any]()
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(taken(allowance, Lane(number % 4), order))
        assert len(order) == 200
        assert busiest_minute([at for _, at in order]) <= max(1, limit // 2)
        assert [lane for lane, _ in order][-50:].count(Lane.CLICK) <= 1

    played(main)


@given(st.lists(st.tuples(st.floats(0, 20), LANES, st.one_of(st.none(), st.floats(0, 100))), max_size=60))
def test_however_calls_come_and_give_up_the_share_is_kept_and_all_others_go(
    calls: list[tuple[float, Lane, float | None]],
) -> None:
    async def main() -> None:
        allowance, sent, given_up = Allowance(0.5, 10), list[float](), 0

        async def call(lane: Lane, patience: float | None) -> None:
            nonlocal given_up
            try:
                async with asyncio.timeout(patience):
                    await allowance.take(lane)
            except TimeoutError:
                given_up += 1
                return
            sent.append(clock())

        async with asyncio.TaskGroup() as group:
            for step, lane, patience in calls:
                await asyncio.sleep(step)
                group.create_task(call(lane, patience))
        assert len(sent) + given_up == len(calls)
        assert busiest_minute(sent) <= 5
        assert allowance.used <= len([at for at in sent if at > clock() - WINDOW])
        assert allowance.waiting == {}

    played(main)


def test_one_who_gives_up_costs_nothing_and_keeps_nobody_waiting() -> None:
    async def main() -> None:
        allowance, order = Allowance(1.0, 1), list[Any]()
        await allowance.take(Lane.CLICK)
        impatient = [asyncio.create_task(taken(allowance, Lane.CLICK, order)) for _ in range(10)]
        patient = asyncio.create_task(taken(allowance, Lane.ROTATION, order, "patient"))
        await asyncio.sleep(30)
        for task in impatient:
            task.cancel()
        await asyncio.wait(impatient)
        assert allowance.used == 1
        await patient
        assert order == [("patient", 60.0)]

    played(main)


def test_one_who_gives_up_in_the_moment_of_its_turn_hands_it_on() -> None:
    async def main() -> None:
        allowance, order = Allowance(0.5, 2), list[Any]()
        await allowance.take(Lane.CLICK)
        unlucky = asyncio.create_task(taken(allowance, Lane.CLICK, order, "unlucky"))
        await asyncio.sleep(1)
        allowance.learn(4, 4, 30)
        assert allowance.used == 2
        unlucky.cancel()
        await asyncio.wait([unlucky])
        assert allowance.used == 1
        await taken(allowance, Lane.CLICK, order, "next")
        assert order == [("next", 1.0)]

    played(main)


def test_a_higher_limit_lets_go_those_who_wait() -> None:
    async def main() -> None:
        allowance, order = Allowance(0.5, 2), list[Any]()
        await allowance.take(Lane.BULK)
        waiting = asyncio.create_task(taken(allowance, Lane.BULK, order))
        await asyncio.sleep(1)
        assert order == []
        allowance.learn(600, 600, 30)
        await waiting
        assert order == [(Lane.BULK, 1.0)]
        assert (allowance.limit, allowance.share) == (600, 300)

    played(main)


def test_a_refusal_holds_back_those_who_wait_already() -> None:
    async def main() -> None:
        allowance, order = Allowance(1.0, 1), list[Any]()
        await allowance.take(Lane.CLICK)
        waiting = asyncio.create_task(taken(allowance, Lane.CLICK, order))
        await asyncio.sleep(10)
        allowance.refused(300)
        await waiting
        assert order == [(Lane.CLICK, 310.0)]

    played(main)


@pytest.mark.parametrize("customers", [0, 30, 50, 55, 60])
def test_the_customers_own_traffic_is_left_its_reserve(customers: int) -> None:
    """A provider that counts 60 a minute, a customer who sends so many at once every minute, and all our lanes busy."""

    async def main() -> None:
        allowance = Allowance(0.5, 60)
        ours = Counter[int]()
        refusals = 0

        async def call(lane: Lane) -> None:
            nonlocal refusals
            while clock() < 600:
                await allowance.take(lane)
                window, reset_in = int(clock() // 60), 60 - clock() % 60
                if customers + ours[window] < 60:
                    ours[window] += 1
                    allowance.learn(60, 60 - customers - ours[window], reset_in)
                else:
                    refusals += 1
                    allowance.refused(reset_in)
                await asyncio.sleep(0.1)

        busy = (Lane.CONFIRM, Lane.BULK, Lane.ROTATION)
        async with asyncio.TaskGroup() as group:
            for lane in busy:
                group.create_task(call(lane))
        beyond_the_reserve = max(0, 60 - customers - 3)
        under_way = len(busy) - 1
        assert max(ours.values(), default=0) <= min(30, beyond_the_reserve + under_way)
        assert bool(ours) == (customers < 60)
        assert (refusals > 0) == (customers == 60)

    played(main)
