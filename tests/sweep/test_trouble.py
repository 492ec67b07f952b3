"""What the sweep does when the API, the key, or one workspace of several is in trouble."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthd.core.model import Lane, State
from healthd.providers.base import ProviderError
from healthd.sweep import SweepPolicy
from tests.sweep.surroundings import Surroundings, surroundings

BROKEN_API: dict[str, dict[str, Any]] = {
    "500": {"kind": "status", "status": 500},
    "502 without JSON": {"kind": "status", "status": 502},
    "401": {"kind": "status", "status": 401},
    "402": {"kind": "status", "status": 402},
    "403": {"kind": "status", "status": 403},
    "404": {"kind": "status", "status": 404},
    "409": {"kind": "status", "status": 409},
    "422": {"kind": "status", "status": 422},
    "429": {"kind": "status", "status": 429},
    "dropped": {"kind": "drop"},
    "garbage": {"kind": "garbage"},
    "HTML": {"kind": "html"},
    "the wrong shape": {"kind": "wrong_shape"},
    "truncated": {"kind": "truncated"},
    "a redirect": {"kind": "redirect"},
}


@pytest.mark.parametrize("name", BROKEN_API)
async def test_no_answer_of_a_failing_api_moves_an_account(scene: Surroundings, name: str) -> None:
    scene.sandbox.faults.add(**BROKEN_API[name])
    scene.sandbox.world.break_token(scene.accounts()[0])
    scene.sandbox.world.remove_account(scene.accounts()[1])
    with pytest.raises(ProviderError):
        await scene.sweep.bulk(scene.workspace())
    with pytest.raises(ProviderError):
        await scene.sweep.inventory(scene.rested())
    scene.rested()
    await scene.due(scene.accounts()[2], Lane.CONFIRM)
    await scene.probe(Lane.CONFIRM)
    assert scene.told == []
    assert await scene.states() == [State.HEALTHY] * 16


NEEDS_AN_OPERATOR = {401: "API key", 402: "balance", 403: "scope"}


@pytest.mark.parametrize(("status", "remedy"), NEEDS_AN_OPERATOR.items())
async def test_trouble_with_the_key_is_noted_once_with_its_remedy_and_ends_by_itself(
    scene: Surroundings, status: int, remedy: str
) -> None:
    scene.sandbox.faults.add(kind="status", status=status)
    with capture_logs() as events:
        for _ in range(3):
            with pytest.raises(ProviderError):
                await scene.sweep.bulk(scene.rested())
        [trouble] = await scene.troubles()
        assert remedy in trouble.remedy
        scene.sandbox.faults.active.clear()
        await scene.sweep.bulk(scene.rested())
        assert await scene.troubles() == []
    assert [event["event"] for event in events if event["event"].startswith("api.")] == [
        "api.trouble",
        "api.trouble_over",
    ]


def fail(scene: Surroundings, times: int = 1) -> None:
    """The API has failed so many times in a row, the last time just now."""
    breaker, now = scene.workspace().breaker, asyncio.get_running_loop().time()
    for _ in range(times):
        breaker.opens_until = 0.0
        breaker.failed(now)


async def test_a_workspace_that_rests_is_not_swept(scene: Surroundings) -> None:
    fail(scene)
    before = len(scene.sandbox.api.requests)
    assert await scene.sweep.bulk(scene.workspace()) == 0
    assert await scene.sweep.inventory(scene.workspace()) == 0
    assert len(scene.sandbox.api.requests) == before


async def test_while_the_api_fails_only_clicks_go_through_and_then_one_call_tries_whether_it_works_again(
    tmp_path: Path,
) -> None:
    policy = SweepPolicy(bulk_interval=timedelta(hours=1), inventory_interval=timedelta(hours=1))
    async with surroundings(tmp_path, count=40, policy=policy) as scene:
        await scene.sweep.bulk(scene.workspace())
        clicked, *others = scene.accounts()
        await scene.all_due(Lane.CONFIRM)
        await scene.due(clicked, Lane.CLICK)
        fail(scene, 20)
        for account in others:
            scene.sandbox.faults.add(kind="status", status=401, path=f"/{account.id}/health")
        workspace = scene.workspace()
        clicks = await scene.sweep.probe_as_allowed(workspace, (Lane.CLICK, Lane.CONFIRM))
        assert clicks == 1
        assert len(scene.asked(f"/{clicked.id}/health")) == 1
        assert not workspace.breaker.is_trying, "the click's answer has shown that the API works"
        fail(scene, 20)
        before = len(scene.sandbox.api.requests)
        assert await scene.sweep.probe_as_allowed(workspace, (Lane.CLICK, Lane.CONFIRM)) == 0
        assert await scene.sweep.probe_as_allowed(workspace, (Lane.ROTATION,)) == 0
        assert len(scene.sandbox.api.requests) == before
        scene.rested()
        assert await scene.sweep.probe_as_allowed(workspace, (Lane.CLICK, Lane.CONFIRM)) == 1
        assert len(scene.sandbox.api.requests) - before == 1
        assert workspace.resting
        assert workspace.breaker.failures == 21


async def test_a_workspace_that_fails_or_is_slow_does_not_delay_the_others(tmp_path: Path) -> None:
    policy = SweepPolicy(bulk_interval=timedelta(seconds=0.1), inventory_interval=timedelta(hours=1))
    async with surroundings(tmp_path, names=("broken", "slow", "fine"), policy=policy, api_timeout=30.0) as scene:
        scene.sandbox.faults.add(kind="status", status=500, workspace="broken")
        stuck = scene.sandbox.faults.add(kind="delay", seconds=25.0, workspace="slow")
        scene.sweep.start()
        await scene.until(lambda: stuck.strikes > 0, "the slow workspace's first question")
        await scene.until(lambda: len(scene.asked("/accounts/health", "fine")) >= 5, "five sweeps of the fine one")
        assert scene.asked("/accounts/health", "slow") == []
        assert set(await scene.states("fine")) == {State.HEALTHY}


async def test_a_profile_that_cannot_be_understood_does_not_hide_the_others(with_profile: Surroundings) -> None:
    scene = with_profile
    scene.sandbox.faults.add(kind="garbage", times=1, path="/social/accounts/health")
    broken = next(account for account in scene.accounts() if account.profile)
    scene.sandbox.world.break_token(broken)
    with pytest.raises(ProviderError):
        await scene.sweep.bulk(scene.workspace())
    assert (await scene.stored(broken)).account.state is State.SUSPECT


async def test_after_a_pause_of_the_whole_process_the_sweeps_it_missed_do_not_pile_up(tmp_path: Path) -> None:
    interval = 0.1
    policy = SweepPolicy(bulk_interval=timedelta(seconds=interval), inventory_interval=timedelta(hours=1))
    async with surroundings(tmp_path, policy=policy) as scene:
        scene.sweep.start()
        await scene.until(lambda: len(scene.asked("/accounts/health")) >= 2, "two sweeps")
        time.sleep(1.5)  # noqa: ASYNC251 - as if the machine had been suspended
        before, began = len(scene.asked("/accounts/health")), asyncio.get_running_loop().time()
        await scene.until(lambda: len(scene.asked("/accounts/health")) >= before + 3, "the sweeps after it")
        passed = asyncio.get_running_loop().time() - began
        assert len(scene.asked("/accounts/health")) - before <= 2 + passed / (interval * 0.9)
        assert passed > interval, "fifteen were missed, and they did not come at once"


async def test_stopping_ends_what_is_under_way_and_starts_nothing_new(tmp_path: Path) -> None:
    policy = SweepPolicy(bulk_interval=timedelta(seconds=0.1), inventory_interval=timedelta(hours=1))
    async with surroundings(tmp_path, policy=policy, api_timeout=60.0) as scene:
        stuck = scene.sandbox.faults.add(kind="delay", seconds=50.0)
        scene.sweep.start()
        await scene.until(lambda: stuck.strikes > 0, "a question without an answer")
        await scene.sweep.stop(0.2)
        before = stuck.strikes
        await asyncio.sleep(0.5)
        assert stuck.strikes == before
