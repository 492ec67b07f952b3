"""The customer's allowance across a daemon's lives, and beside a command that is run by hand."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from healthd import by_hand
from healthd.app import open_store
from healthd.config import load
from tests.daemon.process import DaemonProcess, daemon_process
from tests.daemon.rig import Rig, rig

LIMIT, SHARE = 80, 40
HALF = "0.5"


@asynccontextmanager
async def hungry(folder: Path, every: str = "0.05s") -> AsyncIterator[Rig]:
    """For a daemon that asks as often as it may: what holds it back is its share."""
    sweep = f'bulk_interval = "{every}"\ninventory_interval = "1h"\nrequest_timeout = "3s"'
    async with rig(folder, options={"accounts": 4, "rate_limit": LIMIT}, sweep=sweep) as scene:
        yield scene


@asynccontextmanager
async def life(scene: Rig) -> AsyncIterator[DaemonProcess]:
    """A daemon with a log of its own: that an earlier one was ready is not said there."""
    (scene.folder / "run.log").unlink(missing_ok=True)
    async with daemon_process(scene, HEALTHD_WORKSPACES__SANDBOX__RATE_SHARE=HALF) as daemon:
        yield daemon


def rows(scene: Rig, query: str) -> list[tuple[int, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{scene.folder / 'healthd.db'}?mode=ro", uri=True)) as base:
        return base.execute(query).fetchall()


async def until_used_up(scene: Rig) -> None:
    """As much as sweeps may use of the share: the rest is there for those more urgent."""

    async def used_up() -> bool:
        return await scene.metric("healthd_api_allowance_used") >= int(0.85 * SHARE)

    await scene.until(used_up, "a share that is used up")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_lives_that_follow_each_other_at_once_use_one_share_between_them(
    tmp_path: Path, how: signal.Signals
) -> None:
    async with hungry(tmp_path) as scene:
        async with life(scene) as daemon:
            await scene.until(lambda: len(scene.asked("/")) >= 10, "a burst")
            daemon.send(how)
            await daemon.ended()
        before = len(scene.asked("/"))
        assert before < 0.8 * SHARE
        async with life(scene):
            await scene.until(lambda: len(scene.asked("/")) > before, "a call of the new life, at once")
            await until_used_up(scene)
            assert len(scene.asked("/")) <= SHARE
            assert await scene.metric("healthd_api_allowance_used") <= SHARE
            assert await scene.metric("healthd_api_allowance_limit") == LIMIT


async def test_a_pause_that_was_asked_for_outlives_a_kill(tmp_path: Path) -> None:
    async with hungry(tmp_path) as scene:
        async with life(scene) as daemon:
            await daemon.until_seen()
            scene.sandbox.faults.add(kind="status", status=429, times=1)
            await scene.until(lambda: bool(rows(scene, "select 1 from allowances where paused_until > 0")), "a pause")
            before = len(scene.asked("/"))
            daemon.send(signal.SIGKILL)
            await daemon.ended()

        async def half_the_pace() -> bool:
            return await scene.metric("healthd_api_allowance_share") == SHARE / 2

        async with life(scene):
            await scene.until(half_the_pace, "the news of the pause")
            assert len(scene.asked("/")) == before
            assert await scene.metric("healthd_api_calls_waiting") > 0


async def test_a_sweep_by_hand_beside_the_daemon_uses_the_same_share(tmp_path: Path) -> None:
    async with hungry(tmp_path, every="0.2s") as scene, life(scene) as daemon:
        await daemon.until_seen()
        settings = load(scene.write_config(), {"HEALTHD_WORKSPACES__SANDBOX__RATE_SHARE": HALF})
        async with open_store(settings) as store:
            result = await by_hand.sweep(settings, store, list(settings.workspaces), show=False)
        assert not result.failures
        await until_used_up(scene)
        made = len(scene.asked("/"))
        assert made <= SHARE
        assert made <= await scene.metric("healthd_api_allowance_used"), "the daemon counts the command's calls as well"
