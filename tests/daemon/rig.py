"""A whole daemon in the test's own loop, between a real sandbox and a real mail server, all on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from healthd.app import Daemon
from healthd.config import load
from healthd.core.model import State
from healthd.demo.catchers import Caught, Inbox, MailCatcher
from healthd.demo.person import Person
from healthd.outbound import public_authorities
from healthd.sandbox.app import Sandbox, SandboxOptions, server_for
from healthd.sandbox.sender import Delivery
from healthd.sandbox.world import Account
from healthd.store import accounts, incidents, notices
from healthd.store.database import Store
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from tests.fresh_store import fresh_store
from tests.loopback import free_port

HOST = "127.0.0.1"
WEBHOOK_SECRET = "whsec_00112233445566778899aabbccddeeff"
LINK_SECRET = "a-secret-that-signs-links-in-the-tests"
PATIENCE = 60.0
"""Seconds that a test waits for what must happen; nothing is expected to take so long."""


@dataclass
class Rig:
    """The daemon and its surroundings. ``ahead`` moves the clocks of daemon and sandbox together."""

    folder: Path
    sandbox: Sandbox
    inbox: Inbox
    http: httpx2.AsyncClient
    ports: dict[str, int]
    settings: dict[str, str] = field(default_factory=dict)
    ahead: timedelta = timedelta(0)
    daemon: Daemon | None = None
    mail_server: asyncio.Server | None = None
    _running: asyncio.Task[None] | None = None

    @property
    def person(self) -> Person:
        return Person(self.http)

    @property
    def public(self) -> str:
        return f"http://{HOST}:{self.ports['public']}"

    @property
    def admin(self) -> str:
        return f"http://{HOST}:{self.ports['admin']}"

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def travel(self, span: timedelta) -> None:
        """Both clocks jump; what became due comes at the next look."""
        self.ahead += span
        self.sandbox.world.ahead = self.ahead

    async def serve_mail(self) -> None:
        self.mail_server = await MailCatcher(self.inbox).serve(HOST, self.ports["mail"])

    @asynccontextmanager
    async def without_mail(self) -> AsyncIterator[None]:
        """The mail server is down, and its port free for another."""
        assert self.mail_server is not None
        self.mail_server.close()
        try:
            yield
        finally:
            await self.serve_mail()

    def write_config(self) -> Path:
        path = self.folder / "healthd.toml"
        path.write_text(_config(self), "utf-8")
        return path

    async def start(self) -> Daemon:
        """Starts the daemon, and returns once it is ready."""
        fresh_store(self.folder / "healthd.db")
        self.daemon = Daemon(load(self.write_config(), {}), self.now)
        self._running = asyncio.create_task(self.daemon.run())
        ready = asyncio.create_task(self.daemon.ready.wait())
        await asyncio.wait((self._running, ready), return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        ready.cancel()
        if self._running.done():
            self._running.result()
        assert self.daemon.ready.is_set()
        return self.daemon

    async def stop(self) -> None:
        """Drains the daemon, as SIGTERM does."""
        if self.daemon is not None and self._running is not None:
            self.daemon.stop()
            await asyncio.wait_for(self._running, timeout=PATIENCE)
        self.daemon = self._running = None

    def account(self, platform: str, number: int = 0) -> Account:
        """One of the sandbox's accounts."""
        return [account for account in self.sandbox.world.accounts.values() if account.platform == platform][number]

    def expire(self, account: Account, *, webhook: bool = True, **how: Any) -> list[Delivery]:
        """The account's token dies; the provider says so or does not."""
        self.sandbox.world.break_token(account)
        if not webhook:
            return []
        return self.sandbox.api.tell(account, "account.token_expired", reason="Token expired.", **how)

    def expire_event_only(self, account: Account, **how: Any) -> list[Delivery]:
        """The provider says that the token died; it is not so, or not any more."""
        return self.sandbox.api.tell(account, "account.token_expired", reason="Token expired.", **how)

    def repair(self, account: Account, *, webhook: bool = True, **how: Any) -> None:
        self.sandbox.world.repair(account)
        if webhook:
            self.sandbox.api.tell(account, "account.connected", **how)

    async def mail(self, words: str, *, since: int = 0) -> Caught:
        """The mail whose subject holds these words; waits for it."""
        found = await self.inbox.wait(words, way="mail", since=since, seconds=PATIENCE)
        assert found is not None, f"no mail about {words!r}; there are: {[m.subject for m in self.inbox.messages]}"
        return found

    def mails(self) -> list[str]:
        return [caught.subject for caught in self.inbox.messages]

    async def until(self, said: Callable[[], Awaitable[bool] | bool], what: str = "it") -> None:
        """Waits until something has become true."""
        ends = asyncio.get_running_loop().time() + PATIENCE
        while True:
            found = said()
            if found if isinstance(found, bool) else await found:
                return
            assert asyncio.get_running_loop().time() < ends, f"{what} did not come true"
            await asyncio.sleep(0.02)

    async def until_state(self, account: Account, state: State) -> None:
        async def reached() -> bool:
            return await self.state(account) is state

        await self.until(reached, f"{account.platform} {account.id} {state}")

    async def until_swept(self, times: int = 1) -> None:
        """Waits for so many more sweeps over everything."""
        before = len(self.asked("/health", bulk=True))
        await self.until(lambda: len(self.asked("/health", bulk=True)) >= before + times, "the sweep")
        await self.store.read(lambda _: None)

    async def until_turn_comes(self, account: Account, span: timedelta) -> None:
        """Lets so much time pass as often as it takes until an account is asked about that is to be."""
        await self.until_drained()
        before = len(self.asked(f"/{account.id}/health"))

        def asked() -> bool:
            assert self.daemon is not None
            self.travel(span)
            self.daemon.sweep.wake("sandbox")
            return len(self.asked(f"/{account.id}/health")) > before

        await self.until(asked, f"a look at {account.id}")

    def have_rested(self) -> None:
        """The pause that the daemon takes from an API that fails is over."""
        assert self.daemon is not None
        for workspace in self.daemon.workspaces.values():
            workspace.breaker.worked()

    async def until_drained(self) -> None:
        """Waits until every webhook that was taken has been looked at."""

        async def drained() -> bool:
            return await self.metric("healthd_inbox_webhooks", status="new") == 0

        await self.until(drained, "an empty inbox")

    def asked(self, part: str, *, bulk: bool = False) -> list[dict[str, Any]]:
        """The requests that the sandbox's API got, with this in their path."""
        found = [entry for entry in self.sandbox.api.requests if part in entry["path"]]
        return [entry for entry in found if entry["path"] == "/v1/social/accounts/health"] if bulk else found

    @property
    def store(self) -> Store:
        assert self.daemon is not None
        return self.daemon.receiver.store

    async def state(self, account: Account) -> State | None:
        found = await self.store.read(accounts.load, account.workspace, [str(account.id)])
        return found[str(account.id)].account.state if found else None

    async def incidents(self, account: Account) -> list[Incident]:
        found = await self.store.read(accounts.load, account.workspace, [str(account.id)])
        return await self.store.read(incidents.of_account, found[str(account.id)].id)

    async def notices(self, account: Account) -> list[StoredNotice]:
        found = await self.store.read(accounts.load, account.workspace, [str(account.id)])
        return await self.store.read(notices.of_account, found[str(account.id)].id)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels."""
        text = (await self.http.get(f"{self.admin}/metrics")).text
        # Only its own lines are parsed: this is asked again and again, and there are hundreds of others.
        own = "".join(f"{line}\n" for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(
            sample.value
            for family in text_string_to_metric_families(own)
            for sample in family.samples
            if labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def rig(folder: Path, *, options: dict[str, Any] | None = None, **settings: str) -> AsyncIterator[Rig]:
    """The surroundings, without the daemon. ``settings`` are TOML sections, added to or replacing those of the rig."""
    ports = {part: free_port() for part in ("public", "admin", "mail", "sandbox")}
    webhook = f"http://{HOST}:{ports['public']}/webhooks/{{workspace}}"
    given: dict[str, Any] = {
        "host": HOST,
        "port": ports["sandbox"],
        "webhook_url": webhook,
        "webhook_secret": WEBHOOK_SECRET,
    }
    sandbox = Sandbox(SandboxOptions(**(given | {"time_scale": 600.0, "rate_limit": 100_000} | (options or {}))))
    server = server_for(sandbox)
    server.config.lifespan = "off"
    serving = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), PATIENCE)
    inbox = Inbox()
    async with httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, verify=public_authorities()) as http:
        scene = Rig(folder, sandbox, inbox, http, ports, settings)
        await scene.serve_mail()
        try:
            yield scene
        finally:
            with contextlib.suppress(TimeoutError):
                await scene.stop()
            await sandbox.sender.close()
            if scene.mail_server is not None:
                scene.mail_server.close()
            server.should_exit = True
            await serving


def _config(scene: Rig) -> str:
    settings = dict(scene.settings)
    of_each = settings.pop("each_workspace", "")
    workspaces = "".join(
        f'[workspaces.{name}]\napi_key = "sqk_test_{name}"\nwebhook_secrets = ["{WEBHOOK_SECRET}"]\n'
        f'base_url = "http://{HOST}:{scene.ports["sandbox"]}/v1"\nrate_share = 1.0\n{of_each}\n'
        for name in scene.sandbox.options.workspaces
    )
    sections = {
        "server": f'listen = "{HOST}:{scene.ports["public"]}"\nadmin_listen = "{HOST}:{scene.ports["admin"]}"\n'
        'drain_timeout = "5s"',
        "store": f'url = "sqlite:///{scene.folder / "healthd.db"}"',
        "link": f'secrets = ["{LINK_SECRET}"]\nallowed_hosts = ["{HOST}:{scene.ports["sandbox"]}"]',
        "sweep": 'bulk_interval = "1h"\ninventory_interval = "1h"\nrequest_timeout = "3s"',
        "notices": 'default = ["mail:ada@acme.example"]\ngroup_wait = "0s"\ngroup_interval = "0s"',
        "channels.mail": f'type = "email"\nhost = "{HOST}"\nport = {scene.ports["mail"]}\nsecurity = "none"\n'
        'sender = "healthd@acme.example"',
    } | settings
    extra = sections.pop("extra", "")
    text = "".join(f"[{name}]\n{body}\n\n" for name, body in sections.items())
    public = scene.ports.get("balancer", scene.ports["public"])
    return f'public_url = "http://{HOST}:{public}"\n\n{text}{workspaces}\n{extra}\n'
