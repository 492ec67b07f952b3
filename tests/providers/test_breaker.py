"""An API that fails is left alone, and asked once in a while."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.providers.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker


@pytest.mark.parametrize("failures", range(1, 13))
def test_each_failure_in_a_row_doubles_the_pause_up_to_five_minutes(failures: int) -> None:
    breaker, now = Breaker(random.Random(1)), 0.0
    for _ in range(failures):
        now = breaker.opens_until
        breaker.failed(now)
    most = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
    assert most / 2 <= breaker.opens_until - now <= most


def test_calls_under_way_together_count_as_one_failure() -> None:
    breaker = Breaker(random.Random(1))
    for late in range(16):
        breaker.failed(late / 100)
    assert breaker.failures == 1
    assert breaker.opens_until <= FIRST_PAUSE


def test_after_the_pause_one_may_try_and_one_good_answer_closes_it() -> None:
    breaker = Breaker(random.Random(1))
    assert not breaker.is_trying
    breaker.failed(0.0)
    assert breaker.is_open(0.5)
    assert not breaker.is_open(breaker.opens_until)
    assert breaker.is_trying
    breaker.worked()
    assert not breaker.is_trying
    assert not breaker.is_open(0.5)


@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=60))
def test_it_never_stays_open_for_longer_than_the_longest_pause(events: list[tuple[float, bool]]) -> None:
    breaker, now = Breaker(random.Random(1)), 0.0
    for step, works in events:
        now += step
        if works:
            breaker.worked()
        else:
            breaker.failed(now)
        assert not breaker.is_open(now + LONGEST_PAUSE)
