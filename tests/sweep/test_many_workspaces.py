"""Hundreds of workspaces in one daemon: none waits for another, and all together ask for little."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from healthd.sweep import LOOKS, STARTS, Sweep, Workspace
from tests.sweep.surroundings import surroundings

MANY = 300


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[Sweep]:
    """A daemon's sweep with many workspaces behind one API."""
    async with surroundings(tmp_path, count=1) as made:
        one = made.workspace()
        made.sweep.workspaces = {
            f"w{number:03}": Workspace(f"w{number:03}", one.provider, one.allowance, False, random.Random(number))
            for number in range(MANY)
        }
        yield made.sweep
        await made.sweep.stop(5.0)


async def test_the_first_sweeps_begin_one_after_the_other_and_the_first_at_once(crowded: Sweep) -> None:
    before = datetime.now(UTC)
    crowded.start()
    begin = {job.id: job.next_run_time - before for job in crowded._scheduler.get_jobs()}
    assert begin["bulk:w000"] < timedelta(seconds=1)
    assert begin["bulk:w299"] - begin["bulk:w000"] > timedelta(seconds=0.9 * MANY / STARTS)
    in_one_second = [name for name, at in begin.items() if at - begin["bulk:w000"] < timedelta(seconds=1)]
    # A bulk and an inventory for each of them, and the daemon's own jobs.
    assert len(in_one_second) <= 2 * (STARTS + 5) + 2


async def test_many_look_less_often_each_and_a_few_as_often_as_the_policy_says(crowded: Sweep) -> None:
    assert MANY / crowded._longest_rest <= LOOKS
    crowded.workspaces = dict(list(crowded.workspaces.items())[:3])
    assert crowded._longest_rest == crowded.policy.longest_rest.total_seconds()
