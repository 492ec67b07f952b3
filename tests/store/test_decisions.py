"""Why somebody was told, or was not: kept in order, and not for ever."""

from __future__ import annotations

from sqlalchemy import Connection

from healthd.store import decisions
from healthd.store.decisions import Decision
from healthd.store.housekeeping import KEEP_HISTORY
from tests.store.rows import DAY, HOUR, NOON, add_account
from tests.tidy import tidy


def test_the_newest_decisions_about_an_account_come_with_the_oldest_first(connection: Connection) -> None:
    stored, other = add_account(connection, "1"), add_account(connection, "2")
    made = [
        Decision(NOON + hour * HOUR, stored.id, what, "because", "i1", "n1", who)
        for hour, what, who in ((0, "planned", ""), (1, "held", ""), (1, "released", "Olga"))
    ]
    decisions.note(connection, [made[0]])
    decisions.note(connection, [*made[1:], Decision(NOON, other.id, "planned", "because")])
    assert decisions.of_account(connection, stored.id) == made
    assert decisions.of_account(connection, stored.id, 2) == made[1:]


def test_a_decision_about_no_account_in_particular_is_kept_too(connection: Connection) -> None:
    decisions.note(connection, [Decision(NOON, None, "released", "storm x", who="Olga")])
    assert tidy(connection, NOON + DAY + KEEP_HISTORY) == 1


def test_nothing_to_note_is_no_row(connection: Connection) -> None:
    decisions.note(connection, [])
    assert tidy(connection, NOON + DAY + KEEP_HISTORY) == 0


def test_old_decisions_go_and_newer_ones_stay(connection: Connection) -> None:
    stored = add_account(connection, "1")
    decisions.note(connection, [Decision(NOON + day * DAY, stored.id, str(day), "because") for day in range(3)])
    assert tidy(connection, NOON + DAY + KEEP_HISTORY) == 1
    assert [one.what for one in decisions.of_account(connection, stored.id)] == ["1", "2"]
