"""What the documentation says of speed is what was measured, and the programs that measure run."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
QUICK = {
    "checks": ["--accounts", "100"],
    "latency": ["--webhooks", "3"],
    "sweep": ["--accounts", "50"],
    "workspaces": ["--workspaces", "2", "--accounts", "5", "--seconds", "0.2"],
}
"""Those that need nothing that is not there, and take seconds."""
FACTS = {"name", "value", "unit", "better", "peer", "peer_value", "ratio", "at", "note"}
MACHINE = {"cpu", "cores", "memory_mb", "kernel", "python", "sqlite", "postgresql", "date", "commit"}

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process uses is read from Linux's /proc")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs' own modules can be imported."""
    monkeypatch.syspath_prepend(BENCH)


def run(program: str, *words: str) -> str:
    command = [sys.executable, str(BENCH / f"{program}.py"), *words]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert told.returncode == 0, told.stderr
    return told.stdout


def check(document: dict[str, Any]) -> None:
    """The shape in which figures are kept."""
    assert set(document["machine"]) == MACHINE
    for one in document["figures"]:
        assert set(one) == FACTS
        assert one["better"] in {"higher", "lower"}
        assert (one["peer"] is None) == (one["peer_value"] is None) == (one["ratio"] is None)
    keys = [(one["name"], json.dumps(one["at"], sort_keys=True)) for one in document["figures"]]
    assert len(keys) == len(set(keys))


def test_pages_and_curves_are_made_from_the_figures() -> None:
    run("report", "--check")


def test_the_figures_on_record_have_their_shape() -> None:
    check(json.loads((BENCH / "figures.json").read_text("utf-8")))


def read(table: str) -> list[str]:
    """Its lines as a person reads them."""
    return table.replace("\N{NO-BREAK SPACE}", " ").splitlines()


def said(program: str) -> set[str]:
    """The figures that a program names."""
    tree = ast.parse((BENCH / f"{program}.py").read_text("utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # A name that is put together would be found nowhere, and be half of one here.
    assert f"{program}." not in words
    return {word for word in words if re.fullmatch(rf"{program}\.\w+", word)}


@pytest.mark.usefixtures("bench")
def test_every_figure_that_a_program_says_has_a_title_and_no_title_is_left_over() -> None:
    from report import PROGRAMS
    from titles import TITLES

    assert {name for program in PROGRAMS for name in said(program)} == set(TITLES)


@pytest.mark.usefixtures("bench")
def test_what_is_promised_computed_or_drawn_is_a_figure_that_a_program_says() -> None:
    from curves import DRAWN
    from tables import LIMITS, PROMISES
    from titles import TITLES

    wanted = {one.figure for one in LIMITS} | {one.figure for one in PROMISES} | set(DRAWN)
    assert {name for name in wanted if not TITLES.get(name)} == set()


@pytest.mark.usefixtures("bench")
def test_a_promise_is_answered_for_each_database_by_yes_no_or_not_measured() -> None:
    from figures import Figure
    from tables import Measured

    at = {"event": "comment.received"}
    figures = [
        Figure("webhooks.acknowledged", 8000, "/s", "higher", at={**at, "store": "sqlite"}),
        Figure("webhooks.acknowledged", 7999, "/s", "higher", at={**at, "store": "postgresql"}),
        Figure("webhooks.p99", 50, "ms", "lower", at={**at, "store": "sqlite"}),
        Figure("checks.per_core_to_client", 2100, "/s", "higher"),
    ]
    rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in read(Measured({}, figures).promises())]
    assert ["at least 8,000 /s", "**yes**: 8,000 /s", "**no**: 7,999 /s"] in rows
    assert ["under 50 ms", "**no**: 50 ms", "not measured yet"] in rows
    assert ["at least 2,000 /s", "**yes**: 2,100 /s", ""] in rows


@pytest.mark.usefixtures("bench")
def test_both_databases_stand_side_by_side_in_a_table_for_each_set_of_circumstances() -> None:
    from figures import Figure
    from tables import Measured

    no_account, breaks = {"event": "comment.received"}, {"event": "account.token_expired"}
    route = "a bare route"
    figures = [
        Figure("webhooks.acknowledged", 800, "/s", "higher", route, 1600, {**no_account, "store": "sqlite"}),
        Figure("webhooks.acknowledged", 400, "/s", "higher", route, 1600, {**no_account, "store": "postgresql"}),
        Figure("webhooks.cpu_each", 100, "us", "lower", at={**no_account, "store": "sqlite"}),
        Figure("webhooks.p99", 20, "ms", "lower", at={**breaks, "store": "sqlite"}),
    ]
    assert read(Measured({}, figures).stores("webhooks")) == [
        "| webhooks that concern no account | SQLite | PostgreSQL | beside | ratio |",
        "|---|---|---|---|---|",
        "| acknowledged, by the clock | 800 /s | 400 /s | a bare route: 1,600 /s | 0.50, 0.25 ↑ |",
        "",
        "| webhooks that break an account | SQLite | beside | ratio |",
        "|---|---|---|---|",
        "| p99 | 20 ms | | |",
    ]


@pytest.mark.usefixtures("bench")
def test_growth_has_a_column_for_each_size_and_both_databases_in_a_cell() -> None:
    from figures import Figure
    from tables import Measured

    figures = [
        Figure("scale.ready", 1, "s", "lower", at={"accounts": 1_000, "store": "sqlite"}),
        Figure("scale.ready", 2, "s", "lower", at={"accounts": 1_000_000, "store": "sqlite"}),
        Figure("scale.ready", 3, "s", "lower", at={"accounts": 1_000, "store": "postgresql"}),
        Figure("scale.disk", 300, "bytes", "lower", at={"accounts": 1_000_000, "store": "sqlite"}),
    ]
    assert read(Measured({}, figures).over("accounts", "scale")) == [
        "| accounts: SQLite / PostgreSQL | 1,000 | 1,000,000 |",
        "|---|---|---|",
        "| ready after the first start, s | 1 / 3 | 2 / – |",
        "| on disk, for one account, bytes |  | 300 / – |",
    ]


@on_linux
@pytest.mark.parametrize("program", QUICK)
def test_a_quick_run_writes_figures_of_its_own_in_that_shape(program: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run(program, *QUICK[program], "--json", str(file))
    document = json.loads(file.read_text("utf-8"))
    check(document)
    assert document["figures"]
    assert {one["name"].partition(".")[0] for one in document["figures"]} == {program}


@pytest.mark.usefixtures("bench")
@on_linux
def test_a_program_that_fails_tells_why(tmp_path: Path) -> None:
    from processes import free_port, python, running

    broken = python("-c", "raise SystemExit('the disk is full')")
    with pytest.raises(ChildProcessError) as caught, running(broken, tmp_path, port=free_port()):
        pytest.fail("it has never listened")
    assert "ended with 1" in caught.value.__notes__[0]
    assert "the disk is full" in caught.value.__notes__[0]


@pytest.mark.usefixtures("bench")
@on_linux
def test_who_asks_and_who_is_measured_are_on_cores_of_their_own(tmp_path: Path) -> None:
    from processes import CLIENT, SERVER, on_core, python, running

    ours = sorted(os.sched_getaffinity(0))
    with on_core(CLIENT), running(python("-c", "import time; time.sleep(60)"), tmp_path, core=SERVER) as measured:
        assert os.sched_getaffinity(0) == {ours[CLIENT % len(ours)]}
        assert os.sched_getaffinity(measured.process.pid) == {ours[SERVER]}
    assert sorted(os.sched_getaffinity(0)) == ours


@pytest.mark.usefixtures("bench")
def test_a_program_that_is_run_replaces_all_that_it_said_before() -> None:
    from figures import Figure, renewed

    old_name = Figure("webhooks.noted", 1, "/s", "higher", at={"store": "sqlite"})
    old_size = Figure("webhooks.acknowledged", 2, "/s", "higher", at={"store": "sqlite", "event": "ping"})
    not_run = Figure("webhooks_out.sent", 3, "/s", "higher")
    fresh = Figure("webhooks.acknowledged", 4, "/s", "higher", at={"store": "sqlite"})
    assert renewed([old_name, not_run, old_size], [fresh]) == [not_run, fresh]
