"""The listener by itself, before an application that says what it was asked: deadlines, sizes, and the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from healthd.listener import HEADER_LIMIT, CannotListen, Listener, bind
from tests.daemon.rig import HOST

DEADLINE = 0.4
LONG = 30.0


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body where the path asks for it, and answers with what arrived."""
    body = b""
    if scope["path"] != "/unread":
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
    facts = {
        "path": scope["path"],
        "client": scope["client"][0],
        "body": body.decode(),
        "headers": sorted({name.decode("latin-1") for name, _ in scope["headers"]}),
    }
    answer = orjson.dumps(facts)
    headers = [(b"content-length", str(len(answer)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def listening(
    *, header: float = DEADLINE, body: float = DEADLINE, trusted: tuple[str, ...] = (), connections: int = 100
) -> AsyncIterator[Callable[..., asyncio.Future[bytes]]]:
    """A listener; what it yields talks to it in raw bytes."""
    bound = bind(HOST, 0)
    port = bound.getsockname()[1]
    listener = Listener.of(
        echo,
        bound,
        header_timeout=timedelta(seconds=header),
        body_timeout=timedelta(seconds=body),
        max_connections=connections,
        drain_timeout=timedelta(seconds=1),
        trusted_proxies=trusted,
    )
    serving = asyncio.create_task(listener.run_until_exit())
    await asyncio.wait_for(listener.accepting.wait(), 10)

    async def talk(*parts: bytes | float) -> bytes:
        """Writes the parts, rests where a number stands, and reads until the other side closes."""
        reader, writer = await asyncio.open_connection(HOST, port)
        heard = bytearray()

        async def hear() -> None:
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65_536):
                    heard.extend(part)

        got = asyncio.create_task(hear())
        try:
            for part in parts:
                if isinstance(part, float):
                    await asyncio.wait([got], timeout=part)
                    continue
                writer.write(part)
                await writer.drain()
            await asyncio.wait_for(got, LONG)
        except ConnectionError:
            await asyncio.wait([got], timeout=LONG)
        finally:
            got.cancel()
            writer.close()
        return bytes(heard)

    try:
        yield lambda *parts: asyncio.ensure_future(talk(*parts))
    finally:
        listener.should_exit = True
        await serving


def get(path: str = "/", *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: h", *lines, "", ""]).encode("latin-1")


def post(body: bytes, *lines: str, path: str = "/") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: h", *lines, "", ""]).encode("latin-1") + body


def statuses(answer: bytes) -> list[int]:
    """The status of every answer in what came back."""
    found, rest = [], answer
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        found.append(int(lines[0].split()[1]))
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        rest = rest[length:]
    return found


CLOSE = "Connection: close"
WIRE: dict[str, tuple[list[bytes | float], list[int]]] = {
    "one request": ([get("/", CLOSE)], [200]),
    "HTTP/1.0": ([get("/", version="1.0")], [200]),
    "a pipelined pair": ([get("/1") + get("/2", CLOSE)], [200, 200]),
    "a pair with bodies": ([post(b"ab", "Content-Length: 2") + post(b"c", "Content-Length: 1", CLOSE)], [200, 200]),
    "keep-alive": ([get("/1"), 0.05, get("/2", CLOSE)], [200, 200]),
    "keep-alive after an answer that came before the body was read": (
        [post(b"x" * 10, "Content-Length: 10", path="/unread"), 0.05, get("/2", CLOSE)],
        [200, 200],
    ),
    "expect 100-continue": ([post(b"", "Content-Length: 2", "Expect: 100-continue", CLOSE), 0.05, b"ab"], [100, 200]),
    "a header as large as it may be": ([get("/", "X-Long: " + "x" * (HEADER_LIMIT - 200), CLOSE)], [200]),
    "a header that is larger": ([get("/", "X-Long: " + "x" * HEADER_LIMIT, CLOSE)], [431]),
    "a header that does not end": ([b"GET / HTTP/1.1\r\nX: " + b"x" * (3 * HEADER_LIMIT)], [431]),
    "two hundred headers": ([get("/", *(f"X-{number}: {'y' * 200}" for number in range(200)), CLOSE)], [431]),
    "an address that is too long": ([get("/" + "x" * HEADER_LIMIT, CLOSE)], [431]),
    "a second header that is too large": ([get("/1"), 0.05, get("/", "X-Long: " + "x" * HEADER_LIMIT)], [200, 431]),
    "two lengths": ([post(b"ab", "Content-Length: 2", "Content-Length: 3")], [400]),
    "a negative length": ([post(b"ab", "Content-Length: -2")], [400]),
    "length and chunks": ([post(b"0\r\n\r\n", "Content-Length: 2", "Transfer-Encoding: chunked")], [400]),
    "a folded header": ([get("/", "X-Folded: a\r\n b", CLOSE)], [400]),
    "a space in a header's name": ([get("/", "Bad Name: x", CLOSE)], [400]),
    "a NUL in a header": ([get("/", "X-Nul: a\0b", CLOSE)], [400]),
    "no HTTP at all": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], [400]),
    "silence": ([], [408]),
    "half a header": ([b"GET / HTTP/1.1\r\nHo"], [408]),
    "a dripped header": ([b"GET", 0.15, b" / ", 0.15, b"HTTP", 0.15, b"/1", 0.15, b".1"], [408]),
    "a dripped body": ([post(b"", "Content-Length: 100"), b"a", 0.25, b"b", 0.25, b"c", 0.25, b"d"], [408]),
    "a second header that drips": ([get("/1"), 0.05, b"GET /2", 0.25, b" HTT", 0.25, b"P/1", 0.25], [200, 408]),
    "a pipelined header without its end": ([get("/1") + b"GET /2 HT"], [200, 408]),
    "a body that drips on after the answer": (
        [post(b"", "Content-Length: 100", path="/unread"), b"a", 0.25, b"b", 0.25, b"c", 0.25, b"d"],
        [200],
    ),
    "an upgrade that is not offered": ([get("/", "Upgrade: h2c", "Connection: upgrade, close")], [200]),
}


@pytest.mark.parametrize("name", WIRE)
async def test_what_is_said_over_the_wire_has_its_answers_and_comes_to_an_end(name: str) -> None:
    parts, expected = WIRE[name]
    async with listening() as talk:
        assert statuses(await talk(*parts)) == expected


async def test_trailers_cannot_pile_up_and_are_no_headers() -> None:
    trailers = b"".join(b"X-Late-%d: y\r\n" % number for number in range(500))
    async with listening() as talk:
        answer = await talk(post(b"1\r\na\r\n0\r\n" + trailers + b"\r\n", "Transfer-Encoding: chunked", CLOSE))
    said = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    assert said["body"] == "a"
    assert said["headers"] == ["connection", "host", "transfer-encoding"]


FORWARDED = {
    "nobody is trusted": ((), "127.0.0.1"),
    "this proxy is trusted": ((HOST,), "203.0.113.7"),
    "its network is trusted": (("127.0.0.0/8",), "203.0.113.7"),
    "another proxy is trusted": (("192.0.2.1",), "127.0.0.1"),
}


@pytest.mark.parametrize("name", FORWARDED)
async def test_a_forwarded_address_is_believed_only_from_a_trusted_proxy(name: str) -> None:
    trusted, expected = FORWARDED[name]
    async with listening(trusted=trusted) as talk:
        answer = await talk(get("/", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", CLOSE))
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["client"] == expected


async def test_more_connections_than_allowed_are_turned_away_and_the_others_served() -> None:
    async with listening(connections=10, header=LONG) as talk:
        idle = [talk(0.5, get("/", CLOSE)) for _ in range(8)]
        await asyncio.sleep(0.1)
        assert statuses(await talk(get("/", CLOSE))) == [200]
        crowd = await asyncio.gather(*(talk(0.2, get("/", CLOSE)) for _ in range(10)))
        assert {status for answer in crowd for status in statuses(answer)} <= {200, 503}
        assert any(statuses(answer) == [503] for answer in crowd)
        await asyncio.gather(*idle)
        assert statuses(await talk(get("/", CLOSE))) == [200]


async def test_malformed_requests_leave_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as talk:
        for parts, _ in (WIRE["two lengths"], WIRE["no HTTP at all"], WIRE["half a header"]):
            await talk(*parts)
    assert caplog.records == []


async def test_an_address_that_is_taken_is_said_to_be() -> None:
    with bind(HOST, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"cannot listen on {HOST}:{port}: Address already in use"):
            bind(HOST, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_refused_with_a_reason(host: str) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:8080: .+"):
        bind(host, 8080)
