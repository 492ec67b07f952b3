"""Accounts: the queue of those to be probed, the counts that are kept, and who shares a login."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from healthd.core.model import Cause, Lane, State
from healthd.store import accounts
from healthd.store.accounts import CHUNK, Known
from tests.store.rows import DAY, HOUR, MINUTE, NOON, SECOND, add_account, change, recount, turn

LEASE = 2 * MINUTE
ALL_LANES = tuple(Lane)


def claim(
    connection: Connection, now: datetime = NOON, limit: int = 100, lanes: tuple[Lane, ...] = ALL_LANES
) -> list[str]:
    return [probe.ref for probe in accounts.claim_probes(connection, "acme", lanes, now, LEASE, limit)]


def due(connection: Connection, ref: str, lane: Lane, ago: timedelta = SECOND, **facts: Any) -> int:
    return add_account(connection, ref, probe_at=NOON - ago, probe_lane=lane, **facts).id


def test_the_most_urgent_come_first_and_then_those_who_waited_longest(connection: Connection) -> None:
    due(connection, "rotation, longest", Lane.ROTATION, HOUR)
    due(connection, "rotation", Lane.ROTATION)
    due(connection, "confirm", Lane.CONFIRM)
    due(connection, "click", Lane.CLICK)
    due(connection, "click, longest", Lane.CLICK, MINUTE)
    assert claim(connection) == ["click, longest", "click", "confirm", "rotation, longest", "rotation"]


def test_no_more_are_taken_than_asked_for_and_the_others_are_next(connection: Connection) -> None:
    for number in range(5):
        due(connection, str(number), Lane.CONFIRM, (10 - number) * SECOND)
    assert claim(connection, limit=2) == ["0", "1"]
    assert claim(connection, limit=2) == ["2", "3"]


def test_only_the_lanes_and_the_workspace_asked_for_are_taken(connection: Connection) -> None:
    due(connection, "rotation", Lane.ROTATION)
    due(connection, "elsewhere", Lane.CLICK, workspace="other")
    due(connection, "click", Lane.CLICK, profile="p7")
    (probe,) = accounts.claim_probes(connection, "acme", (Lane.CLICK, Lane.CONFIRM), NOON, LEASE, 10)
    assert (probe.ref, probe.profile, probe.lane) == ("click", "p7", Lane.CLICK)


def test_a_probe_that_is_taken_comes_again_only_after_its_lease(connection: Connection) -> None:
    due(connection, "1", Lane.CONFIRM)
    assert claim(connection) == ["1"]
    assert claim(connection, NOON + LEASE - SECOND) == []
    assert claim(connection, NOON + LEASE) == ["1"], "a crash must not lose it"


def test_a_removed_account_and_one_that_is_not_due_are_left_alone(connection: Connection) -> None:
    due(connection, "later", Lane.CLICK, -SECOND)
    add_account(connection, "removed", state=State.REMOVED, probe_at=None)
    assert claim(connection) == []
    assert accounts.next_due(connection, "acme", ALL_LANES) == NOON + SECOND
    assert accounts.next_due(connection, "acme", (Lane.CONFIRM,)) is None


SOON, LATER = NOON + 5 * SECOND, NOON + HOUR
TURNS: dict[str, tuple[tuple[datetime | None, Lane], tuple[datetime, Lane], tuple[datetime | None, Lane]]] = {
    "brought forward": ((LATER, Lane.ROTATION), (NOON, Lane.CONFIRM), (NOON, Lane.CONFIRM)),
    "overdue stays due": ((NOON - HOUR, Lane.ROTATION), (SOON, Lane.CLICK), (NOON - HOUR, Lane.CLICK)),
    "more urgent stays so": ((SOON, Lane.CONFIRM), (NOON, Lane.ROTATION), (NOON, Lane.CONFIRM)),
    "earlier and more urgent already": ((NOON, Lane.CLICK), (SOON, Lane.ROTATION), (NOON, Lane.CLICK)),
    "earlier in the same lane": ((NOON, Lane.CONFIRM), (SOON, Lane.CONFIRM), (NOON, Lane.CONFIRM)),
    "never due before": ((None, Lane.ROTATION), (SOON, Lane.CONFIRM), (SOON, Lane.CONFIRM)),
}


@pytest.mark.parametrize(("before", "asked", "after"), TURNS.values(), ids=TURNS)
def test_asking_for_a_probe_never_puts_one_off_or_makes_it_less_urgent(
    connection: Connection,
    before: tuple[datetime | None, Lane],
    asked: tuple[datetime, Lane],
    after: tuple[datetime | None, Lane],
) -> None:
    stored = add_account(connection, "1", probe_at=before[0], probe_lane=before[1])
    accounts.schedule_probe(connection, [stored.id], *asked)
    assert turn(connection, stored.id) == after


def test_a_removed_account_is_not_asked_about_however_it_is_wanted(connection: Connection) -> None:
    stored = add_account(connection, "1", state=State.REMOVED, probe_at=None)
    accounts.schedule_probe(connection, [stored.id], NOON, Lane.CLICK)
    assert turn(connection, stored.id) == (None, Lane.ROTATION)


def test_a_probe_that_could_not_look_is_put_off(connection: Connection) -> None:
    account_id = due(connection, "1", Lane.CONFIRM)
    accounts.postpone_probe(connection, account_id, SOON, Lane.CONFIRM)
    assert turn(connection, account_id) == (SOON, Lane.CONFIRM)


def test_the_counts_are_those_of_a_recount(connection: Connection) -> None:
    first = add_account(connection, "1", platform="gmb")
    second = add_account(connection, "2", platform="gmb", workspace="other")
    add_account(connection, "3", platform="reddit", paused=True)
    first = change(connection, first, state=State.HEALTHY)
    change(connection, first, paused=True)
    change(connection, second, state=State.REMOVED)
    assert set(accounts.counts(connection)) == recount(connection)
    assert len(accounts.counts(connection)) == 3, "what nobody is in any more is not shown"


def test_several_changes_of_one_batch_are_counted_together(connection: Connection) -> None:
    stored = [add_account(connection, str(number)) for number in range(3)]
    pairs = [(one, replace(one, account=replace(one.account, state=State.HEALTHY))) for one in stored]
    accounts.write(connection, pairs)
    assert accounts.counts(connection) == [("acme", "facebook", State.HEALTHY, False, 3)]


def test_an_account_comes_back_as_it_was_written(connection: Connection) -> None:
    stored = add_account(
        connection,
        "1",
        state=State.SUSPECT,
        paused=True,
        as_of=NOON,
        changed_at=NOON,
        suspicion=Cause.CONNECTION,
        confirm_by=NOON + MINUTE,
        error_since=NOON - HOUR,
        validity_days=7,
        refresh_floor=3,
        profile="p1",
        username="@acme",
        missing_since=NOON,
        clicked_at=NOON,
        warned_deadline=NOON + 7 * DAY,
        probe_at=NOON,
        probe_lane=Lane.CLICK,
    )
    assert accounts.by_id(connection, stored.id) == stored
    after = change(connection, stored, suspicion=None, confirm_by=None, state=State.HEALTHY)
    assert accounts.load(connection, "acme", ["1"]) == {"1": after}


def test_more_accounts_than_a_statement_takes_are_loaded_together(connection: Connection) -> None:
    refs = [str(number) for number in range(CHUNK + 1)]
    for ref in refs:
        add_account(connection, ref)
    assert sorted(accounts.load(connection, "acme", [*refs, "1", "unknown"])) == sorted(refs)


def test_overdue_confirmations_come_in_the_order_of_their_time(connection: Connection) -> None:
    for ref, ago in (("late", MINUTE), ("latest", HOUR), ("not yet", -SECOND)):
        add_account(connection, ref, state=State.SUSPECT, confirm_by=NOON - ago)
    add_account(connection, "healthy", state=State.HEALTHY)
    assert accounts.overdue_confirmations(connection, NOON, 10) == [("acme", "latest"), ("acme", "late")]
    assert accounts.overdue_confirmations(connection, NOON, 1) == [("acme", "latest")]


def test_siblings_are_the_broken_accounts_behind_the_same_login(connection: Connection) -> None:
    repaired = add_account(connection, "1", platform="youtube", profile="p")
    expected = [
        add_account(connection, "2", platform="youtube", profile="p", state=State.EXPIRED).id,
        add_account(connection, "3", platform="gmb", profile="p", state=State.DISCONNECTED).id,
    ]
    add_account(connection, "healthy", platform="gmb", profile="p", state=State.HEALTHY)
    add_account(connection, "another login", platform="reddit", profile="p", state=State.EXPIRED)
    add_account(connection, "another profile", platform="gmb", state=State.EXPIRED)
    add_account(connection, "another workspace", platform="gmb", profile="p", state=State.EXPIRED, workspace="other")
    assert sorted(accounts.broken_siblings(connection, repaired)) == expected


def test_an_account_is_missed_once(connection: Connection) -> None:
    stored = add_account(connection, "1")
    add_account(connection, "1", workspace="other")
    assert accounts.mark_missing(connection, "acme", ["1", "unknown"], NOON) == [stored.id]
    assert accounts.mark_missing(connection, "acme", ["1"], NOON + HOUR) == []
    assert accounts.by_id(connection, stored.id) == replace(stored, missing_since=NOON)


def test_a_sweep_compares_with_what_is_known_of_that_profile(connection: Connection) -> None:
    add_account(connection, "1", profile="p", state=State.HEALTHY, validity_days=30, missing_since=NOON)
    add_account(connection, "2")
    assert accounts.known(connection, "acme", "p") == {"1": Known(State.HEALTHY, False, 30, None, True)}


def test_accounts_that_are_alike_share_what_a_sweep_knows_of_them(connection: Connection) -> None:
    for ref in ("1", "2"):
        add_account(connection, ref, profile="p", state=State.HEALTHY, validity_days=30)
    add_account(connection, "3", profile="p", state=State.HEALTHY, validity_days=29)
    known = accounts.known(connection, "acme", "p")
    assert known["1"] is known["2"]
    assert known["1"] != known["3"]


LISTED = {
    "as before": (("1", "Account", "@acme"), False),
    "without its handle": (("1", "Account", None), False),
    "under another name": (("1", "Bakery", None), True),
    "under another handle": (("1", "Account", "@bakery"), True),
    "one that was missed": (("missed", "Account", None), True),
    "one thought removed": (("removed", "Account", None), True),
    "one of another profile": (("elsewhere", "Account", None), True),
}


@pytest.mark.parametrize(("entry", "anew"), LISTED.values(), ids=LISTED)
def test_the_inventory_takes_in_only_what_is_not_on_record_so(
    connection: Connection, entry: tuple[str, str, str | None], anew: bool
) -> None:
    add_account(connection, "1", profile="p", name="Account", username="@acme")
    add_account(connection, "missed", profile="p", name="Account", missing_since=NOON)
    add_account(connection, "removed", profile="p", name="Account", state=State.REMOVED)
    add_account(connection, "elsewhere", name="Account")
    assert accounts.on_record(connection, "acme", "p").is_listed_anew(*entry) is anew


def test_of_an_account_only_what_differs_is_written(connection: Connection) -> None:
    stored = add_account(connection, "1", state=State.HEALTHY, name="Account")
    accounts.mute(connection, stored.id, NOON)
    change(connection, stored, as_of=NOON, validity_days=3)
    found = accounts.load(connection, "acme", ["1"])["1"]
    assert (found.muted_until, found.account.as_of, found.account.validity_days) == (NOON, NOON, 3)


FOUND = {
    "workspace and ref": ("acme/7", ["7"]),
    "a ref, in any workspace": ("7", ["7", "7"]),
    "a part of the name, in any case": ("the bak", ["8"]),
    "a handle": ("@Bake", ["8"]),
    "a wildcard is a character": ("%", []),
    "so is the other": ("a_e", []),
    "nothing": ("nobody", []),
}


@pytest.mark.parametrize(("words", "refs"), FOUND.values(), ids=FOUND)
def test_an_account_is_found_by_what_a_person_would_say(connection: Connection, words: str, refs: list[str]) -> None:
    add_account(connection, "7")
    add_account(connection, "7", workspace="other")
    add_account(connection, "8", name="The Bakery", username="@bakery")
    assert [stored.account.ref for stored in accounts.find(connection, words)] == refs


def test_a_listing_is_narrowed_by_all_that_was_asked(connection: Connection) -> None:
    add_account(connection, "1", state=State.EXPIRED, platform="gmb")
    add_account(connection, "2", state=State.HEALTHY, platform="gmb")
    add_account(connection, "3", state=State.EXPIRED, platform="reddit")
    add_account(connection, "4", state=State.EXPIRED, platform="gmb", workspace="other")
    wanted = accounts.listing(connection, workspace="acme", states=[State.EXPIRED], platform="gmb", limit=10)
    assert [stored.account.ref for stored in wanted] == ["1"]
    assert len(accounts.listing(connection, workspace=None, states=[], platform=None, limit=3)) == 3


def test_two_accounts_of_a_workspace_cannot_have_one_ref(connection: Connection) -> None:
    add_account(connection, "1")
    with pytest.raises(IntegrityError):
        add_account(connection, "1")


def test_an_account_for_a_script_is_plain_json(connection: Connection) -> None:
    shown = accounts.as_json(add_account(connection, "1", as_of=NOON, profile="p"))
    assert (shown["as_of"], shown["state"], shown["profile"]) == ("2026-03-01T12:00:00+00:00", "unknown", "p")
    assert all(value is None or isinstance(value, str | int | bool) for value in shown.values())
