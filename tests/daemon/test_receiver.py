"""The public listener before a hostile world: what it answers, what it keeps, and what it never does."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from healthd.sandbox.sender import signature
from healthd.store import inbox
from tests.daemon.conftest import settled
from tests.daemon.rig import HOST, WEBHOOK_SECRET, Rig, rig

DEADLINE = 0.5
"""Seconds that a header and a body may take in these tests."""


@pytest.fixture
async def open_door(tmp_path: Path) -> AsyncIterator[Rig]:
    """A daemon with short deadlines."""
    async with rig(tmp_path) as made:
        made.settings["server"] = (
            f'listen = "{HOST}:{made.ports["public"]}"\nadmin_listen = "{HOST}:{made.ports["admin"]}"\n'
            f'header_timeout = "{DEADLINE}s"\nbody_timeout = "{DEADLINE}s"'
        )
        await made.start()
        await settled(made)
        yield made


def event(name: str = "account.token_expired", **data: object) -> bytes:
    facts = {"account_id": 1001, "platform": "facebook", "account_name": "x"} | data
    envelope = {"id": f"evt_{secrets.token_hex(6)}", "event": name, "created_at": "2026-01-01T00:00:00Z"}
    return json.dumps(envelope | {"data": facts}).encode()


def signed(scene: Rig, body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    return {"x-smartlyq-signature": signature(secret, body, int(scene.now().timestamp()))}


async def deliver(scene: Rig, body: bytes, **headers: str) -> tuple[int, bytes]:
    answer = await scene.http.post(
        f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body) | headers
    )
    return answer.status_code, answer.content


async def on_disk(scene: Rig) -> int:
    return await scene.store.read(
        lambda connection: connection.execute(text("select count(*) from inbox")).scalar_one()
    )


async def talk(scene: Rig, *parts: bytes | float, port: str = "public") -> bytes:
    """Writes raw bytes, waits where a number stands, and reads until the other side has finished."""
    reader, writer = await asyncio.open_connection(HOST, scene.ports[port])
    try:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(65536), timeout=10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(body: bytes = b"", *lines: str, method: str = "POST", path: str = "/webhooks/sandbox") -> bytes:
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", "Connection: close", *lines])
    return head.encode("latin-1") + b"\r\n\r\n" + body


async def test_a_new_webhook_is_202_a_repeated_one_200_and_both_are_one_row(scene: Rig) -> None:
    body = event()
    assert await deliver(scene, body) == (202, b"")
    assert await deliver(scene, body) == (200, b"")
    assert await on_disk(scene) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
async def test_only_post_is_allowed(scene: Rig, method: str) -> None:
    answer = await talk(scene, request(method=method))
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"allow: POST" in answer.lower().replace(b"allow: post", b"allow: POST")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/nobody",
        "/webhooks/SANDBOX",
        "/webhooks/sandbox/",
        "//webhooks/sandbox",
        "/webhooks",
        "/",
        "/webhooks/..%2f",
    ],
)
async def test_an_unknown_address_is_404_and_never_a_redirect(scene: Rig, path: str) -> None:
    answer = await talk(scene, request(b"{}", "Content-Length: 2", path=path))
    assert answer.startswith(b"HTTP/1.1 404 ")


BAD_SIGNATURES = {
    "none": {},
    "empty": {"x-smartlyq-signature": ""},
    "not ASCII": {"x-smartlyq-signature": "t=1,v1=é"},
    "no time": {"x-smartlyq-signature": "v1=" + "0" * 64},
    "milliseconds": {"x-smartlyq-signature": "t=1795487340000,v1=" + "0" * 64},
    "not hexadecimal": {"x-smartlyq-signature": "t=1795487340,v1=" + "z" * 64},
    "another scheme": {"x-signature": "0" * 64},
    "long": {"x-smartlyq-signature": "t=1,v1=" + "0" * 20_000},
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
async def test_every_signature_problem_has_the_same_answer(scene: Rig, name: str) -> None:
    answer = await scene.http.post(
        f"{scene.public}/webhooks/sandbox",
        content=b"{}",
        headers=[(key.encode(), value.encode("latin-1")) for key, value in BAD_SIGNATURES[name].items()],
    )
    assert (answer.status_code, answer.content) == (401, b"invalid signature\n")
    assert await on_disk(scene) == 0


async def test_the_wrong_secret_a_changed_body_and_an_old_time_are_refused_alike(scene: Rig) -> None:
    body, url = event(), f"{scene.public}/webhooks/sandbox"
    old = {"x-smartlyq-signature": signature(WEBHOOK_SECRET, body, int(scene.now().timestamp()) - 301)}
    attempts = [(body, signed(scene, body, "whsec_other")), (body + b" ", signed(scene, body)), (body, old)]
    for content, headers in attempts:
        answer = await scene.http.post(url, content=content, headers=headers)
        assert (answer.status_code, answer.content) == (401, b"invalid signature\n")
    assert await on_disk(scene) == 0


async def test_a_large_body_is_refused_before_it_is_read(open_door: Rig) -> None:
    answer = await talk(open_door, request(b"x" * 100, "Content-Length: 10000000"))
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_large_body_of_unknown_length_is_refused_as_soon_as_it_is_too_large(open_door: Rig) -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    answer = await talk(open_door, request(chunk * 5, "Transfer-Encoding: chunked"))
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="silence"),
        pytest.param([b"POST /webhooks/sandbox HT"], id="half a header"),
        pytest.param([b"P", 0.2, b"O", 0.2, b"S", 0.2, b"T", 0.2, b" ", 0.2], id="a dripped header"),
    ],
)
@pytest.mark.parametrize("port", ["public", "admin"])
async def test_a_slow_header_is_cut_off(open_door: Rig, parts: list[bytes | float], port: str) -> None:
    started = asyncio.get_running_loop().time()
    answer = await talk(open_door, *parts, port=port)
    assert answer.startswith(b"HTTP/1.1 408 ") or answer == b""
    assert asyncio.get_running_loop().time() - started < 5


async def test_a_slow_body_is_408(open_door: Rig) -> None:
    answer = await talk(open_door, request(b"{", "Content-Length: 50"))
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_header_without_end_is_431(open_door: Rig) -> None:
    answer = await talk(open_door, request(b"", "X-Long: " + "x" * 60_000))
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Content-Length: 2", "Content-Length: 3"], id="two lengths"),
        pytest.param(["Content-Length: -1"], id="negative length"),
        pytest.param(["Content-Length: +2"], id="signed length"),
        pytest.param(["Bad Name: x", "Content-Length: 2"], id="space in a name"),
    ],
)
async def test_a_malformed_request_is_400_or_401_and_nothing_is_kept(scene: Rig, lines: list[str]) -> None:
    answer = await talk(scene, request(b"{}", *lines))
    assert answer.split(b" ")[1] in {b"400", b"401"}
    assert await on_disk(scene) == 0


async def test_a_client_that_leaves_leaves_no_traceback(scene: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection(HOST, scene.ports["public"])
        writer.write(request(b"{", "Content-Length: 50"))
        await writer.drain()
        writer.close()
    await asyncio.sleep(0.3)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err


STRANGE_BODIES = {
    "not JSON": b"hello",
    "empty": b"",
    "broken UTF-8": b'{"id":"\xff"}',
    "an array": b"[]",
    "deep": b"[" * 30_000,
    "a lone surrogate": event(account_name="\ud800", platform="facebook"),
    "NUL in a name": event(account_name="a\0b", platform="facebook"),
    "a huge number": b'{"id":"evt_n","event":"account.token_expired","data":{"account_id":1e400}}',
    "an id that is no text": b'{"id":7,"event":"account.token_expired","data":{"account_id":true}}',
    "an unknown event": event("comment.received"),
    "an endless name": event(account_name="x" * 50_000),
    "a header in a name": event(account_name="a\r\nBcc: eve@evil.example"),
}


@pytest.mark.parametrize("name", STRANGE_BODIES)
async def test_whatever_an_authentic_body_holds_it_is_stored_and_acknowledged(scene: Rig, name: str) -> None:
    status, content = await deliver(scene, STRANGE_BODIES[name])
    assert (status, content) == (202, b"")
    assert await on_disk(scene) == 1
    await scene.until_drained()
    assert await scene.metric("healthd_jobs_failed_total") == 0


async def test_what_cannot_be_read_is_parked_and_counted(scene: Rig) -> None:
    await deliver(scene, b"hello")
    await scene.until_drained()
    assert await scene.metric("healthd_inbox_webhooks", status=inbox.InboxStatus.PARKED) == 1
    assert await scene.metric("healthd_webhook_events_total", event="unparsed") == 1


async def test_while_the_store_fails_the_answer_is_503_and_never_2xx(scene: Rig) -> None:
    body = event()
    await scene.store.run(lambda connection: connection.execute(text("alter table inbox rename to lost")) and None)
    answer = await scene.http.post(f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    await scene.store.run(lambda connection: connection.execute(text("alter table lost rename to inbox")) and None)
    assert (await deliver(scene, body))[0] == 202


async def test_a_drain_refuses_with_503_and_says_when_to_come_again(scene: Rig) -> None:
    assert scene.daemon is not None
    scene.daemon.receiver.draining = True
    body = event()
    answer = await scene.http.post(f"{scene.public}/webhooks/sandbox", content=body, headers=signed(scene, body))
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert await on_disk(scene) == 0


async def test_a_thousand_at_once_are_all_kept_in_few_commits(scene: Rig) -> None:
    bodies = [event("comment.received") for _ in range(1000)]
    answers = await asyncio.gather(*(deliver(scene, body) for body in bodies))
    assert {status for status, _ in answers} == {202}
    assert await on_disk(scene) == 1000


async def test_the_private_pages_are_not_on_the_public_listener(scene: Rig) -> None:
    for path in ("/metrics", "/livez", "/readyz"):
        assert (await scene.http.get(scene.public + path)).status_code == 404
        assert (await scene.http.get(scene.admin + path)).status_code == 200
