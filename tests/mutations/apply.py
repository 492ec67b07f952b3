"""Breaks every promise on purpose, one way at a time, and shows which test notices.

    python -m tests.mutations.apply [NAME…]

``NAME`` is a part of a name in ``breaks.py``. The tree is copied once; each break is made in the copy, its tests run
there, and the file is put back. A break is found when each of its tests fails, and fails because a claim is untrue:
a fixture that falls over, a name that cannot be imported, or a test that hangs find nothing. Exits with 1 if any
survived.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.mutations.breaks import BREAKS, Break

ROOT = Path(__file__).parents[2]
LONGEST = 240.0
"""Seconds for the tests of one break."""
UNTRUE = re.compile(r"assert |AssertionError|Failed: DID NOT RAISE|ValueError: (not enough|too many) values to unpack")
"""How pytest begins to say that a claim is untrue; to take two values out of a list claims that there are two."""
_PLACE = re.compile(r"(?m)^(\S+\.py):\d+: in ")
_NO_TRACES = {"PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one test function, over all its parameters."""

    failures: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """What fixtures fell over, and failures by anything but an untrue claim."""


def files() -> list[str]:
    """The project's files: those that git knows, and new ones that it does not ignore."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return sorted({name for name in listed.split("\0") if name and (ROOT / name).is_file()})


@contextmanager
def copied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="healthd-broken-") as folder:
        for name in files():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place)
        _expect_own_package(Path(folder))
        yield Path(folder)


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, **_NO_TRACES, "PYTHONPATH": str(copy)}


def _expect_own_package(copy: Path) -> None:
    """The project is installed so that its own tree is imported; here the copy must come before it."""
    say = "import healthd, tests; print(*healthd.__path__, *tests.__path__, sep='\\n')"
    asked = subprocess.run(
        [sys.executable, "-c", say], cwd=copy, env=_environment(copy), capture_output=True, text=True, check=True
    )
    found = [Path(line).resolve() for line in asked.stdout.splitlines()]
    if found != [(copy / name).resolve() for name in ("healthd", "tests")]:
        raise SystemExit(f"not the copy is imported but {', '.join(map(str, found))}")


def broken(text: str, changes: Mapping[str, str]) -> str:
    """The text with the changes made. ``ValueError`` for one whose place is not there exactly once."""
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"stands there {text.count(old)} times: {old!r}")
        text = text.replace(old, new)
    return text


@contextmanager
def made(copy: Path, change: Break) -> Iterator[None]:
    place = copy / change.file
    whole = place.read_text("utf-8")
    place.write_text(broken(whole, change.changes), "utf-8")
    try:
        yield
    finally:
        place.write_text(whole, "utf-8")


def run_tests(copy: Path, tests: Sequence[str]) -> dict[str, Outcome]:
    """What became of these tests, by function: parameters are left out of the name. Empty if they did not end."""
    report = copy / "report.xml"
    report.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}", *tests
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=copy, env=_environment(copy), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        # The session is of our making: the tests, and what they have started.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _read(report) if report.exists() else {}


def _read(report: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{(case.get('classname') or '').replace('.', '/')}.py::{(case.get('name') or '').partition('[')[0]}"
        outcome = found.get(name, Outcome())
        for entry in (*case.iter("failure"), *case.iter("error")):
            said = (entry.get("message") or "",)
            if _is_untrue_claim(entry):
                outcome = Outcome(outcome.failures + said, outcome.others)
            else:
                outcome = Outcome(outcome.failures, outcome.others + said)
        found[name] = outcome
    return found


def _is_untrue_claim(entry: ET.Element) -> bool:
    """Whether it was a test that said so, and not the code under it."""
    places = _PLACE.findall(entry.text or "")
    claimed = entry.tag == "failure" and UNTRUE.match(entry.get("message") or "") is not None
    return claimed and bool(places) and places[-1].startswith("tests/")


def judge(change: Break, outcomes: Mapping[str, Outcome]) -> str:
    """Empty if every one of its tests found it, or why it counts as survived."""
    for test in change.tests:
        outcome = outcomes.get(test.partition("[")[0])
        if outcome is None:
            return f"{test} was not run to its end"
        if outcome.failures:
            continue
        reason = f"fails for another reason: {outcome.others[0].splitlines()[0]}" if outcome.others else "passes"
        return f"{test} {reason}"
    return ""


def main(wanted: Sequence[str]) -> int:
    chosen = {name: change for name, change in BREAKS.items() if not wanted or any(word in name for word in wanted)}
    if not chosen:
        sys.stderr.write("no break has such a name\n")
        return 2
    survived = 0
    with copied() as copy:
        sound = run_tests(copy, sorted({test for change in chosen.values() for test in change.tests}))
        failing = [test for test, outcome in sound.items() if outcome.failures or outcome.others]
        if failing or not sound:
            sys.stderr.write(f"these fail with nothing broken: {', '.join(failing) or 'all'}\n")
            return 1
        for name, change in chosen.items():
            began = time.monotonic()
            with made(copy, change):
                outcomes = run_tests(copy, change.tests)
            verdict = judge(change, outcomes)
            survived += bool(verdict)
            said = f"SURVIVED: {verdict}" if verdict else "found"
            sys.stdout.write(f"{change.promise}  {name:<72} {time.monotonic() - began:5.1f} s  {said}\n")
            for test in () if verdict else change.tests:
                sys.stdout.write(f"      {test}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survived} of {len(chosen)} found\n")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
