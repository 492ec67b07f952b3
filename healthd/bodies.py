"""How a public address hears: what is sent is read within a limit of size and of time, and every method is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_OUTCOMES = {400: "client_left", 408: "slow_body", 413: "too_large"}


class Unread(Exception):
    """The body cannot be had. ``status`` is the answer that says why: 400 when the visitor left, 408, or 413; and
    ``outcome`` the same as a word for metrics: ``client_left``, ``slow_body`` or ``too_large``.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status

    @property
    def outcome(self) -> str:
        return _OUTCOMES[self.status]


class Endpoint:
    """As a bare ASGI app, so that Starlette neither answers HEAD as GET nor 405 with a body of its own."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


class TimeLimit:
    """So many seconds for each of any number of readers, with one timer among them all: one for each would cost more
    than the reading does. Belongs to one event loop.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, scope: Scope, receive: Receive, limit: int) -> bytes:
        """The raw body. Raises ``Unread`` once it is longer than ``limit`` bytes, or slower than its time."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a body is read in a task")
        self._until[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)
        try:
            return await _whole(scope, receive, limit)
        except asyncio.CancelledError:
            if task in self._until:
                raise
            task.uncancel()
            raise Unread(408) from None
        finally:
            self._until.pop(task, None)

    def _look(self) -> None:
        """Those who began first run out first."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._until:
            task, until = next(iter(self._until.items()))
            if until > loop.time():
                self._timer = loop.call_at(until, self._look)
                return
            del self._until[task]
            task.cancel()


async def read_body(request: Request, limit: int, within: float) -> bytes:
    """The raw body. Raises ``Unread`` once it is longer than ``limit`` bytes, or slower than ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            return await _whole(request.scope, request.receive, limit)
    except TimeoutError:
        raise Unread(408) from None


async def _whole(scope: Scope, receive: Receive, limit: int) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise Unread(413)
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unread(400)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise Unread(413)
    return bytes(body)


def form_fields(body: bytes, most: int = 20) -> dict[str, str]:
    """A form's fields, the first value of each. Raises ``ValueError`` where there are more than ``most``."""
    return {name: values[0] for name, values in parse_qs(body.decode("latin-1"), max_num_fields=most).items()}
