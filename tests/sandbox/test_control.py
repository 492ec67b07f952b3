"""What a sandbox does on request, and what it says to somebody who asks wrongly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from healthd.sandbox.sender import EVENTS
from tests.sandbox.listener import Listener
from tests.sandbox.scene import SECRET, START, Scene, served

ACTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "expire": ({"status": "expired", "token_expired": True, "validity_days": 0}, "account.token_expired"),
    "disconnect": ({"status": "error", "token_expired": False}, "account.disconnected"),
    "error": ({"status": "error", "token_expired": False}, None),
    "reconnect": ({"status": "connected", "token_expired": False, "validity_days": 60}, "account.connected"),
    "pause": ({"is_active": False}, None),
    "resume": ({"is_active": True}, None),
}


def take(scene: Scene, listener: Listener) -> None:
    scene.sandbox.sender.register("sandbox", listener.url, EVENTS, SECRET)


async def events(scene: Scene, listener: Listener) -> list[dict[str, Any]]:
    """What was heard, once nothing is under way any more."""
    await scene.until(lambda: not scene.sandbox.sender._under_way)
    return [got.event for got in listener.received]


@pytest.mark.parametrize("webhook", [True, False])
@pytest.mark.parametrize("what", ACTS)
async def test_an_account_does_what_it_is_told_with_or_without_a_webhook(
    scene: Scene, listener: Listener, what: str, webhook: bool
) -> None:
    take(scene, listener)
    number = scene.account("facebook").id
    if what == "reconnect":
        await scene.do(f"/accounts/{number}/expire", webhook=False)
    if what == "resume":
        await scene.do(f"/accounts/{number}/pause")
    await scene.do(f"/accounts/{number}/{what}", webhook=webhook)
    wanted, event = ACTS[what]
    rows = {row["id"]: row for row in (await scene.data("GET", "/social/accounts/health"))["accounts"]}
    assert rows[number].items() >= wanted.items()
    assert [got["event"] for got in await events(scene, listener)] == ([event] if event and webhook else [])


@pytest.mark.parametrize(
    ("published", "event", "status"),
    [([], "post.failed", "failed"), (["linkedin"], "post.partial", "partially_published")],
)
async def test_a_post_fails_and_its_event_does_not_say_for_which_account(
    scene: Scene, listener: Listener, published: list[str], event: str, status: str
) -> None:
    take(scene, listener)
    account = scene.account("facebook")
    before = await scene.data("GET", "/social/accounts/health")
    told = await scene.do(f"/accounts/{account.id}/fail_post", code="AUTH_FAILED", message="No.", published=published)
    [got] = await events(scene, listener)
    failed = {"code": "AUTH_FAILED", "message": "No.", "retryable": False}
    assert got["event"] == event
    assert got["data"] == {
        "post_id": told["post_id"],
        "status": status,
        "platforms": [
            {"platform": "facebook", "success": False, "error": failed},
            *({"platform": platform, "success": True} for platform in published),
        ],
    }
    assert (await scene.data("GET", "/social/accounts/health")) == before


async def test_each_post_that_fails_is_another_unless_its_number_is_given(scene: Scene) -> None:
    number = scene.account("facebook").id
    posts = [(await scene.do(f"/accounts/{number}/fail_post", **more))["post_id"] for more in ({}, {}, {"post_id": 7})]
    assert posts[0] != posts[1]
    assert posts[2] == 7


async def test_a_deleted_account_is_gone_and_says_so(scene: Scene, listener: Listener) -> None:
    take(scene, listener)
    number = scene.account("facebook").id
    await scene.do(f"/accounts/{number}/delete")
    assert (await scene.api("GET", f"/social/accounts/{number}/health")).status_code == 404
    [got] = await events(scene, listener)
    assert (got["event"], got["data"]["account_id"]) == ("account.disconnected", number)


async def test_an_event_can_be_late_old_repeated_and_of_a_chosen_id_and_reason(
    scene: Scene, listener: Listener
) -> None:
    take(scene, listener)
    await scene.do(
        f"/accounts/{scene.account('facebook').id}/expire",
        delay=30, duplicates=2, event_id="evt_mine", created_at="2026-02-28T00:00:00Z", reason="Password changed.",
    )  # fmt: skip
    assert listener.received == []
    await scene.advance(timedelta(seconds=30))
    got = await events(scene, listener)
    assert len(got) == 3
    assert {event["id"] for event in got} == {"evt_mine"}
    assert {event["created_at"] for event in got} == {"2026-02-28T00:00:00Z"}
    assert {event["data"]["reason"] for event in got} == {"Password changed."}


async def test_many_accounts_expire_at_once(scene: Scene, listener: Listener) -> None:
    async with served(accounts=160) as many:
        many.sandbox.sender.register("sandbox", listener.url, EVENTS)
        told = await many.do("/expire", count=5, platform="tiktok")
        assert told["expired"] == 5
        assert {many.world.accounts[number].platform for number in told["ids"]} == {"tiktok"}
        assert len(await events(many, listener)) == 5
        assert (await many.do("/expire", count=1000, webhook=False))["expired"] == 155
        assert len(await events(many, listener)) == 5


async def test_a_platform_goes_down_with_all_its_accounts_and_comes_up_again(scene: Scene, listener: Listener) -> None:
    take(scene, listener)
    account = scene.account("tiktok")
    path = f"/social/accounts/{account.id}/health"
    assert (await scene.do("/platforms/tiktok/down"))["webhooks"] == 1
    assert (await scene.data("GET", path))["status"] == "expired"
    await scene.do(f"/accounts/{account.id}/reconnect", webhook=False)
    assert (await scene.data("GET", path))["status"] == "expired"
    assert [got["event"] for got in await events(scene, listener)] == ["account.token_expired"]
    assert (await scene.do("/platforms/tiktok/up"))["down"] == []
    assert (await scene.data("GET", path))["status"] == "connected"


FIELDS = {
    "status": "published", "token_expired": "maybe", "validity_days": None, "is_active": False, "name": "A\u202eb",
    "username": None, "platform": "mastodon", "connected_at": 0, "profile": 201,
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
async def test_any_field_of_an_account_can_be_set_sense_or_not_and_the_api_goes_on(scene: Scene, name: str) -> None:
    profile = scene.world.add_profile("sandbox", "End customer", None)
    number = scene.account("facebook").id
    changed = (await scene.control("PATCH", f"/accounts/{number}", {name: FIELDS[name]})).json()
    assert changed[name] == FIELDS[name]
    inside = {"x_profile_id": str(profile.id)} if name == "profile" else {}
    rows = (await scene.data("GET", "/social/accounts/health", **inside))["accounts"]
    [row] = [row for row in rows if row["id"] == number]
    shown = {"name": "account_name"}.get(name, name)
    if shown in row:
        assert row[shown] == FIELDS[name]
    for path in ("/", "/_sandbox/state", "/_sandbox/accounts"):
        assert (await scene.http.get(scene.url + path)).status_code == 200
    assert (await scene.api("GET", f"/profiles/{profile.id}/accounts")).status_code == 200


async def test_accounts_are_made_and_found(scene: Scene, listener: Listener) -> None:
    take(scene, listener)
    made = await scene.do("/accounts", platform="mastodon", name="Acme", username="acme", webhook=True)
    assert (made[0]["name"], made[0]["username"]) == ("Acme", "acme")
    assert [got["event"] for got in await events(scene, listener)] == ["account.connected"]
    assert len(await scene.do("/accounts", workspace="second", count=20)) == 20
    assert len(await scene.data("GET", "/social/accounts", key="sqk_test_second")) == 20

    async def found(query: str) -> list[int]:
        return [row["id"] for row in (await scene.control("GET", f"/accounts?{query}")).json()]

    assert await found("platform=mastodon") == [made[0]["id"]]
    assert len(await found("workspace=second&limit=7")) == 7
    await scene.do(f"/accounts/{made[0]['id']}/error")
    assert await found("status=error") == [made[0]["id"]]
    assert (await scene.control("GET", f"/accounts/{made[0]['id']}")).json()["status"] == "error"


async def test_keys_come_and_go(scene: Scene) -> None:
    assert (await scene.api("GET", "/social/accounts", key="sqk_live_x")).status_code == 401
    await scene.do("/keys", key="sqk_live_x", scopes=["social:read"])
    assert (await scene.api("GET", "/social/accounts", key="sqk_live_x")).status_code == 200
    assert (await scene.api("GET", "/webhooks", key="sqk_live_x")).status_code == 403
    await scene.do("/keys", key="sqk_live_x")
    assert (await scene.api("GET", "/webhooks", key="sqk_live_x")).status_code == 200
    await scene.control("DELETE", "/keys/sqk_live_x")
    assert (await scene.api("GET", "/social/accounts", key="sqk_live_x")).status_code == 401


async def test_a_profile_is_paused_deleted_and_brought_back(scene: Scene) -> None:
    number = scene.world.add_profile("sandbox", "End customer", None).id
    for status, answer in {"paused": 409, "deleted": 404, "active": 200}.items():
        await scene.do(f"/profiles/{number}/{status}")
        assert (await scene.api("GET", "/social/accounts", x_profile_id=str(number))).status_code == answer


async def test_any_event_can_be_sent_even_one_that_nobody_could_subscribe_to(scene: Scene, listener: Listener) -> None:
    take(scene, listener)
    sent = await scene.do("/events", event="account.shadowbanned", data={"account_id": 1001}, id="evt_1", duplicates=1)
    assert len(sent["deliveries"]) == 2
    got = await events(scene, listener)
    assert got == [got[0]] * 2
    assert (got[0]["id"], got[0]["event"], got[0]["data"]) == ("evt_1", "account.shadowbanned", {"account_id": 1001})


@pytest.mark.parametrize("raw", ["not JSON", "", "[1]", '{"id": "evt_\\ud800"}', "\u0000"])
async def test_any_text_can_be_sent_under_a_good_signature(scene: Scene, listener: Listener, raw: str) -> None:
    take(scene, listener)
    await scene.do("/events", raw=raw)
    await scene.until(lambda: len(listener.received) == 1)
    assert listener.received[0].body == raw.encode()
    assert listener.received[0].is_signed_with(SECRET)
    assert (await scene.data("GET", "/webhooks/logs"))["deliveries"][0]["event_id"].startswith("evt_")


async def test_a_webhook_with_a_known_secret_may_go_anywhere(scene: Scene, listener: Listener) -> None:
    made = await scene.do("/webhooks", url="http://healthd.example:8080/webhooks/x", secret=SECRET)
    assert made["secret"] == SECRET
    own = await scene.do("/webhooks", url=listener.url, events=["account.connected"])
    await scene.do(f"/accounts/{scene.account('tiktok').id}/reconnect")
    await scene.until(lambda: len(listener.received) == 1)
    assert listener.received[0].is_signed_with(own["secret"])
    hooks = (await scene.control("GET", "/state")).json()["webhooks"]
    assert [hook["secret"] for hook in hooks] == [SECRET, own["secret"]]


async def test_the_state_sums_everything_up(scene: Scene) -> None:
    await scene.do("/expire", count=3, webhook=False)
    await scene.do("/platforms/gmb/down", webhook=False)
    await scene.do("/faults", kind="drop", path="/me")
    await scene.api("GET", f"/social/accounts/{scene.account('tiktok').id}/reconnect-url")
    state = (await scene.control("GET", "/state")).json()
    assert state["statuses"] == {"expired": 3, "connected": 13}
    assert state["platforms_down"] == ["gmb"]
    assert state["links"] == {"minted": 1, "opened": 0}
    assert [fault["path"] for fault in state["faults"]] == ["/me"]
    assert state["workspaces"]["sandbox"] == {"accounts": 16, "key": "sqk_test_sandbox", "limit": 100_000}
    assert state["now"] == START.isoformat()


async def test_requests_and_deliveries_can_be_looked_up(scene: Scene, listener: Listener) -> None:
    take(scene, listener)
    await scene.api("GET", "/social/accounts/1001/health")
    await scene.api("GET", "/me", key="wrong")
    found = (await scene.control("GET", "/requests?path=/health")).json()
    assert [(row["method"], row["path"], row["status"]) for row in found] == [
        ("GET", "/v1/social/accounts/1001/health", 200)
    ]
    assert (await scene.control("GET", "/requests")).json()[1]["workspace"] is None
    await scene.do("/accounts/1001/expire")
    await events(scene, listener)
    [row] = (await scene.control("GET", "/deliveries?status=delivered")).json()
    assert (row["event"], row["attempt"], row["response_code"]) == ("account.token_expired", 1, 200)


WRONG: dict[str, tuple[str, str, object, int, str]] = {
    "an unknown act": ("POST", "/accounts/1001/explode", {}, 422, "expire, disconnect"),
    "an unknown account": ("POST", "/accounts/7/expire", {}, 404, "no such account"),
    "a mistyped option": ("POST", "/accounts/1001/expire", {"web_hook": False}, 422, "web_hook"),
    "an option where there is none": ("GET", "/state?x=1", None, 422, "takes nothing"),
    "no count": ("POST", "/expire", {}, 422, "count is missing"),
    "half a count": ("POST", "/expire", {"count": 1.5}, 422, "count must be a whole number"),
    "a count below zero": ("POST", "/accounts", {"count": -1}, 422, "count must be"),
    "a count beyond reason": ("POST", "/accounts", {"count": 10**12}, 422, "count must be"),
    "a limit in words": ("GET", "/accounts?limit=all", None, 422, "limit must be"),
    "a delay in words": ("POST", "/accounts/1001/expire", {"delay": "later"}, 422, "delay must be a number"),
    "an endless delay": ("POST", "/accounts/1001/expire", {"delay": "inf"}, 422, "delay must be a number"),
    "a delay that is no number": ("POST", "/accounts/1001/expire", {"delay": "nan"}, 422, "delay must be a number"),
    "an id for no header": ("POST", "/accounts/1001/expire", {"event_id": "a\r\nb"}, 422, "plain ASCII"),
    "a list": ("POST", "/expire", [1], 422, "JSON object"),
    "a field that accounts do not have": ("PATCH", "/accounts/1001", {"state": "x"}, 422, "validity_days"),
    "a field that stays": ("PATCH", "/accounts/1001", {"id": 5}, 422, "'id'"),
    "a platform that is no text": ("PATCH", "/accounts/1001", {"platform": []}, 422, "platform must be"),
    "a profile of nobody": ("PATCH", "/accounts/1001", {"profile": 4711}, 404, "no such profile"),
    "an account in a profile of nobody": ("POST", "/accounts", {"profile": 4711}, 404, "no such profile"),
    "a platform nobody uses": ("POST", "/platforms/myspace/down", {}, 422, "myspace"),
    "a platform going sideways": ("POST", "/platforms/tiktok/left", {}, 422, "down or up"),
    "a fault without a kind": ("POST", "/faults", {}, 422, "kind is missing"),
    "an unknown fault": ("POST", "/faults", {"kind": "fire"}, 422, "wrong_shape"),
    "a fault with a strange field": ("POST", "/faults", {"kind": "drop", "paths": "/"}, 422, "'paths'"),
    "a fault with an id": ("POST", "/faults", {"kind": "drop", "id": 1}, 422, "'id'"),
    "a status that cannot be": ("POST", "/faults", {"kind": "status", "status": 99}, 422, "200 to 599"),
    "a fault that never strikes": ("POST", "/faults", {"kind": "drop", "times": 0}, 422, "times must be"),
    "a share beyond everything": ("POST", "/faults", {"kind": "drop", "share": 2}, 422, "share must be"),
    "a path that is no text": ("POST", "/faults", {"kind": "drop", "path": 1}, 422, "path must be"),
    "a header that splits": ("POST", "/faults", {"kind": "status", "headers": {"a": "\n"}}, 422, "headers must be"),
    "a fault in a workspace of nobody": ("POST", "/faults", {"kind": "drop", "workspace": "x"}, 422, "no workspace"),
    "an event of no name": ("POST", "/events", {}, 422, "event is missing"),
    "an event in a workspace of nobody": ("POST", "/events", {"event": "x", "workspace": "y"}, 422, "sandbox"),
    "an event for no header": ("POST", "/events", {"event": "ü"}, 422, "plain ASCII"),
    "a webhook to nowhere": ("POST", "/webhooks", {}, 422, "url must be"),
    "a webhook for no event": ("POST", "/webhooks", {"url": "http://x/", "events": ["x"]}, 422, "account.connected"),
    "a key without a name": ("POST", "/keys", {}, 422, "key is missing"),
    "a scope that does not exist": ("POST", "/keys", {"key": "k", "scopes": ["all"]}, 422, "social:read"),
    "scopes that are no list": ("POST", "/keys", {"key": "k", "scopes": "social:read"}, 422, "list"),
    "a key for a workspace of nobody": ("POST", "/keys", {"key": "k", "workspace": "y"}, 422, "no workspace"),
    "a key nobody has": ("DELETE", "/keys/none", None, 404, "no such key"),
    "a limit that is no number": ("POST", "/workspaces/sandbox", {"limit": "much"}, 422, "limit must be"),
    "an unknown profile": ("POST", "/profiles/7/paused", {}, 404, "no such profile"),
    "an unknown status of a profile": ("POST", "/profiles/201/asleep", {}, 422, "active, paused, deleted"),
    "a clock without a span": ("POST", "/clock", {}, 422, "advance is missing"),
    "a clock that runs backwards": ("POST", "/clock", {"advance": -1}, 422, "advance must be"),
    "a clock at the end of time": ("POST", "/clock", {"advance": 1e300}, 422, "advance must be"),
}


@pytest.mark.parametrize("mistake", WRONG)
async def test_a_mistake_is_answered_with_what_is_right_and_changes_nothing(scene: Scene, mistake: str) -> None:
    scene.world.add_profile("sandbox", "End customer", None)
    before = (await scene.control("GET", "/state")).json()
    method, path, body, status, words = WRONG[mistake]
    answer = await scene.control(method, path, body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert (await scene.control("GET", "/state")).json() == before


async def test_a_body_that_is_not_json_is_answered_helpfully(scene: Scene) -> None:
    answer = await scene.http.post(f"{scene.url}/_sandbox/expire", content=b"{count: 3}")
    assert answer.status_code == 422
    assert "not JSON" in answer.json()["error"]


FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "an act": ("/accounts/1001/expire", {"webhook": "false"}),
    "a fault": (
        "/faults",
        {"kind": "status", "path": "/v1", "status": "503", "seconds": "1.5", "times": "", "share": ""},
    ),
    "the end of all faults": ("/faults/clear", {}),
    "a platform": ("/platforms", {"platform": "tiktok", "way": "down"}),
    "a platform that comes up": ("/platforms/tiktok/up", {}),
    "the clock": ("/clock", {"advance": "900"}),
}


@pytest.mark.parametrize("what", FORMS)
async def test_a_form_of_the_index_page_works_and_returns_to_it(scene: Scene, what: str) -> None:
    path, fields = FORMS[what]
    answer = await scene.http.post(f"{scene.url}/_sandbox{path}", data=fields, headers={"accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_form_that_was_filled_in_wrongly_returns_with_the_reason(scene: Scene) -> None:
    fields, headers = {"kind": "status", "status": "teapot"}, {"accept": "text/html"}
    answer = await scene.http.post(f"{scene.url}/_sandbox/faults", data=fields, headers=headers)
    assert answer.status_code == 303
    page = await scene.http.get(scene.url + answer.headers["location"])
    assert 'role="alert"' in page.text
    assert "status must be a whole number" in page.text


async def test_fields_of_a_form_from_a_script_are_answered_in_json(scene: Scene) -> None:
    answer = await scene.http.post(f"{scene.url}/_sandbox/expire", data={"count": "2", "webhook": "no"})
    assert answer.json()["expired"] == 2
