"""Who is told of what: the chronic loop, nobody to ask, who chose another account, machines, and why."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest

from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, NoticeStatus, Signal, Source, Target
from healthd.core.routing import Route, Routing, Step
from healthd.core.storm import StormPolicy
from healthd.dispatch import Case, Hook
from healthd.engine import Engine
from healthd.store import contacts, decisions, incidents, notices, storms
from healthd.telling import stories
from tests.engine.desk import ADA, DAY, HOUR, MINUTE, SECOND, SLACK, Desk, told_at_once

OPENED, ESCALATED, CHRONIC = NoticeKind.OPENED, NoticeKind.ESCALATED, NoticeKind.CHRONIC
EVENT, EXPIRING, WRONG_ACCOUNT = NoticeKind.EVENT, NoticeKind.EXPIRING, NoticeKind.WRONG_ACCOUNT
PENDING, SENT, HELD, DROPPED = NoticeStatus.PENDING, NoticeStatus.SENT, NoticeStatus.HELD, NoticeStatus.DROPPED
OPS, BACKUP = Target("ops"), Target("backup")


def chooses(desk: Desk, **choices: Any) -> None:
    """The operator's choices from here on."""
    desk.engine = Engine(dispatch=told_at_once(**choices), rng=random.Random(1))


def case(desk: Desk, ref: str = "1") -> Case:
    return Case(desk.connection, desk.stored(ref), desk.now)


def break_and_repair(desk: Desk, times: int) -> None:
    for _ in range(times):
        desk.now += HOUR
        desk.break_down()
        desk.hand_over()
        desk.now += HOUR
        desk.read(Signal.OK)
        desk.hand_over()


def latest(desk: Desk, kind: NoticeKind, ref: str = "1") -> list[notices.StoredNotice]:
    """The notices of this kind about the incident that is open."""
    incident = desk.incident(ref)
    assert incident is not None
    return [one for one in desk.notices(ref) if one.kind is kind and one.incident_id == incident.id]


def test_what_is_repaired_again_and_again_goes_to_the_operator_and_not_to_the_person(desk: Desk) -> None:
    chooses(desk, operators=(OPS,), cadence=Cadence(chronic_repairs=3, chronic_within=14 * DAY))
    break_and_repair(desk, 3)
    desk.break_down()
    [held], [told] = latest(desk, OPENED), latest(desk, CHRONIC)
    assert (held.status, held.target) == (HELD, ADA)
    assert held.reason == "repaired 3 times within 14 days: its operator is told instead"
    assert (told.status, told.target) == (PENDING, OPS)
    assert notices.held(desk.connection) == {"chronic": 1}


@pytest.mark.parametrize("repairs", [0, 1, 2])
def test_before_that_the_person_is_told(desk: Desk, repairs: int) -> None:
    chooses(desk, operators=(OPS,), cadence=Cadence(chronic_repairs=3))
    break_and_repair(desk, repairs)
    desk.break_down()
    assert [one.status for one in latest(desk, OPENED)] == [PENDING]
    assert latest(desk, CHRONIC) == []


def test_repairs_of_long_ago_do_not_count(desk: Desk) -> None:
    chooses(desk, operators=(OPS,), cadence=Cadence(chronic_repairs=3, chronic_within=14 * DAY))
    break_and_repair(desk, 3)
    desk.now += 15 * DAY
    desk.break_down()
    assert latest(desk, CHRONIC) == []


@pytest.mark.parametrize(
    "choices",
    [{}, {"operators": (OPS,), "cadence": Cadence(chronic_repairs=0)}],
    ids=["no operators", "turned off"],
)
def test_where_no_operator_takes_it_the_person_is_told_all_the_same(desk: Desk, choices: dict[str, Any]) -> None:
    chooses(desk, **choices)
    break_and_repair(desk, 6)
    desk.break_down()
    assert [one.status for one in latest(desk, OPENED)] == [PENDING]


def test_what_goes_to_the_operator_instead_is_not_escalated_behind_their_back(desk: Desk) -> None:
    routes = (Route((ADA,), then=(Step((BACKUP,), 2 * HOUR),)),)
    chooses(desk, routing=Routing(routes), operators=(OPS,), cadence=Cadence(chronic_repairs=2))
    break_and_repair(desk, 2)
    desk.break_down()
    desk.now += DAY
    desk.hand_over()
    assert {one.target for one in latest(desk, CHRONIC) if one.status is SENT} == {OPS}
    assert [one.status for one in latest(desk, ESCALATED)] == [HELD]


def test_released_by_a_person_it_is_told_after_all_level_by_level(desk: Desk) -> None:
    routes = (Route((ADA,), then=(Step((BACKUP,), 2 * HOUR),)),)
    chooses(desk, routing=Routing(routes), operators=(OPS,), cadence=Cadence(chronic_repairs=2))
    break_and_repair(desk, 2)
    desk.break_down()
    incident = desk.incident()
    assert incident is not None
    desk.now += MINUTE
    assert desk.engine.dispatch.release(case(desk), incident, "Olga") == 2
    assert [(one.status, one.due_at) for one in latest(desk, OPENED)] == [(PENDING, desk.now)]
    [backup] = latest(desk, ESCALATED)
    assert backup.due_at > desk.now + HOUR
    assert ("released", "Olga") in [(one.what, one.who) for one in decided(desk)]


def test_a_chronic_account_that_recovers_ends_its_hold(desk: Desk) -> None:
    chooses(desk, operators=(OPS,), cadence=Cadence(chronic_repairs=2))
    break_and_repair(desk, 2)
    desk.break_down()
    desk.read(Signal.OK)
    assert notices.held(desk.connection) == {}


def decided(desk: Desk, ref: str = "1") -> list[decisions.Decision]:
    return decisions.of_account(desk.connection, desk.stored(ref).id)


def to_nobody(desk: Desk) -> None:
    chooses(desk, routing=Routing((Route((Target("@ada"),), then=(Step((Target("@bob"),), 2 * HOUR),)),)))


def known(desk: Desk, *keys: str) -> None:
    found = [Contact(key, key.title(), (Target("mail", f"{key}@acme.example"),)) for key in keys]
    contacts.put(desk.connection, found, "api", desk.now)


def try_again(desk: Desk, limit: int = 200) -> int:
    return desk.engine.dispatch.try_again(desk.connection, desk.now, limit)


def test_once_somebody_is_on_record_they_are_told_of_what_nobody_could_be_told(desk: Desk) -> None:
    to_nobody(desk)
    desk.break_down()
    assert desk.told() == [(OPENED, HELD)]
    assert notices.held(desk.connection) == {"nobody": 1}
    assert notices.unreached(desk.connection) == [("acme", 1)]
    assert try_again(desk) == 0
    known(desk, "ada")
    assert try_again(desk) == 1
    assert desk.told() == [(OPENED, DROPPED), (OPENED, PENDING)]
    assert notices.unreached(desk.connection) == []
    assert try_again(desk) == 0


def test_who_comes_after_them_waits_from_then_on(desk: Desk) -> None:
    to_nobody(desk)
    desk.break_down()
    desk.now += 3 * DAY
    known(desk, "ada", "bob")
    try_again(desk)
    assert [one.due_at for one in latest(desk, ESCALATED)] == [desk.now + 2 * HOUR]


def test_a_warning_that_nobody_got_is_told_as_well(desk: Desk) -> None:
    to_nobody(desk)
    desk.platform = "linkedin"
    desk.read(Signal.OK, validity_days=5)
    assert desk.told() == [(EXPIRING, HELD)]
    known(desk, "ada")
    assert try_again(desk) == 1
    assert desk.told() == [(EXPIRING, DROPPED), (EXPIRING, PENDING)]


def test_many_of_whom_nobody_is_known_keep_no_other_from_being_told(desk: Desk) -> None:
    routes = (
        Route((Target("@ada"),), account=frozenset({"9"})),
        Route((Target("@nobody"),)),
    )
    chooses(desk, routing=Routing(routes))
    for ref in "123456789":
        desk.break_down(ref)
    known(desk, "ada")
    written = 0
    for _ in range(5):
        desk.now += HOUR
        written += try_again(desk, limit=2)
    assert written == 1


def pressed(desk: Desk, minutes: int = 3, target: Target = ADA) -> None:
    """The person pressed the button of their link, and some minutes later another account was connected."""
    incident, account = desk.incident(), desk.stored()
    assert incident is not None
    first = notices.notice_id(incident.id, target, OPENED, 0)
    link = incidents.link(desk.connection, incidents.link_id(first))
    assert link is not None
    incidents.record_mint(desk.connection, link, "minted", "browser", desk.now)
    desk.now += SECOND
    desk.hear(Signal.CONNECTED, "2")
    desk.now += minutes * MINUTE
    assert account.id == link.account_id


def test_who_chose_another_account_is_told_once_however_often_they_do(desk: Desk) -> None:
    chooses(desk, routing=Routing(default=(ADA, SLACK)))
    desk.read(Signal.OK, "2")
    desk.break_down()
    desk.hand_over()
    for _ in range(3):
        pressed(desk)
        for _ in range(3):
            desk.read(Signal.BAD_TOKEN)
        assert [one.target for one in latest(desk, WRONG_ACCOUNT)] == [ADA], "who pressed, and nobody else"


def test_who_pressed_and_connected_nothing_else_hears_nothing_more(desk: Desk) -> None:
    desk.break_down()
    desk.hand_over()
    incident = desk.incident()
    assert incident is not None
    link = incidents.link(desk.connection, incidents.link_id(notices.notice_id(incident.id, ADA, OPENED, 0)))
    assert link is not None
    incidents.record_mint(desk.connection, link, "minted", "browser", desk.now)
    desk.now += 3 * MINUTE
    desk.read(Signal.BAD_TOKEN)
    assert latest(desk, WRONG_ACCOUNT) == []


ALL = frozenset({"incident.opened", "incident.reminded", "incident.escalated", "incident.resolved", "account.changed"})


def events(desk: Desk, ref: str = "1") -> list[tuple[str, Target, dict[str, Any]]]:
    """What machines are told of an account, in the order of writing."""
    due = notices.claim(desk.connection, desk.now + DAY, f"look-{desk.now}", desk.now, 1000, (), Cadence())
    found = [one for batch in due for one in batch.notices if one.kind is EVENT]
    payloads = [(one, dict(one.content or {})) for one in found]
    return [(one.subject.partition(":")[0], one.target, content) for one, content in payloads]


def test_machines_hear_of_every_change_and_of_each_incident_from_its_beginning_to_its_end(desk: Desk) -> None:
    chooses(desk, hooks=(Hook("app", ALL), Hook("audit", frozenset({"incident.opened"}))))
    desk.read(Signal.OK)
    desk.break_down()
    desk.read(Signal.OK)
    said = [(name, target.channel) for name, target, _ in events(desk)]
    assert sorted(said) == sorted(
        [
            ("account.changed", "app"),  # doubted
            ("account.changed", "app"),  # broken
            ("incident.opened", "app"),
            ("incident.opened", "audit"),
            ("account.changed", "app"),  # well
            ("incident.resolved", "app"),
        ]
    )


def test_an_event_is_written_with_its_payload_and_repeats_it(desk: Desk) -> None:
    chooses(desk, hooks=(Hook("app", frozenset({"incident.opened"})),))
    desk.break_down()
    [(_, _, first)] = events(desk)
    desk.read(Signal.BAD_TOKEN, name="Another name")
    desk.now += DAY
    [(_, _, again)] = events(desk)
    assert first == again
    payload = orjson.loads(first["body"])
    assert (payload["type"], payload["data"]["accounts"][0]["name"]) == ("incident.opened", "1")


def test_machines_hear_of_an_incident_that_no_person_hears_of(desk: Desk) -> None:
    chooses(desk, hooks=(Hook("app", frozenset({"incident.opened"})),), storms=StormPolicy(least=1))
    for ref in "123":
        desk.break_down(ref)
    assert len(events(desk)) == 3
    assert desk.told("3") == [(OPENED, HELD)]


def test_the_story_of_an_account_tells_every_decision_in_order(desk: Desk) -> None:
    chooses(desk, operators=(OPS,), storms=StormPolicy(least=1))
    desk.read(Signal.OK)
    desk.break_down("2")
    desk.break_down("1")
    [storm] = storms.all_current(desk.connection)
    desk.now += MINUTE
    desk.engine.dispatch.end_storm(desk.connection, storm, "by hand", desk.now, "Olga")
    desk.now += MINUTE
    desk.read(Signal.OK)
    [story] = stories(desk.connection, "1", desk.engine, desk.now)
    told = [(what, detail) for _, what, detail in story.moments()]
    whats = [what for what, _ in told]
    wanted = ["incident opened", "planned", "held", "opened released", "incident repaired", "opened dropped"]
    assert [what for what in whats if what in wanted] == wanted
    details = dict(told)
    assert details["held"] == "many accounts of the platform broke at once"
    assert details["opened dropped"] == "mail:ada@acme.example: repaired before it was sent"
    assert details["opened released"].endswith("by hand, by Olga")


def test_the_plan_is_told_in_words(desk: Desk) -> None:
    chooses(desk, routing=Routing((Route((ADA,), then=(Step((SLACK,), 2 * DAY),)),)))
    desk.break_down()
    found = [one.reason for one in decisions.of_account(desk.connection, desk.stored().id) if one.what == "planned"]
    assert found == ["mail:ada@acme.example at once (route 1)", "slack after 2 days (route 1)"]


def test_what_was_held_when_the_storm_began_tells_it_in_its_own_story(desk: Desk) -> None:
    chooses(desk, storms=StormPolicy(least=1))
    desk.break_down("2")
    desk.break_down("1")
    assert ("opened held", "mail:ada@acme.example: many accounts of the platform broke at once") in [
        (one.what, one.reason) for one in decided(desk, "2")
    ]


def test_a_sweep_that_finds_a_storm_counts_what_it_has_just_written(desk: Desk) -> None:
    """All in one transaction, as a sweep over everything reads them."""
    chooses(desk, operators=(OPS,), storms=StormPolicy(least=3))
    refs = [str(number) for number in range(10)]
    desk.apply(*[desk.reading(Signal.OK, ref, Source.BULK) for ref in refs])
    for _ in range(2):
        desk.now += SECOND
        desk.apply(*[desk.reading(Signal.BAD_TOKEN, ref, Source.BULK, validity_days=0) for ref in refs])
    [storm] = storms.all_current(desk.connection)
    assert (storm.broken, storm.accounts) == (10, 10)
    assert storms.still_broken(desk.connection, storm.id) == 10
    assert notices.held(desk.connection) == {"storm": 10}
    assert {one.status for ref in refs for one in desk.notices(ref)} == {HELD}


def test_two_storms_of_one_place_follow_each_other_with_ids_of_their_own(desk: Desk) -> None:
    chooses(desk, storms=StormPolicy(least=1))
    for ref in ("1", "2"):
        desk.break_down(ref)
    [first] = storms.all_current(desk.connection)
    desk.engine.dispatch.end_storm(desk.connection, first, "by hand", desk.now)
    for ref in ("3", "4"):
        desk.break_down(ref)
    [second] = storms.all_current(desk.connection)
    assert second.id != first.id


def test_the_chain_of_an_account_is_told_only_as_long_as_it_is_broken(desk: Desk) -> None:
    routes = (Route((ADA,), then=(Step((BACKUP,), 2 * HOUR),)),)
    chooses(desk, routing=Routing(routes))
    desk.break_down()
    desk.hand_over()
    desk.read(Signal.OK)
    desk.engine = replace(desk.engine)
    assert (ESCALATED, DROPPED) in desk.told()
