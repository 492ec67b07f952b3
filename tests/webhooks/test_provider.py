"""What the API's answers about webhooks may and may not do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from healthd.providers.base import BadAnswer, DeliveryStatus, SubscriptionStatus, Unavailable
from healthd.providers.subscriptions import LARGEST_PAYLOAD, ROWS
from tests.loopback import answer
from tests.providers.peer import Peer, ok, peer_on_loopback
from tests.providers.test_smartlyq import Client

SECRET = "whsec_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
ROW = {"id": 12, "url": "https://h.example.com/webhooks/acme", "events": ["account.connected"], "status": "active"}


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with peer_on_loopback() as made:
        yield made


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Client]:
    made = Client(peer.url)
    async with made.session():
        yield made


STATUSES = {"active": "active", "paused": "paused", "disabled": "paused", "failing": "failing", "published": "unknown"}


@pytest.mark.parametrize("said", STATUSES)
async def test_the_list_is_read_in_the_words_of_every_page_of_the_contract(
    peer: Peer, client: Client, said: str
) -> None:
    row = ROW | {"status": said, "last_triggered_at": "2026-03-01 15:30:00"}
    peer.says(ok({"webhooks": [row], "events": ["account.connected"]}))
    found = await client.webhooks()
    assert found.catalogue == {"account.connected"}
    assert found.rows[0].status is SubscriptionStatus(STATUSES[said])
    assert found.rows[0].triggered_at == datetime(2026, 3, 1, 15, 30, tzinfo=UTC)


UNREADABLE: list[Any] = [None, [], {}, {"webhooks": None}, {"webhooks": [ROW, None]}, {"webhooks": [ROW | {"id": "x"}]}]


@pytest.mark.parametrize("data", UNREADABLE, ids=map(repr, UNREADABLE))
async def test_a_list_with_a_hole_is_no_list(peer: Peer, client: Client, data: Any) -> None:
    peer.says(ok(data))
    with pytest.raises(BadAnswer):
        await client.webhooks()


async def test_the_secret_of_a_new_webhook_shows_in_nothing_that_is_printed_or_logged(
    peer: Peer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    peer.says(ok(ROW | {"secret": SECRET}))
    made = await client.create_webhook(ROW["url"], ["account.connected"])  # type: ignore[arg-type]
    assert made.secret.get_secret_value() == SECRET
    assert SECRET not in repr(made) + str(made) + str(asdict(made)) + caplog.text
    assert orjson.loads(peer.asked[0].body) == {"url": ROW["url"], "events": ["account.connected"]}


async def test_a_webhook_whose_making_met_silence_is_asked_for_under_the_same_key(peer: Peer, client: Client) -> None:
    peer.says(answer(502), ok(ROW | {"secret": SECRET}))
    await client.create_webhook("https://h.example.com/", [])
    first, second = (asked.headers["x-idempotency-key"] for asked in peer.asked)
    assert first == second
    await client.create_webhook("https://h.example.com/", [])
    assert peer.asked[-1].headers["x-idempotency-key"] != first


async def test_other_changes_are_made_once(peer: Peer, client: Client) -> None:
    peer.says(answer(502))
    for change in (
        client.update_webhook("12", status="active"),
        client.delete_webhook("12"),
        client.test_webhook("12"),
    ):
        peer.asked.clear()
        with pytest.raises(Unavailable):
            await change
        assert len(peer.asked) == 1


@pytest.mark.parametrize("data", [None, ROW, ROW | {"secret": ""}, {"secret": SECRET}])
async def test_a_webhook_without_its_secret_was_not_made(peer: Peer, client: Client, data: Any) -> None:
    peer.says(ok(data))
    with pytest.raises(BadAnswer) as caught:
        await client.create_webhook("https://h.example.com/", [])
    assert SECRET not in str(caught.value)


async def test_an_answer_about_another_webhook_is_none(peer: Peer, client: Client) -> None:
    peer.says(ok(ROW))
    assert (await client.update_webhook("12", events=["account.connected"])).ref == "12"
    assert orjson.loads(peer.asked[0].body) == {"events": ["account.connected"]}
    with pytest.raises(BadAnswer):
        await client.update_webhook("13", status="active")


def logged(**changes: Any) -> dict[str, Any]:
    payload = {"id": "evt_1", "event": "account.connected", "created_at": "2026-11-24T11:00:00Z", "data": {}}
    row = {"id": 1, "event": "account.connected", "event_id": "evt_1", "created_at": "2026-11-24T11:00:00Z"}
    return row | {"response_code": None, "payload": payload} | changes


ODD: dict[str, tuple[dict[str, Any], bytes | None]] = {
    "no payload": ({"payload": None}, b""),
    "an empty one": ({"payload": {}}, b""),
    "one that is larger than a webhook may be": ({"payload": {"x": "x" * LARGEST_PAYLOAD}}, b""),
    "no id": ({"event_id": None}, None),
    "no time": ({"created_at": "yesterday"}, None),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_row_of_the_log_disturbs_no_other(peer: Peer, client: Client, name: str) -> None:
    changes, body = ODD[name]
    peer.says(ok({"deliveries": [logged(**changes), logged()], "pagination": {"total": 2}}))
    seen = await client.deliveries(DeliveryStatus.DEAD_LETTER, event="account.connected")
    assert orjson.loads(seen.rows[-1].body) == logged()["payload"]
    assert [row.body for row in seen.rows[:-1]] == ([] if body is None else [body])
    assert (seen.total, seen.is_last) == (2, True)


async def test_the_log_is_asked_page_by_page(peer: Peer, client: Client) -> None:
    peer.says(ok({"deliveries": [logged()] * ROWS, "pagination": {"total": 250}}))
    seen = await client.deliveries(DeliveryStatus.PENDING, webhook="12", page=2)
    assert peer.asked[0].path == "/v1/webhooks/logs?status=pending&webhook_id=12&page=2&per_page=100"
    assert (seen.total, seen.is_last) == (250, False)


async def test_a_test_tells_what_came_back(peer: Peer, client: Client) -> None:
    body = {"event_id": "evt_9", "response_code": 401, "response_body": "invalid signature\n"}
    peer.says(ok({"delivered": False, **body}))
    trial = await client.test_webhook("12")
    assert (trial.delivered, trial.code, trial.said, trial.event_id) == (False, 401, "invalid signature", "evt_9")
