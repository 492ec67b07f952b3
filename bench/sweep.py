"""What a sweep costs beside a bare HTTP client that asks the same question and throws the answer away.

    python bench/sweep.py [--accounts 1000,10000,100000] [--json FILE]

One call answers for all accounts; the first time everything is news, the second time nothing is. The sandbox answers,
as a process of its own; the sweep runs in this one, with the store and the client of the daemon.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import orjson
import uvloop
from figures import Figure, add_option, keep, kept, show
from processes import HOST, python
from subject import sandbox

from healthd.core.model import Policy
from healthd.core.probing import ProbePolicy
from healthd.core.routing import Routing
from healthd.dispatch import Dispatch
from healthd.engine import Engine
from healthd.metrics import Metrics
from healthd.providers.allowance import Allowance
from healthd.providers.smartlyq import SmartlyQ
from healthd.store import migrations, profiles
from healthd.store.database import Store
from healthd.sweep import Sweep, SweepPolicy, Workspace

KEY = "sqk_test_bench"
PLENTY = 10_000_000


def now() -> datetime:
    return datetime.now(UTC)


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds of processor time that the work took, and for how many milliseconds the event loop stood still."""
    worst, loop, done = 0.0, asyncio.get_running_loop(), asyncio.Event()

    async def watch() -> None:
        nonlocal worst
        while not done.is_set():
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            worst = max(worst, loop.time() - due)

    watching = asyncio.create_task(watch())
    started = time.process_time()
    await work()
    seconds = time.process_time() - started
    done.set()
    await watching
    return seconds, worst * 1000


def memory() -> float:
    """The most that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def bulk(base: str, sweep: Sweep, workspace: Workspace, client: httpx2.AsyncClient) -> list[Figure]:
    async def bare() -> None:
        answer = await client.get(f"{base}/social/accounts/health")
        orjson.loads(answer.content)

    before = memory()
    first, first_stall = await timed(lambda: sweep.bulk(workspace))
    ours = memory() - before
    second, second_stall = await timed(lambda: sweep.bulk(workspace))
    peer, _ = await timed(bare)
    client_too = "a bare httpx2 client"
    return [
        Figure("sweep.all_news", first, "s", "lower", client_too, peer, note="of the processor; every account is new"),
        Figure("sweep.no_news", second, "s", "lower", client_too, peer, note="of the processor; nothing has changed"),
        Figure("sweep.stall", max(first_stall, second_stall), "ms", "lower", note="of the event loop, at the longest"),
        Figure("sweep.memory", ours, "MB", "lower", note="growth of RSS at its highest, while all is news"),
    ]


async def main(accounts: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
        folder = Path(name)
        with sandbox(folder, accounts, rate_limit=PLENTY) as (_, port):
            found = await compare(f"http://{HOST}:{port}/v1", folder)
    return [replace(one, at={"accounts": accounts, "store": "sqlite"}) for one in found]


async def compare(base: str, folder: Path) -> list[Figure]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(headers=headers, timeout=120, trust_env=False) as client:
        allowance = Allowance(1.0, PLENTY)
        provider = SmartlyQ(
            workspace="bench", api_key=KEY, base_url=base, allowance=allowance, now=now, timeout=120, allowed_hosts=()
        )
        store = Store(f"sqlite:///{folder / 'bench.db'}")
        await store.run(migrations.upgrade)
        await store.run(profiles.ensure_own, ["bench"])
        rng = random.Random(1)
        workspace = Workspace("bench", provider, allowance, False, rng)
        engine = Engine(policy=Policy(), probes=ProbePolicy(), dispatch=Dispatch(routing=Routing()), rng=rng)
        sweep = Sweep(store, engine, {"bench": workspace}, Metrics("bench"), SweepPolicy(), now, lambda _: None)
        async with provider.session():
            found = await bulk(base, sweep, workspace, client)
        await store.close()
        return found


def apart(sizes: Sequence[int]) -> list[Figure]:
    """Each size in a process of its own, so that one does not use the memory that another has left."""
    found: list[Figure] = []
    for accounts in sizes:
        with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
            file = Path(name) / "figures.json"
            subprocess.run(python(__file__, "--accounts", str(accounts), "--json", str(file)), check=True)
            found += kept(file)[1]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", default="1000,10000,100000", help="in one answer; several sizes after each other")
    add_option(parser)
    chosen = parser.parse_args()
    sizes = [int(size) for size in chosen.accounts.split(",")]
    measured = uvloop.run(main(sizes[0])) if len(sizes) == 1 else apart(sizes)
    if len(sizes) == 1:
        show(measured)
    keep(chosen.json, measured)
