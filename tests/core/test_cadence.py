"""When a notice is due, whether it is still true, and how long it is tried for."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.cadence import RETRY_FIRST, RETRY_MOST, Cadence, Drop, Hold, Send, reminder_due, retry_at, verdict
from healthd.core.model import GOOD_NEWS, NoticeKind
from tests.core.observed import DAY, NOON, SECOND

FACTS = [dict(zip(("open_incident", "paused", "expiring"), facts, strict=True)) for facts in product([0, 1], repeat=3)]


@pytest.mark.parametrize("facts", FACTS, ids=str)
@pytest.mark.parametrize("kind", sorted(GOOD_NEWS))
def test_good_news_always_goes_out(kind: NoticeKind, facts: dict[str, bool]) -> None:
    assert verdict(kind, **facts) == Send()


@pytest.mark.parametrize("facts", FACTS, ids=str)
@pytest.mark.parametrize("kind", [NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.EXPIRING])
def test_a_notice_goes_out_only_while_it_is_true_and_the_account_is_not_paused(
    kind: NoticeKind, facts: dict[str, bool]
) -> None:
    still_true = facts["expiring"] if kind is NoticeKind.EXPIRING else facts["open_incident"]
    answer = verdict(kind, **facts)
    if not still_true:
        assert isinstance(answer, Drop)
        assert answer.reason
    elif facts["paused"]:
        assert isinstance(answer, Hold)
        assert answer.reason
    else:
        assert answer == Send()


def test_reminders_come_at_their_times_after_the_opening_and_then_end() -> None:
    cadence = Cadence(remind_after=(DAY, 3 * DAY))
    assert [reminder_due(NOON, step, cadence) for step in (1, 2, 3)] == [NOON + DAY, NOON + 3 * DAY, None]
    assert reminder_due(NOON, 1, Cadence(remind_after=())) is None


@given(st.integers(1, 10_000), st.integers(0, 2**32), st.none() | st.floats(0, 7200))
def test_a_retry_waits_longer_each_time_but_never_longer_than_an_hour_or_than_was_asked(
    attempts: int, seed: int, after: float | None
) -> None:
    due = retry_at(attempts, NOON, NOON, Cadence(), random.Random(seed), after)
    assert due is not None
    wait, asked = due - NOON, timedelta(seconds=after or 0)
    most = RETRY_MOST if attempts > 9 else min(RETRY_FIRST * 2 ** (attempts - 1), RETRY_MOST)
    assert max(most / 2, asked) <= wait <= max(most, asked)


def test_retries_of_many_notices_do_not_come_together() -> None:
    rng = random.Random(1)
    assert len({retry_at(3, NOON, NOON, Cadence(), rng, None) for _ in range(100)}) > 90


@pytest.mark.parametrize(
    ("now", "after", "gives_up"),
    {
        "just in time": (NOON + DAY - 11 * SECOND, None, False),
        "too late": (NOON + DAY, None, True),
        "asked to wait beyond the end": (NOON, 25 * 3600.0, True),
    }.values(),
)
def test_a_message_is_tried_for_a_day_and_then_given_up(now: datetime, after: float | None, gives_up: bool) -> None:
    due = retry_at(1, NOON, now, Cadence(give_up_after=DAY), random.Random(1), after)
    assert (due is None) == gives_up
