"""One, two and three daemons on one PostgreSQL: how fast they take webhooks and work them off, how evenly, and how soon
one does what another left when it was killed.

    python bench/replicas.py [--webhooks 4000] [--daemons 1,2,3] [--json FILE]

All of it shares this machine: with as many daemons as cores, more of them cannot be faster. What a webhook costs in
processor time, the database's included, tells what more cores would give.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from figures import Figure, add_option, keep, show
from load import Result, fire
from processes import HOST, free_port, python, running, until
from subject import Daemon, Database, daemon, database, webhook

HERE = Path(__file__).parent
WORKSPACES = [f"w{number}" for number in range(8)]
"""Several, since the webhooks of one are worked off by one daemon at a time."""
ACCOUNTS = 500
CONNECTIONS = 48
LEFT = 400
"""Webhooks that a daemon acknowledges before it is killed: more than it works off meanwhile."""
WAITING = "SELECT count(*) FROM inbox WHERE status = 'new'"


@dataclass(frozen=True)
class Cluster:
    """Daemons that share a database."""

    database: Database
    daemons: list[Daemon]

    @property
    def cpu_seconds(self) -> float:
        """Of all daemons, and of the database."""
        return self.database.cpu_seconds + sum(one.running.cpu_seconds for one in self.daemons)

    def until_done(self) -> float:
        """Waits until every webhook has been worked off; returns the seconds that took."""
        return until(lambda: self.database.ask(WAITING) == 0, "the webhooks to be worked off", patience=600)

    async def fire(self, webhooks: int, daemons: Sequence[Daemon]) -> list[Result]:
        """So many webhooks of accounts that broke, each of these daemons its share, over all workspaces."""
        told = [
            webhook("account.token_expired", 1 + number % ACCOUNTS, workspace=WORKSPACES[number % len(WORKSPACES)])
            for number in range(webhooks)
        ]
        each = CONNECTIONS // len(daemons)
        return await asyncio.gather(
            *(fire(HOST, one.public, told[number :: len(daemons)], each) for number, one in enumerate(daemons))
        )


@contextmanager
def cluster(daemons: int, folder: Path) -> Iterator[Cluster]:
    """So many daemons that have seen all accounts, on a server of their own with its settings as they come."""
    with ExitStack() as stack:
        base, port = stack.enter_context(database("postgresql", folder)), free_port()
        stack.enter_context(running(python(str(HERE / "provider.py"), str(port), str(ACCOUNTS)), folder, port=port))
        found = [
            stack.enter_context(
                daemon(folder / f"daemon-{number}", provider=port, workspaces=WORKSPACES, store=base.url, core=None)
            )
            for number in range(daemons)
        ]  # fmt: skip
        found[0].until_known(ACCOUNTS * len(WORKSPACES))
        yield Cluster(base, found)


def evenness(counts: Sequence[float]) -> float:
    """What the least busy did, in % of its fair share."""
    return min(counts) / (sum(counts) / len(counts)) * 100


def heard(one: Daemon) -> float:
    """How many webhooks this daemon has worked off."""
    return one.total("healthd_webhook_events_total")


async def work(on: Cluster, webhooks: int) -> list[Figure]:
    """Takes and works off, with nothing in the way."""
    before, cpu, started_at = [heard(one) for one in on.daemons], on.cpu_seconds, time.perf_counter()
    results = await on.fire(webhooks, on.daemons)
    seconds = time.perf_counter() - started_at
    on.until_done()
    drained, cpu = time.perf_counter() - started_at, on.cpu_seconds - cpu
    latencies = Result(seconds, [one for result in results for one in result.latencies])
    done = [heard(one) - earlier for one, earlier in zip(on.daemons, before, strict=True)]
    at = {"daemons": len(on.daemons)}
    return [
        Figure("replicas.acknowledged", webhooks / seconds, "/s", "higher", at=at, note="on disk when answered"),
        Figure("replicas.acknowledged_p99", latencies.percentile(99), "ms", "lower", at=at, note="under that load"),
        Figure("replicas.worked_off", webhooks / drained, "/s", "higher", at=at, note="taken, judged and written"),
        Figure(
            "replicas.cpu_each", cpu / webhooks * 1000, "ms", "lower", at=at,
            note="of processor time for a webhook: all daemons and the database",
        ),
        Figure("replicas.evenness", evenness(done), "%", "higher", at=at, note="the least busy, of its fair share"),
    ]  # fmt: skip


async def takeover(on: Cluster) -> Figure:
    """One is killed with webhooks on disk that it has acknowledged; the others work them off."""
    victim = on.daemons.pop()
    await on.fire(LEFT, [victim])
    left = on.database.ask(WAITING)
    victim.running.kill()
    return Figure(
        "replicas.takeover", on.until_done(), "s", "lower", at={"daemons": len(on.daemons) + 1},
        note=f"from SIGKILL of the one that took them until {left} webhooks were worked off by the others",
    )  # fmt: skip


async def main(sizes: Sequence[int], webhooks: int) -> list[Figure]:
    found: list[Figure] = []
    for daemons in sizes:
        with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name, cluster(daemons, Path(name)) as on:
            found += await work(on, webhooks)
            if daemons > 1:
                found.append(await takeover(on))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--webhooks", type=int, default=4000)
    parser.add_argument("--daemons", default="1,2,3", help="how many, several sizes after each other")
    add_option(parser)
    chosen = parser.parse_args()
    measured = uvloop.run(main([int(size) for size in chosen.daemons.split(",")], chosen.webhooks))
    show(measured)
    keep(chosen.json, measured)
