"""Which tests there are, for pages that name the tests that hold what they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ids_in(session: pytest.Session, files: Collection[str]) -> set[str]:
    """The ids of all tests in these files, and each without its parameters.

    A run of the whole suite has collected them already; where only a part of it runs, pytest is asked anew.
    """
    found = {item.nodeid for item in session.items}
    if not set(files) <= {test.partition("::")[0] for test in found} or session.config.option.keyword:
        found = _asked(files)
    return found | {test.partition("[")[0] for test in found}


def _asked(files: Collection[str]) -> set[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-n", "0"]
    told = subprocess.run([*command, *sorted(files)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    return {line for line in told.stdout.splitlines() if "::" in line}
