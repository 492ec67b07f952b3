"""``healthd sweep``: one look at everything, now, in the foreground."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text
from sqlalchemy import Connection

from healthd.app import VERSION, build_engine, build_workspaces, sweep_policy, utc_now
from healthd.config import Settings
from healthd.core.machine import FINE
from healthd.core.model import Lane, State
from healthd.engine import Change
from healthd.metrics import Metrics
from healthd.providers.base import ProviderError
from healthd.store import accounts, profiles, troubles
from healthd.store.database import Store
from healthd.sweep import URGENT, Sweep, Workspace
from healthd.telling import add_row, coloured, table

PATIENCE = 120.0
"""Seconds in which suspects are to be confirmed; what is left then is the daemon's."""
GIVE_UP = 3
"""Calls in a row that the API did not answer: it would not answer the next ones either."""


@dataclass
class Result:
    """What changed, how many accounts there are now, and which workspaces could not be looked at."""

    changes: list[Change] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    accounts: int = 0

    def moved(self) -> list[Change]:
        """Accounts in another state than before. One that is new and well is no news of its own."""
        return [change for change in self.changes if change.moved and not _is_fresh(change)]

    def fresh(self) -> int:
        """Accounts seen well for the first time."""
        return sum(map(_is_fresh, self.changes))

    def summary(self) -> str:
        moved = len(self.moved())
        news = f"{moved} changed" if moved else "nothing changed"
        return f"{self.accounts} account(s) known, {self.fresh()} of them new and well; {news}."

    def shown(self) -> RenderableType:
        changes = self.moved()
        if not changes:
            return Text(self.summary())
        found = table(
            "workspace", "account", "platform", "before", "after", "why", title=Text("What changed"),
            caption=Text(self.summary()),
        )  # fmt: skip
        for change in changes:
            before, after = coloured(change.before), coloured(change.after)
            why = f"{change.source}: {change.signal}"
            add_row(found, change.workspace, change.ref, change.platform, before, after, why)
        return found

    def as_json(self) -> dict[str, Any]:
        keys = ("workspace", "ref", "platform", "before", "after", "source", "signal")
        return {
            "changes": [{key: getattr(change, key) for key in keys} for change in self.moved()],
            "new": self.fresh(),
            "accounts": self.accounts,
            "failures": self.failures,
        }


def _is_fresh(change: Change) -> bool:
    return change.before is State.UNKNOWN and change.after in FINE


@dataclass
class _Bar:
    """One workspace's line in the progress display."""

    progress: Progress
    task: TaskID
    workspace: str

    def say(self, what: str, done: int | None = None, total: int | None = None) -> None:
        self.progress.update(self.task, description=f"{self.workspace}: {what}", completed=done, total=total)


async def sweep(settings: Settings, store: Store, names: Sequence[str], *, show: bool) -> Result:
    """Inventory, everything's health, then each suspect by itself. A workspace that fails disturbs no other."""
    metrics = Metrics(VERSION)
    result = Result()
    workspaces = {name: one for name, one in build_workspaces(settings, metrics, store).items() if name in names}
    looking = Sweep(
        store, build_engine(settings), workspaces, metrics, sweep_policy(settings), utc_now, result.changes.extend
    )
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        async with AsyncExitStack() as stack:
            for workspace in workspaces.values():
                await stack.enter_async_context(workspace.provider.session())
                stack.push_async_callback(workspace.allowance.close)
                bar = _Bar(progress, progress.add_task(workspace.name, total=None), workspace.name)
                try:
                    await _look(looking, workspace, bar)
                except ProviderError as error:
                    result.failures[workspace.name] = f"{error}. {error.remedy}"
                    bar.say("failed", 0, 1)
                else:
                    await _note_trouble(store, workspace, result, bar)
    counts = await store.read(accounts.counts)
    result.accounts = sum(
        number for workspace, _, state, _, number in counts if workspace in names and state is not State.REMOVED
    )
    return result


async def _look(looking: Sweep, workspace: Workspace, bar: _Bar) -> None:
    bar.say("reading the list of accounts")
    await looking.inventory(workspace)
    total = 0
    lanes: Sequence[Lane] = URGENT
    if looking.policy.mode == "bulk":
        bar.say("asking for everything's health")
        await looking.bulk(workspace)
    else:
        total = await looking.store.run(_ask_about_all, workspace.name, looking.now())
        lanes = (*URGENT, Lane.ROTATION)
    await _ask_one_by_one(looking, workspace, lanes, total, bar)


async def _ask_one_by_one(looking: Sweep, workspace: Workspace, lanes: Sequence[Lane], total: int, bar: _Bar) -> None:
    """Until it is nobody's turn any more. Suspects come again while the API owes an answer: their time is limited."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    asked = 0
    while workspace.breaker.failures < GIVE_UP and (asked < total or loop.time() < until):
        await asyncio.sleep(max(0.0, workspace.breaker.opens_until - loop.time()))
        found = await looking.probe_as_allowed(workspace, lanes)
        if not found:
            return
        asked += found
        bar.say("asking about accounts by themselves", asked, max(asked, total))


def _ask_about_all(connection: Connection, workspace: str, now: datetime) -> int:
    """Makes it every account's turn; returns how many there are."""
    total = 0
    for scope in profiles.scopes(connection, workspace):
        refs = [
            ref
            for ref, one in accounts.known(connection, workspace, scope.ref).items()
            if scope.active and one.state is not State.REMOVED
        ]
        found = accounts.load(connection, workspace, refs)
        accounts.schedule_probe(connection, [stored.id for stored in found.values()], now, Lane.ROTATION)
        total += len(found)
    return total


async def _note_trouble(store: Store, workspace: Workspace, result: Result, bar: _Bar) -> None:
    """Single calls that failed ended nothing, but what is known of their accounts is not of today."""
    lasting = await store.read(troubles.current, workspace.name)
    if workspace.breaker.failures and lasting:
        result.failures[workspace.name] = f"{lasting[0].message}. {lasting[0].remedy}"
        bar.say("not everything could be looked at", 0, 1)
    else:
        bar.say("done", 1, 1)
