"""Looking after the webhook itself: that the provider has it and calls it, and what it did not deliver.

Whoever registers a webhook and forgets it finds out in a bad hour that it has been *failing* for a month. So the list
of subscriptions is read once in a while; what can be mended without a person is mended, and anything else is the
operator's trouble until a later look finds it gone. Then the log of deliveries is read back.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

import structlog
from sqlalchemy import Connection

from healthd.engine import Engine
from healthd.metrics import Metrics
from healthd.providers.base import (
    Conflict,
    Deliveries,
    Delivery,
    DeliveryStatus,
    MissingScope,
    NotFound,
    Provider,
    Subscription,
    Subscriptions,
    SubscriptionStatus,
    Unprocessable,
)
from healthd.store import subscriptions, troubles
from healthd.store.database import Store
from healthd.store.inbox import Arrival
from healthd.store.subscriptions import Looked
from healthd.store.troubles import Trouble, trouble_id

log = structlog.get_logger("healthd.self_care")

WANTED = (
    "account.token_expired", "account.disconnected", "account.connected", "post.failed", "post.partial", "key.revoked",
)  # fmt: skip
"""The events that healthd does something about."""
READ_BACK = WANTED[:5]
"""Those of them that are worth reading from the log: of a revoked key the next call tells by itself."""
QUESTION = "subscription"
"""Under which troubles of the webhook stand."""
LOOK_AGAIN = timedelta(minutes=5)
"""How soon it is looked at again while something is wrong with it."""
TRY_AGAIN = timedelta(minutes=1)
"""How soon after a look that the API or the store did not let us finish."""
READ_ON = timedelta(seconds=2)
PAGES_AT_ONCE = 10
"""Pages of the log in one go; where there are more, others get their turn in between."""
OVERLAP = timedelta(hours=6)
"""How old a delivery may be when it becomes a dead letter: five retries, each put off by an hour at the most."""
FIRST_READ = timedelta(days=1)
"""How far back the log is read where it never was."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"https": 443, "http": 80}


class Problem(StrEnum):
    """What is wrong with a webhook. Its trouble's kind is ``webhook_`` and this word."""

    MISSING = "missing"
    WRONG_URL = "wrong_url"
    WRONG_EVENTS = "wrong_events"
    FAILING = "failing"
    PAUSED = "paused"
    SEVERAL = "several"
    FORBIDDEN = "forbidden"

    @property
    def kind(self) -> str:
        return f"webhook_{self}"


REMEDIES: Mapping[Problem, str] = {
    Problem.MISSING: "Run `healthd webhook register`, which makes one and shows its secret.",
    Problem.WRONG_URL: (
        "If that is healthd's former address, run `healthd webhook repair --move`. If it belongs to another healthd, "
        "run `healthd webhook register`."
    ),
    Problem.WRONG_EVENTS: "Run `healthd webhook repair`.",
    Problem.FAILING: "Run `healthd webhook test`, which says where deliveries fail; then `healthd webhook repair`.",
    Problem.PAUSED: "Somebody has paused it at the provider. Run `healthd webhook repair` to end that.",
    Problem.SEVERAL: (
        "One is enough. After `healthd webhook rotate`, run `healthd webhook rotate --finish`; otherwise remove one at "
        "the provider."
    ),
    Problem.FORBIDDEN: (
        'Give the API key the scopes webhooks:read and webhooks:write, or set webhooks = "off" in this workspace.'
    ),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: ``problem``, the webhook that it is about, the events it ``lacks``, and in words what is so."""

    problem: Problem | None
    about: Subscription | None = None
    lacks: tuple[str, ...] = ()
    said: str = ""


def address(public_url: str, workspace: str) -> str:
    """Where the provider is to call."""
    return f"{public_url}/webhooks/{workspace}"


def is_callable(public_url: str, base_url: str) -> bool:
    """Whether the provider at ``base_url`` can reach ``public_url`` at all: SmartlyQ calls public https addresses only,
    a sandbox on this machine also what is on this machine.
    """
    if (urlsplit(base_url).hostname or "") in LOOPBACK:
        return True
    parts = urlsplit(public_url)
    host = parts.hostname or ""
    try:
        public = ipaddress.ip_address(host).is_global
    except ValueError:
        public = "." in host and not host.endswith((".localhost", ".local", ".internal"))
    return parts.scheme == "https" and public


def ours(found: Subscriptions, url: str) -> list[Subscription]:
    """Those that lead to this address, the oldest first."""
    mine = [row for row in found.rows if _plain(row.url) == _plain(url)]
    return sorted(mine, key=lambda row: (len(row.ref), row.ref))


def elsewhere(found: Subscriptions, url: str) -> list[Subscription]:
    """Those that lead to the same path on another host: healthd's former address, or another healthd's."""
    path = _path(urlsplit(url))
    return [row for row in found.rows if _plain(row.url)[2:] == (path, "") and _plain(row.url) != _plain(url)]


def _plain(url: str) -> tuple[str, str, str, str]:
    """An address in which two ways of writing the same one are alike."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return ("", url, "", "")
    return (parts.scheme, f"{parts.hostname or ''}:{port}", _path(parts), parts.query)


def _path(parts: SplitResult) -> str:
    return parts.path.rstrip("/")


def lacking(row: Subscription, found: Subscriptions) -> tuple[str, ...]:
    """The events that it should have and has not, of those that the provider offers."""
    return tuple(event for event in offered(found) if event not in row.events)


def offered(found: Subscriptions) -> tuple[str, ...]:
    """The events that healthd wants, of those that the provider offers."""
    return tuple(event for event in WANTED if not found.catalogue or event in found.catalogue)


def judge(found: Subscriptions, url: str) -> Verdict:
    """What is wrong with the webhook that should lead to ``url``, if anything is. Of several one that works is enough
    to hear everything; that there are others is then all that is wrong.
    """
    mine = ours(found, url)
    if not mine:
        others = elsewhere(found, url)
        if others:
            host = urlsplit(others[0].url).hostname
            return Verdict(Problem.WRONG_URL, others[0], said=f"webhook {others[0].ref} leads to {host} instead")
        return Verdict(Problem.MISSING, said=f"the provider has no webhook that leads to {url}")
    verdicts = [_judge_one(row, found) for row in mine]
    good = next((verdict for verdict in verdicts if verdict.problem is None), None)
    if good is not None and len(mine) > 1:
        refs = " and ".join(row.ref for row in mine)
        return replace(good, problem=Problem.SEVERAL, said=f"webhooks {refs} lead to the same address")
    return good or verdicts[-1]


def _judge_one(row: Subscription, found: Subscriptions) -> Verdict:
    lacks = lacking(row, found)
    if row.status is SubscriptionStatus.FAILING:
        said = f"the provider has stopped webhook {row.ref}, since ten deliveries failed in a row"
        return Verdict(Problem.FAILING, row, lacks, said)
    if row.status is SubscriptionStatus.PAUSED:
        return Verdict(Problem.PAUSED, row, lacks, f"webhook {row.ref} is paused")
    if lacks:
        return Verdict(Problem.WRONG_EVENTS, row, lacks, f"webhook {row.ref} lacks {', '.join(lacks)}")
    return Verdict(None, row)


@dataclass(frozen=True, slots=True)
class CarePolicy:
    """The operator's choices: how often the webhook is looked at, and whether it is repaired."""

    interval: timedelta = timedelta(hours=1)
    repair: bool = True


@dataclass
class _Reading:
    """One way through the log, from its newest page back to ``since``. What is pending is read before what is dead:
    a delivery that dies in between is seen all the same.
    """

    began: datetime
    since: datetime
    left: list[tuple[DeliveryStatus, str]] = field(
        default_factory=lambda: [(status, event) for status in DeliveryStatus for event in READ_BACK]
    )
    page: int = 1
    total: int = 0

    def turn_over(self, seen: Deliveries) -> None:
        """On to the next page, or to the next part of the log."""
        if seen.is_last or (seen.rows and seen.rows[-1].created_at < self.since):
            self.left.pop(0)
            self.page, self.total = 1, 0
        elif seen.total >= self.total:
            self.page, self.total = self.page + 1, seen.total
        else:
            # Some have left the list meanwhile, and those behind them have moved up: onto this page, at the worst.
            self.total = seen.total


@dataclass
class SelfCare:
    """Looks after the webhooks of the workspaces in ``addresses``, which says where each is to lead. ``arrived`` is
    told when something was put into the inbox, ``has_mail`` when notices were written.
    """

    store: Store
    engine: Engine
    metrics: Metrics
    addresses: Mapping[str, str]
    policy: CarePolicy
    now: Callable[[], datetime]
    arrived: Callable[[], None]
    has_mail: Callable[[], None]
    rng: random.Random

    def __post_init__(self) -> None:
        self._due: dict[str, datetime] = {}
        self._readings: dict[str, _Reading] = {}
        self._problems: dict[str, Problem | None] = {}
        self._audited: dict[str, datetime] = {}

    def rest(self, workspace: str) -> float:
        """Seconds until there is something to do there: none or fewer when it is time."""
        due = self._due.get(workspace)
        return 0.0 if due is None else (due - self.now()).total_seconds()

    def take_over(self, workspace: str) -> None:
        """Another daemon may have looked after it meanwhile: what was known here is old, and it is time."""
        for known in (self._due, self._readings, self._audited):
            known.pop(workspace, None)

    def is_reading(self, workspace: str) -> bool:
        """Whether there is more to be read from the log: better by whoever has begun."""
        return workspace in self._readings

    async def leave(self, workspace: str) -> None:
        """Nobody looks after it any more: what an earlier process found wrong with it is not known to be so now."""
        if await self.store.read(subscriptions.get, workspace) is not None:
            await self.store.within(workspace).run(self._leave, workspace, self.now())

    def _leave(self, connection: Connection, workspace: str, now: datetime) -> None:
        subscriptions.forget(connection, workspace)
        self.engine.trouble_over(connection, workspace, now, QUESTION)

    async def look(self, workspace: str, provider: Provider) -> None:
        """Looks at the webhook, mends it, and reads back what it did not deliver. Raises ``ProviderError`` where the
        API does not let us, and ``StoreUnavailable``.
        """
        now = self.now()
        self._due[workspace] = now + TRY_AGAIN
        if workspace not in self._readings or now - self._audited[workspace] >= LOOK_AGAIN:
            self._problems[workspace] = await self._audit(workspace, provider)
            self._audited[workspace] = now
        problem, more = self._problems[workspace], False
        if problem is not Problem.FORBIDDEN:
            # What may be listed and not read is read nowhere; the list is what counts.
            with suppress(MissingScope, NotFound):
                more = await self._read_back(workspace, provider)
        self._due[workspace] = self.now() + (READ_ON if more else self._until_next(problem))

    def _until_next(self, problem: Problem | None) -> timedelta:
        usual = self.policy.interval * self.rng.uniform(0.9, 1.1)
        return usual if problem in {None, Problem.FORBIDDEN} else min(usual, LOOK_AGAIN)

    async def _audit(self, workspace: str, provider: Provider) -> Problem | None:
        mended: list[Verdict] = []
        try:
            found = await provider.webhooks()
        except (MissingScope, NotFound) as error:
            verdict = Verdict(Problem.FORBIDDEN, said=str(error))
        else:
            verdict = judge(found, self.addresses[workspace])
            if self.policy.repair:
                verdict = await self._mend(provider, found, verdict, mended)
        for before in mended:
            self.metrics.webhook_repairs.labels(workspace, before.problem or "").inc()
            log.warning("webhook.repaired", workspace=workspace, what=before.problem, reason=before.said)
        await self._report(workspace, verdict, repaired=bool(mended))
        return verdict.problem

    async def _mend(self, provider: Provider, found: Subscriptions, verdict: Verdict, mended: list[Verdict]) -> Verdict:
        """Takes a failing webhook back into service once it can be reached, and adds events that it lacks. What the API
        refuses stays wrong; what could be done goes into ``mended``.
        """
        try:
            for problem, mend in _MENDED.items():
                if verdict.problem is problem and verdict.about is not None:
                    before, verdict = verdict, await mend(provider, found, verdict.about, verdict)
                    mended += [before] if verdict.problem is not problem else []
        except (MissingScope, NotFound, Unprocessable, Conflict) as error:
            return replace(verdict, said=f"{verdict.said}; its repair was refused: {error}")
        return verdict

    async def _report(self, workspace: str, verdict: Verdict, *, repaired: bool) -> None:
        began = await self.store.within(workspace).run(self._record, workspace, verdict, self.now(), repaired=repaired)
        if began:
            log.warning(
                "webhook.trouble", workspace=workspace, problem=verdict.problem, reason=verdict.said,
                remedy=REMEDIES[verdict.problem] if verdict.problem else "",
            )  # fmt: skip
        self.has_mail()

    def _record(
        self, connection: Connection, workspace: str, verdict: Verdict, now: datetime, *, repaired: bool
    ) -> bool:
        """One transaction: what was seen, and the trouble that begins or ends with it. Whether one began."""
        about, problem = verdict.about, verdict.problem
        seen = Looked(
            workspace,
            ref=about.ref if about else "",
            url=about.url if about else "",
            status=about.status if about else "",
            events=about.events if about else (),
            checked_at=now,
            problem=problem or "",
        )
        subscriptions.note(connection, seen, repaired=repaired)
        kind = problem.kind if problem else ""
        lasting = [one for one in troubles.current(connection, workspace) if one.question == QUESTION]
        if any(one.kind != kind for one in lasting):
            self.engine.trouble_over(connection, workspace, now, QUESTION)
        if problem is None:
            return False
        return self.engine.trouble(
            connection,
            Trouble(trouble_id(workspace, kind, now), workspace, kind, QUESTION, now, verdict.said, REMEDIES[problem]),
        )

    async def _read_back(self, workspace: str, provider: Provider) -> bool:
        """Reads what the provider could not deliver, and what it still tries to, from its log. Whether there is more.

        These bodies carry no signature: they come from the API itself, over TLS and by our own key. They go through
        the same door as deliveries and under the same ids, so that a delivery that comes after all changes nothing.
        """
        reading = self._readings.get(workspace)
        if reading is None:
            before = await self.store.read(subscriptions.get, workspace)
            up_to = before.read_back_to if before else None
            now = self.now()
            reading = _Reading(now, (up_to or now - FIRST_READ) - OVERLAP)
            self._readings[workspace] = reading
        for _ in range(PAGES_AT_ONCE):
            status, event = reading.left[0]
            seen = await provider.deliveries(status, event=event, page=reading.page)
            arrivals = list(self._arrivals(workspace, provider, seen.rows))
            reading.turn_over(seen)
            await self._keep(workspace, status, arrivals, None if reading.left else reading.began)
            if not reading.left:
                del self._readings[workspace]
                return False
        return True

    def _arrivals(self, workspace: str, provider: Provider, rows: Sequence[Delivery]) -> Iterator[Arrival]:
        now = self.now()
        for row in rows:
            # Under another id than its delivery would have, one event would count as two.
            if row.body and provider.event_id(row.body) == row.event_id:
                yield Arrival(workspace, row.event_id, row.body, now)
            else:
                log.warning("webhook.not_read_back", workspace=workspace, event_id=row.event_id)

    async def _keep(
        self, workspace: str, status: DeliveryStatus, arrivals: Sequence[Arrival], up_to: datetime | None
    ) -> None:
        if not arrivals and up_to is None:
            return
        fresh = await self.store.alongside(subscriptions.read_back, workspace, arrivals, up_to)
        if any(fresh):
            self.metrics.webhooks_read_back.labels(workspace, status).inc(sum(fresh))
            log.info("webhook.read_back", workspace=workspace, status=status, events=sum(fresh))
            self.arrived()


async def _reactivate(provider: Provider, found: Subscriptions, row: Subscription, verdict: Verdict) -> Verdict:
    """Only once a test gets through: otherwise it would fail again, and the operator would hear of it again."""
    trial = await provider.test_webhook(row.ref)
    if not trial.delivered:
        how = "nobody answers there" if trial.code is None else f"a test was answered HTTP {trial.code}"
        return replace(verdict, said=f"{verdict.said}; {how}")
    return _judge_one(await provider.update_webhook(row.ref, status="active"), found)


async def _subscribe(provider: Provider, found: Subscriptions, row: Subscription, verdict: Verdict) -> Verdict:
    """Adds what is lacking; what somebody else added stays."""
    return _judge_one(await provider.update_webhook(row.ref, events=(*row.events, *verdict.lacks)), found)


_MENDED = {Problem.FAILING: _reactivate, Problem.WRONG_EVENTS: _subscribe}
"""Problems that are mended without a person, in an order in which one may lead to the next."""
