"""Runs every program here, and writes what they measured where people read it.

    python bench/report.py [--quick] [--only checks,peers] [--render | --check]

The figures go to ``bench/figures.json``, in the place of all that their program said before; the tables of
``docs/performance.md`` and ``docs/scaling.md`` and the curves in ``docs/images/growth.svg`` are made from that file.
``--quick`` only tries whether everything runs, and writes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from curves import drawn
from figures import HERE, Figure, joined, keep, kept, renewed
from processes import python
from tables import Measured

DOCS = HERE.parent / "docs"
FIGURES = HERE / "figures.json"
PAGES = (DOCS / "performance.md", DOCS / "scaling.md")
CURVES = DOCS / "images" / "growth.svg"
POSTGRESQL = "--store postgresql"
SIZES, FEW = "--accounts 1000,10000,100000,1000000", "--accounts 100,1000 --interval 2s"
PROGRAMS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "webhooks": (["", POSTGRESQL], ["--requests 500", f"--requests 500 {POSTGRESQL}"]),
    "latency": (["", POSTGRESQL], ["--webhooks 10", f"--webhooks 10 {POSTGRESQL}"]),
    "burst": (["", POSTGRESQL], ["--expiries 300 --accounts 1000", f"--expiries 300 --accounts 1000 {POSTGRESQL}"]),
    "peers": ([""], ["--alerts 500"]),
    "checks": ([""], ["--accounts 300"]),
    "sweep": ([""], ["--accounts 100,1000"]),
    "scale": ([SIZES, f"{SIZES} {POSTGRESQL}"], [FEW, f"{FEW} {POSTGRESQL}"]),
    "workspaces": ([""], ["--workspaces 1,3 --accounts 10 --seconds 1"]),
    "replicas": ([""], ["--webhooks 200 --daemons 1,2"]),
}
"""Each with the options of its runs, and with those of quick ones."""


def run(program: str, *, quick: bool) -> list[Figure]:
    """What this program measures, in all of its runs; it tells of itself as it goes."""
    found: list[list[Figure]] = []
    with tempfile.TemporaryDirectory(prefix="healthd-bench-") as name:
        file = Path(name) / "figures.json"
        for options in PROGRAMS[program][quick]:
            print(f"{program} {options}".rstrip(), flush=True)
            words = [str(HERE / f"{program}.py"), *options.split(), "--json", str(file)]
            subprocess.run(python(*words), check=True)
            found.append(kept(file)[1])
    return joined(found)


def pages() -> dict[Path, str]:
    """What is made from the figures, as it should stand there."""
    measured = Measured(*kept(FIGURES))
    return {page: measured.filled(page.read_text("utf-8")) for page in PAGES} | {CURVES: drawn(measured.figures)}


def stale() -> list[str]:
    """The pages that say something else."""
    return [
        page.name for page, text in pages().items() if not page.exists() or page.read_text("utf-8") != text
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see whether everything runs")
    parser.add_argument("--only", default=",".join(PROGRAMS), help="programs, with commas between")
    parser.add_argument("--render", action="store_true", help="measure nothing; make the pages anew")
    parser.add_argument("--check", action="store_true", help="end with 1 where a page is not what the figures say")
    chosen = parser.parse_args()
    if chosen.check:
        found = stale()
        sys.exit(f"not what bench/figures.json says: {', '.join(found)}; run bench/report.py --render" if found else 0)
    if not chosen.render:
        for program in chosen.only.split(","):
            fresh = run(program, quick=chosen.quick)
            if not chosen.quick:  # at once: one that fails must not take along what others have measured for hours
                keep(FIGURES, renewed(kept(FIGURES)[1], fresh))
        if chosen.quick:
            return
    for page, text in pages().items():
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
