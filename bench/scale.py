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
from pathlib import Path

import httpx2
from figures import Circumstance, Figure, add_option, keep, show
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


UNITS = {
    "scale.ready": "s",
    "scale.ready_again": "s",
    "scale.cold_start": "s",
    "scale.cold_start_cpu": "s",
    "scale.inventory_cpu": "s",
    "scale.no_news": "s",
    "scale.no_news_cpu": "s",
    "scale.one_percent_broke": "s",
    "scale.one_percent_broke_cpu": "s",
    "scale.check_cpu": "ms",
    "scale.rotation_cpu": "%",
    "scale.memory_at_rest": "MB",
    "scale.memory_at_most": "MB",
    "scale.sandbox_memory": "MB",
    "scale.disk": "bytes",
    **dict.fromkeys(PAGES, "ms"),
}
"""Every figure, in the order of the table."""


def measure(accounts: int, store: str, folder: Path, interval: str) -> list[Figure]:
    """All figures of that size: of a first start, and of a second one that finds every account in the store."""
    with (
        database(store, folder) as base,
        sandbox(folder, accounts, profiles=-(-accounts // IN_A_PROFILE)) as (api, port),
    ):
        empty = base.size if store == "postgresql" else 0
        # Each account by itself would come between the sweeps.
        sweep = {"bulk_interval": interval, "inventory_interval": "1h", "account_interval": "7d"}
        began = time.perf_counter()
        with daemon(folder, store=base.url, provider=port, rate_share=0.5, sweep=sweep) as found:
            values = started(found, accounts, began)
            values |= at_work(found, accounts, f"http://{HOST}:{port}")
        sweep["bulk_interval"], began = "1h", time.perf_counter()
        with daemon(folder, store=base.url, provider=port, rate_share=0.5, sweep=sweep) as found:
            values |= started_again(found, accounts, base, began)
        values["scale.sandbox_memory"] = api.peak_mb
        values["scale.disk"] = (base.size - empty) / accounts
    at: Mapping[str, Circumstance] = {"accounts": accounts, "store": store}
    return [Figure(name, values[name], unit, "lower", at=at) for name, unit in UNITS.items()]


def started(found: Daemon, accounts: int, began: float) -> dict[str, float]:
    """From an empty database until every account is known, and the list of them has come."""
    process = found.running
    found.until_ready()
    ready = time.perf_counter() - began
    found.until_known(accounts)
    known, cpu = time.perf_counter() - began, process.cpu_seconds
    listed = "healthd_inventory_last_success_timestamp_seconds"
    until(lambda: found.total(listed) > 0, "the inventory", LONGEST, pause=0.2)
    return {
        "scale.ready": ready,
        "scale.cold_start": known,
        "scale.cold_start_cpu": cpu,
        "scale.inventory_cpu": process.cpu_seconds - cpu,
    }


def at_work(found: Daemon, accounts: int, api: str) -> dict[str, float]:
    """Sweeps without news and with, and the pages between them."""
    swept(found)
    quiet, quiet_cpu = swept(found)
    rest = found.running.memory_mb
    with httpx2.Client(base_url=f"http://{HOST}:{found.admin}", timeout=120, trust_env=False) as pages:
        some = re.search(r'href="(/accounts/\d+)"', pages.get("/accounts").text)
        looks = {name: look(pages, path.format(some=some[1] if some else "/")) for name, path in PAGES.items()}
    swept(found)
    told = {"count": max(1, accounts // 100), "webhook": False}
    httpx2.post(f"{api}/_sandbox/expire", json=told, timeout=120, trust_env=False).raise_for_status()
    news, news_cpu = swept(found)
    return {
        "scale.no_news": quiet,
        "scale.no_news_cpu": quiet_cpu,
        "scale.one_percent_broke": news,
        "scale.one_percent_broke_cpu": news_cpu,
        "scale.memory_at_rest": rest,
        "scale.memory_at_most": found.running.peak_mb,
        **looks,
    }


def swept(found: Daemon) -> tuple[float, float]:
    """Waits for the next sweep; its seconds, and those of the processor since the one before."""
    name = "healthd_sweep_duration_seconds"
    before, cpu = found.scrape(), found.running.cpu_seconds
    until(lambda: found.total(f"{name}_count") > before.total(f"{name}_count"), "a sweep", LONGEST, pause=1.0)
    return found.total(f"{name}_sum") - before.total(f"{name}_sum"), found.running.cpu_seconds - cpu


def started_again(found: Daemon, accounts: int, base: Database, began: float) -> dict[str, float]:
    """Until it is ready; and what it costs to ask about some accounts by themselves, when nothing else is done."""
    found.until_ready()
    ready = time.perf_counter() - began
    found.until_at_rest()
    each = checked(found, base, min(MOST_CHECKS, accounts // 2))
    return {
        "scale.ready_again": ready,
        "scale.check_cpu": each * 1000,
        "scale.rotation_cpu": each * accounts / ROTATION * 100,
    }


def checked(found: Daemon, base: Database, checks: int) -> float:
    """Processor time of one account that is asked about by itself, in seconds."""

    def asked() -> float:
        return found.total("healthd_api_requests_total", endpoint="health", outcome="ok")

    before, cpu = asked(), found.running.cpu_seconds
    base.make_due(checks)
    until(lambda: asked() >= before + checks, "the last check", LONGEST, pause=0.2)
    return (found.running.cpu_seconds - cpu) / (asked() - before)


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
            fresh = measure(accounts, chosen.store, Path(name), chosen.interval)
        show(fresh)
        found += fresh
    keep(chosen.json, found)


if __name__ == "__main__":
    main()
