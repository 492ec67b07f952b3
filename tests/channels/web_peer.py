"""A web server on loopback that keeps what it is sent, and answers as Slack does or as it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from slack_sdk.models.blocks import Block

from tests.loopback import Answer, Asked, answer, serving

TOKEN = "xoxb-1111-s3cr3t"
HOOK = "/services/T000/B000/h00ks3cr3t"


@dataclass(frozen=True)
class Posted:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


async def silence(writer: asyncio.StreamWriter) -> None:
    """Never answers, until the other side hangs up or the test ends."""
    await asyncio.Event().wait()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


@dataclass
class WebPeer:
    """``says`` puts answers before those that it would give by itself."""

    respond: Callable[[Posted], bytes]
    url: str = ""
    posted: list[Posted] = field(default_factory=list)
    _next: list[Answer] = field(default_factory=list)

    def says(self, *answers: Answer) -> None:
        self._next = list(answers)

    def answers(self, asked: Asked) -> Answer:
        self.posted.append(Posted(asked.path, asked.headers, json.loads(asked.body) if asked.body else {}))
        return self._next.pop(0) if self._next else self.respond(self.posted[-1])


@asynccontextmanager
async def web_peer(respond: Callable[[Posted], bytes]) -> AsyncIterator[WebPeer]:
    peer = WebPeer(respond)
    async with serving(peer.answers) as address:
        peer.url = f"http://{address}"
        yield peer


@dataclass
class Slack:
    """The part of Slack that healthd talks to: channels, threads and edits, and its limits on blocks."""

    channels: Mapping[str, str] = field(default_factory=lambda: {"#alerts": "C0ALERTS", "C0OTHER": "C0OTHER"})
    messages: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    hooked: list[dict[str, Any]] = field(default_factory=list)
    _stamps: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def respond(self, posted: Posted) -> bytes:
        if posted.path == HOOK:
            if (wrong := self._wrong(posted.body)) is not None:
                return answer(400, wrong.encode())
            self.hooked.append(posted.body)
            return answer(200, b"ok", {"content-type": "text/html"})
        if posted.headers.get("authorization") != f"Bearer {TOKEN}":
            return answer(200, {"ok": False, "error": "invalid_auth"})
        method = {"/api/chat.postMessage": self._post, "/api/chat.update": self._update, "/api/auth.test": self._test}
        try:
            return answer(200, {"ok": True, **method[posted.path](posted.body)})
        except LookupError as error:
            return answer(200, {"ok": False, "error": error.args[0]})

    def delete(self, channel: str, stamp: str) -> None:
        del self.messages[channel, stamp]

    def _test(self, _: dict[str, Any]) -> dict[str, str]:
        return {"team": "Acme", "user": "healthd"}

    def _post(self, body: dict[str, Any]) -> dict[str, str]:
        if (wrong := self._wrong(body)) is not None:
            raise LookupError(wrong)
        channel = self.channels.get(body["channel"], body["channel"])
        if channel not in self.channels.values():
            raise LookupError("channel_not_found")
        if "thread_ts" in body and (channel, body["thread_ts"]) not in self.messages:
            raise LookupError("thread_not_found")
        stamp = f"1795442700.{next(self._stamps):06d}"
        self.messages[channel, stamp] = body
        return {"channel": channel, "ts": stamp}

    def _update(self, body: dict[str, Any]) -> dict[str, str]:
        if (wrong := self._wrong(body)) is not None:
            raise LookupError(wrong)
        if (body["channel"], body["ts"]) not in self.messages:
            raise LookupError("message_not_found")
        self.messages[body["channel"], body["ts"]] = body
        return {"channel": body["channel"], "ts": body["ts"]}

    def _wrong(self, body: dict[str, Any]) -> str | None:
        if not body.get("text"):
            return "no_text"
        for block in body["blocks"]:
            kind, text = block["type"], block.get("text", {}).get("text", "")
            too_long = {"header": 150, "section": 3000}.get(kind, 10**9) < len(text.encode("utf-16-le")) // 2
            fields = block.get("fields", [])
            if too_long or len(fields) > 10 or any(len(entry["text"]) > 2000 for entry in fields):
                return "invalid_blocks"
        parsed = Block.parse_all(body["blocks"])
        return None if [block.to_dict() for block in parsed] == body["blocks"] else "invalid_blocks"
