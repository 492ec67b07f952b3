"""Trouble on request: what the API does instead of answering."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Kind = Literal[
    "status", "delay", "drip", "drop", "truncated", "garbage", "html", "wrong_shape", "unknown_status", "redirect"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
ABORT = "sandbox.abort"
_HTML = b"<!doctype html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1><hr>nginx"
_WRONG = {"success": True, "data": {"accounts": {"1001": "fine"}, "id": "no"}, "meta": []}


@dataclass(slots=True)
class Fault:
    """``path`` is a part of the request's path; ``share`` the part of the requests that it hits; ``times`` how often
    it strikes before it is over.
    """

    id: int
    kind: Kind
    path: str = "/v1"
    workspace: str | None = None
    status: int = 500
    seconds: float = 0.0
    share: float = 1.0
    times: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    strikes: int = 0

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass
class Faults:
    """All faults in force; the first that matches a request strikes."""

    rng: random.Random
    active: dict[int, Fault] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, **facts: Any) -> Fault:
        """Raises ``TypeError`` for a fact that no fault has, ``ValueError`` for an unknown kind."""
        if facts.get("kind") not in KINDS:
            raise ValueError(f"kind must be one of: {', '.join(KINDS)}")
        fault = Fault(next(self._ids), **facts)
        self.active[fault.id] = fault
        return fault

    def strike(self, path: str, workspace: str | None) -> Fault | None:
        """The fault that this request meets, if any."""
        for fault in list(self.active.values()):
            if fault.path not in path or (fault.workspace and fault.workspace != workspace):
                continue
            if self.rng.random() >= fault.share:
                continue
            fault.strikes += 1
            if fault.times is not None and fault.strikes >= fault.times:
                del self.active[fault.id]
            return fault
        return None


class AbortableProtocol(HttpToolsProtocol):
    """Lets the application cut the connection, which no ASGI message can."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            await app(scope, receive, send)

        self.app = with_abort


async def suffer(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as the fault wants it."""
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.seconds)
            await app(scope, receive, send)
        case "drop":
            await _cut(scope)
        case "status":
            body = orjson.dumps(_error(fault.status)) if fault.status != 502 else _HTML
            await _answer(send, fault.status, body, **fault.headers)
        case "redirect":
            await _answer(send, 302, b"", location=fault.headers.get("location", "https://status.example/"))
        case "garbage":
            await _answer(send, 200, bytes(range(256)))
        case "html":
            await _answer(send, 200, _HTML, **{"content-type": "text/html"})
        case "wrong_shape":
            await _answer(send, 200, orjson.dumps(_WRONG))
        case "truncated" | "drip" | "unknown_status":
            await _spoil(fault, app, scope, receive, send)


async def _spoil(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Takes the true answer and damages it."""
    start: Message = {}
    body = b""

    async def collect(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
        else:
            body += message.get("body", b"")

    await app(scope, receive, collect)
    if fault.kind == "unknown_status":
        body = body.replace(b'"status":"connected"', b'"status":"published"')
        body = body.replace(b'"status":"expired"', b'"status":"published"')
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    if fault.kind == "truncated":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await asyncio.sleep(0.05)
        await _cut(scope)
        return
    if fault.kind == "drip":
        left = asyncio.create_task(_until_left(receive))
        for place in range(len(body)):
            if left.done():
                return
            await send({"type": "http.response.body", "body": body[place : place + 1], "more_body": True})
            await asyncio.sleep(fault.seconds)
        left.cancel()
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _until_left(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut(scope: Scope) -> None:
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is not None:
        abort()
    await asyncio.sleep(0.01)  # until the server has noticed that nobody is there any more


async def _answer(send: Send, status: int, body: bytes, **headers: str) -> None:
    names = {"content-type": "application/json"} | headers | {"content-length": str(len(body))}
    pairs = [(name.encode(), value.encode()) for name, value in names.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


_CODES = {401: "INVALID_API_KEY", 402: "INSUFFICIENT_BALANCE", 403: "INSUFFICIENT_SCOPE", 404: "RESOURCE_NOT_FOUND",
          409: "CONFLICT", 422: "VALIDATION_ERROR", 429: "RATE_LIMIT_EXCEEDED"}  # fmt: skip


def _error(status: int) -> dict[str, Any]:
    error = {"code": _CODES.get(status, "SERVER_ERROR"), "message": "A fault was asked for.", "details": {}}
    return {"success": False, "error": error, "meta": {"request_id": "req_fault"}}
