"""Short runs of the simulation; `make simulate` plays long ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from healthd.core.cadence import Send
from healthd.engine import Engine
from healthd.store import pauses
from healthd.store.pauses import Action, Wanted
from tests.simulation.life import Trouble
from tests.simulation.simulate import Report, simulate

# A kill leaves behind what the API was about to begin.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'StreamingResponse:RuntimeWarning")

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


def resumes_whatever_is_paused(_: Engine, case: Any) -> None:
    account = case.after
    if account.account.paused:
        case.after = replace(account, auto_paused_at=case.now)
        resume = Wanted(account.id, account.account.workspace, Action.RESUME, case.now, case.now)
        pauses.want(case.connection, resume)
        case.note(resume=True)


BREAKS: dict[str, tuple[str, Callable[..., Any], tuple[str, ...]]] = {
    "what is repaired is not withdrawn": ("healthd.store.notices.drop_waiting", lambda *_: [], ("P5",)),
    "a due notice is sent without a second look": (
        "healthd.core.cadence.verdict",
        lambda *_, **__: Send(),
        ("S5", "W2", "W4", "P5"),
    ),
    "what anybody paused is resumed after the repair": (
        "healthd.engine.Engine._after_repair",
        resumes_whatever_is_paused,
        ("S18",),
    ),
    "good news are kept back": ("healthd.store.notices.told", lambda *_: [], ("L5",)),
    "a suspect's time never runs out": ("healthd.store.accounts.next_confirmation", lambda *_: None, ("S2",)),
}
SOONEST = {
    "a suspect's time never runs out": 15,
    "what is repaired is not withdrawn": 10,
    "a due notice is sent without a second look": 19,
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_on_purpose_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, broken, promises = BREAKS[name]
    monkeypatch.setattr(place, broken)
    # Begun with the one that finds it in the least time.
    seeds = dict.fromkeys((SOONEST.get(name, 5), 5, 6, 7, 8, 1, 2, 3, 4))
    reports = (simulate(seed, accounts=60, days=30, trouble=ROUGH) for seed in seeds)
    found = next((report.violation for report in reports if report.violation), "nothing")
    assert found.startswith(promises), found
