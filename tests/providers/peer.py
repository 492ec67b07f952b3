"""A server on loopback that says, byte for byte, what a test wants the API to say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback import Answer, Asked, answer, serving


def ok(data: object, headers: Mapping[str, str] | None = None, **meta: object) -> bytes:
    """A good answer in the provider's envelope."""
    return answer(200, {"success": True, "data": data, "meta": {"request_id": "req_1", **meta}}, headers)


def refused(
    status: int, code: str, details: object = None, headers: Mapping[str, str] | None = None, message: str = "no"
) -> bytes:
    """An error in the provider's envelope."""
    error = {"code": code, "message": message, "details": details or {}}
    return answer(status, {"success": False, "error": error, "meta": {"request_id": "req_1"}}, headers)


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

    def respond(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        said: Answer = self.by_path.get(asked.path) or (
            self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        )
        return said

    def connected(self) -> None:
        self.connections += 1


class Endless:
    """An answer that never ends. ``sent`` are the bytes that were taken from it."""

    sent = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65_536)
            await writer.drain()
            self.sent += 65_536


@asynccontextmanager
async def peer_on_loopback(tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    peer = Peer()
    async with serving(peer.respond, tls=tls, connected=peer.connected) as address:
        peer.url = f"{'https' if tls else 'http'}://{address}/v1"
        yield peer
