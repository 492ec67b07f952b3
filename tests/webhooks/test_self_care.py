"""The webhook looked after between a real store and a sandbox: each look taken singly, the clock moved by hand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from healthd import self_care
from healthd.core.cadence import NEEDS_AN_OPERATOR
from healthd.sandbox.sender import Delivery, Endpoint
from healthd.self_care import LOOK_AGAIN, OVERLAP, READ_ON, WANTED, CarePolicy, Problem, SelfCare
from healthd.store import inbox, subscriptions
from healthd.store.database import StoreUnavailable
from healthd.store.inbox import Arrival
from healthd.store.subscriptions import Looked
from healthd.store.troubles import Trouble
from tests.sweep.surroundings import Surroundings, surroundings

URL = "http://127.0.0.1:9/webhooks/acme"
"""Nobody listens there."""
HOUR = timedelta(hours=1)


@dataclass
class Cared:
    scene: Surroundings
    arrived: list[None] = field(default_factory=list)

    def begin(self, **policy: Any) -> SelfCare:
        """The care of a new process."""
        sweep = self.scene.sweep
        sweep.care = SelfCare(
            self.scene.store, sweep.engine, sweep.metrics, {"acme": URL}, CarePolicy(**policy), self.scene.now,
            lambda: self.arrived.append(None), lambda: None, random.Random(3),
        )  # fmt: skip
        return sweep.care

    async def look(self) -> float:
        return await self.scene.sweep.look_after_webhook(self.scene.rested())

    async def later(self, span: timedelta = LOOK_AGAIN) -> float:
        self.scene.travel(span)
        return await self.look()

    def register(self, url: str = URL, events: Sequence[str] = WANTED) -> Endpoint:
        return self.scene.sandbox.sender.register("acme", url, events)

    def failed(self, endpoint: Endpoint, number: int = 1, status: str = "dead_letter") -> list[Delivery]:
        """Deliveries of an event that did not come through."""
        sender, account = self.scene.sandbox.sender, self.scene.accounts()[0]
        made = []
        for _ in range(number):
            name = f"evt_{sender._next_delivery}"
            body = (
                f'{{"id":"{name}","event":"account.token_expired","created_at":"{self.scene.now():%Y-%m-%dT%H:%M:%SZ}",'
                f'"data":{{"account_id":{account.id},"platform":"{account.platform}"}}}}'
            )
            delivery = sender._delivery(endpoint, "account.token_expired", name, body.encode())
            delivery.status = status
            made.append(delivery)
        return made

    async def looked(self) -> Looked:
        found = await self.scene.store.read(subscriptions.get, "acme")
        assert found is not None
        return found

    async def trouble(self) -> Trouble | None:
        found = await self.scene.troubles()
        assert len(found) <= 1
        return found[0] if found else None

    async def stored(self) -> list[str]:
        waiting = await self.scene.store.read(inbox.waiting, "acme", 10_000)
        return [received.body.decode().split('"')[3] for received in waiting]

    def asked(self, method: str, path: str) -> int:
        requests = self.scene.sandbox.api.requests
        return sum(entry["method"] == method and entry["path"].startswith(f"/v1{path}") for entry in requests)

    def counted(self, name: str, **labels: str) -> float:
        return self.scene.sweep.metrics.registry.get_sample_value(name, {"workspace": "acme", **labels}) or 0.0


@pytest.fixture
async def care(tmp_path: Path) -> AsyncIterator[Cared]:
    async with surroundings(tmp_path, count=2) as scene:
        made = Cared(scene)
        made.begin()
        yield made


async def test_a_webhook_with_nothing_wrong_is_looked_at_once_an_hour(care: Cared) -> None:
    endpoint = care.register()
    rest = await care.look()
    assert HOUR.total_seconds() * 0.9 <= rest <= HOUR.total_seconds() * 1.1
    assert await care.later(timedelta(minutes=50)) > 0
    assert care.asked("GET", "/webhooks") - care.asked("GET", "/webhooks/logs") == 1
    await care.later(timedelta(minutes=20))
    assert care.asked("GET", "/webhooks") - care.asked("GET", "/webhooks/logs") == 2
    seen = await care.looked()
    assert (seen.ref, seen.url, seen.status, seen.events, seen.problem) == (
        str(endpoint.id), URL, "active", WANTED, "",
    )  # fmt: skip
    assert await care.trouble() is None


async def _missing(_: Cared) -> None:
    return


async def _elsewhere(care: Cared) -> None:
    care.register("http://127.0.0.2:9/webhooks/acme")


async def _paused(care: Cared) -> None:
    care.register().status = "paused"


async def _several(care: Cared) -> None:
    care.register()
    care.register()


async def _stopped(care: Cared) -> None:
    care.register().status = "failing"


async def _unasked(care: Cared) -> None:
    care.scene.sandbox.world.add_key("sqk_test_acme", "acme", {"social:read"})


FOR_A_PERSON = {
    Problem.MISSING: (_missing, "healthd webhook register"),
    Problem.WRONG_URL: (_elsewhere, "healthd webhook repair --move"),
    Problem.PAUSED: (_paused, "healthd webhook repair"),
    Problem.SEVERAL: (_several, "healthd webhook rotate --finish"),
    Problem.FAILING: (_stopped, "healthd webhook test"),
    Problem.FORBIDDEN: (_unasked, "webhooks:read"),
}


@pytest.mark.parametrize("problem", FOR_A_PERSON)
async def test_what_a_person_must_mend_is_one_trouble_with_its_remedy_that_ends_by_itself(
    care: Cared, problem: Problem
) -> None:
    arrange, remedy = FOR_A_PERSON[problem]
    await arrange(care)
    before = [(e.url, e.status, e.events) for e in care.scene.sandbox.sender.endpoints.values()]
    rest = await care.look()
    trouble = await care.trouble()
    assert trouble is not None
    assert trouble.kind == f"webhook_{problem}"
    assert remedy in trouble.remedy
    assert (await care.looked()).problem == problem
    assert rest <= (2 * HOUR if problem is Problem.FORBIDDEN else LOOK_AGAIN).total_seconds()
    await care.later(2 * HOUR)
    assert await care.trouble() == trouble
    assert [(e.url, e.status, e.events) for e in care.scene.sandbox.sender.endpoints.values()] == before
    care.scene.sandbox.sender.endpoints.clear()
    care.scene.sandbox.world.add_key("sqk_test_acme", "acme")
    care.register()
    await care.later(2 * HOUR)
    assert await care.trouble() is None
    assert (await care.looked()).problem == ""


def test_what_does_not_pass_by_itself_is_told_at_once() -> None:
    at_once = {problem for problem in Problem if problem.kind in NEEDS_AN_OPERATOR}
    assert at_once == {Problem.MISSING, Problem.WRONG_URL, Problem.PAUSED, Problem.FORBIDDEN}


async def test_another_problem_is_another_trouble(care: Cared) -> None:
    await care.look()
    endpoint = care.register()
    endpoint.status = "paused"
    await care.later()
    trouble = await care.trouble()
    assert trouble is not None
    assert trouble.kind == "webhook_paused"


async def test_a_key_that_may_not_look_keeps_nothing_else_from_working(care: Cared) -> None:
    await _unasked(care)
    await care.look()
    assert care.asked("GET", "/webhooks") == 1
    assert not care.scene.workspace().resting
    await care.scene.sweep.bulk(care.scene.workspace())
    assert (await care.later(timedelta(minutes=30))) > 0
    assert care.asked("GET", "/webhooks") == 1


async def test_missing_events_are_added_to_those_that_are_there(care: Cared) -> None:
    endpoint = care.register(events=("post.published", "account.connected"))
    await care.look()
    assert endpoint.events[:2] == ("post.published", "account.connected")
    assert set(WANTED) <= set(endpoint.events)
    assert await care.trouble() is None
    assert (await care.looked()).repaired_at is not None
    assert care.counted("healthd_webhook_repairs_total", what="wrong_events") == 1


async def test_without_repair_it_is_told_and_left_alone(care: Cared) -> None:
    endpoint = care.register(events=("account.connected",))
    care.begin(repair=False)
    await care.look()
    assert endpoint.events == ("account.connected",)
    trouble = await care.trouble()
    assert trouble is not None
    assert trouble.kind == "webhook_wrong_events"
    assert "account.token_expired" in trouble.message


async def test_a_repair_that_the_key_may_not_make_is_told_with_the_scope_that_it_lacks(care: Cared) -> None:
    care.register(events=("account.connected",))
    care.scene.sandbox.world.add_key("sqk_test_acme", "acme", {"webhooks:read"})
    await care.look()
    trouble = await care.trouble()
    assert trouble is not None
    assert trouble.kind == "webhook_wrong_events"
    assert "webhooks:write" in trouble.message
    assert not care.scene.workspace().breaker.failures


async def test_an_api_that_fails_is_the_workspaces_trouble_and_ends_with_its_next_answer(care: Cared) -> None:
    care.register()
    care.scene.sandbox.faults.add(kind="status", status=503, path="/webhooks")
    await care.look()
    trouble = await care.trouble()
    assert trouble is not None
    assert (trouble.kind, trouble.question) == ("unavailable", "webhooks")
    assert care.scene.workspace().breaker.failures
    care.scene.sandbox.faults.active.clear()
    await care.later()
    assert await care.trouble() is None


async def test_what_was_found_wrong_is_forgotten_where_nobody_looks_any_more(care: Cared) -> None:
    await care.look()
    assert await care.trouble() is not None
    await care.begin().leave("acme")
    assert await care.trouble() is None
    assert await care.scene.store.read(subscriptions.get, "acme") is None


async def test_dead_and_pending_deliveries_are_read_back_once(care: Cared) -> None:
    endpoint = care.register()
    dead, pending = care.failed(endpoint, 2), care.failed(endpoint, 1, "pending")
    care.failed(endpoint, 1, "delivered")
    await care.look()
    assert sorted(await care.stored()) == sorted(one.event_id for one in (*dead, *pending))
    assert care.counted("healthd_webhooks_read_back_total", status="dead_letter") == 2
    assert care.counted("healthd_webhooks_read_back_total", status="pending") == 1
    await care.later(2 * HOUR)
    assert len(await care.stored()) == 3
    assert len(care.arrived) == 2, "nobody is woken for nothing"


async def test_a_delivery_after_all_is_recognised(care: Cared) -> None:
    [delivery] = care.failed(care.register())
    await care.look()
    provider = care.scene.workspace().provider
    again = Arrival("acme", provider.event_id(delivery.body), delivery.body, care.scene.now())
    assert await care.scene.store.run(inbox.store, [again]) == [False]


async def test_a_row_whose_payload_has_another_id_is_left_alone(care: Cared) -> None:
    [delivery] = care.failed(care.register())
    delivery.event_id = "evt_other"
    await care.look()
    assert await care.stored() == []


async def test_a_long_log_is_read_in_parts_to_where_the_last_reading_ended(
    care: Cared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_care, "PAGES_AT_ONCE", 3)
    endpoint = care.register()
    await care.look()
    assert (await care.looked()).read_back_to is None, "there is more to read"
    while (await care.looked()).read_back_to is None:
        await care.later(READ_ON)
    care.scene.travel(timedelta(days=9))
    care.failed(endpoint, 150)
    care.scene.travel(OVERLAP + HOUR)
    care.failed(endpoint, 250)
    first = await care.looked()
    looks = 0
    while (await care.looked()).read_back_to == first.read_back_to:
        assert await care.look() <= READ_ON.total_seconds() or (await care.looked()).read_back_to
        care.scene.travel(READ_ON)
        looks += 1
    assert looks > 3
    assert len(set(await care.stored())) == 400
    asked = care.asked("GET", "/webhooks/logs")
    care.scene.travel(2 * OVERLAP)
    [new] = care.failed(endpoint, 1)
    care.begin()
    monkeypatch.setattr(self_care, "PAGES_AT_ONCE", 20)
    await care.look()
    assert new.event_id in await care.stored()
    assert care.asked("GET", "/webhooks/logs") - asked == 12, "no page beyond the overlap"


async def test_that_the_log_was_read_is_not_on_record_before_what_was_read(
    care: Cared, monkeypatch: pytest.MonkeyPatch
) -> None:
    care.failed(care.register())
    store = subscriptions.read_back

    def die_at_the_end(connection: Any, workspace: str, arrivals: Sequence[Arrival], up_to: Any) -> list[bool]:
        done = store(connection, workspace, arrivals, up_to)
        if up_to is not None:
            raise StoreUnavailable("the disk is full")
        return done

    monkeypatch.setattr(subscriptions, "read_back", die_at_the_end)
    with pytest.raises(StoreUnavailable):
        await care.look()
    assert (await care.looked()).read_back_to is None
    monkeypatch.undo()
    care.begin()
    await care.look()
    assert (await care.looked()).read_back_to is not None
    assert len(await care.stored()) == 1
