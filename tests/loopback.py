"""An HTTP server on loopback that says, byte for byte, what a test wants."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache

import orjson

Misbehaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | Misbehaviour
"""What is written, or what is done to the connection, which is closed afterwards."""


@dataclass(frozen=True)
class Asked:
    """A request; the names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def answer(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer; anything but bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"HTTP/1.1 {status} -", f"content-length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


async def _serve(
    respond: Callable[[Asked], Answer], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            said = respond(Asked(method, path, headers, body))
            if not isinstance(said, bytes):
                await said(writer)
                return
            writer.write(said)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(
    respond: Callable[[Asked], Answer],
    *,
    tls: ssl.SSLContext | None = None,
    connected: Callable[[], None] = lambda: None,
) -> AsyncIterator[str]:
    """Yields the server's address, such as ``127.0.0.1:4711``. ``connected`` is called with each connection."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected()
        task = asyncio.create_task(_serve(respond, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


_PORTS = itertools.cycle(range(12_000, 32_000))
"""Below those that the system gives to connections: a port that is free now still is when a daemon comes up there."""


@cache
def _begin_elsewhere() -> None:
    """Each process at another place of the range, so that several do not meet; the suite's workers far apart."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    place = int(worker) * 2_500 if worker else os.getpid() * 97
    next(itertools.islice(_PORTS, place % 20_000, None))


def free_port() -> int:
    """A port on loopback that nobody listens on and that no other test is given."""
    _begin_elsewhere()
    for port in _PORTS:
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")
