"""What goes wrong on the way between the daemon and the provider's API, by seed."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
import orjson

from tests.simulation.record import Record

WINDOW = 60.0


def _refused(status: int, code: str) -> Callable[[], httpx2.Response]:
    body = {"success": False, "error": {"code": code, "message": "no", "details": {}}, "meta": {"request_id": "req_w"}}
    headers = {"retry-after": "40"} if status == 429 else {}
    return lambda: httpx2.Response(status, json=body, headers=headers)


def _raw(status: int, body: bytes, kind: str = "application/json") -> Callable[[], httpx2.Response]:
    return lambda: httpx2.Response(status, content=body, headers={"content-type": kind})


ANSWERS: dict[str, Callable[[], httpx2.Response]] = {
    "500": _refused(500, "INTERNAL_ERROR"),
    "502": _raw(502, b"<html>Bad Gateway</html>", "text/html"),
    "401": _refused(401, "INVALID_API_KEY"),
    "402": _refused(402, "INSUFFICIENT_BALANCE"),
    "403": _refused(403, "INSUFFICIENT_SCOPE"),
    "404": _refused(404, "RESOURCE_NOT_FOUND"),
    "409": _refused(409, "CONFLICT"),
    "422": _refused(422, "VALIDATION_ERROR"),
    "429": _refused(429, "RATE_LIMIT_EXCEEDED"),
    "login page": _raw(200, b"<html><form>Sign in</form></html>", "text/html"),
    "empty": _raw(200, b""),
    "truncated": _raw(200, b'{"success":true,"data":{"accounts":[{"id":1,"plat'),
    "wrong shape": _raw(200, b'{"success":true,"data":{"accounts":{"id":"x"},"id":[]},"meta":[]}'),
    "all gone": _raw(200, b'{"success":true,"data":[],"meta":{}}'),
    "no accounts": _raw(200, b'{"success":true,"data":{"healthy":0,"accounts":[]},"meta":{}}'),
    "redirect": lambda: httpx2.Response(302, headers={"location": "https://evil.example/"}),
}
BREAKS: dict[str, Callable[[], Exception]] = {
    "refused": lambda: httpx2.ConnectError("refused"),
    "reset": lambda: httpx2.ReadError("reset"),
    "timeout": lambda: httpx2.ReadTimeout("timeout"),
    "cut": lambda: httpx2.RemoteProtocolError("peer closed"),
}
KINDS = (*ANSWERS, *BREAKS, "strange words", "silence")


@dataclass
class Weather(httpx2.AsyncBaseTransport):
    """Stands between the client and the sandbox. ``storm`` is the fault that rules now; ``drizzle`` how often a single
    call meets any fault in fair weather. Also the meter of the allowance: no minute may hold more than our share.
    """

    inner: httpx2.AsyncBaseTransport
    rng: random.Random
    record: Record
    clock: Callable[[], float]
    share: Callable[[], int]
    drizzle: float = 0.0
    storm: str = ""
    storm_share: float = 1.0
    called: Callable[[str, str], None] = lambda *_: None
    """Told of each call by its path, and of what befalls it."""
    _sent: deque[float] = field(default_factory=deque)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._meter()
        kind = self._strikes()
        self.record.note("api", f"{request.method} {_shape(request.url.path)}", kind)
        self.called(request.url.path, kind)
        if kind in BREAKS:
            if kind == "reset":  # it was done all the same
                await self.inner.handle_async_request(request)
            raise BREAKS[kind]()
        if kind == "silence":
            await asyncio.sleep(3600)
        if kind in ANSWERS:
            return ANSWERS[kind]()
        answer = await self.inner.handle_async_request(request)
        return await _in_strange_words(answer) if kind == "strange words" else answer

    def _strikes(self) -> str:
        if self.storm and self.rng.random() < self.storm_share:
            return self.storm
        return self.rng.choice(KINDS) if self.drizzle and self.rng.random() < self.drizzle else ""

    def _meter(self) -> None:
        now = self.clock()
        while self._sent and self._sent[0] <= now - WINDOW:
            self._sent.popleft()
        self._sent.append(now)
        if len(self._sent) > self.share():
            self.record.violated("P7", f"{len(self._sent)} calls within a minute, our share is {self.share()}", "api")


async def _in_strange_words(answer: httpx2.Response) -> httpx2.Response:
    """A status that nobody has heard of: it means *unknown*, never *broken*."""
    body = await answer.aread()
    for word in (b'"connected"', b'"expired"', b'"error"'):
        body = body.replace(b'"status":' + word, b'"status":"published"')
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return answer
    return httpx2.Response(answer.status_code, content=body, headers={"content-type": "application/json"})


def _shape(path: str) -> str:
    return "/".join("{id}" if part.isdecimal() else part for part in path.split("/")).removeprefix("/v1")
