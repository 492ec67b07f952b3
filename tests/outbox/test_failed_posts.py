"""A reminder says how many posts have failed meanwhile: since the break, and of this account."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from healthd.channels.base import Notice
from healthd.core.model import NoticeKind, Signal
from healthd.core.post_failures import PostFailure
from tests.outbox.surroundings import Surroundings, surroundings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def fails(
    scene: Surroundings, *posts: str, platform: str = "facebook", code: str = "X", at: datetime | None = None
) -> None:
    found = [PostFailure(post, platform, code, "", None, at or scene.now()) for post in posts]
    await scene.store.run(lambda connection: scene.engine.posts_failed(connection, "acme", found, scene.now()))


def said(scene: Surroundings) -> list[tuple[NoticeKind, list[int]]]:
    return [
        (one.kind, [account.failed_posts for account in one.accounts])
        for one in scene.mail.told
        if isinstance(one, Notice)
    ]


async def test_a_reminder_says_how_many_posts_have_failed_since_the_break(tmp_path: Path) -> None:
    async with surroundings(tmp_path, remind_after=(DAY, 2 * DAY)) as scene:
        await scene.observe("1", Signal.OK)
        await fails(scene, "1", "2")
        scene.travel(HOUR)
        await scene.breaks()
        await scene.outbox.send_due()
        await fails(scene, "3", "4", "4", "5")
        await fails(scene, "6", platform="linkedin")
        await scene.send_all(DAY + HOUR, HOUR)
        await fails(scene, "7")
        await scene.send_all(DAY, HOUR)
        assert said(scene) == [(NoticeKind.OPENED, [0]), (NoticeKind.REMINDER, [3]), (NoticeKind.REMINDER, [4])]


async def test_what_failed_after_the_repair_is_not_counted(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        await scene.breaks()
        await scene.outbox.send_due()
        await fails(scene, "1")
        await scene.recovers()
        scene.travel(HOUR)
        await fails(scene, "2")
        await scene.outbox.send_due()
        assert said(scene) == [(NoticeKind.OPENED, [0]), (NoticeKind.RESOLVED, [1])]
