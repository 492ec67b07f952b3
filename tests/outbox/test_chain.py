"""The chain of those responsible: the next is told when the first did nothing, or at once when nothing reaches them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from healthd.bounces import Bounce
from healthd.channels.base import Dead, Notice, Retry
from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact
from healthd.core.model import NoticeKind, NoticeStatus, Severity, Signal, Target
from healthd.core.owners import Owned
from healthd.core.routing import Route, Step
from healthd.store import contacts
from tests.outbox.surroundings import Scripted, Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
ESCALATED = NoticeKind.ESCALATED
PENDING, SENT, DROPPED, DEAD = NoticeStatus.PENDING, NoticeStatus.SENT, NoticeStatus.DROPPED, NoticeStatus.DEAD
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

ADA, BOB, EVE = (Target(name, f"{name}@acme.example") for name in ("ada", "bob", "eve"))
CHAIN = (Route((ADA,), then=(Step((BOB,), 2 * HOUR), Step((EVE,), 6 * HOUR))),)
AT_ONCE = Cadence(remind_after=(DAY,), group_wait=timedelta(0), group_interval=timedelta(0))


def chain(folder: Path, **choices: Any) -> Any:
    """Ada, after two hours Bob, after six Eve, each with a channel of their own."""
    return surroundings(folder, channels=("ada", "bob", "eve"), **{"routes": CHAIN, "cadence": AT_ONCE, **choices})


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    async with chain(tmp_path) as made:
        yield made


def kinds(channel: Scripted) -> list[NoticeKind]:
    return [delivery.kind for delivery in channel.taken]


def heard(scene: Surroundings) -> dict[str, list[NoticeKind]]:
    """What each of them got, of those who got anything."""
    return {name: kinds(channel) for name, channel in scene.channels.items() if channel.taken}


async def bounces(scene: Surroundings, *targets: Target) -> int:
    told = [Bounce(target.address, True, "no such mailbox", None, scene.now()) for target in targets]
    names = tuple(scene.channels)
    return await scene.store.run(scene.outbox.dispatch.bounced, told, names, "dsn", scene.now())


async def test_the_next_is_told_after_its_time_and_not_before(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.send_all(2 * HOUR - MINUTE, 10 * MINUTE)
    assert heard(scene) == {"ada": [OPENED]}
    await scene.send_all(10 * MINUTE, MINUTE)
    assert heard(scene) == {"ada": [OPENED], "bob": [ESCALATED]}
    await scene.send_all(4 * HOUR, 10 * MINUTE)
    assert heard(scene) == {"ada": [OPENED], "bob": [ESCALATED], "eve": [ESCALATED]}


async def test_after_a_repair_nobody_further_hears_of_it(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    await scene.recovers()
    await scene.send_all(8 * HOUR, HOUR)
    assert heard(scene) == {"ada": [OPENED, RESOLVED]}


@pytest.mark.parametrize("failure", [Dead("no such recipient"), Retry("down")], ids=["dead", "given up"])
async def test_when_nothing_reaches_the_first_the_next_is_told_at_once(tmp_path: Path, failure: Exception) -> None:
    cadence = Cadence(remind_after=(), group_wait=timedelta(0), group_interval=timedelta(0), give_up_after=30 * MINUTE)
    async with chain(tmp_path, cadence=cadence) as scene:
        scene.channels["ada"].answers = [failure] * 100
        await scene.breaks()
        await scene.send_all(HOUR, MINUTE)
        assert heard(scene) == {"bob": [ESCALATED]}
        await scene.send_all(4 * HOUR, 10 * MINUTE)
        assert heard(scene) == {"bob": [ESCALATED]}, "and after Bob it is not yet Eve's turn"


async def test_an_address_known_to_be_bad_is_passed_over_at_once(scene: Surroundings) -> None:
    await scene.store.run(contacts.mark_bad, ADA, scene.now(), "no such mailbox", "dsn")
    await scene.breaks()
    await scene.outbox.send_due()
    assert heard(scene) == {"bob": [ESCALATED]}
    assert (await scene.notices())[0].status is DROPPED


async def test_what_comes_back_moves_on_to_the_next_at_once(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    assert await bounces(scene, ADA) == 1
    await scene.outbox.send_due()
    assert heard(scene) == {"ada": [OPENED], "bob": [ESCALATED]}
    assert await scene.store.read(contacts.bad_among, [ADA, BOB]) == {ADA}
    await scene.recovers()
    await scene.outbox.send_due()
    assert heard(scene) == {"ada": [OPENED], "bob": [ESCALATED, RESOLVED]}, "Ada was never told"


async def test_a_bounce_of_what_was_never_sent_is_not_believed(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    assert await bounces(scene, EVE) == 0


async def test_the_reminder_to_a_bad_address_does_not_hurry_the_chain(tmp_path: Path) -> None:
    slow = (Route((ADA,), then=(Step((BOB,), 2 * DAY), Step((EVE,), 9 * DAY))),)
    async with chain(tmp_path, routes=slow) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        await bounces(scene, ADA)
        await scene.send_all(3 * DAY, HOUR)
        assert heard(scene)["ada"] == [OPENED]
        assert "eve" not in heard(scene)


async def test_nobody_is_told_twice_though_they_stand_at_two_levels(tmp_path: Path) -> None:
    twice = (Route((ADA,), then=(Step((ADA, BOB), HOUR), Step((BOB,), 2 * HOUR))),)
    async with chain(tmp_path, routes=twice) as scene:
        await scene.breaks()
        await scene.send_all(5 * HOUR, HOUR)
        assert heard(scene) == {"ada": [OPENED], "bob": [ESCALATED]}


async def test_two_of_one_level_are_both_told_and_one_that_is_reached_is_enough(tmp_path: Path) -> None:
    both = (Route((ADA, BOB), then=(Step((EVE,), 6 * HOUR),)),)
    async with chain(tmp_path, routes=both) as scene:
        scene.channels["ada"].answers = [Dead("no such recipient")]
        await scene.breaks()
        await scene.outbox.send_due()
        assert heard(scene) == {"bob": [OPENED]}


async def test_who_else_was_told_stands_in_the_message_by_name(tmp_path: Path) -> None:
    routes = (Route((Target("@ada"),), then=(Step((BOB,), HOUR), Step((EVE,), 2 * HOUR))),)
    async with chain(tmp_path, routes=routes) as scene:
        await scene.knows(Contact("ada", "Ada Lovelace", (ADA,)))
        await scene.breaks()
        await scene.send_all(3 * HOUR, MINUTE)
        told = [message.also_told for channel in ("ada", "bob", "eve") for message in _first(scene, channel)]
        assert told == [(), ("Ada Lovelace",), ("Ada Lovelace", "bob@acme.example")]


def _first(scene: Surroundings, channel: str) -> list[Notice]:
    return [message for message in scene.channels[channel].told[:1] if isinstance(message, Notice)]


async def test_who_was_told_later_is_reminded_by_their_own_clock_and_hears_the_good_news(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.send_all(DAY + HOUR, 10 * MINUTE)
    assert kinds(scene.channels["ada"]) == [OPENED, REMINDER]
    assert kinds(scene.channels["bob"]) == [ESCALATED], "Bob has had it for less than a day"
    await scene.send_all(2 * HOUR, 10 * MINUTE)
    assert kinds(scene.channels["bob"]) == [ESCALATED, REMINDER]
    await scene.recovers()
    await scene.outbox.send_due()
    assert [kinds(channel)[-1] for channel in scene.channels.values()] == [RESOLVED] * 3
    first, *later = scene.channels["bob"].taken
    assert {one.thread for one in later} == {first.notice_id}


async def test_the_owners_on_record_are_a_chain_of_their_own(tmp_path: Path) -> None:
    async with chain(tmp_path, routes=(), default=()) as scene:
        await scene.knows(Contact("ada", "Ada", (ADA,)), Contact("bob", "Bob", (BOB,)))
        owned = Owned("acme", "workspace", "", (("ada",), ("bob",)))
        await scene.store.run(contacts.assign, [owned], "api", scene.now())
        await scene.breaks()
        await scene.send_all(2 * DAY + HOUR, HOUR)
        assert heard(scene) == {"ada": [OPENED, REMINDER], "bob": [ESCALATED]}


async def test_a_channel_that_wants_only_the_worst_is_spared_the_rest_with_the_reason_on_record(tmp_path: Path) -> None:
    async with chain(tmp_path, severities={"ada": Severity.CRITICAL, "bob": Severity.CRITICAL}) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        opened = (await scene.notices())[0]
        assert (opened.status, opened.reason) == (DROPPED, "its channel takes nothing below critical")
        await scene.send_all(3 * HOUR, HOUR)
        assert heard(scene) == {"bob": [ESCALATED]}, "an escalation is critical"


async def test_a_person_with_several_addresses_is_told_at_each_and_not_named_to_themselves(tmp_path: Path) -> None:
    async with chain(tmp_path, routes=(Route((Target("@ada"),)),)) as scene:
        await scene.knows(Contact("ada", "Ada", (ADA, EVE)))
        await scene.breaks()
        await scene.send_all(MINUTE)
        assert heard(scene) == {"ada": [OPENED], "eve": [OPENED]}
        assert [message.also_told for name in ("ada", "eve") for message in _first(scene, name)] == [(), ()]


async def test_accounts_escalated_together_are_one_message(tmp_path: Path) -> None:
    async with chain(tmp_path, cadence=Cadence(remind_after=())) as scene:
        await scene.break_together("1", "2", "3")
        await scene.send_all(3 * HOUR, MINUTE)
        [delivery] = scene.channels["bob"].taken
        assert await scene.leads_to(delivery) == {"Account 1", "Account 2", "Account 3"}


async def test_while_it_is_paused_nobody_further_hears_of_it(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    await scene.observe("1", Signal.BAD_TOKEN, paused=True)
    await scene.send_all(5 * HOUR, HOUR)
    assert heard(scene) == {"ada": [OPENED]}


async def test_who_heard_late_has_the_same_time_before_the_next_is_told(scene: Surroundings) -> None:
    """Ada's mail is down for three hours; Bob's two hours count from when she heard."""
    scene.channels["ada"].answers = [Retry("down") for _ in range(9)]
    await scene.breaks()
    await scene.send_all(HOUR + 50 * MINUTE, 10 * MINUTE)
    while not scene.channels["ada"].taken:
        await scene.send_all(10 * MINUTE, 10 * MINUTE)
    assert heard(scene).keys() == {"ada"}
    await scene.send_all(HOUR + 30 * MINUTE, 10 * MINUTE)
    assert heard(scene).keys() == {"ada"}, "she has her time still"
    await scene.send_all(HOUR, 10 * MINUTE)
    assert heard(scene).keys() == {"ada", "bob"}


async def test_a_channel_that_wants_less_is_no_reason_to_hurry_the_next(tmp_path: Path) -> None:
    async with chain(tmp_path) as scene:
        scene.outbox.severities = {"ada": Severity.CRITICAL}
        await scene.breaks()
        await scene.send_all(HOUR, 10 * MINUTE)
        assert heard(scene) == {}
        await scene.send_all(HOUR + 10 * MINUTE, 10 * MINUTE)
        assert heard(scene) == {"bob": [ESCALATED]}
