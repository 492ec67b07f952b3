"""The composition root: settings in, running daemon out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version

import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from healthd.channels.base import Channel
from healthd.config import Settings, split_address
from healthd.engine import Engine
from healthd.intake import Drain, Receiver
from healthd.links import Links
from healthd.listener import Listener
from healthd.metrics import AllowanceReading, Metrics
from healthd.outbox import Outbox
from healthd.providers.allowance import Allowance
from healthd.providers.smartlyq import DEFAULT_ALLOWED_HOSTS, SmartlyQ
from healthd.reporting import Reporter
from healthd.store import migrations, profiles
from healthd.store.database import Store
from healthd.sweep import Sweep, SweepPolicy, Workspace
from healthd.web.operations import Operations, admin_routes
from healthd.web.reconnect import PageHooks, reconnect_routes

log = structlog.get_logger("healthd.app")

VERSION = version("healthd")


def utc_now() -> datetime:
    return datetime.now(UTC)


def build_engine(settings: Settings, rng: random.Random | None = None) -> Engine:
    return Engine(
        policy=settings.policy(),
        probes=settings.probe_policy(),
        routing=settings.routing(),
        link_lifetime=settings.link.lifetime,
        rng=rng or random.Random(),  # noqa: S311 - jitter, not secrecy
    )


def build_links(settings: Settings) -> Links | None:
    """``None`` where messages carry the provider's own links."""
    if settings.link.mode == "direct" or settings.public_url is None:
        return None
    return Links(settings.public_url, [secret.get_secret_value() for secret in settings.link.secrets])


def allowed_hosts(settings: Settings) -> frozenset[str]:
    return frozenset(DEFAULT_ALLOWED_HOSTS) | frozenset(settings.link.allowed_hosts)


def build_workspaces(
    settings: Settings, metrics: Metrics, now: Callable[[], datetime] = utc_now
) -> dict[str, Workspace]:
    """A provider and its allowance for each workspace."""
    found = {}
    for name, chosen in settings.workspaces.items():
        allowance = Allowance(rate_share=chosen.rate_share)

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


def sweep_policy(settings: Settings) -> SweepPolicy:
    chosen = settings.sweep
    return SweepPolicy(chosen.mode, chosen.bulk_interval, chosen.inventory_interval)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store at this release's schema, closed at the end."""
    store = Store(settings.store.url)
    try:
        before, after = await store.run(migrations.upgrade)
        if before != after:
            log.info("store.upgraded", before=before, after=after)
        await store.run(profiles.ensure_own, list(settings.workspaces))
        yield store
    finally:
        await store.close()


class Daemon:
    """Everything that runs, wired together. ``run`` returns after a drain."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self.now = now
        self.metrics = Metrics(VERSION)
        self._stop = asyncio.Event()
        self._inbox = asyncio.Event()
        self._draining = False
        self.public_port = 0
        self.admin_port = 0
        self.ready = asyncio.Event()

    def stop(self) -> None:
        """Begins the drain; a second call does nothing more."""
        self._stop.set()

    async def run(self) -> None:
        """Runs until ``stop`` or SIGTERM, then drains."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.stop)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(self.settings))
            await self._serve(stack, store)

    async def _serve(self, stack: AsyncExitStack, store: Store) -> None:
        self._wire(store)
        for workspace in self.workspaces.values():
            await stack.enter_async_context(workspace.provider.session())
        public, admin = self._listeners()
        servers = [asyncio.create_task(listener.serve()) for listener in (public, admin)]
        for listener, task in zip((public, admin), servers, strict=True):
            await listener.wait_started(task)
        self.public_port, self.admin_port = public.port, admin.port
        drain = asyncio.create_task(self._drain_inbox())
        outbox = asyncio.create_task(self.outbox.run())
        lag = asyncio.create_task(self.operations.watch_loop())
        self.sweep.start()
        self._inbox.set()
        self.ready.set()
        log.info("healthd.ready", version=VERSION, public=self.public_port, admin=self.admin_port)
        await self._stop.wait()
        await self._shut_down([public, admin], servers, drain, outbox)
        lag.cancel()
        await asyncio.gather(lag, return_exceptions=True)
        for channel in self.channels.values():
            await channel.close()

    def _wire(self, store: Store) -> None:
        settings, metrics = self.settings, self.metrics
        self.workspaces = build_workspaces(settings, metrics, self.now)
        providers = {name: workspace.provider for name, workspace in self.workspaces.items()}
        self.channels: dict[str, Channel] = {name: chosen.open() for name, chosen in settings.channels.items()}
        self.engine = build_engine(settings)
        links = build_links(settings)
        self.outbox = Outbox(
            store, self.channels, providers, links, settings.cadence(), metrics, self.now, self.engine.rng
        )
        self.reporter = Reporter(metrics, self._wake_prober, self.outbox.wake)
        self.sweep = Sweep(
            store, self.engine, self.workspaces, metrics, sweep_policy(settings), self.now, self.reporter.heard
        )
        self.receiver = Receiver(
            store, providers, metrics, self.now, self._inbox.set, body_timeout=settings.server.body_timeout
        )
        self.drain = Drain(store, self.engine, providers, metrics, self.now, self.reporter.heard)
        self.operations = Operations(store, metrics, self.now)
        metrics.watch_allowances(self._allowances)
        self._public_routes = self.receiver.routes()
        if links is not None:
            self._public_routes += reconnect_routes(
                store=store,
                links=links,
                providers=providers,
                allowed_hosts=allowed_hosts(settings),
                now=self.now,
                wake=self._wake_prober,
                hooks=PageHooks(
                    on_page=lambda state: metrics.link_pages.labels(state).inc(),
                    on_mint=lambda outcome: metrics.link_mints.labels(outcome).inc(),
                    on_refused=lambda reason: metrics.link_refused.labels(reason).inc(),
                ),
            )

    def _wake_prober(self, workspace: str) -> None:
        self.sweep.wake(workspace)

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

    def _listeners(self) -> tuple[Listener, Listener]:
        server = self.settings.server
        public = Listener.of(
            _application(self._public_routes),
            *split_address(server.listen),
            header_timeout=server.header_timeout,
            max_connections=server.max_connections,
            drain_timeout=server.drain_timeout,
            trusted_proxies=server.trusted_proxies,
        )
        admin = Listener.of(
            _application(admin_routes(self.operations)),
            *split_address(server.admin_listen),
            header_timeout=server.header_timeout,
            max_connections=server.max_connections,
            drain_timeout=server.drain_timeout,
        )
        return public, admin

    async def _drain_inbox(self) -> None:
        """Works whenever something new is on disk, and at start on what an earlier process left."""
        while True:
            await self._inbox.wait()
            self._inbox.clear()
            try:
                await self.drain.run()
            except Exception:
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


def _application(routes: Sequence[BaseRoute]) -> Starlette:
    """The routes and nothing else: a redirect to an address without its slash would lose a webhook's body."""
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


async def _end(task: asyncio.Task[None], within: float) -> None:
    """Lets a task end by itself, or ends it: a send that is cut off comes again under the same identity."""
    await asyncio.wait([task], timeout=within)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def run(settings: Settings) -> None:
    """Runs the daemon on uvloop until it is told to stop."""
    import uvloop  # noqa: PLC0415 - not there on Windows, where only the tests of the core run

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: Settings) -> None:
    await Daemon(settings).run()
