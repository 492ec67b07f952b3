"""The composition root: settings in, running daemon out."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.engine import make_url
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from healthd import tracing
from healthd.api.late import Api
from healthd.bounces import Bounce
from healthd.channels.base import Channel
from healthd.channels.wording import Wording
from healthd.config import Settings, split_address
from healthd.desk import Desk
from healthd.dispatch import Dispatch
from healthd.engine import Engine
from healthd.intake import Drain, Receiver
from healthd.links import Links
from healthd.listener import Listener, bind
from healthd.metrics import AllowanceReading, Metrics
from healthd.outbox import Outbox
from healthd.providers.allowance import LONGEST_PAUSE, SETTLING, WINDOW, Allowance, Standing, Taking
from healthd.providers.smartlyq import DEFAULT_ALLOWED_HOSTS, SmartlyQ
from healthd.reporting import Reporter
from healthd.resolver import Resolver
from healthd.self_care import CarePolicy, SelfCare, address, is_callable
from healthd.store import allowances, guard, profiles
from healthd.store.clock import DatabaseClock
from healthd.store.database import Store, StoreUnavailable, is_postgres
from healthd.store.wakeups import Wakeups
from healthd.sweep import Sweep, SweepPolicy, Workspace
from healthd.web.access import Access
from healthd.web.bounces import bounce_routes
from healthd.web.operations import Operations, admin_routes
from healthd.web.operator.live import Live
from healthd.web.operator.routes import operator_routes
from healthd.web.operator.site import Site
from healthd.web.reconnect import PageHooks, reconnect_routes
from healthd.web.slack_actions import slack_routes

log = structlog.get_logger("healthd.app")

VERSION = version("healthd")


def utc_now() -> datetime:
    return datetime.now(UTC)


def build_engine(settings: Settings, rng: random.Random | None = None) -> Engine:
    return Engine(
        policy=settings.policy(),
        probes=settings.probe_policy(),
        dispatch=build_dispatch(settings),
        auto_pause=frozenset(name for name, chosen in settings.workspaces.items() if chosen.auto_pause),
        auth_codes=settings.posts.auth_codes,
        rng=rng or random.Random(),  # noqa: S311 - jitter, not secrecy
    )


def build_dispatch(settings: Settings) -> Dispatch:
    """Who is told of what, as the settings say."""
    return Dispatch(
        routing=settings.routing(),
        cadence=settings.cadence(),
        storms=settings.storm.policy(),
        operators=settings.operators(),
        hooks=settings.hooks(),
        asks_for_contacts=settings.contacts.resolver_url is not None,
        cache_for=settings.contacts.cache_for,
        link_lifetime=settings.link.lifetime,
    )


def build_resolver(settings: Settings) -> Resolver | None:
    """The customer's own endpoint that knows who is responsible, where there is one."""
    chosen = settings.contacts
    if chosen.resolver_url is None or chosen.resolver_secret is None:
        return None
    return Resolver(
        chosen.resolver_url,
        chosen.resolver_secret.get_secret_value(),
        channels=settings.address_checks(),
        timeout=chosen.resolver_timeout.total_seconds(),
        cache_for=chosen.cache_for,
        allow_private=chosen.allow_private,
    )


def build_links(settings: Settings) -> Links | None:
    """``None`` where messages carry the provider's own links."""
    if settings.link.mode == "direct" or settings.public_url is None:
        return None
    return Links(settings.public_url, [secret.get_secret_value() for secret in settings.link.secrets])


def allowed_hosts(settings: Settings) -> frozenset[str]:
    return frozenset(DEFAULT_ALLOWED_HOSTS) | frozenset(settings.link.allowed_hosts)


CLOCKS_APART = timedelta(seconds=60)
"""How far the clock of one life of a process may be from that of the next."""


class OnRecord:
    """A workspace's allowance in the store, for one process among those that use it. Wall clock there, spans here."""

    def __init__(self, store: Store, workspace: str, now: Callable[[], datetime]) -> None:
        self.workspace = workspace
        self._store = store
        self._now = now
        self._holder = secrets.token_hex(8)
        self._began_at = now()

    async def take(self, taking: Taking) -> Standing:
        """Raises ``StoreUnavailable``.

        What others took before this process began counts as taken when it began: whoever wrote it may have had a clock
        that went otherwise.
        """
        now = self._now()
        keep = timedelta(seconds=WINDOW + SETTLING)
        age = max(now - self._began_at, timedelta(0))
        found = await self._store.alongside(
            allowances.take,
            self.workspace,
            self._holder,
            now,
            calls=taking.calls,
            beside=taking.beside,
            keep=keep + CLOCKS_APART if age < keep else keep,
            longest_pause=timedelta(seconds=LONGEST_PAUSE),
            owed=taking.owed,
            limit=taking.limit,
            paused_until=now + timedelta(seconds=taking.pause) if taking.pause else None,
        )
        others = [(max(0.0, min(now - at, age).total_seconds()), calls) for at, calls in found.others]
        pause = 0.0 if found.paused_until is None else max(0.0, (found.paused_until - now).total_seconds())
        return Standing(found.granted, others, found.limit, pause)


def build_workspaces(
    settings: Settings, metrics: Metrics, store: Store | None = None, now: Callable[[], datetime] = utc_now
) -> dict[str, Workspace]:
    """A provider and its allowance for each workspace; what is spent stands in the store, if there is one."""
    found = {}
    for name, chosen in settings.workspaces.items():
        record = None if store is None else OnRecord(store, name, now)
        allowance = Allowance(rate_share=chosen.rate_share, record=record)

        def observe(endpoint: str, outcome: str, seconds: float, workspace: str = name) -> None:
            metrics.api_requests.labels(workspace, endpoint, outcome).inc()
            metrics.api_seconds.labels(workspace, endpoint).observe(seconds)

        provider = SmartlyQ(
            workspace=name,
            api_key=chosen.api_key.get_secret_value(),
            base_url=chosen.base_url,
            webhook_secrets=[secret.get_secret_value() for secret in chosen.webhook_secrets],
            allowance=allowance,
            allowed_hosts=allowed_hosts(settings),
            now=now,
            timeout=settings.sweep.request_timeout.total_seconds(),
            observe=observe,
        )
        rng = random.Random()  # noqa: S311 - jitter, not secrecy
        found[name] = Workspace(name, provider, allowance, chosen.profiles == "all", rng)
    return found


def build_care(settings: Settings, sweep: Sweep, arrived: Callable[[], None]) -> SelfCare:
    """Who looks after the webhooks that are ours to look after: those that the provider can call and we can believe."""
    public_url = settings.public_url
    addresses = {
        name: address(public_url, name)
        for name, chosen in settings.workspaces.items()
        if public_url is not None
        and chosen.webhooks == "auto"
        and chosen.webhook_secrets
        and is_callable(public_url, chosen.base_url)
    }
    policy = CarePolicy(settings.webhook.audit_interval, settings.webhook.repair)
    return SelfCare(
        sweep.store,
        sweep.engine,
        sweep.metrics,
        addresses,
        policy,
        sweep.now,
        arrived,
        sweep.has_mail,
        sweep.engine.rng,
    )


LOOK_ANYWAY = timedelta(seconds=5)
"""How soon a daemon sees what another one left without a word."""
M_ARENA_MAX = -8
"""glibc's number for how many heaps a process may have (``malloc.h``)."""
SHOWN_ELSEWHERE = 100
"""Accounts that other daemons are told have changed; of more they show none apart."""


def longest_rest(settings: Settings) -> timedelta:
    """Between two looks at what is due. Those who share PostgreSQL wake each other; a command beside SQLite cannot."""
    return LOOK_ANYWAY if settings.store.is_postgres else timedelta(seconds=1)


def sweep_policy(settings: Settings) -> SweepPolicy:
    chosen = settings.sweep
    return SweepPolicy(
        chosen.mode, chosen.bulk_interval, chosen.inventory_interval, longest_rest=longest_rest(settings)
    )


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store at this release's schema, closed at the end. Raises ``StoreUnavailable`` saying what to mend."""
    with guarded(settings.store.url):
        async with _opened(settings) as store:
            yield store


@contextlib.contextmanager
def guarded(url: str) -> Iterator[None]:
    """As long as the store is open, `healthd db restore` keeps its hands off it. Raises ``StoreUnavailable``."""
    with contextlib.ExitStack() as stack:
        try:
            if not is_postgres(url):
                stack.enter_context(guard.shared(guard.database_file(url)))
        except guard.InUse as error:
            raise StoreUnavailable(str(error)) from None
        except OSError as error:
            raise StoreUnavailable(f"{error.strerror}; {_store_advice(url)}") from error
        yield


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Store]:
    store = Store(settings.store.address)
    try:
        try:
            before, after = await store.upgrade()
            await store.alongside(profiles.ensure_own, list(settings.workspaces))
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{error}; {_store_advice(settings.store.url)}") from error
        if before != after:
            log.info("store.upgraded", before=before, after=after)
        yield store
    finally:
        await store.close()


def _store_advice(url: str) -> str:
    """What is probably wrong with a database that cannot be opened or written."""
    if is_postgres(url):
        return "healthd needs a database of its own there, whose owner it is; see docs/postgresql.md"
    path = Path(make_url(url).database or "")
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    return f"healthd must be able to write {path} and beside it; the file must be its own, and nobody else may hold it"


class PartEnded(OSError):
    """Something that should run for as long as the daemon does has ended."""


class Daemon:
    """Everything that runs, wired together. ``run`` returns after a drain."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime] = utc_now,
        on_built: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.now = now
        self.on_built = on_built
        self.metrics = Metrics(VERSION)
        self._stop = asyncio.Event()
        self._inbox = asyncio.Event()
        self.live = Live()
        self.public_port = 0
        self.admin_port = 0
        self.ready = asyncio.Event()
        self.name = f"{socket.gethostname()}-{secrets.token_hex(3)}"

    def stop(self) -> None:
        """Begins the drain; a second call does nothing more."""
        self._stop.set()

    async def run(self) -> None:
        """Runs until ``stop`` or SIGTERM, then drains. Raises ``PartEnded`` when a part of it ended by itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._signalled, number)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_traces(self.settings))
            # Before anything else: that an address is taken must not be found out after a migration.
            public, admin = (
                stack.enter_context(bind(*split_address(address)))
                for address in (self.settings.server.listen, self.settings.server.admin_listen)
            )
            self.public_port, self.admin_port = public.getsockname()[1], admin.getsockname()[1]
            store = await stack.enter_async_context(open_store(self.settings))
            if store.shared:
                self.now = clock = DatabaseClock(store)
                await clock.ask()
                stack.enter_context(_beside(clock.run()))
            await self._serve(stack, store, public, admin)

    def _signalled(self, number: signal.Signals) -> None:
        """The first signal drains. A second one ends the process as it would any other: all that counts is on disk."""
        if self._stop.is_set():
            log.warning("healthd.cut_short", signal=number.name)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.stop()

    async def _serve(self, stack: AsyncExitStack, store: Store, public: socket.socket, admin: socket.socket) -> None:
        self._wire(store)
        stack.push_async_callback(self.access.close)
        await self.access.check_door()
        for workspace in self.workspaces.values():
            await stack.enter_async_context(workspace.provider.session())
            stack.push_async_callback(workspace.allowance.close)
        for channel in self.channels.values():
            stack.push_async_callback(channel.close)
        if self.resolver is not None:
            stack.push_async_callback(self.resolver.close)
        listeners = self._listeners(public, admin)
        servers = [asyncio.create_task(listener.run_until_exit()) for listener in listeners]
        for listener in listeners:
            await listener.accepting.wait()
        drain = asyncio.create_task(self._drain_inbox())
        outbox = asyncio.create_task(self.outbox.run())
        lag = asyncio.create_task(self.operations.watch_loop())
        stack.push_async_callback(self.wakeups.close)
        stack.enter_context(_beside(self.wakeups.listen()))
        self.sweep.start()
        self._inbox.set()
        self.on_built()
        self.ready.set()
        log.info("healthd.ready", version=VERSION, public=self.public_port, admin=self.admin_port)
        ended = await self._until_stopped([*servers, drain, outbox, lag])
        await self._shut_down(listeners, servers, drain, outbox)
        lag.cancel()
        await asyncio.gather(lag, return_exceptions=True)
        if ended is not None:
            raise PartEnded("a part of healthd ended by itself; see the log") from ended

    async def _until_stopped(self, parts: Sequence[asyncio.Task[None]]) -> BaseException | None:
        """Returns at ``stop``, or with what ended a part: half a daemon looks alive and is not, so all of it ends."""
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stopped, *parts), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return None
        stopped.cancel()
        for part in parts:
            if part.done():
                reason = part.exception() or RuntimeError("it returned")
                log.critical("healthd.part_ended", error=type(reason).__name__, exc_info=reason)
                return reason
        return None

    def _wire(self, store: Store) -> None:
        settings, metrics = self.settings, self.metrics
        self.wakeups = Wakeups(store, self._heard_from_others)
        self.workspaces = build_workspaces(settings, metrics, store, self.now)
        providers = {name: workspace.provider for name, workspace in self.workspaces.items()}
        wording = Wording(settings.notices.templates)
        self.channels: dict[str, Channel] = {name: chosen.open(wording) for name, chosen in settings.channels.items()}
        self.engine = build_engine(settings)
        links = build_links(settings)
        dispatch = self.engine.dispatch
        self.resolver = build_resolver(settings)
        self.outbox = Outbox(
            store, self.channels, providers, links, dispatch, metrics, self.now, self.engine.rng,
            resolver=self.resolver, severities=settings.severities(), language=settings.notices.language,
            by_hand=settings.notices.by_hand, longest_rest=longest_rest(settings), publish=self._publish,
        )  # fmt: skip
        self.reporter = Reporter(metrics, self._wake_prober, self._wake_outbox, self._publish)
        self.sweep = Sweep(
            store, self.engine, self.workspaces, metrics, sweep_policy(settings), self.now, self.reporter.heard,
            self._something_due, holder=self.name,
        )  # fmt: skip
        self.sweep.care = build_care(settings, self.sweep, self._inbox.set)
        self.receiver = Receiver(
            store, providers, metrics, self.now, self._inbox.set, body_timeout=settings.server.body_timeout
        )
        self.drain = Drain(
            store, self.engine, providers, metrics, self.now, self.reporter.heard, self.sweep.doubt_key,
            self._wake_prober, lambda: self.receiver.crowded,
        )  # fmt: skip
        self.operations = Operations(store, metrics, self.now)
        self.access = Access(settings, store, self.now, heard=lambda outcome: metrics.sign_ins.labels(outcome).inc())
        self.desk = Desk(store, dispatch, providers, links, self.now, self._wake_prober, self._something_due)
        self.api = Api(
            self.desk, self.engine, self.access, self.now, settings.address_checks(), settings.workspaces,
            self._allowances, self.on_built,
        )  # fmt: skip
        metrics.watch_allowances(self._allowances)
        metrics.begin(self.workspaces, settings.channels)
        metrics.sweep_interval.set(settings.sweep.bulk_interval.total_seconds() if settings.sweep.mode == "bulk" else 0)
        self._public_routes: list[BaseRoute] = []
        if signing := settings.signing_secrets():
            self._public_routes += slack_routes(
                store=store,
                dispatch=dispatch,
                secrets=signing,
                now=self.now,
                heard=lambda channel, outcome: metrics.slack_actions.labels(channel, outcome).inc(),
                noted=self._noted,
            )
        if settings.bounces:
            self._public_routes += bounce_routes(
                sources=settings.bounces,
                record=self._bounced,
                now=self.now,
                heard=lambda source, outcome: metrics.bounce_reports.labels(source, outcome).inc(),
                body_timeout=settings.server.body_timeout,
            )
        if links is not None:
            self._public_routes += reconnect_routes(
                store=store,
                links=links,
                providers=providers,
                allowed_hosts=allowed_hosts(settings),
                now=self.now,
                wake=self._wake_prober,
                dispatch=dispatch,
                hooks=PageHooks(
                    on_page=lambda state: metrics.link_pages.labels(state).inc(),
                    on_mint=self._minted,
                    on_refused=lambda reason: metrics.link_refused.labels(reason).inc(),
                    on_steps=metrics.came_so_far,
                    on_noted=self._noted,
                    on_trouble=lambda workspace, error: self.sweep.note_trouble(workspace, error, "mint"),
                    on_answer=lambda workspace: self.sweep.note_trouble_over(workspace, "mint"),
                ),
            )

    def _noted(self, said: str) -> None:
        """Somebody took an account on, or took that back: then what waited for it is due."""
        self.metrics.taken_on.labels(said).inc()
        self._something_due()

    def _something_due(self) -> None:
        """There is something to send, and so something to see."""
        self._wake_outbox()
        self._publish()

    def _minted(self, outcome: str) -> None:
        self.metrics.link_mints.labels(outcome).inc()
        self._publish()

    async def _bounced(self, source: str, bounces: Sequence[Bounce]) -> int:
        channels = self.settings.mail_channels()
        dispatch = self.engine.dispatch
        believed = await self.outbox.store.run(dispatch.bounced, bounces, channels, source, self.now())
        self._something_due()
        return believed

    def _wake_prober(self, workspace: str) -> None:
        self.sweep.wake(workspace)
        self.wakeups.say(f"probe {workspace}")

    def _wake_outbox(self) -> None:
        self.outbox.wake()
        self.wakeups.say("outbox")

    def _publish(self, accounts: Collection[int] = ()) -> None:
        self.live.publish(accounts)
        if self.wakeups.are_heard:
            self.wakeups.say(" ".join(("show", *map(str, sorted(accounts)[:SHOWN_ELSEWHERE]))))

    def _heard_from_others(self, word: str) -> None:
        """What another daemon on the same store says. Nothing: that others may have said something."""
        kind, *rest = word.split(" ")
        match kind:
            case "probe":
                self.sweep.wake(rest[0])
            case "outbox":
                self.outbox.wake()
            case "show":
                self.live.publish([int(one) for one in rest])
            case _:
                for workspace in self.workspaces:
                    self.sweep.wake(workspace)
                self.outbox.wake()
                self.live.publish()
                self._inbox.set()

    def _allowances(self) -> Mapping[str, AllowanceReading]:
        return {
            name: AllowanceReading(
                workspace.allowance.limit,
                workspace.allowance.share,
                workspace.allowance.used,
                workspace.allowance.waiting,
            )
            for name, workspace in self.workspaces.items()
        }

    def _pages(self) -> Sequence[BaseRoute]:
        """What operators look at, and act through."""
        ways = {name: chosen.type for name, chosen in self.settings.channels.items()}
        site = Site(
            self.operations.store, self.engine, self.desk, self.access, self.now, self._allowances, self.live,
            tuple(self.settings.workspaces), ways,
        )  # fmt: skip
        return operator_routes(site)

    def public_application(self) -> ASGIApp:
        """What the public listener serves."""
        return self.receiver.before(_application(self._public_routes))

    def _listeners(self, public: socket.socket, admin: socket.socket) -> list[Listener]:
        server = self.settings.server
        private = admin_routes(self.operations, self.access, [self.api.route(), *self._pages()])
        return [
            Listener.of(
                application,
                bound,
                header_timeout=server.header_timeout,
                body_timeout=server.body_timeout,
                max_connections=server.max_connections,
                drain_timeout=server.drain_timeout,
                trusted_proxies=proxies,
            )
            for application, bound, proxies in (
                (self.public_application(), public, server.trusted_proxies),
                (_application(private), admin, ()),
            )
        ]

    async def _drain_inbox(self) -> None:
        """Works whenever something new is on disk, and at start on what an earlier process left."""
        while True:
            with contextlib.suppress(TimeoutError):
                # Another daemon may have stored webhooks and died.
                await asyncio.wait_for(
                    self._inbox.wait(), LOOK_ANYWAY.total_seconds() if self.outbox.store.shared else None
                )
            self._inbox.clear()
            try:
                await self.drain.run()
            except Exception as error:
                if isinstance(error, StoreUnavailable):
                    log.warning("inbox.store_unavailable", reason=str(error))
                else:
                    self.metrics.jobs_failed.labels("inbox").inc()
                    log.exception("inbox.failed")
                await asyncio.sleep(1)
                self._inbox.set()

    async def _shut_down(
        self,
        listeners: list[Listener],
        servers: list[asyncio.Task[None]],
        drain: asyncio.Task[None],
        outbox: asyncio.Task[None],
    ) -> None:
        """Takes nothing new, ends what is under way, and leaves the rest to the next process: it is all on disk."""
        within = self.settings.server.drain_timeout.total_seconds()
        log.info("healthd.draining", within=within)
        self.receiver.draining = True
        self.operations.draining = True
        self.live.close()
        self.outbox.stop()
        await asyncio.gather(self.sweep.stop(within * 0.5), _end(outbox, within * 0.6))
        for listener in listeners:
            listener.should_exit = True
        _, late = await asyncio.wait(servers, timeout=within * 0.3)
        for task in late:
            task.cancel()
        drain.cancel()
        await asyncio.gather(drain, *late, return_exceptions=True)
        log.info("healthd.stopped")


@asynccontextmanager
async def _traces(settings: Settings) -> AsyncIterator[None]:
    """All that is started inside is traced, if the settings say where traces go. The end waits some seconds at most for
    the last of them.
    """
    chosen = settings.tracing
    if chosen.endpoint is None:
        yield
        return
    from healthd.otel import OtelRecorder  # noqa: PLC0415 - an extra, and a quarter of a second

    headers = {name: one.get_secret_value() for name, one in chosen.headers.items()}
    recorder = OtelRecorder(chosen.endpoint, headers, chosen.sample, VERSION)
    try:
        with tracing.recording(recorder):
            yield
    finally:
        await asyncio.to_thread(recorder.close)


def _application(routes: Sequence[BaseRoute]) -> Starlette:
    """The routes and nothing else: a redirect to an address without its slash would lose a webhook's body."""
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


@contextlib.contextmanager
def _beside(work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Does this for as long as the block runs."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()


async def _end(task: asyncio.Task[None], within: float) -> None:
    """Lets a task end by itself, or ends it: a send that is cut off comes again under the same identity."""
    await asyncio.wait([task], timeout=within)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def run(settings: Settings) -> None:
    """Runs the daemon on uvloop until it is told to stop."""
    import uvloop  # noqa: PLC0415 - not there on Windows, where only the tests of the core run

    # The database holds addresses and messages: it is its owner's alone.
    os.umask(0o077)
    _keep_one_heap()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))


def _keep_one_heap() -> None:
    """As glibc comes, each thread has a heap of its own, and each keeps the room that it once needed for a sweep: 20 MB
    of 150. Other allocators do not know the word (``mallopt(3)``).
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


async def serve(settings: Settings) -> None:
    """The daemon, as the only thing in its process."""
    # What is there now stays for ever. Left to the garbage collector, each full pass over it would stop all threads for
    # a tenth of a second, and a sweep over many accounts sets off one after another.
    await Daemon(settings, on_built=gc.freeze).run()
