"""How much goes into one transaction."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from healthd.pace import Pace

SPAN = timedelta(milliseconds=100)
DONE, MILLISECONDS = st.integers(1, 500), st.integers(-10, 10_000)


def test_it_begins_with_few_and_takes_as_many_as_fit() -> None:
    pace = Pace(SPAN, 20, 500)
    assert pace.number == 20
    pace.learn(20, timedelta(milliseconds=40))
    assert pace.number == 50
    pace.learn(50, timedelta(milliseconds=200))
    assert pace.number == 25


@given(st.lists(st.tuples(DONE, MILLISECONDS)))
def test_whatever_the_clock_says_it_stays_within_its_bounds(said: list[tuple[int, int]]) -> None:
    pace = Pace(SPAN, 20, 500)
    for done, took in said:
        pace.learn(done, timedelta(milliseconds=took))
        assert 20 <= pace.number <= 500


def test_where_the_most_is_less_than_the_fewest_it_is_the_most() -> None:
    pace = Pace(SPAN, 20, 3)
    pace.learn(3, timedelta(seconds=9))
    assert pace.number == 3
