"""The time on which all daemons of one store agree: the database's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from healthd.store.database import Store, StoreUnavailable

log = structlog.get_logger("healthd.store")

ASK_EVERY = 10.0
"""Seconds."""
FAR_APART = timedelta(seconds=2)
"""By how much this machine's clock may differ before its operator is told."""


def _steady() -> float:
    """Seconds that go on while the process, or the machine, sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class DatabaseClock:
    """Tells the database's time between two questions by a steady clock: how this machine's own is set counts nowhere.

    Leases, and when something is due, then mean the same to every daemon.
    """

    def __init__(self, store: Store, steady: Callable[[], float] = _steady) -> None:
        self._store = store
        self._steady = steady
        self._epoch = datetime.now(UTC) - timedelta(seconds=steady())
        self._told = False

    def __call__(self) -> datetime:
        return self._epoch + timedelta(seconds=self._steady())

    async def ask(self) -> None:
        """Sets it right. Raises ``StoreUnavailable``."""
        before = self._steady()
        found = await self._store.clock()
        after = self._steady()
        epoch = found - timedelta(seconds=(before + after) / 2)
        # The answer was given somewhere in between: what lies within that is no difference.
        if abs(epoch - self._epoch) > timedelta(seconds=(after - before) / 2):
            self._epoch = epoch
        apart = abs(datetime.now(UTC) - self())
        if apart > FAR_APART and not self._told:
            log.warning("store.clocks_differ", seconds=round(apart.total_seconds(), 1))
        self._told = apart > FAR_APART

    async def run(self) -> None:
        """Keeps it right for as long as the daemon runs."""
        while True:
            await asyncio.sleep(ASK_EVERY)
            with suppress(StoreUnavailable):
                await self.ask()
