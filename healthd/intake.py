"""The webhook receiver: proves who is speaking, puts what was said on disk, answers, and only then thinks about it.

Answers are constant: the provider shows the first 500 characters of them to its users. After a good signature nothing
in the content leads to anything but 2xx, because no retry can mend a payload, and ten failures in a row make the
provider stop delivering altogether (https://docs.smartlyq.com/guides/webhooks).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd import tracing
from healthd.bodies import Endpoint, Unread, read_body
from healthd.core.model import platform_label
from healthd.core.post_failures import Meant
from healthd.engine import Change, Engine
from healthd.metrics import Metrics, event_label
from healthd.providers.base import Event, Provider, UnparsedWebhook, WebhookRefused
from healthd.store import inbox
from healthd.store.accounts import chunked
from healthd.store.database import Store, StoreUnavailable
from healthd.store.inbox import Arrival, InboxStatus, Received
from healthd.visitors import Mistakes, Seldom, network

BODY_LIMIT = 64 * 1024
QUEUE_LIMIT = 10_000
"""Webhooks that may wait for their commit; beyond it the sender is asked to come again."""
BATCH = 512
"""Webhooks in one commit, and in one transaction of the drain."""
TOLD_AT_ONCE = 50
"""Changes that are told before the event loop gets its turn."""
KEY_REVOKED = "key.revoked"
STORED_WITHIN = 2.0
"""Seconds that a sender waits for the commit before it is told to come again."""
_RETRY = {"retry-after": "5"}

ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "accepted": (202, {}, b""),
    "duplicate": (200, {}, b""),
    "client_left": (400, {}, b""),
    "slow_body": (408, {"connection": "close"}, b""),
    "too_large": (413, {"connection": "close"}, b""),
    "overloaded": (429, _RETRY, b""),
    # Without a time to come again: a real sender with the wrong secret keeps to its own, longer pauses.
    "refused_too_often": (429, {}, b""),
    "not_stored": (503, _RETRY, b""),
    "draining": (503, _RETRY | {"connection": "close"}, b""),
}
REFUSED = (401, {"content-type": "text/plain"}, b"invalid signature\n")
"""One answer for everything that is wrong with a signature: it tells a forger nothing."""

log = structlog.get_logger("healthd.intake")


class Overloaded(Exception):
    """Too many webhooks wait for their commit."""


@dataclass
class Refusals:
    """Bad signatures: whose are too many, and a line in the log now and then that says how many there were.

    Only somebody who was refused is asked about here, so a flood from an address that a provider shares keeps nobody
    out whose signature is good.
    """

    _mistakes: Mistakes = field(default_factory=Mistakes)
    _untold: Counter[str] = field(default_factory=Counter)
    _told: Seldom = field(default_factory=Seldom)

    def note(self, workspace: str, reason: str, address: str, now: float) -> str:
        """The outcome: the reason of the refusal, or that there were too many of them from there."""
        self._untold[workspace] += 1
        if self._told.is_due(workspace, now):
            log.warning("webhook.refused", workspace=workspace, reason=reason, times=self._untold.pop(workspace))
        return "refused_too_often" if self._mistakes.again(network(address), now) else f"refused_{reason}"


class GroupCommit:
    """Lets webhooks that arrive together share a commit: while one is on its way to disk, the next ones gather.
    ``wake`` is called when something new is on disk, whether or not anybody still waits for the answer.
    """

    def __init__(self, store: Store, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._waiting: list[tuple[Arrival, asyncio.Future[bool]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, arrival: Arrival) -> bool:
        """Returns once the arrival is on disk: whether it is new. Raises ``StoreUnavailable`` or ``Overloaded``."""
        if len(self._waiting) >= QUEUE_LIMIT:
            raise Overloaded
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, done))
        if self._task is None:
            self._task = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._commit(batch)
        finally:
            self._task = None

    async def _commit(self, batch: Sequence[tuple[Arrival, asyncio.Future[bool]]]) -> None:
        try:
            answers = await self._store.alongside(inbox.store, [arrival for arrival, _ in batch])
        except Exception as error:  # noqa: BLE001 - every waiter must hear of it, whatever it is
            reason = error if isinstance(error, StoreUnavailable) else StoreUnavailable(type(error).__name__)
            for _, done in batch:
                if not done.done():
                    done.set_exception(reason)
            return
        if any(answers):
            self._wake()
        for (_, done), fresh in zip(batch, answers, strict=True):
            # A client that left meanwhile has cancelled its future; its webhook is on disk all the same.
            if not done.done():
                done.set_result(fresh)


@dataclass
class Receiver:
    """``POST /webhooks/{workspace}``. ``wake`` is called when something new is on disk."""

    store: Store
    providers: Mapping[str, Provider]
    metrics: Metrics
    now: Callable[[], datetime]
    wake: Callable[[], None]
    body_timeout: timedelta = timedelta(seconds=10)
    draining: bool = False

    def __post_init__(self) -> None:
        self._commits = GroupCommit(self.store, self.wake)
        self._refusals = Refusals()

    def routes(self) -> list[Route]:
        return [Route("/webhooks/{workspace}", Endpoint(self.answer))]

    async def answer(self, request: Request) -> Response:
        """One webhook, from its header to its answer."""
        workspace = request.path_params["workspace"]
        provider = self.providers.get(workspace)
        if provider is None:
            self.metrics.webhooks.labels("", "unknown_workspace").inc()
            return Response(status_code=404)
        if request.method != "POST":
            self.metrics.webhooks.labels(workspace, "method").inc()
            return Response(status_code=405, headers={"allow": "POST"})
        outcome = await self._receive(request, workspace, provider)
        self.metrics.webhooks.labels(workspace, outcome).inc()
        status, headers, body = ANSWERS.get(outcome, REFUSED)
        return Response(body, status, headers)

    async def _receive(self, request: Request, workspace: str, provider: Provider) -> str:
        """The outcome, which is also the metric's label and leads to the answer."""
        if self.draining:
            return "draining"
        try:
            body = await read_body(request, BODY_LIMIT, self.body_timeout.total_seconds())
        except Unread as unread:
            return unread.outcome
        return await self._keep(request, workspace, provider, body)

    async def _keep(self, request: Request, workspace: str, provider: Provider, body: bytes) -> str:
        started = asyncio.get_running_loop().time()
        received_at = self.now()
        try:
            provider.verify(request.scope["headers"], body, received_at)
            with tracing.span("webhook.receive", workspace=workspace) as trace:
                async with asyncio.timeout(STORED_WITHIN):
                    fresh = await self._commits.add(
                        Arrival(workspace, provider.event_id(body), body, received_at, trace)
                    )
        except WebhookRefused as refused:
            address = request.client.host if request.client else ""
            return self._refusals.note(workspace, refused.reason, address, started)
        except Overloaded:
            return "overloaded"
        except (StoreUnavailable, TimeoutError) as error:
            # One that is stored after all is recognised when it comes again.
            log.warning("webhook.not_stored", workspace=workspace, reason=str(error) or "the store is too slow")
            return "not_stored"
        self.metrics.webhook_seconds.observe(asyncio.get_running_loop().time() - started)
        return "accepted" if fresh else "duplicate"


@dataclass
class Drain:
    """Takes webhooks from the inbox and puts what they say through the engine's door."""

    store: Store
    engine: Engine
    providers: Mapping[str, Provider]
    metrics: Metrics
    now: Callable[[], datetime]
    heard: Callable[[Sequence[Change]], None]
    doubt_key: Callable[[str], None]
    look_soon: Callable[[str], None] = lambda _: None
    """Told of a workspace some of whose accounts are to be asked about."""

    def __post_init__(self) -> None:
        self._to_look_at: set[str] = set()

    async def run(self) -> int:
        """Works until the inbox is empty; returns how many webhooks that were."""
        total = 0
        while found := await self.store.read(inbox.workspaces):
            for workspace in found:
                total += await self._of(workspace)
        return total

    async def _of(self, workspace: str) -> int:
        total = 0
        while True:
            changes, number = await self.store.within(workspace).run(self._batch, workspace, self.now())
            while self._to_look_at:
                self.look_soon(self._to_look_at.pop())
            for part in chunked(changes, TOLD_AT_ONCE):
                self.heard(part)
                await asyncio.sleep(0)
            total += number
            if number < BATCH:
                return total

    def _batch(self, connection: Connection, workspace: str, now: datetime) -> tuple[list[Change], int]:
        """One transaction: what follows from a workspace's webhooks, and that they have been seen to."""
        waiting = inbox.waiting(connection, workspace, BATCH)
        changes: list[Change] = []
        settled: list[tuple[int, InboxStatus, str | None]] = []
        for received in waiting:
            found, status, note = self._one(connection, received, now)
            changes += found
            settled.append((received.id, status, note))
        inbox.settle(connection, settled)
        return changes, len(waiting)

    def _one(
        self, connection: Connection, received: Received, now: datetime
    ) -> tuple[list[Change], InboxStatus, str | None]:
        provider = self.providers.get(received.workspace)
        if provider is None:
            return [], InboxStatus.PARKED, "this workspace is no longer configured"
        try:
            event = provider.parse(received.body, received.received_at)
        except UnparsedWebhook as error:
            self.metrics.webhook_events.labels(received.workspace, "unparsed").inc()
            return [], InboxStatus.PARKED, str(error)
        self.metrics.webhook_events.labels(received.workspace, event_label(event.name)).inc()
        if event.name == KEY_REVOKED:
            self.doubt_key(received.workspace)
        try:
            # A savepoint: a payload that we fail on is its own problem, not that of all webhooks behind it.
            kind = event_label(event.name)
            step = tracing.span("inbox.apply", workspace=received.workspace, kind=kind, parent=received.trace)
            with step, connection.begin_nested():
                return self._apply(connection, received.workspace, event, now), InboxStatus.DONE, event.name
        except (OperationalError, InterfaceError, InternalError):
            raise  # the database's trouble, not the webhook's
        except Exception:
            log.exception("webhook.failed", workspace=received.workspace, inbox_id=received.id)
            return [], InboxStatus.PARKED, "healthd failed on it; see the log"

    def _apply(self, connection: Connection, workspace: str, event: Event, now: datetime) -> list[Change]:
        if event.failures:
            profile = event.profile or ""
            changes, taken = self.engine.posts_failed(
                connection, workspace, event.failures, now, profile, event.event_id
            )
            for platform, kind in taken:
                self.metrics.post_failures.labels(workspace, platform_label(platform), kind).inc()
                if kind == Meant.SEVERAL:
                    self._to_look_at.add(workspace)
            return changes
        if event.observation is None:
            return []
        return self.engine.apply(connection, workspace, [event.observation], now, event.profile or "")
