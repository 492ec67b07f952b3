"""A platform breaks: one word to the operator, people's notices are held, and every hold ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from healthd.channels.base import Notice, Retry, StormNotice
from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact
from healthd.core.model import Lane, NoticeKind, NoticeStatus, Signal, Target
from healthd.core.routing import Route, Step
from healthd.core.storm import StormPolicy
from healthd.dispatch import Hook
from healthd.store import incidents, notices, profiles, storms
from healthd.store.storms import Storm
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
STORM, STORM_OVER = NoticeKind.STORM, NoticeKind.STORM_OVER
PENDING, SENT, HELD, DROPPED = NoticeStatus.PENDING, NoticeStatus.SENT, NoticeStatus.HELD, NoticeStatus.DROPPED
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

POLICY = StormPolicy(least=3, share=0.1)
FOUR = ("1", "2", "3", "4")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """More than three accounts within ten minutes are a storm, of which Olga the operator hears."""
    choices: dict[str, Any] = {
        "storms": POLICY,
        "operators": (Target("@olga"),),
        "cadence": Cadence(remind_after=(DAY,)),
    }
    async with surroundings(tmp_path, channels=("mail", "ops"), **choices) as made:
        await made.knows(Contact("olga", "Olga", (Target("ops"),), language="de"))
        yield made


async def judge(scene: Surroundings) -> list[str]:
    """Why storms ended, where they are looked at now."""
    ended = await scene.store.run(scene.outbox.dispatch.judge_storms, scene.now())
    return [why for _, why in ended]


async def passes(scene: Surroundings, span: timedelta, step: timedelta = MINUTE) -> list[str]:
    """Time passes as it does in a daemon: storms are judged, and what is due is sent."""
    ended, end = await judge(scene), scene.now() + span
    while scene.now() < end:
        await scene.outbox.send_due()
        scene.travel(step)
        ended += await judge(scene)
    await scene.outbox.send_due()
    return ended


async def current(scene: Surroundings, platform: str = "facebook") -> Storm:
    found = await scene.store.read(storms.current, "acme", platform)
    assert found is not None
    return found


async def ends(scene: Surroundings, *, cancel: bool = False) -> int:
    """The operator decides."""
    dispatch, lasting = scene.outbox.dispatch, await current(scene)
    return await scene.store.run(
        lambda connection: dispatch.end_storm(connection, lasting, "by hand", scene.now(), "Olga", cancel=cancel)
    )


def to_people(scene: Surroundings) -> list[NoticeKind]:
    return [delivery.kind for delivery in scene.mail.taken]


def to_operator(scene: Surroundings) -> list[NoticeKind]:
    return [delivery.kind for delivery in scene.channels["ops"].taken]


def told_of(scene: Surroundings) -> list[str]:
    """The accounts of all messages to people."""
    return sorted(
        account.ref for message in scene.mail.told if isinstance(message, Notice) for account in message.accounts
    )


async def test_the_operator_gets_one_notice_and_people_none(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 10 * MINUTE)
    await scene.break_together("5", "6")
    await passes(scene, 10 * MINUTE)
    assert (to_people(scene), to_operator(scene)) == ([], [STORM])
    [message] = scene.channels["ops"].told
    assert isinstance(message, StormNotice)
    assert (message.broken, message.platform, message.reader.name) == (4, "facebook", "Olga")


async def test_as_many_as_the_limit_are_no_storm(scene: Surroundings) -> None:
    await scene.break_together(*FOUR[:3])
    await scene.send_all(MINUTE)
    assert (to_people(scene), to_operator(scene)) == ([OPENED], [])


async def test_a_share_of_many_accounts_is_no_storm(scene: Surroundings) -> None:
    await scene.see(Signal.OK, *[str(number) for number in range(100)])
    await scene.break_together(*FOUR)
    await scene.send_all(MINUTE)
    assert to_operator(scene) == []


async def test_slowly_one_after_the_other_is_no_storm(scene: Surroundings) -> None:
    for ref in FOUR:
        await scene.breaks(ref)
        await scene.send_all(11 * MINUTE, MINUTE)
    assert to_operator(scene) == []
    assert told_of(scene) == sorted(FOUR)


async def test_what_waited_already_is_held_too_and_each_account_says_why(scene: Surroundings) -> None:
    for ref in FOUR:
        await scene.see(Signal.OK, ref)
    for ref in FOUR:
        await scene.see(Signal.BAD_TOKEN, ref)
        await scene.see(Signal.BAD_TOKEN, ref)
    await scene.outbox.send_due()
    for ref in FOUR:
        [opened] = await scene.notices(ref)
        assert (opened.status, opened.reason) == (HELD, "many accounts of the platform broke at once")
        assert any(one.what.endswith("held") for one in await scene.decisions(ref))
    assert await scene.store.read(notices.held) == {"storm": 4}


async def test_another_platform_and_another_workspace_go_on_as_ever(scene: Surroundings) -> None:
    await scene.store.run(profiles.ensure_own, ["other"])
    scene.outbox.providers = {**scene.outbox.providers, "other": scene.outbox.providers["acme"]}
    await scene.break_together(*FOUR)
    await scene.breaks("9", platform="reddit")
    await scene.break_together("1", workspace="other")
    await scene.send_all(MINUTE)
    assert to_people(scene) == [OPENED, OPENED]
    assert to_operator(scene) == [STORM]


async def test_its_accounts_are_asked_about_again(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    scene.travel(POLICY.calm / 5 + SECOND)
    assert await judge(scene) == []
    for ref in FOUR:
        stored = await scene.account(ref)
        assert stored.probe_lane is Lane.CONFIRM
        assert stored.probe_at is not None
        assert stored.probe_at <= scene.now()


async def test_when_all_recover_by_themselves_people_never_hear_of_it(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 5 * MINUTE)
    await scene.see(Signal.OK, *FOUR)
    assert await passes(scene, 10 * MINUTE) == ["every account recovered by itself"]
    assert (to_people(scene), to_operator(scene)) == ([], [STORM, STORM_OVER])
    assert scene.channels["ops"].told[-1].reader.name == "Olga"
    over, storm = scene.channels["ops"].taken[1], scene.channels["ops"].taken[0]
    assert over.thread == storm.notice_id


async def test_when_few_are_left_they_are_told_together(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 5 * MINUTE)
    await scene.see(Signal.OK, "1", "2")
    assert await passes(scene, 30 * MINUTE) == ["it abated: few are still broken"]
    assert to_people(scene) == [OPENED]
    assert told_of(scene) == ["3", "4"]


async def test_what_lasts_is_told_when_its_time_is_up(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    assert await passes(scene, 59 * MINUTE) == []
    assert to_people(scene) == []
    assert await passes(scene, 5 * MINUTE) == ["it lasts: what is still broken needs its people"]
    assert to_people(scene) == [OPENED]
    assert told_of(scene) == sorted(FOUR)
    assert await scene.store.read(notices.held) == {}


async def test_what_breaks_while_it_lasts_joins(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 20 * MINUTE)
    await scene.breaks("5")
    await passes(scene, 10 * MINUTE)
    assert to_people(scene) == []
    assert (await current(scene)).broken == 5
    await ends(scene)
    await scene.send_all(MINUTE)
    assert told_of(scene) == [*FOUR, "5"]
    assert to_people(scene) == [OPENED]


async def test_released_by_the_operator_what_is_still_true_goes_out_at_once(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 2 * MINUTE)
    await scene.recovers("2")
    await ends(scene)
    await scene.send_all(MINUTE)
    assert told_of(scene) == ["1", "3", "4"]
    said = [(one.what, one.who) for one in await scene.decisions("1") if one.who]
    assert said == [("opened released", "Olga")]


async def test_after_a_release_the_next_account_is_told_of_like_any_other(scene: Surroundings) -> None:
    """The decision holds: what made this storm makes no other."""
    await scene.break_together(*FOUR)
    await ends(scene)
    await scene.send_all(MINUTE)
    await scene.breaks("5")
    await scene.send_all(6 * MINUTE)
    assert to_operator(scene).count(STORM) <= 1
    assert told_of(scene) == [*FOUR, "5"]


async def test_cancelled_by_the_operator_nobody_hears_of_it(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 2 * MINUTE)
    assert await ends(scene, cancel=True) >= 4
    await passes(scene, 3 * DAY, HOUR)
    assert (to_people(scene), to_operator(scene)) == ([], [STORM, STORM_OVER])
    assert [(await scene.notices(ref))[0].reason for ref in FOUR] == ["cancelled by Olga"] * 4
    assert "opened cancelled" in [one.what for one in await scene.decisions("1")]
    assert await scene.store.read(notices.held) == {}


async def test_a_cancelled_storm_keeps_back_nothing_of_those_who_had_been_told_before(tmp_path: Path) -> None:
    cadence = Cadence(remind_after=(5 * MINUTE,), group_wait=timedelta(0), group_interval=timedelta(0))
    async with surroundings(tmp_path, storms=POLICY, cadence=cadence) as scene:
        await scene.breaks("1")
        await scene.outbox.send_due()
        await scene.break_together("2", "3", "4")
        await scene.send_all(6 * MINUTE, MINUTE)
        assert (REMINDER, HELD) in await scene.fates("1")
        await ends(scene, cancel=True)
        await scene.send_all(MINUTE)
        assert to_people(scene) == [OPENED, REMINDER]


async def test_a_restart_in_the_middle_of_it_changes_nothing(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await passes(scene, 10 * MINUTE)
    scene.reborn()
    await passes(scene, 20 * MINUTE)
    assert (to_people(scene), to_operator(scene)) == ([], [STORM])
    await passes(scene, HOUR)
    assert told_of(scene) == sorted(FOUR)


async def test_what_the_sender_has_in_hand_as_it_begins_is_held(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    [batch] = await scene.claimed("mine")
    await scene.break_together("4")
    await scene.outbox._one(batch)
    assert to_people(scene) == []
    assert await scene.store.read(notices.held) == {"storm": 4}
    assert await ends(scene) >= 4
    await scene.send_all(MINUTE)
    assert told_of(scene) == sorted(FOUR)


async def test_a_storm_that_ends_just_as_the_sender_has_seen_it_holds_nothing_for_ever(scene: Surroundings) -> None:
    await scene.break_together("1", "2", "3")
    scene.travel(20 * SECOND)
    [batch] = await scene.claimed("mine")
    await scene.break_together("4")
    await ends(scene)
    await scene.outbox._withhold(batch.notices, "acme")
    assert await scene.store.read(notices.held) == {}
    await scene.send_all(MINUTE)
    assert told_of(scene) == sorted(FOUR)


async def test_a_message_under_way_again_is_not_torn_for_good(scene: Surroundings) -> None:
    """Two platforms of one login in one message that was refused; then one of them has a storm."""
    scene.mail.answers = [Retry("busy")]
    await scene.see(Signal.OK, "1", "2", "3")
    await scene.see(Signal.OK, "7", platform="instagram")
    for _ in range(2):
        await scene.see(Signal.BAD_TOKEN, "1")
        await scene.see(Signal.BAD_TOKEN, "7", platform="instagram")
    await scene.send_all(20 * SECOND)
    await scene.break_together("2", "3", "4")
    await scene.send_all(2 * MINUTE)
    assert told_of(scene)[-1] == "7"
    assert (await scene.fates("7"))[0] == (OPENED, SENT)
    assert (await scene.fates("1"))[0][1] in {SENT, HELD}
    await passes(scene, 70 * MINUTE)
    assert {ref: (await scene.fates(ref))[0] for ref in FOUR} == dict.fromkeys(FOUR, (OPENED, SENT))


async def test_machines_hear_at_once_even_in_a_storm(tmp_path: Path) -> None:
    hooks = (Hook("hook", frozenset({"incident.opened"})),)
    async with surroundings(tmp_path, channels=("mail", "hook"), storms=POLICY, hooks=hooks) as scene:
        await scene.break_together(*FOUR)
        await scene.outbox.send_due()
        assert len(scene.channels["hook"].taken) == 4
        assert scene.mail.taken == []


async def test_while_it_lasts_nobody_further_in_the_chain_is_told(tmp_path: Path) -> None:
    routes = (Route((Target("mail", "ada@acme.example"),), then=(Step((Target("backup"),), 30 * MINUTE),)),)
    async with surroundings(tmp_path, channels=("mail", "backup"), routes=routes, storms=POLICY) as scene:
        await scene.break_together(*FOUR)
        await passes(scene, 50 * MINUTE)
        assert scene.channels["backup"].taken == []


async def test_without_operators_people_are_held_all_the_same_and_told_in_the_end(tmp_path: Path) -> None:
    async with surroundings(tmp_path, storms=POLICY) as scene:
        await scene.break_together(*FOUR)
        assert await scene.outbox.send_due() == 0
        await passes(scene, 61 * MINUTE)
        assert told_of(scene) == sorted(FOUR)


async def test_an_ended_storm_is_on_record(scene: Surroundings) -> None:
    await scene.break_together(*FOUR)
    await ends(scene)
    [ended] = await scene.store.read(storms.latest)
    assert (ended.outcome, ended.decided_by, ended.ended_at is not None) == ("by hand", "Olga", True)
    _, incident = await scene.case("1")
    found = await scene.store.read(incidents.get, incident.id)
    assert found is not None
    assert found.storm_id == ended.id
