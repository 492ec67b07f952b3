"""Who may ask what, how often, and what every answer carries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest

from healthd.sandbox.world import SCOPES
from tests.sandbox.scene import START, Scene, served

STRANGE_KEYS = {"unknown": "sqk_test_other", "revoked": "sqk_test_old"}


@pytest.mark.parametrize("which", STRANGE_KEYS)
async def test_without_a_good_key_nothing_is_answered(scene: Scene, which: str) -> None:
    scene.world.add_key("sqk_test_old", "sandbox").revoked = True
    answer = await scene.api("GET", "/social/accounts", key=STRANGE_KEYS[which])
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "INVALID_API_KEY"


@pytest.mark.parametrize("header", [None, b"Basic sqk_test_sandbox", b"sqk_test_sandbox", b"Bearer", b"\xe9"])
async def test_only_a_bearer_key_counts(scene: Scene, header: bytes | None) -> None:
    headers = {} if header is None else {b"authorization": header}
    answer = await scene.http.get(f"{scene.url}/v1/me", headers=headers)
    assert answer.status_code == 401


NEEDED = {
    ("GET", "/social/accounts"): "social:read",
    ("GET", "/social/accounts/health"): "social:read",
    ("GET", "/social/accounts/1001/health"): "social:read",
    ("GET", "/social/accounts/1001/reconnect-url"): "social:write",
    ("DELETE", "/social/accounts/1001"): "social:write",
    ("POST", "/social/connect/tiktok"): "social:write",
    ("GET", "/webhooks/logs"): "webhooks:read",
    ("POST", "/webhooks"): "webhooks:write",
    ("GET", "/profiles"): "profiles:read",
    ("POST", "/profiles"): "profiles:write",
}


@pytest.mark.parametrize("asked", NEEDED, ids=" ".join)
async def test_a_key_without_the_scope_is_told_which_one_is_missing(scene: Scene, asked: tuple[str, str]) -> None:
    scene.world.add_key("sqk_test_narrow", "sandbox", SCOPES - {NEEDED[asked]})
    answer = await scene.api(*asked, key="sqk_test_narrow")
    assert answer.status_code == 403
    assert answer.json()["error"]["details"] == {"required_scope": NEEDED[asked]}


async def test_every_answer_has_a_request_id_of_its_own_and_the_time(scene: Scene) -> None:
    metas = [(await scene.api("GET", path)).json()["meta"] for path in ("/me", "/me", "/nothing", "/social/accounts")]
    assert len({meta["request_id"] for meta in metas}) == 4
    assert {meta["timestamp"] for meta in metas} == {"2026-03-01T16:00:00Z"}


async def test_workspaces_do_not_see_each_other() -> None:
    async with served(workspaces=("ours", "theirs"), accounts=1) as scene:
        scene.key = "sqk_test_ours"
        theirs = scene.world.workspaces["theirs"].accounts.popitem()[1]
        scene.world.workspaces["theirs"].accounts[theirs.id] = theirs
        hook = scene.sandbox.sender.register("theirs", "https://hooks.example/in", ("account.connected",))
        profile = scene.world.add_profile("theirs", "x", None)
        link = scene.world.mint("theirs", "tiktok")
        assert theirs.id not in [row["id"] for row in await scene.data("GET", "/social/accounts")]
        for method, path in (
            ("GET", f"/social/accounts/{theirs.id}/health"),
            ("GET", f"/social/accounts/{theirs.id}/reconnect-url"),
            ("DELETE", f"/social/accounts/{theirs.id}"),
            ("POST", f"/webhooks/{hook.id}/test"),
            ("GET", f"/profiles/{profile.id}"),
            ("GET", f"/social/connect/{link.token}"),
        ):
            assert (await scene.api(method, path)).status_code == 404, path


TIERS = {0: 60, 2: 60, 3: 600, 2000: 600, 2001: 1200}


@pytest.mark.parametrize("accounts", TIERS)
async def test_the_rate_limit_follows_the_number_of_accounts(accounts: int) -> None:
    async with served(accounts=accounts, rate_limit=None) as scene:
        answer = await scene.api("GET", "/me")
    assert answer.headers["x-ratelimit-limit"] == str(TIERS[accounts])
    assert answer.headers["x-ratelimit-remaining"] == str(TIERS[accounts] - 1)
    assert answer.headers["x-ratelimit-reset"] == str(int(START.timestamp()) + 60)


async def test_all_keys_and_the_customers_own_traffic_share_one_allowance_until_the_minute_is_over() -> None:
    async with served(rate_limit=5) as scene:
        scene.world.add_key("sqk_test_second", "sandbox")
        await scene.do("/workspaces/sandbox", spend=3)
        assert (await scene.api("GET", "/me")).headers["x-ratelimit-remaining"] == "1"
        assert (await scene.api("GET", "/nothing", key="sqk_test_second")).headers["x-ratelimit-remaining"] == "0"
        await scene.advance(timedelta(seconds=20))
        refused = await scene.api("GET", "/me")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "40"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        await scene.advance(timedelta(seconds=40))
        assert (await scene.api("GET", "/me")).status_code == 200


async def test_a_limit_of_ones_own_can_be_taken_back(scene: Scene) -> None:
    assert (await scene.do("/workspaces/sandbox", limit=7))["limit"] == 7
    assert (await scene.do("/workspaces/sandbox", limit=None))["limit"] == 600


async def test_any_number_of_accounts_comes_in_one_streamed_answer() -> None:
    async with served(accounts=12_345) as scene:
        answer = await scene.api("GET", "/social/accounts/health")
        data = orjson.loads(answer.content)["data"]
        assert answer.headers["transfer-encoding"] == "chunked"
        assert len({row["id"] for row in data["accounts"]}) == 12_345
        assert data["healthy"] + data["expiring"] == 12_345
        assert len(await scene.data("GET", "/social/accounts")) == 12_345


async def test_the_tallies_agree_with_the_rows_even_while_a_platform_is_down(scene: Scene) -> None:
    scene.account("linkedin").validity_days = 7
    scene.account("pinterest").is_active = False
    scene.world.break_token(scene.account("facebook"))
    scene.world.break_connection(scene.account("discord"))
    await scene.do("/platforms/instagram/down")
    data = await scene.data("GET", "/social/accounts/health")
    rows = [row for row in data["accounts"] if row["is_active"]]
    broken = [row["platform"] for row in rows if row["status"] != "connected" or row["token_expired"]]
    assert sorted(broken) == ["discord", "facebook", "instagram"]
    assert (data["expired"], data["paused"]) == (3, 1)
    assert data["expiring"] == sum(row["validity_days"] <= 7 for row in rows if row["platform"] not in broken)
    assert sum(data[name] for name in ("healthy", "expiring", "expired", "paused")) == len(data["accounts"])


PAGES = {"page=1&per_page=2": [205, 204], "page=3&per_page=2": [201], "page=4&per_page=2": []}


@pytest.mark.parametrize("query", PAGES)
async def test_profiles_come_page_by_page_the_newest_first(scene: Scene, query: str) -> None:
    for number in range(5):
        scene.world.add_profile("sandbox", f"Customer {number}", None)
    answer = await scene.api("GET", f"/profiles?{query}")
    assert [row["id"] for row in answer.json()["profiles"]] == PAGES[query]


@pytest.mark.parametrize("query", ["page=0", "per_page=101", "per_page=0", "page=x", "page=-1", f"page={'9' * 5000}"])
async def test_a_page_that_cannot_be_is_refused(scene: Scene, query: str) -> None:
    assert (await scene.api("GET", f"/profiles?{query}")).status_code == 422


PROFILES = {"theirs": ("777", 404), "no number": ("abc", 404), "endless": ("9" * 5000, 404), "paused": ("202", 409)}


@pytest.mark.parametrize("which", PROFILES)
async def test_a_profile_that_cannot_be_acted_in_is_refused(scene: Scene, which: str) -> None:
    scene.world.add_profile("sandbox", "Open", None)
    scene.world.add_profile("sandbox", "Asleep", None).status = "paused"
    number, status = PROFILES[which]
    for method, path in (
        ("GET", "/social/accounts"),
        ("GET", "/social/accounts/health"),
        ("POST", "/social/connect/x"),
    ):
        want = 422 if path.endswith("/x") else status
        assert (await scene.api(method, path, x_profile_id=number)).status_code == want
    assert (await scene.api("POST", "/social/connect/tiktok", x_profile_id=number)).status_code == status


async def test_acting_in_a_profile_needs_its_own_scope(scene: Scene) -> None:
    number = str(scene.world.add_profile("sandbox", "Open", None).id)
    scene.world.add_key("sqk_test_narrow", "sandbox", SCOPES - {"profiles:manage"})
    answer = await scene.api("GET", "/social/accounts", key="sqk_test_narrow", x_profile_id=number)
    assert answer.json()["error"]["details"] == {"required_scope": "profiles:manage"}


BAD_BODIES = {
    "no JSON": b"{",
    "no object": b"[]",
    "no text": b"\xff",
}


@pytest.mark.parametrize("which", BAD_BODIES)
async def test_a_body_that_cannot_be_read_is_refused(scene: Scene, which: str) -> None:
    headers = {"authorization": "Bearer sqk_test_sandbox"}
    answer = await scene.http.post(f"{scene.url}/v1/profiles", content=BAD_BODIES[which], headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR")


WRONG: dict[tuple[str, str, str], list[Any]] = {
    ("POST", "/webhooks", "url"): [None, 7, "http://hooks.example/in", "https://", "https://[", "ftp://x"],
    ("POST", "/webhooks", "events"): [None, [], "account.connected", ["account.gone"], [[]], [{}]],
    ("POST", "/profiles", "name"): [None, "", 7, "x" * 121],
    ("POST", "/profiles", "external_id"): [7, "x" * 129],
    ("POST", "/profiles/201/connect-link", "ttl"): [299, 604_801, "600", True],
    ("POST", "/profiles/201/connect-link", "platforms"): [[], "tiktok", ["myspace"], [[]]],
    ("POST", "/social/connect/tiktok", "return_url"): [7, "javascript:alert(1)", "//x", "https://["],
    ("PATCH", "/social/accounts/1001", "account_name"): [None, "", 7, "x" * 256],
}
GOOD = {"url": "https://hooks.example/in", "events": ["account.connected"], "name": "x"}


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, values in WRONG.items() for value in values], ids=repr
)
async def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    scene: Scene, place: tuple[str, str, str], value: object
) -> None:
    scene.world.add_profile("sandbox", "Open", None)
    method, path, name = place
    answer = await scene.api(method, path, GOOD | {name: value})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"] == {"fields": [name]}


async def test_each_answer_can_be_made_late_from_the_start() -> None:
    async with served(latency=0.05, clock=None) as scene:
        answer = await scene.api("GET", "/me")
    assert answer.elapsed >= timedelta(seconds=0.05)
