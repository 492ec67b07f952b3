"""Posts that could not be published: a reason to look at the account they were for, never a reason to tell anybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from healthd.core.model import Lane, Signal, State
from healthd.core.post_failures import CANDIDATES, PostFailure
from healthd.engine import CANNOT_PUBLISH, Change
from healthd.store import decisions, incidents, post_failures
from healthd.store.post_failures import FailedPost
from tests.engine.desk import DAY, HOUR, MINUTE, NOON, SECOND, Desk
from tests.tidy import tidy

CODE = "TOKEN_EXPIRED"


def fails(
    desk: Desk, post: str = "7", *, code: str = CODE, platform: str = "facebook", at: datetime | None = None,
    profile: str = "",
) -> tuple[list[Change], str]:  # fmt: skip
    """One post fails on one platform: what that changed, and what it was taken for."""
    desk.now += timedelta(milliseconds=1)
    at = (at or desk.now).replace(microsecond=0)
    failure = PostFailure(post, platform, code, "The token has expired.", None, at)
    changes, [(_, taken)] = desk.engine.posts_failed(
        desk.connection, "acme", [failure], desk.now, profile, f"evt_{post}"
    )
    return changes, taken


def failed(desk: Desk, ref: str = "1") -> list[FailedPost]:
    return post_failures.of_account(desk.connection, desk.stored(ref).id)


def notes(desk: Desk) -> list[str]:
    return [one.what for one in decisions.of_account(desk.connection, desk.stored().id)]


def later(desk: Desk, span: timedelta = MINUTE) -> None:
    desk.now += span


def test_the_only_account_there_is_looked_at_at_once_and_a_bad_reading_opens_the_incident(desk: Desk) -> None:
    desk.read(Signal.OK)
    later(desk)
    changes, taken = fails(desk)
    assert (desk.state(), desk.told(), taken) == (State.SUSPECT, [], "grant")
    assert desk.turn() == (desk.now, Lane.CONFIRM)
    assert [change.probe for change in changes] == [Lane.CONFIRM]
    opened = desk.read(Signal.BAD_TOKEN).opened
    assert opened is not None
    assert opened.broken_at == failed(desk)[0].at


def test_a_good_reading_clears_it_without_a_word(desk: Desk) -> None:
    desk.read(Signal.OK)
    fails(desk)
    desk.read(Signal.OK)
    assert (desk.state(), desk.told()) == (State.HEALTHY, [])


def test_where_nobody_answers_nobody_is_told(desk: Desk) -> None:
    desk.read(Signal.OK)
    fails(desk)
    later(desk, HOUR)
    (change,) = desk.time_out()
    assert (change.signal, desk.state(), desk.told()) == (Signal.UNANSWERED, State.HEALTHY, [])


def test_an_error_that_is_the_posts_own_is_on_record_and_nothing_else(desk: Desk) -> None:
    desk.read(Signal.OK)
    before = desk.stored()
    assert fails(desk, code="MEDIA_TOO_LARGE") == ([], "other")
    assert desk.stored() == before
    assert [(one.post, one.code, one.about_grant) for one in failed(desk)] == [("7", "MEDIA_TOO_LARGE", False)]


def test_what_speaks_of_the_grant_is_the_operators_choice(desk: Desk) -> None:
    desk.read(Signal.OK)
    desk.engine = replace(desk.engine, auth_codes=("E17",))
    assert fails(desk) == ([], "other")
    assert fails(desk, code="e17")[1] == "grant"


def test_a_post_that_failed_before_the_last_reconnect_is_on_record_and_changes_nothing(desk: Desk) -> None:
    desk.read(Signal.OK)
    later(desk, HOUR)
    desk.hear(Signal.CONNECTED)
    (change,), _ = fails(desk, at=desk.now - MINUTE)
    assert (change.fenced, desk.state()) == (True, State.HEALTHY)
    assert len(failed(desk)) == 1


def test_where_several_may_be_meant_all_are_looked_at_soon_and_none_is_blamed(desk: Desk) -> None:
    for ref in ("1", "2", "3"):
        desk.read(Signal.OK, ref)
    assert fails(desk) == ([], "several")
    assert [desk.state(ref) for ref in ("1", "2", "3")] == [State.HEALTHY] * 3
    assert not any(failed(desk, ref) for ref in ("1", "2", "3"))
    turns = [desk.turn(ref) for ref in ("1", "2", "3")]
    assert all(lane is Lane.CONFIRM and at is not None and at <= desk.now + MINUTE for at, lane in turns)
    assert len({at for at, _ in turns}) == 3, "they are asked one after the other"


def test_posts_that_go_on_failing_put_no_question_off(desk: Desk) -> None:
    for ref in ("1", "2"):
        desk.read(Signal.OK, ref)
    fails(desk)
    first = [desk.turn(ref) for ref in ("1", "2")]
    later(desk, SECOND)
    fails(desk, "8")
    assert [desk.turn(ref) for ref in ("1", "2")] == first


def test_among_too_many_nobody_is_looked_for(desk: Desk) -> None:
    refs = [str(number) for number in range(1, CANDIDATES + 2)]
    desk.apply(*(desk.reading(Signal.OK, ref) for ref in refs))
    turns = [desk.turn(ref) for ref in refs]
    assert fails(desk) == ([], "several")
    assert [desk.turn(ref) for ref in refs] == turns


def test_one_that_is_broken_already_explains_it(desk: Desk) -> None:
    desk.read(Signal.OK, "2")
    desk.break_down("1")
    turn = desk.turn("2")
    assert fails(desk) == ([], "explained")
    assert (desk.state("2"), desk.turn("2"), failed(desk, "2")) == (State.HEALTHY, turn, [])


@pytest.mark.parametrize(
    "other", ["paused", "gone", "of another platform", "of another profile", "of another customer"]
)
def test_an_account_to_which_no_such_post_goes_is_not_meant(desk: Desk, other: str) -> None:
    desk.read(Signal.OK)
    facts: dict[str, dict[str, Any]] = {"paused": {"paused": True}, "of another platform": {"platform": "linkedin"}}
    profile, workspace = "9" if "profile" in other else "", "other" if "customer" in other else "acme"
    reading = desk.reading(Signal.OK, "2", **facts.get(other, {}))
    desk.engine.apply(desk.connection, workspace, [reading], desk.now, profile)
    if other == "gone":
        desk.read(Signal.GONE, "2")
    later(desk)
    assert fails(desk)[1] == "grant"
    assert desk.state() is State.SUSPECT


def test_a_post_of_a_profile_is_about_the_profiles_account(desk: Desk) -> None:
    desk.read(Signal.OK)
    desk.apply(desk.reading(Signal.OK, "2"), profile="9")
    fails(desk, profile="9")
    assert (desk.state("1"), desk.state("2")) == (State.HEALTHY, State.SUSPECT)


def test_nobody_is_on_that_platform(desk: Desk) -> None:
    desk.read(Signal.OK)
    assert fails(desk, platform="tiktok") == ([], "nobody")


def test_posts_of_a_broken_account_are_counted_and_move_nothing(desk: Desk) -> None:
    desk.break_down()
    told, as_of = desk.told(), desk.account().as_of
    for post in ("7", "8", "7"):
        later(desk)
        fails(desk, post)
    assert (desk.state(), desk.told(), desk.account().as_of) == (State.EXPIRED, told, as_of)
    assert [one.post for one in failed(desk)] == ["8", "7"]
    incident = desk.incident()
    assert incident is not None
    assert post_failures.between(desk.connection, desk.stored().id, incident.broken_at, desk.now) == 2


def test_they_leave_no_line_each_in_the_accounts_history(desk: Desk) -> None:
    desk.read(Signal.OK)
    for post in range(50):
        fails(desk, str(post))
    lines = incidents.history_of(desk.connection, desk.stored().id)
    assert [(line.signal, line.after) for line in lines] == [("post_failed", "suspect")]


def test_an_answer_stands_for_some_minutes_against_more_of_the_same(desk: Desk) -> None:
    desk.read(Signal.OK)
    fails(desk)
    desk.read(Signal.OK)
    later(desk)
    fails(desk, "8")
    assert desk.state() is State.HEALTHY
    later(desk, 10 * MINUTE)
    fails(desk, "9")
    assert desk.state() is State.SUSPECT


def test_connected_but_it_cannot_publish_is_noted_once_a_day_and_told_to_nobody(desk: Desk) -> None:
    taken = []
    for hour in range(30):
        desk.read(Signal.OK)
        later(desk, HOUR)
        taken.append(fails(desk, str(hour))[1])
        later(desk)
    assert taken == ["grant", *["connected"] * 29]
    assert (notes(desk), desk.told()) == ([CANNOT_PUBLISH] * 2, [])


def test_one_post_that_fails_again_and_again_or_one_a_week_is_no_such_case(desk: Desk) -> None:
    for post, pause in (("7", HOUR), ("7", HOUR), ("8", 3 * DAY), ("9", 3 * DAY)):
        desk.read(Signal.OK)
        later(desk, pause)
        assert fails(desk, post)[1] == "grant"
        later(desk)
    assert notes(desk) == []


def test_two_posts_before_any_answer_are_no_such_case(desk: Desk) -> None:
    desk.read(Signal.OK)
    later(desk)
    assert [fails(desk, post)[1] for post in ("7", "8", "9")] == ["grant"] * 3
    assert notes(desk) == []


def test_the_same_news_twice_is_one_failure_and_older_news_of_it_is_none(desk: Desk) -> None:
    desk.read(Signal.OK)
    later(desk, HOUR)
    fails(desk, code="FORBIDDEN")
    fails(desk, code="FORBIDDEN")
    fails(desk, at=NOON)
    assert [(one.post, one.code) for one in failed(desk)] == [("7", "FORBIDDEN")]


def test_they_are_kept_as_long_as_the_history_is(desk: Desk) -> None:
    desk.read(Signal.OK)
    fails(desk)
    for days, left in ((399, 1), (401, 0)):
        tidy(desk.connection, NOON + days * DAY)
        assert len(failed(desk)) == left
