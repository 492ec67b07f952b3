"""From a notice that is due to a message that somebody has, or to a reason on record why not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.channels.base import LINK, Dead, Retry
from healthd.core.model import NoticeKind, NoticeStatus, Signal, Target
from healthd.core.routing import Route
from healthd.core.storm import StormPolicy
from healthd.outbox import AT_ONCE, LEASE
from healthd.sandbox.app import Sandbox, SandboxOptions, server_for
from healthd.store import notices, profiles
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
PENDING, SENDING, SENT = NoticeStatus.PENDING, NoticeStatus.SENDING, NoticeStatus.SENT
HELD, DROPPED, DEAD = NoticeStatus.HELD, NoticeStatus.DROPPED, NoticeStatus.DEAD
DAY = timedelta(days=1)


async def test_a_notice_is_sent_once_and_recorded(scene: Surroundings) -> None:
    await scene.breaks()
    assert await scene.outbox.send_due() == 1
    assert await scene.outbox.send_due() == 0
    [delivery] = scene.mail.taken
    assert delivery.link is not None
    assert delivery.link.startswith("https://healthd.example.com/r/")
    assert delivery.link not in str((await scene.notices())[0].content), "what is stored opens nothing"
    assert LINK in delivery.content["text"]
    assert (await scene.fates())[0] == (OPENED, SENT)


async def test_good_news_goes_into_the_thread_of_the_bad(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    await scene.recovers()
    await scene.outbox.send_due()
    bad, good = scene.mail.taken
    assert (good.thread, good.first, good.link) == (bad.notice_id, {"number": "1"}, None)


FAILURES = {
    "refused for now": Retry("greylisted"),
    "an error of our own": RuntimeError("a bug"),
    "a wrong type": TypeError("a bug"),
    "an operating system error": OSError("a bug"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_what_fails_is_tried_again_as_the_same_message(scene: Surroundings, name: str) -> None:
    scene.mail.answers = [FAILURES[name]]
    await scene.breaks()
    await scene.outbox.send_due()
    [opened] = await scene.notices()
    assert (opened.status, opened.attempts) == (PENDING, 1)
    assert opened.due_at - scene.now() <= timedelta(seconds=10)
    scene.travel(timedelta(seconds=10))
    await scene.outbox.send_due()
    first, second = scene.mail.got
    assert first == second
    assert (await scene.fates())[0] == (OPENED, SENT)


async def test_the_other_sides_own_delay_is_respected(scene: Surroundings) -> None:
    scene.mail.answers = [Retry("too many", after=1800)]
    await scene.breaks()
    await scene.outbox.send_due()
    scene.travel(timedelta(minutes=29))
    assert await scene.outbox.send_due() == 0
    scene.travel(timedelta(minutes=2))
    assert await scene.outbox.send_due() == 1


async def test_never_means_never_and_the_reason_is_kept(scene: Surroundings) -> None:
    scene.mail.answers = [Dead("no such recipient")]
    await scene.breaks()
    await scene.outbox.send_due()
    [opened] = await scene.notices()
    assert (opened.status, opened.reason) == (DEAD, "no such recipient")
    scene.travel(DAY)
    assert await scene.outbox.send_due() == 0


async def test_after_a_day_of_trying_it_is_given_up_visibly(scene: Surroundings) -> None:
    scene.mail.answers = [Retry("the server is down") for _ in range(200)]
    await scene.breaks()
    attempts = 0
    for _ in range(25):
        attempts += await scene.outbox.send_due()
        scene.travel(timedelta(hours=1))
    [opened] = await scene.notices()
    assert opened.status is DEAD
    assert opened.reason == "given up: the server is down"
    assert 20 <= attempts <= 25
    assert scene.outbox.metrics.notices.labels("mail", OPENED, DEAD)._value.get() == 1


async def test_a_recovery_before_sending_leaves_nothing_to_send(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.recovers()
    assert await scene.outbox.send_due() == 0
    assert await scene.fates() == [(OPENED, DROPPED)]


async def test_a_recovery_after_the_claim_is_noticed_before_sending(scene: Surroundings) -> None:
    await scene.breaks()
    [claimed] = await scene.claimed("mine")
    await scene.recovers()
    await scene.outbox._one(claimed)
    assert scene.mail.got == []
    assert await scene.fates() == [(OPENED, DROPPED)]


async def test_a_recovery_while_the_message_is_on_its_way_is_told_as_well(scene: Surroundings) -> None:
    on_its_way = asyncio.Event()
    scene.mail.answers = [on_its_way]
    await scene.breaks()
    sending = asyncio.create_task(scene.outbox.send_due())
    await scene.until(lambda: len(scene.mail.got) == 1, "the hand-over")
    await scene.recovers()
    on_its_way.set()
    await sending
    assert await scene.fates() == [(OPENED, SENT), (RESOLVED, SENT)]


async def test_after_a_crash_in_the_hand_over_the_same_message_is_repeated(scene: Surroundings) -> None:
    scene.mail.answers = [asyncio.Event()]
    await scene.breaks()
    process = asyncio.create_task(scene.outbox.run())
    await scene.until(lambda: len(scene.mail.got) == 1, "the hand-over")
    process.cancel()
    with suppress(asyncio.CancelledError):
        await process
    assert (await scene.fates())[0] == (OPENED, SENDING)

    assert await scene.reborn().send_due() == 0, "the lease of a sender that may still be alive is respected"
    after = asyncio.create_task(scene.outbox.run())
    await scene.until(lambda: len(scene.mail.taken) == 1, "the repeat, at once: the other process is known to be gone")
    scene.outbox.stop()
    await after
    first, second = scene.mail.got
    assert first == second


async def test_a_lease_that_ended_lets_another_sender_go_on(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.claimed("lost")
    scene.travel(LEASE - timedelta(seconds=10))
    assert await scene.outbox.send_due() == 0
    scene.travel(timedelta(seconds=11))
    assert await scene.outbox.send_due() == 1


async def test_a_sender_that_lost_its_lease_has_no_say_any_more(scene: Surroundings) -> None:
    await scene.breaks()
    [stale] = await scene.claimed("slow")
    on_its_way = asyncio.Event()
    scene.mail.answers = [on_its_way]
    slow = asyncio.create_task(scene.outbox._safely(stale))
    await scene.until(lambda: len(scene.mail.got) == 1, "the hand-over")
    scene.travel(LEASE + timedelta(seconds=1))
    await scene.outbox.send_due()
    [sent] = [one for one in await scene.notices() if one.kind is OPENED]
    assert (sent.status, sent.receipt) == (SENT, {"number": "1"})
    on_its_way.set()
    await slow
    assert [one for one in await scene.notices() if one.kind is OPENED] == [sent]


async def test_a_sender_that_stood_still_hands_nothing_over(scene: Surroundings) -> None:
    """Its process slept, and would send at a time when another one may have taken the message over."""
    await scene.breaks()
    [stale] = await scene.claimed("asleep")
    scene.travel(LEASE - timedelta(seconds=1))
    await scene.outbox._safely(stale)
    assert scene.mail.got == []
    scene.travel(LEASE)
    assert await scene.outbox.send_due() == 1
    assert (await scene.fates())[0] == (OPENED, SENT)


async def test_who_may_have_got_the_bad_news_before_a_crash_gets_the_good_news(scene: Surroundings) -> None:
    await scene.breaks()
    [claimed] = await scene.claimed("killed")
    await scene.store.run(notices.keep_content, claimed.notices, {"text": "on its way"}, scene.now())
    await scene.recovers()
    assert RESOLVED not in [kind for kind, _ in await scene.fates()]
    scene.travel(LEASE + timedelta(seconds=1))
    await scene.outbox.send_due()
    assert await scene.fates() == [(OPENED, DROPPED), (RESOLVED, SENT)]


async def test_a_paused_account_is_nobodys_trouble_until_it_is_resumed(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.observe("1", Signal.BAD_TOKEN, paused=True)
    assert await scene.outbox.send_due() == 1
    assert await scene.fates() == [(OPENED, HELD)]
    scene.travel(2 * DAY)
    assert await scene.outbox.send_due() == 0
    await scene.observe("1", Signal.BAD_TOKEN, paused=False)
    await scene.outbox.send_due()
    assert (await scene.fates())[0] == (OPENED, SENT)


async def test_the_accounts_of_a_paused_profile_count_as_paused(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.store.run(profiles.set_active, "acme", "", active=False)
    await scene.outbox.send_due()
    [opened] = await scene.notices()
    assert (opened.status, opened.reason) == (HELD, "account is paused")


async def test_reminders_come_at_their_times_and_then_no_more(scene: Surroundings) -> None:
    await scene.breaks()
    sent_on: list[int] = []
    for day in range(30):
        if await scene.outbox.send_due():
            sent_on.append(day)
        scene.travel(DAY)
    assert sent_on == [0, 1, 3, 7]
    assert [notice.step for notice in await scene.notices()] == [0, 1, 2, 3]


async def test_what_was_sent_late_is_not_followed_by_a_reminder_at_once(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.observe("1", Signal.BAD_TOKEN, paused=True)
    await scene.outbox.send_due()
    scene.travel(2 * DAY)
    await scene.observe("1", Signal.BAD_TOKEN, paused=False)
    assert await scene.outbox.send_due() == 1
    scene.travel(timedelta(hours=12))
    assert await scene.outbox.send_due() == 0
    scene.travel(DAY)
    assert await scene.outbox.send_due() == 1
    assert [delivery.kind for delivery in scene.mail.taken] == [OPENED, REMINDER]


async def test_without_reminders_there_are_none(tmp_path: Path) -> None:
    async with surroundings(tmp_path, remind_after=()) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        scene.travel(30 * DAY)
        assert await scene.outbox.send_due() == 0


@pytest.mark.parametrize("gone", ["channel", "workspace"])
async def test_what_is_no_longer_configured_is_on_record_and_tried_no_more(scene: Surroundings, gone: str) -> None:
    await scene.breaks()
    outbox = scene.reborn()
    outbox.channels = {} if gone == "channel" else outbox.channels
    outbox.providers = {} if gone == "workspace" else outbox.providers
    await outbox.send_due()
    [opened] = await scene.notices()
    assert (opened.status, opened.reason) == (DEAD, f"its {gone} is no longer configured")


async def test_a_channel_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    numbers = [str(number) for number in range(AT_ONCE * 3)]
    routes = [
        Route((Target("mail", f"owner{number}@acme.example"),), account=frozenset({number})) for number in numbers
    ]
    to_slack = Route((Target("slack"),), account=frozenset({"900"}))
    calm = StormPolicy(least=1000)
    async with surroundings(tmp_path, channels=("mail", "slack"), routes=(to_slack, *routes), storms=calm) as scene:
        scene.mail.silent = asyncio.Event()
        for number in numbers:
            await scene.breaks(number)
        await scene.breaks("900")
        running = asyncio.create_task(scene.outbox.run())
        await scene.until(lambda: len(scene.channels["slack"].taken) == 1, "the other channel's message")
        await scene.until(lambda: len(scene.mail.got) >= AT_ONCE, "as many as may go at once")
        assert len(scene.mail.got) == AT_ONCE, "no more at once than that"
        scene.mail.silent.set()
        await scene.until(lambda: len(scene.mail.taken) == 3 * AT_ONCE, "all of it, in its turn")
        assert len({delivery.notice_id for delivery in scene.mail.got}) == len(scene.mail.got)
        scene.outbox.stop()
        await running


async def test_nothing_but_a_stop_ends_the_sender(scene: Surroundings) -> None:
    running = asyncio.create_task(scene.outbox.run())
    whole, scene.outbox.channels = scene.outbox.channels, None  # type: ignore[assignment]
    await scene.breaks()
    scene.outbox.wake()
    counter = scene.outbox.metrics.jobs_failed.labels("outbox")._value
    await scene.until(lambda: counter.get() > 0, "a failure of its own")
    assert not running.done()
    scene.outbox.channels = whole
    scene.outbox.wake()
    await scene.until(lambda: len(scene.mail.taken) == 1, "the message after all")
    scene.outbox.stop()
    await running


async def test_a_stop_lets_the_message_that_is_on_its_way_arrive(scene: Surroundings) -> None:
    on_its_way = asyncio.Event()
    scene.mail.answers = [on_its_way]
    await scene.breaks()
    running = asyncio.create_task(scene.outbox.run())
    await scene.until(lambda: len(scene.mail.got) == 1, "the hand-over")
    scene.outbox.stop()
    await scene.breaks("2")
    on_its_way.set()
    await running
    assert (await scene.fates())[0] == (OPENED, SENT)
    assert await scene.fates("2") == [(OPENED, PENDING)], "nothing new is begun"


async def test_in_direct_mode_the_link_is_minted_as_the_message_goes_out(tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxOptions(port=0, workspaces=("acme",), accounts=1, rate_limit=10_000))
    server = server_for(sandbox)
    serving = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), 10)
    try:
        url = f"http://127.0.0.1:{server.port}/v1"
        async with surroundings(tmp_path, provider_url=url, direct=True) as scene:
            scene.mail.answers = [Retry("greylisted")]
            await scene.breaks("1001")
            assert sandbox.world.links == {}
            await scene.outbox.send_due()
            scene.travel(timedelta(minutes=20))
            await scene.outbox.send_due()
            first, second = scene.mail.got
            assert first.link != second.link, "each attempt carries a link that has its fifteen minutes before it"
            assert len(sandbox.world.links) == 2
            assert "for 15 minutes" in second.content["text"]
            sandbox.faults.add(kind="status", status=503, path="reconnect-url")
            await scene.breaks("1002")
            await scene.outbox.send_due()
            [waiting] = await scene.notices("1002")
            assert (waiting.status, waiting.reason) == (PENDING, "no link to be had: unavailable")
    finally:
        await sandbox.sender.close()
        server.should_exit = True
        await serving
