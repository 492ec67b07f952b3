"""The connections to an API: kept where they may be, given up where they must be, and never two answers mixed up."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx2
import pytest
import trustme

from healthd.providers import wire
from healthd.providers.wire import MOST_CONNECTIONS, Wire
from tests.loopback import answer
from tests.providers.peer import Endless, Peer, peer_on_loopback


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with peer_on_loopback() as peer:
        yield peer


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=Wire(), trust_env=False, timeout=None) as http:
        yield http


KEPT = {
    "with its length": answer(200, b"fine"),
    "in chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
    "in chunks, with a trailer": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nx: y\r\n\r\n",
    "after word that it goes on": b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(200, b"fine"),
}


@pytest.mark.parametrize("said", KEPT.values(), ids=KEPT)
async def test_a_connection_is_kept_after_a_whole_answer(said: bytes, peer: Peer, http: httpx2.AsyncClient) -> None:
    peer.says(said)
    for _ in range(3):
        found = await http.get(peer.url)
        assert (found.status_code, found.content, found.headers.get("link")) == (200, b"fine", None)
    assert (len(peer.asked), peer.connections) == (3, 1)


async def test_an_answer_without_a_body_keeps_it_too(peer: Peer, http: httpx2.AsyncClient) -> None:
    peer.says(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [(await http.get(peer.url)).status_code for _ in range(2)] == [204, 204]
    assert peer.connections == 1


NOT_KEPT = {
    "the peer says so": answer(200, b"fine", {"connection": "close"}),
    "an old peer": b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nfine",
    "more comes than was asked for": answer(200, b"fine") + answer(200, b"evil"),
}


@pytest.mark.parametrize("said", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_a_connection_is_not_used_again_where_it_may_not_be(
    said: bytes, peer: Peer, http: httpx2.AsyncClient
) -> None:
    peer.says(said)
    assert [(await http.get(peer.url)).content for _ in range(3)] == [b"fine"] * 3
    assert peer.connections == 3


async def test_what_comes_unasked_is_no_answer_to_the_next_question(peer: Peer, http: httpx2.AsyncClient) -> None:
    sent = asyncio.Event()

    async def and_then_some(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, b"fine"))
        await asyncio.sleep(0.05)
        writer.write(answer(200, b"evil"))
        await writer.drain()
        sent.set()
        await asyncio.sleep(5)

    peer.says(and_then_some, answer(200, b"second"))
    assert (await http.get(peer.url)).content == b"fine"
    await sent.wait()
    await asyncio.sleep(0.05)
    assert (await http.get(peer.url)).content == b"second"
    assert peer.connections == 2


async def test_an_answer_that_nobody_reads_to_its_end_takes_its_connection_with_it(
    peer: Peer, http: httpx2.AsyncClient
) -> None:
    peer.says(answer(200, b"x" * 1_000_000), answer(200, b"fine"))
    async with http.stream("GET", peer.url) as given_up:
        assert given_up.status_code == 200
    assert (await http.get(peer.url)).content == b"fine"
    assert peer.connections == 2


async def test_who_asks_waits_while_all_connections_are_taken(peer: Peer, http: httpx2.AsyncClient) -> None:
    peer.says(answer(200, b"fine"))
    for _ in range(2):
        found = await asyncio.gather(*(http.get(peer.url) for _ in range(3 * MOST_CONNECTIONS)))
        assert {one.content for one in found} == {b"fine"}
    assert peer.connections <= MOST_CONNECTIONS


async def test_a_connection_that_rested_too_long_is_not_used(
    peer: Peer, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.says(answer(200, b"fine"))
    await http.get(peer.url)
    monkeypatch.setattr(wire, "KEPT_FOR", 0.0)
    await http.get(peer.url)
    assert peer.connections == 2


async def test_a_long_answer_waits_at_the_peer_until_it_is_taken(peer: Peer, http: httpx2.AsyncClient) -> None:
    endless = Endless()
    peer.says(endless)
    async with http.stream("GET", peer.url) as answer_:
        await anext(answer_.aiter_raw())
        before = -1
        while endless.sent != before:
            before = endless.sent
            await asyncio.sleep(0.2)
    assert endless.sent < 32 * 1024 * 1024, "what the kernel's buffers and ours hold"


@pytest.mark.parametrize("headers", [b"x-long: y\r\n" * 20_000, b"x: " + b"y" * 200_000 + b"\r\n"])
async def test_headers_that_go_on_and_on_are_given_up(headers: bytes, peer: Peer, http: httpx2.AsyncClient) -> None:
    peer.says(b"HTTP/1.1 200 OK\r\n" + headers + b"content-length: 0\r\n\r\n")
    with pytest.raises(httpx2.RemoteProtocolError, match="too long"):
        await http.get(peer.url)


@pytest.mark.parametrize("value", [b"x\r\nevil: 1", b"x\nevil: 1", b"x\revil", b"x\0"])
async def test_a_header_that_would_be_two_is_never_sent(value: bytes, peer: Peer, http: httpx2.AsyncClient) -> None:
    peer.says(answer(200, b"fine"))
    with pytest.raises(httpx2.LocalProtocolError):
        await http.get(peer.url, headers=[(b"x-profile-id", value)])
    assert peer.asked == []


async def test_what_is_sent_arrives_as_it_was_given(peer: Peer, http: httpx2.AsyncClient) -> None:
    peer.says(answer(200, b"fine"))
    await http.post(f"{peer.url}/a%20b?c=d", content=b"body", headers={"x-profile-id": "7"})
    (asked,) = peer.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/v1/a%20b?c=d", b"body")
    assert asked.headers["x-profile-id"] == "7"
    assert asked.headers["host"] == peer.url.split("/")[2]


async def test_a_certificate_is_believed_where_its_issuer_is_and_for_its_name_alone() -> None:
    authority = trustme.CA()
    for name, believed in (("127.0.0.1", True), ("other.example", False)):
        tls, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert(name).configure_cert(tls)
        authority.configure_trust(trust)
        async with peer_on_loopback(tls) as peer, httpx2.AsyncClient(transport=Wire(trust), trust_env=False) as http:
            peer.says(answer(200, b"fine"))
            if believed:
                assert (await http.get(peer.url)).content == b"fine"
                continue
            with pytest.raises(httpx2.ConnectError):
                await http.get(peer.url)
            assert peer.asked == []
