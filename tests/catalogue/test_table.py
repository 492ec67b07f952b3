"""The catalogue is whole, and what it names is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalogue.table import HEADINGS, PAGE, SIZES, TABLE, page

ROOT = Path(__file__).parents[2]
MOST_FOR_LATER = 2
"""Rows that may wait for a later issue: every other one is held today."""


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The ids of all tests in the files that the table names, and each without its parameters."""
    files = sorted({test.partition("::")[0] for row in TABLE for test in row.held_by})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-n", "0", *files]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    tests = {line for line in told.stdout.splitlines() if "::" in line}
    return tests | {test.partition("[")[0] for test in tests}


def test_there_is_one_row_for_each_input_and_no_other() -> None:
    ids = [f"{letter}{number}" for letter, size in SIZES.items() for number in range(1, size + 1)]
    assert [row.id for row in TABLE] == ids
    assert len(ids) == 170
    assert SIZES.keys() == HEADINGS.keys()


def test_every_test_that_the_table_names_is_there(collected: set[str]) -> None:
    assert [(row.id, test) for row in TABLE for test in row.held_by if test not in collected] == []


def test_every_row_is_held_or_says_which_issue_it_waits_for() -> None:
    assert [row.id for row in TABLE if bool(row.held_by) == bool(row.belongs_to)] == []
    later = [row for row in TABLE if row.belongs_to]
    assert len(later) <= MOST_FOR_LATER
    assert all(row.belongs_to.startswith("issue ") and ": " in row.belongs_to for row in later)


def test_every_row_says_what_comes_in_what_is_answered_and_what_must_not_be() -> None:
    assert [row.id for row in TABLE if not (row.input and row.answer and row.must_not)] == []
    assert [row.id for row in TABLE if len(set(row.held_by)) != len(row.held_by)] == []


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `python -m tests.catalogue.table`"
