"""How a public address hears: what is sent is read within a limit of size and of time, and every method is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
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


async def read_body(request: Request, limit: int, within: float) -> bytes:
    """The raw body. Raises ``Unread`` once it is longer than ``limit`` bytes, or slower than ``within`` seconds."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise Unread(413)
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Unread(413)
    except TimeoutError:
        raise Unread(408) from None
    except ClientDisconnect:
        raise Unread(400) from None
    return bytes(body)


def form_fields(body: bytes, most: int = 20) -> dict[str, str]:
    """A form's fields, the first value of each. Raises ``ValueError`` where there are more than ``most``."""
    return {name: values[0] for name, values in parse_qs(body.decode("latin-1"), max_num_fields=most).items()}
