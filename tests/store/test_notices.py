"""The outbox: nobody is told the same thing twice, and a notice has one sender at a time."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import Connection

from healthd.core.model import NoticeKind, NoticeStatus, Target
from healthd.store import notices
from healthd.store.notices import StoredNotice
from tests.store.rows import ADA, DAY, HOUR, MINUTE, NOON, SECOND, SLACK, add_account, add_incident, add_notice

LEASE = 3 * MINUTE


def claim(connection: Connection, lease: str = "mine", now: datetime = NOON, limit: int = 10) -> list[StoredNotice]:
    return notices.claim(connection, now, lease, now + LEASE, limit)


def stands(connection: Connection, notice: str) -> tuple[NoticeStatus, str | None]:
    found = notices.get(connection, notice)
    assert found is not None
    return found.status, found.reason


def test_the_same_notice_is_written_once_and_stays_as_it_is(connection: Connection) -> None:
    stored = add_account(connection, "1")
    notice = add_notice(connection, stored)
    (taken,) = claim(connection)
    again = {"incident_id": None, "account_id": stored.id, "kind": NoticeKind.OPENED, "due_at": NOON, "now": NOON}
    assert notices.write(connection, subject="s", targets=(ADA, SLACK), **again) == 1  # type: ignore[arg-type]
    assert notices.get(connection, notice) == taken


def test_notices_that_differ_in_anything_have_ids_of_their_own() -> None:
    kinds = [("s", ADA, NoticeKind.OPENED, 0), ("t", ADA, NoticeKind.OPENED, 0), ("s", SLACK, NoticeKind.OPENED, 0)]
    kinds += [("s", ADA, NoticeKind.REMINDER, 0), ("s", ADA, NoticeKind.REMINDER, 1)]
    kinds += [
        ("s", Target("mail", ""), NoticeKind.OPENED, 0),
        ("s", Target("mailada@acme.example"), NoticeKind.OPENED, 0),
    ]
    assert len({notices.notice_id(*facts) for facts in kinds}) == len(kinds)


def test_due_notices_are_taken_in_the_order_of_their_time_and_by_one_sender(connection: Connection) -> None:
    stored = add_account(connection, "1")
    ids = [add_notice(connection, stored, f"s{ago}", due_at=NOON - ago * SECOND) for ago in (1, 3, 2)]
    add_notice(connection, stored, "not due", due_at=NOON + SECOND)
    add_notice(connection, stored, "held", status=NoticeStatus.HELD)
    first = claim(connection, limit=2)
    assert [taken.id for taken in first] == [ids[1], ids[2]]
    assert {(taken.status, taken.lease, taken.attempts, taken.repeat) for taken in first} == {
        (NoticeStatus.SENDING, "mine", 1, False)
    }
    assert [taken.id for taken in claim(connection, "yours")] == [ids[0]]
    assert claim(connection, "theirs") == []


def test_a_notice_whose_sender_is_lost_is_taken_again_as_a_repeat(connection: Connection) -> None:
    add_notice(connection, add_account(connection, "1"))
    claim(connection)
    assert claim(connection, "yours", NOON + LEASE - SECOND) == []
    (taken,) = claim(connection, "yours", NOON + LEASE)
    assert (taken.repeat, taken.attempts, taken.lease) == (True, 2, "yours")


def test_a_sender_that_lost_its_lease_has_no_say_any_more(connection: Connection) -> None:
    notice = add_notice(connection, add_account(connection, "1"))
    (slow,) = claim(connection)
    (quick,) = claim(connection, "yours", NOON + LEASE)
    assert not notices.settle(connection, slow, NoticeStatus.DEAD, reason="too late")
    assert stands(connection, notice) == (NoticeStatus.SENDING, None)
    assert notices.settle(connection, quick, NoticeStatus.SENT, receipt={"ts": "1.2"}, sent_at=NOON)
    assert not notices.settle(connection, slow, NoticeStatus.PENDING), "nor once it is settled"
    sent = notices.get(connection, notice)
    assert sent is not None
    assert (sent.status, sent.receipt, sent.sent_at, sent.lease) == (NoticeStatus.SENT, {"ts": "1.2"}, NOON, None)


def test_a_retry_is_taken_when_it_is_due_with_the_content_of_the_first_attempt(connection: Connection) -> None:
    notice = add_notice(connection, add_account(connection, "1"))
    (taken,) = claim(connection)
    notices.keep_content(connection, notice, {"subject": "Käse", "text": "…"}, NOON)
    notices.settle(connection, taken, NoticeStatus.PENDING, reason="busy", due_at=NOON + MINUTE)
    assert claim(connection, now=NOON + MINUTE - SECOND) == []
    (again,) = claim(connection, now=NOON + MINUTE)
    assert (again.content, again.attempts, again.repeat) == ({"subject": "Käse", "text": "…"}, 2, False)


@pytest.mark.parametrize("status", [NoticeStatus.SENT, NoticeStatus.DEAD, NoticeStatus.DROPPED, NoticeStatus.HELD])
def test_what_is_settled_is_never_taken_again(connection: Connection, status: NoticeStatus) -> None:
    add_notice(connection, add_account(connection, "1"))
    (taken,) = claim(connection)
    notices.settle(connection, taken, status, reason="because")
    assert claim(connection, now=NOON + DAY) == []
    assert notices.next_due(connection) is None


def test_after_a_restart_what_was_being_sent_is_due_at_once_as_a_repeat(connection: Connection) -> None:
    stored = add_account(connection, "1")
    notice = add_notice(connection, stored)
    add_notice(connection, stored, "not begun", due_at=NOON + HOUR)
    (before,) = claim(connection)
    assert notices.release_leases(connection) == 1
    (after,) = claim(connection, "new process")
    assert (after.id, after.repeat) == (notice, True)
    assert not notices.settle(connection, before, NoticeStatus.SENT)


def test_the_next_due_is_the_earliest_turn_or_the_end_of_a_lease(connection: Connection) -> None:
    assert notices.next_due(connection) is None
    stored = add_account(connection, "1")
    add_notice(connection, stored)
    add_notice(connection, stored, "later", due_at=NOON + HOUR)
    assert notices.next_due(connection) == NOON
    claim(connection)
    assert notices.next_due(connection) == NOON + LEASE


def test_the_backlog_says_how_many_wait_and_for_how_long(connection: Connection) -> None:
    assert notices.backlog(connection, NOON) == ({}, 0 * SECOND)
    stored = add_account(connection, "1")
    add_notice(connection, stored, "later", due_at=NOON + HOUR)
    assert notices.backlog(connection, NOON) == ({"pending": 1}, 0 * SECOND)
    add_notice(connection, stored, "overdue", due_at=NOON - MINUTE)
    claim(connection)
    add_notice(connection, stored, "held", status=NoticeStatus.HELD)
    assert notices.backlog(connection, NOON) == ({"pending": 1, "sending": 1}, MINUTE)


def test_what_waits_of_a_closed_incident_is_withdrawn_but_not_the_good_news(connection: Connection) -> None:
    stored = add_account(connection, "1")
    incident = add_incident(connection, stored).id
    about = {"subject": incident, "incident_id": incident}
    sent = add_notice(connection, stored, **about)
    (taken,) = claim(connection)
    notices.settle(connection, taken, NoticeStatus.SENT)
    reminder = add_notice(connection, stored, **about, kind=NoticeKind.REMINDER, step=1)
    held = add_notice(connection, stored, **about, targets=(SLACK,), status=NoticeStatus.HELD, reason="paused")
    news = add_notice(connection, stored, **about, kind=NoticeKind.RESOLVED)
    other = add_notice(connection, stored, "another incident")
    assert notices.drop_waiting(connection, incident, "repaired") == 2
    dropped = (NoticeStatus.DROPPED, "repaired")
    assert [stands(connection, one) for one in (reminder, held)] == [dropped, dropped]
    assert stands(connection, sent)[0] is NoticeStatus.SENT
    assert {stands(connection, one)[0] for one in (news, other)} == {NoticeStatus.PENDING}


def test_held_notices_of_an_account_are_let_go_afresh(connection: Connection) -> None:
    """Their time to be tried starts anew: a pause of a week is not a mail server that failed for a week."""
    stored, other = add_account(connection, "1"), add_account(connection, "2")
    held = add_notice(connection, stored, status=NoticeStatus.HELD, reason="paused")
    nobody = add_notice(connection, stored, targets=(Target(""),), status=NoticeStatus.HELD, reason="nobody")
    elsewhere = add_notice(connection, other, "other", status=NoticeStatus.HELD, reason="paused")
    assert notices.release_held(connection, [stored.id], NOON + DAY) == 1
    released = notices.get(connection, held)
    assert released is not None
    assert (released.status, released.reason) == (NoticeStatus.PENDING, None)
    assert (released.due_at, released.created_at) == (NOON + DAY, NOON + DAY)
    assert stands(connection, nobody) == (NoticeStatus.HELD, "nobody")
    assert stands(connection, elsewhere) == (NoticeStatus.HELD, "paused")


def test_those_were_told_to_whom_the_opening_was_handed_over(connection: Connection) -> None:
    stored = add_account(connection, "1")
    incident = add_incident(connection, stored).id
    about = {"subject": incident, "incident_id": incident}
    add_notice(connection, stored, **about)
    (taken,) = claim(connection)
    notices.settle(connection, taken, NoticeStatus.SENT)
    add_notice(connection, stored, **about, targets=(SLACK,))
    assert notices.told(connection, incident) == [ADA]


def test_an_accounts_notices_are_listed_with_the_newest_first(connection: Connection) -> None:
    stored = add_account(connection, "1")
    ids = [add_notice(connection, stored, str(hour), now=NOON + hour * HOUR) for hour in range(3)]
    assert [notice.id for notice in notices.of_account(connection, stored.id, 2)] == [ids[2], ids[1]]
