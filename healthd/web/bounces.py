"""``POST /bounces/{name}/{token}``: where a mail provider tells which of our messages came back.

The token proves the sender before anything of the body is read. After it, what is in the body leads to 200: no repeat
mends a report, and a provider that is refused too often stops reporting.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.bodies import Endpoint, Unread, read_body
from healthd.bounces import LIMITS, Bounce, BounceSettings, Forged, Unreadable, hear
from healthd.store.database import StoreUnavailable
from healthd.visitors import Mistakes, Seldom, network

AT_ONCE = 8
"""Reports under way; whoever brings more is asked to come again."""
RECORDED_WITHIN = 5.0
"""Seconds that a sender waits for the store before it is asked to come again."""
_RETRY = {"retry-after": "5"}

ANSWERS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    # Postmark and Mailgun take nothing but 200 for a success.
    "recorded": (200, {}),
    "unreadable": (200, {}),
    "subscribed": (200, {}),
    "subscription_waits": (200, {}),
    "client_left": (400, {}),
    # Mailgun tries again after any other refusal.
    "forged": (406, {}),
    "unknown": (404, {}),
    "method": (405, {"allow": "POST"}),
    "slow_body": (408, {"connection": "close"}),
    "too_large": (413, {"connection": "close"}),
    "overloaded": (429, _RETRY),
    "refused_too_often": (429, {}),
    "not_recorded": (503, _RETRY),
}
"""Outcomes, their statuses and headers; no answer has a body. An unknown name and a wrong token look the same."""

log = structlog.get_logger("healthd.bounces")

Record = Callable[[str, Sequence[Bounce]], Awaitable[int]]
"""Told the source's name and what it says; marks the addresses, and returns how many bounces it believed."""


def _nobody(_: str, __: str) -> None:
    """For those who do not count."""


async def confirm_subscription(url: str, *, allow_private: bool = False) -> bool:
    """Visits the address at Amazon that confirms a topic's subscription; whether that worked."""
    import httpx2  # noqa: PLC0415

    from healthd.outbound import guarded_client  # noqa: PLC0415

    client = guarded_client(timeout=10.0, allow_private=allow_private)
    try:
        async with asyncio.timeout(15), client.stream("GET", url) as answer:
            return answer.status_code == 200
    except (httpx2.HTTPError, TimeoutError):
        return False
    finally:
        await client.aclose()


def bounce_routes(
    *,
    sources: Mapping[str, BounceSettings],
    record: Record,
    now: Callable[[], datetime],
    heard: Callable[[str, str], None] = _nobody,
    confirm: Callable[[str], Awaitable[bool]] = confirm_subscription,
    body_timeout: timedelta = timedelta(seconds=10),
) -> list[Route]:
    """The route for the public listener. ``heard`` is told the source's name, empty for an unknown one, and the
    outcome, one of ``ANSWERS``; ``record`` may raise ``StoreUnavailable``.
    """
    desk = BounceDesk(sources, record, now, heard, confirm, body_timeout)
    return [Route("/bounces/{name}/{token}", Endpoint(desk.answer))]


@dataclass
class BounceDesk:
    """Takes reports."""

    sources: Mapping[str, BounceSettings]
    record: Record
    now: Callable[[], datetime]
    heard: Callable[[str, str], None]
    confirm: Callable[[str], Awaitable[bool]]
    body_timeout: timedelta

    _mistakes: Mistakes = field(default_factory=Mistakes)
    _under_way: int = 0
    _told: Seldom = field(default_factory=Seldom)

    async def answer(self, request: Request) -> Response:
        name, source = request.path_params["name"], self._source(request)
        outcome = await self._outcome(request, name, source)
        self.heard(name if source is not None else "", outcome)
        status, headers = ANSWERS[outcome]
        return Response(b"", status, dict(headers))

    def _source(self, request: Request) -> BounceSettings | None:
        """Whose token this is. An unknown name takes as long as a wrong token."""
        source = self.sources.get(request.path_params["name"])
        wanted = source.token.get_secret_value() if source is not None else "-"
        right = hmac.compare_digest(wanted.encode(), request.path_params["token"].encode("utf-8", "replace"))
        return source if right else None

    async def _outcome(self, request: Request, name: str, source: BounceSettings | None) -> str:
        if source is None:
            return self._mistaken(request, "unknown")
        if request.method != "POST":
            return "method"
        if self._under_way >= AT_ONCE:
            return "overloaded"
        self._under_way += 1
        try:
            return await self._heard_out(request, name, source)
        finally:
            self._under_way -= 1

    async def _heard_out(self, request: Request, name: str, source: BounceSettings) -> str:
        try:
            return await self._taken(request, name, source)
        except Forged as forged:
            self._tell(name, "bounces.forged", str(forged))
            return self._mistaken(request, "forged")
        except Unreadable as error:
            self._tell(name, "bounces.unreadable", str(error))
            return "unreadable"
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("bounces.not_recorded", source=name, reason=str(error) or "the store is too slow")
            return "not_recorded"

    async def _taken(self, request: Request, name: str, source: BounceSettings) -> str:
        try:
            body = await read_body(request, LIMITS[source.provider], self.body_timeout.total_seconds())
        except Unread as unread:
            return unread.outcome
        # A report of a megabyte keeps the parser busy for longer than others may wait.
        said = await asyncio.to_thread(hear, source, dict(request.headers), body, self.now())
        if said.subscription is not None:
            return await self._subscribe(name, said.subscription)
        if said.unconfirmed:
            log.warning("bounces.subscription_waits", source=name, topic=said.unconfirmed)
            return "subscription_waits"
        async with asyncio.timeout(RECORDED_WITHIN):
            believed = await self.record(name, said.bounces) if said.bounces else 0
        log.info("bounces.recorded", source=name, told=len(said.bounces), believed=believed)
        return "recorded"

    async def _subscribe(self, name: str, url: str) -> str:
        confirmed = await self.confirm(url)
        log.info("bounces.subscribed" if confirmed else "bounces.not_subscribed", source=name)
        return "subscribed" if confirmed else "not_recorded"

    def _mistaken(self, request: Request, outcome: str) -> str:
        address = request.client.host if request.client else ""
        often = self._mistakes.again(network(address), asyncio.get_running_loop().time())
        return "refused_too_often" if often else outcome

    def _tell(self, name: str, happened: str, reason: str) -> None:
        if self._told.is_due(name, asyncio.get_running_loop().time()):
            log.warning(happened, source=name, reason=reason)
