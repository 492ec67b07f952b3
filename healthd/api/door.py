"""What every request to the API passes: who asks, how much they send, whether it was done before, what they may see.

The routes behind it read a body that is JSON for certain, and answer; they know nothing of this.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healthd.api.problems import Problem, Wrong, problem_of
from healthd.bodies import read_body
from healthd.core.roles import Role
from healthd.store import answers
from healthd.store.answers import NOT_KEPT, Answer
from healthd.store.database import Store, StoreUnavailable
from healthd.web.access import Access, Visitor
from healthd.web.guarding import SAFE_METHODS, harden

log = structlog.get_logger("healthd.api")

OPEN_TO_ALL = "/openapi.json"
BODY_LIMIT = 256 * 1024
BODY_WITHIN = 10.0
NO_STORE = "no-store"
"""Goes with an answer that must be nowhere: a link that opens something, a token."""
KEY = "idempotency-key"
_KEY = re.compile(r'"([\x20\x21\x23-\x5b\x5d-\x7e]{1,200})"|([\x21\x23-\x5b\x5d-\x7e]{1,200})', re.ASCII)
_KEPT_HEADERS = ("content-type",)
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def etag(body: bytes) -> str:
    """A strong one: the same bytes, and no others."""
    return f'"{base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:15]).decode()}"'


def names_one_of(header: str, tag: str) -> bool:
    """Whether ``If-Match`` or ``If-None-Match`` names this tag."""
    return header.strip() == "*" or tag in _TAG.findall(header)


@dataclass
class Door:
    """``inside`` is the application behind it; ``mask`` what is done to an answer for a viewer."""

    inside: ASGIApp
    access: Access
    store: Store
    now: Callable[[], datetime]
    mask: Callable[[bytes], bytes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the API speaks HTTP only")
        request = Request(scope, receive)
        response = harden(await self._answer(request))
        response.headers["vary"] = "authorization, cookie"
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            if request.scope["path"].removeprefix(request.scope.get("root_path", "")) == OPEN_TO_ALL:
                return await self._read(request, None)
            visitor = request.state.visitor = await self.access.visitor(request)
            if request.method in SAFE_METHODS:
                return await self._read(request, visitor)
            self.access.check_write(request, visitor)
            return await self._write(request, visitor)
        except Exception as error:
            problem = problem_of(error)
            if problem.kind == "internal":
                log.exception("api.failed", method=request.method, error=type(error).__name__)
            return problem.response()

    async def _read(self, request: Request, visitor: Visitor | None) -> Response:
        response = await self._ask(request, b"")
        if visitor is not None and visitor.role is Role.VIEWER:
            response = _again(response, self.mask(bytes(response.body)))
        if response.status_code != 200 or response.headers.get("cache-control") == NO_STORE:
            return response
        tag = etag(bytes(response.body))
        headers = {"etag": tag, "cache-control": "private, no-cache"}
        if names_one_of(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        response.headers.update(headers)
        return response

    async def _write(self, request: Request, visitor: Visitor) -> Response:
        body = await read_body(request, BODY_LIMIT, BODY_WITHIN)
        if body:
            _check_json(request, body)
        given = request.headers.getlist(KEY)
        if not given:
            return await self._ask(request, body)
        key, digest = _key(given), _digest(request, body)
        began_at = self.now()
        known = await self.store.alongside(answers.begin, visitor.who, key, digest, began_at)
        if known is not None:
            return Response(known.body, known.status, {**known.headers, "idempotency-replayed": "true"})
        kept = False
        try:
            response = await self._ask(request, body)
            if response.status_code < 300:
                await self.store.alongside(answers.end, visitor.who, key, began_at, _kept(response))
                kept = True
        finally:
            if not kept:
                await self._forget(visitor.who, key, began_at)
        return response

    async def _forget(self, who: str, key: str, began_at: datetime) -> None:
        try:
            await self.store.alongside(answers.forget, who, key, began_at)
        except StoreUnavailable as error:
            # It is taken over by whoever repeats it, a minute later.
            log.warning("api.key_not_forgotten", reason=str(error))

    async def _ask(self, request: Request, body: bytes) -> Response:
        scope = dict(request.scope)
        scope["method"] = "GET" if request.method == "HEAD" else request.method
        said = _Said(body)
        await self.inside(scope, said.receive, said.send)
        return said.response()


def _again(response: Response, body: bytes) -> Response:
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(body, response.status_code, headers)


def _kept(response: Response) -> Answer:
    if response.headers.get("cache-control") == NO_STORE:
        return Answer(NOT_KEPT)
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return Answer(response.status_code, bytes(response.body), headers)


def _check_json(request: Request, body: bytes) -> None:
    """Stricter than Python's own reader: no NaN, no half characters, no nesting without end."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("not-json", "Send JSON, with Content-Type: application/json.")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Problem("unreadable", f"The body {why}.", (Wrong("body", "", why),)) from None


def _key(given: list[str]) -> str:
    found = _KEY.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None:
        why = "write one key of up to 200 printable ASCII characters, best a random UUID"
        raise Problem("bad-key", why, (Wrong("header", "Idempotency-Key", why),))
    return found[1] or found[2]


def _digest(request: Request, body: bytes) -> str:
    made = hashlib.sha256()
    matters = (request.headers.get("if-match", ""), request.headers.get("if-none-match", ""))
    for part in (request.method, request.url.path, request.url.query, *matters):
        made.update(part.encode("utf-8", "surrogatepass") + b"\0")
    made.update(body)
    return made.hexdigest()


@dataclass
class _Said:
    """A body to be read, and the answer to it."""

    body: bytes
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    answer: bytearray = field(default_factory=bytearray)

    async def receive(self) -> Message:
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.answer += message.get("body", b"")

    def response(self) -> Response:
        made = Response(bytes(self.answer), self.status)
        made.raw_headers = [(name, value) for name, value in self.headers if name != b"content-length"]
        if self.status not in {204, 304}:
            made.raw_headers.append((b"content-length", str(len(self.answer)).encode()))
        return made
