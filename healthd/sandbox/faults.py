"""Trouble on request: what the API does instead of answering."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Kind = Literal[
    "status", "delay", "drip", "drop", "truncated", "garbage", "html", "wrong_shape", "unknown_status", "redirect"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
FAULT_HINTS: dict[Kind, str] = {
    "status": "an error of your choice",
    "delay": "the right answer, late",
    "drip": "the right answer, byte by byte",
    "drop": "hangs up without a word",
    "truncated": "hangs up in mid-answer",
    "garbage": "200, and bytes without sense",
    "html": "200, and a web page",
    "wrong_shape": "200, and JSON of another shape",
    "unknown_status": "accounts in a status nobody knows",
    "redirect": "somewhere else",
}
ANSWERED_BY_API: frozenset[Kind] = frozenset({"delay", "drip", "truncated", "unknown_status"})
"""Faults that spoil the API's own answer; the others come before it is asked."""
ABORT = "sandbox.abort"
_HTML = b"<!doctype html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1><hr>nginx"
_WRONG = {"success": True, "data": {"accounts": {"1001": "fine"}, "id": "no"}, "meta": []}


@dataclass(slots=True)
class Fault:
    """``path`` is a part of the request's path; ``share`` the part of the requests that it hits; ``times`` how often
    it strikes before it is over. ``seconds`` is how long a ``delay`` lasts, the pause between two bytes of a ``drip``,
    and the ``Retry-After`` of a ``status``.
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
        """Raises ``ValueError`` for a fact that no fault has, or that makes no sense."""
        for name, value in facts.items():
            if name not in _WANTED:
                raise ValueError(f"a fault has no {name!r}; it has {', '.join(_WANTED)}")
            is_good, wanted = _WANTED[name]
            if not is_good(value):
                raise ValueError(f"{name} must be {wanted}")
        if "kind" not in facts:
            raise ValueError(f"kind is missing: {_WANTED['kind'][1]}")
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_headers(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(part, str) and part.isascii() and part.isprintable() for pair in value.items() for part in pair
    )


_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: value in KINDS, f"one of: {', '.join(KINDS)}"),
    "path": (lambda value: isinstance(value, str), "a part of a path, like /reconnect-url"),
    "workspace": (lambda value: value is None or isinstance(value, str), "the name of a workspace"),
    "status": (lambda value: _is_count(value) and 200 <= value <= 599, "a status from 200 to 599"),
    "seconds": (lambda value: _is_number(value) and 0 <= value <= 3600, "a number from 0 to 3600"),
    "share": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "times": (lambda value: value is None or (_is_count(value) and value >= 1), "a whole number from 1"),
    "headers": (_are_headers, "an object of texts"),
}
"""What a fault may be told to be, and how to say it to somebody who got it wrong."""


class AbortableProtocol(HttpToolsProtocol):
    """Lets the application cut the connection, which no ASGI message can."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            await app(scope, receive, send)

        self.app = with_abort


async def suffer(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send, meta: dict[str, Any]) -> None:
    """Answers as the fault wants it; ``meta`` is that of an error in the API's own envelope."""
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.seconds)
            await app(scope, receive, send)
        case "drop":
            await _cut(scope)
        case "status":
            body = orjson.dumps(_error(fault.status, meta)) if fault.status != 502 else _HTML
            await _answer(send, fault.status, body, **_status_headers(fault))
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
            await asyncio.wait((left,), timeout=fault.seconds)
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


def _status_headers(fault: Fault) -> dict[str, str]:
    headers = {"content-type": "text/html"} if fault.status == 502 else {}
    if fault.seconds >= 1:
        headers["retry-after"] = str(int(fault.seconds))
    return headers | {name.lower(): value for name, value in fault.headers.items()}


def _error(status: int, meta: dict[str, Any]) -> dict[str, Any]:
    error = {"code": _CODES.get(status, "SERVER_ERROR"), "message": "A fault was asked for.", "details": {}}
    return {"success": False, "error": error, "meta": meta}
