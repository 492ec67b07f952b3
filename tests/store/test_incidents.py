"""Incidents, their history, the links to their repair, and where accounts live."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from healthd.core.model import Observation, Profile, Resolution, Signal, Source, State
from healthd.store import accounts, incidents, profiles
from healthd.store.profiles import OWN
from tests.store.rows import DAY, HOUR, MINUTE, NOON, SECOND, SLACK, add_account, add_incident, add_link


def test_the_database_itself_refuses_a_second_open_incident(connection: Connection) -> None:
    stored = add_account(connection, "1")
    first = add_incident(connection, stored)
    with pytest.raises(IntegrityError), connection.begin_nested():
        add_incident(connection, stored, id="second")
    assert incidents.open_for(connection, stored.id) == first


def test_after_a_resolution_the_next_incident_may_open(connection: Connection) -> None:
    stored = add_account(connection, "1")
    first = add_incident(connection, stored)
    incidents.resolve(connection, first.id, Resolution.REPAIRED, NOON + HOUR)
    assert incidents.open_for(connection, stored.id) is None
    second = add_incident(connection, stored, id="second", opened_at=NOON + DAY)
    assert [found.id for found in incidents.of_account(connection, stored.id)] == [second.id, first.id]
    closed = incidents.get(connection, first.id)
    assert closed is not None
    assert (closed.resolved_at, closed.resolution) == (NOON + HOUR, Resolution.REPAIRED)


def test_an_incident_is_confirmed_once(connection: Connection) -> None:
    incident = add_incident(connection, add_account(connection, "1"), confirmed_at=None)
    assert incidents.confirm(connection, incident.id, NOON + MINUTE)
    assert not incidents.confirm(connection, incident.id, NOON + HOUR)
    found = incidents.get(connection, incident.id)
    assert found is not None
    assert found.confirmed_at == NOON + MINUTE


def test_open_incidents_are_counted_and_listed_by_workspace(connection: Connection) -> None:
    for number, workspace in enumerate(["acme", "acme", "other"]):
        stored = add_account(connection, str(number), workspace=workspace)
        add_incident(connection, stored, opened_at=NOON + number * HOUR)
    incidents.resolve(connection, "i1", Resolution.REPAIRED, NOON)
    assert sorted(incidents.open_counts(connection)) == [("acme", 1), ("other", 1)]
    assert [row.ref for row in incidents.listing(connection, workspace=None, only_open=True, limit=9)] == ["2", "1"]
    assert [row.ref for row in incidents.listing(connection, workspace="acme", only_open=False, limit=9)] == ["1", "0"]


def test_a_person_has_one_link_for_an_incident_and_the_first_stays(connection: Connection) -> None:
    incident = add_incident(connection, add_account(connection, "1"))
    first = add_link(connection, incident, "l1")
    add_link(connection, incident, "l2")
    assert incidents.link(connection, "l1") == first
    assert incidents.link(connection, "l2") is None
    assert add_link(connection, incident, "l3", SLACK) == incidents.link(connection, "l3")


def test_a_link_leads_to_all_accounts_of_the_messages_it_stood_in(connection: Connection) -> None:
    made = [
        add_incident(connection, add_account(connection, str(number)), broken_at=NOON - number * HOUR)
        for number in range(3)
    ]
    add_link(connection, made[0], "l1")
    assert incidents.covered(connection, "l1") == []
    incidents.cover(connection, "l1", [made[0].id, made[1].id])
    incidents.cover(connection, "l1", [made[1].id, made[2].id])
    assert [one.id for one in incidents.covered(connection, "l1")] == [made[2].id, made[1].id, made[0].id]
    assert len(incidents.covered(connection, "l1", 2)) == 2


def test_for_a_reader_without_a_link_of_its_own_there_is_one_that_still_opens(connection: Connection) -> None:
    incident = add_incident(connection, add_account(connection, "1"))
    assert incidents.any_link(connection, incident.id) is None
    add_link(connection, incident, "l1")
    add_link(connection, incident, "l2", SLACK)
    assert incidents.any_link(connection, incident.id) == "l1"
    incidents.revoke_links(connection, incident.id, NOON + HOUR)
    assert incidents.any_link(connection, incident.id) is None


def test_the_newest_press_tells_through_whose_link_it_came(connection: Connection) -> None:
    stored = add_account(connection, "1")
    incident = add_incident(connection, stored)
    assert incidents.latest_mint(connection, stored.id, NOON) is None
    ada, slack = add_link(connection, incident, "l1"), add_link(connection, incident, "l2", SLACK)
    for link, outcome, minutes in ((ada, "minted", 1), (slack, "minted", 2), (ada, "failed", 3)):
        incidents.record_mint(connection, link, outcome, "browser", NOON + minutes * MINUTE)
    assert incidents.latest_mint(connection, stored.id, NOON) == SLACK.key
    assert incidents.latest_mint(connection, stored.id, NOON + 3 * MINUTE) is None


def test_who_took_it_on_is_kept_until_it_is_taken_back_or_over(connection: Connection) -> None:
    incident = add_incident(connection, add_account(connection, "1"))
    incidents.acknowledge(connection, incident.id, NOON, NOON + DAY, "Ada")
    incidents.snooze(connection, incident.id, NOON + 2 * DAY)
    taken = incidents.open_for(connection, incident.account_id)
    assert taken is not None
    assert (taken.acknowledged_by, taken.acknowledged_until, taken.snoozed_until) == (
        "Ada",
        NOON + DAY,
        NOON + 2 * DAY,
    )
    incidents.resume(connection, incident.id)
    assert incidents.get(connection, incident.id) == incident
    incidents.resolve(connection, incident.id, Resolution.REPAIRED, NOON + HOUR)
    incidents.acknowledge(connection, incident.id, NOON, NOON + DAY, "Eve")
    over = incidents.get(connection, incident.id)
    assert over is not None
    assert over.acknowledged_by is None, "what is over needs nobody"


def test_only_repairs_count_and_only_those_since_then(connection: Connection) -> None:
    stored = add_account(connection, "1")
    for hours, how in ((1, Resolution.REPAIRED), (2, Resolution.REMOVED), (3, Resolution.REPAIRED)):
        add_incident(connection, stored, id=f"r{hours}")
        incidents.resolve(connection, f"r{hours}", how, NOON + hours * HOUR)
    assert incidents.repairs_since(connection, stored.id, NOON) == [NOON + HOUR, NOON + 3 * HOUR]
    assert incidents.repairs_since(connection, stored.id, NOON + HOUR) == [NOON + 3 * HOUR]


def test_every_press_is_on_record_and_only_a_minted_link_counts_as_a_click(connection: Connection) -> None:
    stored = add_account(connection, "1")
    pressed = add_link(connection, add_incident(connection, stored), "l1")
    incidents.record_mint(connection, pressed, "failed", "browser", NOON, request_id="r1")
    assert accounts.by_id(connection, stored.id) == stored
    incidents.record_mint(connection, pressed, "minted", "browser", NOON + MINUTE)
    clicked = accounts.by_id(connection, stored.id)
    assert clicked is not None
    assert clicked.clicked_at == NOON + MINUTE
    assert incidents.mints_since(connection, pressed.id, NOON - SECOND) == 2
    assert incidents.mints_since(connection, pressed.id, NOON) == 1
    assert [row.outcome for row in incidents.mints_of_account(connection, stored.id)] == ["minted", "failed"]


CHOSEN_INSTEAD = {
    "another account of the same platform": ({}, 1, Signal.CONNECTED, True),
    "another, before the click": ({}, -1, Signal.CONNECTED, False),
    "another that did not connect": ({}, 1, Signal.OK, False),
    "of another platform": ({"platform": "reddit"}, 1, Signal.CONNECTED, False),
    "of another profile": ({"profile": "p"}, 1, Signal.CONNECTED, False),
    "of another workspace": ({"workspace": "other"}, 1, Signal.CONNECTED, False),
}


@pytest.mark.parametrize(("facts", "minutes", "signal", "instead"), CHOSEN_INSTEAD.values(), ids=CHOSEN_INSTEAD)
def test_whoever_chose_another_account_is_recognised(
    connection: Connection, facts: dict[str, str], minutes: int, signal: Signal, instead: bool
) -> None:
    wanted, other = add_account(connection, "1"), add_account(connection, "2", **facts)
    for stored in (wanted, other):
        seen = Observation(stored.account.ref, signal, Source.WEBHOOK, NOON)
        line = incidents.history_line(stored.id, seen, State.EXPIRED, State.EXPIRED, NOON + minutes * MINUTE, None)
        incidents.record(connection, [line])
    assert incidents.other_connected_since(connection, wanted, NOON) is instead


def test_history_is_read_from_its_oldest_line_on_and_cut_at_its_oldest_end(connection: Connection) -> None:
    stored = add_account(connection, "1")
    for number in range(3):
        seen = Observation("1", Signal.OK, Source.WEBHOOK, NOON, event_id=f"evt_{number}", request_id="r")
        incidents.record(
            connection, [incidents.history_line(stored.id, seen, State.UNKNOWN, State.HEALTHY, NOON, "note")]
        )
    lines = incidents.history_of(connection, stored.id, 2)
    assert [line.event_id for line in lines] == ["evt_1", "evt_2"]
    assert (lines[0].signal, lines[0].before, lines[0].after, lines[0].note) == ("ok", "unknown", "healthy", "note")


def test_a_workspace_has_a_scope_of_its_own_and_one_for_each_profile(connection: Connection) -> None:
    profiles.ensure_own(connection, ["acme", "other"])
    profiles.ensure_own(connection, ["acme"])
    profiles.replace_profiles(connection, "acme", [Profile("7", "Seven", "x7", active=True)])
    assert [(scope.workspace, scope.ref) for scope in profiles.scopes(connection)] == [
        ("acme", OWN),
        ("acme", "7"),
        ("other", OWN),
    ]
    profiles.mark_bulk(connection, "acme", "7", NOON)
    profiles.mark_inventory(connection, "acme", "7", NOON + HOUR)
    _, scope = profiles.scopes(connection, "acme")
    assert (scope.active, scope.bulk_at, scope.inventory_at) == (True, NOON, NOON + HOUR)


def test_a_profile_that_is_gone_or_paused_is_inactive_until_it_is_listed_again(connection: Connection) -> None:
    profiles.ensure_own(connection, ["acme", "other"])
    seven = Profile("7", "Seven", None, active=True)
    profiles.replace_profiles(connection, "other", [seven])

    def active(found: list[Profile]) -> list[bool]:
        profiles.replace_profiles(connection, "acme", found)
        return [scope.active for scope in profiles.scopes(connection, "acme")]

    assert active([seven]) == [True, True]
    assert active([]) == [True, False], "the workspace itself is never inactive"
    assert active([Profile("7", "Seven", None, active=False)]) == [True, False]
    assert active([seven]) == [True, True]
    profiles.set_active(connection, "acme", "7", active=False)
    assert [scope.active for scope in profiles.scopes(connection)] == [True, False, True, True]
