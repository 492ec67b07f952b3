"""Posting to broken accounts: what is to be paused, what resumed, and what is none of our business."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from healthd.core.model import Listed, NoticeStatus, Signal, Source, State
from healthd.engine import Change
from healthd.store import decisions, pauses
from healthd.store.notices import Holding
from healthd.store.pauses import LEASE, Action, Turn, Wanted
from tests.engine.desk import MINUTE, SECOND, Desk, empty_store


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One healthy account in a workspace whose broken accounts are paused."""
    with empty_store() as connection:
        made = Desk(connection)
        made.engine = replace(made.engine, auto_pause=frozenset({"acme"}))
        sweep(made, Signal.OK)
        yield made


def sweep(desk: Desk, signal: Signal, *, paused: bool = False, **facts: Any) -> Change:
    desk.now += SECOND
    return desk.read(signal, source=Source.BULK, paused=paused, **facts)


def waiting(desk: Desk) -> Wanted | None:
    return pauses.get(desk.connection, desk.stored().id)


def action(desk: Desk) -> Action | None:
    found = waiting(desk)
    return found.action if found is not None else None


def is_ours(desk: Desk) -> bool:
    return desk.stored().auto_paused_at is not None


def call(desk: Desk) -> Turn:
    """The sweep shows the account active, and a call begins."""
    desk.now += SECOND
    pauses.seen_active(desk.connection, "acme", ["1"], desk.now)
    turn = pauses.claim(desk.connection, "acme", desk.now, pausing=True)
    assert turn is not None
    return turn


def pause(desk: Desk) -> None:
    """The account breaks and is paused."""
    desk.break_down()
    pauses.paused(desk.connection, call(desk), desk.now)


def told(desk: Desk) -> list[tuple[str, str]]:
    found = decisions.of_account(desk.connection, desk.stored().id)
    return [(one.what, one.reason) for one in found if one.what.startswith("posting")]


def test_a_broken_account_is_to_be_paused_once_that_is_confirmed(desk: Desk) -> None:
    desk.hear(Signal.TOKEN_EXPIRED)
    assert action(desk) is None
    desk.now += 6 * MINUTE
    desk.time_out()
    assert desk.state() is State.EXPIRED
    assert action(desk) is None, "nobody has confirmed it"
    sweep(desk, Signal.BAD_TOKEN)
    assert action(desk) is Action.PAUSE


def test_an_incident_that_begins_confirmed_is_enough(desk: Desk) -> None:
    desk.break_down()
    assert action(desk) is Action.PAUSE


def test_where_nobody_wants_it_nothing_is_paused(desk: Desk) -> None:
    desk.engine = replace(desk.engine, auto_pause=frozenset({"another"}))
    desk.break_down()
    assert action(desk) is None


def test_what_a_person_has_paused_is_neither_paused_nor_resumed(desk: Desk) -> None:
    sweep(desk, Signal.OK, paused=True)
    desk.break_down()
    assert action(desk) is None
    sweep(desk, Signal.OK, paused=True)
    assert desk.incident() is None
    assert action(desk) is None
    assert desk.account().paused


def test_a_person_who_pauses_it_first_keeps_it_so(desk: Desk) -> None:
    desk.break_down()
    sweep(desk, Signal.BAD_TOKEN, paused=True)
    assert action(desk) is None
    sweep(desk, Signal.OK, paused=True)
    assert action(desk) is None
    assert not is_ours(desk)
    assert told(desk) == [("posting not paused", "somebody else has paused it")]


def test_a_repair_before_the_pause_withdraws_it(desk: Desk) -> None:
    desk.break_down()
    assert not sweep(desk, Signal.OK).resume
    assert waiting(desk) is None


def test_a_repair_resumes_what_healthd_has_paused_and_wakes_who_does_it(desk: Desk) -> None:
    pause(desk)
    change = sweep(desk, Signal.OK, paused=True)
    assert change.resume
    assert action(desk) is Action.RESUME
    turn = pauses.claim(desk.connection, "acme", desk.now, pausing=True)
    assert turn is not None
    pauses.resumed(desk.connection, turn, desk.now, pausing=True)
    assert not desk.account().paused
    assert told(desk) == [("posting paused", pauses.BROKEN), ("posting resumed", pauses.REPAIRED)]


def test_a_repair_resumes_it_though_pausing_was_switched_off_meanwhile(desk: Desk) -> None:
    pause(desk)
    desk.engine = replace(desk.engine, auto_pause=frozenset())
    sweep(desk, Signal.OK, paused=True)
    assert action(desk) is Action.RESUME


def test_what_a_person_resumes_is_not_paused_again_in_the_same_incident(desk: Desk) -> None:
    pause(desk)
    sweep(desk, Signal.BAD_TOKEN)
    assert not is_ours(desk)
    for _ in range(3):
        sweep(desk, Signal.BAD_TOKEN)
    assert action(desk) is None
    assert told(desk)[-1] == ("posting resumed", "somebody else has resumed it")


def test_what_a_person_resumes_and_pauses_again_is_theirs(desk: Desk) -> None:
    pause(desk)
    sweep(desk, Signal.BAD_TOKEN)
    sweep(desk, Signal.BAD_TOKEN, paused=True)
    sweep(desk, Signal.OK, paused=True)
    assert action(desk) is None
    assert desk.account().paused


def test_an_answer_from_before_the_pause_does_not_look_like_a_person_who_resumed_it(desk: Desk) -> None:
    desk.break_down()
    turn = call(desk)
    asked = desk.now
    desk.now += SECOND
    pauses.paused(desk.connection, turn, desk.now)
    sweep(desk, Signal.BAD_TOKEN, asked_at=asked)
    assert is_ours(desk)
    assert desk.account().paused


def test_a_pause_whose_record_was_lost_is_known_again_by_the_next_sweep(desk: Desk) -> None:
    desk.break_down()
    call(desk)
    sweep(desk, Signal.BAD_TOKEN, paused=True)
    assert is_ours(desk)
    assert waiting(desk) is None
    sweep(desk, Signal.OK, paused=True)
    assert action(desk) is Action.RESUME


def test_a_pause_that_may_have_happened_is_taken_back_after_the_repair(desk: Desk) -> None:
    desk.break_down()
    call(desk)
    began = desk.now
    desk.now += SECOND
    desk.read(Signal.OK)
    found = waiting(desk)
    assert found is not None
    assert (found.action, found.due_at) == (Action.RESUME, began + LEASE), "not before that call has ended"
    assert is_ours(desk)


def test_a_resume_whose_record_was_lost_is_known_again_by_the_next_sweep(desk: Desk) -> None:
    pause(desk)
    sweep(desk, Signal.OK, paused=True)
    assert pauses.claim(desk.connection, "acme", desk.now, pausing=True) is not None
    sweep(desk, Signal.OK)
    assert waiting(desk) is None
    assert not is_ours(desk)
    assert told(desk)[-1] == ("posting resumed", pauses.REPAIRED)


def test_what_breaks_again_before_it_was_resumed_stays_paused_and_ours(desk: Desk) -> None:
    pause(desk)
    sweep(desk, Signal.OK, paused=True)
    desk.break_down()
    assert waiting(desk) is None
    assert is_ours(desk)
    desk.now += SECOND
    desk.read(Signal.OK)
    assert action(desk) is Action.RESUME


def test_of_a_removed_account_nothing_is_left_to_do(desk: Desk) -> None:
    pause(desk)
    desk.read(Signal.GONE, source=Source.INVENTORY, at=None, asked_at=None)
    assert waiting(desk) is None
    assert not is_ours(desk)


def test_people_whose_message_a_paused_profile_held_hear_of_it_though_healthd_has_paused_the_account(
    desk: Desk,
) -> None:
    pause(desk)
    desk.hand_over(lambda _: NoticeStatus.HELD, Holding("paused"))
    assert desk.told() == [("opened", "held")]
    desk.discover(Listed("1", "facebook", "Account"))
    assert desk.told() == [("opened", "pending")]
