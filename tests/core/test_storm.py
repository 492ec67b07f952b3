"""When a platform's failure is a storm, and when its hold ends: always."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.storm import StormFacts, StormPolicy, ends, looks_again_at
from tests.core.observed import HOUR, MINUTE, NOON, SECOND

POLICY = StormPolicy(least=25, share=0.1)


@pytest.mark.parametrize(
    ("broken", "accounts", "is_storm"),
    [(25, 30, False), (26, 30, True), (26, 250, True), (26, 260, False), (27, 260, True), (100, 1000, False)],
)
def test_more_than_a_number_and_more_than_a_share_make_a_storm(broken: int, accounts: int, is_storm: bool) -> None:
    assert POLICY.breaks_out(broken, accounts) is is_storm


def facts(still: int, began: timedelta = timedelta(0), last: timedelta = timedelta(0)) -> StormFacts:
    return StormFacts(NOON - began, NOON - last, still, 100)


ENDS = {
    "all are well": (facts(0), "every account recovered by itself"),
    "it has just begun": (facts(50), None),
    "few are left, and it is quiet": (facts(25, 20 * MINUTE, 15 * MINUTE), "it abated: few are still broken"),
    "few are left, but one broke just now": (facts(25, 20 * MINUTE, 15 * MINUTE - SECOND), None),
    "it is quiet, but many are broken": (facts(26, 20 * MINUTE, 15 * MINUTE), None),
    "its time is up": (facts(90, HOUR), "it lasts: what is still broken needs its people"),
    "its time is nearly up": (facts(90, HOUR - SECOND), None),
}


@pytest.mark.parametrize(("storm", "why"), ENDS.values(), ids=ENDS)
def test_a_hold_ends_for_one_of_three_reasons(storm: StormFacts, why: str | None) -> None:
    assert ends(storm, NOON, POLICY) == why


spans = st.timedeltas(timedelta(seconds=1), timedelta(days=2))


@given(spans, spans, spans, st.integers(1, 1000))
def test_looked_at_whenever_it_says_every_hold_ends_at_its_longest(
    window: timedelta, calm: timedelta, longest: timedelta, still: int
) -> None:
    policy = StormPolicy(window=window, calm=calm, longest=longest)
    now, looks = NOON, 0
    while ends(StormFacts(NOON, now, still, still), now, policy) is None:
        later = looks_again_at(StormFacts(NOON, now, still, still), now, policy)
        assert later > now
        # A hold may be looked at often, never without end: skip ahead as a slow daemon would.
        now, looks = max(later, now + longest / 50), looks + 1
        assert looks < 60
    assert now - NOON <= longest + max(calm / 5, longest / 50, timedelta(seconds=1))
