"""Incidents, their history, the links to their repair, and where accounts live."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from healthd.core.model import Observation, Profile, Resolution, Signal, Source, State
from healthd.store import accounts, incidents, profiles
from healthd.store.incidents import Link
from healthd.store.profiles import OWN
from tests.store.rows import DAY, HOUR, MINUTE, NOON, SECOND, add_account, add_incident


def test_the_database_itself_refuses_a_second_open_incident(connection: Connection) -> None:
    stored = add_account(connection, "1")
    first = add_incident(connection, stored)
    with connection.begin_nested(), pytest.raises(IntegrityError):
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


def link(connection: Connection, target: str = "mail:ada@acme.example", name: str = "l1") -> Link:
    incident = incidents.open_for(connection, 1)
    assert incident is not None
    wanted = Link(name, incident.id, 1, target, NOON + 7 * DAY, None)
    incidents.ensure_link(connection, wanted, NOON)
    return wanted


def test_a_person_has_one_link_for_an_incident_and_the_first_stays(connection: Connection) -> None:
    add_incident(connection, add_account(connection, "1"))
    first = link(connection)
    link(connection, name="l2")
    assert incidents.link(connection, "l1") == first
    assert incidents.link(connection, "l2") is None
    assert link(connection, "slack", "l3") == incidents.link(connection, "l3")


def test_every_press_is_on_record_and_only_a_minted_link_counts_as_a_click(connection: Connection) -> None:
    stored = add_account(connection, "1")
    add_incident(connection, stored)
    pressed = link(connection)
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
