"""A server on loopback that says, byte for byte, what a test wants the API to say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

Misbehaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | Misbehaviour


def answer(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer; anything but bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"HTTP/1.1 {status} -", f"content-length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def ok(data: object, headers: Mapping[str, str] | None = None, **meta: object) -> bytes:
    """A good answer in the provider's envelope."""
    return answer(200, {"success": True, "data": data, "meta": {"request_id": "req_1", **meta}}, headers)


def refused(
    status: int, code: str, details: object = None, headers: Mapping[str, str] | None = None, message: str = "no"
) -> bytes:
    """An error in the provider's envelope."""
    error = {"code": code, "message": message, "details": details or {}}
    return answer(status, {"success": False, "error": error, "meta": {"request_id": "req_1"}}, headers)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Peer:
    """Gives its answers in order and goes on giving the last one; ``by_path`` is looked at first."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    by_path: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def says(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                self.asked.append(Asked(method, path, headers))
                await reader.readexactly(int(headers.get("content-length", "0")))
                said = self.by_path.get(path) or (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                if isinstance(said, bytes):
                    writer.write(said)
                    await writer.drain()
                else:
                    await said(writer)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def peer_on_loopback(tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    peer = Peer()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(peer.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    peer.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield peer
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
