"""Hundreds of workspaces in one daemon: what they cost while nothing happens.

    python bench/workspaces.py [--workspaces 1,10,100,300] [--accounts 100] [--seconds 60] [--json FILE]

The sandbox answers for all of them, as a process of its own. After every account was seen once, the daemon is left
alone, and what it uses is read from the kernel: a workspace costs its sweep a minute and its share of the rotation, and
what it costs beyond that is waste.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from figures import Figure, add_option, keep, show
from subject import Daemon, daemon, sandbox


def measured(workspaces: int, accounts: int, seconds: float, folder: Path) -> list[Figure]:
    """The figures of a daemon with so many workspaces of so many accounts each."""
    names = [f"w{number:04}" for number in range(workspaces)]
    with sandbox(folder, accounts, workspaces=names) as (_, port):
        started = time.perf_counter()
        with daemon(folder, provider=port, workspaces=names) as found:
            ready = time.perf_counter() - started
            found.until_known(workspaces * accounts)
            return at_rest(found, workspaces, accounts, seconds, ready)


def at_rest(found: Daemon, workspaces: int, accounts: int, seconds: float, ready: float) -> list[Figure]:
    """What it uses within so many seconds in which nothing happens."""
    process = found.running
    before, woken = process.cpu_seconds, process.wakeups
    time.sleep(seconds)
    share = (process.cpu_seconds - before) / seconds * 100
    wakeups = (process.wakeups - woken) / seconds
    series = sum(not line.startswith("#") for line in found.scrape().text.splitlines())
    before = process.cpu_seconds
    scrapes = sorted(found.scrape().milliseconds for _ in range(5))
    scrape_cpu = (process.cpu_seconds - before) / 5 * 1000
    at = {"workspaces": workspaces, "accounts": workspaces * accounts}
    note = f"{accounts} accounts in each"
    return [
        Figure("workspaces.ready", ready, "s", "lower", at=at, note="from the start until webhooks are taken"),
        Figure("workspaces.idle_cpu", share, "%", "lower", at=at, note=f"of one core, over {seconds:.0f} s; {note}"),
        Figure("workspaces.wakeups", wakeups, "/s", "lower", at=at, note="of all threads, at rest"),
        Figure("workspaces.memory", process.memory_mb, "MB", "lower", at=at, note="RSS"),
        Figure("workspaces.scrape", scrapes[2], "ms", "lower", at=at, note="the middle one of five"),
        Figure("workspaces.scrape_cpu", scrape_cpu, "ms", "lower", at=at, note="of processor time"),
        Figure("workspaces.series", series, "series", "lower", at=at, note="in one scrape"),
    ]


def main(sizes: list[int], accounts: int, seconds: float) -> list[Figure]:
    found: list[Figure] = []
    for workspaces in sizes:
        with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
            figures = measured(workspaces, accounts, seconds, Path(name))
        show(figures)
        found += figures
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", default="1,10,100,300", help="how many, several sizes after each other")
    parser.add_argument("--accounts", type=int, default=100, help="in each workspace")
    parser.add_argument("--seconds", type=float, default=60, help="of rest")
    add_option(parser)
    chosen = parser.parse_args()
    keep(chosen.json, main([int(size) for size in chosen.workspaces.split(",")], chosen.accounts, chosen.seconds))
