"""What a sweep costs beside a bare HTTP client that asks the same questions and throws the answers away.

    python bench/sweep.py [--accounts 100000] [--singles 3000]

Bulk: one call that answers for all accounts, digested into the store; the first time everything is news, the second
time nothing is. Each: one call per account. The sandbox answers, as a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import orjson
import uvloop

from healthd.core.model import Lane, Policy
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

HOST = "127.0.0.1"
KEY = "sqk_test_bench"
AT_ONCE = 32
PLENTY = 10_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def now() -> datetime:
    return datetime.now(UTC)


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds that the work took, and the longest time in milliseconds for which the event loop stood still."""
    worst, loop, done = 0.0, asyncio.get_running_loop(), asyncio.Event()

    async def watch() -> None:
        nonlocal worst
        while not done.is_set():
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            worst = max(worst, loop.time() - due)

    watching = asyncio.create_task(watch())
    started = time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    done.set()
    await watching
    return seconds, worst * 1000


def show(name: str, seconds: float, stall: float, more: str = "") -> None:
    print(f"  {name:<44} {seconds:7.2f} s   longest stall of the loop {stall:6.1f} ms{more}")


def memory() -> float:
    """The most that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def bulk(base: str, sweep: Sweep, workspace: Workspace, client: httpx2.AsyncClient) -> None:
    async def bare() -> None:
        answer = await client.get(f"{base}/social/accounts/health")
        orjson.loads(answer.content)

    before = memory()
    first, first_stall = await timed(lambda: sweep.bulk(workspace))
    ours = memory() - before
    second, second_stall = await timed(lambda: sweep.bulk(workspace))
    peer, peer_stall = await timed(bare)
    show("healthd, everything is news", first, first_stall, f"   memory +{ours:.0f} MB")
    show("healthd, nothing is news", second, second_stall)
    show("bare client: fetch and parse", peer, peer_stall)
    print(f"  ratio, digested to bare: {first / peer:.2f} (news), {second / peer:.2f} (no news)\n")


async def each(base: str, provider: SmartlyQ, client: httpx2.AsyncClient, refs: list[str]) -> None:
    async def all_at(ask: Callable[[str], Awaitable[object]]) -> None:
        waiting = iter(refs)

        async def work() -> None:
            for ref in waiting:
                await ask(ref)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def bare(ref: str) -> None:
        orjson.loads((await client.get(f"{base}/social/accounts/{ref}/health")).content)

    peer, peer_stall = await timed(lambda: all_at(bare))
    ours, stall = await timed(lambda: all_at(lambda ref: provider.health(ref, None, Lane.ROTATION)))
    show(f"healthd, {len(refs)} single checks", ours, stall, f"   {len(refs) / ours:.0f} /s")
    show("bare client", peer, peer_stall, f"   {len(refs) / peer:.0f} /s")
    print(f"  ratio, checked to bare: {ours / peer:.2f}\n")


async def main(accounts: int, singles: int) -> None:
    port = free_port()
    words = ["sandbox", "--port", str(port), "--accounts", str(accounts), "--workspace", "bench"]
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "healthd", *words, "--rate-limit", str(PLENTY)], stdout=subprocess.DEVNULL
    )
    base = f"http://{HOST}:{port}/v1"
    try:
        with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
            await compare(base, Path(name), accounts, singles)
    finally:
        sandbox.terminate()
        sandbox.wait(timeout=20)


async def compare(base: str, folder: Path, accounts: int, singles: int) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(headers=headers, timeout=120, trust_env=False) as client:
        await reachable(client, base)
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
            print(f"bulk, {accounts} accounts in one answer:")
            await bulk(base, sweep, workspace, client)
            print(f"each, {AT_ONCE} at a time:")
            await each(base, provider, client, [str(1001 + number) for number in range(min(singles, accounts))])
        await store.close()


async def reachable(client: httpx2.AsyncClient, base: str) -> None:
    for _ in range(600):
        try:
            await client.get(f"{base}/me")
        except httpx2.HTTPError:
            await asyncio.sleep(0.1)
        else:
            return
    raise SystemExit("the sandbox did not come up")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=3000)
    chosen = parser.parse_args()
    uvloop.run(main(chosen.accounts, chosen.singles))
