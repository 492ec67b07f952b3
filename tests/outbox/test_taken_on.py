"""Somebody takes it on, or wants to hear of it later: no reminder and no escalation until then, or until a repair."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from healthd.core.cadence import Cadence
from healthd.core.model import NoticeKind, NoticeStatus, Target
from healthd.core.routing import Route, Step
from healthd.store import incidents
from tests.outbox.surroundings import Surroundings, surroundings

OPENED, REMINDER, RESOLVED = NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.RESOLVED
ESCALATED = NoticeKind.ESCALATED
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROUTES = (Route((Target("ada"),), then=(Step((Target("bob"),), 2 * DAY),)),)
CADENCE = Cadence(
    remind_after=(DAY,), repeat_interval=DAY, group_wait=timedelta(0), group_interval=timedelta(0),
    acknowledge_for=5 * DAY,
)  # fmt: skip


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Surroundings]:
    """Ada has been told, is reminded every day, and after two days Bob is told."""
    async with surroundings(tmp_path, channels=("ada", "bob"), routes=ROUTES, cadence=CADENCE) as made:
        await made.breaks()
        await made.outbox.send_due()
        yield made


def heard(scene: Surroundings) -> list[tuple[str, NoticeKind]]:
    return [(name, one.kind) for name, channel in scene.channels.items() for one in channel.taken]


async def test_left_alone_it_is_reminded_of_and_escalated(scene: Surroundings) -> None:
    await scene.send_all(2 * DAY + HOUR, HOUR)
    assert heard(scene) == [("ada", OPENED), ("ada", REMINDER), ("ada", REMINDER), ("bob", ESCALATED)]


async def test_an_acknowledgement_stops_reminders_and_the_escalation_until_its_time(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.acknowledge(case, incident, "Ada"))
    await scene.send_all(5 * DAY - HOUR, HOUR)
    assert heard(scene) == [("ada", OPENED)]
    await scene.send_all(2 * HOUR, HOUR)
    assert heard(scene) == [("ada", OPENED), ("ada", REMINDER), ("bob", ESCALATED)]


async def test_a_snooze_lasts_as_long_as_was_said(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.snooze(case, incident, case.now + 3 * DAY, "Ada"))
    await scene.send_all(3 * DAY - HOUR, HOUR)
    assert heard(scene) == [("ada", OPENED)]
    await scene.send_all(2 * HOUR, HOUR)
    assert ("ada", REMINDER) in heard(scene)


async def test_taken_back_it_goes_on_at_once(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.acknowledge(case, incident, "Ada"))
    await scene.send_all(2 * DAY + HOUR, HOUR)
    await scene.decide(lambda case, incident: dispatch.resume(case, incident, "Bob"))
    await scene.outbox.send_due()
    assert heard(scene) == [("ada", OPENED), ("ada", REMINDER), ("bob", ESCALATED)]


async def test_taken_back_early_nothing_comes_before_its_time(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.acknowledge(case, incident, "Ada"))
    await scene.decide(lambda case, incident: dispatch.resume(case, incident, "Ada"))
    await scene.send_all(DAY - HOUR, HOUR)
    assert heard(scene) == [("ada", OPENED)]


async def test_a_repair_ends_it_and_the_next_incident_is_told_of_as_ever(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.acknowledge(case, incident, "Ada"))
    await scene.recovers()
    await scene.outbox.send_due()
    await scene.breaks()
    await scene.send_all(DAY + HOUR, HOUR)
    assert heard(scene) == [("ada", kind) for kind in (OPENED, RESOLVED, OPENED, REMINDER)]


async def test_who_did_it_is_on_record(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.acknowledge(case, incident, "Ada"))
    _, incident = await scene.case()
    assert incident.acknowledged_by == "Ada"
    await scene.decide(lambda case, incident: dispatch.snooze(case, incident, case.now + DAY, "Bob"))
    await scene.decide(lambda case, incident: dispatch.resume(case, incident, "Eve"))
    said = [(one.what, one.who) for one in await scene.decisions() if one.who]
    assert said == [("acknowledged", "Ada"), ("snoozed", "Bob"), ("resumed", "Eve")]
    found = await scene.store.read(incidents.get, incident.id)
    assert found is not None
    assert (found.acknowledged_by, found.acknowledged_until, found.snoozed_until) == (None, None, None)


async def test_what_is_put_off_says_so(scene: Surroundings) -> None:
    dispatch = scene.outbox.dispatch
    await scene.decide(lambda case, incident: dispatch.acknowledge(case, incident, "Ada"))
    await scene.send_all(DAY + HOUR, HOUR)
    [reminder] = [one for one in await scene.notices() if one.kind is REMINDER]
    assert (reminder.status, reminder.reason) == (NoticeStatus.PENDING, "somebody has taken it on")
    assert "reminder waits" in [one.what for one in await scene.decisions()]
