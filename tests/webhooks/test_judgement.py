"""Which webhook is ours, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from healthd.providers.base import Subscription, Subscriptions, SubscriptionStatus
from healthd.self_care import READ_BACK, REMEDIES, WANTED, Problem, is_callable, judge, offered

URL = "https://healthd.example.com/webhooks/acme"
GOOD = Subscription("1", URL, WANTED, SubscriptionStatus.ACTIVE)


def found(*rows: Subscription, catalogue: frozenset[str] = frozenset(WANTED)) -> Subscriptions:
    return Subscriptions(rows, catalogue)


ELSEWHERE = replace(GOOD, url="https://staging.example.com/webhooks/acme")
ANOTHERS = replace(GOOD, ref="7", url="https://shop.example.com/hook")
JUDGED: dict[str, tuple[Subscriptions, Problem | None]] = {
    "none at all": (found(), Problem.MISSING),
    "another's alone": (found(ANOTHERS), Problem.MISSING),
    "ours": (found(ANOTHERS, GOOD), None),
    "ours, written otherwise": (found(replace(GOOD, url="https://HEALTHD.example.com:443/webhooks/acme/")), None),
    "another workspace's of ours": (found(replace(GOOD, url=f"{URL}2")), Problem.MISSING),
    "one with a query": (found(replace(GOOD, url=f"{URL}?x=1")), Problem.MISSING),
    "one over plain http": (found(replace(GOOD, url=URL.replace("https", "http"))), Problem.WRONG_URL),
    "our path elsewhere": (found(ELSEWHERE), Problem.WRONG_URL),
    "ours, and our path elsewhere": (found(ELSEWHERE, GOOD), None),
    "one that lacks an event": (found(replace(GOOD, events=WANTED[1:])), Problem.WRONG_EVENTS),
    "one with more events": (found(replace(GOOD, events=(*WANTED, "post.published"))), None),
    "a stopped one": (found(replace(GOOD, status=SubscriptionStatus.FAILING)), Problem.FAILING),
    "a paused one": (found(replace(GOOD, status=SubscriptionStatus.PAUSED)), Problem.PAUSED),
    "a status that nobody knows": (found(replace(GOOD, status=SubscriptionStatus.UNKNOWN)), None),
    "two": (found(GOOD, replace(GOOD, ref="2")), Problem.SEVERAL),
    "two, one of them stopped": (
        found(GOOD, replace(GOOD, ref="2", status=SubscriptionStatus.FAILING)),
        Problem.SEVERAL,
    ),
    "two that are stopped": (
        found(*(replace(GOOD, ref=ref, status=SubscriptionStatus.FAILING) for ref in "12")),
        Problem.FAILING,
    ),
    "an address that is none": (found(replace(GOOD, url="https://[::1/webhooks/acme")), Problem.MISSING),
}


@pytest.mark.parametrize("name", JUDGED)
def test_what_is_wrong(name: str) -> None:
    rows, problem = JUDGED[name]
    verdict = judge(rows, URL)
    assert verdict.problem is problem
    assert bool(verdict.said) == (problem is not None)


def test_what_the_provider_does_not_offer_is_not_lacking() -> None:
    catalogue = frozenset({"account.token_expired", "post.published"})
    rows = found(replace(GOOD, events=("account.token_expired",)), catalogue=catalogue)
    assert judge(rows, URL).problem is None
    assert offered(rows) == ("account.token_expired",)
    assert offered(found(catalogue=frozenset())) == WANTED


def test_every_problem_has_a_remedy_and_the_log_is_read_for_what_is_wanted() -> None:
    assert REMEDIES.keys() == set(Problem)
    assert set(READ_BACK) <= set(WANTED)


SMARTLYQ, SANDBOX = "https://api.smartlyq.com/v1", "http://127.0.0.1:8090/v1"


@pytest.mark.parametrize(
    ("public", "base", "can"),
    [
        ("https://healthd.example.com", SMARTLYQ, True),
        ("https://8.8.8.8", SMARTLYQ, True),
        ("http://127.0.0.1:8080", SMARTLYQ, False),
        ("https://10.0.0.7", SMARTLYQ, False),
        ("https://localhost", SMARTLYQ, False),
        ("https://healthd.localhost", SMARTLYQ, False),
        ("http://127.0.0.1:8080", SANDBOX, True),
    ],
)
def test_only_a_public_address_can_be_called_but_by_a_sandbox_on_this_machine(
    public: str, base: str, can: bool
) -> None:
    assert is_callable(public, base) is can
