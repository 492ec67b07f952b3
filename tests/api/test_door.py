"""Who is let in, what they may do and see, and what is said of whatever cannot be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from healthd.api.app import described
from healthd.core.roles import Role
from healthd.store.database import Store, StoreUnavailable
from tests.api.place import Place, place

WITH_OTHERS = pytest.mark.asyncio(loop_scope="session")
"""On one store, which none of them changes."""
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in described()["paths"].items()
    for method, operation in operations.items()
}
FILLED = {
    "{account_id}": "2", "{incident_id}": "i2", "{storm_id}": "acme-facebook-1", "{notice_id}": "n", "{key}": "ada",
    "{workspace}": "acme", "{scope}": "platform", "{ref}": "facebook",
}  # fmt: skip
BODIES: dict[str, Any] = {"snooze": {"for": "2h"}, "mute": {"for": "2h"}, "trust": {"channel": "mail"}}


def request_of(name: str) -> tuple[str, str, Any]:
    method, path = name.split(" ")
    for placeholder, value in FILLED.items():
        path = path.replace(placeholder, value)
    body: Any = BODIES.get(path.rpartition("/")[2])
    if method == "PUT":
        body = {"addresses": {"mail": ["ada@acme.example"]}} if "contacts" in path else {"owners": [["ada"]]}
    return method, path, body


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with place(tmp_path_factory.mktemp("door")) as made:
        yield made


def problem(response: Any) -> str:
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = response.json()
    assert found["status"] == response.status_code
    assert found["title"]
    return str(found["type"]).removeprefix("urn:healthd:problem:")


async def test_each_operation_is_for_those_with_its_role_and_for_nobody_else(here: Place) -> None:
    for name in OPERATIONS:
        method, path, body = request_of(name)
        assert (await here.ask(method, path, None, body)).status_code == 401, name
        needed = Role.ADMIN if path == "/audit" else Role.VIEWER if method == "GET" else Role.OPERATOR
        for role in Role:
            response = await here.ask(method, path, role.value, body)
            assert problem(response) == "forbidden" if response.status_code == 403 else True, name
            assert (response.status_code != 403) is role.may(needed), (name, role)


async def test_without_a_token_nobody_is_told_what_there_is(here: Place) -> None:
    for path in ("/accounts", "/nothing", "/accounts/99999"):
        response = await here.get(path, None)
        assert problem(response) == "not-signed-in"
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert (await here.get("/openapi.json", None)).status_code == 200


async def test_a_wrong_token_is_named_and_after_many_slowed_down(here: Place) -> None:
    wrong = {"authorization": "Bearer " + "x" * 40}
    assert problem(await here.get("/me", None, **wrong)) == "not-signed-in"
    said = [await here.get("/me", None, **wrong) for _ in range(25)]
    assert problem(said[-1]) == "too-many-mistakes"
    assert (await here.get("/me")).status_code == 200


async def test_a_browser_on_this_machine_needs_its_csrf_token_to_write(tmp_path: Path) -> None:
    async with place(tmp_path, tokens=False) as here:
        me = (await here.get("/me", None)).json()
        assert (me["role"], me["by"]) == ("admin", "local")
        path = f"/accounts/{here.ids['healthy']}/check"
        assert problem(await here.post(path, None, None)) == "forbidden"
        forged = {"x_csrf_token": me["csrf"], "origin": "https://evil.example"}
        assert problem(await here.post(path, None, None, **forged)) == "forbidden"
        assert (await here.post(path, None, None, x_csrf_token=me["csrf"])).status_code == 202


@WITH_OTHERS
async def test_addresses_of_people_are_masked_for_those_who_only_look(shared: Place) -> None:
    for name in OPERATIONS:
        method, path, _ = request_of(name)
        if method == "GET" and path not in {"/openapi.json", "/audit"}:
            text = (await shared.get(path, "viewer")).text
            for private in ("ada@acme", "ops@acme", "gone@acme", "4917012"):
                assert private not in text, (path, private)
    sent = (await shared.get("/notices?status=sent")).json()["items"][0]["id"]
    for role, shown in (("viewer", "Dear Ada <a…@acme.example>"), ("operator", "Dear Ada <ada@acme.example>")):
        assert (await shared.get(f"/notices/{sent}", role)).json()["content"]["text"] == shown
    assert (await shared.get("/contacts/bob", "viewer")).json()["addresses"] == {"sms": ["+…"]}


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/contacts/ada", "DELETE, GET, HEAD, PUT"),
        ("/accounts", "GET, HEAD"),
        ("/accounts/1/mute", "POST"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
@WITH_OTHERS
async def test_a_method_that_is_none_is_answered_with_those_that_are(shared: Place, path: str, allow: str) -> None:
    for method in ("PATCH", "OPTIONS"):
        response = await shared.ask(method, path)
        assert (problem(response), response.headers["allow"]) == ("method-not-allowed", allow)


@WITH_OTHERS
async def test_head_is_get_without_its_body(shared: Place) -> None:
    got, head = await shared.get("/accounts"), await shared.ask("HEAD", "/accounts")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", got.headers["etag"])


async def test_what_has_not_changed_is_not_sent_again(here: Place) -> None:
    first = await here.get("/accounts/1")
    tag = first.headers["etag"]
    for header in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await here.get("/accounts/1", if_none_match=header)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await here.post("/accounts/1/mute", {"for": "2h"})
    after = await here.get("/accounts/1", if_none_match=tag)
    assert (after.status_code, after.headers["etag"] != tag) == (200, True)
    viewers = (await here.get("/contacts/ada", "viewer")).headers["etag"]
    assert viewers != (await here.get("/contacts/ada")).headers["etag"]


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/contacts/ada", {"addresses": {"mail": ["a@b.example"]}}, {"addresses": {"mail": ["c@d.example"]}}),
        ("/owners/acme/workspace", {"owners": [["bob"]]}, {"owners": [["ada"]]}),
    ],
)
async def test_a_write_undoes_nobody_elses(here: Place, path: str, body: Any, other: Any) -> None:
    seen = (await here.get(path)).headers["etag"]
    written = await here.ask("PUT", path, "operator", other, if_match=seen)
    assert written.status_code == 200
    assert problem(await here.ask("PUT", path, "operator", body, if_match=seen)) == "changed"
    assert problem(await here.ask("DELETE", path, "operator", if_match=seen)) == "changed"
    assert problem(await here.ask("PUT", path, "operator", body, if_none_match="*")) == "changed"
    now = (await here.get(path)).headers["etag"]
    assert (await here.ask("DELETE", path, "operator", if_match=now)).status_code == 204
    assert problem(await here.ask("PUT", path, "operator", body, if_match="*")) == "changed"
    assert (await here.ask("PUT", path, "operator", body, if_none_match="*")).status_code == 201


HOSTILE: dict[str, tuple[str, str, bytes | None, dict[str, str], int, str]] = {
    "no JSON": ("POST", "/accounts/1/mute", b"{for: 2h}", {}, 400, "unreadable"),
    "half a character": ("PUT", "/contacts/eve", b'{"name": "\\ud800", "addresses": {}}', {}, 400, "unreadable"),
    "no UTF-8": ("PUT", "/contacts/eve", b'{"name": "\xff"}', {}, 400, "unreadable"),
    "not a number": ("POST", "/accounts/1/mute", b'{"for": NaN}', {}, 400, "unreadable"),
    "nested without end": ("POST", "/accounts/1/mute", b"[" * 100_000, {}, 400, "unreadable"),
    "nested deeply": ("POST", "/accounts/1/mute", b"[" * 1000 + b"]" * 1000, {}, 400, "unreadable"),
    "a list": ("POST", "/accounts/1/mute", b"[]", {}, 422, "invalid"),
    "null": ("POST", "/accounts/1/mute", b"null", {}, 422, "invalid"),
    "no body": ("POST", "/accounts/1/mute", b"", {}, 422, "invalid"),
    "a member too many": ("POST", "/accounts/1/mute", b'{"for": "2h", "role": "admin"}', {}, 422, "invalid"),
    "a form": ("POST", "/accounts/1/mute", b"for=2h", {"content_type": "application/x-www-form-urlencoded"}, 415,
               "not-json"),
    "text/plain": ("POST", "/accounts/1/mute", b'{"for":"2h"}', {"content_type": "text/plain"}, 415, "not-json"),
    "too much": ("POST", "/accounts/1/mute", b" " * (256 * 1024 + 1), {}, 413, "too-large"),
    "a span beyond time": ("POST", "/accounts/1/mute", b'{"for": "999999999999w"}', {}, 422, "invalid"),
    "a year too late": ("POST", "/accounts/1/mute", b'{"until": "99999-01-01T00:00:00Z"}', {}, 422, "invalid"),
    "a time without zone": ("POST", "/accounts/1/mute", b'{"until": "2027-01-01T00:00:00"}', {}, 422, "invalid"),
    "a time that has passed": ("POST", "/accounts/1/mute", b'{"until": "0001-01-01T00:00:00+23:00"}', {}, 409,
                               "not-now"),
    "an id beyond all": ("GET", "/accounts/9223372036854775808", None, {}, 422, "invalid"),
    "an id in other digits": ("GET", "/accounts/%D9%A1", None, {}, 422, "invalid"),
    "an id with underscores": ("GET", "/accounts/1_0", None, {}, 422, "invalid"),
    "an id of SQL": ("GET", "/notices/' OR 1=1 --", None, {}, 404, "not-found"),
    "a line break in a path": ("GET", "/owners/ac%0Ame/workspace", None, {}, 404, "not-found"),
    "a way up": ("GET", "/accounts/..%2F..%2Fmetrics", None, {}, 404, "not-found"),
    "an unknown parameter": ("GET", "/accounts?stat=expired", None, {}, 422, "invalid"),
    "an unknown state": ("GET", "/accounts?state=broken", None, {}, 422, "invalid"),
    "a page of everything": ("GET", "/accounts?limit=1000000", None, {}, 422, "invalid"),
    "a key with a slash": ("PUT", "/contacts/a%2Fb", b"{}", {}, 404, "not-found"),
    "a key in capitals": ("PUT", "/contacts/ADA", b'{"addresses": {}}', {}, 422, "invalid"),
    "the key of everybody": ("PUT", "/contacts/owner", b'{"addresses": {"mail": ["a@b.example"]}}', {}, 422,
                             "invalid"),
    "a header in an address": ("PUT", "/contacts/eve", b'{"addresses": {"mail": ["a@b.example\\r\\nBcc: c"]}}',
                               {}, 422, "invalid"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@WITH_OTHERS
async def test_what_cannot_be_is_refused_and_changes_nothing(shared: Place, name: str) -> None:
    method, path, body, headers, status, kind = HOSTILE[name]
    sent = {"content_type": "application/json"} | headers if body is not None else headers
    before = (await shared.get("/contacts")).content, (await shared.get("/accounts")).content
    response = await shared.ask(method, path, "operator", body, **sent)
    assert (response.status_code, problem(response)) == (status, kind), response.text
    assert before == ((await shared.get("/contacts")).content, (await shared.get("/accounts")).content)


CURSORS = {
    "no base64": "ä", "no JSON": "bm8", "another order's": "WzFd", "half a character": "WyJcdWQ4MDAiLCAxXQ",
    "a time beyond time": "WzExNTI5MjE1MDQ2MDY4NDY5NzUsIDFd", "too long": "A" * 2001,
}  # fmt: skip


@pytest.mark.parametrize("name", CURSORS)
@WITH_OTHERS
async def test_a_cursor_that_was_never_given_out_is_refused(shared: Place, name: str) -> None:
    for path in ("/accounts?sort=name", "/accounts?sort=newest", "/notices?limit=1", "/owners?limit=1"):
        response = await shared.get(f"{path}&cursor={CURSORS[name]}", "admin")
        assert problem(response) in {"bad-cursor", "invalid"}
        assert response.json()["errors"][0]["field"] == "cursor"


async def test_markup_in_a_name_is_nothing_but_text(here: Place) -> None:
    name = "<script>alert(1)</script> \u202e'\"; DROP TABLE accounts"
    given = {"name": name, "addresses": {"mail": ["eve@acme.example"]}}
    made = await here.ask("PUT", "/contacts/eve", "operator", given)
    assert made.json()["name"] == "<script>alert(1)</script> '\"; DROP TABLE accounts"
    shown = await here.get("/contacts/eve")
    assert shown.headers["content-type"] == "application/json"
    assert shown.headers["x-content-type-options"] == "nosniff"


async def test_a_body_that_never_ends_is_not_waited_for(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthd.api.door.BODY_WITHIN", 0.05)

    async def forever() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with here.client() as http:
        response = await http.post("/accounts/1/mute", content=forever(), headers={"content-type": "application/json"})
    assert problem(response) == "too-slow"


async def test_without_the_database_it_says_so_and_when_to_ask_again(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise StoreUnavailable("database or disk is full")

    monkeypatch.setattr(Store, "run", full)
    response = await here.post("/accounts/1/mute", {"for": "2h"})
    assert (problem(response), response.headers["retry-after"]) == ("store-unavailable", "5")
    assert "disk is full" in response.json()["detail"]
    assert (await here.get("/accounts/1")).status_code == 200


async def test_a_mistake_of_ours_tells_nothing_of_itself(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret-in-a-message")

    monkeypatch.setattr("healthd.store.views.accounts_page", broken)
    with structlog.testing.capture_logs() as logged:
        response = await here.get("/accounts")
    assert problem(response) == "internal"
    assert "secret" not in response.text
    assert [(one["event"], one["error"]) for one in logged] == [("api.failed", "ZeroDivisionError")]


@WITH_OTHERS
async def test_what_was_sent_wrongly_is_not_sent_back(shared: Place) -> None:
    secret = "hunter2-hunter2"
    body = json.dumps({"until": secret, "for": secret, secret: secret}).encode()
    response = await shared.post("/accounts/1/mute", body, content_type="application/json")
    assert response.status_code == 422
    assert f'"{secret}"' not in response.text.replace(f'"field":"{secret}"', "")
