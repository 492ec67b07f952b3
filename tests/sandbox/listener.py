"""Somebody who takes webhooks on loopback, and answers as a test wants."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.loopback import Asked, answer, serving

PATIENCE = 60.0


@dataclass(frozen=True)
class Received:
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found

    @property
    def signed_at(self) -> int:
        return int(self.headers["x-smartlyq-signature"].partition(",")[0].removeprefix("t="))

    def is_signed_with(self, secret: str) -> bool:
        """Recomputed here from the published rule, not with the sandbox's own function."""
        stamp, _, mac = self.headers["x-smartlyq-signature"].partition(",v1=")
        signed = stamp.removeprefix("t=").encode() + b"." + self.body
        return hmac.compare_digest(mac, hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest())


@dataclass
class Listener:
    """Gives its answers in order and goes on giving the last one."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=lambda: [answer(200)])

    def says(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def respond(self, asked: Asked) -> bytes:
        self.received.append(Received(asked.headers, asked.body))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    async with serving(listener.respond) as address:
        listener.url = f"http://{address}/hook"
        yield listener
