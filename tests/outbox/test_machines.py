"""Machines hear by outgoing webhook: of what is sent when it is sent, and in the same words each time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from healthd.channels.base import Dead, Retry
from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, Signal, Target
from healthd.core.routing import Route, Step
from healthd.dispatch import Hook
from tests.outbox.surroundings import Scripted, Surroundings, surroundings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = frozenset({"incident.opened", "incident.reminded", "incident.escalated", "incident.resolved"})
ROUTES = (Route((Target("ada"),), then=(Step((Target("bob"),), 2 * HOUR),)),)
CADENCE = Cadence(remind_after=(DAY,), group_wait=timedelta(0), group_interval=timedelta(0))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    async with surroundings(
        tmp_path, channels=("ada", "bob", "app"), routes=ROUTES, cadence=CADENCE, hooks=(Hook("app", ALL),)
    ) as made:
        yield made


def heard(scene: Surroundings) -> list[str]:
    return [orjson.loads(one.content["body"])["type"] for one in app(scene).taken]


def app(scene: Surroundings) -> Scripted:
    return scene.channels["app"]


async def test_of_an_incident_a_machine_hears_each_step_once_it_was_taken(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.outbox.send_due()
    assert heard(scene) == ["incident.opened"]
    await scene.send_all(3 * HOUR, HOUR)
    assert heard(scene) == ["incident.opened", "incident.escalated"]
    await scene.send_all(DAY, HOUR)
    assert heard(scene)[2] == "incident.reminded"
    await scene.recovers()
    await scene.outbox.send_due()
    assert heard(scene)[-1] == "incident.resolved"
    assert {one.kind for one in app(scene).taken} == {NoticeKind.EVENT}


async def test_an_escalation_that_never_arrived_was_none(scene: Surroundings) -> None:
    scene.channels["bob"].answers = [Dead("no such recipient")]
    await scene.breaks()
    await scene.send_all(3 * HOUR, HOUR)
    assert heard(scene) == ["incident.opened"]


async def test_a_repeat_is_the_same_under_the_same_identity(scene: Surroundings) -> None:
    app(scene).answers = [Retry("HTTP 503"), Retry("the answer was lost", unknown=True)]
    await scene.breaks()
    await scene.outbox.send_due()
    await scene.observe("1", Signal.BAD_TOKEN, name="Another name by now")
    await scene.send_all(timedelta(minutes=2))
    first, second, third = app(scene).got
    assert first == second == third
    assert first.link is not None


async def test_a_machine_is_told_of_a_repair_though_no_person_ever_heard_of_the_trouble(scene: Surroundings) -> None:
    await scene.breaks()
    await scene.recovers()
    await scene.outbox.send_due()
    assert heard(scene) == ["incident.opened", "incident.resolved"]
    assert scene.channels["ada"].got == []


async def test_what_a_person_takes_on_or_sleeps_through_is_no_matter_to_a_machine(scene: Surroundings) -> None:
    await scene.observe("1", Signal.OK, paused=True)
    for _ in range(2):
        await scene.observe("1", Signal.BAD_TOKEN, paused=True)
    await scene.outbox.send_due()
    assert heard(scene) == ["incident.opened"]
    assert scene.channels["ada"].got == []
