"""``healthd sweep``: one look at everything, now, in the foreground."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from healthd.app import VERSION, build_engine, build_workspaces, sweep_policy, utc_now
from healthd.config import Settings
from healthd.core.model import Lane
from healthd.engine import Change
from healthd.metrics import Metrics
from healthd.providers.base import ProviderError
from healthd.store.database import Store
from healthd.sweep import URGENT, Sweep, Workspace
from healthd.telling import coloured

PATIENCE = 120.0
"""Seconds in which suspects are to be confirmed; what is left then is the daemon's."""


@dataclass
class Result:
    """What changed, and which workspaces could not be looked at."""

    changes: list[Change] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def moved(self) -> list[Change]:
        return [change for change in self.changes if change.moved]

    def table(self) -> Table:
        table = Table("workspace", "account", "platform", "before", "after", "why", title="What changed")
        for change in self.moved():
            table.add_row(
                change.workspace,
                change.ref,
                change.platform,
                coloured(change.before),
                coloured(change.after),
                f"{change.source}: {change.signal}",
            )
        return table

    def as_json(self) -> dict[str, Any]:
        keys = ("workspace", "ref", "platform", "before", "after", "source", "signal")
        return {
            "changes": [{key: getattr(change, key) for key in keys} for change in self.moved()],
            "failures": self.failures,
        }


async def sweep(settings: Settings, store: Store, names: Sequence[str], *, show: bool) -> Result:
    """Inventory, everything's health, then each suspect by itself. A workspace that fails disturbs no other."""
    metrics = Metrics(VERSION)
    result = Result()
    workspaces = {name: one for name, one in build_workspaces(settings, metrics).items() if name in names}
    looking = Sweep(
        store, build_engine(settings), workspaces, metrics, sweep_policy(settings), utc_now, result.changes.extend
    )
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not show) as progress:
        async with AsyncExitStack() as stack:
            for workspace in workspaces.values():
                await stack.enter_async_context(workspace.provider.session())
                task = progress.add_task(workspace.name, total=None)
                try:
                    await _look(looking, workspace, progress, task)
                except ProviderError as error:
                    result.failures[workspace.name] = f"{error}. {error.remedy}"
                progress.update(task, description=f"{workspace.name}: done", total=1, completed=1)
    return result


async def _look(looking: Sweep, workspace: Workspace, progress: Progress, task: Any) -> None:
    progress.update(task, description=f"{workspace.name}: reading the list of accounts")
    await looking.inventory(workspace)
    if looking.policy.mode == "bulk":
        progress.update(task, description=f"{workspace.name}: asking for everything's health")
        await looking.bulk(workspace)
    lanes = URGENT if looking.policy.mode == "bulk" else (*URGENT, Lane.ROTATION)
    asked = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while loop.time() < until and (found := await looking.probe_due(workspace, lanes)):
        asked += found
        progress.update(task, description=f"{workspace.name}: asked about {asked} accounts by themselves")
