"""What healthd costs from a thousand accounts to a million, on both databases.

    python bench/scale.py [--accounts 1000,10000,100000] [--store sqlite|postgresql] [--json FILE]

The sandbox and the daemon are the real ones, each a process of its own; a profile holds at most a hundred thousand
accounts. Sweeps follow each other closely here (``--interval``), or nobody would wait for the figures. Then the daemon
starts once more, with all accounts in the store, and is given some thousands to ask about by themselves, as the
rotation does all day: what one costs tells what ``account_interval`` costs. Disk is the database at rest: what stays
once all of that has ended, with the housekeeping that goes first at each start.

Ready counts from the command on, with the interpreter's start and the imports: that is what a user waits for. Of
PostgreSQL it is the client's side that is measured: the server's own memory and processor time are not in these
figures.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from figures import Figure, add_option, keep, show
from processes import HOST, until
from subject import LONGEST, Daemon, Database, daemon, database, sandbox
from titles import STORES

IN_A_PROFILE = 100_000
MOST_CHECKS = 10_000
ROTATION = 6 * 3600
"""Seconds, as ``sweep.account_interval`` comes."""
LOOKS = 7
"""How often each page is fetched; the middle one counts."""
PAGES = {
    "scale.page_scrape": "/metrics",
    "scale.page_overview": "/",
    "scale.page_accounts": "/accounts",
    "scale.page_broken": "/accounts?state=expired",
    "scale.page_one_account": "{some}",
    "scale.page_search": "/accounts?q=Northwind",
    "scale.page_search_nothing": "/accounts?q=xyzzy",
}


@dataclass
class Run:
    """Seconds of the clock and of the processor, megabytes, bytes, milliseconds."""

    accounts: int
    store: str
    ready_s: float = 0.0
    ready_again_s: float = 0.0
    check_cpu_s: float = 0.0
    cold_s: float = 0.0
    cold_cpu_s: float = 0.0
    inventory_s: float = 0.0
    inventory_cpu_s: float = 0.0
    sweep_s: float = 0.0
    sweep_cpu_s: float = 0.0
    news_s: float = 0.0
    news_cpu_s: float = 0.0
    rss_idle_mb: float = 0.0
    rss_peak_mb: float = 0.0
    sandbox_mb: float = 0.0
    bytes_per_account: float = 0.0
    pages_ms: dict[str, float] = field(default_factory=dict)


def measure(accounts: int, store: str, folder: Path, interval: str) -> Run:
    run = Run(accounts, store)
    with (
        database(store, folder) as base,
        sandbox(folder, accounts, profiles=-(-accounts // IN_A_PROFILE)) as (api, port),
    ):
        empty = base.size if store == "postgresql" else 0
        # Each account by itself would come between the sweeps.
        sweep = {"bulk_interval": interval, "inventory_interval": "1h", "account_interval": "7d"}
        began = time.perf_counter()
        with daemon(folder, store=base.url, provider=port, rate_share=0.5, sweep=sweep) as found:
            watch(run, found, began, f"http://{HOST}:{port}")
        began = time.perf_counter()
        with daemon(
            folder, store=base.url, provider=port, rate_share=0.5, sweep={**sweep, "bulk_interval": "1h"}
        ) as found:
            found.until_ready()
            run.ready_again_s = time.perf_counter() - began
            run.check_cpu_s = checked(found, base, min(MOST_CHECKS, accounts // 2))
        run.sandbox_mb = api.peak_mb
        run.bytes_per_account = (base.size - empty) / accounts
    return run


def swept(found: Daemon) -> tuple[float, float]:
    """Waits for the next sweep; its seconds, and those of the processor since the one before."""
    name = "healthd_sweep_duration_seconds"
    before, cpu = found.scrape(), found.running.cpu_seconds
    until(lambda: found.total(f"{name}_count") > before.total(f"{name}_count"), "a sweep", LONGEST, pause=1.0)
    return found.total(f"{name}_sum") - before.total(f"{name}_sum"), found.running.cpu_seconds - cpu


def watch(run: Run, found: Daemon, began: float, api: str) -> None:
    process = found.running
    found.until_ready()
    run.ready_s = time.perf_counter() - began
    found.until_known(run.accounts)
    run.cold_s, run.cold_cpu_s = time.perf_counter() - began, process.cpu_seconds
    cpu = process.cpu_seconds
    listed = "healthd_inventory_last_success_timestamp_seconds"
    run.inventory_s = until(lambda: found.total(listed) > 0, "the inventory", LONGEST, pause=0.2)
    run.inventory_cpu_s = process.cpu_seconds - cpu
    swept(found)
    run.sweep_s, run.sweep_cpu_s = swept(found)
    run.rss_idle_mb = process.memory_mb
    with httpx2.Client(base_url=f"http://{HOST}:{found.admin}", timeout=120, trust_env=False) as pages:
        some = re.search(r'href="(/accounts/\d+)"', pages.get("/accounts").text)
        run.pages_ms = {name: look(pages, path.format(some=some[1] if some else "/")) for name, path in PAGES.items()}
    swept(found)
    told = {"count": max(1, run.accounts // 100), "webhook": False}
    httpx2.post(f"{api}/_sandbox/expire", json=told, timeout=120, trust_env=False).raise_for_status()
    run.news_s, run.news_cpu_s = swept(found)
    run.rss_peak_mb = process.peak_mb


def checked(found: Daemon, base: Database, checks: int) -> float:
    """Processor time of one account that is asked about by itself."""
    found.until_at_rest()

    def asked() -> float:
        return found.total("healthd_api_requests_total", endpoint="health", outcome="ok")

    before = asked()
    base.make_due(checks)
    until(lambda: asked() > before, "the first check")
    first, cpu = asked(), found.running.cpu_seconds
    until(lambda: asked() >= before + checks, "the last check", LONGEST, pause=0.2)
    return (found.running.cpu_seconds - cpu) / max(1.0, asked() - first)


def look(pages: httpx2.Client, path: str) -> float:
    """Milliseconds that the page takes, the middle of several looks."""
    taken = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        answer = pages.get(path)
        taken.append((time.perf_counter() - started) * 1000)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}")
    return statistics.median(taken)


def figures_of(run: Run) -> list[Figure]:
    at: Mapping[str, str | int] = {"accounts": run.accounts, "store": run.store}
    found = [
        ("scale.ready", run.ready_s, "s"),
        ("scale.ready_again", run.ready_again_s, "s"),
        ("scale.cold_start", run.cold_s, "s"),
        ("scale.cold_start_cpu", run.cold_cpu_s, "s"),
        ("scale.inventory_cpu", run.inventory_cpu_s, "s"),
        ("scale.no_news", run.sweep_s, "s"),
        ("scale.no_news_cpu", run.sweep_cpu_s, "s"),
        ("scale.one_percent_broke", run.news_s, "s"),
        ("scale.one_percent_broke_cpu", run.news_cpu_s, "s"),
        ("scale.check_cpu", run.check_cpu_s * 1000, "ms"),
        ("scale.rotation_cpu", run.check_cpu_s * run.accounts / ROTATION * 100, "%"),
        ("scale.memory_at_rest", run.rss_idle_mb, "MB"),
        ("scale.memory_at_most", run.rss_peak_mb, "MB"),
        ("scale.sandbox_memory", run.sandbox_mb, "MB"),
        ("scale.disk", run.bytes_per_account, "bytes"),
        *((name, ms, "ms") for name, ms in run.pages_ms.items()),
    ]
    return [Figure(name, value, unit, "lower", at=at) for name, value, unit in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", default="1000,10000,100000", help="sizes, with commas between")
    parser.add_argument("--store", choices=tuple(STORES), default="sqlite")
    parser.add_argument("--interval", default="10s", help="from one sweep to the next")
    add_option(parser)
    chosen = parser.parse_args()
    found: list[Figure] = []
    for accounts in map(int, chosen.accounts.split(",")):
        with tempfile.TemporaryDirectory(prefix="healthd-scale-") as name:
            fresh = figures_of(measure(accounts, chosen.store, Path(name), chosen.interval))
        show(fresh)
        found += fresh
    keep(chosen.json, found)


if __name__ == "__main__":
    main()
