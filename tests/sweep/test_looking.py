"""What the sweep sees, what it makes of a list that lacks something, and whom it asks about by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.model import Lane, State
from healthd.store import accounts, profiles
from healthd.sweep import SHORT_LIST_BELIEVED, URGENT_AT_ONCE, SweepPolicy
from tests.fresh_store import fresh_store
from tests.postgres import fresh_database
from tests.sweep.surroundings import Surroundings, surroundings

MINUTE = timedelta(minutes=1)


async def test_a_sweep_writes_only_what_differs(scene: Surroundings) -> None:
    assert await scene.sweep.bulk(scene.workspace()) == 0
    scene.sandbox.world.break_token(scene.accounts()[3])
    assert await scene.sweep.bulk(scene.workspace()) == 1
    assert [(change.ref, change.after) for change in scene.told] == [(str(scene.accounts()[3].id), State.SUSPECT)]


async def test_everything_is_told_however_much_changed_at_once(tmp_path: Path) -> None:
    async with surroundings(tmp_path, count=1200) as scene:
        assert await scene.sweep.bulk(scene.workspace()) == len(scene.told) == 1200


async def test_a_new_account_is_found_by_the_inventory(scene: Surroundings) -> None:
    fresh = scene.sandbox.world.add_account("acme", "reddit", "Newcomer")
    await scene.sweep.inventory(scene.workspace())
    assert (await scene.stored(fresh)).name == "Newcomer"


async def test_a_row_that_contradicts_itself_is_asked_about_by_itself_but_not_at_every_sweep(
    scene: Surroundings,
) -> None:
    odd = scene.accounts()[0]
    odd.status, odd.token_expired = "published", True
    for _ in range(3):
        await scene.sweep.bulk(scene.workspace())
        await scene.probe(Lane.ROTATION)
        scene.travel(MINUTE)
    assert len(scene.asked(f"/{odd.id}/health")) == 1
    assert (await scene.stored(odd)).account.state is State.HEALTHY
    scene.travel(scene.sweep.policy.ask_again)
    await scene.sweep.bulk(scene.workspace())
    await scene.probe(Lane.ROTATION)
    assert len(scene.asked(f"/{odd.id}/health")) == 2


async def test_an_account_that_list_and_api_both_miss_is_removed(scene: Surroundings) -> None:
    gone = scene.accounts()[5]
    scene.sandbox.world.remove_account(gone)
    await scene.sweep.bulk(scene.workspace())
    assert (await scene.stored(gone)).account.state is State.HEALTHY, "the sweep alone removes nobody"
    await scene.probe(Lane.CONFIRM)
    assert (await scene.stored(gone)).account.state is State.REMOVED


async def test_an_account_that_is_missing_from_the_sweep_but_answers_is_kept(scene: Surroundings) -> None:
    hidden = scene.accounts()[5]
    del scene.sandbox.world.workspaces["acme"].accounts[hidden.id]
    await scene.sweep.bulk(scene.workspace())
    await scene.probe(Lane.CONFIRM)
    stored = await scene.stored(hidden)
    assert stored.account.state is State.HEALTHY
    assert stored.missing_since is None


async def test_a_404_for_an_account_that_is_listed_removes_nobody_and_is_not_asked_again_and_again(
    scene: Surroundings,
) -> None:
    odd = scene.accounts()[2]
    scene.sandbox.faults.add(kind="status", status=404, path=f"/accounts/{odd.id}/health")
    await scene.due(odd, Lane.ROTATION)
    for _ in range(20):
        await scene.probe(Lane.CONFIRM, Lane.ROTATION)
        if scene.workspace().inventory_wanted:
            await scene.sweep.inventory(scene.workspace())
        scene.travel(timedelta(seconds=20))
    assert (await scene.stored(odd)).account.state is State.HEALTHY
    assert len(scene.asked(f"/{odd.id}/health")) == 2, "once, and once more after a look at the list"
    assert len(scene.asked("/social/accounts")) == 1


SHORT_LISTS = {"empty": 0, "half": 8}


@pytest.mark.parametrize("left", SHORT_LISTS.values(), ids=SHORT_LISTS)
@pytest.mark.parametrize("count", [16, 4], ids=["many accounts", "few accounts"])
async def test_a_list_that_shrank_too_much_removes_nobody_until_it_has_lasted(
    tmp_path: Path, left: int, count: int
) -> None:
    async with surroundings(tmp_path, count=count) as scene:
        await scene.sweep.bulk(scene.workspace())
        kept = min(left, count // 2)
        lost = scene.accounts()[kept:]
        for account in lost:
            scene.sandbox.world.remove_account(account)
        if count == 4 and kept:
            return  # two of four may well have been deleted: that is believed at once, as it is for one
        for _ in range(4):
            await scene.sweep.bulk(scene.workspace())
            await scene.sweep.inventory(scene.workspace())
            await scene.probe(Lane.CONFIRM, Lane.ROTATION)
            scene.travel(MINUTE)
        assert await scene.states() == [State.HEALTHY] * count
        scene.travel(SHORT_LIST_BELIEVED)
        await scene.sweep.bulk(scene.workspace())
        await scene.sweep.inventory(scene.workspace())
        await scene.probe(Lane.CONFIRM, Lane.ROTATION)
        assert [(await scene.stored(account)).account.state for account in lost] == [State.REMOVED] * len(lost)


async def test_after_a_bad_list_everything_is_as_it_was(scene: Surroundings) -> None:
    workspace = scene.sandbox.world.workspaces["acme"]
    kept, workspace.accounts = workspace.accounts, {}
    await scene.sweep.bulk(scene.workspace())
    await scene.sweep.inventory(scene.workspace())
    workspace.accounts = kept
    scene.travel(2 * SHORT_LIST_BELIEVED)
    await scene.sweep.bulk(scene.workspace())
    await scene.sweep.inventory(scene.workspace())
    await scene.probe(Lane.CONFIRM, Lane.ROTATION)
    assert [(await scene.stored(account)).missing_since for account in scene.accounts()] == [None] * 16
    assert [scope.short_since for scope in await scene.store.read(profiles.scopes)] == [None]


async def test_the_rotation_asks_about_every_account_once_before_any_twice(tmp_path: Path) -> None:
    async with surroundings(tmp_path, count=100) as scene:
        await scene.sweep.bulk(scene.workspace())
        await scene.all_due(Lane.ROTATION)
        # However late it is because of a small allowance: the longest waiting come first.
        rounds = 0
        while len(scene.asked("/health")) - 1 < 100:
            await scene.sweep.probe_due(scene.workspace(), (Lane.ROTATION,))
            rounds += 1
            assert rounds <= 4
        single = [path for path in scene.asked("/health") if path != "/v1/social/accounts/health"]
        assert len(single) == len(set(single)) == 100


async def test_each_account_has_its_own_turn_within_the_interval(tmp_path: Path) -> None:
    async with surroundings(tmp_path, count=200) as scene:
        await scene.sweep.bulk(scene.workspace())
        interval = scene.sweep.engine.probes.account_interval
        turns = [(await scene.stored(account)).probe_at for account in scene.accounts()]
        assert all(turn is not None and turn <= scene.now() + interval for turn in turns)
        early = sum(turn is not None and turn <= scene.now() + interval / 2 for turn in turns)
        assert 60 < early < 140, "spread evenly, not bunched"


async def test_without_the_bulk_call_every_new_account_is_asked_about_by_itself(tmp_path: Path) -> None:
    async with surroundings(tmp_path, policy=SweepPolicy(mode="each")) as scene:
        scene.sweep.start()
        await scene.until(lambda: len(set(scene.asked("/health"))) == 16, "a question about each account")
        await scene.until(lambda: len(scene.told) >= 16, "their answers")
        assert await scene.states() == [State.HEALTHY] * 16
        assert "/v1/social/accounts/health" not in scene.asked("/health")


async def test_sweep_and_inventory_of_a_workspace_take_turns(scene: Surroundings) -> None:
    scene.sandbox.api.requests.clear()
    slow = scene.sandbox.faults.add(kind="delay", seconds=0.3, path="/accounts/health", times=1)
    sweep = asyncio.create_task(scene.sweep.bulk(scene.workspace()))
    await scene.until(lambda: slow.strikes == 1, "the question about everything")
    await scene.sweep.inventory(scene.workspace())
    await sweep
    assert [path for path in scene.asked("") if "accounts" in path] == [
        "/v1/social/accounts/health",
        "/v1/social/accounts",
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store of the test's own, on each kind of database."""
    if request.param == "sqlite":
        yield fresh_store(tmp_path / "healthd.db")
    else:
        with fresh_database() as found:
            yield found


async def test_when_many_wait_to_be_confirmed_one_sweep_comes_for_all_of_them(tmp_path: Path, url: str) -> None:
    """Long before its turn, but not right after the last one."""
    hourly = SweepPolicy(bulk_interval=timedelta(hours=1))
    async with surroundings(tmp_path, count=40, policy=hourly, url=url) as scene:
        scene.sweep.start()
        workspace, everything = scene.workspace(), "/social/accounts/health"
        await scene.until(lambda: len(scene.told) >= 40, "the first sweep")
        ids = [(await scene.stored(account)).id for account in scene.accounts()]

        async def all_wait() -> None:
            await scene.store.run(accounts.schedule_probe, ids, scene.now(), Lane.CONFIRM)
            workspace.urgent.set()

        await all_wait()
        await scene.until(lambda: len(scene.asked("/health")) >= 41, "a question about each")
        assert len(scene.asked(everything)) == 1
        workspace.swept_at -= 900
        scene.travel(timedelta(minutes=15))
        await all_wait()
        await scene.until(lambda: len(scene.asked(everything)) == 2, "a sweep")


async def test_until_that_sweep_comes_questions_about_each_leave_it_half_of_our_share(tmp_path: Path) -> None:
    hourly = SweepPolicy(bulk_interval=timedelta(hours=1))
    async with surroundings(tmp_path, count=100, policy=hourly) as scene:
        scene.sweep.start()
        workspace = scene.workspace()
        await scene.until(lambda: len(scene.told) >= 100, "the first sweep")
        workspace.allowance.ledger.rate_share = 60 / workspace.allowance.limit
        ids = [(await scene.stored(account)).id for account in scene.accounts()]
        await scene.store.run(accounts.schedule_probe, ids, scene.now(), Lane.CONFIRM)
        workspace.urgent.set()
        await scene.until(lambda: workspace.allowance.used >= 30, "questions about some of them")
        await asyncio.sleep(0.5)  # more than a turn of the loop that asks
        assert workspace.allowance.used < 30 + URGENT_AT_ONCE
        await scene.store.run(accounts.schedule_probe, ids[-1:], scene.now(), Lane.CLICK)
        workspace.urgent.set()
        asked = len(scene.asked("/health"))
        await scene.until(lambda: len(scene.asked("/health")) > asked, "the question of somebody who clicked")
