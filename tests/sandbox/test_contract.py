"""Every answer of every documented operation, checked against the provider's published contract."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

from healthd.sandbox.sender import EVENTS
from healthd.sandbox.world import PLATFORMS
from tests.sandbox.listener import Listener
from tests.sandbox.scene import Scene, served

CONTRACT = Path(__file__).parents[3] / "shared" / "contract" / "smartlyq.openapi.json"
if not CONTRACT.exists():
    pytest.skip(f"the provider's contract is not at hand: {CONTRACT}", allow_module_level=True)


def _with_null(schema: Any) -> Any:
    """The contract says ``nullable`` as OpenAPI 3.0 did; JSON Schema wants a type of its own."""
    if isinstance(schema, list):
        return [_with_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    clean = {name: _with_null(value) for name, value in schema.items() if name != "nullable"}
    if schema.get("nullable") is True:
        clean["type"] = [schema["type"], "null"]
    return clean


SPEC: dict[str, Any] = _with_null(json.loads(CONTRACT.read_text("utf-8")))
IN_SCOPE = re.compile(r"/(me|social/accounts|social/connect|webhooks|profiles)\b")
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in SPEC["paths"].items()
    if IN_SCOPE.match(path)
    for method, operation in methods.items()
}
FORMATS = FormatChecker(formats=())


def _is_a_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def _is_an_address(value: object) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme and urlsplit(value).netloc)


FORMATS.checks("date-time", raises=ValueError)(_is_a_time)
FORMATS.checks("uri")(_is_an_address)


def _resolved(schema: Any) -> Any:
    """With every ``$ref`` followed; all properties that are documented must be there, and no others."""
    if isinstance(schema, list):
        return [_resolved(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found: Any = SPEC
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return _resolved(found)
    whole = {name: _resolved(value) for name, value in schema.items()}
    if "properties" in whole and "required" not in whole:
        whole |= {"required": list(whole["properties"]), "additionalProperties": False}
    return whole


ERROR = _resolved(SPEC["components"]["schemas"]["ErrorResponse"])


def _schema(operation: str, status: int) -> Any:
    """What the contract says of the answer. Errors that it only names have the shape of all errors."""
    response = _resolved(OPERATIONS[operation]["responses"].get(str(status), {}))
    content = response.get("content")
    schema = content["application/json"]["schema"] if content else ERROR
    if operation == "POST /webhooks/deliveries/{id}/replay" and status == 202:
        # The only enveloped answer whose ``meta`` the contract forgot.
        schema["properties"]["meta"] = _resolved({"$ref": "#/components/schemas/RequestMeta"})
    return schema


def _complaints(schema: Any, body: Any) -> list[str]:
    found = Draft202012Validator(schema, format_checker=FORMATS).iter_errors(body)
    return [f"{error.json_path}: {error.message}" for error in found]


@dataclass(frozen=True)
class Ask:
    path: str
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


HOOK = {"url": "https://hooks.example/in", "events": ["account.connected"]}

GOOD = {
    "GET /me": Ask("/me"),
    "GET /social/accounts": Ask("/social/accounts"),
    "GET /social/accounts/health": Ask("/social/accounts/health"),
    "GET /social/accounts/{account_id}/health": Ask("/social/accounts/1001/health"),
    "GET /social/accounts/{account_id}/reconnect-url": Ask("/social/accounts/1001/reconnect-url"),
    "POST /social/accounts/{account_id}/pause": Ask("/social/accounts/1001/pause"),
    "POST /social/accounts/{account_id}/resume": Ask("/social/accounts/1001/resume"),
    "PATCH /social/accounts/{account_id}": Ask("/social/accounts/1001", {"account_name": "Another name"}),
    "DELETE /social/accounts/{account_id}": Ask("/social/accounts/1001"),
    "POST /social/connect/{platform}": Ask("/social/connect/tiktok", {"return_url": "https://app.example/done"}),
    "GET /social/connect/{platform}": Ask("/social/connect/TOKEN"),
    "GET /webhooks": Ask("/webhooks"),
    "POST /webhooks": Ask("/webhooks", HOOK),
    "DELETE /webhooks/{id}": Ask("/webhooks/1"),
    "PUT /webhooks/{id}": Ask("/webhooks/1", {"status": "paused"}),
    "POST /webhooks/{id}/test": Ask("/webhooks/1/test"),
    "GET /webhooks/logs": Ask("/webhooks/logs"),
    "POST /webhooks/deliveries/{id}/replay": Ask("/webhooks/deliveries/9001/replay"),
    "GET /profiles": Ask("/profiles?page=1&per_page=100"),
    "POST /profiles": Ask("/profiles", {"name": "Acme", "external_id": "client-1"}),
    "GET /profiles/{id}": Ask("/profiles/201"),
    "DELETE /profiles/{id}": Ask("/profiles/201", {"confirm": "DELETE"}),
    "PATCH /profiles/{id}": Ask("/profiles/201", {"external_id": None}),
    "GET /profiles/{id}/accounts": Ask("/profiles/201/accounts"),
    "POST /profiles/{id}/connect-link": Ask("/profiles/201/connect-link", {"platforms": ["tiktok"]}),
}
UNPROCESSABLE = {
    "PATCH /social/accounts/{account_id}": Ask("/social/accounts/1001", {"account_name": "x" * 256}),
    "POST /social/connect/{platform}": Ask("/social/connect/myspace"),
    "GET /webhooks": Ask("/webhooks", headers={"x_profile_id": "201"}),
    "POST /webhooks": Ask("/webhooks", HOOK | {"url": "http://hooks.example/in"}),
    "PUT /webhooks/{id}": Ask("/webhooks/1", {"status": "failing"}),
    "POST /webhooks/deliveries/{id}/replay": Ask("/webhooks/deliveries/9001/replay", headers={"x_profile_id": "201"}),
    "POST /profiles": Ask("/profiles", {"name": ""}),
    "DELETE /profiles/{id}": Ask("/profiles/201", {"confirm": "yes"}),
    "PATCH /profiles/{id}": Ask("/profiles/201", {"name": "x" * 121}),
    "POST /profiles/{id}/connect-link": Ask("/profiles/201/connect-link", {"ttl": 299}),
}
CONFLICTS = {"POST /profiles/{id}/connect-link": Ask("/profiles/202/connect-link")}

ON_REQUEST_ONLY = {
    ("POST /social/accounts/{account_id}/pause", 422),
    ("POST /social/accounts/{account_id}/resume", 422),
    ("DELETE /social/accounts/{account_id}", 422),
    ("POST /social/connect/{platform}", 404),
    ("POST /profiles", 402),
    ("POST /profiles", 404),
}
"""What the sandbox never answers by itself: a fault has to be asked for."""

DOCUMENTED = [(name, int(status)) for name, operation in OPERATIONS.items() for status in operation["responses"]]


@pytest.fixture
async def furnished(listener: Listener) -> AsyncIterator[Scene]:
    """Something of everything: a profile with an account, a paused profile, a webhook and a delivery."""
    async with served() as scene:
        scene.world.add_profile("sandbox", "End customer", "client-7")
        scene.world.add_profile("sandbox", "Paused customer", None).status = "paused"
        scene.world.add_account("sandbox", "tiktok", profile=201)
        scene.world.add_key("sqk_test_narrow", "sandbox", ())
        scene.sandbox.sender.register("sandbox", listener.url, EVENTS)
        scene.sandbox.api.tell(scene.account("facebook"), "account.token_expired", reason="Token expired.")
        await scene.until(lambda: scene.sandbox.sender.deliveries[9001].status == "delivered")
        yield scene


async def _provoke(scene: Scene, operation: str, status: int) -> Any:
    method, _, template = operation.partition(" ")
    ask, key = GOOD[operation], "sqk_test_sandbox"
    if status == 500 or (operation, status) in ON_REQUEST_ONLY:
        scene.sandbox.faults.add(kind="status", status=status)
    elif status == 401:
        key = "sqk_test_nobody"
    elif status == 403:
        key = "sqk_test_narrow"
    elif status == 404:
        ask = Ask(re.sub(r"{\w+}", "999999", template), ask.body)
    elif status == 409:
        ask = CONFLICTS[operation]
    elif status == 422:
        ask = UNPROCESSABLE[operation]
    path = ask.path.replace("TOKEN", scene.world.mint("sandbox", "tiktok").token)
    return await scene.api(method, path, ask.body, key=key, **ask.headers)


@pytest.mark.parametrize(("operation", "status"), DOCUMENTED, ids=str)
async def test_each_documented_answer_is_given_in_the_documented_shape(
    furnished: Scene, operation: str, status: int
) -> None:
    answer = await _provoke(furnished, operation, status)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert _complaints(_schema(operation, status), answer.json()) == []


async def test_too_many_requests_have_the_shape_of_all_errors(furnished: Scene) -> None:
    furnished.world.workspaces["sandbox"].limit = 0
    answer = await furnished.api("GET", "/me")
    assert answer.status_code == 429
    assert _complaints(ERROR, answer.json()) == []


async def test_a_finished_connection_has_the_documented_shape(furnished: Scene) -> None:
    link = furnished.world.mint("sandbox", "tiktok")
    page = (await furnished.http.get(furnished.sandbox.api.page(link))).text
    assert link.form is not None
    assert link.form in page
    await furnished.http.post(
        furnished.sandbox.api.page(link), data={"token": link.token, "form": link.form, "decision": "approve"}
    )
    answer = await furnished.api("GET", f"/social/connect/{link.token}")
    assert answer.json()["data"]["status"] == "connected"
    assert _complaints(_schema("GET /social/connect/{platform}", 200), answer.json()) == []


def test_the_checks_bite() -> None:
    """A validator that lets everything pass would make this whole file worthless."""
    schema = _schema("GET /social/accounts/{account_id}/health", 200)
    data = {"id": 1, "platform": "x", "account_name": "n", "status": "s", "token_expired": False, "validity_days": 3}
    good = {"success": True, "data": data, "meta": {"request_id": "r", "timestamp": "2026-03-01T16:00:00Z"}}
    assert _complaints(schema, good) == []
    assert _complaints(schema, good | {"success": False}) != []
    assert _complaints(schema, good | {"data": data | {"validity_days": "3"}}) != []
    assert _complaints(schema, good | {"data": data | {"more": 1}}) != []
    assert _complaints(schema, good | {"meta": {"request_id": "r", "timestamp": "yesterday"}}) != []
    assert _complaints(schema, good | {"meta": {"request_id": "r"}}) != []


def test_the_sandbox_knows_the_platforms_and_the_events_of_the_contract() -> None:
    connect = OPERATIONS["POST /social/connect/{platform}"]
    assert list(PLATFORMS) == connect["parameters"][0]["schema"]["enum"]
    body = OPERATIONS["POST /webhooks"]["requestBody"]["content"]["application/json"]["schema"]
    assert sorted(EVENTS) == sorted(body["properties"]["events"]["items"]["enum"])


@pytest.mark.parametrize("event", ["account.token_expired", "account.disconnected", "account.connected"])
@pytest.mark.parametrize("platform", ["facebook", "tiktok"])
async def test_the_events_of_an_account_are_sent_in_the_documented_shape(
    furnished: Scene, listener: Listener, event: str, platform: str
) -> None:
    account = furnished.account(platform)
    before = len(listener.received)
    furnished.sandbox.api.tell(account, event, reason="Revoked.")
    await furnished.until(lambda: len(listener.received) > before)
    schema = _resolved(SPEC["webhooks"][event]["post"]["requestBody"]["content"]["application/json"]["schema"])
    assert _complaints(schema, listener.received[-1].event) == []


@pytest.mark.parametrize(
    ("event", "error", "published"),
    [("post.failed", True, []), ("post.partial", True, ["linkedin"]), ("post.published", False, ["linkedin"])],
)
@pytest.mark.parametrize("platform", ["facebook", "tiktok"])
async def test_the_events_of_a_post_are_sent_in_the_documented_shape(
    furnished: Scene, listener: Listener, event: str, error: bool, published: list[str], platform: str
) -> None:
    before = len(listener.received)
    why = {"code": "TOKEN_EXPIRED", "message": "Expired.", "retryable": False} if error else None
    furnished.sandbox.api.tell_of_post(furnished.account(platform), 7, why, published)
    await furnished.until(lambda: len(listener.received) > before)
    schema = _resolved(SPEC["webhooks"][event]["post"]["requestBody"]["content"]["application/json"]["schema"])
    assert listener.received[-1].event["event"] == event
    assert _complaints(schema, listener.received[-1].event) == []
