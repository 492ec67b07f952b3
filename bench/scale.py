"""What healthd costs from a thousand accounts to a million, on both databases.

    python bench/scale.py [--accounts 1000,10000,100000] [--store sqlite|postgresql] [--json FILE]

The sandbox and the daemon are the real ones, each a process of its own; a profile holds at most a hundred thousand
accounts. Sweeps follow each other closely here (``--interval``), or nobody would wait for the figures. Of PostgreSQL it
is the client's side that is measured: the server's own memory and processor time are not in these figures.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from figures import Figure, add_option, keep, show
from processes import HOST, free_port

KEY = "sqk_test_bench"
IN_A_PROFILE = 100_000
PLENTY = 100_000
"""Calls a minute, the most that healthd believes."""
TICK = os.sysconf("SC_CLK_TCK")
LOOKS = 7
"""How often each page is fetched; the middle one counts."""
PAGES = {
    "scrape": "/metrics",
    "overview": "/",
    "accounts": "/accounts",
    "broken": "/accounts?state=expired",
    "one account": "/accounts/{some}",
    "search": "/accounts?q=Northwind",
    "search, nothing": "/accounts?q=xyzzy",
}


@dataclass
class Run:
    """Seconds of the clock and of the processor, megabytes, bytes, milliseconds."""

    accounts: int
    store: str
    ready_s: float = 0.0
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


class Running:
    """A process of ours: what it has used so far."""

    def __init__(self, *words: str, folder: Path) -> None:
        self._log = (folder / f"{words[0]}.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "healthd", *words], cwd=folder, stdout=self._log, stderr=self._log
        )

    @property
    def cpu(self) -> float:
        """Seconds."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / TICK

    def memory(self, kind: str) -> float:
        """Megabytes; ``VmRSS`` is held now, ``VmHWM`` was the most so far."""
        found = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self._log.close()


class Daemon:
    """The daemon, and what its metrics say."""

    def __init__(self, running: Running, port: int) -> None:
        self.running = running
        self.http = httpx2.Client(base_url=f"http://{HOST}:{port}", timeout=120, trust_env=False)

    def metric(self, name: str) -> float:
        """The sum over all labels; 0 where there is no sample yet."""
        text = self.http.get("/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    def settled(self) -> int:
        text = self.http.get("/metrics").text
        rows = re.findall(r'^healthd_accounts{[^}]*state="(\w+)"[^}]*} (\S+)$', text, re.MULTILINE)
        return sum(int(float(value)) for state, value in rows if state != "unknown")

    def until(self, said: Callable[[], bool], what: str, pause: float = 0.2, within: float = 1800.0) -> None:
        ends = time.monotonic() + within
        while not said():
            if time.monotonic() > ends:
                raise SystemExit(f"{what} took more than {within:.0f} s")
            time.sleep(pause)

    def is_ready(self) -> bool:
        try:
            return bool(self.http.get("/readyz").status_code == 200)
        except httpx2.HTTPError:
            return False

    def sweep(self) -> tuple[float, float]:
        """Waits for the next sweep; its seconds, and those of the processor since the one before."""
        name = "healthd_sweep_duration_seconds"
        count, spent, before = self.metric(f"{name}_count"), self.metric(f"{name}_sum"), self.running.cpu
        self.until(lambda: self.metric(f"{name}_count") > count, "a sweep", pause=1.0)
        return self.metric(f"{name}_sum") - spent, self.running.cpu - before


@contextmanager
def database(store: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """The URL of an empty one, and what tells how many bytes it takes."""
    if store == "sqlite":
        path = folder / "healthd.db"
        yield f"sqlite:///{path}", lambda: path.stat().st_size
        return
    import psycopg

    from tests.postgres import started

    server = started(folder / "pg")
    url = server.get_uri()

    def size() -> int:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0

    try:
        yield url, size
    finally:
        server.cleanup()


def settings(url: str, port: int, sandbox: int, interval: str) -> str:
    return (
        f'[server]\nlisten = "{HOST}:{free_port()}"\nadmin_listen = "{HOST}:{port}"\n'
        f'[store]\nurl = "{url}"\n[link]\nmode = "direct"\n[log]\nlevel = "warning"\n'
        f'[sweep]\nbulk_interval = "{interval}"\ninventory_interval = "1h"\naccount_interval = "7d"\n'
        f'[workspaces.bench]\napi_key = "{KEY}"\nbase_url = "http://{HOST}:{sandbox}/v1"\nprofiles = "all"\n'
    )


def measure(accounts: int, store: str, folder: Path, interval: str) -> Run:
    run = Run(accounts, store)
    profiles = -(-accounts // IN_A_PROFILE)
    api, admin = free_port(), free_port()
    words = ["--port", str(api), "--accounts", str(accounts), "--profiles", str(profiles), "--workspace", "bench"]
    sandbox = Running("sandbox", *words, "--rate-limit", str(PLENTY), folder=folder)
    try:
        with database(store, folder) as (url, size):
            wait_for(api)
            config = folder / "healthd.toml"
            config.write_text(settings(url, admin, api, interval))
            empty = size() if store == "postgresql" else 0
            began = time.monotonic()
            running = Running("run", "--config", str(config), folder=folder)
            try:
                watch(run, Daemon(running, admin), began, f"http://{HOST}:{api}")
                run.sandbox_mb = sandbox.memory("VmHWM")
            finally:
                running.end()
            run.bytes_per_account = (size() - empty) / accounts
    finally:
        sandbox.end()
    return run


def watch(run: Run, daemon: Daemon, began: float, api: str) -> None:
    daemon.until(daemon.is_ready, "the start")
    run.ready_s = time.monotonic() - began
    # Each look costs the daemon a scrape.
    pause = min(2.0, max(0.1, run.accounts / 200_000))
    daemon.until(lambda: daemon.settled() >= run.accounts, "the first sweep", pause)
    run.cold_s, run.cold_cpu_s = time.monotonic() - began, daemon.running.cpu
    started, cpu = time.monotonic(), daemon.running.cpu
    daemon.until(lambda: daemon.metric("healthd_inventory_last_success_timestamp_seconds") > 0, "the inventory")
    run.inventory_s, run.inventory_cpu_s = time.monotonic() - started, daemon.running.cpu - cpu
    daemon.sweep()
    run.sweep_s, run.sweep_cpu_s = daemon.sweep()
    run.rss_idle_mb = daemon.running.memory("VmRSS")
    some = re.search(r'href="(/accounts/\d+)"', daemon.http.get("/accounts").text)
    run.pages_ms = {
        name: look(daemon, path.replace("/accounts/{some}", some[1] if some else "/")) for name, path in PAGES.items()
    }
    daemon.sweep()
    told = {"count": max(1, run.accounts // 100), "webhook": False}
    httpx2.post(f"{api}/_sandbox/expire", json=told, timeout=120, trust_env=False).raise_for_status()
    run.news_s, run.news_cpu_s = daemon.sweep()
    run.rss_peak_mb = daemon.running.memory("VmHWM")


def look(daemon: Daemon, path: str) -> float:
    """Milliseconds that the page takes, the middle of several looks."""
    taken = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        answer = daemon.http.get(path)
        taken.append((time.perf_counter() - started) * 1000)
        if answer.status_code != 200:
            raise SystemExit(f"{path} answered {answer.status_code}")
    return statistics.median(taken)


def wait_for(port: int) -> None:
    for _ in range(6000):
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the sandbox did not come up")


def figures_of(run: Run) -> list[Figure]:
    at: Mapping[str, str | int] = {"accounts": run.accounts, "store": run.store}
    pages = {f"page_{name.replace(', ', '_').replace(' ', '_')}": ms for name, ms in run.pages_ms.items()}
    found = [
        ("ready", run.ready_s, "s"),
        ("cold_start", run.cold_s, "s"),
        ("cold_start_cpu", run.cold_cpu_s, "s"),
        ("inventory_cpu", run.inventory_cpu_s, "s"),
        ("no_news", run.sweep_s, "s"),
        ("no_news_cpu", run.sweep_cpu_s, "s"),
        ("one_percent_broke", run.news_s, "s"),
        ("one_percent_broke_cpu", run.news_cpu_s, "s"),
        ("memory_at_rest", run.rss_idle_mb, "MB"),
        ("memory_at_most", run.rss_peak_mb, "MB"),
        ("disk", run.bytes_per_account, "bytes"),
        *((name, ms, "ms") for name, ms in pages.items()),
    ]
    return [Figure(f"scale.{name}", value, unit, "lower", at=at) for name, value, unit in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", default="1000,10000,100000", help="sizes, with commas between")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
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
