"""The state table, row by row, and what holds of it whatever is observed in whatever order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.machine import (
    FINE,
    ROWS,
    Advance,
    Confirm,
    ConfirmIncident,
    Effect,
    OpenIncident,
    ProbeSiblings,
    ResolveIncident,
    Row,
    Warn,
    Watch,
    advance,
    is_expiring,
)
from healthd.core.model import (
    BROKEN,
    PLATFORMS,
    Account,
    Cause,
    Lifetime,
    Observation,
    Policy,
    Resolution,
    Signal,
    Source,
    State,
)
from tests.core.observed import DAY, HOUR, MINUTE, NOON, SECOND, account, histories, seen

POLICY = Policy()
EVENTS = frozenset({Signal.TOKEN_EXPIRED, Signal.DISCONNECTED, Signal.CONNECTED, Signal.POST_FAILED})


def has(effects: tuple[Effect, ...], kind: type[Effect]) -> bool:
    return any(isinstance(effect, kind) for effect in effects)


def follow(start: Account, observed: list[tuple[datetime, Observation]], policy: Policy = POLICY) -> list[Advance]:
    steps: list[Advance] = []
    for now, observation in observed:
        steps.append(advance(start, observation, policy, now))
        start = steps[-1].account
    return steps


def test_the_table_has_one_row_for_every_state_and_signal() -> None:
    assert sorted((row.state, row.signal) for row in ROWS) == sorted(product(State, Signal))


each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.state}-{row.signal}")


@each_row
def test_an_incident_is_open_exactly_in_the_broken_states(row: Row) -> None:
    was, is_ = row.state in BROKEN, row.next in BROKEN
    assert has(row.effects, OpenIncident) == (is_ and not was)
    assert has(row.effects, ResolveIncident) == (was and not is_)
    assert not has(row.effects, ConfirmIncident) or (was and is_)


@each_row
def test_nobody_hears_of_a_single_bad_reading_or_of_an_event_alone(row: Row) -> None:
    if has(row.effects, OpenIncident):
        assert row.signal is Signal.BAD_CONNECTION or row.state is State.SUSPECT
        assert row.signal not in EVENTS


@each_row
def test_whoever_becomes_suspect_is_asked_about_at_once(row: Row) -> None:
    if row.next is State.SUSPECT and row.state is not State.SUSPECT:
        assert row.effects == (Confirm(),)


@each_row
def test_silence_moves_nobody_but_suspects(row: Row) -> None:
    if row.signal is Signal.CONFIRM_TIMEOUT and row.state is not State.SUSPECT:
        assert (row.next, row.effects) == (row.state, ())


@each_row
def test_a_failed_post_is_a_reason_to_look_and_no_more(row: Row) -> None:
    if row.signal is Signal.POST_FAILED:
        doubted = row.state in FINE
        assert row.next is (State.SUSPECT if doubted else row.state)
        assert row.effects == ((Confirm(),) if doubted or row.state is State.UNKNOWN else ())
    if row.signal is Signal.UNANSWERED:
        assert row.effects == ()
        assert row.next is (State.HEALTHY if row.state is State.SUSPECT else row.state)


@each_row
def test_a_tombstone_is_lifted_only_by_a_new_connection(row: Row) -> None:
    if row.state is State.REMOVED and row.signal is not Signal.CONNECTED:
        assert (row.next, row.effects) == (State.REMOVED, ())
    if row.signal is Signal.GONE:
        assert row.next is State.REMOVED


@each_row
def test_errors_alone_change_no_state(row: Row) -> None:
    if row.signal is Signal.ERROR:
        assert row.next is row.state
        assert set(row.effects) <= {Watch()}


@each_row
def test_only_a_good_reading_repairs_and_then_the_siblings_are_looked_at(row: Row) -> None:
    repaired = ResolveIncident(Resolution.REPAIRED) in row.effects
    assert repaired == (row.state in BROKEN and row.signal in {Signal.OK, Signal.EXPIRING})
    assert has(row.effects, ProbeSiblings) == repaired


@each_row
def test_a_warning_comes_with_every_expiring_reading_of_a_live_account(row: Row) -> None:
    assert has(row.effects, Warn) == (row.signal is Signal.EXPIRING and row.state is not State.REMOVED)


@each_row
def test_good_readings_make_every_live_account_fine(row: Row) -> None:
    if row.signal in {Signal.OK, Signal.EXPIRING} and row.state is not State.REMOVED:
        assert row.next is (State.HEALTHY if row.signal is Signal.OK else State.EXPIRING)


_ok, _bad, _error = seen(Signal.OK), seen(Signal.BAD_TOKEN), seen(Signal.ERROR)
_expired, _disconnected = seen(Signal.TOKEN_EXPIRED), seen(Signal.DISCONNECTED)
_post = seen(Signal.POST_FAILED)
_connected, _gone, _silence = seen(Signal.CONNECTED), seen(Signal.GONE), seen(Signal.CONFIRM_TIMEOUT)

STORIES: dict[str, tuple[list[Observation], State, list[Effect]]] = {
    "event, then a bad reading": ([_ok, _expired, _bad], State.EXPIRED, [Confirm(), OpenIncident(Cause.TOKEN)]),
    "event, then a good reading": ([_ok, _expired, _ok], State.HEALTHY, [Confirm()]),
    "one bad reading, then a good one": ([_ok, _bad, _ok], State.HEALTHY, [Confirm()]),
    "two bad readings": ([_bad, _bad], State.EXPIRED, [Confirm(), OpenIncident(Cause.TOKEN)]),
    "disconnected, and the reading is an error": (
        [_ok, _disconnected, _error],
        State.DISCONNECTED,
        [Confirm(), OpenIncident(Cause.CONNECTION)],
    ),
    "token expired, and the reading is an error": ([_ok, _expired, _error], State.SUSPECT, [Confirm()]),
    "event, then silence": (
        [_ok, _expired, _silence],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.TOKEN, unconfirmed=True)],
    ),
    "disconnected, then silence": (
        [_ok, _disconnected, _silence],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.CONNECTION, unconfirmed=True)],
    ),
    "a post fails, and the reading agrees": ([_ok, _post, _bad], State.EXPIRED, [Confirm(), OpenIncident(Cause.TOKEN)]),
    "a post fails, and the reading is good": ([_ok, _post, _ok], State.HEALTHY, [Confirm()]),
    "a post fails, then silence: nobody is told on its word": ([_ok, _post, _silence], State.HEALTHY, [Confirm()]),
    "posts go on failing": ([_ok, *[_post] * 9, _silence], State.HEALTHY, [Confirm()]),
    "a post fails, an event says so too, then silence": (
        [_ok, _post, _expired, _silence],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.TOKEN, unconfirmed=True)],
    ),
    "an event, a post that fails, then silence": (
        [_ok, _disconnected, _post, _silence],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.CONNECTION, unconfirmed=True)],
    ),
    "posts of a broken account fail": (
        [_bad, _bad, *[_post] * 3],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.TOKEN)],
    ),
    "one event five times": (
        [_ok, *[_expired] * 5, _bad, *[_expired] * 5],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.TOKEN)],
    ),
    "connected is only a hint": (
        [_bad, _bad, _connected],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.TOKEN), Confirm()],
    ),
    "repaired": (
        [_bad, _bad, _connected, _ok],
        State.HEALTHY,
        [
            Confirm(),
            OpenIncident(Cause.TOKEN),
            Confirm(),
            ResolveIncident(Resolution.REPAIRED),
            ProbeSiblings(),
        ],
    ),
    "deleted while broken": (
        [_bad, _bad, _gone, _ok, _bad, _expired],
        State.REMOVED,
        [Confirm(), OpenIncident(Cause.TOKEN), ResolveIncident(Resolution.REMOVED)],
    ),
    "deleted and connected again": ([_ok, _gone, _connected], State.UNKNOWN, [Confirm()]),
    "the reading confirms what silence opened": (
        [_expired, _silence, _bad],
        State.EXPIRED,
        [Confirm(), OpenIncident(Cause.TOKEN, unconfirmed=True), ConfirmIncident()],
    ),
}


@pytest.mark.parametrize(("observed", "state", "effects"), STORIES.values(), ids=STORIES)
def test_a_story_ends_as_told(observed: list[Observation], state: State, effects: list[Effect]) -> None:
    steps = follow(account(), [(NOON, observation) for observation in observed])
    assert steps[-1].account.state is state
    assert [effect for step in steps for effect in step.effects] == effects


@given(histories())
def test_what_is_older_than_what_is_known_changes_nothing(observed: list[tuple[datetime, Observation]]) -> None:
    before = account()
    for now, observation in observed:
        step = advance(before, observation, POLICY, now)
        older = before.as_of is not None and observation.at is not None and observation.at < before.as_of
        if older:
            assert step.fenced
        if step.fenced:
            assert step.account == before
            assert step.effects == ()
        if before.as_of is not None:
            assert step.account.as_of is not None
            assert step.account.as_of >= before.as_of
        before = step.account


@given(histories())
def test_incidents_open_and_end_in_turns_and_are_open_while_broken(
    observed: list[tuple[datetime, Observation]],
) -> None:
    is_open = False
    for step in follow(account(), observed):
        for effect in step.effects:
            if isinstance(effect, OpenIncident | ResolveIncident):
                assert isinstance(effect, ResolveIncident) is is_open
                is_open = not is_open
            if isinstance(effect, OpenIncident):
                assert effect.cause is not None
        assert is_open == (step.account.state in BROKEN)


@given(histories())
def test_whether_an_account_is_paused_makes_no_difference_to_its_state(
    observed: list[tuple[datetime, Observation]],
) -> None:
    ignoring = [(now, replace(observation, paused=None)) for now, observation in observed]
    for paused, plain in zip(follow(account(), observed), follow(account(), ignoring), strict=True):
        assert replace(paused.account, paused=False) == plain.account
        assert paused.effects == plain.effects


@given(histories())
def test_a_suspect_and_nobody_else_waits_for_a_confirmation(observed: list[tuple[datetime, Observation]]) -> None:
    for step in follow(account(), observed):
        suspected = step.account.state is State.SUSPECT
        assert (step.account.confirm_by is not None) == suspected
        assert step.account.suspicion is None or suspected


@given(histories((Signal.OK, Signal.ERROR, Signal.POST_FAILED, Signal.CONFIRM_TIMEOUT, Signal.CONNECTED)))
def test_without_a_reading_that_agrees_failed_posts_open_no_incident(
    observed: list[tuple[datetime, Observation]],
) -> None:
    patient = Policy(error_patience=1000 * DAY)
    assert not any(has(step.effects, OpenIncident) for step in follow(account(), observed, patient))


def test_an_events_word_after_a_failed_post_has_the_whole_time_to_be_confirmed() -> None:
    doubted = follow(account(), [(NOON, _ok), (NOON, _post)])[-1].account
    accused = advance(doubted, seen(Signal.TOKEN_EXPIRED), POLICY, NOON + 4 * MINUTE).account
    assert (accused.suspicion, accused.confirm_by) == (Cause.TOKEN, NOON + 9 * MINUTE)


@pytest.mark.parametrize("state", [State.SUSPECT, State.EXPIRED, State.UNKNOWN])
def test_posts_that_go_on_failing_keep_no_reading_out(state: State) -> None:
    """Their event's clock may be ahead of the one that dates the readings."""
    known = account(state=state, as_of=NOON)
    after = advance(known, seen(Signal.POST_FAILED, NOON + MINUTE), POLICY, NOON + SECOND).account
    assert after.as_of == NOON
    assert advance(after, seen(Signal.OK, NOON + 2 * SECOND), POLICY, NOON + 2 * SECOND).account.state is State.HEALTHY


def test_a_post_that_failed_before_the_last_reconnect_changes_nothing() -> None:
    known = account(state=State.HEALTHY, as_of=NOON)
    assert advance(known, seen(Signal.POST_FAILED, NOON - SECOND), POLICY, NOON).fenced


@given(histories((Signal.OK, Signal.ERROR, Signal.GONE, Signal.CONNECTED)))
def test_errors_open_an_incident_only_once_they_have_lasted(observed: list[tuple[datetime, Observation]]) -> None:
    steps = follow(account(), observed)
    for number, step in enumerate(steps):
        if not has(step.effects, OpenIncident):
            continue
        run = [
            now
            for (now, observation), earlier in takewhile(
                lambda pair: pair[1].fenced or pair[0][1].signal not in {Signal.OK, Signal.GONE},
                zip(reversed(observed[: number + 1]), reversed(steps[: number + 1]), strict=True),
            )
            if observation.signal is Signal.ERROR and not earlier.fenced
        ]
        assert run[0] - run[-1] >= POLICY.error_patience


@given(histories((Signal.OK, Signal.BAD_TOKEN, Signal.TOKEN_EXPIRED, Signal.CONNECTED), longest=30))
def test_without_a_deadline_expiring_is_earned_by_a_refresh_that_was_seen(
    observed: list[tuple[datetime, Observation]],
) -> None:
    for step in follow(account(platform="youtube"), observed):
        if step.account.state is State.EXPIRING:
            assert step.account.refresh_floor is not None


@given(st.sampled_from([*PLATFORMS, "new-platform"]), st.integers(0, 400), st.none() | st.integers(0, 400))
def test_a_grant_that_lives_long_enough_is_never_expiring(platform: str, days: int, floor: int | None) -> None:
    lifetime = POLICY.lifetimes.get(platform, Lifetime())
    expiring = is_expiring(days, floor, lifetime, POLICY.expiring_days)
    if days > POLICY.expiring_days or (floor is not None and days >= floor):
        assert not expiring
    if floor is None:
        assert expiring == (lifetime.deadline and days <= POLICY.expiring_days)


EXPIRING_STORIES: dict[str, tuple[str, list[int | None], State]] = {
    "a short token that refreshes itself": ("youtube", [0, 0, 0], State.HEALTHY),
    "a platform with a deadline": ("linkedin", [30, 7], State.EXPIRING),
    "one day too early": ("linkedin", [30, 8], State.HEALTHY),
    "a grant the provider refreshes at five days": ("linkedin", [30, 5, 60, 5], State.HEALTHY),
    "and this time does not": ("linkedin", [30, 5, 60, 5, 4], State.EXPIRING),
    "seen to be refreshed, and now it is not": ("facebook", [30, 6, 60, 5], State.EXPIRING),
    "a reading that does not say": ("linkedin", [30, None], State.HEALTHY),
    "a platform never heard of": ("mastodon", [30, 0], State.HEALTHY),
}


@pytest.mark.parametrize(("platform", "days", "state"), EXPIRING_STORIES.values(), ids=EXPIRING_STORIES)
def test_expiring_means_that_a_person_must_act(platform: str, days: list[int | None], state: State) -> None:
    readings = [
        (NOON + number * HOUR, seen(Signal.OK, NOON + number * HOUR, validity_days=left))
        for number, left in enumerate(days)
    ]
    assert follow(account(platform=platform), readings)[-1].account.state is state


def test_what_a_person_renewed_is_not_taken_for_the_providers_own_refresh() -> None:
    """Or next year's warning would come a little later, and in the end never."""
    warned = account(platform="linkedin", state=State.EXPIRING, validity_days=5, as_of=NOON)
    steps = follow(
        warned,
        [
            (NOON + HOUR, seen(Signal.CONNECTED, NOON + HOUR)),
            (NOON + HOUR, seen(Signal.OK, NOON + HOUR, validity_days=365)),
            (NOON + 358 * DAY, seen(Signal.OK, NOON + 358 * DAY, validity_days=7)),
        ],
    )
    assert steps[1].account.state is State.HEALTHY
    assert steps[2].account.state is State.EXPIRING


@pytest.mark.parametrize("state", sorted(BROKEN))
def test_a_rise_after_a_repair_is_the_persons_act(state: State) -> None:
    repaired = follow(account(state=state, validity_days=0), [(NOON, seen(Signal.OK, NOON, validity_days=60))])[
        -1
    ].account
    assert repaired.refresh_floor is None
    assert repaired.state in FINE


def test_errors_before_a_removal_do_not_count_after_it() -> None:
    removed = follow(account(), [(NOON, _error), (NOON, _gone), (NOON, _error)])[-1].account
    later = NOON + 30 * DAY
    revived = [(later, seen(Signal.CONNECTED, later)), (later, seen(Signal.ERROR, later))]
    assert follow(removed, revived)[-1].account.state is State.UNKNOWN


def test_an_answer_to_a_question_older_than_the_last_change_is_not_believed() -> None:
    """The event came while the answer was on its way, in the same second of the provider's clock."""
    suspect = follow(account(), [(NOON + 0.5 * SECOND, _expired)])[-1].account
    late = advance(suspect, seen(Signal.OK, NOON, asked_at=NOON), POLICY, NOON + 0.6 * SECOND)
    assert late.fenced
    fresh = advance(suspect, seen(Signal.OK, NOON, asked_at=NOON + 0.5 * SECOND), POLICY, NOON + 0.6 * SECOND)
    assert fresh.account.state is State.HEALTHY


def test_a_clock_that_is_set_back_does_not_deafen() -> None:
    suspect = follow(account(), [(NOON + HOUR, seen(Signal.TOKEN_EXPIRED, NOON))])[-1].account
    reading = seen(Signal.BAD_TOKEN, NOON + SECOND, asked_at=NOON + SECOND)
    assert advance(suspect, reading, POLICY, NOON + SECOND).account.state is State.EXPIRED


@pytest.mark.parametrize("patience", [MINUTE, HOUR])
def test_errors_are_believed_after_the_patience_that_was_configured(patience: timedelta) -> None:
    policy = Policy(error_patience=patience)
    first, almost, enough = NOON, NOON + patience - SECOND, NOON + patience
    steps = follow(account(), [(now, seen(Signal.ERROR, now)) for now in (first, almost, enough)], policy)
    assert [step.account.state for step in steps] == [State.UNKNOWN, State.UNKNOWN, State.DISCONNECTED]
    assert steps[0].effects == (Watch(),)
    assert steps[2].effects == (OpenIncident(Cause.CONNECTION),)


def test_a_good_reading_ends_a_run_of_errors() -> None:
    moments = [NOON, NOON + 30 * MINUTE, NOON + 40 * MINUTE, NOON + 90 * MINUTE]
    signals = [Signal.ERROR, Signal.OK, Signal.ERROR, Signal.ERROR]
    steps = follow(account(), [(now, seen(signal, now)) for now, signal in zip(moments, signals, strict=True)])
    assert steps[-1].account.state is State.HEALTHY


def test_the_time_to_confirm_is_the_one_that_was_configured() -> None:
    policy = Policy(confirm_timeout=MINUTE)
    suspect = advance(account(), seen(Signal.TOKEN_EXPIRED, NOON - HOUR), policy, NOON).account
    assert suspect.confirm_by == NOON + MINUTE


def test_a_reading_from_before_the_pause_does_not_pause() -> None:
    known = account(as_of=NOON)
    assert not advance(known, seen(Signal.OK, NOON - SECOND, paused=True), POLICY, NOON).account.paused
    assert advance(known, seen(Signal.OK, NOON, paused=True), POLICY, NOON).account.paused


def test_our_own_clock_is_never_fenced() -> None:
    suspect = advance(account(), seen(Signal.TOKEN_EXPIRED, NOON + HOUR), POLICY, NOON).account
    alarm = Observation("1", Signal.CONFIRM_TIMEOUT, Source.CLOCK, at=None)
    assert advance(suspect, alarm, POLICY, NOON + 6 * MINUTE).account.state is State.EXPIRED


def test_a_clock_that_was_set_back_makes_nobody_deaf() -> None:
    ahead = account(as_of=NOON + HOUR)
    moved = advance(ahead, seen(Signal.BAD_TOKEN, NOON), POLICY, NOON)
    assert moved.account.state is State.SUSPECT
    slightly = account(as_of=NOON + 4 * MINUTE)
    assert advance(slightly, seen(Signal.BAD_TOKEN, NOON), POLICY, NOON).fenced
