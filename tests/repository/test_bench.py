"""What the documentation says of speed is what was measured, and the programs that measure run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
QUICK = {
    "checks": ["--accounts", "100"],
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
