"""Who is told."""

from __future__ import annotations

import pytest

from healthd.core.model import PLATFORMS, Target, login_family, platform_label
from healthd.core.routing import Route, Routing

ADA, BOB, EVE = Target("mail", "ada@acme.example"), Target("mail", "bob@acme.example"), Target("slack")
DEFAULT = (EVE,)

GOOGLE = Route((ADA,), platform=frozenset({"youtube", "gmb"}))
ONE_ACCOUNT = Route((BOB,), account=frozenset({"7"}))
PROFILE_TOO = Route((ADA, BOB), profile=frozenset({"p"}), stop=False)
WORKSPACE = Route((BOB, EVE), workspace=frozenset({"acme"}))
NOBODY = Route((), platform=frozenset({"discord"}))

CASES: dict[str, tuple[tuple[Route, ...], tuple[str, str, str, str], tuple[Target, ...]]] = {
    "no routes": ((), ("acme", "youtube", "1", ""), DEFAULT),
    "no route matches": ((GOOGLE,), ("acme", "reddit", "1", ""), DEFAULT),
    "one matches": ((GOOGLE,), ("acme", "gmb", "1", ""), (ADA,)),
    "the first that stops ends it": ((ONE_ACCOUNT, GOOGLE), ("acme", "gmb", "7", ""), (BOB,)),
    "one that goes on adds to the next": ((PROFILE_TOO, GOOGLE), ("acme", "gmb", "1", "p"), (ADA, BOB)),
    "each is told once, in the routes' order": ((PROFILE_TOO, WORKSPACE), ("acme", "x", "1", "p"), (ADA, BOB, EVE)),
    "going on to the end does not add the default": ((PROFILE_TOO,), ("b", "x", "1", "p"), (ADA, BOB)),
    "a route to nobody mutes": ((NOBODY,), ("acme", "discord", "1", ""), ()),
    "all matchers of a route must meet": (
        (Route((ADA,), workspace=frozenset({"acme"}), platform=frozenset({"gmb"})),),
        ("other", "gmb", "1", ""),
        DEFAULT,
    ),
    "a route without matchers is for all": ((Route((ADA,)),), ("b", "x", "1", ""), (ADA,)),
}


@pytest.mark.parametrize(("routes", "facts", "told"), CASES.values(), ids=CASES)
def test_the_right_people_are_told(
    routes: tuple[Route, ...], facts: tuple[str, str, str, str], told: tuple[Target, ...]
) -> None:
    assert Routing(routes, DEFAULT).targets(*facts) == told


@pytest.mark.parametrize("target", [ADA, EVE, Target("mail", "odd:address@acme.example")])
def test_a_target_is_written_as_it_is_read(target: Target) -> None:
    assert Target.parse(target.key) == target


def test_one_login_covers_its_family() -> None:
    assert login_family("youtube") == {"youtube", "gmb"}
    assert login_family("instagram") == {"facebook", "instagram"}
    assert login_family("reddit") == {"reddit"}
    assert login_family("brand-new") == {"brand-new"}


def test_platforms_never_heard_of_share_one_label() -> None:
    assert {platform_label(name) for name in ("brand-new", 'x"} 1\n', "")} == {"other"}
    assert [platform_label(name) for name in PLATFORMS] == list(PLATFORMS)
