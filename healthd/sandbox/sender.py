"""The sandbox's webhooks: signed, retried on the real schedule, logged, and stopped when an endpoint keeps failing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import hmac
import json
import re
import secrets
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx2

from healthd.sandbox.world import World

RETRIES = tuple(timedelta(minutes=minutes) for minutes in (2, 4, 8, 16, 32))
FAILING_AFTER = 10
LONGEST_RETRY_AFTER = timedelta(hours=1)
LOGGED_FOR = timedelta(days=90)
TIMEOUT = 10.0
AT_ONCE = 64
KEPT_DELIVERIES = 100_000

EVENTS = (
    "post.published", "post.partial", "post.failed", "post.scheduled", "post.cancelled", "post.recycled",
    "post.external.created", "post.external.updated", "account.connected", "account.disconnected",
    "account.token_expired", "comment.received", "message.received", "message.sent", "message.delivered",
    "message.read", "message.failed", "conversation.started", "reaction.received", "review.new", "review.updated",
    "job.completed", "job.failed", "balance.low", "balance.depleted", "key.revoked", "wallet.recharge.succeeded",
    "wallet.recharge.failed", "account_billing.charged", "account_billing.failed", "contact.created",
    "contact.updated", "contact.tag_added", "contact.tag_removed", "deal.created", "deal.stage_changed", "deal.won",
    "deal.lost",
)  # fmt: skip


@dataclass(slots=True)
class Endpoint:
    id: int
    workspace: str
    url: str
    events: tuple[str, ...]
    secret: str
    created_at: datetime
    status: str = "active"
    last_triggered_at: datetime | None = None
    failures: int = 0
    """Deliveries that failed in a row."""


@dataclass(slots=True)
class Delivery:
    id: int
    webhook_id: int
    event: str
    event_id: str
    body: bytes
    created_at: datetime
    status: str = "pending"
    attempt: int = 0
    response_code: int | None = None
    response_body: str | None = None
    delivered_at: datetime | None = None
    next_retry_at: datetime | None = None


def signature(secret: str, body: bytes, at: int) -> str:
    """``t=<unix seconds>,v1=<hex HMAC-SHA256(secret, "<t>." + body)>``; the key is the secret's text as it is."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@functools.cache
def _trust() -> ssl.SSLContext:
    """Reading all the authorities takes longer than all else that a sandbox does to start."""
    return httpx2.create_ssl_context(trust_env=False)


@dataclass
class Sender:
    """``time_scale``: how many times faster than in life the retry schedule runs. A clock that is moved forward brings
    on at once what it made due.
    """

    world: World
    time_scale: float = 1.0
    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    deliveries: dict[int, Delivery] = field(default_factory=dict)
    _order: deque[int] = field(default_factory=deque)
    _under_way: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """What is being sent, or waits for its time; at most one task for each delivery."""
    _next_delivery: int = 9001

    def __post_init__(self) -> None:
        self._moved = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT,
            trust_env=False,
            verify=_trust(),
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
        )

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    def clock_moved(self) -> None:
        """Lets everything that waits look at the clock again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def register(self, workspace: str, url: str, events: Iterable[str], secret: str | None = None) -> Endpoint:
        endpoint = Endpoint(
            1 + max(self.endpoints, default=0),
            workspace,
            url,
            tuple(events),
            secret or f"whsec_{secrets.token_hex(16)}",
            self.world.now(),
        )
        self.endpoints[endpoint.id] = endpoint
        return endpoint

    def emit(
        self,
        workspace: str,
        event: str,
        data: dict[str, Any],
        *,
        event_id: str | None = None,
        created_at: str | None = None,
        delay: float = 0.0,
        duplicates: int = 0,
    ) -> list[Delivery]:
        """Sends an event to every endpoint that subscribes to it: ``delay`` seconds late, with so many repeats.

        Nobody can subscribe to an event that is not in the catalogue; every endpoint gets it.
        """
        event_id = event_id or f"evt_{secrets.token_hex(8)}"
        created_at = created_at or stamp(self.world.now())
        envelope = {"id": event_id, "event": event, "created_at": created_at, "data": data}
        body = json.dumps(envelope, separators=(",", ":")).encode()
        made = []
        for endpoint in list(self.endpoints.values()):
            if endpoint.workspace == workspace and (event in endpoint.events or event not in EVENTS):
                for _ in range(1 + duplicates):
                    delivery = self._delivery(endpoint, event, event_id, body)
                    self._later(endpoint, delivery, delay)
                    made.append(delivery)
        return made

    def send_raw(self, endpoint: Endpoint, body: bytes, event: str = "account.token_expired") -> Delivery:
        """Sends any bytes under a good signature."""
        delivery = self._delivery(endpoint, event, f"evt_{secrets.token_hex(8)}", body)
        self._later(endpoint, delivery, 0)
        return delivery

    async def test(self, endpoint: Endpoint) -> Delivery:
        """One ``webhook.test``, tried once, whatever the endpoint's status."""
        event_id = f"evt_{secrets.token_hex(8)}"
        created_at = stamp(self.world.now())
        body = json.dumps({"id": event_id, "event": "webhook.test", "created_at": created_at, "data": {}}).encode()
        delivery = self._delivery(endpoint, "webhook.test", event_id, body)
        good, _ = await self._attempt(endpoint, delivery)
        delivery.status = "delivered" if good else "dead_letter"
        return delivery

    def replay(self, endpoint: Endpoint, delivery: Delivery) -> None:
        """Sends a delivery of the log once more, signed afresh."""
        delivery.status, delivery.attempt = "pending", 0
        delivery.delivered_at = delivery.next_retry_at = None
        self._later(endpoint, delivery, 0)

    def reactivate(self, endpoint: Endpoint) -> None:
        """Takes an endpoint back into service; what waited for it is sent."""
        endpoint.status, endpoint.failures = "active", 0
        for delivery in self.deliveries.values():
            waits = delivery.status == "pending" and delivery.id not in self._under_way
            if delivery.webhook_id == endpoint.id and waits:
                self._later(endpoint, delivery, 0)

    def _delivery(self, endpoint: Endpoint, event: str, event_id: str, body: bytes) -> Delivery:
        delivery = Delivery(self._next_delivery, endpoint.id, event, event_id, body, self.world.now())
        self._next_delivery += 1
        self.deliveries[delivery.id] = delivery
        self._order.append(delivery.id)
        if len(self._order) > KEPT_DELIVERIES:
            self.deliveries.pop(self._order.popleft(), None)
        return delivery

    def _later(self, endpoint: Endpoint, delivery: Delivery, delay: float) -> None:
        before = self._under_way.get(delivery.id)
        if before is not None:
            before.cancel()
        task = asyncio.create_task(self._deliver(endpoint, delivery, delay))
        self._under_way[delivery.id] = task
        task.add_done_callback(lambda done: self._forget(delivery.id, done))

    def _forget(self, delivery: int, task: asyncio.Task[None]) -> None:
        if self._under_way.get(delivery) is task:
            del self._under_way[delivery]

    async def _deliver(self, endpoint: Endpoint, delivery: Delivery, delay: float) -> None:
        if delay > 0:
            await self._until(self.world.now() + timedelta(seconds=delay))
        while True:
            async with self._turns:
                if endpoint.status != "active" or endpoint.id not in self.endpoints:
                    return
                good, retry_after = await self._attempt(endpoint, delivery)
            if good:
                return
            self._count_failure(endpoint)
            if delivery.attempt > len(RETRIES):
                delivery.status = "dead_letter"
                return
            pause = retry_after or RETRIES[delivery.attempt - 1]
            delivery.next_retry_at = self.world.now() + pause / self.time_scale
            await self._until(delivery.next_retry_at)
            delivery.next_retry_at = None

    async def _until(self, due: datetime) -> None:
        while (left := (due - self.world.now()).total_seconds()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._moved.wait()

    def _count_failure(self, endpoint: Endpoint) -> None:
        endpoint.failures += 1
        if endpoint.failures >= FAILING_AFTER and endpoint.status == "active":
            endpoint.status = "failing"

    async def _attempt(self, endpoint: Endpoint, delivery: Delivery) -> tuple[bool, timedelta | None]:
        """Whether the endpoint took it, and how long it asked us to wait."""
        delivery.attempt += 1
        now = self.world.now()
        endpoint.last_triggered_at = now
        headers = {
            "content-type": "application/json",
            "user-agent": "SmartlyQ-Webhook/1.0",
            "x-smartlyq-event": delivery.event,
            "x-smartlyq-event-id": delivery.event_id,
            "x-smartlyq-signature": signature(endpoint.secret, delivery.body, int(now.timestamp())),
        }
        try:
            answer = await self._client.post(endpoint.url, content=delivery.body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            delivery.response_code, delivery.response_body = None, type(error).__name__
            return False, None
        delivery.response_code, delivery.response_body = answer.status_code, answer.text[:500]
        if answer.is_success:
            delivery.status, delivery.delivered_at, endpoint.failures = "delivered", self.world.now(), 0
            return True, None
        asked = answer.headers.get("retry-after", "")
        if answer.status_code == 429 and re.fullmatch(r"[0-9]{1,9}", asked, re.ASCII):
            return False, min(timedelta(seconds=int(asked)), LONGEST_RETRY_AFTER)
        return False, None


def stamp(at: datetime | None) -> str | None:
    """Times as the API writes them: UTC, whole seconds."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")
