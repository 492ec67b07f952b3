"""How many webhooks a second healthd puts on disk and acknowledges, on one core.

    python bench/webhooks.py [--requests 20000] [--connections 128] [--store postgresql] [--json FILE]

The daemon is the real one, as a process of its own on one core, draining its inbox while it acknowledges. Two peers are
measured on the same core, in turns with it: a bare Starlette route under the same uvicorn that does nothing, and bare
SQLite inserts in groups, each group on disk before the next. Who asks has the other core.

A shared machine gives a core to others, too. So the processor time of an acknowledgement is measured beside the rate:
what a core to oneself would give follows from it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from figures import Figure, add_option, keep, show
from load import Result, fire
from processes import CLIENT, HOST, SERVER, Running, free_port, on_core, python, running
from subject import daemon, database, webhook
from titles import STORES

ROUNDS = 3
GROUP = 64
"""Rows of one commit of the bare inserts."""
ACCOUNTS = 5000
"""Of which the webhooks tell."""
EVENTS = ("comment.received", "account.token_expired")
"""One of which nothing follows, and one that is worked through while the next arrive."""


def serve_bare(port: int) -> None:
    """The peer: the least that answers 202 to a POST, after reading its body."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def take(request: Request) -> Response:
        await request.body()
        return Response(status_code=202)

    app = Starlette(routes=[Route("/webhooks/{workspace}", take, methods=["POST"])])
    uvicorn.run(app, host=HOST, port=port, log_level="error", access_log=False, loop="uvloop", http="httptools")


def insert_bare(file: str, number: int) -> None:
    """The peer: rows of a webhook's size under a unique id, each group committed with ``synchronous=FULL``."""
    base = sqlite3.connect(file, isolation_level=None)
    for line in ("journal_mode=WAL", "synchronous=FULL"):
        base.execute(f"PRAGMA {line}")
    base.execute("CREATE TABLE IF NOT EXISTS inbox (id INTEGER PRIMARY KEY, event_id TEXT UNIQUE, body BLOB)")
    rows = [(os.urandom(8).hex(), b"x" * 200) for _ in range(number)]
    started = time.perf_counter()
    for first in range(0, number, GROUP):
        base.execute("BEGIN IMMEDIATE")
        base.executemany("INSERT INTO inbox (event_id, body) VALUES (?, ?)", rows[first : first + GROUP])
        base.execute("COMMIT")
    print(number / (time.perf_counter() - started))


def inserted(folder: Path, number: int) -> float:
    """The rate of bare inserts, on the core of what is measured."""
    command = python(__file__, "--insert-bare", str(folder / "bare.db"), "--requests", str(number))
    with on_core(SERVER):
        return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


@dataclass(frozen=True)
class Side:
    """One that takes webhooks."""

    name: str
    process: Running
    port: int

    async def asked(self, event: str, requests: int, connections: int) -> tuple[Result, float]:
        """What came back, and the processor time of one answer in microseconds."""
        prepared = [webhook(event, 1 + number % ACCOUNTS) for number in range(requests)]
        before = self.process.cpu_seconds
        result = await fire(HOST, self.port, prepared, connections)
        if any(status != 202 for status in result.statuses):
            raise RuntimeError(f"{self.name} answered {dict(result.statuses)}")
        return result, (self.process.cpu_seconds - before) / requests * 1e6


async def compare(
    event: str, requests: int, connections: int, sides: Sequence[Side], folder: Path, store: str
) -> list[Figure]:
    """The best of several rounds for each side, since a shared machine only ever slows things down."""
    results: dict[str, list[Result]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    inserts: list[float] = []
    for _ in range(ROUNDS):
        for side in sides:
            result, cost = await side.asked(event, requests, connections)
            results[side.name].append(result)
            costs[side.name].append(cost)
        inserts.append(inserted(folder, requests))
    best = {name: max(found, key=lambda one: one.rate).rate for name, found in results.items()}
    latency = [min(one.percentile(part) for one in results["healthd"]) for part in (50, 99)]
    cost, bare_cost = min(costs["healthd"]), min(costs["bare"])
    at = {"event": event, "store": store}
    route, rows = "a bare Starlette route", f"bare SQLite inserts, {GROUP} to a commit"
    return [
        Figure("webhooks.acknowledged", best["healthd"], "/s", "higher", route, best["bare"], at),
        Figure("webhooks.on_disk", best["healthd"], "/s", "higher", rows, max(inserts), at),
        Figure("webhooks.p50", latency[0], "ms", "lower", at=at),
        Figure("webhooks.p99", latency[1], "ms", "lower", at=at),
        Figure("webhooks.cpu_each", cost, "us", "lower", route, bare_cost, at),
        Figure(
            "webhooks.on_a_core_to_itself", 1e6 / cost, "/s", "higher", route, 1e6 / bare_cost, at,
            note="by the processor time of one, whatever else the machine does",
        ),
    ]  # fmt: skip


def main(requests: int, connections: int, store: str) -> list[Figure]:
    figures: list[Figure] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="healthd-bench-")))
        stack.enter_context(on_core(CLIENT))
        base = stack.enter_context(database(store, folder))
        ours = stack.enter_context(daemon(folder, store=base.url))
        port = free_port()
        bare = stack.enter_context(running(python(__file__, "--serve-bare", str(port)), folder, core=SERVER, port=port))
        sides = (Side("healthd", ours.running, ours.public), Side("bare", bare, port))
        print(f"{store}, {requests} requests over {connections} connections, best of {ROUNDS}:")
        for event in EVENTS:
            found = uvloop.run(compare(event, requests, connections, sides, folder, store))
            show(found)
            figures += found
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--store", choices=tuple(STORES), default="sqlite")
    add_option(parser)
    parser.add_argument("--serve-bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--insert-bare", metavar="FILE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve_bare:
        serve_bare(chosen.serve_bare)
    elif chosen.insert_bare:
        insert_bare(chosen.insert_bare, chosen.requests)
    else:
        keep(chosen.json, main(chosen.requests, chosen.connections, chosen.store))
