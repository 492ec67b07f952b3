"""From the webhook to the notice that it is repaired: a kill on either side of every step, and what it costs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from healthd.sandbox.world import Account
from tests.crash.lives import HAND_OVER, RECORD, Stage, life, repair_by_link, stage

FIRST = "inbox.store"

BREAK = (
    FIRST, "intake.Drain._batch", "accounts.claim_probes", "engine.Engine.apply",
    "notices.claim", "outbox._keep", HAND_OVER, RECORD,
)  # fmt: skip
CLICK = ("incidents.reached", "SmartlyQ.mint", "reconnect.ReconnectPage._record")
CALLS = [f"allowances.take#{number}" for number in (1, 2, 3)]
"""Each call to the API is on record before it goes out: a look, the press, and a look again."""
STEPS = [*(f"{name}#1" for name in (*BREAK, *CLICK)), *(f"{name}#2" for name in BREAK), *CALLS]
"""A broken account from its webhook to its mail, the press of the button, and the same way again for the repair."""

BOUNDARIES = [f"{step}:{moment}" for step in STEPS for moment in ("before", "after")]

RECORDED = "select count(*) from notices where kind = 'opened' and status = 'sent'"
NOBODY_KNOWS = {f"{HAND_OVER}#{n}:after" for n in (1, 2)} | {f"{RECORD}#{n}:before" for n in (1, 2)}
"""Handed over and not on record: here alone may a message come twice, and it must, or it could be lost."""


async def play(on: Stage, account: Account) -> None:
    """The provider and the person do their part, whatever happens to the daemon meanwhile."""
    scene = on.scene
    scene.expire(account)
    opened = await scene.mail(account.name)
    assert opened.link is not None
    # A person that is faster than the record would be killed together with it.
    await scene.until(lambda: on.value(RECORDED) == 1, "the record of the mail")
    await repair_by_link(scene, account, opened.link)
    await scene.mail("connected again")


def check(on: Stage, account: Account) -> None:
    """What was promised to the provider and to the person."""
    assert on.value("select count(*) from incidents") == 1
    assert on.rows("select resolution from incidents") == [("repaired",)]
    assert on.believed() == on.truth()
    acknowledged = {delivery.event_id for delivery in on.scene.sandbox.sender.deliveries.values()}
    done = {event_id for (event_id,) in on.rows("select event_id from inbox where status = 'done'")}
    assert acknowledged == done, "each webhook that was taken has been seen to"
    fixed = on.letters.about("connected again")
    told = on.letters.about(account.name)
    assert len(fixed) == 1, "one notice of the repair"
    assert len(told | fixed) == 2, "and one of the break"
    assert set(on.letters.by_identity) == set(told | fixed), "and nobody heard of anything else"


async def test_without_a_kill_the_way_has_exactly_the_steps_that_are_killed_here(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, life(on, since=FIRST):
        await on.until_swept()
        account = on.scene.account("twitter")
        await play(on, account)
        await on.until_quiet()
        check(on, account)
        assert on.check_letters() == 0
        taken = [f"{step.name}#{step.number}:{step.moment}" for step in on.trace if step.number]
        assert sorted(taken) == sorted(BOUNDARIES), "each of them, in any order"


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_a_kill_loses_nothing_and_repeats_only_what_nobody_can_know(tmp_path: Path, boundary: str) -> None:
    async with stage(tmp_path) as on:
        account = on.scene.account("twitter")
        async with life(on, since=FIRST, kill=boundary) as first:
            await on.until_swept()
            story = asyncio.create_task(play(on, account))
            await first.killed()
        async with life(on):
            await story
            await on.until_quiet()
        check(on, account)
        assert on.check_letters() == (boundary in NOBODY_KNOWS)
