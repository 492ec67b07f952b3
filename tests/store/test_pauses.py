"""What waits to be paused or resumed: taken only while it is true, and ours only where nobody else can have done it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from healthd.core.model import Cause, Resolution, State
from healthd.store import accounts, decisions, incidents, pauses, storms
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident
from healthd.store.pauses import FRESH, LEASE, Action, Turn, Wanted
from healthd.store.storms import Storm
from tests.store.rows import HOUR, MINUTE, NOON, SECOND, add_account, change, recount

LOOKED = NOON + SECOND
SOON = NOON + 2 * SECOND


def broken(connection: Connection, ref: str = "1", *, confirmed: bool = True) -> StoredAccount:
    """An account with an open incident, to be paused since noon."""
    stored = add_account(connection, ref, state=State.EXPIRED)
    incidents.create(
        connection,
        [Incident(
            f"i{stored.id}", stored.id, "acme", "facebook", Cause.TOKEN, NOON, NOON,
            confirmed_at=NOON if confirmed else None,
        )],
    )  # fmt: skip
    pauses.want(connection, Wanted(stored.id, "acme", Action.PAUSE, NOON, NOON))
    return stored


def seen(connection: Connection, stored: StoredAccount, asked_at: datetime = LOOKED) -> StoredAccount:
    pauses.seen_active(connection, "acme", [stored.account.ref], asked_at)
    return stored


def claim(connection: Connection, now: datetime = SOON, *, pausing: bool = True) -> Turn | None:
    return pauses.claim(connection, "acme", now, pausing=pausing)


def taken(connection: Connection, now: datetime = SOON) -> Turn:
    turn = claim(connection, now)
    assert turn is not None
    return turn


def kept(connection: Connection, stored: StoredAccount) -> StoredAccount:
    found = accounts.by_id(connection, stored.id)
    assert found is not None
    return found


def repair(connection: Connection, stored: StoredAccount) -> None:
    incidents.resolve(connection, f"i{stored.id}", Resolution.REPAIRED, NOON)


def ours(connection: Connection, stored: StoredAccount) -> None:
    """The account counts as paused by us, since the call may have had its effect, and is to be resumed."""
    after = replace(stored, account=replace(stored.account, paused=True), auto_paused_at=SOON)
    accounts.write(connection, [(stored, after)])
    pauses.want(connection, Wanted(stored.id, "acme", Action.RESUME, SOON, SOON + LEASE))


def told(connection: Connection, stored: StoredAccount) -> list[str]:
    return [decision.what for decision in decisions.of_account(connection, stored.id)]


def test_nothing_is_paused_before_a_sweep_that_was_asked_later_shows_it_active(connection: Connection) -> None:
    stored = broken(connection)
    assert claim(connection) is None
    seen(connection, stored, NOON - SECOND)
    assert claim(connection) is None
    seen(connection, stored)
    turn = taken(connection)
    assert (turn.ref, turn.wanted.action, turn.incident_id) == ("1", Action.PAUSE, f"i{stored.id}")


def test_what_a_sweep_said_long_ago_is_not_believed_any_more(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    assert claim(connection, LOOKED + FRESH) is None
    seen(connection, stored, LOOKED + FRESH)
    assert claim(connection, LOOKED + FRESH) is not None


def test_only_what_is_still_broken_for_certain_and_still_active_is_paused(connection: Connection) -> None:
    doubtful = broken(connection, "1", confirmed=False)
    repaired = broken(connection, "2")
    paused = broken(connection, "3")
    for one in (doubtful, repaired, paused):
        seen(connection, one)
    repair(connection, repaired)
    change(connection, paused, paused=True)
    assert claim(connection) is None
    incidents.confirm(connection, f"i{doubtful.id}", NOON)
    assert taken(connection).ref == "1"


def test_while_a_storm_lasts_nothing_is_paused(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    storm = Storm("s1", "acme", "facebook", NOON, NOON, NOON + MINUTE, 1, 1)
    assert storms.begin(connection, storm, NOON - MINUTE) == 1
    assert claim(connection) is None
    storms.end(connection, "s1", SOON, "it is over")
    assert taken(connection).ref == stored.account.ref


def test_where_pausing_is_not_wanted_what_was_paused_is_still_resumed(connection: Connection) -> None:
    seen(connection, broken(connection, "1"))
    ours = add_account(connection, "2", paused=True, auto_paused_at=NOON)
    pauses.want(connection, Wanted(ours.id, "acme", Action.RESUME, NOON, NOON))
    turn = claim(connection, pausing=False)
    assert turn is not None
    assert turn.ref == "2"
    assert claim(connection, pausing=False) is None


def test_what_somebody_else_paused_is_not_resumed(connection: Connection) -> None:
    theirs = add_account(connection, "1", paused=True)
    pauses.want(connection, Wanted(theirs.id, "acme", Action.RESUME, NOON, NOON))
    assert claim(connection) is None


def test_a_call_whose_end_nobody_recorded_is_repeated_only_after_another_look(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    first = taken(connection)
    again = SOON + LEASE
    seen(connection, stored, again - SECOND)
    assert claim(connection, again) is None, "the call may have had its effect after that look"
    seen(connection, stored, again)
    second = taken(connection, again)
    assert (first.wanted.attempts, second.wanted.attempts) == (1, 2)
    assert second.wanted.since == first.wanted.since == SOON


def test_a_look_that_shows_it_active_settles_that_the_call_had_no_effect(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    taken(connection)
    for asked_at, doubtful in ((SOON + SECOND, True), (SOON + LEASE, False)):
        seen(connection, stored, asked_at)
        waiting = pauses.get(connection, stored.id)
        assert waiting is not None
        assert (waiting.tried_at is not None) is doubtful


def test_what_was_paused_is_on_record_with_the_counts(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    pauses.paused(connection, taken(connection), SOON)
    found = kept(connection, stored)
    assert (found.account.paused, found.auto_paused_at) == (True, SOON)
    assert set(accounts.counts(connection)) == recount(connection)
    assert pauses.get(connection, stored.id) is None
    assert told(connection, stored) == ["posting paused"]


def test_what_was_repaired_while_it_was_paused_is_resumed(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    turn = taken(connection)
    repair(connection, stored)
    pauses.paused(connection, turn, SOON)
    back = taken(connection)
    assert (back.wanted.action, back.ref) == (Action.RESUME, "1")
    pauses.resumed(connection, back, SOON, pausing=True)
    found = kept(connection, stored)
    assert (found.account.paused, found.auto_paused_at) == (False, None)
    assert told(connection, stored) == ["posting paused", "posting resumed"]
    assert set(accounts.counts(connection)) == recount(connection)


def test_what_turned_out_to_be_paused_by_somebody_else_does_not_become_ours(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    turn = taken(connection)
    pauses.withdraw(connection, stored.id)
    pauses.paused(connection, turn, SOON)
    assert kept(connection, stored).auto_paused_at is None
    assert told(connection, stored) == []


def test_what_breaks_again_while_it_is_resumed_is_to_be_paused_again(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    pauses.paused(connection, taken(connection), SOON)
    pauses.want(connection, Wanted(stored.id, "acme", Action.RESUME, SOON, SOON))
    pauses.resumed(connection, taken(connection), SOON, pausing=True)
    waiting = pauses.get(connection, stored.id)
    assert waiting is not None
    assert waiting.action is Action.PAUSE
    assert not kept(connection, stored).account.paused


def test_a_refused_pause_of_what_was_repaired_meanwhile_leaves_nothing_to_resume(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    turn = taken(connection)
    repair(connection, stored)
    ours(connection, stored)
    pauses.postpone(connection, turn, SOON + HOUR, SOON, unknown=False)
    found = kept(connection, stored)
    assert (found.account.paused, found.auto_paused_at) == (False, None)
    assert pauses.get(connection, stored.id) is None


def test_a_pause_with_an_unknown_end_of_what_was_repaired_meanwhile_is_still_taken_back(connection: Connection) -> None:
    stored = seen(connection, broken(connection))
    turn = taken(connection)
    repair(connection, stored)
    ours(connection, stored)
    pauses.postpone(connection, turn, SOON + HOUR, SOON, unknown=True)
    assert taken(connection, SOON + LEASE).wanted.action is Action.RESUME
