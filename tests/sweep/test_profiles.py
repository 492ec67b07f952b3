"""Profiles: sub-accounts that can be paused, resumed and deleted as a whole."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.cadence import Cadence
from healthd.core.model import Lane, NoticeStatus, State
from healthd.sandbox.world import Account
from healthd.store import notices, profiles
from healthd.store.notices import Holding
from healthd.sweep import PROFILE_REST
from tests.sweep.surroundings import Surroundings, surroundings

PROFILE = "201"


async def is_active(scene: Surroundings) -> bool:
    [found] = [scope for scope in await scene.store.read(profiles.scopes, "acme") if scope.ref == PROFILE]
    return found.active


def members(scene: Surroundings) -> list[Account]:
    return [account for account in scene.accounts() if account.profile is not None]


async def expired(scene: Surroundings, account: Account) -> None:
    scene.sandbox.world.break_token(account)
    await scene.sweep.bulk(scene.workspace())
    scene.travel(timedelta(seconds=1))
    await scene.probe(Lane.CONFIRM)
    assert (await scene.stored(account)).account.state is State.EXPIRED


def set_status(scene: Surroundings, status: str) -> None:
    scene.sandbox.world.profiles[int(PROFILE)].status = status


async def test_the_accounts_of_a_profile_are_looked_after_like_any_other(with_profile: Surroundings) -> None:
    account = members(with_profile)[0]
    await expired(with_profile, account)
    assert (await with_profile.stored(account)).profile == PROFILE


@pytest.mark.parametrize("how", ["bulk", "inventory", "one account"])
async def test_a_409_pauses_the_profile_and_is_no_trouble_of_the_workspace(
    with_profile: Surroundings, how: str
) -> None:
    set_status(with_profile, "paused")
    if how == "bulk":
        await with_profile.sweep.bulk(with_profile.workspace())
    elif how == "inventory":
        await with_profile.sweep.inventory(with_profile.workspace())
    else:
        await with_profile.due(members(with_profile)[0], Lane.ROTATION)
        await with_profile.probe(Lane.ROTATION)
    assert not await is_active(with_profile)
    assert await with_profile.troubles() == []
    assert not with_profile.workspace().resting


async def test_the_accounts_of_a_paused_profile_do_not_use_up_the_allowance(with_profile: Surroundings) -> None:
    set_status(with_profile, "paused")
    await with_profile.sweep.bulk(with_profile.workspace())
    for account in members(with_profile):
        await with_profile.due(account, Lane.CONFIRM)
    before = len(with_profile.sandbox.api.requests)
    for _ in range(5):
        await with_profile.probe(Lane.CONFIRM, Lane.ROTATION)
        await with_profile.sweep.bulk(with_profile.workspace())
        with_profile.travel(timedelta(minutes=5))
    asked = len(with_profile.sandbox.api.requests) - before
    assert asked == 3 + 5, "each account once, and the workspace's own sweep"
    assert timedelta(minutes=25) < PROFILE_REST


async def test_a_resumed_profile_is_looked_at_at_once_and_what_was_withheld_goes_out(
    with_profile: Surroundings,
) -> None:
    scene = with_profile
    broken, repaired, *_ = members(scene)
    for account in (broken, repaired):
        await expired(scene, account)
    set_status(scene, "paused")
    await scene.sweep.bulk(scene.workspace())
    scene.travel(timedelta(minutes=1))
    until = scene.now() + timedelta(minutes=1)
    claimed = await scene.store.run(notices.claim, scene.now(), "lease", until, 10, (), Cadence())
    taken = [notice for batch in claimed for notice in batch.notices]
    assert len(taken) == 2
    for notice in taken:
        paused = Holding("paused")
        assert await scene.store.run(notices.settle, [notice], NoticeStatus.HELD, holding=paused, ungroup=True)

    set_status(scene, "active")
    scene.sandbox.world.repair(repaired)
    scene.travel(timedelta(minutes=5))
    await scene.sweep.inventory(scene.workspace())
    assert await is_active(scene)
    assert [notice.status for notice in await scene.notices(broken)] == [NoticeStatus.PENDING]
    await scene.probe(Lane.CONFIRM)
    assert (await scene.stored(repaired)).account.state is State.HEALTHY
    assert [notice.status for notice in await scene.notices(repaired)] == [NoticeStatus.DROPPED]


async def test_a_profile_that_is_listed_as_active_counts_as_paused_until_it_answers(with_profile: Surroundings) -> None:
    scene = with_profile
    set_status(scene, "paused")
    await scene.sweep.bulk(scene.workspace())
    set_status(scene, "active")
    listed = scene.sandbox.faults.add(kind="delay", seconds=0.5, path="/social/accounts", times=1)
    inventory = asyncio.create_task(scene.sweep.inventory(scene.workspace()))
    await scene.until(lambda: listed.strikes == 1, "the question after the list of profiles")
    assert not await is_active(scene)
    set_status(scene, "paused")
    await inventory
    assert not await is_active(scene)


async def test_a_deleted_profile_is_left_alone_and_its_accounts_are_not_asked_about_for_ever(
    with_profile: Surroundings,
) -> None:
    scene = with_profile
    set_status(scene, "deleted")
    await scene.sweep.inventory(scene.workspace())
    assert not await is_active(scene)
    for account in members(scene):
        await scene.due(account, Lane.ROTATION)
    before = len(scene.asked("/health"))
    for _ in range(10):
        await scene.probe(Lane.CONFIRM, Lane.ROTATION)
        scene.travel(timedelta(seconds=30))
    assert len(scene.asked("/health")) - before <= 2 * len(members(scene))


async def test_the_first_sweep_finds_the_accounts_of_profiles_without_waiting_for_the_inventory(tmp_path: Path) -> None:
    async with surroundings(tmp_path, profiled=True, count=1) as scene:
        profile = scene.sandbox.world.add_profile("acme", "Nadia's Bakery", "customer-7")
        member = scene.sandbox.world.add_account("acme", "facebook", profile=profile.id)
        for _ in range(2):
            await scene.sweep.bulk(scene.workspace())
        assert (await scene.stored(member)).account.state is State.HEALTHY
        assert len(scene.asked("/profiles")) == 1


async def test_a_first_sweep_that_cannot_ask_for_profiles_sees_the_workspaces_own_accounts(tmp_path: Path) -> None:
    async with surroundings(tmp_path, profiled=True, count=1) as scene:
        scene.sandbox.faults.add(kind="wrong_shape", path="/profiles")
        await scene.sweep.bulk(scene.workspace())
        assert await scene.states() == [State.HEALTHY]
