"""Every metric of healthd. What the database knows is read at a scrape; what happens in the process is counted here.
Of several replicas on one database each tells the same of the database, and its own of itself.

Labels come from closed sets or from the configuration, never from provider text: the number of series is bounded by
workspaces x platforms x states. ``docs/metrics.md`` is made from what stands here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from healthd import exposition
from healthd.core.model import Cause, Lane, NoticeKind, NoticeStatus, Resolution, State, platform_label
from healthd.store import accounts, contacts, inbox, incidents, notices, profiles, storms, subscriptions, troubles
from healthd.store.incidents import STEPS, Step
from healthd.store.notices import HOLDS

# Each counter and histogram would bring a second series that says when it began; nothing of ours reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
_HUMAN = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600, 21600, 86400)
_REPAIR = (60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 2 * 86400, 4 * 86400, 7 * 86400, 14 * 86400, 30 * 86400)

KNOWN_EVENTS = frozenset(
    {
        "account.token_expired", "account.disconnected", "account.connected",
        "post.failed", "post.partial", "webhook.test", "key.revoked",
    }
)  # fmt: skip


class Of(StrEnum):
    """Whose figure it is: of replicas, those of the store are the same, and those of processes are to be added up."""

    STORE = "store"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as it stands in the documentation."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]
    of: Of = Of.PROCESS


def _gauges(of: Of, *rows: tuple[str, str, tuple[str, ...]]) -> dict[str, Described]:
    return {name: Described(name, "gauge", text, labels, of) for name, text, labels in rows}


AT_SCRAPE = _gauges(
    Of.STORE,
    ("healthd_accounts", "Accounts by what healthd believes of them.", ("workspace", "platform", "state")),
    ("healthd_accounts_paused", "Accounts whose posting is paused, in any state.", ("workspace", "platform")),
    ("healthd_incidents_open", "Incidents that wait for a repair.", ("workspace",)),
    (
        "healthd_incidents_open_for_long",
        "Incidents that have been open for longer than this, of accounts that nobody has muted.",
        ("workspace", "longer_than"),
    ),
    (
        "healthd_sweep_last_success_timestamp_seconds",
        "When the last sweep over everything succeeded; the oldest of a workspace's profiles.",
        ("workspace",),
    ),
    (
        "healthd_inventory_last_success_timestamp_seconds",
        "When the list of accounts was last read; the oldest of a workspace's profiles.",
        ("workspace",),
    ),
    ("healthd_api_trouble", "1 while this stands between healthd and a workspace's API.", ("workspace", "kind")),
    ("healthd_inbox_webhooks", "Webhooks on disk: not looked at yet (new), unreadable (parked).", ("status",)),
    (
        "healthd_outbox_notices",
        "Notices not yet handed over: waiting (pending), being sent (sending).",
        ("status",),
    ),
    (
        "healthd_outbox_retrying",
        "Notices that could not be handed over at least once, and are tried again.",
        ("channel",),
    ),
    (
        "healthd_notices_held",
        "Notices kept back, by what: paused or muted accounts, storms, accounts that break time and again, nobody.",
        ("by",),
    ),
    (
        "healthd_storms",
        "1 while a platform's notices are held since so many accounts broke at once.",
        ("workspace", "platform"),
    ),
    (
        "healthd_incidents_nobody_told",
        "Open incidents of which nobody could be told: no recipient, or none that messages reach.",
        ("workspace",),
    ),
    (
        "healthd_webhook_subscription_ok",
        "1 while nothing is wrong with the webhook that the provider is to call, as of the last look; else 0.",
        ("workspace",),
    ),
    ("healthd_bad_addresses", "Addresses that are not written to any more, since messages come back.", ("channel",)),
    ("healthd_outbox_oldest_due_seconds", "For how long the longest overdue notice has been due.", ()),
    ("healthd_api_allowance_limit", "The provider's limit, requests a minute.", ("workspace",)),
    ("healthd_api_allowance_share", "What healthd may use of it, requests a minute.", ("workspace",)),
    (
        "healthd_api_allowance_used",
        "Requests of healthd in the last minute, those of other processes as of its latest own.",
        ("workspace",),
    ),
) | _gauges(
    Of.PROCESS,
    ("healthd_api_calls_waiting", "Calls that wait for their turn, by urgency.", ("workspace", "lane")),
)
"""Gauges that are read from the store or the allowance when somebody asks."""


def _gauge(name: str) -> GaugeMetricFamily:
    described = AT_SCRAPE[name]
    return GaugeMetricFamily(name, described.text, labels=described.labels)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store knows at the moment of a scrape."""

    at: datetime
    accounts: list[tuple[str, str, State, bool, int]] = field(default_factory=list)
    incidents: list[tuple[str, int]] = field(default_factory=list)
    open_for_long: list[tuple[str, str, int]] = field(default_factory=list)
    scopes: list[profiles.Scope] = field(default_factory=list)
    troubles: list[troubles.Trouble] = field(default_factory=list)
    inbox: Mapping[str, int] = field(default_factory=dict)
    outbox: Mapping[str, int] = field(default_factory=dict)
    outbox_age: timedelta = timedelta(0)
    retrying: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    storms: list[storms.Storm] = field(default_factory=list)
    nobody_told: list[tuple[str, int]] = field(default_factory=list)
    bad_addresses: Mapping[str, int] = field(default_factory=dict)
    webhooks: list[subscriptions.Looked] = field(default_factory=list)


def take_snapshot(connection: Connection, now: datetime) -> Snapshot:
    """Reads what a scrape shows: kept counts and small tables, whatever the number of accounts."""
    waiting, age = notices.backlog(connection, now)
    return Snapshot(
        at=now,
        accounts=accounts.counts(connection),
        incidents=incidents.open_counts(connection),
        open_for_long=incidents.open_for_long(connection, now),
        scopes=profiles.scopes(connection),
        troubles=troubles.current(connection),
        inbox=inbox.counts(connection),
        outbox=waiting,
        outbox_age=age,
        retrying=notices.retrying(connection),
        held=notices.held(connection),
        storms=storms.all_current(connection),
        nobody_told=notices.unreached(connection),
        bad_addresses=contacts.bad_counts(connection),
        webhooks=subscriptions.everywhere(connection),
    )


@dataclass(frozen=True, slots=True)
class AllowanceReading:
    """How much of a workspace's API allowance there is, and how much of our share is in use."""

    limit: int
    share: int
    used: int
    waiting: Mapping[Lane, int]


class _StoreCollector(Collector):
    """Turns the newest snapshot into gauges."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.allowances: Callable[[], Mapping[str, AllowanceReading]] = dict

    def collect(self) -> Iterable[Metric]:
        if (seen := self.snapshot) is not None:  # to the end the same, although another scrape may begin meanwhile
            yield from self._accounts(seen)
            yield from self._freshness(seen)
            yield from self._queues(seen)
            yield from self._withheld(seen)
        yield from self._allowance()

    def describe(self) -> Iterable[Metric]:
        return ()

    def _accounts(self, seen: Snapshot) -> Iterator[Metric]:
        totals: dict[tuple[str, str], dict[State, int]] = defaultdict(lambda: dict.fromkeys(State, 0))
        paused: dict[tuple[str, str], int] = defaultdict(int)
        for workspace, platform, state, is_paused, number in seen.accounts:
            key = workspace, platform_label(platform)
            totals[key][state] += number
            paused[key] += number * is_paused
        by_state = _gauge("healthd_accounts")
        by_pause = _gauge("healthd_accounts_paused")
        for (workspace, platform), states in totals.items():
            by_pause.add_metric((workspace, platform), paused[workspace, platform])
            for state, number in states.items():
                by_state.add_metric((workspace, platform, state), number)
        is_open = _gauge("healthd_incidents_open")
        for_long = _gauge("healthd_incidents_open_for_long")
        open_in = dict(seen.incidents)
        older = {(workspace, span): number for workspace, span, number in seen.open_for_long}
        for workspace in {scope.workspace for scope in seen.scopes} | set(open_in):
            is_open.add_metric((workspace,), open_in.get(workspace, 0))
            for span in incidents.LONG:
                for_long.add_metric((workspace, span), older.get((workspace, span), 0))
        yield from (by_state, by_pause, is_open, for_long)

    def _freshness(self, seen: Snapshot) -> Iterator[Metric]:
        bulk = _gauge("healthd_sweep_last_success_timestamp_seconds")
        inventory = _gauge("healthd_inventory_last_success_timestamp_seconds")
        active: dict[str, list[profiles.Scope]] = {scope.workspace: [] for scope in seen.scopes}
        for scope in seen.scopes:
            if scope.active:
                active[scope.workspace].append(scope)
        for workspace, scopes in active.items():
            bulk.add_metric((workspace,), min((_unix(scope.bulk_at) for scope in scopes), default=0))
            inventory.add_metric((workspace,), min((_unix(scope.inventory_at) for scope in scopes), default=0))
        trouble = _gauge("healthd_api_trouble")
        for workspace, kind in sorted({(found.workspace, found.kind) for found in seen.troubles}):
            trouble.add_metric((workspace, kind), 1)
        webhook = _gauge("healthd_webhook_subscription_ok")
        for looked in seen.webhooks:
            webhook.add_metric((looked.workspace,), not looked.problem)
        yield from (bulk, inventory, trouble, webhook)

    def _queues(self, seen: Snapshot) -> Iterator[Metric]:
        stored = _gauge("healthd_inbox_webhooks")
        for status in (inbox.InboxStatus.NEW, inbox.InboxStatus.PARKED):
            stored.add_metric((status,), seen.inbox.get(status, 0))
        waiting = _gauge("healthd_outbox_notices")
        for stage in (NoticeStatus.PENDING, NoticeStatus.SENDING):
            waiting.add_metric((stage,), seen.outbox.get(stage, 0))
        age = _gauge("healthd_outbox_oldest_due_seconds")
        age.add_metric((), seen.outbox_age.total_seconds())
        retrying = _gauge("healthd_outbox_retrying")
        for channel, number in sorted(seen.retrying.items()):
            retrying.add_metric((channel,), number)
        yield from (stored, waiting, age, retrying)

    def _withheld(self, seen: Snapshot) -> Iterator[Metric]:
        held = _gauge("healthd_notices_held")
        for by in HOLDS:
            held.add_metric((by,), seen.held.get(by, 0))
        lasting = _gauge("healthd_storms")
        for workspace, platform in sorted({(one.workspace, platform_label(one.platform)) for one in seen.storms}):
            lasting.add_metric((workspace, platform), 1)
        nobody = _gauge("healthd_incidents_nobody_told")
        counts = dict(seen.nobody_told)
        for workspace in sorted({scope.workspace for scope in seen.scopes} | set(counts)):
            nobody.add_metric((workspace,), counts.get(workspace, 0))
        bad = _gauge("healthd_bad_addresses")
        for channel, number in sorted(seen.bad_addresses.items()):
            bad.add_metric((channel,), number)
        yield from (held, lasting, nobody, bad)

    def _allowance(self) -> Iterator[Metric]:
        facts: dict[str, Callable[[AllowanceReading], float]] = {
            "healthd_api_allowance_limit": lambda seen: seen.limit,
            "healthd_api_allowance_share": lambda seen: seen.share,
            "healthd_api_allowance_used": lambda seen: seen.used,
        }
        readings = self.allowances()
        for name, value in facts.items():
            family = _gauge(name)
            for workspace, reading in readings.items():
                family.add_metric((workspace,), value(reading))
            yield family
        waiting = _gauge("healthd_api_calls_waiting")
        for workspace, reading in readings.items():
            for lane in Lane:
                waiting.add_metric((workspace, lane.name.lower()), reading.waiting.get(lane, 0))
        yield waiting


class Metrics:
    """One registry per daemon, so that tests and several daemons in one process do not meet."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._store = _StoreCollector()
        registry.register(self._store)

        ProcessCollector(registry=registry)
        self.described = list(AT_SCRAPE.values())
        self._begun: set[tuple[str, str]] = set()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            self.described.append(Described(name, "gauge", text, labels))
            return Gauge(name, text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            self.described.append(Described(name, "counter", text, labels))
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            self.described.append(Described(name, "histogram", text, labels))
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        gauge("healthd_build_info", "1, with the version that runs.", "version").labels(version).set(1)
        self.loop_lag = gauge("healthd_event_loop_lag_seconds", "How late the event loop last woke up.")
        self.store_up = gauge("healthd_store_up", "1 while the database can be read and written.")

        self.observations = counter(
            "healthd_observations_total", "What was learnt of accounts.", "workspace", "source", "signal", "outcome"
        )
        self.incidents_opened = counter(
            "healthd_incidents_opened_total", "Incidents opened.", "workspace", "platform", "cause"
        )
        self.incidents_resolved = counter(
            "healthd_incidents_resolved_total", "Incidents ended.", "workspace", "platform", "how"
        )
        self.repair_steps = counter(
            "healthd_repair_steps_total",
            "Incidents that came so far for the first time: told (a message handed over), opened (the page shown, to a "
            "person or a robot), minted (a provider's link given).",
            "workspace",
            "platform",
            "step",
        )
        self.time_to_detect = histogram(
            "healthd_time_to_detect_seconds",
            "From the break, by the provider's clock, to the incident.",
            _HUMAN,
            "source",
        )
        self.time_to_notify = histogram(
            "healthd_time_to_notify_seconds", "From the incident to the first message handed over.", _HUMAN, "channel"
        )
        self.time_to_repair = histogram(
            "healthd_time_to_repair_seconds", "From the incident to the repair.", _REPAIR, "platform"
        )

        self.api_requests = counter(
            "healthd_api_requests_total", "Calls to the provider.", "workspace", "endpoint", "outcome"
        )
        self.api_seconds = histogram(
            "healthd_api_request_seconds", "How long the provider took to answer.", _FAST, "workspace", "endpoint"
        )
        self.sweep_interval = gauge(
            "healthd_sweep_interval_seconds", "How often a sweep over everything is due; 0 where none is made."
        )
        self.sweeps = counter("healthd_sweeps_total", "Sweeps over everything.", "workspace", "outcome")
        self.sweep_seconds = histogram(
            "healthd_sweep_duration_seconds", "How long a sweep took, its answer digested.", _HUMAN, "workspace"
        )
        self.unclear_rows = counter(
            "healthd_sweep_unclear_rows_total",
            "Rows of a sweep that could not be believed or read.",
            "workspace",
            "why",
        )

        self.posting_changes = counter(
            "healthd_posting_changes_total",
            "Calls to pause a broken account, or to resume it after its repair.",
            "workspace",
            "action",
            "outcome",
        )
        self.webhooks = counter("healthd_webhooks_total", "Webhook requests by answer.", "workspace", "outcome")
        self.webhook_events = counter("healthd_webhook_events_total", "Authentic events.", "workspace", "event")
        self.webhooks_read_back = counter(
            "healthd_webhooks_read_back_total",
            "Webhooks that were read from the provider's log since they could not be delivered.",
            "workspace",
            "status",
        )
        self.webhook_repairs = counter(
            "healthd_webhook_repairs_total", "Times the webhook was repaired without a person.", "workspace", "what"
        )
        self.webhook_seconds = histogram(
            "healthd_webhook_ack_seconds", "From the request's last byte to the answer, its commit included.", _FAST
        )

        self.post_failures = counter(
            "healthd_post_failures_total",
            "Posts that could not be published, by what that says of the account.",
            "workspace",
            "platform",
            "class",
        )
        self.notices = counter("healthd_notices_total", "Attempts to hand a notice over.", "channel", "kind", "outcome")
        self.bounce_reports = counter(
            "healthd_bounce_reports_total", "Reports of mail that came back, by answer.", "source", "outcome"
        )
        self.contact_questions = counter(
            "healthd_contact_questions_total", "Questions to the contacts endpoint.", "outcome"
        )
        self.slack_actions = counter(
            "healthd_slack_actions_total", "Presses of buttons in Slack, by answer.", "channel", "outcome"
        )
        self.taken_on = counter(
            "healthd_taken_on_total",
            "Times somebody said that they are on it, want no reminders, or take it back.",
            "said",
        )
        self.link_pages = counter("healthd_link_pages_total", "Reconnect pages shown, robots included.", "state")
        self.link_mints = counter("healthd_link_mints_total", "Presses of the reconnect button.", "outcome")
        self.link_refused = counter("healthd_link_refused_total", "Requests to reconnect pages refused.", "reason")
        self.sign_ins = counter(
            "healthd_sign_ins_total",
            "Sign-ins to the private listener by a token or by OIDC, and what was refused there, wrong bearer tokens "
            "included.",
            "outcome",
        )
        self.jobs_failed = counter("healthd_jobs_failed_total", "Background jobs that ended in an error.", "task")

    def watch_allowances(self, readings: Callable[[], Mapping[str, AllowanceReading]]) -> None:
        self._store.allowances = readings

    def _begin_at_zero(self, places: set[tuple[str, str]]) -> None:
        """Prometheus sees how a series grows, and not that it was born: the first incident would be missed."""
        for workspace, platform in places - self._begun:
            for cause in Cause:
                self.incidents_opened.labels(workspace, platform, cause)
            for how in Resolution:
                self.incidents_resolved.labels(workspace, platform, how)
            for step in STEPS:
                self.repair_steps.labels(workspace, platform, step)
            self.time_to_repair.labels(platform)
        self._begun |= places

    def came_so_far(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.repair_steps.labels(step.workspace, platform_label(step.platform), step.name).inc()

    def begin(self, workspaces: Iterable[str], channels: Iterable[str]) -> None:
        """What alerts ask of these begins at zero."""
        for workspace in workspaces:
            self.webhooks.labels(workspace, "accepted")
        for channel in channels:
            self.time_to_notify.labels(channel)
            for kind in NoticeKind:
                self.notices.labels(channel, kind, NoticeStatus.DEAD)

    def exposition(self, snapshot: Snapshot | None, *, writable: bool = True) -> Iterator[str]:
        """The text that Prometheus reads, in pieces; without a snapshot what the process itself knows."""
        self._store.snapshot = snapshot
        if snapshot is not None:
            self._begin_at_zero({(seen[0], platform_label(seen[1])) for seen in snapshot.accounts})
        self.store_up.set(snapshot is not None and writable)
        yield from exposition.pieces(self.registry.collect())


def event_label(name: str) -> str:
    """The event as a metric label: one of those that concern us, or ``other``."""
    return name if name in KNOWN_EVENTS else "other"


def _unix(at: datetime | None) -> float:
    return 0 if at is None else at.timestamp()
