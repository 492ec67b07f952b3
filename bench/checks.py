"""How many accounts a core can ask about one by one, beside the blackbox exporter and a client that only asks.

    python bench/checks.py [--accounts 20000] [--json FILE]

The daemon is the real one with ``sweep.mode = "each"``: it claims whose turn it is, asks, judges the answer, and writes
what follows. The blackbox exporter asks an address and judges the status; its connections are new each time. The bare
client is httpx2 over connections that are kept, and throws the answers away. All three ask the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import uvloop
from figures import Figure, add_option, keep, show
from load import fire
from peers import blackbox_exporter, called, found
from processes import CLIENT, HOST, SERVER, Running, free_port, on_core, python, running, until
from subject import Daemon, daemon

HERE = Path(__file__).parent
AT_ONCE = 32
SHARE = 0.1
"""Of the accounts, asked about before the measurement begins: the list is read by then."""
TO_CLIENT = ("checks.per_core_to_client", "checks.by_clock_to_client")
TO_BLACKBOX = ("checks.per_core_to_blackbox", "checks.by_clock_to_blackbox")


@contextmanager
def provider(accounts: int, folder: Path) -> Iterator[int]:
    """The port of an API that costs little, on the other core."""
    port = free_port()
    with running(python(str(HERE / "provider.py"), str(port), str(accounts)), folder, core=CLIENT, port=port):
        yield port


def asked(one: Daemon) -> float:
    """About how many accounts the daemon has asked."""
    return one.total("healthd_api_requests_total", endpoint="health", outcome="ok")


def by_healthd(accounts: int, port: int, folder: Path) -> tuple[float, float]:
    """Checks for each second of processor time, and by the clock."""
    with daemon(folder, provider=port, sweep={"mode": "each"}) as one:
        until(lambda: asked(one) >= SHARE * accounts and one.total("healthd_accounts") >= accounts, "the first checks")
        before, cpu, started = asked(one), one.running.cpu_seconds, time.perf_counter()
        until(lambda: asked(one) >= accounts, "the last check", patience=900, pause=0.5)
        done, seconds = asked(one) - before, time.perf_counter() - started
        return done / (one.running.cpu_seconds - cpu), done / seconds


async def by_blackbox(checks: int, port: int, folder: Path) -> tuple[float, float]:
    with blackbox_exporter(folder) as (process, its_port):
        target = quote(f"http://{HOST}:{port}/v1/social/accounts/17/health", safe="")
        request = f"GET /probe?module=api&target={target} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
        await fire(HOST, its_port, [request] * 200, AT_ONCE)
        cpu = process.cpu_seconds
        result = await fire(HOST, its_port, [request] * checks, AT_ONCE)
        return checks / (process.cpu_seconds - cpu), result.rate


def by_client(checks: int, port: int, folder: Path) -> tuple[float, float]:
    """A process of its own, as the daemon is."""
    process = python(__file__, "--bare", str(port), "--accounts", str(checks))
    with running(process, folder, core=SERVER) as client:
        return _used(client, checks)


def _used(client: Running, checks: int) -> tuple[float, float]:
    started, cpu = time.perf_counter(), 0.0
    while client.process.poll() is None:
        cpu = client.cpu_seconds
        time.sleep(0.02)
    return checks / cpu, checks / (time.perf_counter() - started)


async def bare(port: int, checks: int) -> None:
    """Asks about accounts over and over, so many at once, and reads nothing but the bytes."""
    import httpx2

    waiting = iter(range(1, checks + 1))
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=15) as client:

        async def work() -> None:
            for number in waiting:
                await client.get(f"http://{HOST}:{port}/v1/social/accounts/{number}/health")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


def main(accounts: int) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory(prefix="healthd-bench-") as name,
        provider(accounts, folder := Path(name)) as port,
        on_core(CLIENT),
    ):
        ours = by_healthd(accounts, port, folder / "ours")
        peers = [("a bare httpx2 loop", TO_CLIENT, by_client(accounts, port, folder))]
        if found("blackbox_exporter"):
            theirs = asyncio.run(by_blackbox(accounts, port, folder))
            peers.append((called("blackbox_exporter"), TO_BLACKBOX, theirs))
    figures = []
    for peer, (of_core, of_clock), (per_core, by_clock) in peers:
        figures += [
            Figure(
                of_core, ours[0], "/s", "higher", peer, per_core,
                note="for a second of processor time; ours claims, asks, judges and writes",
            ),
            Figure(of_clock, ours[1], "/s", "higher", peer, by_clock, note=f"{AT_ONCE} at a time"),
        ]  # fmt: skip
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--bare", type=int, metavar="PORT", help="be the client that only asks")
    add_option(parser)
    chosen = parser.parse_args()
    if chosen.bare:
        uvloop.run(bare(chosen.bare, chosen.accounts))
    else:
        measured = main(chosen.accounts)
        show(measured)
        keep(chosen.json, measured)
