"""A year of ten thousand accounts, with everything that can go wrong, in about a minute.

    python -m tests.simulation.simulate [--seeds 1-50] [--accounts 10000] [--days 365] [--jobs 2]

The daemon's own code runs on virtual time: receiver, inbox, engine, sweep with its scheduler, the provider's client and
its allowance, outbox, cadence, reconnect page, on a real SQLite file. Around it: the sandbox as the provider, channels
that fail, people who click late, and a process that is killed at its commits. Each seed switches a part of the troubles
off, so that rare combinations are met. A failure prints its seed and its story, and `--seeds N` plays it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import structlog

from healthd.channels.base import Channel
from healthd.config import Settings, load
from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact, Hours, parse_days, parse_quiet, parse_zone
from healthd.core.model import Target
from healthd.sandbox.app import Sandbox, SandboxOptions
from healthd.sandbox.world import PLATFORMS, World
from tests.clockwork import played
from tests.simulation.channels import Message, SimulatedChannel
from tests.simulation.life import Life, Trouble
from tests.simulation.people import Crowd
from tests.simulation.process import InProcess, Killed, Process, ToDaemon, own_tasks
from tests.simulation.record import Record, Violated
from tests.simulation.watch import Watch
from tests.simulation.weather import Weather

STARTS = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SECRET = "whsec_simulated_simulated_simulated"
PEOPLE = 12
ALONE = ("mastodon", "vimeo", "xing", "vk")
"""Platforms with one account each: whose post has failed is no question there."""
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "")
QUIET = ("22:00-07:00", "", "12:30-13:30", "")
DAYS = ("", "mon-fri", "", "")
OPERATOR = "mail:ops@acme.example"
REST = timedelta(hours=54)
"""Longer than the time between two sweeps, their jitter included."""
INCIDENTS = 700
"""About so many, however large the world and long the time: enough for every fault to meet every other."""
DENSE = (
    "breaks",
    "disconnects",
    "hiccups",
    "pauses",
    "deletions",
    "newcomers",
    "false_alarms",
    "odd_posts",
    "platform_outages",
)
"""Troubles whose number grows with the number of accounts."""
SWITCHED = ("breaks", "flaky_channels", "drizzle", "lost", "doubled", "delayed", "kills")
"""Troubles that are there more often than not; all others are switched by a coin."""


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    accounts: int
    days: float
    seconds: float
    digest: str
    counts: Counter[str]
    violation: str = ""
    story: tuple[str, ...] = ()

    def line(self) -> str:
        wanted = ("token dies", "message: opened", "message: reminder", "message: resolved", "repaired", "killed")
        told = ", ".join(f"{self.counts[name]} {name}" for name in wanted)
        end = f"\n  {self.violation}" if self.violation else ""
        return f"seed {self.seed}: {self.seconds:.1f} s, trace {self.digest[:12]}; {told}{end}"


@dataclass
class Simulation:
    """One seed's world."""

    seed: int
    accounts: int
    days: float
    folder: Path
    trouble: Trouble
    up_since: datetime = STARTS
    skew: timedelta = timedelta(0)
    process: Process | None = None
    channels: dict[str, SimulatedChannel] = field(default_factory=dict)

    def true_now(self) -> datetime:
        return datetime.now(UTC)

    def our_now(self) -> datetime:
        """The daemon's clock, which may be wrong by some seconds."""
        return datetime.now(UTC) + self.skew

    def chance(self, name: str) -> random.Random:
        """A source of its own for each part, so that one part's dice do not move another's."""
        return random.Random(f"{self.seed}:{name}")

    async def play(self) -> Record:
        asyncio.get_running_loop().set_task_factory(own_tasks)
        asyncio.get_running_loop().set_exception_handler(self._heard_of)
        random.seed(self.seed)  # APScheduler's jitter
        self._build()
        with contextlib.ExitStack() as stack:
            stack.callback(self.watch.close)
            self.life.begin()
            living = asyncio.create_task(self.life.go_on())
            running = asyncio.create_task(self._keep_running())
            days = asyncio.create_task(self._watch_days())
            parts = (living, running, days)
            await self._until(parts, timedelta(days=self.days))
            self._make_peace()
            await self._until(parts, REST)
            self.watch.at_rest()
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            if self.process is not None:
                await self.process.end()
            self.crowd.stop()
            await self.sandbox.sender.close()
        return self.record

    def _build(self) -> None:
        self.record = Record(self.true_now)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.record.told = self._end_with
        world = World(clock=self.true_now)
        options = SandboxOptions(
            workspaces=("acme",), accounts=self.accounts, webhook_url="http://127.0.0.1:8080/webhooks/{workspace}",
            webhook_secret=SECRET, port=8090, seed=self.seed,
        )  # fmt: skip
        self.sandbox = Sandbox(options, world)
        for platform in ALONE:
            world.add_account("acme", platform)
        to_daemon = ToDaemon(lambda: self.process)
        to_sandbox = InProcess(self.sandbox.app)
        self.sandbox.sender._client = httpx2.AsyncClient(transport=to_daemon)
        self.weather = Weather(
            to_sandbox, self.chance("weather"), self.record, asyncio.get_running_loop().time, self._share,
            drizzle=self.trouble.drizzle,
        )  # fmt: skip
        self.crowd = Crowd(
            lambda: httpx2.AsyncClient(transport=to_daemon, mounts={"http://127.0.0.1:8090": to_sandbox}),
            self.chance("people"), self.record, asyncio.get_running_loop().time,
            lambda: self.process is not None and self.process.up,
        )  # fmt: skip
        for name in ("mail", "chat"):
            self.channels[name] = SimulatedChannel(
                name, self.chance(name), self.record, self.our_now,
                lambda: self.process is not None and not self.process.died.is_set(), self._arrived,
                lambda: self.record.counts["killed"],
                flaky=self.trouble.flaky_channels,
            )  # fmt: skip
        self.life = Life(
            self.sandbox, self.weather, self.trouble, self.chance("life"), self.record, self.true_now,
            self._disturb_channel, self._someone_leaves,
        )  # fmt: skip
        database = self.folder / "healthd.db"
        self.settings = self._settings(database)
        hours = {f"mail:{_address(number)}": contact.hours for number, contact in enumerate(people())}
        self.watch = Watch(
            str(database), self.life, self.record, self.our_now, Cadence().most_messages, hours, OPERATOR
        )
        self._kills = self.chance("kills")
        self._skews = self.chance("clock")

    def _settings(self, database: Path) -> Settings:
        routes = "".join(
            f'[[routes]]\nplatform = "{platform}"\nto = ["@person{number % PEOPLE}"'
            + (', "chat"]\n' if number % 4 == 0 else "]\n")
            + (
                f'then = [{{ after = "{number % 4}d", to = ["@person{(number + 1) % PEOPLE}"] }}]\n'
                if number % 4
                else ""
            )
            for number, platform in enumerate(PLATFORMS)
        )
        path = self.folder / "healthd.toml"
        path.write_text(
            f'public_url = "http://127.0.0.1:8080"\n[store]\nurl = "sqlite:///{database}"\n'
            f'[link]\nsecrets = ["{"s" * 32}"]\nlifetime = "60d"\nallowed_hosts = ["127.0.0.1:8090"]\n'
            '[webhook]\naudit_interval = "24h"\n'
            '[sweep]\nbulk_interval = "48h"\ninventory_interval = "72h"\naccount_interval = "360d"\n'
            f'[notices]\ndefault = ["mail:desk@acme.example"]\noperator = ["{OPERATOR}"]\n'
            'group_wait = "30s"\ngroup_interval = "5m"\n[storm]\nleast = 4\nshare = 0.2\n'
            f'[workspaces.acme]\napi_key = "sqk_test_acme"\nbase_url = "http://127.0.0.1:8090/v1"\n'
            f'webhook_secrets = ["{SECRET}"]\nprofiles = "none"\nwebhooks = "off"\n'
            f"auto_pause = {str(self.trouble.auto_pause > 0).lower()}\n"
            '[channels.mail]\ntype = "email"\nhost = "127.0.0.1"\nsecurity = "none"\nsender = "h@acme.example"\n'
            '[channels.chat]\ntype = "slack"\nwebhook_url = "https://hooks.slack.com/services/T/B/X"\n' + routes,
            "utf-8",
        )
        return load(path, {})

    def _share(self) -> int:
        workspace = self.sandbox.world.workspaces["acme"]
        return int(self.sandbox.world.rate_limit(workspace) * self.settings.workspaces["acme"].rate_share)

    def _arrived(self, message: Message) -> None:
        self.watch.arrived(message)
        self.crowd.reads(message)

    def _disturb_channel(self, down: bool) -> None:
        channel = self.channels[self.chance(f"channel:{self.true_now():%j}").choice(("mail", "chat"))]
        for one in self.channels.values() if not down else (channel,):
            one.down = down
        self.record.note("process", "a channel fails" if down else "channels work", channel.name)

    def _someone_leaves(self) -> None:
        """A mailbox that does not exist any more, for three months."""
        channel = self.channels["mail"]
        address = _address(self.chance(f"leaves:{self.true_now():%j}").randrange(PEOPLE))
        channel.gone.add(address)
        self.life.at(timedelta(days=90), lambda: channel.gone.discard(address))

    def _make_peace(self) -> None:
        """All faults end; people act at once. What is still broken may stay broken."""
        self.record.note("process", "peace")
        self.trouble = replace(self.trouble, kills=0.0)
        self.life.trouble = replace(self.life.trouble, lost=0.0, delayed=0.0, doubled=0.0)
        self.life.end()
        self.life.paused.clear()
        for account in self.sandbox.world.accounts.values():
            account.is_active = True
            if account.status == "error" and not self.life._is_bad(account):
                account.status = "connected"
        for channel in self.channels.values():
            channel.down, channel.flaky = False, 0.0
            channel.gone.clear()
        self.crowd.quick = True

    def _fate(self) -> str:
        chance = self._kills.random()
        return "" if chance >= self.trouble.kills else "before" if chance < self.trouble.kills / 2 else "after"

    async def _keep_running(self) -> None:
        """The supervisor: a process that died is started again after a while."""
        while True:
            process = self.process = Process(
                self.settings, now=self.our_now, fate=self._fate, committed=self.watch.committed,
                channels=dict[str, Channel](self.channels), to_provider=self.weather, chance=self._kills,
                people=people(),
            )  # fmt: skip
            try:
                await process.start()
                self.up_since = self.our_now()
                await process.died.wait()
            except Killed:
                pass
            await process.end()
            self.record.note("process", "killed", process.why)
            await asyncio.sleep(self._skews.uniform(1, 600))
            self.skew = timedelta(seconds=self._skews.uniform(-1, 1) * self.trouble.skew)

    async def _watch_days(self) -> None:
        for hour in itertools.count(1):
            await asyncio.sleep(3600)
            if self.process is not None and self.process.up:
                self.watch.while_up(self.up_since)
            if hour % 24:
                continue
            self.watch.day()
            endpoints = self.sandbox.sender.endpoints.values()
            for endpoint in endpoints:  # the operator looks once a day whether the provider still delivers
                if endpoint.status != "active":
                    self.sandbox.sender.reactivate(endpoint)

    async def _until(self, parts: tuple[asyncio.Task[None], ...], span: timedelta) -> None:
        """Lets the world go on for so long. Raises what broke in it."""
        waiting = asyncio.create_task(asyncio.sleep(span.total_seconds()))
        done, _ = await asyncio.wait((waiting, self._broken, *parts), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.record.broken is not None:
            raise self.record.broken
        for part in done:
            part.result()

    def _end_with(self, _: Violated) -> None:
        if not self._broken.done():
            self._broken.set_result(None)

    def _heard_of(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A task that nobody waits for has ended badly. Killed ones do; a broken promise is on record."""


def _address(number: int) -> str:
    return f"person{number}@acme.example"


def people() -> list[Contact]:
    """Whoever repairs accounts, in several zones; some have quiet hours, some do not work at weekends."""
    return [
        Contact(
            f"person{number}", f"Person {number}", (Target("mail", _address(number)),),
            Hours(
                parse_zone(ZONES[number % len(ZONES)]), parse_quiet(QUIET[number % len(QUIET)]),
                parse_days(DAYS[number % len(DAYS)]),
            ),
        )
        for number in range(PEOPLE)
    ]  # fmt: skip


def drawn(seed: int, accounts: int, days: float) -> Trouble:
    """The troubles of this seed: a part of all that there are."""
    rng = random.Random(f"{seed}:swarm")
    density = min(1.0, INCIDENTS / (accounts * days / 365))
    trouble = replace(Trouble(), **{name: getattr(Trouble(), name) * density for name in DENSE})
    off = {
        entry.name: 0.0
        for entry in fields(Trouble)
        if rng.random() < (0.15 if entry.name in SWITCHED else 0.3) and entry.name != "breaks"
    }
    return replace(trouble, **off)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """In memory where there is such a place: an fsync there costs nothing, and nothing here needs one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="healthd-simulation-", dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def simulate(seed: int, accounts: int, days: float, trouble: Trouble | None = None) -> Report:
    """Plays one seed; a broken promise is in the report, not raised."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable()  # a process that is killed says a lot
    started = time.perf_counter()
    with _folder() as folder:
        simulation = Simulation(seed, accounts, days, folder, trouble or drawn(seed, accounts, days))
        violation, story = "", tuple[str, ...]()
        try:
            played(simulation.play, STARTS)
        except Violated as error:
            violation = str(error)
            story = tuple(simulation.record.history(error.subject))
        finally:
            logging.disable(logging.NOTSET)
            structlog.configure(**before)
    seconds = time.perf_counter() - started
    record = simulation.record
    return Report(seed, accounts, days, seconds, record.digest, record.counts, violation, story)


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_seeds, default=[1], metavar="N[-M]")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    work: Callable[[int], Report] = _Job(chosen.accounts, chosen.days)
    failed = 0
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        for report in pool.imap_unordered(work, chosen.seeds):
            print(report.line(), flush=True)
            if report.violation:
                failed += 1
                print("\n".join(f"    {line}" for line in report.story), flush=True)
                print(
                    f"  again: python -m tests.simulation.simulate --seeds {report.seed} --accounts {report.accounts} "
                    f"--days {report.days}",
                    flush=True,
                )
    print(f"{len(chosen.seeds) - failed} of {len(chosen.seeds)} seeds kept every promise")
    return 1 if failed else 0


@dataclass(frozen=True)
class _Job:
    accounts: int
    days: int

    def __call__(self, seed: int) -> Report:
        return simulate(seed, self.accounts, self.days)


if __name__ == "__main__":
    sys.exit(main())
