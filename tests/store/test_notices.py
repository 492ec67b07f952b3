"""The outbox: nobody is told the same thing twice, a notice has one sender at a time, and a message stays whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, NoticeStatus, Resolution, Target
from healthd.core.routing import Recipient
from healthd.store import incidents, notices, storms
from healthd.store.accounts import StoredAccount
from healthd.store.notices import Batch, Draft, Holding, StoredNotice
from healthd.store.storms import Storm
from tests.store.rows import ADA, DAY, HOUR, MINUTE, NOON, SECOND, SLACK, add_account, add_incident, add_notice

LEASE = 3 * MINUTE
OPENED, ESCALATED, REMINDER = NoticeKind.OPENED, NoticeKind.ESCALATED, NoticeKind.REMINDER
RESOLVED, EVENT = NoticeKind.RESOLVED, NoticeKind.EVENT
PENDING, SENDING, SENT = NoticeStatus.PENDING, NoticeStatus.SENDING, NoticeStatus.SENT
HELD, DROPPED, DEAD = NoticeStatus.HELD, NoticeStatus.DROPPED, NoticeStatus.DEAD
META = "acme//meta"


def claim_all(
    connection: Connection, lease: str = "mine", now: datetime = NOON, limit: int = 10, **choices: Any
) -> list[Batch]:
    skip = choices.pop("skip", ())
    apart = choices.pop("apart", ())
    return notices.claim(connection, now, lease, now + LEASE, limit, skip, Cadence(**choices), apart)


def claim(connection: Connection, *args: Any, **choices: Any) -> list[StoredNotice]:
    """What is taken, one message each."""
    return [batch.leader for batch in claim_all(connection, *args, **choices)]


def found(connection: Connection, notice: str) -> StoredNotice:
    stored = notices.get(connection, notice)
    assert stored is not None
    return stored


def stands(connection: Connection, notice: str) -> tuple[NoticeStatus, str | None]:
    stored = found(connection, notice)
    return stored.status, stored.reason


def group(connection: Connection, number: int = 3, **facts: Any) -> list[tuple[StoredAccount, str]]:
    """Accounts of one login that broke together, and their notices."""
    made = []
    for ref in range(1, number + 1):
        stored = add_account(connection, str(ref))
        incident = add_incident(connection, stored)
        wanted = {"incident_id": incident.id, "family": META, **facts}
        made.append((stored, add_notice(connection, stored, incident.id, **wanted)))
    return made


def test_the_same_notice_is_written_once_and_stays_as_it_is(connection: Connection) -> None:
    stored = add_account(connection, "1")
    notice = add_notice(connection, stored)
    (taken,) = claim(connection)
    again = Draft(subject="s", kind=OPENED, target=ADA, created_at=NOON, due_at=NOON, account_id=stored.id)
    assert notices.write(connection, [again, replace(again, target=SLACK)]) == 1
    assert notices.get(connection, notice) == taken


def test_notices_that_differ_in_anything_have_ids_of_their_own() -> None:
    kinds = [("s", ADA, OPENED, 0), ("t", ADA, OPENED, 0), ("s", SLACK, OPENED, 0)]
    kinds += [("s", ADA, REMINDER, 0), ("s", ADA, REMINDER, 1)]
    kinds += [("s", Target("mail", ""), OPENED, 0), ("s", Target("mailada@acme.example"), OPENED, 0)]
    assert len({notices.notice_id(*facts) for facts in kinds}) == len(kinds)


def test_due_notices_are_taken_in_the_order_of_their_time_and_by_one_sender(connection: Connection) -> None:
    stored = add_account(connection, "1")
    ids = [add_notice(connection, stored, f"s{ago}", due_at=NOON - ago * SECOND) for ago in (1, 3, 2)]
    add_notice(connection, stored, "not due", due_at=NOON + SECOND)
    add_notice(connection, stored, "held", holding=Holding("paused"))
    first = claim(connection, limit=2)
    assert [taken.id for taken in first] == [ids[1], ids[2]]
    assert {(taken.status, taken.lease, taken.attempts) for taken in first} == {(SENDING, "mine", 1)}
    assert [taken.id for taken in claim(connection, "yours")] == [ids[0]]
    assert claim(connection, "theirs") == []


def test_a_channel_that_is_full_is_passed_over(connection: Connection) -> None:
    stored = add_account(connection, "1")
    add_notice(connection, stored)
    slack = add_notice(connection, stored, "t", target=SLACK)
    assert [taken.id for taken in claim(connection, skip=["mail"])] == [slack]


def test_a_notice_whose_sender_is_lost_is_taken_again_as_a_repeat(connection: Connection) -> None:
    add_notice(connection, add_account(connection, "1"))
    (lost,) = claim(connection)
    notices.keep_content(connection, [lost], {"text": "on its way"}, NOON)
    assert claim(connection, "yours", NOON + LEASE - SECOND) == []
    (taken,) = claim(connection, "yours", NOON + LEASE)
    assert (taken.may_have_arrived, taken.attempts, taken.lease) == (True, 2, "yours")


def test_a_sender_that_was_lost_before_it_had_any_words_sent_none(connection: Connection) -> None:
    add_notice(connection, add_account(connection, "1"))
    claim(connection)
    (taken,) = claim(connection, "yours", NOON + LEASE)
    assert not taken.may_have_arrived


def test_a_sender_that_lost_its_lease_has_no_say_any_more(connection: Connection) -> None:
    notice = add_notice(connection, add_account(connection, "1"))
    (slow,) = claim(connection)
    (quick,) = claim(connection, "yours", NOON + LEASE)
    assert not notices.settle(connection, [slow], DEAD, reason="too late")
    assert stands(connection, notice) == (SENDING, None)
    assert notices.settle(connection, [quick], SENT, receipt={"ts": "1.2"}, sent_at=NOON)
    assert not notices.settle(connection, [slow], PENDING), "nor once it is settled"
    sent = found(connection, notice)
    assert (sent.status, sent.receipt, sent.sent_at, sent.lease) == (SENT, {"ts": "1.2"}, NOON, None)


def test_a_retry_is_taken_when_it_is_due_with_the_content_of_the_first_attempt(connection: Connection) -> None:
    add_notice(connection, add_account(connection, "1"))
    (taken,) = claim(connection)
    notices.keep_content(connection, [taken], {"subject": "Käse", "text": "…"}, NOON)
    notices.settle(connection, [taken], PENDING, reason="busy", due_at=NOON + MINUTE)
    assert claim(connection, now=NOON + MINUTE - SECOND) == []
    (again,) = claim(connection, now=NOON + MINUTE)
    assert (again.content, again.attempts) == ({"subject": "Käse", "text": "…"}, 2)
    assert not again.may_have_arrived, "it was refused"


@pytest.mark.parametrize("status", [SENT, DEAD, DROPPED, HELD])
def test_what_is_settled_is_never_taken_again(connection: Connection, status: NoticeStatus) -> None:
    add_notice(connection, add_account(connection, "1"))
    (taken,) = claim(connection)
    notices.settle(connection, [taken], status, reason="because", holding=Holding("paused"))
    assert claim(connection, now=NOON + DAY) == []
    assert notices.next_due(connection) is None


def test_after_a_restart_what_was_being_sent_is_due_at_once_as_a_repeat(connection: Connection) -> None:
    stored = add_account(connection, "1")
    notice = add_notice(connection, stored)
    add_notice(connection, stored, "not begun", due_at=NOON + HOUR)
    (before,) = claim(connection)
    notices.keep_content(connection, [before], {"text": "on its way"}, NOON)
    assert notices.release_leases(connection) == 1
    (after,) = claim(connection, "new process")
    assert (after.id, after.may_have_arrived) == (notice, True)
    assert not notices.settle(connection, [before], SENT)


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
    add_notice(connection, stored, "held", holding=Holding("paused"))
    assert notices.backlog(connection, NOON) == ({"pending": 1, "sending": 1}, MINUTE)


def test_what_is_due_soon_comes_along_and_one_of_them_leads(connection: Connection) -> None:
    made = group(connection)
    late = add_account(connection, "9")
    add_notice(connection, late, "late", family=META, due_at=NOON + MINUTE)
    (batch,) = claim_all(connection, group_wait=10 * SECOND)
    assert {one.id for one in batch.notices} == {notice for _, notice in made}
    assert {one.message_id for one in batch.notices} == {batch.leader.id}
    assert batch.notices[0] == batch.leader


ELSEWHERE: dict[str, dict[str, Any]] = {
    "another login": {"family": "acme//google"},
    "another customer": {"family": "acme/p7/meta"},
    "another workspace": {"family": "other//meta"},
    "another recipient": {"target": SLACK},
    "another kind": {"kind": REMINDER},
    "a kind that goes alone": {"kind": NoticeKind.WRONG_ACCOUNT},
}


@pytest.mark.parametrize("facts", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_does_not_belong_together_goes_in_messages_of_its_own(
    connection: Connection, facts: dict[str, Any]
) -> None:
    stored = add_account(connection, "1")
    add_notice(connection, stored, "here", family=META)
    add_notice(connection, stored, "there", **{"family": META, **facts})
    assert [len(batch.notices) for batch in claim_all(connection)] == [1, 1]


@pytest.mark.parametrize(("logins", "messages"), [(3, 3), (4, 1)])
def test_more_logins_than_wanted_go_into_one_message(connection: Connection, logins: int, messages: int) -> None:
    stored = add_account(connection, "1")
    for number in range(logins):
        add_notice(connection, stored, str(number), family=f"acme//login{number}")
    add_notice(connection, stored, "other", family="other//meta")
    assert len(claim_all(connection, digest_above=3)) == messages + 1


def test_kinds_that_are_wanted_apart_go_alone(connection: Connection) -> None:
    group(connection)
    assert [len(batch.notices) for batch in claim_all(connection, apart={OPENED})] == [1, 1, 1]


def refuse(connection: Connection, batch: Batch, **facts: Any) -> None:
    notices.keep_content(connection, batch.notices, {"text": "of all"}, NOON)
    notices.settle(connection, batch.notices, PENDING, due_at=NOON + MINUTE, **facts)


def test_a_refused_message_comes_again_whole_and_in_the_same_words(connection: Connection) -> None:
    group(connection)
    (batch,) = claim_all(connection)
    refuse(connection, batch)
    (again,) = claim_all(connection, "again", NOON + MINUTE)
    assert (again.leader.id, len(again.notices)) == (batch.leader.id, 3)
    assert again.leader.content == {"text": "of all"}


@pytest.mark.parametrize("gone", [0, 1], ids=["its leader", "another"])
def test_of_a_refused_message_what_is_over_stays_out_and_the_rest_is_put_into_words_anew(
    connection: Connection, gone: int
) -> None:
    group(connection)
    (batch,) = claim_all(connection)
    refuse(connection, batch)
    incident = batch.notices[gone].incident_id
    assert incident is not None
    assert [one.id for one in notices.drop_waiting(connection, incident, "repaired")] == [batch.notices[gone].id]
    (again,) = claim_all(connection, "again", NOON + MINUTE)
    assert [one.id for one in again.notices] == [one.id for one in batch.notices if one.incident_id != incident]
    assert (again.leader.content, again.leader.may_have_arrived) == (None, False)
    assert {one.message_id for one in again.notices} == {again.leader.id}
    assert stands(connection, batch.notices[gone].id) == (DROPPED, "repaired")


@pytest.mark.parametrize("gone", [0, 1], ids=["its leader", "another"])
def test_a_message_that_may_have_arrived_comes_again_as_it_was(connection: Connection, gone: int) -> None:
    group(connection)
    (batch,) = claim_all(connection)
    refuse(connection, batch, doubtful=True)
    notices.drop_waiting(connection, batch.notices[gone].incident_id or "", "repaired")
    (again,) = claim_all(connection, "again", NOON + MINUTE)
    assert {one.id for one in again.notices} == {one.id for one in batch.notices}
    assert (again.leader.id, again.leader.content) == (batch.leader.id, {"text": "of all"})


def test_what_was_in_hand_is_whole_after_a_restart(connection: Connection) -> None:
    group(connection)
    (batch,) = claim_all(connection)
    notices.release_leases(connection)
    (again,) = claim_all(connection, "new process")
    assert {one.id for one in again.notices} == {one.id for one in batch.notices}


def test_one_that_is_kept_back_keeps_back_no_other_of_its_message(connection: Connection) -> None:
    group(connection)
    (batch,) = claim_all(connection)
    refuse(connection, batch)
    storm = begin(connection)
    connection.exec_driver_sql(f"UPDATE incidents SET storm_id = '{storm.id}' WHERE id = '{batch.leader.incident_id}'")
    [held] = notices.hold_storm(connection, Holding("storm", storm.id, "a storm"))
    assert held.id == batch.leader.id
    (again,) = claim_all(connection, "again", NOON + MINUTE)
    assert {one.id for one in again.notices} >= {one.id for one in batch.notices[1:]}


def test_what_waits_of_a_closed_incident_is_withdrawn_but_not_the_good_news(connection: Connection) -> None:
    stored = add_account(connection, "1")
    incident = add_incident(connection, stored).id
    about = {"subject": incident, "incident_id": incident}
    sent = add_notice(connection, stored, **about)
    (taken,) = claim(connection)
    notices.settle(connection, [taken], SENT)
    reminder = add_notice(connection, stored, **about, kind=REMINDER, step=1)
    held = add_notice(connection, stored, **about, target=SLACK, holding=Holding("paused"))
    news = add_notice(connection, stored, **about, kind=RESOLVED)
    event = add_notice(connection, stored, **about, kind=EVENT)
    other = add_notice(connection, stored, "another incident")
    assert {one.id for one in notices.drop_waiting(connection, incident, "repaired")} == {reminder, held}
    assert [stands(connection, one) for one in (reminder, held)] == [(DROPPED, "repaired")] * 2
    assert stands(connection, sent)[0] is SENT
    assert {stands(connection, one)[0] for one in (news, event, other)} == {PENDING}
    assert notices.held(connection) == {}


def test_held_notices_of_an_account_are_let_go_afresh(connection: Connection) -> None:
    """Their time to be tried starts anew: a pause of a week is not a mail server that failed for a week."""
    stored, other = add_account(connection, "1"), add_account(connection, "2")
    held = add_notice(connection, stored, holding=Holding("paused"))
    nobody = add_notice(connection, stored, target=Target(""), holding=Holding("nobody", reason="nobody"))
    elsewhere = add_notice(connection, other, "other", holding=Holding("paused"))
    later = add_notice(connection, stored, "later", due_at=NOON + 9 * DAY, holding=Holding("paused"))
    assert notices.release_held(connection, [stored.id], NOON + DAY) == 2
    released = found(connection, held)
    assert (released.status, released.reason, released.hold) == (PENDING, None, None)
    assert (released.due_at, released.created_at) == (NOON + DAY, NOON + DAY)
    assert found(connection, later).due_at == NOON + 9 * DAY, "its own time has not come"
    assert stands(connection, nobody) == (HELD, "nobody")
    assert stands(connection, elsewhere) == (HELD, "paused")


def begin(connection: Connection, platform: str = "facebook") -> Storm:
    storm = Storm(
        storms.storm_id("acme", platform, NOON), "acme", platform, NOON, NOON, NOON + MINUTE, broken=3, accounts=9
    )
    storms.begin(connection, storm, NOON + DAY)
    return storm


def test_a_storm_holds_its_own_and_lets_go_its_own(connection: Connection) -> None:
    made = group(connection)
    reminder = add_notice(connection, made[0][0], "i1", incident_id="i1", kind=REMINDER, step=1, due_at=NOON + DAY)
    storm, other = begin(connection), begin(connection, "reddit")
    for stored, _ in made[:2]:
        storms.join(connection, [(storm.id, f"i{stored.id}")], NOON)
    held = notices.hold_storm(connection, Holding("storm", storm.id, "a storm"))
    assert {one.id for one in held} == {notice for _, notice in made[:2]}
    assert {one.hold for one in held} == {f"storm:{storm.id}"}
    assert stands(connection, reminder)[0] is PENDING
    assert notices.held(connection) == {"storm": 2}
    assert notices.release(connection, Holding("storm", other.id), NOON) == []
    released = notices.release(connection, Holding("storm", storm.id), NOON + HOUR)
    assert {(one.status, one.due_at) for one in released} == {(PENDING, NOON + HOUR)}
    assert notices.held(connection) == {}


def test_a_storm_that_is_cancelled_withdraws_what_people_have_not_been_told(connection: Connection) -> None:
    made = group(connection)
    escalated = add_notice(
        connection, made[0][0], "i1", incident_id="i1", kind=ESCALATED, target=SLACK, level=1, due_at=NOON + DAY
    )
    storm = begin(connection)
    storms.join(connection, [(storm.id, "i1")], NOON)
    notices.hold_storm(connection, Holding("storm", storm.id, "a storm"))
    cancelled = notices.cancel_storm(connection, storm.id, "cancelled by Olga")
    assert {one.id for one in cancelled} == {made[0][1], escalated}
    assert {(one.status, one.reason, one.hold) for one in cancelled} == {(DROPPED, "cancelled by Olga", None)}
    assert stands(connection, made[1][1])[0] is PENDING


def test_what_was_put_off_is_asked_about_once_more_and_nothing_else(connection: Connection) -> None:
    stored = add_account(connection, "1")
    add_incident(connection, stored)
    about: dict[str, Any] = {"incident_id": "i1"}
    put_off = add_notice(connection, stored, "i1", kind=REMINDER, step=1, **about)
    (taken,) = claim(connection)
    notices.settle(connection, [taken], PENDING, due_at=NOON + DAY, created_at=NOON + DAY, ungroup=True)
    planned = add_notice(connection, stored, "i1", kind=REMINDER, step=2, due_at=NOON + 2 * DAY, **about)
    assert notices.wake(connection, "i1", NOON + HOUR) == 1
    assert found(connection, put_off).due_at == NOON + HOUR
    assert found(connection, planned).due_at == NOON + 2 * DAY


def sent(connection: Connection, **facts: Any) -> StoredNotice:
    """Hands over whatever is due."""
    batches = claim_all(connection)
    (batch,) = batches
    notices.settle(connection, batch.notices, SENT, sent_at=NOON, **facts)
    return batch.leader


def test_those_were_told_to_whom_the_beginning_was_handed_over_or_may_have_been(connection: Connection) -> None:
    stored = add_account(connection, "1")
    about: dict[str, Any] = {"subject": add_incident(connection, stored).id, "incident_id": "i1"}
    add_notice(connection, stored, **about)
    sent(connection)
    add_notice(connection, stored, **about, target=Target("never"), due_at=NOON + DAY)
    add_notice(connection, stored, **about, kind=ESCALATED, target=SLACK, level=1)
    (taken,) = claim(connection)
    notices.settle(connection, [taken], DEAD, doubtful=True)
    assert [one.target for one in notices.told(connection, "i1")] == [ADA, SLACK]
    through = notices.told_through(connection, "i1", ADA.key)
    assert through is not None
    assert through.target == ADA
    assert notices.told_through(connection, "i1", "never") is None


def test_of_one_message_those_count_that_are_broken_still(connection: Connection) -> None:
    group(connection)
    leader = sent(connection)
    assert notices.still_broken(connection, leader.id) == 3
    assert notices.still_broken(connection, leader.id, "i1") == 2
    incidents.resolve(connection, "i1", Resolution.REPAIRED, NOON)
    assert notices.still_broken(connection, leader.id) == 2
    assert {one.id for one in incidents.of_message(connection, leader.id)} == {"i1", "i2", "i3"}


def test_when_a_recipient_last_heard_of_a_login(connection: Connection) -> None:
    assert notices.last_sent(connection, ADA, META, OPENED) is None
    add_notice(connection, add_account(connection, "1"), family=META)
    assert notices.last_sent(connection, ADA, META, OPENED) is None
    sent(connection)
    assert notices.last_sent(connection, ADA, META, OPENED) == NOON
    assert notices.last_sent(connection, SLACK, META, OPENED) is None
    assert notices.last_sent(connection, ADA, META, REMINDER) is None


def chain(connection: Connection) -> list[str]:
    """Ada at once, then two at the next level, then one more."""
    stored = add_account(connection, "1")
    about: dict[str, Any] = {"subject": add_incident(connection, stored).id, "incident_id": "i1"}
    ids = [add_notice(connection, stored, **about)]
    for level, name in ((1, "bob"), (1, "eve"), (2, "olga")):
        due = NOON + level * DAY
        ids.append(
            add_notice(connection, stored, **about, kind=ESCALATED, target=Target(name), level=level, due_at=due)
        )
    return ids


def test_the_next_level_is_brought_forward_as_a_whole_and_no_further(connection: Connection) -> None:
    ids = chain(connection)
    assert notices.anybody_left(connection, "i1", 0)
    (taken,) = claim(connection)
    notices.settle(connection, [taken], DEAD, reason="gone")
    assert not notices.anybody_left(connection, "i1", 0)
    assert notices.bring_forward(connection, "i1", 0, NOON + HOUR) == 2
    due = [found(connection, one).due_at for one in ids]
    assert due == [NOON, NOON + HOUR, NOON + HOUR, NOON + 2 * DAY]
    assert notices.anybody_left(connection, "i1", 1)


def test_what_was_lost_after_all_no_longer_counts_as_told(connection: Connection) -> None:
    chain(connection)
    leader = sent(connection)
    assert [one.id for one in notices.open_to(connection, ADA)] == [leader.id]
    assert notices.wrote_to(connection, ["mail"], "ADA@acme.example") == [ADA]
    assert notices.wrote_to(connection, ["mail"], "eve@acme.example") == []
    notices.lose(connection, leader, "it came back")
    assert notices.open_to(connection, ADA) == []
    assert notices.told(connection, "i1") == []


def test_those_for_nobody_take_turns(connection: Connection) -> None:
    stored = add_account(connection, "1")
    for number in range(3):
        add_notice(connection, stored, str(number), target=Target(""), holding=Holding("nobody"))
    seen: set[str] = set()
    for hour in range(3):
        (notice,) = notices.for_nobody(connection, 1)
        notices.still_for_nobody(connection, notice, NOON + (hour + 1) * HOUR)
        seen.add(notice.id)
    assert len(seen) == 3


def test_whoever_heard_of_a_trouble_is_known_with_their_contact(connection: Connection) -> None:
    stored = add_account(connection, "1")
    add_notice(connection, stored, "trouble:1", contact="olga", kind=NoticeKind.TROUBLE)
    sent(connection)
    add_notice(connection, stored, "trouble:1", target=SLACK, kind=NoticeKind.TROUBLE)
    assert notices.withdraw(connection, "trouble:1", "over") == [Recipient(ADA, "olga")]
    assert claim(connection) == []


UNTOLD: dict[str, tuple[NoticeStatus, str, int]] = {
    "waiting": (PENDING, "", 0),
    "told": (SENT, "", 0),
    "held by a storm": (HELD, "storm", 0),
    "nobody": (HELD, "nobody", 1),
    "dead": (DEAD, "", 1),
    "dropped": (DROPPED, "", 1),
}


@pytest.mark.parametrize(("status", "hold", "count"), UNTOLD.values(), ids=UNTOLD)
def test_broken_accounts_of_which_nobody_could_be_told_are_counted(
    connection: Connection, status: NoticeStatus, hold: str, count: int
) -> None:
    stored = add_account(connection, "1")
    add_notice(connection, stored, add_incident(connection, stored).id, incident_id="i1")
    (taken,) = claim(connection)
    notices.settle(connection, [taken], status, holding=Holding(hold) if hold else None)
    assert sum(number for _, number in notices.unreached(connection)) == count


def test_an_accounts_notices_are_listed_with_the_newest_first(connection: Connection) -> None:
    stored = add_account(connection, "1")
    ids = [add_notice(connection, stored, str(hour), due_at=NOON + hour * HOUR) for hour in range(3)]
    assert [notice.id for notice in notices.of_account(connection, stored.id, 2)] == [ids[2], ids[1]]
