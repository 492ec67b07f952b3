"""Posting to broken accounts is paused at the provider and resumed there, and never what a person paused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from healthd.core.model import Lane, State
from healthd.sandbox.world import Account
from healthd.store import decisions, pauses, storms
from healthd.store.pauses import LEASE, Action, Wanted
from healthd.store.storms import Storm
from healthd.sweep import SweepPolicy
from tests.sweep.surroundings import Surroundings, surroundings

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OUTCOMES = "healthd_posting_changes_total"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """A workspace that wants its broken accounts paused; its sixteen have been swept once. Nothing runs by itself."""
    async with surroundings(tmp_path, auto_pause=True) as made:
        await made.sweep.bulk(made.workspace())
        made.told.clear()
        yield made


async def breaks(scene: Surroundings, account: Account) -> None:
    """The account breaks, and healthd is certain of it."""
    scene.sandbox.world.break_token(account)
    await sweep(scene)
    await scene.probe(Lane.CONFIRM)
    assert (await scene.stored(account)).account.state is State.EXPIRED


async def repaired(scene: Surroundings, account: Account) -> None:
    scene.sandbox.world.repair(account)
    await sweep(scene)
    assert (await scene.stored(account)).account.state in {State.HEALTHY, State.EXPIRING}


async def sweep(scene: Surroundings) -> None:
    scene.travel(timedelta(seconds=1))
    await scene.sweep.bulk(scene.rested())


async def act(scene: Surroundings) -> int:
    """Makes all the calls that are due now; how many that were."""
    calls = 0
    scene.workspace().posting_breaker.worked()
    while await scene.sweep.change_posting(scene.workspace()):
        calls += 1
    return calls


async def paused(scene: Surroundings, account: Account) -> None:
    """The account breaks and is paused."""
    await breaks(scene, account)
    await sweep(scene)
    assert await act(scene) == 1
    assert not account.is_active


async def waiting(scene: Surroundings, account: Account) -> Wanted | None:
    return await scene.store.read(pauses.get, (await scene.stored(account)).id)


async def told(scene: Surroundings, account: Account) -> list[str]:
    found = await scene.store.read(decisions.of_account, (await scene.stored(account)).id)
    return [one.what for one in found if one.what.startswith("posting")]


def counted(scene: Surroundings, action: str, outcome: str) -> float:
    labels = {"workspace": "acme", "action": action, "outcome": outcome}
    return scene.sweep.metrics.registry.get_sample_value(OUTCOMES, labels) or 0.0


def posts(scene: Surroundings) -> list[str]:
    return [path.rsplit("/", 1)[1] for path in scene.asked("/pause") + scene.asked("/resume")]


async def test_a_broken_account_is_paused_and_after_its_repair_resumed(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    with capture_logs() as events:
        await paused(scene, account)
        stored = await scene.stored(account)
        assert stored.account.paused
        assert stored.auto_paused_at is not None
        await repaired(scene, account)
        assert await act(scene) == 1
    assert account.is_active
    stored = await scene.stored(account)
    assert (stored.account.paused, stored.auto_paused_at) == (False, None)
    assert await told(scene, account) == ["posting paused", "posting resumed"]
    assert [counted(scene, action, "ok") for action in Action] == [1, 1]
    said = [event for event in events if event["event"].startswith("account.posting")]
    assert [event["event"] for event in said] == ["account.posting_paused", "account.posting_resumed"]
    assert {event["account_id"] for event in said} == {str(account.id)}
    assert await act(scene) == 0


async def test_an_account_inside_a_profile_is_paused_in_its_name(tmp_path: Path) -> None:
    async with surroundings(tmp_path, profiled=True, count=2, auto_pause=True) as scene:
        profile = scene.sandbox.world.add_profile("acme", "Nadia's Bakery", "customer-7")
        account = scene.sandbox.world.add_account("acme", "facebook", profile=profile.id)
        await scene.sweep.inventory(scene.workspace())
        await sweep(scene)
        await paused(scene, account)
        await repaired(scene, account)
        assert await act(scene) == 1
        assert account.is_active


async def test_an_account_that_a_person_paused_between_two_sweeps_is_left_alone(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    assert await act(scene) == 0, "no sweep has shown yet that it is active"
    account.is_active = False
    await sweep(scene)
    assert await act(scene) == 0
    await repaired(scene, account)
    assert await act(scene) == 0
    assert not account.is_active
    assert posts(scene) == []


async def test_a_sweep_that_does_not_say_whether_posting_is_on_leads_to_no_pause(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    account.is_active = None  # type: ignore[assignment]  # an API that leaves the field empty
    await sweep(scene)
    assert await act(scene) == 0
    account.is_active = True
    await sweep(scene)
    assert await act(scene) == 1


async def test_what_a_person_resumes_stays_so_and_what_they_pause_then_too(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await paused(scene, account)
    account.is_active = True
    await sweep(scene)
    await sweep(scene)
    assert await act(scene) == 0
    account.is_active = False
    await sweep(scene)
    await repaired(scene, account)
    assert await act(scene) == 0
    assert not account.is_active


async def test_a_repair_before_the_call_makes_it_needless(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    await sweep(scene)
    scene.sandbox.world.repair(account)
    await scene.due(account, Lane.CONFIRM)
    await scene.probe(Lane.CONFIRM)
    assert await act(scene) == 0
    assert account.is_active


async def test_a_workspace_that_does_not_want_it_is_left_alone(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        await sweep(scene)
        await breaks(scene, scene.accounts()[0])
        await sweep(scene)
        assert await act(scene) == 0


async def test_a_pause_whose_answer_was_lost_is_known_again_and_taken_back_after_the_repair(
    scene: Surroundings,
) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    await sweep(scene)
    turn = await scene.store.run(pauses.claim, "acme", scene.now(), pausing=True)
    assert turn is not None
    await scene.workspace().provider.pause(turn.ref, None)  # and here the process ends
    await sweep(scene)
    assert (await scene.stored(account)).auto_paused_at is not None
    await repaired(scene, account)
    assert await act(scene) == 1
    assert account.is_active


async def test_a_pause_whose_answer_was_lost_just_before_the_repair_is_taken_back(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    await sweep(scene)
    turn = await scene.store.run(pauses.claim, "acme", scene.now(), pausing=True)
    assert turn is not None
    await scene.workspace().provider.pause(turn.ref, None)
    scene.sandbox.world.repair(account)
    await scene.due(account, Lane.CONFIRM)
    await scene.probe(Lane.CONFIRM)
    assert await act(scene) == 0, "the call may be under way still"
    scene.travel(LEASE)
    assert await act(scene) == 1
    assert account.is_active


async def test_a_resume_whose_answer_was_lost_is_repeated_or_known_again(scene: Surroundings) -> None:
    one, other = scene.accounts()[:2]
    for account in (one, other):
        await paused(scene, account)
        await repaired(scene, account)
        turn = await scene.store.run(pauses.claim, "acme", scene.now(), pausing=True)
        assert turn is not None
        if account is one:
            await scene.workspace().provider.resume(turn.ref, None)
    await sweep(scene)
    assert await waiting(scene, one) is None
    scene.travel(LEASE)
    assert await act(scene) == 1
    assert one.is_active
    assert other.is_active
    for account in (one, other):
        assert (await scene.stored(account)).auto_paused_at is None


async def test_a_pause_that_meets_no_answer_is_repeated_after_another_look_and_never_given_up(
    scene: Surroundings,
) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    scene.sandbox.faults.add(kind="status", status=500, path=f"/{account.id}/pause")
    for pace in (HOUR, HOUR, DAY, HOUR):
        await sweep(scene)
        assert await act(scene) == 1
        assert await act(scene) == 0
        scene.travel(pace)
        assert await act(scene) == 0, "the account may have been paused by somebody meanwhile"
    assert await told(scene, account) == ["posting not paused yet"]
    scene.sandbox.faults.active.clear()
    await sweep(scene)
    assert await act(scene) == 1
    assert not account.is_active


@pytest.mark.parametrize("status", [404, 422])
async def test_a_pause_that_the_api_refuses_for_good_is_given_up_with_the_reason(
    scene: Surroundings, status: int
) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    await sweep(scene)
    scene.sandbox.faults.add(kind="status", status=status, path=f"/{account.id}/pause")
    assert await act(scene) == 1
    assert await waiting(scene, account) is None
    found = await scene.store.read(decisions.of_account, (await scene.stored(account)).id)
    assert (found[-1].what, str(status) in found[-1].reason) == ("posting not paused", True)
    assert counted(scene, "pause", "given_up") == 1


async def test_a_pause_that_is_refused_for_a_day_is_given_up(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    scene.sandbox.faults.add(kind="status", status=409, path=f"/{account.id}/pause")
    calls = 0
    for _ in range(60):
        await sweep(scene)
        calls += await act(scene)
        scene.travel(HOUR)
    assert 10 <= calls <= 40
    assert await told(scene, account) == ["posting not paused"]


async def test_what_healthd_paused_is_resumed_however_long_that_is_refused(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await paused(scene, account)
    scene.sandbox.faults.add(kind="status", status=422, path=f"/{account.id}/resume")
    await repaired(scene, account)
    for _ in range(50):
        await act(scene)
        scene.travel(HOUR)
    assert await told(scene, account) == ["posting paused", "posting not resumed yet"]
    scene.sandbox.faults.active.clear()
    assert await act(scene) == 1
    assert account.is_active


async def test_a_key_that_may_not_pause_is_the_operators_business_and_does_not_keep_healthd_from_looking(
    scene: Surroundings,
) -> None:
    for account in scene.accounts()[:3]:
        await breaks(scene, account)
    await sweep(scene)
    scene.sandbox.faults.add(kind="status", status=403, path="/pause")
    assert await act(scene) == 3
    [trouble] = await scene.troubles()
    assert (trouble.kind, trouble.question) == ("forbidden", "pause")
    assert not scene.workspace().resting
    await sweep(scene)
    assert len(await scene.troubles()) == 1, "an answer to another question says nothing of this one"
    scene.sandbox.faults.active.clear()
    scene.travel(HOUR)
    await sweep(scene)
    assert await act(scene) == 3
    assert await scene.troubles() == []


async def test_while_a_storm_lasts_nothing_is_paused_and_then_who_is_still_broken(scene: Surroundings) -> None:
    account = scene.accounts()[0]
    await breaks(scene, account)
    now = scene.now()
    storm = Storm("s1", "acme", account.platform, now, now, now + HOUR, 1, 1)
    await scene.store.run(storms.begin, storm, now - HOUR)
    await sweep(scene)
    assert await act(scene) == 0
    await scene.store.run(storms.end, "s1", scene.now(), "it is over")
    assert await act(scene) == 1
    assert not account.is_active


async def test_the_running_sweep_pauses_resumes_and_leaves_a_failing_api_alone(tmp_path: Path) -> None:
    policy = SweepPolicy(bulk_interval=timedelta(seconds=0.1), inventory_interval=HOUR)
    async with surroundings(tmp_path, policy=policy, auto_pause=True) as scene:
        one, other = scene.accounts()[:2]
        scene.sweep.start()
        await scene.until(lambda: len(scene.asked("/accounts/health")) >= 2, "the first sweeps")
        scene.sandbox.world.break_token(one)
        await scene.until(lambda: not one.is_active, "the pause")
        scene.sandbox.world.repair(one)
        await scene.until(lambda: one.is_active, "the resume")
        fault = scene.sandbox.faults.add(kind="status", status=500, path="/pause")
        scene.sandbox.world.break_token(other)
        await scene.until(lambda: fault.strikes >= 1, "a pause that fails")
        await scene.until(lambda: scene.workspace().posting_breaker.failures >= 1, "the breaker's note of it")
        assert not scene.workspace().breaker.failures
        swept = len(scene.asked("/accounts/health"))
        await scene.until(lambda: len(scene.asked("/accounts/health")) >= swept + 3, "the sweeps go on")
        assert fault.strikes < 3


async def test_a_trouble_with_pausing_ends_where_pausing_is_switched_off(tmp_path: Path) -> None:
    async with surroundings(tmp_path, auto_pause=True) as scene:
        await sweep(scene)
        await breaks(scene, scene.accounts()[0])
        await sweep(scene)
        scene.sandbox.faults.add(kind="status", status=403, path="/pause")
        await act(scene)
        assert len(await scene.troubles()) == 1
    async with surroundings(tmp_path) as scene:
        with capture_logs() as events:
            scene.sweep.start()
            await scene.until(lambda: any(event["event"] == "api.trouble_over" for event in events), "the end")
        assert await scene.troubles() == []
