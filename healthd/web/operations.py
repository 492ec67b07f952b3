"""The private listener: metrics, and what Kubernetes asks.

``/livez`` says that the event loop turns; it depends on nothing else, since a restart mends nothing else. ``/readyz``
says that a webhook could be put on disk now; the provider's health is no part of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from healthd.core.duration import in_words
from healthd.core.model import State
from healthd.core.roles import Role
from healthd.metrics import CONTENT_TYPE, Metrics, Snapshot, take_snapshot
from healthd.store import inbox
from healthd.store.database import Store, StoreUnavailable
from healthd.web.access import Access

log = structlog.get_logger("healthd.web")

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
            # A scrape that fails would hide the very gauge that says why.
            log.warning("metrics.store_unavailable", reason=str(error))
            snapshot = None
        pieces = []
        for piece in self.metrics.exposition(snapshot, writable=self.store.writable):
            pieces.append(piece)
            await asyncio.sleep(0)  # a webhook does not wait for all of them
        return Response("".join(pieces), headers={"content-type": CONTENT_TYPE})

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        if self.draining:
            return PlainTextResponse("draining\n", 503)
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self.store.alongside(inbox.probe_write)
        except (StoreUnavailable, TimeoutError) as error:
            return PlainTextResponse(f"store: {error or 'does not answer'}\n", 503)
        return PlainTextResponse("ready\n")

    async def status(self, _: Request) -> Response:
        """What an operator wants to know first, as plain text."""
        try:
            snapshot = await self.store.read(take_snapshot, self.now())
        except StoreUnavailable as error:
            return PlainTextResponse(f"The database does not answer: {error}\n", 503)
        return PlainTextResponse("\n".join(status_lines(snapshot)) + "\n")


def status_lines(seen: Snapshot) -> list[str]:
    """The workspaces and what is in the way of each, then what waits in the outbox and the inbox."""
    lines = [f"healthd, {seen.at:%Y-%m-%d %H:%M:%S} UTC", ""]
    totals: Counter[tuple[str, State]] = Counter()
    for workspace, _, state, _, number in seen.accounts:
        totals[workspace, state] += number
    untold, swept = dict(seen.nobody_told), _swept(seen)
    for workspace in sorted({scope.workspace for scope in seen.scopes}):
        counts = ", ".join(f"{totals[workspace, state]} {state}" for state in State if totals[workspace, state])
        at = swept.get(workspace)
        fresh = f"last sweep {in_words(seen.at - at)} ago" if at else "not swept yet"
        lines.append(f"{workspace}: {counts or 'no accounts yet'}; {fresh}")
        for trouble in seen.troubles:
            if trouble.workspace == workspace:
                since = in_words(seen.at - trouble.since)
                lines.append(f"  TROUBLE for {since}: {trouble.kind}, {trouble.message}. {trouble.remedy}")
        for storm in seen.storms:
            if storm.workspace == workspace:
                since = in_words(seen.at - storm.began_at)
                lines.append(
                    f"  STORM for {since}: {storm.broken} of {storm.accounts} {storm.platform} account(s) broke at "
                    f"once; people are not told yet. healthd storms release {storm.id}, or cancel"
                )
        if broken := untold.get(workspace):
            lines.append(f"  NOBODY could be told of {broken} broken account(s): see healthd routes test ACCOUNT")
    pending = sum(seen.outbox.values())
    overdue = f", the oldest due for {in_words(seen.outbox_age)}" if pending and seen.outbox_age else ""
    lines += ["", f"notices waiting: {pending}{overdue}"]
    if held := ", ".join(f"{number} {by}" for by, number in sorted(seen.held.items()) if number):
        lines.append(f"notices held: {held}")
    lines.append(f"webhooks not understood: {seen.inbox.get(inbox.InboxStatus.PARKED, 0)}")
    return lines


def _swept(seen: Snapshot) -> dict[str, datetime]:
    """When each workspace was last swept; the oldest of its profiles."""
    found: dict[str, datetime] = {}
    for scope in seen.scopes:
        if scope.active and scope.bulk_at:
            found[scope.workspace] = min(scope.bulk_at, found.get(scope.workspace, scope.bulk_at))
    return found


def admin_routes(operations: Operations, access: Access, pages: Sequence[BaseRoute] = ()) -> list[BaseRoute]:
    """What probes and Prometheus ask, and, where there are to be any, the pages and the way to them."""
    closed = access.settings.metrics == "token"
    found: list[BaseRoute] = [
        Route("/metrics", access.guard(Role.VIEWER, operations.exposition) if closed else operations.exposition),
        Route("/livez", operations.livez),
        Route("/readyz", operations.readyz),
    ]
    if access.settings.pages:
        found += [Route("/status", access.guard(Role.VIEWER, operations.status)), *access.routes(), *pages]
    return found
