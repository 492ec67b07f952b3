"""HTTP/1.1 to an API that is asked thousands of times a second: connections that are kept, answers read by a C parser.

It stands below ``httpx2.AsyncClient`` in place of the transport that comes with it, which costs three times as much a
call. There are no proxies, redirects or retries here, and no deadline: whoever asks sets one around the whole exchange.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator

import httptools
import httpx2

from healthd.outbound import public_authorities

MOST_CONNECTIONS = 64
KEPT_FOR = 60.0
"""Seconds for which a connection is kept that nobody uses."""
LARGEST_HEAD = 64 * 1024
"""Bytes of an answer's status line and headers."""
MOST_WAITING = 256 * 1024
"""Bytes of an answer that wait to be taken; beyond that the peer has to wait."""
PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


class Wire(httpx2.AsyncBaseTransport):
    """Connections to any number of addresses. Where they are https, ``trust`` verifies them in place of the authorities
    that are known to everybody.
    """

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        self._trust = trust
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)
        self._free = asyncio.Semaphore(MOST_CONNECTIONS)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if url.scheme not in PORTS or not url.host:
            raise httpx2.UnsupportedProtocol("only http and https addresses are asked", request=request)
        head, body = _written(request), await request.aread()
        origin = (url.scheme, url.host, url.port or PORTS[url.scheme])
        await self._free.acquire()
        connection: _Connection | None = None
        try:
            connection = self._kept(origin) or await self._connected(origin)
            connection.ask(head + body)
            status, headers = await connection.answer()
        except BaseException:
            self._give_back(origin, connection)
            raise
        return httpx2.Response(status, headers=headers, stream=_Body(self, origin, connection), request=request)

    def _kept(self, origin: Origin) -> _Connection | None:
        idle, now = self._idle[origin], asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.is_open and now - connection.idle_since < KEPT_FOR:
                return connection
            connection.close()
        return None

    async def _connected(self, origin: Origin) -> _Connection:
        scheme, host, port = origin
        trust = (self._trust or public_authorities()) if scheme == "https" else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port, ssl=trust)
        except (OSError, OverflowError, ValueError) as error:
            raise httpx2.ConnectError(str(error)) from error
        return connection

    def _give_back(self, origin: Origin, connection: _Connection | None) -> None:
        """After an answer. What was not read to its end is of no more use."""
        self._free.release()
        if connection is None:
            return
        if connection.is_reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle[origin].append(connection)
        else:
            connection.close()

    async def aclose(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()


def _written(request: httpx2.Request) -> bytes:
    """The request's line and headers. Raises ``LocalProtocolError`` where one would be taken for several."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise httpx2.LocalProtocolError("a header holds what no header may hold", request=request)
    return head


class _Body(httpx2.AsyncByteStream):
    """What follows an answer's headers. Its connection is free again once it is closed."""

    def __init__(self, wire: Wire, origin: Origin, connection: _Connection) -> None:
        self._wire, self._origin = wire, origin
        self._connection: _Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None and (part := await self._connection.part()):
            yield part

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._wire._give_back(self._origin, connection)  # noqa: SLF001 - one thing in two classes


class _Connection(asyncio.Protocol):
    """One exchange after the other. Between two of them nothing may arrive."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._asked = self._whole = False
        self._parts: deque[bytes] = deque()
        self._waiting = 0
        self._forget()

    def _forget(self) -> None:
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = self._unread = 0
        self._has_head = self._has_length = self._stays = False

    @property
    def is_open(self) -> bool:
        return self._lost is None and self._transport is not None and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        return self.is_open and self._whole and self._stays and not self._parts

    def close(self) -> None:
        self._lost = self._lost or httpx2.ReadError("the connection was closed")
        if self._transport is not None:
            self._transport.abort()

    def ask(self, request: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._forget()
        self._whole, self._asked = False, True
        if self._transport is None or self._lost is not None:
            raise self._lost or httpx2.ConnectError("there is no connection")
        self._transport.write(request)

    async def answer(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers."""
        while not self._has_head:
            await self._wait()
        return self._status, self._headers

    async def part(self) -> bytes:
        """The next part of the body; empty at its end."""
        while not self._parts:
            if self._whole:
                return b""
            await self._wait()
        part = self._parts.popleft()
        self._waiting -= len(part)
        if self._transport is not None and self._waiting < MOST_WAITING:
            self._transport.resume_reading()
        return part

    async def _wait(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not self._asked or self._whole:
            self.close()  # nobody has asked for this
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lost = httpx2.RemoteProtocolError(f"no HTTP: {error}")
        # A header that does not end is told by the parser only once it has.
        self._unread += 0 if self._has_head else len(data)
        if self._head_size > LARGEST_HEAD or (self._unread > LARGEST_HEAD and not self._has_head):
            self._lost = httpx2.RemoteProtocolError("the headers are too long")
        if self._lost is not None:
            self.close()
        elif self._waiting >= MOST_WAITING and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None and self._has_head and not self._whole and not self._has_length and exc is None:
            self._whole = True  # its end is the connection's
        self._lost = self._lost or httpx2.RemoteProtocolError("the peer closed the connection in mid-answer")
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:
            self._lost = httpx2.RemoteProtocolError("more came than was asked for")
        else:
            self._forget()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._head_size += len(name) + len(value)
        self._has_length = self._has_length or name.lower() in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._has_head = self._status >= 200

    def on_body(self, body: bytes) -> None:
        if not self._whole:
            self._parts.append(body)
            self._waiting += len(body)

    def on_message_complete(self) -> None:
        if self._has_head and not self._whole:
            self._whole, self._stays = True, bool(self._parser.should_keep_alive())
