"""What is counted of the way from a break to its repair: each incident once for each step, and what takes long."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from healthd.channels.base import Retry
from healthd.core.model import Signal, Target
from healthd.core.routing import Route
from healthd.metrics import take_snapshot
from healthd.store import accounts, incidents
from tests.metrics.exposed import samples
from tests.metrics.test_held_notices import shown
from tests.outbox.surroundings import Surroundings, surroundings

ADA, BOB = Target("mail", "ada@acme.example"), Target("mail", "bob@acme.example")
DAY = timedelta(days=1)


async def steps(scene: Surroundings) -> dict[str, float]:
    """How many incidents came how far."""
    return {labels[1]: value for labels, value in (await shown(scene, "repair_steps_total")).items()}


async def for_long(scene: Surroundings) -> dict[str, float]:
    return {labels[0]: value for labels, value in (await shown(scene, "incidents_open_for_long")).items()}


async def test_an_incident_is_told_once_however_many_hear_of_it_and_how_often(tmp_path: Path) -> None:
    async with surroundings(tmp_path, routes=(Route((ADA, BOB)),)) as scene:
        await scene.breaks()
        assert await steps(scene) == {"told": 0, "opened": 0, "minted": 0}
        await scene.send_all(timedelta(minutes=1))
        assert len(scene.mail.taken) == 2
        await scene.send_all(4 * DAY, timedelta(hours=12))
        assert len(scene.mail.taken) > 2, "reminders"
        assert await steps(scene) == {"told": 1, "opened": 0, "minted": 0}
        await scene.recovers()
        await scene.breaks()
        await scene.send_all(timedelta(minutes=10))
        assert await steps(scene) == {"told": 2, "opened": 0, "minted": 0}


async def test_a_step_is_new_once_in_all_lives_of_the_process(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        await scene.break_together("1", "2")
        ids = [(await scene.case(ref))[1].id for ref in ("1", "2")]
        for step in incidents.STEPS:
            first = await scene.store.run(incidents.reached, step, ids[:1], scene.now())
            assert [(one.name, one.workspace, one.platform) for one in first] == [(step, "acme", "facebook")]
            then = await scene.store.run(incidents.reached, step, ids, scene.now())
            assert len(then) == 1, "the other one"
            assert await scene.store.run(incidents.reached, step, ids, scene.now()) == []


async def test_what_is_open_for_long_is_counted_until_it_is_repaired_or_nobody_wants_to_hear_of_it(
    tmp_path: Path,
) -> None:
    async with surroundings(tmp_path) as scene:
        await scene.break_together("repaired", "lasting", "muted")
        assert await for_long(scene) == {"1d": 0, "3d": 0, "7d": 0, "30d": 0}
        scene.travel(DAY)
        assert await for_long(scene) == {"1d": 3, "3d": 0, "7d": 0, "30d": 0}
        await scene.breaks("young")
        scene.travel(6 * DAY)
        assert await for_long(scene) == {"1d": 4, "3d": 4, "7d": 3, "30d": 0}
        muted = await scene.account("muted")
        await scene.store.run(accounts.mute, muted.id, scene.now() + DAY)
        assert await for_long(scene) == {"1d": 3, "3d": 3, "7d": 2, "30d": 0}
        await scene.recovers("repaired")
        assert await for_long(scene) == {"1d": 2, "3d": 2, "7d": 1, "30d": 0}
        scene.travel(2 * DAY)
        assert (await for_long(scene))["7d"] == 3, "the young one, and the one that is muted no longer"


async def test_what_is_refused_is_counted_by_channel_until_it_is_taken(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as scene:
        await scene.breaks()
        assert await shown(scene, "outbox_retrying") == {}
        scene.mail.answers = [Retry("greylisted")]
        await scene.outbox.send_due()
        assert await shown(scene, "outbox_retrying") == {("mail",): 1}
        await scene.send_all(timedelta(minutes=10))
        assert len(scene.mail.taken) == 1
        assert await shown(scene, "outbox_retrying") == {}


async def test_what_alerts_and_dashboards_ask_for_begins_at_zero(tmp_path: Path) -> None:
    """Prometheus sees a counter grow; one that is born at 1 has never grown."""
    async with surroundings(tmp_path) as scene:
        scene.outbox.metrics.begin(["acme"], ["mail"])
        await scene.observe("1", Signal.OK)
        snapshot = await scene.store.read(take_snapshot, scene.now())
        text = "".join(scene.outbox.metrics.exposition(snapshot))
        zero = {one.name for one in samples(text) if one.value == 0}
        assert zero >= {
            "healthd_incidents_opened_total",
            "healthd_incidents_resolved_total",
            "healthd_repair_steps_total",
            "healthd_time_to_repair_seconds_count",
            "healthd_time_to_notify_seconds_count",
            "healthd_webhooks_total",
        }
        dead = [one for one in samples(text) if one.name == "healthd_notices_total" and one.labels["outcome"] == "dead"]
        assert {(one.labels["channel"], one.value) for one in dead} == {("mail", 0)}
