"""One message per person, login family and window: what belongs together arrives together, and only once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.channels.base import Dead, Notice, Retry
from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, NoticeStatus, Signal, Target
from healthd.core.routing import Route
from healthd.core.storm import StormPolicy
from healthd.outbox import LEASE
from healthd.store import notices, profiles
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
PENDING, SENT, HELD, DROPPED = NoticeStatus.PENDING, NoticeStatus.SENT, NoticeStatus.HELD, NoticeStatus.DROPPED
DEAD = NoticeStatus.DEAD
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
PATIENT = Cadence(remind_after=(DAY,))
"""With the waits of a real daemon: ten seconds for others, five minutes between two messages."""
CALM = StormPolicy(least=100_000)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    async with surroundings(tmp_path, channels=("mail", "slack"), cadence=PATIENT, storms=CALM) as made:
        yield made


def names(scene: Surroundings, number: int = -1) -> list[str]:
    """The accounts that a message told of."""
    message = scene.mail.told[number]
    assert isinstance(message, Notice)
    return sorted(account.name.removeprefix("Account ") for account in message.accounts)


async def test_accounts_that_break_together_arrive_as_one_message_whose_link_leads_to_all(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    assert await scene.send_all(MINUTE) == 1
    [delivery] = scene.mail.taken
    assert names(scene) == ["1", "2", "3"]
    assert await scene.leads_to(delivery) == {"Account 1", "Account 2", "Account 3"}
    assert [await scene.fates(ref) for ref in "123"] == [[(OPENED, SENT), (REMINDER, PENDING)]] * 3


async def test_what_breaks_seconds_later_still_comes_with_the_first(scene: Surroundings) -> None:
    await scene.see(Signal.OK, "1", "2")
    for ref in "12":
        await scene.observe(ref, Signal.BAD_TOKEN)
        await scene.observe(ref, Signal.BAD_TOKEN)
        assert await scene.outbox.send_due() == 0
    assert await scene.send_all(MINUTE) == 1
    assert names(scene) == ["1", "2"]


async def test_a_lone_account_is_told_of_at_once(scene: Surroundings) -> None:
    await scene.breaks("1")
    assert await scene.outbox.send_due() == 1


APART = {
    "another login": {"platform": "reddit"},
    "another customer": {"profile": "p"},
}


@pytest.mark.parametrize("facts", APART.values(), ids=APART)
async def test_what_does_not_belong_together_is_another_message(scene: Surroundings, facts: dict[str, str]) -> None:
    await scene.break_together("1", "2")
    await scene.break_together("3", "4", **facts)
    assert await scene.send_all(MINUTE) == 2
    assert sorted([names(scene, 0), names(scene, 1)]) == [["1", "2"], ["3", "4"]]


async def test_platforms_of_one_login_are_one_message(scene: Surroundings) -> None:
    await scene.see(Signal.OK, "1", platform="facebook")
    await scene.see(Signal.OK, "2", platform="instagram")
    await scene.break_together("1")
    await scene.break_together("2", platform="instagram")
    assert await scene.send_all(MINUTE) == 1
    assert names(scene) == ["1", "2"]


async def test_accounts_of_two_workspaces_never_share_a_message(scene: Surroundings) -> None:
    await scene.store.run(profiles.ensure_own, ["other"])
    scene.outbox.providers = {**scene.outbox.providers, "other": scene.outbox.providers["acme"]}
    await scene.break_together("1", "2")
    await scene.break_together("1", "2", workspace="other")
    assert await scene.send_all(MINUTE) == 2


async def test_each_recipient_has_a_message_and_a_link_of_their_own(tmp_path: Path) -> None:
    route = Route((Target("mail", "ada@acme.example"), Target("slack")))
    async with surroundings(tmp_path, channels=("mail", "slack"), routes=(route,), cadence=PATIENT) as scene:
        await scene.break_together("1", "2")
        assert await scene.send_all(MINUTE) == 2
        [mail], [slack] = scene.mail.taken, scene.channels["slack"].taken
        assert mail.link != slack.link
        assert await scene.leads_to(mail) == await scene.leads_to(slack) == {"Account 1", "Account 2"}


async def test_more_logins_than_a_person_wants_to_hear_of_one_by_one_make_one_message(scene: Surroundings) -> None:
    logins = ("reddit", "youtube", "tiktok", "linkedin")
    for number, platform in enumerate(logins):
        await scene.see(Signal.OK, f"{number}a", f"{number}b", platform=platform)
    for _ in range(2):
        for number, platform in enumerate(logins):
            await scene.see(Signal.BAD_TOKEN, f"{number}a", platform=platform)
            scene.travel(-SECOND)
    assert len(logins) > PATIENT.digest_above
    assert await scene.send_all(MINUTE) == 1
    assert names(scene) == ["0a", "1a", "2a", "3a"]


async def test_the_next_message_about_the_same_login_waits_its_interval(scene: Surroundings) -> None:
    await scene.break_together("1", "2")
    await scene.send_all(MINUTE)
    await scene.break_together("3")
    await scene.break_together("4")
    assert await scene.send_all(3 * MINUTE) == 0
    assert await scene.send_all(3 * MINUTE) == 1
    assert names(scene) == ["3", "4"]


async def test_reminders_of_one_message_come_as_one(scene: Surroundings) -> None:
    await scene.break_together("1", "2")
    await scene.break_together("3")
    await scene.send_all(MINUTE)
    assert await scene.send_all(DAY, HOUR) == 1
    assert names(scene) == ["1", "2", "3"]
    assert scene.mail.taken[-1].kind is REMINDER
    assert await scene.leads_to(scene.mail.taken[-1]) == {"Account 1", "Account 2", "Account 3"}


async def test_what_recovers_before_the_message_goes_out_is_not_in_it(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    await scene.recovers("2")
    assert await scene.send_all(MINUTE) == 1
    assert names(scene) == ["1", "3"]
    assert await scene.leads_to(scene.mail.taken[0]) == {"Account 1", "Account 3"}
    assert await scene.fates("2") == [(OPENED, DROPPED)]


@pytest.mark.parametrize("gone", ["1", "2", "3"], ids=["the first", "the second", "the last"])
async def test_what_recovers_between_the_claim_and_the_look_leaves_a_whole_message(
    scene: Surroundings, gone: str
) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    [batch] = await scene.claimed("mine")
    await scene.recovers(gone)
    scene.mail.answers = [Retry("busy")]
    await scene.outbox._one(batch)
    assert await scene.send_all(MINUTE) == 1
    left = sorted({"1", "2", "3"} - {gone})
    assert names(scene) == left
    [told] = {(await scene.notices(ref))[0].message_id for ref in left}
    assert told == scene.mail.taken[-1].notice_id
    assert [(await scene.fates(ref))[0] for ref in left] == [(OPENED, SENT)] * 2


async def test_without_the_one_that_led_it_the_message_has_an_identity_that_its_answers_refer_to(
    scene: Surroundings,
) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    [batch] = await scene.claimed("mine")
    [gone] = [ref for ref in "123" if (await scene.notices(ref))[0].id == batch.leader.id]
    await scene.recovers(gone)
    await scene.outbox._one(batch)
    left = sorted({"1", "2", "3"} - {gone})
    for ref in left:
        await scene.recovers(ref)
    await scene.send_all(10 * MINUTE)
    bad, good = scene.mail.taken
    assert (good.kind, good.thread, good.first) == (RESOLVED, bad.notice_id, {"number": "1"})
    for ref in left:
        assert (await scene.notices(ref))[0].message_id == bad.notice_id


async def test_who_may_have_been_told_by_the_last_attempt_is_told_of_the_repair(tmp_path: Path) -> None:
    cadence = Cadence(group_wait=timedelta(0), group_interval=timedelta(0), give_up_after=timedelta(0))
    async with surroundings(tmp_path, cadence=cadence) as scene:
        scene.mail.answers = [Retry("the answer was lost", unknown=True)]
        await scene.breaks()
        await scene.outbox.send_due()
        assert await scene.fates() == [(OPENED, DEAD)]
        await scene.recovers()
        await scene.outbox.send_due()
        assert [delivery.kind for delivery in scene.mail.taken] == [RESOLVED]


@pytest.mark.parametrize("gone", ["1", "2", "3"], ids=["the first", "the second", "the last"])
async def test_of_a_message_that_was_refused_the_recovered_drop_out_and_the_others_are_told(
    scene: Surroundings, gone: str
) -> None:
    scene.mail.answers = [Retry("greylisted")]
    await scene.break_together("1", "2", "3")
    await scene.send_all(10 * SECOND)
    assert len(scene.mail.got) == 1
    await scene.recovers(gone)
    assert await scene.send_all(MINUTE) == 1
    left = sorted({"1", "2", "3"} - {gone})
    assert names(scene) == left
    assert await scene.leads_to(scene.mail.taken[0]) >= {f"Account {ref}" for ref in left}
    assert await scene.fates(gone) == [(OPENED, DROPPED)], "and who was not told hears of no repair"


@pytest.mark.parametrize("gone", ["1", "2", "3"], ids=["the first", "the second", "the last"])
async def test_of_a_message_that_may_have_arrived_the_very_same_is_repeated_and_its_repair_is_told(
    scene: Surroundings, gone: str
) -> None:
    scene.mail.answers = [Retry("the answer was lost", unknown=True)]
    await scene.break_together("1", "2", "3")
    await scene.send_all(10 * SECOND)
    await scene.recovers(gone)
    await scene.send_all(10 * MINUTE)
    first, again, *news = scene.mail.got
    assert first == again
    assert [one.kind for one in news] == [RESOLVED]
    assert (await scene.fates(gone))[0][0] is OPENED
    assert RESOLVED in [kind for kind, _ in await scene.fates(gone)]
    for ref in {"1", "2", "3"} - {gone}:
        assert (await scene.fates(ref))[0] == (OPENED, SENT)


async def test_a_message_that_may_have_arrived_is_not_repeated_when_all_of_it_is_over(scene: Surroundings) -> None:
    scene.mail.answers = [Retry("the answer was lost", unknown=True)]
    await scene.break_together("1", "2")
    await scene.send_all(10 * SECOND)
    for ref in "12":
        await scene.recovers(ref)
    await scene.send_all(10 * MINUTE)
    assert [delivery.kind for delivery in scene.mail.got] == [OPENED, RESOLVED]


@pytest.mark.parametrize("failure", [OSError("a bug"), TimeoutError()], ids=["an error of our own", "out of time"])
async def test_what_breaks_in_the_hand_over_may_have_arrived(scene: Surroundings, failure: Exception) -> None:
    scene.mail.answers = [failure]
    await scene.break_together("1", "2")
    await scene.send_all(10 * SECOND)
    assert all([(await scene.notices(ref))[0].may_have_arrived for ref in "12"])


async def test_a_lost_sender_whose_message_was_put_into_words_repeats_it_whole(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    [batch] = await scene.claimed("killed")
    await scene.store.run(notices.keep_content, batch.notices, {"text": "on its way"}, scene.now())
    await scene.recovers("1")
    scene.travel(LEASE + SECOND)
    await scene.outbox.send_due()
    [repeat] = [one for one in scene.mail.taken if one.kind is OPENED]
    assert (repeat.notice_id, repeat.content) == (batch.leader.id, {"text": "on its way"})


@pytest.mark.parametrize("gone", ["", "1", "2"], ids=["none", "the first", "another"])
async def test_a_sender_lost_before_the_words_leaves_the_group_whole(scene: Surroundings, gone: str) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    await scene.claimed("killed")
    if gone:
        await scene.recovers(gone)
    scene.travel(LEASE + SECOND)
    assert await scene.outbox.send_due() == 1
    assert names(scene) == sorted({"1", "2", "3"} - {gone})


async def test_a_sender_lost_between_leaving_one_out_and_the_words_loses_nobody(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    [batch] = await scene.claimed("killed")
    leader = batch.leader
    assert await scene.store.run(notices.settle, [leader], HELD, holding=notices.Holding("paused"), ungroup=True)
    scene.travel(LEASE + SECOND)
    assert await scene.outbox.send_due() == 1
    [delivery] = scene.mail.taken
    assert len(names(scene)) == 2
    others = [one for ref in "123" for one in await scene.notices(ref) if one.kind is OPENED and one.id != leader.id]
    assert {one.message_id for one in others} == {delivery.notice_id}


@pytest.mark.parametrize("last", [Dead("no such address"), Retry("never mind")], ids=["dead", "given up"])
async def test_a_message_that_never_arrives_ends_for_all_of_its_accounts(scene: Surroundings, last: Exception) -> None:
    scene.mail.answers = [last] * 100
    await scene.break_together("1", "2")
    await scene.send_all(27 * HOUR, HOUR)
    assert [await scene.fates(ref) for ref in "12"] == [[(OPENED, DEAD)]] * 2


async def test_a_paused_account_does_not_hold_up_the_others_of_its_message(scene: Surroundings) -> None:
    scene.mail.answers = [Retry("busy")]
    await scene.break_together("1", "2", "3")
    await scene.see(Signal.BAD_TOKEN, "1", paused=True)
    await scene.send_all(2 * MINUTE)
    assert names(scene) == ["2", "3"]
    assert (await scene.fates("1"))[0] == (OPENED, HELD)
    await scene.see(Signal.BAD_TOKEN, "1", paused=False)
    await scene.send_all(MINUTE)
    assert names(scene) == ["1"]


async def test_accounts_of_one_message_repaired_one_after_the_other_make_one_good_news(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    await scene.send_all(MINUTE)
    for ref in "123":
        await scene.recovers(ref)
        await scene.send_all(MINUTE)
    await scene.send_all(10 * MINUTE)
    assert [delivery.kind for delivery in scene.mail.taken] == [OPENED, RESOLVED]
    assert names(scene) == ["1", "2", "3"]
    [bad, good] = scene.mail.taken
    assert (good.thread, good.first, good.all_over) == (bad.notice_id, {"number": "1"}, True)


@pytest.mark.parametrize("repaired_first", ["1", "2"])
async def test_good_news_of_several_messages_answer_the_one_that_came_first(
    scene: Surroundings, repaired_first: str
) -> None:
    for ref in "12":
        await scene.break_together(ref)
        await scene.send_all(10 * MINUTE)
    for ref in (repaired_first, "2" if repaired_first == "1" else "1"):
        await scene.recovers(ref)
        scene.ahead += SECOND
    await scene.send_all(10 * MINUTE)
    [one, two, good] = scene.mail.taken
    assert names(scene) == ["1", "2"]
    assert (good.thread, good.first, good.also_over) == (one.notice_id, {"number": "1"}, ({"number": "2"},))
    assert two.notice_id != good.thread


async def test_good_news_of_some_says_how_many_of_the_message_are_left(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    await scene.send_all(MINUTE)
    await scene.recovers("3")
    await scene.send_all(10 * MINUTE)
    message = scene.mail.told[-1]
    assert isinstance(message, Notice)
    assert (message.kind, message.left, scene.mail.taken[-1].all_over) == (RESOLVED, 2, False)
    await scene.recovers("1")
    await scene.recovers("2")
    await scene.send_all(MINUTE)
    message = scene.mail.told[-1]
    assert isinstance(message, Notice)
    assert (message.left, scene.mail.taken[-1].all_over, len(message.accounts)) == (0, True, 2)


async def test_nobody_who_was_not_told_hears_of_a_repair(scene: Surroundings) -> None:
    scene.mail.answers = [Dead("no such address")]
    await scene.break_together("1", "2")
    await scene.send_all(MINUTE)
    await scene.recovers("1")
    assert await scene.send_all(10 * MINUTE) == 0


async def test_a_link_of_the_providers_own_repairs_one_account_so_each_has_a_message(tmp_path: Path) -> None:
    async with surroundings(tmp_path, cadence=PATIENT, direct=True) as scene:
        await scene.break_together("1", "2")
        scene.travel(20 * SECOND)
        await scene.outbox.send_due()
        assert len(scene.mail.told) == 2
        assert sorted(names(scene, 0) + names(scene, 1)) == ["1", "2"]


async def test_a_process_that_dies_at_the_hand_over_repeats_the_message_as_it_was(scene: Surroundings) -> None:
    scene.mail.answers = [asyncio.Event()]
    await scene.break_together("1", "2")
    scene.travel(20 * SECOND)
    process = asyncio.create_task(scene.outbox.run())
    await scene.until(lambda: len(scene.mail.got) == 1, "the hand-over")
    process.cancel()
    with suppress(asyncio.CancelledError):
        await process
    await scene.recovers("2")
    after = asyncio.create_task(scene.reborn().run())
    await scene.until(lambda: len(scene.mail.taken) >= 1, "the repeat")
    scene.outbox.stop()
    await after
    assert scene.mail.got[0] == scene.mail.got[1]
    assert RESOLVED in [kind for kind, _ in await scene.fates("2")]


async def test_a_group_is_on_record_with_its_reason(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    await scene.send_all(MINUTE)
    said = [one.reason for one in await scene.decisions("2") if one.what == "opened sent"]
    assert said == ["mail:ada@acme.example: the default recipients, with 2 other(s) in one message"]


def test_the_waits_that_these_tests_rely_on() -> None:
    assert (PATIENT.group_wait, PATIENT.group_interval) == (10 * SECOND, 5 * MINUTE)
    assert replace(PATIENT, digest_above=3) == PATIENT
