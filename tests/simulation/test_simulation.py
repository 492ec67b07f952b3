"""Short runs of the simulation; `make simulate` plays long ones."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from healthd.core.cadence import Send
from tests.simulation.life import Trouble
from tests.simulation.simulate import Report, simulate

ALL = Trouble()
NONE = Trouble(**{entry.name: 0.0 for entry in fields(Trouble)})


def promises_kept(report: Report) -> None:
    assert report.violation == "", "\n".join((report.line(), *report.story))


@pytest.mark.parametrize("seed", [2, 3])
def test_every_promise_is_kept_through_a_season_of_trouble(seed: int) -> None:
    report = simulate(seed, accounts=200, days=60)
    promises_kept(report)
    assert report.counts["message: opened"] > 10


def test_with_every_trouble_at_once_every_promise_is_kept() -> None:
    report = simulate(7, accounts=150, days=45, trouble=ALL)
    promises_kept(report)
    assert report.counts["killed"] > 0
    assert report.counts["webhook lost"] > 0


def test_without_trouble_nobody_hears_anything() -> None:
    report = simulate(1, accounts=200, days=30, trouble=NONE)
    promises_kept(report)
    assert not [name for name in report.counts if name.startswith("message")]


def test_the_same_seed_is_the_same_story() -> None:
    first, again, other = (simulate(seed, accounts=60, days=12, trouble=ALL) for seed in (5, 5, 6))
    assert first.digest == again.digest != other.digest
    assert first.counts == again.counts


ROUGH = replace(ALL, breaks=8.0, pauses=12.0, api_storms=100)
BREAKS = {
    "what is repaired is not withdrawn": ("healthd.store.notices.drop_waiting", lambda *_: [], "P5"),
    "a due notice is sent without a second look": ("healthd.core.cadence.verdict", lambda *_, **__: Send(), "S5"),
    "good news are kept back": ("healthd.store.notices.told", lambda *_: [], "L5"),
    "a suspect's time never runs out": ("healthd.store.accounts.next_confirmation", lambda *_: None, "S2"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_on_purpose_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, broken, promise = BREAKS[name]
    monkeypatch.setattr(place, broken)
    # Begun with the one that finds the most in the least time.
    reports = (simulate(seed, accounts=60, days=30, trouble=ROUGH) for seed in (5, 6, 7, 8, 1, 2, 3, 4))
    found = next((report.violation for report in reports if report.violation), "nothing")
    assert found.startswith(promise), found
