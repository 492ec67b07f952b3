"""A kill in the middle of a sweep's digest, which is written in several transactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.lives import Stage, life, stage

ACCOUNTS = 32
BROKEN = 24
CHUNK = 8
SWEEPING = 'bulk_interval = "0.5s"\ninventory_interval = "1h"\nrequest_timeout = "3s"'
TAKEN_IN = [f"engine.Engine.apply#{number}:{moment}" for number in (1, 2, 4) for moment in ("before", "after")]
MARKED = [f"profiles.mark_bulk#1:{moment}" for moment in ("before", "after")]


def check_counts(on: Stage) -> None:
    """The counts that are kept equal the rows."""
    kept = "select workspace, platform, state, sum(total) from account_counts group by 1, 2, 3 having sum(total) > 0"
    counted = "select workspace, platform, state, count(*) from accounts group by 1, 2, 3"
    assert sorted(on.rows(kept)) == sorted(on.rows(counted))


@pytest.mark.parametrize("kill", [*TAKEN_IN, *MARKED])
async def test_a_first_sweep_that_was_killed_half_way_is_made_whole_by_the_next(tmp_path: Path, kill: str) -> None:
    async with stage(tmp_path, accounts=ACCOUNTS) as on:
        async with life(on, kill=kill, ready=False, MORTAL_DIGEST=str(CHUNK)) as first:
            await first.killed()
        async with life(on):
            await on.until_quiet()
        check_counts(on)
        assert on.value("select count(*) from incidents") == 0
        assert on.scene.mails() == []


IN_THE_DIGEST, IN_THE_CONFIRMATIONS = ACCOUNTS // CHUNK + 2, ACCOUNTS // CHUNK + BROKEN // CHUNK + 5
FOUND = [
    f"engine.Engine.apply#{number}:{moment}"
    for number in (IN_THE_DIGEST, IN_THE_CONFIRMATIONS)
    for moment in ("before", "after")
]


@pytest.mark.parametrize("kill", FOUND)
async def test_what_a_sweep_found_broken_before_and_after_a_kill_is_told_once(tmp_path: Path, kill: str) -> None:
    async with stage(tmp_path, accounts=ACCOUNTS, sweep=SWEEPING) as on:
        accounts = list(on.scene.sandbox.world.accounts.values())
        for number, account in enumerate(accounts):
            account.name = f"Shop {number:02}"
        broken = accounts[:BROKEN]
        async with life(on, kill=kill, MORTAL_DIGEST=str(CHUNK)) as first:
            await on.until_swept()
            for account in broken:
                on.scene.expire(account, webhook=False)
            await first.killed()
        async with life(on, MORTAL_DIGEST=str(CHUNK)):
            await on.until_quiet()
            await on.scene.until(lambda: all(on.letters.about(account.name) for account in broken), "news of each")
            await on.until_quiet()
        check_counts(on)
        assert on.value("select count(*) from incidents") == BROKEN
        assert {account.name: len(on.letters.about(account.name)) for account in accounts} == {
            account.name: int(account in broken) for account in accounts
        }
        assert on.check_letters() <= sum(on.excused().values())
