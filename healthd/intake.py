"""The webhook receiver: proves who is speaking, puts what was said on disk, answers, and only then thinks about it.

Answers are constant: the provider shows the first 500 characters of them to its users. After a good signature nothing
in the content leads to anything but 2xx, because no retry can mend a payload, and ten failures in a row make the
provider stop delivering altogether (https://docs.smartlyq.com/guides/webhooks).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter as Counted
from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from healthd import tracing
from healthd.bodies import TimeLimit, Unread
from healthd.core.model import platform_label
from healthd.core.post_failures import Meant
from healthd.engine import Change, Engine
from healthd.metrics import Metrics, event_label
from healthd.pace import Pace
from healthd.providers.base import Event, Provider, UnparsedWebhook, WebhookRefused
from healthd.store import inbox
from healthd.store.accounts import chunked
from healthd.store.database import Store, StoreUnavailable
from healthd.store.inbox import Arrival, InboxStatus, Received, Settled
from healthd.visitors import Mistakes, Seldom, network

PREFIX = "/webhooks/"
BODY_LIMIT = 64 * 1024
QUEUE_LIMIT = 10_000
"""Webhooks that may wait for their commit; beyond it the sender is asked to come again."""
BATCH = 512
"""Webhooks in one commit, and the most in one transaction of the drain."""
FEWEST = 16
"""Webhooks that one transaction of the drain takes at least."""
SLICE = timedelta(milliseconds=10)
"""How long such a transaction is to take, about: what arrives meanwhile waits that long for its commit."""
CROWD = 16
"""Webhooks that wait for one commit when so much arrives that the drain holds back, and how many times as long as it
works it rests then. They are on disk by then; those at the door are not.
"""
REST = 4
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
    "unknown_workspace": (404, {}, b""),
    "method": (405, {"allow": "POST"}, b""),
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


def _messages(status: int, headers: Mapping[str, str], body: bytes) -> tuple[Message, Message]:
    """An answer as ASGI sends it."""
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"content-length", str(len(body)).encode()))
    start = {"type": "http.response.start", "status": status, "headers": lines}
    return start, {"type": "http.response.body", "body": body}


_SAID = {outcome: _messages(*answer) for outcome, answer in ANSWERS.items()}
_SAID_REFUSED = _messages(*REFUSED)

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
        self._unanswered: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def crowded(self) -> bool:
        """Whether so much arrives that whoever else writes should hold back."""
        return len(self._waiting) >= CROWD

    async def add(self, arrival: Arrival) -> bool:
        """Returns once the arrival is on disk: whether it is new. Raises ``StoreUnavailable``, ``Overloaded``, or
        ``TimeoutError`` where that takes longer than ``STORED_WITHIN``.
        """
        if len(self._waiting) >= QUEUE_LIMIT:
            raise Overloaded
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((arrival, done))
        self._unanswered.append((loop.time() + STORED_WITHIN, done))
        if self._timer is None:
            self._timer = loop.call_later(STORED_WITHIN, self._give_up)
        if self._task is None:
            self._task = asyncio.create_task(self._flush())
        return await done

    def _give_up(self) -> None:
        """Nobody waits longer than they should; one timer sees to that for all."""
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._unanswered:
            until, done = self._unanswered[0]
            if not done.done() and until > loop.time():
                self._timer = loop.call_at(until, self._give_up)
                return
            self._unanswered.popleft()
            if not done.done():
                done.set_exception(TimeoutError())

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
        while self._unanswered and self._unanswered[0][1].done():
            self._unanswered.popleft()


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
        self._reading = TimeLimit(self.body_timeout.total_seconds())
        self._counts: dict[tuple[str, str], Counted] = {}

    @property
    def crowded(self) -> bool:
        """Whether webhooks arrive faster than they are put on disk one after the other."""
        return self._commits.crowded

    def before(self, app: ASGIApp) -> ASGIApp:
        """Answers webhooks, and leaves everything else to ``app``. A way through Starlette's middleware, routes and
        objects would cost twice as much as all that is done here.
        """

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"] if scope["type"] == "http" else ""
            workspace = path[len(PREFIX) :]
            if not path.startswith(PREFIX) or not workspace or "/" in workspace:
                await app(scope, receive, send)
                return
            start, body = await self._answer(scope, receive, workspace)
            await send(start)
            await send(body)

        return answer

    async def _answer(self, scope: Scope, receive: Receive, workspace: str) -> tuple[Message, Message]:
        """One webhook, from its header to its answer."""
        provider = self.providers.get(workspace)
        if provider is None:
            workspace, outcome = "", "unknown_workspace"
        elif scope["method"] != "POST":
            outcome = "method"
        else:
            outcome = await self._receive(scope, receive, workspace, provider)
        counted = self._counts.get((workspace, outcome))
        if counted is None:
            counted = self._counts[workspace, outcome] = self.metrics.webhooks.labels(workspace, outcome)
        counted.inc()
        return _SAID.get(outcome, _SAID_REFUSED)

    async def _receive(self, scope: Scope, receive: Receive, workspace: str, provider: Provider) -> str:
        """The outcome, which is also the metric's label and leads to the answer."""
        if self.draining:
            return "draining"
        try:
            body = await self._reading.read(scope, receive, BODY_LIMIT)
        except Unread as unread:
            return unread.outcome
        return await self._keep(scope, workspace, provider, body)

    async def _keep(self, scope: Scope, workspace: str, provider: Provider, body: bytes) -> str:
        started = asyncio.get_running_loop().time()
        received_at = self.now()
        try:
            provider.verify(scope["headers"], body, received_at)
            with tracing.span("webhook.receive", workspace=workspace) as trace:
                fresh = await self._commits.add(Arrival(workspace, provider.event_id(body), body, received_at, trace))
        except WebhookRefused as refused:
            address = scope["client"][0] if scope.get("client") else ""
            return self._refusals.note(workspace, refused.reason, address, started)
        except Overloaded:
            return "overloaded"
        except (StoreUnavailable, TimeoutError) as error:
            # One that is stored after all is recognised when it comes again.
            log.warning("webhook.not_stored", workspace=workspace, reason=str(error) or "the store is too slow")
            return "not_stored"
        self.metrics.webhook_seconds.observe(asyncio.get_running_loop().time() - started)
        return "accepted" if fresh else "duplicate"


@dataclass(frozen=True, slots=True)
class Understood:
    """A webhook from the inbox, and what it says."""

    received: Received
    event: Event

    @property
    def goes_alone(self) -> bool:
        """Whether it goes through the engine's door by itself: posts that failed do, and what is traced."""
        return bool(self.event.failures) or self.received.trace is not None


def together(understood: Sequence[Understood]) -> Iterator[list[Understood]]:
    """Groups, in order, of those that go through the engine's door at once: of one profile, and each about an account
    of its own.
    """
    group: list[Understood] = []
    refs: set[str] = set()
    for one in understood:
        ref = one.event.observation.ref if one.event.observation is not None else ""
        joins = group and not one.goes_alone and not group[0].goes_alone and ref not in refs
        if not joins or group[0].event.profile != one.event.profile:
            if group:
                yield group
            group, refs = [], set()
        group.append(one)
        refs.add(ref)
    if group:
        yield group


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

    crowded: Callable[[], bool] = lambda: False
    """Whether so many webhooks arrive that those on disk can wait."""

    def __post_init__(self) -> None:
        self._to_look_at: set[str] = set()
        self._pace = Pace(SLICE, FEWEST, BATCH)

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
            most = self._pace.number
            changes, number, took = await self.store.within(workspace).run(self._batch, workspace, self.now(), most)
            self._pace.learn(number, took)
            while self._to_look_at:
                self.look_soon(self._to_look_at.pop())
            for part in chunked(changes, TOLD_AT_ONCE):
                self.heard(part)
                await asyncio.sleep(0)
            total += number
            if number < most:
                return total
            if self.crowded():
                await asyncio.sleep(took.total_seconds() * REST)

    def _batch(
        self, connection: Connection, workspace: str, now: datetime, most: int
    ) -> tuple[list[Change], int, timedelta]:
        """One transaction: what follows from the oldest of a workspace's webhooks, and that they have been seen to.
        Also how many these were, and how long it took.
        """
        began = self.now()
        waiting = inbox.waiting(connection, workspace, most)
        changes: list[Change] = []
        settled: list[Settled] = []
        understood: list[Understood] = []
        for received in waiting:
            read = self._understand(received)
            if isinstance(read, Understood):
                understood.append(read)
            else:
                settled.append(read)
        for group in together(understood):
            found, seen_to = self._through(connection, workspace, group, now)
            changes += found
            settled += seen_to
        inbox.settle(connection, settled)
        return changes, len(waiting), self.now() - began

    def _understand(self, received: Received) -> Understood | Settled:
        """What a webhook says, or, where nothing follows from it, what becomes of it."""
        provider = self.providers.get(received.workspace)
        if provider is None:
            return received.id, InboxStatus.PARKED, "this workspace is no longer configured"
        try:
            event = provider.parse(received.body, received.received_at)
        except UnparsedWebhook as error:
            self.metrics.webhook_events.labels(received.workspace, "unparsed").inc()
            return received.id, InboxStatus.PARKED, str(error)
        self.metrics.webhook_events.labels(received.workspace, event_label(event.name)).inc()
        if event.name == KEY_REVOKED:
            self.doubt_key(received.workspace)
        if event.observation is None and not event.failures and received.trace is None:
            return received.id, InboxStatus.DONE, event.name
        return Understood(received, event)

    def _through(
        self, connection: Connection, workspace: str, group: Sequence[Understood], now: datetime
    ) -> tuple[list[Change], list[Settled]]:
        """What a group's webhooks change, and what becomes of each of them."""
        first = group[0]
        kind = event_label(first.event.name)
        step = tracing.span("inbox.apply", workspace=workspace, kind=kind, parent=first.received.trace)
        try:
            # A savepoint: a payload that we fail on is its own problem, not that of all webhooks behind it.
            with step, connection.begin_nested():
                changes = self._apply(connection, workspace, group, now)
        except (OperationalError, InterfaceError, InternalError):
            raise  # the database's trouble, not the webhook's
        except Exception:
            if len(group) > 1:
                return self._one_by_one(connection, workspace, group, now)
            log.exception("webhook.failed", workspace=workspace, inbox_id=first.received.id)
            return [], [(first.received.id, InboxStatus.PARKED, "healthd failed on it; see the log")]
        return changes, [(one.received.id, InboxStatus.DONE, one.event.name) for one in group]

    def _one_by_one(
        self, connection: Connection, workspace: str, group: Sequence[Understood], now: datetime
    ) -> tuple[list[Change], list[Settled]]:
        """So that only those on which we fail are parked."""
        changes: list[Change] = []
        settled: list[Settled] = []
        for one in group:
            found, seen_to = self._through(connection, workspace, [one], now)
            changes += found
            settled += seen_to
        return changes, settled

    def _apply(
        self, connection: Connection, workspace: str, group: Sequence[Understood], now: datetime
    ) -> list[Change]:
        first = group[0].event
        profile = first.profile or ""
        if first.failures:
            changes, taken = self.engine.posts_failed(
                connection, workspace, first.failures, now, profile, first.event_id
            )
            for platform, kind in taken:
                self.metrics.post_failures.labels(workspace, platform_label(platform), kind).inc()
                if kind == Meant.SEVERAL:
                    self._to_look_at.add(workspace)
            return changes
        observations = [one.event.observation for one in group if one.event.observation is not None]
        return self.engine.apply(connection, workspace, observations, now, profile)
