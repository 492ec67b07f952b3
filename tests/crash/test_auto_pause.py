"""A kill on either side of every step of a pause and of a resume: nothing stays paused behind anybody's back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.lives import Stage, life, stage

SWEEPING = 'bulk_interval = "0.3s"\ninventory_interval = "1h"\nrequest_timeout = "3s"'
OF_THE_WORKSPACE = "auto_pause = true"
PAUSING = ("pauses.seen_active#1", "pauses.claim#1", "SmartlyQ.pause#1", "pauses.paused#1")
RESUMING = ("pauses.claim#2", "SmartlyQ.resume#1", "pauses.resumed#1")
LEASE = "1.0"


def boundaries(steps: tuple[str, ...]) -> list[str]:
    return [f"{step}:{moment}" for step in steps for moment in ("before", "after")]


def check(on: Stage) -> None:
    """All is well, posting goes on, and nothing is left to do."""
    assert on.rows("select distinct paused, auto_paused_at from accounts") == [(0, None)]
    assert on.value("select count(*) from pauses") == 0
    assert on.value("select sum(total) from account_counts where paused") in {None, 0}


@pytest.mark.parametrize("boundary", [*boundaries(PAUSING), *boundaries(RESUMING)])
async def test_a_kill_leaves_no_account_paused_after_its_repair(tmp_path: Path, boundary: str) -> None:
    while_pausing = boundary in boundaries(PAUSING)
    async with stage(tmp_path, sweep=SWEEPING, extra=OF_THE_WORKSPACE) as on:
        account = on.scene.account("twitter")
        async with life(on, kill=boundary, MORTAL_LEASE=LEASE) as first:
            await on.until_swept()
            on.scene.expire(account, webhook=False)
            if not while_pausing:
                await on.scene.until(lambda: on.value("select count(auto_paused_at) from accounts") == 1, "the pause")
                on.scene.sandbox.world.repair(account)
            await first.killed()
        async with life(on, MORTAL_LEASE=LEASE):
            if while_pausing:
                await on.scene.until(lambda: on.value("select count(auto_paused_at) from accounts") == 1, "the pause")
                assert not account.is_active
                on.scene.sandbox.world.repair(account)
            await on.until_quiet()
            await on.scene.until(lambda: on.value("select count(*) from pauses") == 0, "the resume")
        assert account.is_active
        check(on)


@pytest.mark.parametrize("boundary", boundaries(("SmartlyQ.pause#1", "pauses.paused#1")))
async def test_a_repair_while_healthd_is_dead_in_the_middle_of_a_pause_ends_active(
    tmp_path: Path, boundary: str
) -> None:
    async with stage(tmp_path, sweep=SWEEPING, extra=OF_THE_WORKSPACE) as on:
        account = on.scene.account("twitter")
        async with life(on, kill=boundary, MORTAL_LEASE=LEASE) as first:
            await on.until_swept()
            on.scene.expire(account, webhook=False)
            await first.killed()
        on.scene.sandbox.world.repair(account)
        async with life(on, MORTAL_LEASE=LEASE):
            await on.until_quiet()
            await on.scene.until(lambda: on.value("select count(*) from pauses") == 0, "the end of what was begun")
        assert account.is_active
        check(on)
