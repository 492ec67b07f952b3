"""When a notice is due, whether it is still true, and how long it is tried for."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.cadence import (
    NAGS,
    RETRY_FIRST,
    RETRY_MOST,
    Cadence,
    Drop,
    Hold,
    Send,
    Situation,
    first_due,
    is_chronic,
    reminder_due,
    retry_at,
    verdict,
)
from healthd.core.model import GOOD_NEWS, NoticeKind
from tests.core.observed import DAY, HOUR, MINUTE, NOON, SECOND

FACTS = ("open_incident", "paused", "expiring", "storm")
TRUTHS: list[dict[str, Any]] = [dict(zip(FACTS, said, strict=True)) for said in product([False, True], repeat=4)]
TRUE_WHILE_BROKEN = sorted(
    {NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED, NoticeKind.WRONG_ACCOUNT, NoticeKind.CHRONIC}
)
PEOPLES = [*TRUE_WHILE_BROKEN, NoticeKind.EXPIRING]


@pytest.mark.parametrize("facts", TRUTHS, ids=str)
@pytest.mark.parametrize("kind", sorted(GOOD_NEWS))
def test_good_news_goes_out_whatever_the_account_does_but_not_when_it_is_broken_again(
    kind: NoticeKind, facts: dict[str, Any]
) -> None:
    assert verdict(kind, NOON, Situation(**facts)) == Send()
    assert isinstance(verdict(kind, NOON, Situation(**facts, broken_again=True)), Drop)


@pytest.mark.parametrize("facts", TRUTHS, ids=str)
@pytest.mark.parametrize("kind", PEOPLES)
def test_a_notice_goes_out_only_while_it_is_true_and_the_account_is_not_paused(
    kind: NoticeKind, facts: dict[str, Any]
) -> None:
    still_true = facts["expiring"] if kind is NoticeKind.EXPIRING else facts["open_incident"]
    answer = verdict(kind, NOON, Situation(**facts))
    if not still_true:
        assert answer == Drop("recovered before it was sent")
    elif facts["paused"] or facts["storm"]:
        assert isinstance(answer, Hold)
        assert answer.reason
        assert answer.until is None
    else:
        assert answer == Send()


def true_of(kind: NoticeKind, **facts: Any) -> Situation:
    """A situation in which the notice is true."""
    return Situation(**{"open_incident": kind not in GOOD_NEWS, "expiring": kind is NoticeKind.EXPIRING, **facts})


@pytest.mark.parametrize("kind", [*PEOPLES, *sorted(GOOD_NEWS)])
def test_nothing_goes_out_in_the_quiet_hours_of_its_recipient(kind: NoticeKind) -> None:
    assert verdict(kind, NOON, true_of(kind, may_hear_at=NOON + HOUR)) == Hold(
        "quiet hours of its recipient", NOON + HOUR
    )
    assert verdict(kind, NOON, true_of(kind, may_hear_at=NOON)) == Send()


@pytest.mark.parametrize("kind", [*PEOPLES, *sorted(GOOD_NEWS)])
def test_an_address_that_reaches_nobody_is_not_written_to(kind: NoticeKind) -> None:
    assert verdict(kind, NOON, true_of(kind, unwanted="it comes back")) == Drop("it comes back")


@pytest.mark.parametrize("kind", [*PEOPLES, *sorted(GOOD_NEWS)])
@pytest.mark.parametrize("fact", ["acknowledged_until", "snoozed_until"])
def test_who_has_taken_it_on_is_spared_what_nags_until_then_and_nothing_else(kind: NoticeKind, fact: str) -> None:
    waits = Hold("somebody has taken it on", NOON + DAY)
    assert verdict(kind, NOON, true_of(kind, **{fact: NOON + DAY})) == (waits if kind in NAGS else Send())
    assert verdict(kind, NOON, true_of(kind, **{fact: NOON})) == Send()


@pytest.mark.parametrize("kind", [*PEOPLES, *sorted(GOOD_NEWS)])
def test_of_a_muted_account_nothing_but_good_news_is_told_until_then(kind: NoticeKind) -> None:
    waits = Hold("muted by a person", NOON + DAY)
    assert verdict(kind, NOON, true_of(kind, muted_until=NOON + DAY)) == (Send() if kind in GOOD_NEWS else waits)
    assert verdict(kind, NOON, true_of(kind, muted_until=NOON)) == Send()


def test_taken_on_and_put_off_the_later_of_the_two_counts() -> None:
    facts = true_of(NoticeKind.REMINDER, acknowledged_until=NOON + HOUR, snoozed_until=NOON + DAY)
    assert verdict(NoticeKind.REMINDER, NOON, facts) == Hold("somebody has taken it on", NOON + DAY)


def test_reminders_come_at_their_times_after_the_opening_and_then_end() -> None:
    cadence = Cadence(remind_after=(DAY, 3 * DAY))
    assert [reminder_due(NOON, step, cadence) for step in (1, 2, 3)] == [NOON + DAY, NOON + 3 * DAY, None]
    assert reminder_due(NOON, 1, Cadence(remind_after=())) is None


def test_after_those_that_are_listed_they_repeat_up_to_the_most() -> None:
    cadence = Cadence(remind_after=(DAY,), repeat_interval=HOUR, most_reminders=3)
    due = [reminder_due(NOON, step, cadence) for step in (1, 2, 3, 4)]
    assert due == [NOON + DAY, NOON + DAY + HOUR, NOON + DAY + 2 * HOUR, None]
    alone = Cadence(remind_after=(), repeat_interval=HOUR)
    assert reminder_due(NOON, 1, alone) == NOON + HOUR


def test_the_most_reminders_bound_those_that_are_listed_too() -> None:
    cadence = Cadence(remind_after=(HOUR, DAY, 2 * DAY), most_reminders=1)
    assert [reminder_due(NOON, step, cadence) for step in (1, 2)] == [NOON + HOUR, None]
    assert cadence.most_messages == 4


@given(
    st.lists(st.timedeltas(SECOND, 30 * DAY), max_size=5).map(lambda spans: tuple(sorted(spans))),
    st.none() | st.timedeltas(MINUTE, 30 * DAY),
    st.integers(0, 20),
)
def test_however_it_is_set_reminders_are_few_and_come_one_after_the_other(
    after: tuple[timedelta, ...], every: timedelta | None, most: int
) -> None:
    cadence = Cadence(after, every, most)
    due = [at for step in range(1, 50) if (at := reminder_due(NOON, step, cadence)) is not None]
    assert due == sorted(due)
    assert len(due) == (most if every is not None else min(len(after), most))
    assert cadence.most_messages == 3 + len(due)


def test_a_notice_waits_for_others_only_where_there_may_be_any() -> None:
    policy = Cadence(group_wait=10 * SECOND, group_interval=5 * MINUTE)
    assert first_due(NoticeKind.OPENED, NOON, None, alone=True, policy=policy) == NOON
    assert first_due(NoticeKind.OPENED, NOON, None, alone=False, policy=policy) == NOON + 10 * SECOND


def test_after_a_message_the_next_about_the_same_waits_its_interval() -> None:
    policy = Cadence(group_wait=10 * SECOND, group_interval=5 * MINUTE)

    def due(ago: timedelta, kind: NoticeKind = NoticeKind.OPENED) -> timedelta:
        return first_due(kind, NOON, NOON - ago, alone=True, policy=policy) - NOON

    assert due(MINUTE) == 4 * MINUTE
    assert due(6 * MINUTE) == timedelta(0)
    assert due(MINUTE, NoticeKind.EXPIRING) == timedelta(0)


@pytest.mark.parametrize(("repairs", "chronic"), [(0, False), (3, False), (4, True), (5, True)])
def test_what_is_repaired_too_often_is_chronic(repairs: int, chronic: bool) -> None:
    assert is_chronic(repairs, Cadence(chronic_repairs=4)) is chronic
    assert not is_chronic(repairs, Cadence(chronic_repairs=0)), "turned off"


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
