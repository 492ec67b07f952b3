"""The private listener: metrics, and what Kubernetes asks.

``/livez`` says that the event loop turns; it depends on nothing else, since a restart mends nothing else. ``/readyz``
says that a webhook could be put on disk now; the provider's health is no part of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from healthd.metrics import CONTENT_TYPE, Metrics, take_snapshot
from healthd.store import inbox
from healthd.store.database import Store, StoreUnavailable

LOOP_TICK = 0.25
READY_WITHIN = 2.0
"""Seconds in which the store must prove that it can be written."""


@dataclass
class Operations:
    """What the private listener knows."""

    store: Store
    metrics: Metrics
    now: Callable[[], datetime]
    draining: bool = False

    async def watch_loop(self) -> None:
        """Measures how late the event loop wakes up."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOP_TICK
            await asyncio.sleep(LOOP_TICK)
            self.metrics.loop_lag.set(max(0.0, loop.time() - due))

    async def exposition(self, _: Request) -> Response:
        try:
            snapshot = await self.store.read(take_snapshot, self.now())
        except StoreUnavailable as error:
            return PlainTextResponse(f"store unavailable: {error}\n", 503)
        return Response(self.metrics.exposition(snapshot), headers={"content-type": CONTENT_TYPE})

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        if self.draining:
            return PlainTextResponse("draining\n", 503)
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self.store.run(inbox.probe_write)
        except (StoreUnavailable, TimeoutError) as error:
            return PlainTextResponse(f"store: {error or 'does not answer'}\n", 503)
        return PlainTextResponse("ready\n")


def admin_routes(operations: Operations) -> list[Route]:
    return [
        Route("/metrics", operations.exposition),
        Route("/livez", operations.livez),
        Route("/readyz", operations.readyz),
    ]
