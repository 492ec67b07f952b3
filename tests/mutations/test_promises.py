"""The page of promises and the list of breaks name what is there; ``apply.py`` tells found from survived."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.collected import ids_in
from tests.mutations.apply import ROOT, Outcome, broken, judge, run_tests
from tests.mutations.breaks import BREAKS, Break

PROMISES = [f"P{number}" for number in range(1, 10)]
PAGE = (ROOT / "docs" / "promises.md").read_text("utf-8")
SECTIONS: dict[str, str] = dict(re.findall(r"(?ms)^## (P\d+): (.*?)(?=^## |\Z)", PAGE))
HELD_BY = {promise: re.findall(r"`(tests/\S+?\.py::[^`]+)`", body) for promise, body in SECTIONS.items()}


def test_each_promise_is_on_the_page_with_tests_that_hold_it() -> None:
    assert list(SECTIONS) == PROMISES
    for promise, tests in HELD_BY.items():
        assert len(set(tests)) == len(tests) >= 3, promise


def test_every_test_that_is_named_is_there(request: pytest.FixtureRequest) -> None:
    named = {test for tests in HELD_BY.values() for test in tests}
    named |= {test for change in BREAKS.values() for test in change.tests}
    assert named - ids_in(request.session, {test.partition("::")[0] for test in named}) == set()


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", PAGE))
    assert {"intake.py", "core/machine.py"} <= named
    assert [name for name in named if not (ROOT / "healthd" / name).exists() and not (ROOT / name).exists()] == []


def test_each_promise_is_broken_in_several_ways() -> None:
    assert len(BREAKS) >= 20
    assert all(change.tests for change in BREAKS.values())
    ways = {promise: [name for name, change in BREAKS.items() if change.promise == promise] for promise in PROMISES}
    assert sum(map(len, ways.values())) == len(BREAKS)
    assert {promise for promise, names in ways.items() if len(names) < 2} == set()


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_to_be_broken_stands_there_once_and_stays_python(name: str) -> None:
    change = BREAKS[name]
    whole = (ROOT / change.file).read_text("utf-8")
    text = broken(whole, change.changes)
    assert text != whole
    compile(text, change.file, "exec")


NOT_ONCE = {"nowhere": "sell", "twice": "an"}


@pytest.mark.parametrize("old", NOT_ONCE.values(), ids=NOT_ONCE)
def test_a_change_whose_place_is_not_there_once_is_refused(old: str) -> None:
    with pytest.raises(ValueError, match="stands there"):
        broken("an ant", {old: "x"})


def test_a_test_that_fails_by_anything_but_an_untrue_claim_has_found_nothing(tmp_path: Path) -> None:
    """The ways for a test to end, and whether the break that it ran on counts as found."""
    folder = tmp_path / "tests"
    folder.mkdir()
    folder.joinpath("test_ways.py").write_text(
        "import pytest\n"
        "def test_untrue(): assert 1 + 1 == 3\n"
        "def test_no_error(): \n    with pytest.raises(KeyError): pass\n"
        "def test_another_number(): (one,) = []\n"
        "def test_true(): assert True\n"
        "def test_a_mistake(): {}['x']\n"
        "@pytest.fixture\ndef fallen(): assert False\n"
        "def test_a_fixture(fallen): assert True\n"
        "@pytest.mark.parametrize('number', [1, 2])\ndef test_one_of_two(number): assert number == 1\n"
    )
    folder.joinpath("test_import.py").write_text("import nothing_of_this_name\ndef test_it(): assert False\n")
    ways = ["untrue", "no_error", "another_number", "true", "a_mistake", "a_fixture", "one_of_two"]
    tests = [f"tests/test_ways.py::test_{way}" for way in ways]
    outcomes = run_tests(tmp_path, tests)
    found = [test for test in tests if judge(Break("P1", "", {}, (test,)), outcomes) == ""]
    assert found == [
        f"tests/test_ways.py::test_{way}" for way in ("untrue", "no_error", "another_number", "one_of_two")
    ]
    unread = "tests/test_import.py::test_it"
    assert judge(Break("P1", "", {}, (unread,)), run_tests(tmp_path, [unread])) == f"{unread} was not run to its end"


def test_every_test_of_a_break_has_to_notice() -> None:
    both = Break("P1", "", {}, ("t.py::test_a", "t.py::test_b"))
    assert judge(both, {"t.py::test_a": Outcome(("assert 0",)), "t.py::test_b": Outcome()}) == "t.py::test_b passes"
