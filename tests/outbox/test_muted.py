"""A person mutes an account: nobody is told of it before then, and what is still true afterwards is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.model import NoticeKind, NoticeStatus, Signal
from healthd.dispatch import Case
from healthd.store import notices
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """One account that is well, and that a person mutes for two days."""
    async with surroundings(tmp_path, remind_after=(DAY,)) as made:
        await made.observe("1", Signal.OK)
        await mute(made, 2 * DAY)
        yield made


async def mute(scene: Surroundings, span: timedelta) -> None:
    dispatch, stored, now = scene.outbox.dispatch, await scene.account(), scene.now()
    await scene.store.run(lambda connection: dispatch.mute(Case(connection, stored, now), now + span, "Olga"))


async def unmute(scene: Surroundings) -> int:
    dispatch, stored, now = scene.outbox.dispatch, await scene.account(), scene.now()
    return await scene.store.run(lambda connection: dispatch.unmute(Case(connection, stored, now), "Olga"))


def heard(scene: Surroundings) -> list[NoticeKind]:
    return [one.kind for one in scene.mail.taken]


async def test_what_breaks_meanwhile_is_told_when_it_is_over(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.send_all(2 * DAY - HOUR, HOUR)
    assert heard(scene) == []
    await scene.send_all(HOUR, HOUR)
    assert heard(scene) == [OPENED]


async def test_what_was_repaired_meanwhile_is_never_told(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    await scene.recovers()
    await scene.send_all(3 * DAY, HOUR)
    assert heard(scene) == []


async def test_who_was_told_before_is_not_reminded_but_hears_of_the_repair(tmp_path: Path) -> None:
    async with surroundings(tmp_path, remind_after=(DAY,)) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        await mute(scene, 5 * DAY)
        await scene.send_all(2 * DAY, HOUR)
        assert heard(scene) == [OPENED]
        await scene.recovers()
        await scene.outbox.send_due()
        assert heard(scene) == [OPENED, RESOLVED]


async def test_unmuted_it_is_told_at_once(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    assert await unmute(scene) == 1
    await scene.outbox.send_due()
    assert heard(scene) == [OPENED]


@pytest.mark.parametrize(("span", "told"), [(HOUR, [OPENED]), (5 * DAY, [])], ids=["shorter", "longer"])
async def test_muted_anew_the_last_word_counts(scene: Surroundings, span: timedelta, told: list[NoticeKind]) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    await mute(scene, span)
    await scene.send_all(2 * HOUR if told else 4 * DAY, HOUR)
    assert heard(scene) == told


async def test_a_reading_leaves_it_muted(scene: Surroundings) -> None:
    until = (await scene.account()).muted_until
    await scene.breaks()
    assert (await scene.account()).muted_until == until


async def test_what_is_withheld_says_so_and_is_counted(scene: Surroundings) -> None:
    assert await scene.store.read(notices.held) == {}
    await scene.breaks()
    await scene.outbox.send_due()
    [waiting] = await scene.notices()
    assert (waiting.status, waiting.reason) == (NoticeStatus.PENDING, "muted by a person")
    assert await scene.store.read(notices.held) == {"muted": 1}
    await unmute(scene)
    await scene.outbox.send_due()
    assert await scene.store.read(notices.held) == {}
    assert [(one.what, one.who) for one in await scene.decisions() if one.who] == [
        ("muted", "Olga"),
        ("unmuted", "Olga"),
    ]
