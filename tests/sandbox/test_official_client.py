"""The provider's own Python client, unchanged, works against the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from smartlyq import SmartlyQ, SmartlyQConnectionError, SmartlyQError  # type: ignore[import-untyped]

from healthd.sandbox.world import PLATFORMS
from tests.sandbox.listener import Listener
from tests.sandbox.scene import Scene

Use = Callable[..., Any]


class Client:
    """The client blocks, so each of its calls runs in a thread."""

    def __init__(self, scene: Scene, key: str = "sqk_test_sandbox", **options: Any) -> None:
        self.sync: Any = SmartlyQ(key, base_url=f"{scene.url}/v1", **({"max_retries": 0, "timeout": 10} | options))

    async def __call__(self, resource: str, call: str, *args: Any, **named: Any) -> Any:
        return await asyncio.to_thread(getattr(getattr(self.sync, resource), call), *args, **named)


@pytest.fixture
def client(scene: Scene) -> Iterator[Client]:
    made = Client(scene)
    yield made
    made.sync.close()


async def test_it_learns_who_it_is(client: Client) -> None:
    assert (await client("account", "get_me"))["data"]["name"] == "sandbox"


async def test_it_lists_accounts_and_their_health_one_by_one_and_all_at_once(scene: Scene, client: Client) -> None:
    broken = scene.account("linkedin")
    scene.world.break_token(broken)
    listed = (await client("social", "list_accounts"))["data"]
    assert [row["platform"] for row in listed] == list(PLATFORMS)
    one = (await client("social", "get_account_health", str(broken.id)))["data"]
    assert (one["status"], one["token_expired"], one["validity_days"]) == ("expired", True, 0)
    everything = (await client("social", "bulk_account_health"))["data"]
    assert everything["expired"] == 1
    assert one | {"is_active": True} in everything["accounts"]


async def test_it_gets_a_link_that_repairs_the_account(scene: Scene, client: Client) -> None:
    broken = scene.account("linkedin")
    scene.world.break_token(broken)
    url = (await client("social", "get_account_reconnect_url", str(broken.id)))["data"]["reconnect_url"]
    await _consent(scene, url)
    assert (await client("social", "get_account_health", str(broken.id)))["data"]["status"] == "connected"


async def test_it_pauses_resumes_renames_and_disconnects(scene: Scene, client: Client) -> None:
    number = str(scene.account("tiktok").id)
    assert (await client("social", "pause_account", number))["data"] == {"id": int(number), "paused": True}
    assert (await client("social", "bulk_account_health"))["data"]["paused"] == 1
    assert (await client("social", "resume_account", number))["data"]["paused"] is False
    renamed = await client("social", "update_account", number, {"account_name": "Acme EU"})
    assert renamed["data"]["account_name"] == "Acme EU"
    assert (await client("social", "disconnect_account", number))["data"] is None
    assert len((await client("social", "list_accounts"))["data"]) == len(PLATFORMS) - 1


async def test_it_connects_a_new_account_and_polls_until_it_is_there(scene: Scene, client: Client) -> None:
    begun = (await client("social", "connect_account", "pinterest"))["data"]
    state = parse_qs(urlsplit(begun["connect_url"]).query)["token"][0]
    assert (await client("social", "connect_account_status", state))["data"]["status"] == "pending"
    await _consent(scene, begun["connect_url"])
    done = (await client("social", "connect_account_status", state))["data"]
    assert done["status"] == "connected"
    assert scene.world.accounts[done["account"]["account_id"]].platform == "pinterest"


async def test_it_connects_with_credentials_without_a_browser(scene: Scene, client: Client) -> None:
    done = await client("social", "connect_account", "telegram", {"bot_token": "1:A", "chat": "@acme"})
    assert scene.world.accounts[done["data"]["account"]["account_id"]].platform == "telegram"


async def test_it_manages_webhooks_and_their_log(scene: Scene, client: Client, listener: Listener) -> None:
    made = (await client("webhooks", "create", {"url": listener.url, "events": ["account.token_expired"]}))["data"]
    number = str(made["id"])
    assert [hook["id"] for hook in (await client("webhooks", "list"))["data"]["webhooks"]] == [made["id"]]
    assert (await client("webhooks", "test", number))["data"]["delivered"] is True
    assert listener.received[0].is_signed_with(made["secret"])
    await scene.do(f"/accounts/{scene.account('reddit').id}/expire")
    await scene.until(lambda: len(listener.received) == 2)
    await scene.until(lambda: all(d.status == "delivered" for d in scene.sandbox.sender.deliveries.values()))
    log = (await client("webhooks", "list_logs", query={"event": "account.token_expired"}))["data"]
    assert log["pagination"]["total"] == 1
    assert log["deliveries"][0]["payload"] == listener.received[1].event
    again = await client("webhooks", "replay_delivery", str(log["deliveries"][0]["id"]))
    assert again["data"]["status"] == "pending"
    await scene.until(lambda: len(listener.received) == 3)
    assert listener.received[2].body == listener.received[1].body
    paused = await client("webhooks", "update", number, {"status": "paused"})
    assert paused["data"]["status"] == "paused"
    await client("webhooks", "delete", number)
    assert (await client("webhooks", "list"))["data"]["webhooks"] == []


async def test_it_manages_profiles_and_acts_inside_them(scene: Scene, client: Client) -> None:
    made = await client("profiles", "create", {"name": "End customer", "external_id": "client-7"})
    number = str(made["id"])
    link = await client("profiles", "create_connect_link", number, {"platforms": ["threads"]})
    await _consent(scene, link["connect_url"])
    inside = (await client("social", "list_accounts", profile_id=number))["data"]
    assert [row["platform"] for row in inside] == ["threads"]
    listed = await client("profiles", "list_accounts", number)
    assert [row["id"] for row in listed["accounts"]] == [inside[0]["id"]]
    assert inside[0] not in (await client("social", "list_accounts"))["data"]
    assert (await client("profiles", "update", number, {"name": "Renamed"}))["name"] == "Renamed"
    assert [row["name"] for row in (await client("profiles", "list", query={"per_page": 5}))["profiles"]] == ["Renamed"]
    assert (await client("profiles", "get", number))["external_id"] == "client-7"
    assert (await client("profiles", "delete", number, {"confirm": "DELETE"}))["data"]["scheduled"] is True
    assert (await client("profiles", "list"))["profiles"] == []


ERRORS: dict[str, tuple[int, str, tuple[Any, ...]]] = {
    "a revoked key": (401, "INVALID_API_KEY", ("account", "get_me")),
    "a missing scope": (403, "INSUFFICIENT_SCOPE", ("social", "pause_account", "1001")),
    "an account that is not there": (404, "RESOURCE_NOT_FOUND", ("social", "get_account_health", "4711")),
    "a paused profile": (409, "CONFLICT", ("profiles", "create_connect_link", "201", {})),
    "a platform that is not offered": (422, "UNSUPPORTED_PLATFORM", ("social", "connect_account", "myspace")),
    "too many requests": (429, "RATE_LIMIT_EXCEEDED", ("account", "get_me")),
    "something the sandbox does not do": (404, "RESOURCE_NOT_FOUND", ("account", "get_me_usage")),
}


@pytest.mark.parametrize("trouble", ERRORS)
async def test_it_gets_typed_errors(scene: Scene, trouble: str) -> None:
    status, code, call = ERRORS[trouble]
    scene.world.add_key("sqk_test_reader", "sandbox", ["social:read"])
    scene.world.add_profile("sandbox", "Asleep", None).status = "paused"
    key = "sqk_test_reader" if status == 403 else "sqk_test_sandbox"
    scene.world.keys["sqk_test_sandbox"].revoked = status == 401
    scene.world.workspaces["sandbox"].limit = 0 if status == 429 else None
    client = Client(scene, key)
    with pytest.raises(SmartlyQError) as caught:
        await client(*call)
    client.sync.close()
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id.startswith("req_")


async def test_it_waits_and_tries_again_when_it_asked_too_often(scene: Scene) -> None:
    scene.sandbox.faults.add(kind="status", status=429, times=2, headers={"Retry-After": "0.01"})
    client = Client(scene, max_retries=2)
    assert (await client("account", "get_me"))["success"] is True
    client.sync.close()
    assert [entry["status"] for entry in scene.sandbox.api.requests] == [429, 429, 200]


async def test_it_says_so_when_the_connection_is_cut(scene: Scene, client: Client) -> None:
    scene.sandbox.faults.add(kind="drop")
    with pytest.raises(SmartlyQConnectionError):
        await client("account", "get_me")


async def test_its_idempotency_key_keeps_a_repeated_call_from_acting_twice(scene: Scene, client: Client) -> None:
    first = await client("profiles", "create", {"name": "Once"}, idempotency_key="k1")
    assert await client("profiles", "create", {"name": "Once"}, idempotency_key="k1") == first
    assert len(scene.world.profiles) == 1
    with pytest.raises(SmartlyQError) as caught:
        await client("profiles", "create", {"name": "Twice"}, idempotency_key="k1")
    assert (caught.value.status_code, caught.value.code) == (409, "IDEMPOTENCY_CONFLICT")
    await scene.advance(timedelta(hours=24))
    assert (await client("profiles", "create", {"name": "Twice"}, idempotency_key="k1"))["name"] == "Twice"


async def _consent(scene: Scene, url: str) -> None:
    await scene.http.get(url)
    token = parse_qs(urlsplit(url).query)["token"][0]
    form = scene.world.links[token].form
    await scene.http.post(url, data={"token": token, "form": str(form), "decision": "approve"})
