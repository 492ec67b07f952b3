"""What SmartlyQ's answers may and may not do, each given over a real connection on loopback."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import logging
import random
import re
import socket
import ssl
import struct
import threading
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.model import Lane, Listed, Observation, Profile, Signal, Source
from healthd.providers import base, long_lists, smartlyq
from healthd.providers.allowance import Allowance
from healthd.providers.base import (
    BadAnswer,
    Conflict,
    ForbiddenLink,
    IsNews,
    MissingScope,
    NotFound,
    PaymentRequired,
    ProviderError,
    RateLimited,
    Starved,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from healthd.providers.smartlyq import DEFAULT_ALLOWED_HOSTS, TRIES, SmartlyQ, is_allowed_link
from tests.loopback import Answer, answer
from tests.providers.peer import Endless, Peer, ok, peer_on_loopback, refused

KEY = "sqk_live_5f0c9a4e2b7d4d1a"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LINK = "https://app.smartlyq.com/connect/facebook?token=s3cr3t"
CONTRACT = Path(__file__).parents[2].parent / "shared" / "contract" / "smartlyq.openapi.json"


class Impatient(random.Random):
    """No waiting between tries."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


class Client(SmartlyQ):
    """The client as it is, with what it tells its observer kept at hand."""

    def __init__(self, url: str, **changes: Any) -> None:
        self.told: list[tuple[str, str]] = []
        self.allowance = Allowance(1.0, 100_000)
        options: dict[str, Any] = {
            "workspace": "acme",
            "api_key": KEY,
            "allowance": self.allowance,
            "now": lambda: NOW,
            "base_url": url,
            "rng": Impatient(),
            "observe": lambda endpoint, outcome, _: self.told.append((endpoint, outcome)),
        }
        super().__init__(**{**options, **changes})

    async def all_profiles(self) -> list[Profile]:
        return [profile async for profile in self.profiles()]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with peer_on_loopback() as peer:
        yield peer


@asynccontextmanager
async def connected(peer: Peer, **changes: Any) -> AsyncIterator[Client]:
    client = Client(peer.url, **changes)
    async with client.session():
        yield client


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Client]:
    async with connected(peer) as client:
        yield client


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "me": lambda client: client.identity(),
    "list": lambda client: client.list_accounts(None, Lane.BULK),
    "health": lambda client: client.health("7", None, Lane.CONFIRM),
    "bulk": lambda client: client.health_all(None),
    "mint": lambda client: client.mint("7", None),
    "pause": lambda client: client.pause("7", None),
    "resume": lambda client: client.resume("7", None),
    "profiles": lambda client: client.all_profiles(),
}
ASKED_ONCE = {"mint", "pause", "resume"}


async def failure(call: Awaitable[object]) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await call
    return raised.value


def row(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "platform": "facebook",
        "account_name": "Acme",
        "status": "connected",
        "token_expired": False,
        "validity_days": 45,
        **changes,
    }


REFUSALS: dict[str, tuple[bytes, type[ProviderError]]] = {
    "U1 401": (refused(401, "UNAUTHORIZED"), Unauthorized),
    "U1 401 invalid key": (refused(401, "INVALID_API_KEY"), Unauthorized),
    "U2 402": (refused(402, "INSUFFICIENT_BALANCE"), PaymentRequired),
    "U3 403": (refused(403, "FORBIDDEN"), MissingScope),
    "U3 403 scope": (refused(403, "INSUFFICIENT_SCOPE", {"required_scope": "social:read"}), MissingScope),
    "U4 404": (refused(404, "RESOURCE_NOT_FOUND"), NotFound),
    "U5 404 not enabled": (refused(404, "NOT_ENABLED"), NotFound),
    "U6 409": (refused(409, "CONFLICT"), Conflict),
    "U7 422": (refused(422, "VALIDATION_ERROR"), Unprocessable),
    "U8 429": (refused(429, "RATE_LIMIT_EXCEEDED", headers={"retry-after": "7"}), RateLimited),
    "U10 500": (refused(500, "SERVER_ERROR"), Unavailable),
    "U11 501": (refused(501, "NOT_IMPLEMENTED"), Unavailable),
    "U10 503": (refused(503, "MAINTENANCE"), Unavailable),
    "U11 999": (refused(999, "DENIED"), Unavailable),
    "400": (refused(400, "BAD_REQUEST"), BadAnswer),
    "418": (refused(418, "TEAPOT"), BadAnswer),
    "U21 200 no success, unauthorized": (refused(200, "INVALID_API_KEY"), Unauthorized),
    "U21 200 no success, balance": (refused(200, "INSUFFICIENT_BALANCE"), PaymentRequired),
    "U21 200 no success, scope": (refused(200, "INSUFFICIENT_SCOPE"), MissingScope),
    "U21 200 no success, not found": (refused(200, "RESOURCE_NOT_FOUND"), NotFound),
    "U21 200 no success, conflict": (refused(200, "CONFLICT"), Conflict),
    "U21 200 no success, invalid": (refused(200, "VALIDATION_ERROR"), Unprocessable),
    "U21 200 no success, too many": (refused(200, "RATE_LIMITED"), RateLimited),
    "U21 200 no success, anything else": (refused(200, "SOMETHING"), BadAnswer),
}

WITHOUT_ENVELOPE: dict[str, tuple[bytes, type[ProviderError]]] = {
    "401 HTML": (answer(401, b"<h1>Unauthorized</h1>"), Unauthorized),
    "404 empty": (answer(404), NotFound),
    "409 a list": (answer(409, [1]), Conflict),
    "422 an error that is a word": (answer(422, {"success": False, "error": "no"}), Unprocessable),
    "403 an error that is null": (answer(403, {"success": False, "error": None, "meta": 7}), MissingScope),
    "429 HTML": (answer(429, b"<h1>Too many</h1>"), RateLimited),
    "U10 500 HTML": (answer(500, b"<h1>Oops</h1>"), Unavailable),
    "U10 502 without JSON": (answer(502, b"<html>Bad gateway</html>"), Unavailable),
    "U10 504 empty": (answer(504), Unavailable),
    "U11 300": (answer(300), Unavailable),
    "U11 301": (answer(301, headers={"location": "https://elsewhere.example/"}), Unavailable),
    "U11 302 to a good answer": (answer(302, {"success": True, "data": []}, {"location": "/v1/me"}), Unavailable),
    "U11 302 to nonsense": (answer(302, headers={"location": "http://[::1:99999999/\\"}), Unavailable),
    "U11 302 to another scheme": (answer(302, headers={"location": "file:///etc/passwd"}), Unavailable),
    "U11 303": (answer(303, headers={"location": "/v1/me"}), Unavailable),
    "U11 304": (answer(304), Unavailable),
    "U11 307": (answer(307, headers={"location": "/v1/me"}), Unavailable),
    "U11 308": (answer(308, headers={"location": "/v1/me"}), Unavailable),
    "U19 HTML": (answer(200, b"<!doctype html><title>Log in</title>", {"content-type": "text/html"}), BadAnswer),
    "U19 HTML that says it is JSON": (answer(200, b"<html>", {"content-type": "application/json"}), BadAnswer),
    "U20 empty": (answer(200), BadAnswer),
    "U20 204": (b"HTTP/1.1 204 -\r\n\r\n", BadAnswer),
    "U22 null": (answer(200, b"null"), BadAnswer),
    "U22 a list": (answer(200, b"[]"), BadAnswer),
    "U22 a word": (answer(200, b'"ok"'), BadAnswer),
    "U22 truncated JSON": (answer(200, b'{"success":true,"data":{"id":7,"status":"conn'), BadAnswer),
    "U22 NaN": (answer(200, b'{"success":true,"data":NaN}'), BadAnswer),
    "U22 deep JSON": (answer(200, b'{"data":' * 5000 + b"1" + b"}" * 5000), BadAnswer),
    "U22 large and truncated": (answer(200, b'{"success":true,"data":[' + b'{"id":7},' * 20_000), BadAnswer),
    "U22 not UTF-8": (answer(200, b'{"success":true,"data":"\xff"}'), BadAnswer),
    "U22 UTF-16": (answer(200, '{"success":true}'.encode("utf-16")), BadAnswer),
    "U28 broken gzip": (answer(200, b"no gzip", {"content-encoding": "gzip"}), BadAnswer),
}


@pytest.mark.parametrize("said", [*REFUSALS, *WITHOUT_ENVELOPE])
async def test_every_answer_but_a_good_one_is_an_error_of_its_kind_whatever_was_asked(
    said: str, peer: Peer, client: Client
) -> None:
    bytes_, kind = {**REFUSALS, **WITHOUT_ENVELOPE}[said]
    peer.says(bytes_)
    for endpoint, call in CALLS.items():
        peer.asked.clear()
        client.told.clear()
        client.allowance.ledger.paused_until = 0.0
        error = await failure(call(client))
        assert type(error) is kind, endpoint
        assert error.request_id == ("req_1" if said in REFUSALS else None)
        tries = TRIES if kind is Unavailable and endpoint not in ASKED_ONCE else 1
        assert client.told == [(endpoint, kind.kind)] * tries
        assert len(peer.asked) == tries
        assert not any(asked.path == "/v1/me" for asked in peer.asked) or endpoint == "me"


def test_every_kind_of_error_has_a_label_and_a_remedy_of_its_own() -> None:
    kinds: list[type[ProviderError]] = [Unauthorized, PaymentRequired, MissingScope, NotFound, Conflict]
    kinds += [Unprocessable, RateLimited, Starved, Unavailable, BadAnswer, ForbiddenLink]
    assert len({kind.kind for kind in kinds}) == len(kinds)
    assert all(re.fullmatch("[a-z_]+", kind.kind) and kind.remedy.endswith(".") for kind in kinds)
    named = {kind for kind in vars(base).values() if isinstance(kind, type) and issubclass(kind, ProviderError)}
    assert named == {ProviderError, *kinds}


async def test_a_missing_scope_and_a_refusals_code_are_named(peer: Peer, client: Client) -> None:
    peer.says(refused(403, "INSUFFICIENT_SCOPE", {"required_scope": "social:write"}))
    error = await failure(client.mint("7", None))
    assert isinstance(error, MissingScope)
    assert error.scope == "social:write"
    assert str(error) == "HTTP 403 INSUFFICIENT_SCOPE: needs social:write"
    peer.says(refused(422, "PROVIDER_NOT_CONFIGURED"))
    error = await failure(client.mint("7", None))
    assert isinstance(error, Unprocessable)
    assert error.code == "PROVIDER_NOT_CONFIGURED"


@pytest.mark.parametrize("details", [None, [], "social:read", 7, {"required_scope": 7}, {"required_scope": None}])
async def test_a_missing_scope_that_is_not_named_is_none(details: object, peer: Peer, client: Client) -> None:
    peer.says(refused(403, "FORBIDDEN", details))
    error = await failure(client.identity())
    assert isinstance(error, MissingScope)
    assert error.scope is None


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def dripping_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        writer.write(b"x-%d: y\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.01)


async def silent(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def cut(raw: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """Says only this much and closes."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return say


GOOD = ok(row())
TRANSPORT: dict[str, tuple[Answer, type[ProviderError]]] = {
    "U14 silence": (silent, Unavailable),
    "U15 a dripping body": (dripping, Unavailable),
    "U16 dripping headers": (dripping_headers, Unavailable),
    "reset": (reset, Unavailable),
    "closed without a word": (cut(b""), Unavailable),
    "closed within the headers": (cut(b"HTTP/1.1 200 OK\r\ncontent-le"), Unavailable),
    "U17 cut before its content-length": (cut(GOOD[:-5]), Unavailable),
    "U17 cut within a chunk": (cut(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"), Unavailable),
    "U17 without a last chunk": (
        cut(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{"success":true,\r\n'),
        Unavailable,
    ),
    "U18 cut, its length unknown": (
        cut(b'HTTP/1.1 200 OK\r\n\r\n{"success":true,"data":{"id":7,"status":"expired"'),
        BadAnswer,
    ),
    "no HTTP": (cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Unavailable),
    "a status that is no number": (cut(b"HTTP/1.1 abc\r\n\r\n"), Unavailable),
    "two content-lengths": (cut(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"), Unavailable),
    "a negative content-length": (cut(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}"), Unavailable),
    "U28 a megabyte of header": (cut(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n"), Unavailable),
    "U28 gzip cut short": (
        cut(answer(200, gzip.compress(GOOD * 50)[:60], {"content-encoding": "gzip"})),
        BadAnswer,
    ),
}


@pytest.mark.parametrize("said", TRANSPORT)
@pytest.mark.parametrize("endpoint", ["health", "mint"])
async def test_no_whole_answer_is_unavailable_and_never_a_reading(said: str, endpoint: str, peer: Peer) -> None:
    misbehaviour, kind = TRANSPORT[said]
    peer.says(misbehaviour)
    async with connected(peer, timeout=0.5) as client:
        error = await failure(CALLS[endpoint](client))
    assert type(error) is kind
    assert len(peer.asked) == (TRIES if kind is Unavailable and endpoint == "health" else 1)
    assert {outcome for _, outcome in client.told} == {kind.kind}


async def test_the_deadline_is_for_the_whole_exchange_and_not_for_each_read(peer: Peer) -> None:
    peer.says(dripping)
    async with connected(peer, timeout=0.2) as client:
        started = asyncio.get_running_loop().time()
        error = await failure(client.mint("7", None))
        took = asyncio.get_running_loop().time() - started
    assert str(error) == "no whole answer within 0.2 s"
    assert 0.2 <= took < 1.0


async def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = Client(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        async with client.session():
            assert str(await failure(client.identity())) == "no answer: ConnectError"


@pytest.mark.parametrize(
    "url",
    ["http://nowhere.invalid/v1", "http://127.0.0.1:99999/v1", "ftp://127.0.0.1/v1", "http://[::1/v1", "nonsense"],
)
async def test_an_address_that_leads_nowhere_is_unavailable(url: str) -> None:
    client = Client(url)
    async with client.session():
        assert isinstance(await failure(client.identity()), Unavailable)


async def test_a_certificate_nobody_vouches_for_is_unavailable_and_the_key_is_not_sent() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with peer_on_loopback(tls) as peer, connected(peer) as client:
        peer.says(GOOD)
        assert isinstance(await failure(client.identity()), Unavailable)
    assert peer.asked == []


async def test_without_a_session_nothing_is_asked(peer: Peer) -> None:
    with pytest.raises(RuntimeError, match="session is not open"):
        await Client(peer.url).identity()


async def test_a_proxy_named_in_the_environment_is_not_used(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    peer.says(ok({"name": "Acme"}))
    async with connected(peer) as client:
        assert await client.identity() == "Acme"


async def test_an_answer_beyond_its_limit_is_dropped_while_it_is_read(peer: Peer, client: Client) -> None:
    endless = Endless()
    peer.says(endless)
    error = await failure(client.health("7", None, Lane.CONFIRM))
    assert isinstance(error, BadAnswer)
    assert str(error) == f"the answer is larger than {smartlyq.SMALL_ANSWER} bytes"
    assert endless.sent < 3 * smartlyq.SMALL_ANSWER
    assert len(peer.asked) == 1


async def test_a_compressed_answer_is_measured_unpacked(peer: Peer, client: Client) -> None:
    bomb = gzip.compress(b" " * (smartlyq.SMALL_ANSWER + 1))
    assert len(bomb) < 20_000
    peer.says(answer(200, bomb, {"content-encoding": "gzip"}))
    error = await failure(client.health("7", None, Lane.CONFIRM))
    assert isinstance(error, BadAnswer)
    assert "larger than" in str(error)
    assert len(peer.asked) == 1


async def test_a_compressed_answer_is_read(peer: Peer, client: Client) -> None:
    body = orjson.dumps({"success": True, "data": row(), "meta": {}})
    peer.says(answer(200, gzip.compress(body), {"content-encoding": "gzip"}))
    assert (await client.health("7", None, Lane.CONFIRM)).signal is Signal.OK


@pytest.mark.parametrize("broken", [refused(503, "X"), answer(502, b"<html>"), cut(b""), reset])
@pytest.mark.parametrize("failures", [1, TRIES - 1])
async def test_a_reading_is_asked_for_again_after_a_passing_failure(
    broken: Answer, failures: int, peer: Peer, client: Client
) -> None:
    peer.says(*[broken] * failures, GOOD)
    assert (await client.health("7", None, Lane.CONFIRM)).signal is Signal.OK
    assert len(peer.asked) == failures + 1


@pytest.mark.parametrize("endpoint", sorted(ASKED_ONCE))
async def test_what_has_an_effect_is_never_repeated_by_itself(endpoint: str, peer: Peer, client: Client) -> None:
    peer.says(cut(b""), ok({"reconnect_url": LINK}))
    assert isinstance(await failure(CALLS[endpoint](client)), Unavailable)
    assert len(peer.asked) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 90 "}, 90),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "3600"}, 3600),
        ({"retry-after": "1000000000"}, 3600),
        ({"retry-after": "9" * 400}, 30),
        ({"retry-after": "-5"}, 30),
        ({"retry-after": "1.5"}, 30),
        ({"retry-after": "1e9"}, 30),
        ({"retry-after": "soon"}, 30),
        ({"retry-after": ""}, 30),
        ({"retry-after": "٧"}, 30),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90),
        ({"retry-after": format_datetime(NOW - timedelta(days=90), usegmt=True)}, 1),
        ({"retry-after": format_datetime(NOW + timedelta(days=90), usegmt=True)}, 3600),
        ({"retry-after": "Tue, 24 Nov 2026 12:01:30 -0000"}, 30),
        ({"retry-after": "Tue, 99 Nov 99999 12:01:30 GMT"}, 30),
        ({"retry-after": f"Tue, 24 Nov {'9' * 30} 12:01:30 GMT"}, 30),
        ({"retry-after": "Tue, 24 Nov 2026 12:01:30 +99999999999"}, 30),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 45)}, 45),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) - 45)}, 1),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) * 1000)}, 3600),
        ({"x-ratelimit-reset": "nan"}, 30),
        ({"retry-after": "7", "x-ratelimit-reset": str(int(NOW.timestamp()) + 45)}, 7),
        ({}, 30),
    ],
)
async def test_too_many_requests_stop_every_lane_for_as_long_as_was_asked(
    headers: dict[str, str], seconds: float, peer: Peer, client: Client
) -> None:
    said = answer(429, {"success": False, "error": {"code": "RATE_LIMITED"}})
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    peer.says(said.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n", 1), GOOD)
    error = await failure(client.health("7", None, Lane.CONFIRM))
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds
    assert len(peer.asked) == 1
    now = asyncio.get_running_loop().time()
    for lane in Lane:
        assert client.allowance.ledger.wait(lane, now) == pytest.approx(seconds, abs=0.9)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.health("7", None, Lane.CLICK), 0.01)
    assert len(peer.asked) == 1


async def test_the_limits_in_an_answers_headers_are_taken_over(peer: Peer, client: Client) -> None:
    rate = {
        "x-ratelimit-limit": "600",
        "x-ratelimit-remaining": "17",
        "x-ratelimit-reset": f"{NOW.timestamp() + 30:.0f}",
    }
    peer.says(ok({"name": "Acme"}, rate))
    await client.identity()
    assert client.allowance.limit == 600
    now = asyncio.get_running_loop().time()
    assert client.allowance.ledger.wait(Lane.CLICK, now) == 0
    assert client.allowance.ledger.wait(Lane.BULK, now) == pytest.approx(30, abs=0.9)


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_the_limits_in_an_errors_headers_are_taken_over_too(status: int, peer: Peer, client: Client) -> None:
    peer.says(refused(status, "X", headers={"x-ratelimit-limit": "60", "x-ratelimit-remaining": "50"}))
    await failure(client.identity())
    assert client.allowance.limit == 60


@pytest.mark.parametrize("nonsense", ["", "-1", "abc", "1.5", "nan", "+600", "6_0", "9" * 400, "0", "٦٠"])
async def test_limits_that_are_nonsense_are_passed_over(nonsense: str, peer: Peer, client: Client) -> None:
    header = f"x-ratelimit-limit: {nonsense}\r\nx-ratelimit-remaining: {nonsense}\r\nx-ratelimit-reset: {nonsense}\r\n"
    said = ok({"name": "Acme"}).replace(b"\r\n\r\n", b"\r\n" + header.encode() + b"\r\n", 1)
    peer.says(said)
    await client.identity()
    assert client.allowance.limit == 100_000


async def test_every_request_carries_the_key_and_the_profile_it_is_about(peer: Peer, client: Client) -> None:
    peer.says(ok([]))
    await client.list_accounts("128", Lane.BULK)
    await client.list_accounts(None, Lane.BULK)
    await client.list_accounts("", Lane.BULK)
    inside, outside, unnamed = peer.asked
    assert inside.headers["authorization"] == f"Bearer {KEY}"
    assert inside.headers["x-profile-id"] == "128"
    assert "x-profile-id" not in outside.headers
    assert "x-profile-id" not in unnamed.headers
    assert {asked.headers["user-agent"] for asked in peer.asked} == {"healthd"}


async def test_each_call_asks_what_it_should(peer: Peer, client: Client) -> None:
    peer.by_path = {
        "/v1/me": ok({"name": "Acme"}),
        "/v1/social/accounts": ok([]),
        "/v1/social/accounts/health": ok({"accounts": []}),
        "/v1/profiles?page=1&per_page=100": ok({"profiles": []}),
        "/v1/social/accounts/7/reconnect-url": ok({"reconnect_url": LINK}),
    }
    peer.says(GOOD)
    asked = {}
    for endpoint, call in CALLS.items():
        peer.asked.clear()
        await call(client)
        asked[endpoint] = [
            (said.method, said.path.removeprefix("/v1"), "x-profile-id" in said.headers) for said in peer.asked
        ]
    assert asked == {
        "me": [("GET", "/me", False)],
        "list": [("GET", "/social/accounts", False)],
        "health": [("GET", "/social/accounts/7/health", False)],
        "bulk": [("GET", "/social/accounts/health", False)],
        "mint": [("GET", "/social/accounts/7/reconnect-url", False)],
        "pause": [("POST", "/social/accounts/7/pause", False)],
        "resume": [("POST", "/social/accounts/7/resume", False)],
        "profiles": [("GET", "/profiles?page=1&per_page=100", False)],
    }
    assert client.told == [(endpoint, "ok") for endpoint in CALLS]


@pytest.mark.parametrize("ref", ["", "../me", "7/../8", "7?x=1", "٧", "1" * 21, "-7", "7\r\nx: y"])
async def test_what_is_no_id_is_never_put_into_a_path(ref: str, peer: Peer, client: Client) -> None:
    for call in (client.mint, client.pause, client.resume):
        with pytest.raises(ValueError, match="digits"):
            await call(ref, None)
    with pytest.raises(ValueError, match="digits"):
        await client.health(ref, None, Lane.CONFIRM)
    assert peer.asked == []


async def test_neither_the_key_nor_a_link_is_in_any_log_or_error(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"success": False, "error": {"code": KEY, "message": KEY, "details": {"required_scope": KEY}}}
    evil = ok({"reconnect_url": f"https://evil.example/?token={KEY}"})
    answers: list[Answer] = [evil, ok({"id": KEY, "status": KEY}), answer(200, f"<b>{KEY}</b>".encode()), reset]
    answers += [answer(status, echo) for status in (200, 400, 401, 402, 403, 404, 409, 422, 500)]
    texts = []
    async with connected(peer, timeout=0.2) as client:
        for said in answers:
            peer.says(said)
            for call in (client.mint("7", None), client.health("7", None, Lane.CONFIRM)):
                try:
                    await call
                except ProviderError as error:
                    texts += [str(error), repr(error), error.remedy, *traceback.format_exception(error)]
        peer.says(ok({"reconnect_url": LINK}))
        assert await client.mint("7", None) == LINK
        texts.append(repr(client))
    assert len(texts) > 100
    texts += [caplog.text, *(str(vars(record)) for record in caplog.records)]
    assert not [text for text in texts if KEY in text or "s3cr3t" in text or "evil.example" in text]


GOOD_LINKS = [
    LINK,
    "https://app.smartlyq.com",
    "https://app.smartlyq.com/",
    "https://app.smartlyq.com?x=1",
    "https://app.smartlyq.com#x",
    "https://APP.SmartlyQ.com/x",
    "https://app.smartlyq.com/a:b@c",
    "https://app.smartlyq.com/?next=https://evil.example/",
    "https://app.smartlyq.com/%0d%0aset-cookie:x",
    "https://accounts.google.com/o/oauth2/auth?x=y&z=%20#top",
    "https://www.facebook.com/v19.0/dialog/oauth?client_id=1",
    "https://app.smartlyq.com/" + "x" * (2048 - 25),
]
BAD_LINKS: list[object] = [
    "http://app.smartlyq.com/",
    "HTTPS://app.smartlyq.com/",
    "https://app.smartlyq.com.evil.com/",
    "https://evil-app.smartlyq.com/",
    "https://smartlyq.com/",
    "https://x.app.smartlyq.com/",
    "https://app.smartlyq.com./",
    "https://app.smartlyq.com:443/",
    "https://app.smartlyq.com:8443/",
    "https://app.smartlyq.com:/",
    "https://user@app.smartlyq.com/",
    "https://user:word@app.smartlyq.com/",
    "https://app.smartlyq.com@evil.com/",
    "https://evil.com\\@app.smartlyq.com/",
    "https://app.smartlyq.com\\.evil.com/",
    "https://app.smartlyq.com/\\evil.com",
    "https:\\\\app.smartlyq.com/",
    "https:/app.smartlyq.com/",
    "https:app.smartlyq.com/",
    "//app.smartlyq.com/",
    "app.smartlyq.com",
    "/connect",
    "javascript:alert(1)",
    "javascript://app.smartlyq.com/%0aalert(1)",
    "data:text/html,x",
    "ftp://app.smartlyq.com/",
    " https://app.smartlyq.com/",
    "https://app.smartlyq.com/ ",
    "https://app.smartlyq.com/a b",
    "https://app.smartlyq.com\t.evil.com/",
    "https://app.smartlyq.com/\tx",
    "https://app.smartlyq.com/\r\nset-cookie: x",
    "https://app.smartlyq.com/\n",
    "https://app.smartlyq.com/\0",
    "https://app.smartlyq.com/\x7f",
    "https://аpp.smartlyq.com/",
    "https://app.smartlyq.com/é",
    "https://app。smartlyq.com/",
    "https://app.smartlyq.com%2eevil.com/",
    "https://app.smartlyq.com%00/",
    "https://[::1]/",
    "https://127.0.0.1/",
    "https:///app.smartlyq.com/",
    "https://",
    "https://app.smartlyq.com/" + "x" * (2049 - 25),
    "x" * 1_000_000,
    "",
    None,
    7,
    True,
    ["https://app.smartlyq.com/"],
    {"url": "https://app.smartlyq.com/"},
    b"https://app.smartlyq.com/",
]


@pytest.mark.parametrize("link", GOOD_LINKS, ids=lambda link: link[:60])
def test_a_link_to_an_allowed_host_may_be_given_out(link: str) -> None:
    assert is_allowed_link(link, DEFAULT_ALLOWED_HOSTS)


@pytest.mark.parametrize("link", BAD_LINKS, ids=lambda link: repr(link)[:60])
def test_no_other_link_may_be_given_out(link: object) -> None:
    assert not is_allowed_link(link, DEFAULT_ALLOWED_HOSTS)


def test_plain_http_is_for_a_port_of_this_machine_that_is_named() -> None:
    hosts = {"127.0.0.1:8090", "evil.com:80", "evil.com"}
    assert is_allowed_link("http://127.0.0.1:8090/consent?x=1", hosts)
    for link in ("http://127.0.0.1:8091/", "http://127.0.0.1/", "http://localhost:8090/", "http://evil.com:80/"):
        assert not is_allowed_link(link, hosts)
    assert not is_allowed_link("http://127.0.0.1:8090@evil.com/", hosts)
    assert not is_allowed_link("http://127.0.0.1:8090", set())


@given(
    st.text(st.sampled_from(list("https:/\\@.#? \t\n%evilappsmartlyq.com")), max_size=60),
    st.sampled_from(["", "https://"]),
)
def test_a_link_that_may_be_given_out_has_nothing_between_the_scheme_and_an_allowed_host(text: str, start: str) -> None:
    link = start + text
    if is_allowed_link(link, DEFAULT_ALLOWED_HOSTS):
        host = re.split("[/?#]", link.removeprefix("https://"), maxsplit=1)[0]
        assert link.startswith("https://")
        assert host.lower() in DEFAULT_ALLOWED_HOSTS
        assert not re.search(r"[\\\s]", link)


async def test_a_link_is_minted(peer: Peer, client: Client) -> None:
    peer.says(ok({"reconnect_url": LINK}))
    assert await client.mint("7", "128") == LINK
    assert peer.asked[0].headers["x-profile-id"] == "128"


@pytest.mark.parametrize(
    "data", [{"reconnect_url": "https://evil.example/"}, {"reconnect_url": None}, {"url": LINK}, {}, [], None, LINK]
)
async def test_a_link_that_may_not_be_given_out_is_none(data: object, peer: Peer, client: Client) -> None:
    peer.says(ok(data))
    error = await failure(client.mint("7", None))
    assert isinstance(error, ForbiddenLink)
    assert error.request_id == "req_1"
    assert len(peer.asked) == 1


READINGS: list[tuple[object, object, Signal | None]] = [
    ("connected", False, Signal.OK),
    ("connected", None, Signal.OK),
    ("connected", True, None),
    ("expired", True, Signal.BAD_TOKEN),
    ("expired", None, Signal.BAD_TOKEN),
    ("expired", False, Signal.ERROR),
    ("error", True, Signal.ERROR),
    ("error", False, Signal.ERROR),
    ("error", None, Signal.ERROR),
    ("published", True, None),
    ("published", False, None),
    ("EXPIRED", True, None),
    ("revoked", True, None),
    ("", True, None),
    (None, True, None),
    (7, True, None),
    (["expired"], True, None),
    ({}, True, None),
    (True, True, None),
    ("expired", "true", None),
    ("expired", 1, None),
    ("connected", 0, None),
    ("connected", [], None),
]


@pytest.mark.parametrize(("status", "expired", "signal"), READINGS)
async def test_a_reading_says_what_all_of_its_fields_say_together(
    status: object, expired: object, signal: Signal | None, peer: Peer, client: Client
) -> None:
    peer.by_path = {"/v1/social/accounts/health": ok({"accounts": [row(status=status, token_expired=expired)]})}
    peer.says(ok(row(status=status, token_expired=expired)))
    bulk = await client.health_all(None)
    if signal is None:
        assert isinstance(await failure(client.health("7", None, Lane.CONFIRM)), BadAnswer)
        assert (list(bulk.observations), bulk.unclear) == ([], ["7"])
    else:
        assert (await client.health("7", None, Lane.CONFIRM)).signal is signal
        assert ([seen.signal for seen in bulk.observations], bulk.unclear) == ([signal], [])


async def test_a_reading_without_its_second_witness_is_taken_at_its_word(peer: Peer, client: Client) -> None:
    peer.says(ok({"id": 7, "status": "connected"}))
    found = await client.health("7", None, Lane.CONFIRM)
    assert found == Observation("7", Signal.OK, Source.HEALTH, NOW, NOW, request_id="req_1")


async def test_a_reading_is_kept_whole(peer: Peer, client: Client) -> None:
    peer.says(ok(row(is_active=False), timestamp="2026-11-24T12:00:03Z"))
    assert await client.health("7", None, Lane.CONFIRM) == Observation(
        ref="7",
        signal=Signal.OK,
        source=Source.HEALTH,
        at=NOW + timedelta(seconds=3),
        asked_at=NOW,
        validity_days=45,
        paused=True,
        name="Acme",
        platform="facebook",
        request_id="req_1",
    )


@pytest.mark.parametrize("ref", [8, "8", 0, -7, 7.0, None, True, "", [7], "07", 2**70])
async def test_u29_an_answer_about_another_account_says_nothing_of_this_one(
    ref: object, peer: Peer, client: Client
) -> None:
    said = json.dumps({"success": True, "data": row(id=ref), "meta": {"request_id": "req_1"}}).encode()
    peer.says(answer(200, said))
    error = await failure(client.health("7", None, Lane.CONFIRM))
    assert isinstance(error, BadAnswer)
    assert error.request_id == "req_1"
    assert len(peer.asked) == 1


@pytest.mark.parametrize("days", [None, -5, 10**9, "30", 29.5, True, [], 36_501])
async def test_u26_a_validity_that_cannot_be_is_no_validity(days: object, peer: Peer, client: Client) -> None:
    peer.says(ok(row(validity_days=days)))
    found = await client.health("7", None, Lane.CONFIRM)
    assert (found.signal, found.validity_days) == (Signal.OK, None)


@pytest.mark.parametrize("days", [0, 1, 36_500])
async def test_a_validity_that_can_be_is_kept(days: int, peer: Peer, client: Client) -> None:
    peer.says(ok(row(validity_days=days)))
    assert (await client.health("7", None, Lane.CONFIRM)).validity_days == days


@pytest.mark.parametrize(("active", "paused"), [(True, False), (False, True), (None, None), ("no", None), (0, None)])
async def test_paused_is_known_only_where_it_is_said(
    active: object, paused: bool | None, peer: Peer, client: Client
) -> None:
    peer.says(ok({"accounts": [row(is_active=active)]}))
    [found] = (await client.health_all(None)).observations
    assert (found.signal, found.paused) == (Signal.OK, paused)


@pytest.mark.parametrize(
    ("timestamp", "at"),
    [
        ("2026-11-24T11:55:00Z", NOW - timedelta(minutes=5)),
        ("2026-11-24T13:05:00+01:00", NOW + timedelta(minutes=5)),
        ("2026-11-24T11:54:59Z", NOW),
        ("2026-11-24T12:05:01Z", NOW),
        ("2026-07-26T09:41:22Z", NOW),
        ("9999-12-31T23:59:59-23:59", NOW),
        ("later", NOW),
        ("", NOW),
        (None, NOW),
        (1795521600, NOW),
        ([], NOW),
    ],
)
async def test_a_reading_is_dated_by_the_provider_only_where_its_date_can_be_true(
    timestamp: object, at: datetime, peer: Peer, client: Client
) -> None:
    peer.says(ok(row(), timestamp=timestamp))
    assert (await client.health("7", None, Lane.CONFIRM)).at == at
    peer.says(ok({"accounts": []}, timestamp=timestamp))
    assert (await client.health_all(None)).at == at


@pytest.mark.parametrize("meta", [None, [], 7, "x", {}, {"request_id": 7, "timestamp": {}}])
async def test_an_answer_without_a_usable_meta_is_dated_by_its_request(
    meta: object, peer: Peer, client: Client
) -> None:
    peer.says(answer(200, {"success": True, "data": row(), "meta": meta}))
    found = await client.health("7", None, Lane.CONFIRM)
    assert (found.at, found.asked_at, found.request_id) == (NOW, NOW, None)


@pytest.mark.parametrize("data", [None, [], "x", 7, {}, [row()], {"account": row()}])
async def test_u22_a_reading_of_the_wrong_shape_says_nothing(data: object, peer: Peer, client: Client) -> None:
    peer.says(ok(data))
    assert isinstance(await failure(client.health("7", None, Lane.CONFIRM)), BadAnswer)


@pytest.mark.parametrize("data", [None, [], "x", 7, {}, {"accounts": None}, {"accounts": {}}, {"accounts": "x"}])
async def test_u22_a_bulk_answer_of_the_wrong_shape_says_nothing(data: object, peer: Peer, client: Client) -> None:
    peer.says(ok(data))
    error = await failure(client.health_all(None))
    assert isinstance(error, BadAnswer)
    assert error.request_id == "req_1"


async def test_u24_the_row_that_contradicts_itself_is_asked_for_by_itself(peer: Peer, client: Client) -> None:
    trap = row(id=128, status="published", token_expired=True, validity_days=30, is_active=True)
    peer.says(ok({"healthy": 1, "expired": 1, "accounts": [row(id=1), trap, row(id=2)]}))
    bulk = await client.health_all(None)
    assert [seen.ref for seen in bulk.observations] == ["1", "2"]
    assert bulk.unclear == ["128"]
    assert bulk.bad_rows == 0


async def test_an_account_that_is_in_the_bulk_answer_twice_is_asked_for_by_itself(peer: Peer, client: Client) -> None:
    peer.says(ok({"accounts": [row(id=1), row(id=2), row(id="1", status="expired", token_expired=True), row(id=1)]}))
    bulk = await client.health_all(None)
    assert [seen.ref for seen in bulk.observations] == ["2"]
    assert bulk.unclear == ["1"]


async def test_an_empty_bulk_answer_is_an_answer(peer: Peer, client: Client) -> None:
    peer.says(ok({"accounts": []}))
    bulk = await client.health_all("128")
    assert (list(bulk.observations), bulk.unclear, bulk.bad_rows, bulk.asked_at) == ([], [], 0, NOW)
    assert peer.asked[0].headers["x-profile-id"] == "128"


BAD_ROWS: list[object] = [None, 7, "x", [], {}, row(id=None), row(id=0), row(id=-1), row(id=1.5), row(id="x")]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=repr)
async def test_u22_few_bad_rows_are_counted_and_many_discard_the_whole(bad: object, peer: Peer, client: Client) -> None:
    good: list[object] = [row(id=number) for number in range(1, 96)]
    peer.says(ok({"accounts": good + [bad] * 5}))
    bulk = await client.health_all(None)
    assert (len(list(bulk.observations)), bulk.bad_rows, bulk.unclear) == (95, 5, [])
    peer.says(ok({"accounts": good + [bad] * 6}))
    error = await failure(client.health_all(None))
    assert isinstance(error, BadAnswer)
    assert str(error) == "6 of 101 rows cannot be read"


NASTY = ['"},{"id":1}]', "}]", "},", '\\"}', '"accounts":[{']


@pytest.mark.parametrize("indent", [None, 2])
async def test_a_long_answer_is_read_in_pieces_so_that_nobody_waits_for_the_whole(
    indent: int | None, peer: Peer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    loads = orjson.loads

    def measured(text: bytes) -> Any:
        sizes.append(len(text))
        return loads(text)

    monkeypatch.setattr(orjson, "loads", measured)
    rows = [row(id=n, name=NASTY[n % 5], account_name=NASTY[n % 5]) for n in range(1, 5001)]
    meta = {"request_id": "req_1"}
    bulk_body = json.dumps({"success": True, "data": {"healthy": 1, "accounts": rows}, "meta": meta}, indent=indent)
    peer.says(answer(200, bulk_body.encode()))
    bulk = await client.health_all(None)
    assert [seen.ref for seen in bulk.observations] == [str(n) for n in range(1, 5001)]
    list_body = json.dumps({"meta": meta, "success": True, "data": rows}, indent=indent)
    peer.says(answer(200, list_body.encode()))
    assert len((await client.list_accounts(None, Lane.BULK)).shown) == 5000
    assert len(bulk_body) > 5 * long_lists.PIECE
    assert max(sizes) <= 2 * long_lists.PIECE + 100


async def test_the_rows_of_a_long_answer_are_judged_off_the_event_loop(
    peer: Peer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def noting(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noted(value: Any) -> Any:
            threads.add(threading.get_ident())
            return real(value)

        return noted

    monkeypatch.setattr(smartlyq, "_platform", noting(smartlyq._platform))
    peer.says(ok([{"id": 1, "platform": "x", "name": "y"}]))
    await client.list_accounts(None, Lane.BULK)
    peer.says(ok({"accounts": [row()]}))
    await client.health_all(None)
    assert threads
    assert threading.get_ident() not in threads


_long = st.fixed_dictionaries(
    {},
    optional={
        "success": st.just(True),
        "data": st.recursive(
            st.none() | st.integers(0, 9) | st.sampled_from(['},{"', "}]", '"accounts":[', "\\", "é", ""]),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.sampled_from(["accounts", "data", "id", "x"]), inner, max_size=3)
            ),
            max_leaves=20,
        ),
        "accounts": st.lists(
            st.dictionaries(st.sampled_from("ab"), st.lists(st.dictionaries(st.just("c"), st.none())))
        ),
        "meta": st.just({"request_id": "r"}),
    },
)


def in_pieces(body: bytes, path: tuple[str, ...], size: int, parts: int) -> Any:
    """What is read of the body while it arrives in so many parts, its list put back together."""
    rows: list[Any] = []
    reading = long_lists.LongList(path, rows.extend, size)
    step = len(body) // parts + 1
    for start in range(0, len(body), step):
        if reading.add(body[start : start + step]):
            reading.read()
    said = reading.end()
    holder = said
    for name in path[:-1]:
        holder = holder.get(name) if isinstance(holder, dict) else None
    if rows:
        holder[path[-1]] = rows
    return said


@given(
    _long,
    st.sampled_from([None, 1]),
    st.sampled_from([("data",), ("data", "accounts")]),
    st.integers(0, 30),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_reading_in_pieces_finds_what_reading_at_once_finds(
    said: dict[str, Any], indent: int | None, path: tuple[str, ...], size: int, parts: int, order: random.Random
) -> None:
    shuffled = dict(sorted(said.items(), key=lambda _: order.random()))
    body = json.dumps(shuffled, indent=indent, ensure_ascii=False).encode()
    assert in_pieces(body, path, size, parts) == orjson.loads(body)
    for damaged in (body[: len(body) // 2], body + b"}", body.replace(b"}", b"", 1), body.replace(b",", b",,", 1)):
        try:
            expected = orjson.loads(damaged)
        except orjson.JSONDecodeError:
            with pytest.raises(orjson.JSONDecodeError):
                in_pieces(damaged, path, size, parts)
        else:
            assert in_pieces(damaged, path, size, parts) == expected


def test_an_answer_that_holds_its_list_twice_is_none() -> None:
    body = b'{"data":[{"a":1},{"a":2},{"a":3}],"data":[{"b":1}]}'
    with pytest.raises(ValueError, match="not where it seemed to be"):
        in_pieces(body, ("data",), 1, 3)


def test_a_list_of_two_hundred_thousand_rows_is_never_held_whole() -> None:
    row = json.dumps({"id": 7, "platform": "facebook", "account_name": "Acme", "status": "connected"}).encode()
    taken = 0

    def count(rows: list[Any]) -> None:
        nonlocal taken
        taken += len(rows)

    reading = long_lists.LongList(("data", "accounts"), count)
    tracemalloc.start()
    try:
        reading.add(b'{"success":true,"data":{"accounts":[' + row)
        for _ in range(199):
            if reading.add((b"," + row) * 1000):
                reading.read()
        reading.add((b"," + row) * 999 + b"]}}")
        assert reading.end() == {"success": True, "data": {"accounts": []}}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken == 200_000
    assert peak < len(row) * taken / 4, "less than a quarter of the text alone"


def test_rows_that_are_kept_take_little_room_and_come_back_as_they_were() -> None:
    kept, rows = long_lists.Packed(), [[str(number), "ok", 45, False, "facebook", "Acme"] for number in range(500)]
    tracemalloc.start()
    try:
        for _ in range(200):
            kept.add(rows)
        room = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == 100_000
    assert room < 2_000_000
    assert list(kept) == rows * 200


async def test_only_what_is_news_is_kept_of_a_bulk_answer_and_all_that_was_shown_is_known(
    peer: Peer, client: Client
) -> None:
    async def compare() -> IsNews:
        return lambda ref, signal, days, paused: ref in {"2", "4"}

    rows = [row(id=1), row(id=2), row(id=3, status="published"), row(id=4), row(id=4), row(id=5), row(id=5)]
    peer.says(ok({"accounts": rows}))
    bulk = await client.health_all(None, compare)
    assert [seen.ref for seen in bulk.observations] == ["2"]
    assert bulk.unclear == ["3", "4", "5"]
    assert bulk.shown == {"1", "2", "3", "4", "5"}


async def test_the_time_that_we_take_to_get_ready_is_not_the_peers(peer: Peer) -> None:
    async def slowly() -> IsNews:
        await asyncio.sleep(0.6)
        return lambda *_: True

    peer.says(ok({"accounts": [row()]}))
    async with connected(peer, timeout=0.5) as client:
        assert (await client.health_all(None, slowly)).shown == {"7"}


async def test_a_long_answer_has_the_time_that_its_length_needs(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_leisure(writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"success":true,"data":{"accounts":[')
        for number in range(1, 11):
            writer.write(json.dumps(row(id=number)).encode() + (b"," if number < 10 else b"]}}"))
            await writer.drain()
            await asyncio.sleep(0.1)

    monkeypatch.setattr(smartlyq, "SLOWEST", 10)
    peer.says(at_leisure)
    async with connected(peer, timeout=0.5) as client:
        assert len((await client.health_all(None)).shown) == 10


async def test_the_list_names_every_account(peer: Peer, client: Client) -> None:
    rows = [
        {"id": 1, "platform": "twitter", "name": "Acme", "account_username": "@acme"},
        {"id": "2", "platform": "Mastodon!", "name": ""},
        {"id": 2**64 - 1, "platform": "bluesky", "name": "A\nB\u202e", "account_username": 7},
    ]
    peer.says(ok(rows))
    assert list((await client.list_accounts(None, Lane.BULK)).entries) == [
        Listed("1", "twitter", "Acme", "@acme"),
        Listed("2", "other", "2"),
        Listed("18446744073709551615", "bluesky", "A B"),
    ]


@pytest.mark.parametrize("bad", [None, 7, [], {}, {"id": 1}, {"platform": "x"}, {"id": 0, "platform": "x"}], ids=repr)
async def test_a_list_with_a_hole_is_no_list(bad: object, peer: Peer, client: Client) -> None:
    peer.says(ok([*({"id": n, "platform": "x", "name": "y"} for n in range(1, 200)), bad]))
    error = await failure(client.list_accounts(None, Lane.BULK))
    assert isinstance(error, BadAnswer)
    assert str(error) == "1 of 200 rows of the list cannot be read"
    assert error.request_id == "req_1"


@pytest.mark.parametrize("data", [None, {}, {"accounts": []}, "x", 7])
async def test_a_list_of_another_shape_is_no_list(data: object, peer: Peer, client: Client) -> None:
    peer.says(ok(data))
    error = await failure(client.list_accounts(None, Lane.BULK))
    assert isinstance(error, BadAnswer)
    assert error.request_id == "req_1"


def page(number: int) -> str:
    return f"/v1/profiles?page={number}&per_page=100"


def profile(ref: int, **changes: Any) -> dict[str, Any]:
    return {"id": ref, "name": f"P{ref}", "external_id": f"x-{ref}", "status": "active", **changes}


async def test_profiles_are_read_page_by_page(peer: Peer, client: Client) -> None:
    peer.by_path = {
        page(1): answer(200, {"profiles": [profile(n) for n in range(1, 101)]}),
        page(2): ok({"profiles": [profile(n) for n in range(100, 200)]}),
        page(3): ok({"profiles": [profile(500, status="paused"), profile(501, name=None, external_id=None)]}),
    }
    found = await client.all_profiles()
    assert [entry.ref for entry in found] == [str(n) for n in (*range(1, 200), 500, 501)]
    assert found[0] == Profile("1", "P1", "x-1", active=True)
    assert found[-2:] == [Profile("500", "P500", "x-500", active=False), Profile("501", "501", None, active=True)]
    assert [asked.path for asked in peer.asked] == [page(1), page(2), page(3)]


async def test_exactly_full_pages_of_profiles_come_to_an_end(peer: Peer, client: Client) -> None:
    peer.by_path = {page(1): ok({"profiles": [profile(n) for n in range(1, 101)]}), page(2): ok({"profiles": []})}
    assert len(await client.all_profiles()) == 100


async def test_a_peer_that_gives_the_same_page_for_ever_is_not_asked_for_ever(peer: Peer, client: Client) -> None:
    peer.says(ok({"profiles": [profile(n) for n in range(1, 101)]}))
    assert len(await client.all_profiles()) == 100
    assert len(peer.asked) == 2


@pytest.mark.parametrize("bad", [None, 7, [], {}, profile(0), {"name": "x"}], ids=repr)
async def test_profiles_with_a_hole_are_no_list(bad: object, peer: Peer, client: Client) -> None:
    peer.says(ok({"profiles": [profile(1), bad]}))
    error = await failure(client.all_profiles())
    assert isinstance(error, BadAnswer)
    assert error.request_id == "req_1"


@pytest.mark.parametrize("data", [None, [], {}, {"profiles": None}, {"profiles": {}}, "x"])
async def test_profiles_of_another_shape_are_no_list(data: object, peer: Peer, client: Client) -> None:
    peer.says(ok(data))
    error = await failure(client.all_profiles())
    assert isinstance(error, BadAnswer)
    assert error.request_id == "req_1"


async def test_pause_and_resume_say_so_inside_the_profile(peer: Peer, client: Client) -> None:
    peer.says(ok({"id": 7, "paused": True}))
    await client.pause("7", "128")
    await client.resume("7", None)
    assert [(asked.method, asked.path, asked.headers.get("x-profile-id")) for asked in peer.asked] == [
        ("POST", "/v1/social/accounts/7/pause", "128"),
        ("POST", "/v1/social/accounts/7/resume", None),
    ]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"name": "Acme Corp"}, "Acme Corp"),
        ({"name": "A\r\nB"}, "A B"),
        ({"name": 7}, "unnamed"),
        ({"name": ""}, "unnamed"),
        ({}, "unnamed"),
        ([], "unnamed"),
        (None, "unnamed"),
    ],
)
async def test_the_key_is_told_by_its_owners_name(data: object, name: str, peer: Peer, client: Client) -> None:
    peer.says(ok(data))
    assert await client.identity() == name


async def test_a_call_given_up_is_told_as_cancelled(peer: Peer, client: Client) -> None:
    peer.says(silent)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.identity(), 0.05)
    assert client.told == [("me", "cancelled")]


async def test_many_calls_at_once_share_their_connections(peer: Peer, client: Client) -> None:
    peer.says(GOOD)
    for _ in range(3):
        found = await asyncio.gather(*(client.health("7", None, Lane.ROTATION) for _ in range(100)))
        assert {seen.signal for seen in found} == {Signal.OK}
    assert len(peer.asked) == 300
    assert peer.connections <= 64


@pytest.fixture(scope="module")
def contract() -> Any:
    if not CONTRACT.exists():
        pytest.skip("the contract file is not at hand")
    return orjson.loads(CONTRACT.read_bytes())


def example(contract: Any, path: str, method: str = "get") -> Any:
    return contract["paths"][path][method]["responses"]["200"]["content"]["application/json"]["example"]


async def test_every_request_is_in_the_contract_and_its_example_is_understood(
    contract: Any, peer: Peer, client: Client
) -> None:
    account = "/social/accounts/{account_id}"
    for path, url in (
        ("/me", "/v1/me"),
        ("/social/accounts", "/v1/social/accounts"),
        ("/social/accounts/health", "/v1/social/accounts/health"),
        (f"{account}/health", "/v1/social/accounts/123/health"),
        (f"{account}/reconnect-url", "/v1/social/accounts/123/reconnect-url"),
        ("/profiles", page(1)),
    ):
        peer.by_path[url] = answer(200, example(contract, path))
    peer.by_path["/v1/social/accounts/123/pause"] = answer(200, example(contract, f"{account}/pause", "post"))
    peer.by_path["/v1/social/accounts/123/resume"] = answer(200, example(contract, f"{account}/resume", "post"))

    assert await client.identity() == "Acme Corp"
    assert list((await client.list_accounts(None, Lane.BULK)).entries) == [Listed("128", "twitter", "Acme Corp")]
    reading = await client.health("123", None, Lane.CONFIRM)
    assert (reading.signal, reading.validity_days, reading.platform) == (Signal.OK, 45, "facebook")
    assert reading.request_id == "req_abc123"
    bulk = await client.health_all(None)
    assert (list(bulk.observations), bulk.unclear, bulk.bad_rows) == ([], ["128"], 0)
    assert await client.mint("123", None) == "https://app.smartlyq.com/connect/facebook?token=..."
    await client.pause("123", None)
    await client.resume("123", None)
    assert await client.all_profiles() == [Profile("128", "Acme Corp", "client-042", active=True)]

    for asked in peer.asked:
        path, _, query = asked.path.removeprefix("/v1").partition("?")
        [operation] = [
            operations[asked.method.lower()]
            for template, operations in contract["paths"].items()
            if re.fullmatch(re.sub(r"\{\w+\}", r"\\d+", template), path)
        ]
        parameters = [
            contract["components"]["parameters"][entry["$ref"].rsplit("/", 1)[1]] if "$ref" in entry else entry
            for entry in operation.get("parameters", [])
        ]
        assert {part.split("=")[0] for part in query.split("&") if part} <= {entry["name"] for entry in parameters}
    assert {asked.path.partition("?")[0] for asked in peer.asked} == {url.partition("?")[0] for url in peer.by_path}


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("Unauthorized", 401, Unauthorized),
        ("Forbidden", 403, MissingScope),
        ("NotFound", 404, NotFound),
        ("ValidationError", 422, Unprocessable),
        ("ServerError", 500, Unavailable),
    ],
)
async def test_the_contracts_errors_are_understood(
    name: str, status: int, kind: type[ProviderError], contract: Any, peer: Peer, client: Client
) -> None:
    said = contract["components"]["responses"][name]["content"]["application/json"]["example"]
    peer.says(answer(status, said))
    error = await failure(client.pause("7", None))
    assert type(error) is kind
    assert error.request_id == said["meta"]["request_id"]


def test_the_contracts_account_events_are_the_ones_understood(contract: Any) -> None:
    named = {name for name in contract["webhooks"] if name.startswith("account.")}
    assert named == set(smartlyq.EVENT_SIGNALS)
    for name in named:
        body = contract["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"id", "event", "created_at", "data"} == set(body["required"])
        assert body["properties"]["data"]["properties"]["account_id"] == {"type": "integer"}


HALF = r"\ud83e"
NAMES_AND_HALVES = {
    "half a character": (rf"Acme {HALF}", "Acme \ufffd"),
    "the other half": (r"Acme \udd8b", "Acme \ufffd"),
    "a whole one beside it": (rf"Acme \ud83e\udd8b{HALF}", "Acme \U0001f98b\ufffd"),
    "a backslash before it": (rf"Acme \\{HALF}", "Acme \\\ufffd"),
}


@pytest.mark.parametrize(("written", "read"), NAMES_AND_HALVES.values(), ids=NAMES_AND_HALVES)
@pytest.mark.parametrize("others", [3, 2000], ids=["a short answer", "a long one"])
async def test_half_a_character_in_one_name_hides_no_other_account(
    peer: Peer, client: Client, written: str, read: str, others: int
) -> None:
    row = '{"id":%d,"platform":"linkedin","account_name":"%s","status":"connected","token_expired":false}'
    rows = ",".join([row % (1, written), *(row % (number, "Fine") for number in range(2, 2 + others))])
    peer.says(answer(200, b'{"success":true,"data":{"accounts":[%b]},"meta":{}}' % rows.encode()))
    found = {seen.ref: seen for seen in (await client.health_all(None)).observations}
    assert len(found) == 1 + others
    assert found["1"].name == read


def test_what_is_no_json_stays_none() -> None:
    for body in (b"", b"{", b'{"a":NaN}', rb'{"a":"\ud83e', rb'["\u12"]'):
        with pytest.raises(orjson.JSONDecodeError):
            long_lists.read_json(body)
