"""Programs that are measured: each a process of its own, held to one core, and asked what it used. Linux only.

What a program can do *on one core* is told by the processor time that it used, and not by the clock: on a machine with
other work the clock measures them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

HOST = "127.0.0.1"
SERVER, CLIENT = 0, 1
"""Cores: of who is measured, and of who asks; the same one where there is no other."""
PATIENCE = 120.0
"""Seconds for a program to come up, or to end."""
_CORES = sorted(os.sched_getaffinity(0))
"""Those that this process had at its start: it may hold itself to one, and start others on another."""
_LINES = 20
"""Of a log, for whoever must learn why a program failed."""
_NUMBERS = count(1)
_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def cpu_of(pid: int) -> float:
    """Processor time of a process and of its children that have ended, in seconds."""
    return sum(_stat(pid)[11:15]) / _TICKS


def cpu_of_tree(pid: int) -> float:
    """As ``cpu_of``, with its children that live: a PostgreSQL server has one for each connection."""
    children = (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())
    return cpu_of(pid) + sum(cpu_of(child) for child in children if _parent(child) == pid)


def _stat(pid: int) -> list[int]:
    """What stands behind the name; letters as 0."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return [int(field) if field.lstrip("-").isdigit() else 0 for field in fields]


def _parent(pid: int) -> int | None:
    try:
        return _stat(pid)[1]
    except OSError:  # it has ended meanwhile
        return None


@dataclass(frozen=True)
class Running:
    """A process, and what it has used so far."""

    process: subprocess.Popen[bytes]
    name: str
    log: Path
    """Whatever it has said."""

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all its threads."""
        return cpu_of(self.process.pid)

    @property
    def memory_mb(self) -> float:
        """What it holds now (RSS)."""
        return self._status("VmRSS") / 1024

    @property
    def peak_mb(self) -> float:
        """The most that it has held."""
        return self._status("VmHWM") / 1024

    @property
    def wakeups(self) -> int:
        """How often its threads went to sleep, and so were woken."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(_field(thread / "status", "voluntary_ctxt_switches") for thread in threads)

    def _status(self, name: str) -> int:
        return _field(Path(f"/proc/{self.process.pid}/status"), name)

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def last_words(self) -> str:
        """Whether it still runs, and the end of its log."""
        code = self.process.poll()
        state = "still runs" if code is None else f"ended with {code}"
        lines = self.log.read_text("utf-8", "replace").splitlines()[-_LINES:]
        return f"{self.name} {state}, " + ("its last words:\n" + "\n".join(lines) if lines else "without a word")


def _field(status: Path, name: str) -> int:
    lines = status.read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@contextmanager
def running(
    words: Sequence[str], folder: Path, *, core: int | None = None, port: int | None = None
) -> Iterator[Running]:
    """A program on that core (of those there are), from when it listens on the port to the end of the block. Its log is
    in the folder, and what it said last goes with any error that leaves the block.
    """
    name = textwrap.shorten(" ".join(word for word in words if word not in {sys.executable, "-m"}), 100)
    cores = _CORES if core is None else [_CORES[core % len(_CORES)]]
    log = folder / f"program-{next(_NUMBERS)}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            words,
            stdout=said,
            stderr=said,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - before it sees how many there are
        )
    started = Running(process, name, log)
    try:
        if port is not None:
            until(lambda: _listens(port, started), f"{name} to listen")
        yield started
    except Exception as error:
        error.add_note(started.last_words)
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _listens(port: int, started: Running) -> bool:
    if started.process.poll() is not None:
        raise ChildProcessError(f"{started.name} ended before it listened")
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def until(true: Callable[[], bool], what: str, patience: float = PATIENCE, pause: float = 0.02) -> float:
    """Waits for it, looking again after each pause; returns the seconds that took. Raises ``TimeoutError`` that says
    what did not come.
    """
    started = time.perf_counter()
    while not true():
        if time.perf_counter() - started > patience:
            raise TimeoutError(f"waited {patience:.0f} s for {what}, in vain")
        time.sleep(pause)
    return time.perf_counter() - started


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Holds this process to that core, so that it does not take from whom it measures."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CORES[number % len(_CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python(*words: str) -> list[str]:
    """A program of this interpreter."""
    return [sys.executable, *words]
