"""The catalogue is whole, and what it names is there."""

from __future__ import annotations

import pytest

from tests.catalogue.table import HEADINGS, PAGE, SIZES, TABLE, page
from tests.collected import ids_in

MOST_FOR_LATER = 2
"""Rows that may wait for a later issue: every other one is held today."""


def test_there_is_one_row_for_each_input_and_no_other() -> None:
    ids = [f"{letter}{number}" for letter, size in SIZES.items() for number in range(1, size + 1)]
    assert [row.id for row in TABLE] == ids
    assert len(ids) == 188
    assert SIZES.keys() == HEADINGS.keys()


def test_every_test_that_the_table_names_is_there(request: pytest.FixtureRequest) -> None:
    collected = ids_in(request.session, {test.partition("::")[0] for row in TABLE for test in row.held_by})
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
