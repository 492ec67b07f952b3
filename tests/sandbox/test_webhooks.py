"""Webhooks: signed, retried on the provider's schedule, logged, replayed, and stopped when nobody takes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from healthd.sandbox.sender import EVENTS, Delivery, Endpoint
from tests.loopback import answer
from tests.sandbox.listener import Listener, Received
from tests.sandbox.scene import SECRET, START, Scene, served

MINUTE = timedelta(minutes=1)


def register(scene: Scene, listener: Listener, **more: Any) -> Endpoint:
    return scene.sandbox.sender.register("sandbox", listener.url, EVENTS, SECRET, **more)


def emit(scene: Scene, number: int = 1) -> list[Delivery]:
    account = scene.account("facebook")
    return [
        delivery
        for _ in range(number)
        for delivery in scene.sandbox.api.tell(account, "account.token_expired", reason="Token expired.")
    ]


async def received(scene: Scene, listener: Listener, count: int) -> list[Received]:
    """Waits for so many, and for what the sandbox does after each."""
    await scene.until(lambda: len(listener.received) >= count, f"{count} deliveries")
    await at_rest(scene)
    assert len(listener.received) == count
    return listener.received


async def at_rest(scene: Scene) -> None:
    """Everything has been delivered, given up, or waits for a time to come."""
    sender = scene.sandbox.sender

    def rests() -> bool:
        return all(
            delivery.id not in sender._under_way or delivery.next_retry_at is not None
            for delivery in sender.deliveries.values()
        )

    await scene.until(rests, "rest")


async def test_a_webhook_carries_its_event_its_id_and_a_good_signature(scene: Scene, listener: Listener) -> None:
    register(scene, listener)
    [delivery] = emit(scene)
    [got] = await received(scene, listener, 1)
    assert got.is_signed_with(SECRET)
    assert not got.is_signed_with(SECRET + "x")
    assert got.signed_at == int(START.timestamp())
    assert got.headers["x-smartlyq-event"] == got.event["event"] == "account.token_expired"
    assert got.headers["x-smartlyq-event-id"] == got.event["id"] == delivery.event_id
    assert got.headers["user-agent"] == "SmartlyQ-Webhook/1.0"
    assert got.event["created_at"] == "2026-03-01T16:00:00Z"


async def test_only_who_subscribes_is_told_and_all_of_them_get_the_same_event(scene: Scene, listener: Listener) -> None:
    sender = scene.sandbox.sender
    for events in (("account.token_expired",), ("account.connected",), ("account.token_expired", "post.failed")):
        sender.register("sandbox", listener.url, events)
    scene.world.add_workspace("other")
    sender.register("other", listener.url, EVENTS)
    emit(scene)
    got = await received(scene, listener, 2)
    assert len({one.event["id"] for one in got}) == 1


async def test_a_failed_delivery_is_tried_five_times_more_and_is_then_a_dead_letter(
    scene: Scene, listener: Listener
) -> None:
    register(scene, listener)
    listener.says(answer(500, b"out of order"))
    [delivery] = emit(scene)
    for number, pause in enumerate((2, 4, 8, 16, 32), start=1):
        await received(scene, listener, number)
        assert delivery.next_retry_at == scene.world.now() + pause * MINUTE
        await scene.advance(pause * MINUTE - timedelta(seconds=1))
        await received(scene, listener, number)
        await scene.advance(timedelta(seconds=1))
    got = await received(scene, listener, 6)
    assert (delivery.status, delivery.attempt, delivery.next_retry_at) == ("dead_letter", 6, None)
    assert (delivery.response_code, delivery.response_body) == (500, "out of order")
    assert len({one.body for one in got}) == 1
    minutes = [(one.signed_at - int(START.timestamp())) // 60 for one in got]
    assert minutes == [0, 2, 6, 14, 30, 62]
    assert all(one.is_signed_with(SECRET) for one in got)
    await scene.advance(timedelta(days=1))
    await received(scene, listener, 6)


async def test_a_scaled_schedule_runs_by_itself(listener: Listener) -> None:
    async with served(clock=None, time_scale=100_000.0) as scene:
        register(scene, listener)
        listener.says(answer(503), answer(503), answer(200))
        [delivery] = emit(scene)
        await received(scene, listener, 3)
        assert (delivery.status, delivery.attempt) == ("delivered", 3)


ASKED = {"90": 90, "3600": 3600, "7200": 3600, "soon": 120, "-1": 120, "9" * 40: 120}


@pytest.mark.parametrize("retry_after", ASKED)
async def test_somebody_who_is_busy_is_left_alone_as_long_as_he_asks_but_an_hour_at_most(
    scene: Scene, listener: Listener, retry_after: str
) -> None:
    register(scene, listener)
    listener.says(answer(429, headers={"retry-after": retry_after}), answer(200))
    [delivery] = emit(scene)
    await received(scene, listener, 1)
    assert delivery.next_retry_at == START + timedelta(seconds=ASKED[retry_after])
    await scene.advance(timedelta(seconds=ASKED[retry_after]))
    await received(scene, listener, 2)
    assert delivery.status == "delivered"


async def test_only_429_may_ask_for_another_time(scene: Scene, listener: Listener) -> None:
    register(scene, listener)
    listener.says(answer(503, headers={"retry-after": "7"}))
    [delivery] = emit(scene)
    await received(scene, listener, 1)
    assert delivery.next_retry_at == START + 2 * MINUTE


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 410, 500, 503])
async def test_anything_but_a_2xx_is_a_failure(scene: Scene, listener: Listener, status: int) -> None:
    register(scene, listener)
    listener.says(answer(status, headers={"location": listener.url}))
    [delivery] = emit(scene)
    await received(scene, listener, 1)
    assert (delivery.status, delivery.response_code) == ("pending", status)


async def test_an_address_where_nobody_listens_is_a_failure_without_an_answer(scene: Scene) -> None:
    for url in ("http://127.0.0.1:1/", "http://127.0.0.1:99999/"):
        scene.sandbox.sender.register("sandbox", url, EVENTS)
    deliveries = emit(scene)
    await at_rest(scene)
    assert [(d.status, d.response_code, d.attempt) for d in deliveries] == [("pending", None, 1)] * 2


async def test_ten_failures_in_a_row_stop_an_endpoint_until_it_is_made_active(scene: Scene, listener: Listener) -> None:
    endpoint = register(scene, listener)
    listener.says(answer(500))
    emit(scene, 9)
    await received(scene, listener, 9)
    assert endpoint.status == "active"
    emit(scene)
    await received(scene, listener, 10)
    assert [hook["status"] for hook in (await scene.data("GET", "/webhooks"))["webhooks"]] == ["failing"]
    listener.says(answer(200))
    [waiting] = emit(scene)
    await scene.advance(timedelta(hours=2))
    await received(scene, listener, 10)
    assert waiting.status == "pending"
    await scene.data("PUT", f"/webhooks/{endpoint.id}", {"status": "active"})
    await received(scene, listener, 21)
    assert {delivery.status for delivery in scene.sandbox.sender.deliveries.values()} == {"delivered"}
    assert endpoint.status == "active"


async def test_one_success_among_failures_starts_the_count_again(scene: Scene, listener: Listener) -> None:
    endpoint = register(scene, listener)
    listener.says(*[answer(500)] * 9, answer(200), answer(500))
    for number in range(1, 20):
        emit(scene)
        await received(scene, listener, number)
    assert endpoint.status == "active"
    emit(scene)
    await received(scene, listener, 20)
    assert endpoint.status == "failing"


async def test_making_an_endpoint_active_neither_repeats_nor_hurries_what_waits_for_its_time(
    scene: Scene, listener: Listener
) -> None:
    endpoint = register(scene, listener)
    listener.says(answer(500), answer(200))
    emit(scene)
    await received(scene, listener, 1)
    await scene.data("PUT", f"/webhooks/{endpoint.id}", {"status": "active"})
    await scene.advance(2 * MINUTE)
    first, second = await received(scene, listener, 2)
    assert second.signed_at - first.signed_at == 120


async def test_what_happens_while_an_endpoint_is_paused_is_sent_afterwards(scene: Scene, listener: Listener) -> None:
    endpoint = register(scene, listener)
    await scene.data("PUT", f"/webhooks/{endpoint.id}", {"status": "paused"})
    emit(scene)
    await received(scene, listener, 0)
    await scene.data("PUT", f"/webhooks/{endpoint.id}", {"status": "active"})
    await received(scene, listener, 1)


async def test_a_deleted_endpoint_gets_nothing_more_not_even_retries(scene: Scene, listener: Listener) -> None:
    endpoint = register(scene, listener)
    listener.says(answer(500))
    emit(scene)
    await received(scene, listener, 1)
    await scene.data("DELETE", f"/webhooks/{endpoint.id}")
    await scene.advance(timedelta(hours=1))
    emit(scene)
    await received(scene, listener, 1)


async def test_a_test_is_sent_once_whatever_the_endpoints_status_and_tells_what_came_back(
    scene: Scene, listener: Listener
) -> None:
    endpoint = register(scene, listener)
    endpoint.status = "failing"
    listener.says(answer(418, b"x" * 600))
    told = await scene.data("POST", f"/webhooks/{endpoint.id}/test")
    assert (told["delivered"], told["response_code"], told["response_body"]) == (False, 418, "x" * 500)
    await scene.advance(timedelta(hours=1))
    [got] = await received(scene, listener, 1)
    assert got.event["event"] == "webhook.test"
    assert got.event["id"] == told["event_id"]
    assert got.is_signed_with(SECRET)


async def test_a_replay_sends_the_same_event_signed_afresh_and_counts_from_the_start(
    scene: Scene, listener: Listener
) -> None:
    register(scene, listener)
    listener.says(answer(500))
    [delivery] = emit(scene)
    await received(scene, listener, 1)
    await scene.advance(MINUTE)
    listener.says(answer(500), answer(200))
    queued = await scene.api("POST", f"/webhooks/deliveries/{delivery.id}/replay")
    assert (queued.status_code, queued.json()["data"]["status"]) == (202, "pending")
    first, again = await received(scene, listener, 2)
    assert (again.body, again.signed_at) == (first.body, first.signed_at + 60)
    assert again.is_signed_with(SECRET)
    assert delivery.attempt == 1
    await scene.advance(2 * MINUTE)
    await received(scene, listener, 3)
    assert (delivery.status, delivery.attempt) == ("delivered", 2)


async def test_the_log_has_pages_and_filters_and_the_newest_first(scene: Scene, listener: Listener) -> None:
    endpoint = register(scene, listener)
    other = scene.sandbox.sender.register("sandbox", listener.url, ("account.connected",))
    emit(scene, 3)
    scene.sandbox.api.tell(scene.account("facebook"), "account.connected")
    await received(scene, listener, 5)
    listener.says(answer(500))
    emit(scene)
    await received(scene, listener, 6)

    async def ids(query: str) -> list[int]:
        log = await scene.data("GET", f"/webhooks/logs?{query}")
        return [row["id"] for row in log["deliveries"]]

    assert await ids("") == [9006, 9005, 9004, 9003, 9002, 9001]
    assert await ids("per_page=4&page=2") == [9002, 9001]
    assert await ids("event=account.connected") == [9005, 9004]
    assert await ids(f"webhook_id={other.id}") == [9005]
    assert await ids(f"webhook_id={endpoint.id}&event=account.connected") == [9004]
    assert await ids("status=pending") == [9006]
    assert await ids("status=dead_letter") == []
    pagination = (await scene.data("GET", "/webhooks/logs?per_page=4"))["pagination"]
    assert pagination == {"total": 6, "page": 1, "per_page": 4, "total_pages": 2}


async def test_the_log_forgets_after_ninety_days(scene: Scene, listener: Listener) -> None:
    register(scene, listener)
    emit(scene)
    await received(scene, listener, 1)
    await scene.advance(timedelta(days=90))
    assert (await scene.data("GET", "/webhooks/logs"))["pagination"]["total"] == 1
    await scene.advance(timedelta(seconds=1))
    assert (await scene.data("GET", "/webhooks/logs"))["pagination"]["total"] == 0


async def test_a_workspace_has_ten_active_webhooks_at_most(scene: Scene) -> None:
    hook = {"url": "https://hooks.example/in", "events": ["account.connected"]}
    made = [await scene.data("POST", "/webhooks", hook) for _ in range(10)]
    assert (await scene.api("POST", "/webhooks", hook)).status_code == 422
    await scene.data("PUT", f"/webhooks/{made[0]['id']}", {"status": "paused"})
    await scene.data("POST", "/webhooks", hook)
    assert (await scene.api("PUT", f"/webhooks/{made[0]['id']}", {"status": "active"})).status_code == 422
    assert (await scene.api("PUT", f"/webhooks/{made[1]['id']}", {"status": "active"})).status_code == 200


async def test_the_secret_is_told_once(scene: Scene) -> None:
    hook = {"url": "https://hooks.example/in", "events": ["account.connected"]}
    made = await scene.data("POST", "/webhooks", hook)
    assert made["secret"].startswith("whsec_")
    changed = await scene.data("PUT", f"/webhooks/{made['id']}", {"url": "https://hooks.example/other"})
    assert changed["url"] == "https://hooks.example/other"
    assert "secret" not in changed
    assert made["secret"] not in (await scene.api("GET", "/webhooks")).text


async def test_a_change_that_is_refused_changes_nothing(scene: Scene, listener: Listener) -> None:
    endpoint = register(scene, listener)
    body = {"url": "https://hooks.example/other", "events": ["account.gone"], "status": "paused"}
    assert (await scene.api("PUT", f"/webhooks/{endpoint.id}", body)).status_code == 422
    assert (endpoint.url, endpoint.events, endpoint.status) == (listener.url, EVENTS, "active")
    assert (await scene.api("PUT", f"/webhooks/{endpoint.id}", {})).status_code == 422
