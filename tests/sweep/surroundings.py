"""A sweep between a real store and a sandbox on loopback. Its steps are taken singly; the clock moves on request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from healthd.core.model import Lane, State, Target
from healthd.core.routing import Routing
from healthd.dispatch import Dispatch
from healthd.engine import Change, Engine
from healthd.metrics import Metrics
from healthd.providers.allowance import Allowance
from healthd.providers.smartlyq import SmartlyQ
from healthd.sandbox.app import Sandbox, SandboxOptions, server_for
from healthd.sandbox.world import Account
from healthd.store import accounts, notices, profiles, troubles
from healthd.store.accounts import StoredAccount
from healthd.store.database import Store
from healthd.store.notices import StoredNotice
from healthd.store.troubles import Trouble
from healthd.sweep import Sweep, SweepPolicy, Workspace
from tests.fresh_store import fresh_store

HOST = "127.0.0.1"
PATIENCE = 20.0


class AtOnce(random.Random):
    """Chance that never makes a retry wait."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


@dataclass
class Surroundings:
    sandbox: Sandbox
    store: Store
    sweep: Sweep
    told: list[Change]
    ahead: timedelta = field(default=timedelta(0))

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def travel(self, span: timedelta) -> None:
        self.ahead += span
        self.sandbox.world.ahead = self.ahead

    def workspace(self, name: str = "acme") -> Workspace:
        return self.sweep.workspaces[name]

    def rested(self, name: str = "acme") -> Workspace:
        """The workspace, after the pauses that it takes from an API that fails or says *too many*."""
        workspace = self.workspace(name)
        workspace.breaker.opens_until = workspace.allowance.ledger.paused_until = 0.0
        return workspace

    def accounts(self, name: str = "acme") -> list[Account]:
        return list(self.sandbox.world.workspaces[name].accounts.values())

    async def stored(self, account: Account) -> StoredAccount:
        return (await self.store.read(accounts.load, account.workspace, [str(account.id)]))[str(account.id)]

    async def states(self, name: str = "acme") -> list[State]:
        found = await self.store.read(accounts.listing, workspace=name, states=(), platform=None, limit=10_000)
        return [stored.account.state for stored in found]

    async def due(self, account: Account, lane: Lane, after: timedelta = timedelta(0)) -> None:
        """The account's turn comes so much later from now, in this lane."""
        stored = await self.stored(account)
        await self.store.run(accounts.postpone_probe, stored.id, self.now() + after, lane)

    async def all_due(self, lane: Lane, name: str = "acme") -> None:
        for account in self.accounts(name):
            await self.due(account, lane)

    async def probe(self, *lanes: Lane, name: str = "acme") -> int:
        """Asks about everything that is due in these lanes now."""
        total = 0
        while found := await self.sweep.probe_due(self.workspace(name), lanes):
            total += found
        return total

    async def troubles(self) -> list[Trouble]:
        return await self.store.read(troubles.current)

    async def notices(self, account: Account) -> list[StoredNotice]:
        return await self.store.read(notices.of_account, (await self.stored(account)).id)

    def asked(self, path: str, name: str = "acme") -> list[str]:
        """The paths that the API was asked for, of those that end so."""
        return [
            entry["path"]
            for entry in self.sandbox.api.requests
            if entry["path"].endswith(path) and entry["workspace"] == name
        ]

    async def until(self, said: Callable[[], bool], what: str) -> None:
        ends = asyncio.get_running_loop().time() + PATIENCE
        while not said():
            assert asyncio.get_running_loop().time() < ends, f"{what} did not come true"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def surroundings(
    folder: Path,
    *,
    names: Sequence[str] = ("acme",),
    count: int = 16,
    policy: SweepPolicy | None = None,
    profiled: bool = False,
    api_timeout: float = 5.0,
    auto_pause: bool = False,
    url: str | None = None,
) -> AsyncIterator[Surroundings]:
    sandbox = Sandbox(SandboxOptions(host=HOST, port=0, workspaces=tuple(names), accounts=count, rate_limit=100_000))
    server = server_for(sandbox)
    serving = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.ready.wait(), PATIENCE)
    store = Store(url or fresh_store(folder / "sweep.db"))
    await store.run(profiles.ensure_own, list(names))
    told: list[Change] = []
    scene: Surroundings

    def now() -> datetime:
        return scene.now()

    workspaces = {}
    for name in names:
        allowance = Allowance(rate_share=1.0, initial_limit=100_000)
        provider = SmartlyQ(
            workspace=name,
            api_key=f"sqk_test_{name}",
            base_url=f"http://{HOST}:{server.port}/v1",
            allowance=allowance,
            now=now,
            timeout=api_timeout,
            rng=AtOnce(),
        )
        workspaces[name] = Workspace(name, provider, allowance, profiled, random.Random(1))
    dispatch = Dispatch(Routing((), (Target("mail", "ada@acme.example"),)), operators=(Target("ops"),))
    pausing = frozenset(names if auto_pause else ())
    engine = Engine(dispatch=dispatch, auto_pause=pausing, rng=random.Random(2))
    sweep = Sweep(store, engine, workspaces, Metrics("test"), policy or SweepPolicy(), now, told.extend)
    scene = Surroundings(sandbox, store, sweep, told)
    async with AsyncExitStack() as stack:
        for workspace in workspaces.values():
            await stack.enter_async_context(workspace.provider.session())
        try:
            yield scene
        finally:
            await sweep.stop(2.0)
            await sandbox.sender.close()
            server.should_exit = True
            await serving
            await store.close()
