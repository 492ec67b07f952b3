"""Every kind of trouble that the API can be told to have."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx2
import orjson
import pytest

from healthd.sandbox.faults import FAULT_HINTS, KINDS
from tests.sandbox.scene import Scene, served

HEALTH = "/social/accounts/health"


async def ask(scene: Scene, path: str = HEALTH) -> httpx2.Response:
    return await scene.api("GET", path)


ERRORS = {
    400: "SERVER_ERROR", 401: "INVALID_API_KEY", 402: "INSUFFICIENT_BALANCE", 403: "INSUFFICIENT_SCOPE",
    404: "RESOURCE_NOT_FOUND", 409: "CONFLICT", 422: "VALIDATION_ERROR", 429: "RATE_LIMIT_EXCEEDED",
    500: "SERVER_ERROR", 503: "SERVER_ERROR",
}  # fmt: skip


@pytest.mark.parametrize("status", ERRORS)
async def test_any_status_comes_in_the_envelope_of_the_api(scene: Scene, status: int) -> None:
    await scene.do("/faults", kind="status", status=status)
    answer = await ask(scene)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == ERRORS[status]
    assert answer.json()["meta"]["request_id"].startswith("req_")
    assert "retry-after" not in answer.headers


async def test_a_502_comes_as_a_proxy_would_say_it(scene: Scene) -> None:
    await scene.do("/faults", kind="status", status=502)
    answer = await ask(scene)
    assert answer.status_code == 502
    assert answer.text.startswith("<!doctype html>")


async def test_an_error_may_say_when_to_come_back_and_carry_headers_of_its_own(scene: Scene) -> None:
    await scene.do("/faults", kind="status", status=429, seconds=30, headers={"X-RateLimit-Remaining": "0"})
    answer = await ask(scene)
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining"]) == ("30", "0")


async def test_a_delayed_answer_is_late_and_right(scene: Scene) -> None:
    await scene.do("/faults", kind="delay", seconds=0.05)
    answer = await ask(scene)
    assert answer.elapsed >= timedelta(seconds=0.05)
    assert len(answer.json()["data"]["accounts"]) == 16


async def test_a_dripping_answer_comes_byte_by_byte_and_is_right_in_the_end(scene: Scene) -> None:
    await scene.do("/faults", kind="drip", path="/me")
    answer = await ask(scene, "/me")
    assert answer.json()["data"]["name"] == "sandbox"
    await scene.do("/faults/clear")
    await scene.do("/faults", kind="drip", seconds=3600)
    async with scene.http.stream("GET", f"{scene.url}/v1/me", headers={"authorization": f"Bearer {scene.key}"}) as slow:
        assert await anext(slow.aiter_raw()) == b"{"


async def test_a_cut_connection_gives_no_answer(scene: Scene) -> None:
    await scene.do("/faults", kind="drop")
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(scene)


async def test_a_truncated_answer_ends_in_the_middle(scene: Scene) -> None:
    await scene.do("/faults", kind="truncated")
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(scene)


@pytest.mark.parametrize("kind", ["garbage", "html"])
async def test_an_answer_may_say_200_and_be_no_json(scene: Scene, kind: str) -> None:
    await scene.do("/faults", kind=kind)
    answer = await ask(scene)
    assert answer.status_code == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.content)


async def test_an_answer_may_be_json_of_another_shape(scene: Scene) -> None:
    await scene.do("/faults", kind="wrong_shape")
    assert isinstance((await ask(scene)).json()["data"]["accounts"], dict)


async def test_all_accounts_may_be_in_a_status_that_nobody_knows(scene: Scene) -> None:
    scene.world.break_token(scene.account("tiktok"))
    await scene.do("/faults", kind="unknown_status")
    assert {row["status"] for row in (await ask(scene)).json()["data"]["accounts"]} == {"published"}


async def test_the_api_may_send_somewhere_else(scene: Scene) -> None:
    await scene.do("/faults", kind="redirect", headers={"location": "https://evil.example/"})
    answer = await ask(scene)
    assert (answer.status_code, answer.headers["location"]) == (302, "https://evil.example/")


def test_every_kind_is_explained() -> None:
    assert tuple(FAULT_HINTS) == KINDS


async def test_a_fault_strikes_only_where_it_was_put_and_as_often_as_was_said(scene: Scene) -> None:
    scene.world.add_workspace("other")
    made = await scene.do("/faults", kind="status", path="/reconnect-url", workspace="sandbox", times=2)
    path = "/social/accounts/1001/reconnect-url"
    assert (await ask(scene)).status_code == 200
    assert (await scene.api("GET", path, key="sqk_test_other")).status_code == 404
    assert [(await ask(scene, path)).status_code for _ in range(3)] == [500, 500, 200]
    assert made["strikes"] == 0
    assert (await scene.control("GET", "/faults")).json() == []


async def test_a_share_of_the_requests_can_be_hit_the_same_ones_with_the_same_seed() -> None:
    async def strikes(seed: int) -> list[int]:
        async with served(seed=seed) as scene:
            await scene.do("/faults", kind="status", share=0.5)
            return [(await ask(scene, "/me")).status_code for _ in range(40)]

    first = await strikes(1)
    assert {200, 500} == set(first)
    assert await strikes(1) == first
    assert await strikes(2) != first


async def test_faults_end_one_by_one_or_all_together(scene: Scene) -> None:
    made = [await scene.do("/faults", kind="status", status=status) for status in (500, 503, 418)]
    assert (await ask(scene)).status_code == 500
    await scene.control("DELETE", f"/faults/{made[0]['id']}")
    assert (await ask(scene)).status_code == 503
    await scene.control("DELETE", "/faults")
    assert (await ask(scene)).status_code == 200


async def test_faults_leave_the_control_endpoints_and_the_pages_alone(scene: Scene) -> None:
    link = scene.world.mint("sandbox", "tiktok")
    await scene.do("/faults", kind="drop", path="/")
    assert (await scene.control("GET", "/state")).status_code == 200
    assert (await scene.http.get(scene.sandbox.api.page(link))).status_code == 200


UNANSWERED: dict[str, int | None] = {"status": 500, "drop": None, "html": 200, "delay": 200, "redirect": 302}


@pytest.mark.parametrize("kind", UNANSWERED)
async def test_the_list_of_requests_shows_each_once_with_the_fault_that_it_met(scene: Scene, kind: str) -> None:
    await scene.do("/faults", kind=kind)
    if kind == "drop":
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(scene)
    else:
        await ask(scene)
    [entry] = list[dict[str, Any]]((await scene.control("GET", "/requests")).json())
    assert (entry["status"], entry["workspace"]) == (UNANSWERED[kind], "sandbox")
    assert entry["fault"] == (None if kind == "delay" else kind)
