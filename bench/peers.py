"""Alertmanager and the blackbox exporter, as the peers of what healthd hears and of what it looks at.

    python bench/peers.py [--alerts 20000] [--connections 64] [--json FILE]

Both are the programs that Debian packages (``.ci/peers FOLDER`` fetches them), each a process of its own on the core on
which healthd is measured, asked by the same client on the other. Run by itself, this compares the intake: a webhook
that healthd has put on disk when it answers, with an alert that Alertmanager holds in memory.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from figures import Better, Figure, add_option, keep, show
from load import Result, fire, post
from processes import CLIENT, HOST, SERVER, Running, free_port, on_core, running
from subject import daemon, webhook

_VERSION = re.compile(r"version (\d+\.\d+\.\d+)")
_ROUTES = """
route: {receiver: nobody, group_by: [workspace], group_wait: 1h, group_interval: 1h}
receivers: [{name: nobody}]
"""
_MODULES = "modules: {api: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}}"


def found(name: str) -> str | None:
    """The program, under the name of its project or that of Debian's package; ``None`` where it is not installed."""
    return shutil.which(name) or shutil.which(f"prometheus-{name.replace('_', '-')}")


def called(name: str) -> str:
    """The program with its version, as figures name it."""
    path = found(name)
    said = subprocess.run([path or name, "--version"], capture_output=True, text=True, check=True)
    version = _VERSION.search(said.stdout + said.stderr)
    return f"{name.replace('_', ' ')} {version[1] if version else ''}".strip().capitalize()


@contextmanager
def alertmanager(folder: Path) -> Iterator[tuple[Running, int]]:
    """One that hears alerts and tells nobody, by itself: no cluster."""
    config, port = folder / "alertmanager.yml", free_port()
    config.write_text(_ROUTES, "utf-8")
    words = [found("alertmanager") or "", f"--config.file={config}", f"--storage.path={folder / 'alertmanager'}"]
    words += [f"--web.listen-address={HOST}:{port}", "--cluster.listen-address="]
    with running(words, folder, core=SERVER, port=port) as process:
        yield process, port


@contextmanager
def blackbox_exporter(folder: Path) -> Iterator[tuple[Running, int]]:
    """One that asks any address by HTTP, and takes a 200 for health."""
    config, port = folder / "blackbox.yml", free_port()
    config.write_text(_MODULES, "utf-8")
    words = [found("blackbox_exporter") or "", f"--config.file={config}", f"--web.listen-address={HOST}:{port}"]
    with running(words, folder, core=SERVER, port=port) as process:
        yield process, port


def alert(number: int) -> bytes:
    """One alert in a request of its own, as a webhook is; of an account of its own."""
    labels = {"alertname": "token_expired", "workspace": "bench", "account": str(number), "platform": "facebook"}
    told = [{"labels": labels, "annotations": {"name": "Bench", "reason": "expired"}}]
    return post("/api/v2/alerts", json.dumps(told).encode(), {"content-type": "application/json"})


@dataclass(frozen=True)
class Taken:
    """What a program took in, and at which cost."""

    result: Result
    cpu_seconds: float
    memory_mb: float
    """By how much it grew."""

    @property
    def per_core(self) -> float:
        """Requests for each second of processor time."""
        return len(self.result.latencies) / self.cpu_seconds


async def taken(
    process: Running,
    port: int,
    requests: Sequence[bytes],
    connections: int,
    settle: Callable[[], object] = lambda: None,
) -> Taken:
    """What that program uses for these requests and until it has settled. The first tenth is left out: the program is
    still growing what it needs anyway.
    """
    tenth = len(requests) // 10
    await fire(HOST, port, requests[:tenth], connections)
    settle()
    cpu, memory = process.cpu_seconds, process.memory_mb
    result = await fire(HOST, port, requests[tenth:], connections)
    if bad := [status for status in result.statuses if not 200 <= status < 300]:
        raise RuntimeError(f"{process.name} answered {bad}")
    settle()
    return Taken(result, process.cpu_seconds - cpu, max(process.memory_mb - memory, 0.0))


EVENTS = {
    "comment.received": ("peers.heard_per_core", "peers.heard", "peers.heard_p99"),
    "account.token_expired": ("peers.acted_on_per_core", "peers.acted_on", "peers.acted_on_p99"),
}
"""With the names of their figures. One that concerns no account is put on disk and acknowledged; of one that does, all
that follows is counted in.
"""


def _figures(ours: Mapping[str, Taken], theirs: Taken | None, peer: str | None) -> list[Figure]:
    """The peer does the same in all rows: it holds an alert and groups it."""

    def both(name: str, unit: str, better: Better, one: Taken, of: Callable[[Taken], float], note: str) -> Figure:
        value = of(theirs) if theirs else None
        return Figure(name, of(one), unit, better, peer, value, note=note)

    found = []
    for event, one in ours.items():
        per_core, by_clock, p99 = EVENTS[event]
        found += [
            both(per_core, "/s", "higher", one, lambda it: it.per_core, "for a second of processor time"),
            both(by_clock, "/s", "higher", one, lambda it: it.result.rate, "by the clock"),
            both(p99, "ms", "lower", one, lambda it: it.result.percentile(99), "under that load"),
        ]
    broke = ours["account.token_expired"]
    number = len(broke.result.latencies)
    note = f"growth of RSS over {number} accounts that broke; ours stand on disk"
    return [
        *found,
        both("peers.memory", "bytes each", "lower", broke, lambda it: it.memory_mb * 2**20 / number, note),
    ]


async def main(alerts: int, connections: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name, on_core(CLIENT):
        folder = Path(name)
        ours = {}
        for event in EVENTS:
            with daemon(folder / event) as one:
                told = [webhook(event, number) for number in range(alerts)]
                ours[event] = await taken(one.running, one.public, told, connections, one.until_worked_off)
        theirs, peer = None, None
        if found("alertmanager"):
            peer = called("alertmanager")
            with alertmanager(folder) as (process, port):
                theirs = await taken(process, port, [alert(number) for number in range(alerts)], connections)
    return _figures(ours, theirs, peer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    add_option(parser)
    chosen = parser.parse_args()
    measured = uvloop.run(main(chosen.alerts, chosen.connections))
    show(measured)
    keep(chosen.json, measured)
