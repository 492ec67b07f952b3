"""How soon an account is asked about again."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.model import Account, Lane, State
from healthd.core.probing import CLICK_WINDOW, ProbePolicy, next_probe
from tests.core.observed import HOUR, MINUTE, NOON, SECOND, account

POLICY = ProbePolicy(account_interval=6 * HOUR)
SEEDS = st.integers(0, 2**32)

PACES: dict[str, tuple[Account, timedelta, timedelta, Lane]] = {
    "unknown": (account(), 5.4 * HOUR, 6 * HOUR, Lane.ROTATION),
    "healthy": (account(state=State.HEALTHY), 5.4 * HOUR, 6 * HOUR, Lane.ROTATION),
    "expiring": (account(state=State.EXPIRING), 5.4 * HOUR, 6 * HOUR, Lane.ROTATION),
    "healthy, with errors": (account(state=State.HEALTHY, error_since=NOON), 13.5 * MINUTE, 15 * MINUTE, Lane.ROTATION),
    "suspect": (account(state=State.SUSPECT), 8 * SECOND, 12 * SECOND, Lane.CONFIRM),
    "expired": (account(state=State.EXPIRED), 24 * MINUTE, 36 * MINUTE, Lane.ROTATION),
    "disconnected": (account(state=State.DISCONNECTED), 24 * MINUTE, 36 * MINUTE, Lane.ROTATION),
}


def test_every_live_state_has_its_pace() -> None:
    assert {known.state for known, *_ in PACES.values()} == set(State) - {State.REMOVED}


@pytest.mark.parametrize(("known", "least", "most", "lane"), PACES.values(), ids=PACES)
@given(seed=SEEDS)
def test_each_state_has_its_pace(known: Account, least: timedelta, most: timedelta, lane: Lane, seed: int) -> None:
    at, found = next_probe(known, None, NOON, POLICY, random.Random(seed))
    assert at is not None
    assert least <= at - NOON <= most
    assert found is lane


def test_no_account_is_left_alone_for_longer_than_its_interval() -> None:
    rng = random.Random(1)
    for state in set(State) - {State.REMOVED}:
        at, _ = next_probe(account(state=state), None, NOON, POLICY, rng)
        assert at is not None
        assert at <= NOON + POLICY.account_interval


def test_a_removed_account_is_never_asked_about() -> None:
    assert next_probe(account(state=State.REMOVED), NOON, NOON, POLICY, random.Random(1))[0] is None


def test_after_a_click_the_looks_start_at_five_seconds_and_slow_to_a_minute_for_a_quarter_of_an_hour() -> None:
    rng, broken, now, waits = random.Random(1), account(state=State.EXPIRED), NOON, []
    while True:
        at, lane = next_probe(broken, NOON, now, POLICY, rng)
        assert at is not None
        if lane is not Lane.CLICK:
            break
        waits.append((at - now).total_seconds())
        now = at
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (5, 60)
    assert 15 * MINUTE == CLICK_WINDOW <= now - NOON <= CLICK_WINDOW + MINUTE
    assert len(waits) < 40, "a click must not eat the workspace's allowance"


def test_a_click_on_an_account_that_works_changes_no_pace() -> None:
    at, lane = next_probe(account(state=State.HEALTHY), NOON, NOON, POLICY, random.Random(1))
    assert at is not None
    assert (at > NOON + HOUR, lane) == (True, Lane.ROTATION)


def test_accounts_seen_together_do_not_stay_together() -> None:
    rng = random.Random(1)
    dues = {next_probe(account(state=State.HEALTHY), None, NOON, POLICY, rng)[0] for _ in range(1000)}
    assert len(dues) > 990
