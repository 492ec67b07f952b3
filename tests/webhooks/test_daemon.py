"""The daemon after an absence, and with a webhook that somebody has taken away."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from healthd.core.model import State
from healthd.sandbox.sender import RETRIES, Delivery
from healthd.self_care import WANTED
from healthd.store import troubles
from tests.daemon.conftest import settled
from tests.daemon.rig import WEBHOOK_SECRET, Rig, rig

OPERATOR = "ops@acme.example"
EACH_BY_ITSELF = 'mode = "each"\naccount_interval = "365d"\ninventory_interval = "1h"\nrequest_timeout = "3s"'
"""Nothing but a webhook leads to a look at an account that has been seen."""
OFTEN = 'audit_interval = "0.3s"'
TOLD = f'default = ["mail:ada@acme.example"]\noperator = ["mail:{OPERATOR}"]\ngroup_wait = "0s"\ngroup_interval = "0s"'


async def tried(scene: Rig, *deliveries: Delivery, times: int = 1) -> None:
    """So many attempts have failed."""

    def waits() -> bool:
        return all(one.attempt == times and one.next_retry_at is not None for one in deliveries)

    await scene.until(waits, f"attempt {times}")


def travel(scene: Rig, span: timedelta) -> None:
    scene.travel(span)
    scene.sandbox.sender.clock_moved()


async def given_up(scene: Rig, delivery: Delivery) -> None:
    """Nobody takes it for so long that the provider stops trying."""
    for number, pause in enumerate(RETRIES, start=1):
        await tried(scene, delivery, times=number)
        travel(scene, pause)
    await scene.until(lambda: delivery.status == "dead_letter", "the dead letter")


async def test_what_was_missed_while_healthd_was_away_is_read_back_and_a_replay_of_it_changes_nothing(
    tmp_path: Path,
) -> None:
    options = {"accounts": 4, "time_scale": 1.0}
    async with rig(tmp_path, options=options, sweep=EACH_BY_ITSELF) as scene:
        await scene.start()
        await settled(scene)
        await scene.until(lambda: len(scene.asked("/webhooks/logs")) >= 10, "the first look at the log")
        await scene.stop()
        broken, repaired = scene.account("facebook"), scene.account("instagram")
        [dead] = scene.expire(broken)
        await given_up(scene, dead)
        pending = [*scene.expire(repaired), *scene.sandbox.api.tell(repaired, "account.connected")]
        scene.sandbox.world.repair(repaired)
        await tried(scene, *pending)
        asked = len(scene.asked("/health"))
        await scene.start()
        await scene.mail(broken.name)
        await scene.until_state(repaired, State.HEALTHY)
        assert len(scene.asked("/health")) - asked <= 4, "no sweep has found it"
        assert await scene.metric("healthd_webhooks_read_back_total", status="dead_letter") == 1
        assert await scene.metric("healthd_webhooks_read_back_total", status="pending") == 2
        scene.sandbox.sender.replay(next(iter(scene.sandbox.sender.endpoints.values())), dead)
        travel(scene, RETRIES[0])
        await scene.until(lambda: {one.status for one in (dead, *pending)} == {"delivered"}, "the replay")
        await scene.until_drained()
        assert await scene.metric("healthd_webhooks_total", outcome="duplicate") == 3
        assert len(await scene.incidents(broken)) == 1
        assert await scene.incidents(repaired) == []
        assert len(scene.mails()) == 1


async def test_a_webhook_that_is_gone_is_one_mail_to_the_operator_and_one_when_it_is_back(tmp_path: Path) -> None:
    async with rig(tmp_path, options={"accounts": 2}, webhook=OFTEN, notices=TOLD) as scene:
        sender = scene.sandbox.sender
        [endpoint] = sender.endpoints.values()
        endpoint.events = WANTED[:2]
        await scene.start()

        async def ok(value: float) -> bool:
            return await scene.metric("healthd_webhook_subscription_ok") == value

        await scene.until(lambda: ok(1), "a webhook with nothing wrong")
        assert set(WANTED) <= set(endpoint.events), "what it lacked was added"
        assert await scene.metric("healthd_webhook_repairs_total", what="wrong_events") == 1
        sender.endpoints.clear()
        mail = await scene.mail("its webhook is missing")
        assert (mail.to, "healthd webhook register" in mail.text) == (OPERATOR, True)
        assert await ok(0)
        asked = len(scene.asked("/webhooks"))
        await scene.until(lambda: len(scene.asked("/webhooks")) > asked + 30, "more looks")
        assert len(scene.mails()) == 1
        sender.register("sandbox", endpoint.url, WANTED, WEBHOOK_SECRET)
        over = await scene.mail("works again", since=mail.number)
        assert (over.to, over.thread) == (OPERATOR, mail.identity)
        assert await ok(1)
        assert len(scene.mails()) == 2


async def test_a_stopped_webhook_is_started_again_only_once_it_gets_through(tmp_path: Path) -> None:
    async with rig(tmp_path, options={"accounts": 2}, webhook=OFTEN, notices=TOLD) as scene:
        await scene.start()
        [endpoint] = scene.sandbox.sender.endpoints.values()
        endpoint.status, endpoint.secret = "failing", "whsec_of_somebody_else"

        async def told() -> bool:
            found = await scene.store.read(troubles.current, "sandbox")
            return [one.kind for one in found] == ["webhook_failing"] and "HTTP 401" in found[0].message

        await scene.until(told, "the trouble, and why")
        assert scene.mails() == [], "it may pass by itself"
        scene.travel(timedelta(minutes=11))
        assert (await scene.mail("has stopped its webhook")).to == OPERATOR
        assert endpoint.status == "failing"
        endpoint.secret = WEBHOOK_SECRET
        await scene.mail("works again")
        assert endpoint.status == "active"
        assert await scene.metric("healthd_webhook_repairs_total", what="failing") == 1
