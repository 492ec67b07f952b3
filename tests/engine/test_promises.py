"""What follows from an observation, in one transaction: account, history, incident, notices, probes."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from healthd.core.model import (
    Cause,
    Lane,
    Listed,
    NoticeKind,
    NoticeStatus,
    Resolution,
    Signal,
    Source,
    State,
    Target,
)
from healthd.core.routing import Route, Routing
from healthd.engine import Engine
from healthd.store import accounts, incidents
from healthd.store.accounts import Known
from healthd.store.incidents import history_of
from healthd.store.notices import Holding
from healthd.store.schema import accounts as accounts_table
from tests.engine.desk import ADA, DAY, HOUR, MINUTE, NOON, SECOND, SLACK, Desk, told_at_once

OPENED, RESOLVED, EXPIRING = NoticeKind.OPENED, NoticeKind.RESOLVED, NoticeKind.EXPIRING


def history(desk: Desk, ref: str = "1") -> list[tuple[str, str, str]]:
    lines = history_of(desk.connection, desk.stored(ref).id)
    return [(line.signal, line.before, line.after) for line in lines]


def test_people_hear_only_after_a_confirmation(desk: Desk) -> None:
    desk.read(Signal.OK)
    change = desk.hear(Signal.TOKEN_EXPIRED)
    assert (desk.state(), desk.incident(), desk.told()) == (State.SUSPECT, None, [])
    assert desk.turn() == (desk.now, Lane.CONFIRM)
    assert change.probe is Lane.CONFIRM
    confirmed = desk.read(Signal.BAD_TOKEN)
    assert confirmed.opened == desk.incident()
    assert confirmed.notices == 1
    assert desk.told() == [(OPENED, NoticeStatus.PENDING)]


def test_a_false_alarm_is_cleared_without_a_word(desk: Desk) -> None:
    desk.read(Signal.OK)
    desk.hear(Signal.TOKEN_EXPIRED)
    desk.read(Signal.OK)
    assert (desk.state(), desk.told()) == (State.HEALTHY, [])
    assert history(desk) == [("token_expired", "healthy", "suspect"), ("ok", "suspect", "healthy")]


def test_an_answer_does_not_take_the_place_of_a_look_that_was_wanted_after_its_question(desk: Desk) -> None:
    """Somebody reconnects while an account is being asked about: that question was asked too early."""
    desk.read(Signal.OK)
    desk.read(Signal.BAD_TOKEN)
    desk.read(Signal.BAD_TOKEN)
    asked_at = desk.now
    desk.now += SECOND
    desk.hear(Signal.CONNECTED)
    wanted = desk.turn()
    assert wanted == (desk.now, Lane.CONFIRM)
    desk.now += SECOND
    desk.read(Signal.BAD_TOKEN, asked_at=asked_at)
    assert (desk.state(), desk.turn()) == (State.EXPIRED, wanted)
    desk.read(Signal.OK)
    assert desk.state() is State.HEALTHY


def test_without_an_answer_the_event_is_believed_when_its_time_is_up(desk: Desk) -> None:
    desk.hear(Signal.DISCONNECTED)
    desk.now += desk.engine.policy.confirm_timeout - SECOND
    assert desk.time_out() == []
    desk.now += SECOND
    (change,) = desk.time_out()
    assert change.opened is not None
    assert (change.opened.cause, change.opened.confirmed_at) == (Cause.CONNECTION, None)
    assert desk.time_out() == []
    confirmed = desk.read(Signal.BAD_TOKEN).confirmed
    assert confirmed is not None
    incident = desk.incident()
    assert incident is not None
    assert incident.confirmed_at == desk.now
    assert desk.told() == [(OPENED, NoticeStatus.PENDING)]


def test_all_whose_time_is_up_are_taken_in_one_go_whatever_their_workspace(desk: Desk) -> None:
    for workspace in ("acme", "other"):
        for ref in ("1", "2"):
            event = desk.event(Signal.TOKEN_EXPIRED, ref)
            desk.engine.apply(desk.connection, workspace, [event], desk.now)
    desk.now += HOUR
    changes = desk.time_out()
    assert sorted((change.workspace, change.ref) for change in changes) == [
        ("acme", "1"),
        ("acme", "2"),
        ("other", "1"),
        ("other", "2"),
    ]
    assert all(change.opened for change in changes)


def test_the_same_event_five_times_and_out_of_order_is_one_incident_and_one_message(desk: Desk) -> None:
    expired, connected = desk.event(Signal.TOKEN_EXPIRED), desk.event(Signal.CONNECTED, at=NOON - MINUTE)
    desk.apply(*[expired] * 3, connected)
    desk.read(Signal.BAD_TOKEN)
    desk.apply(connected, *[expired] * 2)
    desk.read(Signal.BAD_TOKEN)
    assert desk.told() == [(OPENED, NoticeStatus.PENDING)]
    assert len(incidents.of_account(desk.connection, desk.stored().id)) == 1


def test_the_incident_says_since_when_the_account_is_broken(desk: Desk) -> None:
    desk.read(Signal.OK)
    desk.now += HOUR
    heard = desk.hear(Signal.TOKEN_EXPIRED, at=NOON + 50 * MINUTE)
    assert heard.opened is None
    opened = desk.read(Signal.BAD_TOKEN).opened
    assert opened is not None
    assert opened.broken_at == NOON + 50 * MINUTE
    assert opened.opened_at == desk.now


def test_a_repair_is_told_to_those_who_were_told_of_the_trouble_and_to_nobody_else(desk: Desk) -> None:
    desk.engine = replace(desk.engine, dispatch=told_at_once(ADA, SLACK))
    desk.break_down()
    desk.hand_over(lambda notice: NoticeStatus.SENT if notice.target == ADA else NoticeStatus.DEAD)
    change = desk.read(Signal.OK)
    assert change.resolved is not None
    assert change.resolved.resolution is Resolution.REPAIRED
    news = [notice.target for notice in desk.notices() if notice.kind is RESOLVED]
    assert news == [ADA]


def test_a_repair_before_anybody_was_told_is_no_news_to_anybody(desk: Desk) -> None:
    desk.break_down()
    desk.read(Signal.OK)
    (notice,) = desk.notices()
    assert (notice.kind, notice.status, notice.reason) == (OPENED, NoticeStatus.DROPPED, "repaired before it was sent")


def test_a_deleted_account_is_no_good_news_and_ends_every_reminder(desk: Desk) -> None:
    desk.break_down()
    desk.hand_over()
    desk.stored()
    incident = desk.incident()
    assert incident is not None
    desk.remind(ADA, desk.now + DAY)
    desk.apply(desk.reading(Signal.GONE, source=Source.INVENTORY))
    assert desk.told() == [(OPENED, NoticeStatus.SENT), (NoticeKind.REMINDER, NoticeStatus.DROPPED)]
    assert desk.turn()[0] is None
    desk.hear(Signal.TOKEN_EXPIRED)
    assert (desk.state(), desk.incident(), desk.turn()[0]) == (State.REMOVED, None, None)


def test_a_removed_account_is_not_asked_about_when_its_pause_ends(desk: Desk) -> None:
    desk.read(Signal.OK, paused=True)
    desk.apply(desk.reading(Signal.GONE, source=Source.INVENTORY))
    desk.read(Signal.OK, paused=False)
    assert desk.turn()[0] is None


def test_after_a_repair_the_broken_accounts_behind_the_same_login_are_asked_about_at_once(desk: Desk) -> None:
    desk.platform = "youtube"
    for ref in ("1", "2"):
        desk.break_down(ref)
    desk.platform = "gmb"
    desk.break_down("3")
    desk.platform = "reddit"
    desk.break_down("4")
    change = desk.read(Signal.OK, "1")
    assert change.probe is Lane.CONFIRM
    assert [desk.turn(ref) == (desk.now, Lane.CONFIRM) for ref in "234"] == [True, True, False]


def test_a_sibling_in_the_same_batch_is_asked_about_too(desk: Desk) -> None:
    for ref in ("1", "2"):
        desk.break_down(ref)
    desk.apply(
        desk.reading(Signal.OK, "1", Source.BULK), desk.reading(Signal.BAD_TOKEN, "2", Source.BULK, validity_days=0)
    )
    assert desk.turn("2") == (desk.now, Lane.CONFIRM)


def test_a_sibling_that_the_same_batch_repairs_needs_no_asking(desk: Desk) -> None:
    for ref in ("1", "2"):
        desk.break_down(ref)
    desk.apply(desk.reading(Signal.OK, "1", Source.BULK), desk.reading(Signal.OK, "2", Source.BULK))
    assert all(desk.turn(ref)[1] is Lane.ROTATION for ref in "12")


def test_a_newcomer_of_the_inventory_is_known_and_spread_over_the_interval(desk: Desk) -> None:
    desk.discover(*[Listed(str(number), "gmb", f"Shop {number}", "@shop") for number in range(200)])
    interval = desk.engine.probes.account_interval
    turns = sorted((desk.turn(str(number))[0] or NOON) - desk.now for number in range(200))
    assert timedelta(0) <= turns[0] < interval / 10
    assert interval * 0.9 < turns[-1] <= interval
    newcomer = desk.stored("7")
    assert (newcomer.name, newcomer.username, newcomer.account.state) == ("Shop 7", "@shop", State.UNKNOWN)


def test_the_first_sweep_does_not_bunch_the_newcomers_probes(desk: Desk) -> None:
    desk.discover(*[Listed(str(number), "gmb", f"Shop {number}") for number in range(200)])
    before = {ref: desk.turn(ref) for ref in map(str, range(200))}
    desk.apply(*[desk.reading(Signal.OK, ref, Source.BULK) for ref in before])
    assert desk.state("7") is State.HEALTHY
    early = desk.now + desk.engine.probes.account_interval * 0.9
    assert {ref: turn for ref, turn in before.items() if turn[0] and turn[0] < early}.items() <= {
        ref: desk.turn(ref) for ref in before
    }.items()


def test_where_no_sweep_covers_everything_newcomers_are_asked_about_soon(desk: Desk) -> None:
    desk.discover(Listed("1", "gmb", "Shop"), probe_soon=True)
    assert desk.turn() == (desk.now, Lane.ROTATION)


def test_a_newcomer_that_is_broken_is_told_of_like_any_other(desk: Desk) -> None:
    desk.break_down("never seen")
    assert desk.told("never seen") == [(OPENED, NoticeStatus.PENDING)]


def test_a_reading_of_an_account_of_unknown_platform_creates_nothing(desk: Desk) -> None:
    desk.platform = None
    assert desk.apply(desk.reading(Signal.OK)) == []
    assert accounts.counts(desk.connection) == []


def test_newcomers_found_well_fill_no_history(desk: Desk) -> None:
    desk.read(Signal.OK)
    assert history(desk) == []


def test_an_account_listed_twice_is_taken_in_once(desk: Desk) -> None:
    desk.discover(Listed("1", "gmb", "Shop"), Listed("1", "gmb", "Shop"))
    assert desk.stored().name == "Shop"


def test_the_inventory_revives_a_removed_account_and_asks_about_it_at_once(desk: Desk) -> None:
    desk.read(Signal.OK)
    accounts.mark_missing(desk.connection, "acme", ["1"], desk.now)
    desk.apply(desk.reading(Signal.GONE, source=Source.INVENTORY, at=desk.now + MINUTE))
    (change,) = desk.discover(Listed("1", "facebook", "Back again"))
    assert (change.before, change.after) == (State.REMOVED, State.UNKNOWN)
    assert desk.turn() == (desk.now, Lane.CONFIRM)
    assert (desk.stored().name, desk.stored().missing_since) == ("Back again", None)
    assert desk.discover(Listed("1", "facebook", "Back again")) == []


def test_a_revived_account_believes_the_next_reading_though_our_clock_is_ahead(desk: Desk) -> None:
    desk.read(Signal.OK)
    desk.apply(desk.reading(Signal.GONE, source=Source.INVENTORY))
    desk.now += MINUTE
    desk.discover(Listed("1", "facebook", "Back again"))
    assert not desk.read(Signal.OK, at=desk.now - 20 * SECOND).fenced
    assert desk.state() is State.HEALTHY


def test_names_follow_the_newest_that_was_said(desk: Desk) -> None:
    desk.discover(Listed("1", "gmb", "Old", "@old"), profile="p")
    desk.read(Signal.OK, name="New")
    assert desk.stored().name == "New"
    desk.discover(Listed("1", "gmb", "Newest"), profile="q")
    found = desk.stored()
    assert (found.name, found.username, found.profile) == ("Newest", "@old", "q")


def test_an_account_that_answers_is_not_missed_any_more(desk: Desk) -> None:
    desk.read(Signal.OK)
    accounts.mark_missing(desk.connection, "acme", ["1"], desk.now)
    desk.read(Signal.OK)
    assert desk.stored().missing_since is None


def hold(desk: Desk) -> None:
    desk.hand_over(lambda _: NoticeStatus.HELD, Holding("paused"))


def test_what_was_held_during_a_pause_goes_out_on_resume_and_the_account_is_looked_at_at_once(desk: Desk) -> None:
    desk.read(Signal.OK, paused=True)
    desk.break_down()
    hold(desk)
    desk.now += DAY
    change = desk.read(Signal.BAD_TOKEN, paused=False)
    assert change.notices == 1
    assert desk.told() == [(OPENED, NoticeStatus.PENDING)]
    assert desk.turn() == (desk.now, Lane.CONFIRM)


def test_what_was_held_during_a_pause_is_withdrawn_when_the_account_resumes_repaired(desk: Desk) -> None:
    desk.read(Signal.OK, paused=True)
    desk.break_down()
    hold(desk)
    desk.read(Signal.OK, paused=False)
    assert desk.told() == [(OPENED, NoticeStatus.DROPPED)]


def test_what_was_held_while_its_profile_was_paused_goes_out_once_the_profile_is_listed_again(desk: Desk) -> None:
    desk.break_down()
    desk.break_down("paused")
    desk.apply(desk.reading(Signal.BAD_TOKEN, "paused", paused=True))
    hold(desk)
    desk.discover(Listed("1", "facebook", "Shop"), Listed("paused", "facebook", "Shop"))
    assert desk.told() == [(OPENED, NoticeStatus.PENDING)]
    assert desk.told("paused") == [(OPENED, NoticeStatus.HELD)]


def test_where_nobody_is_configured_the_notice_is_withheld_and_says_why(desk: Desk) -> None:
    desk.engine = replace(desk.engine, dispatch=told_at_once(routing=Routing()))
    desk.break_down()
    (notice,) = desk.notices()
    assert (notice.status, notice.target) == (NoticeStatus.HELD, Target(""))
    assert notice.reason == "no route, no owner and no default recipient is configured"
    desk.read(Signal.BAD_TOKEN, paused=True)
    desk.read(Signal.BAD_TOKEN, paused=False)
    assert desk.told() == [(OPENED, NoticeStatus.HELD)], "a resume makes nobody known"
    desk.read(Signal.OK)
    assert desk.told() == [(OPENED, NoticeStatus.DROPPED)]


def test_each_recipient_has_a_notice_and_a_link_of_their_own(desk: Desk) -> None:
    routes = (Route((ADA, SLACK), profile=frozenset({"p"})),)
    desk.engine = replace(desk.engine, dispatch=told_at_once(routing=Routing(routes), link_lifetime=DAY))
    for _ in range(2):
        desk.apply(desk.reading(Signal.BAD_TOKEN), profile="p")
    found = {notice.target: incidents.link_id(notice.id) for notice in desk.notices()}
    assert set(found) == {ADA, SLACK}
    for target, link_id in found.items():
        link = incidents.link(desk.connection, link_id)
        assert link is not None
        assert (link.target, link.expires_at) == (target.key, desk.now + DAY)


def test_a_deadline_is_warned_of_once(desk: Desk) -> None:
    desk.platform = "linkedin"
    warned = [desk.read(Signal.OK, validity_days=days).notices for days in (30, 7, 7)]
    for days in (6, 6, 5, 4):  # the provider's days and ours do not change at the same hour
        desk.now += 23 * HOUR
        warned.append(desk.read(Signal.OK, validity_days=days).notices)
    assert warned == [0, 1, 0, 0, 0, 0, 0]
    assert desk.told() == [(EXPIRING, NoticeStatus.PENDING)]
    assert desk.incident() is None


def test_the_next_deadline_is_warned_of_again(desk: Desk) -> None:
    desk.platform = "linkedin"
    desk.read(Signal.OK, validity_days=7)
    desk.hear(Signal.CONNECTED)
    desk.read(Signal.OK, validity_days=365)
    assert desk.state() is State.HEALTHY
    desk.now += 358 * DAY
    assert desk.read(Signal.OK, validity_days=7).notices == 1
    assert desk.told() == [(EXPIRING, NoticeStatus.PENDING)] * 2


def test_a_warning_that_was_withdrawn_is_given_after_all_if_the_deadline_stands(desk: Desk) -> None:
    """The account was suspect for a moment just as the warning was about to be sent."""
    desk.platform = "linkedin"
    desk.read(Signal.OK, validity_days=7)
    desk.hand_over(lambda _: NoticeStatus.DROPPED)
    desk.hear(Signal.TOKEN_EXPIRED)
    assert desk.read(Signal.OK, validity_days=7).notices == 1
    assert desk.told() == [(EXPIRING, NoticeStatus.PENDING)]
    desk.hand_over()
    desk.hear(Signal.TOKEN_EXPIRED)
    assert desk.read(Signal.OK, validity_days=7).notices == 0


def test_a_late_answer_is_on_record_as_nothing_and_its_question_is_asked_again_soon(desk: Desk) -> None:
    desk.read(Signal.OK)
    late = desk.reading(Signal.OK)
    desk.now += SECOND
    desk.hear(Signal.TOKEN_EXPIRED)
    (probe,) = accounts.claim_probes(desk.connection, "acme", [Lane.CONFIRM], desk.now, 2 * MINUTE, 1)
    assert probe.ref == "1"
    (change,) = desk.apply(late)
    assert (change.fenced, desk.state()) == (True, State.SUSPECT)
    at, lane = desk.turn()
    assert at is not None
    assert (desk.now < at < desk.now + 15 * SECOND, lane) == (True, Lane.CONFIRM)


def test_a_late_answer_does_not_put_off_a_probe_that_is_due(desk: Desk) -> None:
    desk.read(Signal.OK)
    late = desk.reading(Signal.OK)
    desk.now += SECOND
    desk.hear(Signal.TOKEN_EXPIRED)
    due = desk.turn()
    desk.apply(late)
    assert desk.turn() == due


def test_a_late_event_is_on_record_but_changes_nothing(desk: Desk) -> None:
    desk.break_down()
    desk.read(Signal.OK)
    before = desk.stored()
    change = desk.hear(Signal.TOKEN_EXPIRED, at=NOON - DAY, event_id="evt_1")
    assert change.fenced
    assert desk.stored() == before
    line = history_of(desk.connection, before.id)[-1]
    assert (line.event_id, line.note, line.after) == ("evt_1", "older than what is known", "healthy")


def test_errors_are_watched_closely_and_told_of_only_when_they_last(desk: Desk) -> None:
    desk.read(Signal.OK)
    desk.read(Signal.ERROR, source=Source.BULK)
    assert desk.turn() == (desk.now, Lane.CONFIRM)
    first, patience = desk.now, desk.engine.policy.error_patience
    while desk.state() is State.HEALTHY:
        assert desk.told() == []
        assert desk.now - first < patience
        desk.read(Signal.ERROR)
        desk.now = desk.turn()[0] or NOON
        if desk.now - first >= patience:
            desk.read(Signal.ERROR)
    assert desk.now - first < patience + 16 * MINUTE
    incident = desk.incident()
    assert incident is not None
    assert (incident.cause, incident.broken_at) == (Cause.CONNECTION, first)


def test_a_click_is_forgotten_with_its_incident(desk: Desk) -> None:
    desk.break_down()
    desk.connection.execute(accounts_table.update().values(clicked_at=desk.now))
    desk.read(Signal.BAD_TOKEN)
    assert desk.turn() == (desk.now + 5 * SECOND, Lane.CLICK)
    desk.read(Signal.OK)
    assert desk.stored().clicked_at is None
    assert desk.turn()[1] is Lane.ROTATION


WELL = Known(State.HEALTHY, False, 30, None, False)
NEWS: dict[str, tuple[Known, Signal, dict[str, Any], bool]] = {
    "well as before": (WELL, Signal.OK, {}, False),
    "well, and it does not say for how long": (WELL, Signal.OK, {"validity_days": None}, False),
    "well, for another time": (WELL, Signal.OK, {"validity_days": 29}, True),
    "paused": (WELL, Signal.OK, {"paused": True}, True),
    "not paused, as before": (WELL, Signal.OK, {"paused": False}, False),
    "bad": (WELL, Signal.BAD_TOKEN, {}, True),
    "an error": (WELL, Signal.ERROR, {}, True),
    "well after an error": (WELL._replace(error_since=NOON), Signal.OK, {}, True),
    "well, and was missed": (WELL._replace(missing=True), Signal.OK, {}, True),
    "expiring as before": (WELL._replace(state=State.EXPIRING), Signal.OK, {}, False),
    "expired as before": (WELL._replace(state=State.EXPIRED), Signal.BAD_TOKEN, {}, False),
    "repaired": (WELL._replace(state=State.EXPIRED), Signal.OK, {}, True),
    "disconnected as before": (WELL._replace(state=State.DISCONNECTED, error_since=NOON), Signal.ERROR, {}, False),
    "never looked at": (WELL._replace(state=State.UNKNOWN), Signal.OK, {}, True),
    "a suspect is always worth a look": (WELL._replace(state=State.SUSPECT), Signal.OK, {}, True),
    "so is one thought removed": (WELL._replace(state=State.REMOVED), Signal.OK, {}, True),
}


@pytest.mark.parametrize(("known", "signal", "facts", "news"), NEWS.values(), ids=NEWS)
def test_a_sweep_writes_only_what_is_news(
    desk: Desk, known: Known, signal: Signal, facts: dict[str, Any], news: bool
) -> None:
    seen = replace(desk.reading(signal, source=Source.BULK, validity_days=30), **facts)
    assert desk.engine.is_news(known, seen) is news


def test_what_is_no_news_would_have_changed_no_state(desk: Desk) -> None:
    """Or a sweep would be blind to it: for every settled state, the reading that it skips leads nowhere."""
    for state, signal in {
        State.HEALTHY: Signal.OK,
        State.EXPIRED: Signal.BAD_TOKEN,
        State.DISCONNECTED: Signal.ERROR,
    }.items():
        known = WELL._replace(state=state, validity_days=None)
        assert not desk.engine.is_news(known, desk.reading(signal, source=Source.BULK))
        ref = str(state)
        desk.read(Signal.OK, ref)
        if state is not State.HEALTHY:
            desk.hear(Signal.DISCONNECTED if state is State.DISCONNECTED else Signal.TOKEN_EXPIRED, ref)
            desk.read(signal, ref)
        assert desk.state(ref) is state
        change = desk.read(signal, ref, source=Source.BULK)
        assert not change.moved
        assert change.notices == 0


def test_the_same_seed_gives_the_same_turns(desk: Desk) -> None:
    turns = []
    for ref in ("1", "2"):
        desk.engine = Engine(rng=random.Random(7))
        desk.now = NOON
        desk.read(Signal.OK, ref)
        turns.append(desk.turn(ref))
    assert turns[0] == turns[1]
