"""Who is told, and who next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.contacts import Contact
from healthd.core.model import PLATFORMS, Target, family_of, login_family, platform_label
from healthd.core.routing import Level, Owners, Recipient, Route, Routed, Routing, Step, references

ADA, BOB, EVE = Target("mail", "ada@acme.example"), Target("mail", "bob@acme.example"), Target("slack")
DEFAULT = (EVE,)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AT_ONCE = timedelta(0)

GOOGLE = Route((ADA,), platform=frozenset({"youtube", "gmb"}))
ONE_ACCOUNT = Route((BOB,), account=frozenset({"7"}))
PROFILE_TOO = Route((ADA, BOB), profile=frozenset({"p"}), stop=False)
WORKSPACE = Route((BOB, EVE), workspace=frozenset({"acme"}))
NOBODY = Route((), platform=frozenset({"discord"}))
GOLD = Route((ADA,), labels=(("tier", "gold"), ("brand", "rocket")))


def asked(workspace: str = "acme", platform: str = "x", account: str = "1", profile: str = "", **labels: str) -> Routed:
    return Routed(workspace, platform, account, profile, labels)


CASES: dict[str, tuple[tuple[Route, ...], Routed, tuple[Target, ...]]] = {
    "no routes": ((), asked(), DEFAULT),
    "no route matches": ((GOOGLE,), asked(platform="reddit"), DEFAULT),
    "one matches": ((GOOGLE,), asked(platform="gmb"), (ADA,)),
    "the first that stops ends it": ((ONE_ACCOUNT, GOOGLE), asked(platform="gmb", account="7"), (BOB,)),
    "one that goes on adds to the next": ((PROFILE_TOO, GOOGLE), asked(platform="gmb", profile="p"), (ADA, BOB)),
    "each is told once, in the routes' order": ((PROFILE_TOO, WORKSPACE), asked(profile="p"), (ADA, BOB, EVE)),
    "going on to the end does not add the default": ((PROFILE_TOO,), asked("b", profile="p"), (ADA, BOB)),
    "a route to nobody mutes": ((NOBODY,), asked(platform="discord"), ()),
    "all matchers of a route must meet": (
        (Route((ADA,), workspace=frozenset({"acme"}), platform=frozenset({"gmb"})),),
        asked("other", platform="gmb"),
        DEFAULT,
    ),
    "a route without matchers is for all": ((Route((ADA,)),), asked("b"), (ADA,)),
    "labels match": ((GOLD,), asked(tier="gold", brand="rocket", country="de"), (ADA,)),
    "every label must match": ((GOLD,), asked(tier="gold"), DEFAULT),
    "a label of another value does not match": ((GOLD,), asked(tier="gold", brand="anvil"), DEFAULT),
}


@pytest.mark.parametrize(("routes", "account", "told"), CASES.values(), ids=CASES)
def test_the_right_people_are_told(routes: tuple[Route, ...], account: Routed, told: tuple[Target, ...]) -> None:
    plan = Routing(routes, DEFAULT).plan(account, {})
    assert tuple(one.target for level in plan for one in level.recipients) == told
    assert [level.after for level in plan] == ([AT_ONCE] if told else [])


def contact(key: str, *addresses: Target) -> Contact:
    return Contact(key, key.title(), addresses)


PEOPLE: Mapping[str, Contact] = {
    "ada": contact("ada", ADA, Target("slack", "#ada")),
    "bob": contact("bob", BOB),
    "eve": contact("eve", Target("slack", "#eve")),
}
CHAIN = Owners((("ada",), ("bob", "eve")))


def names(plan: tuple[Level, ...]) -> list[tuple[timedelta, list[str]]]:
    return [(level.after, [one.target.key for one in level.recipients]) for level in plan]


def test_a_contact_is_told_at_all_of_its_addresses_and_under_its_name() -> None:
    [level] = Routing((Route((Target("@ada"), BOB)),)).plan(asked(), PEOPLE)
    assert level.recipients == (Recipient(ADA, "ada"), Recipient(Target("slack", "#ada"), "ada"), Recipient(BOB))
    assert level.why == "route 1"


def test_where_no_route_matches_the_owners_are_told_and_the_default_after_the_last_of_them() -> None:
    plan = Routing((GOOGLE,), DEFAULT, escalate_after=DAY).plan(asked(), PEOPLE, CHAIN)
    assert names(plan) == [
        (AT_ONCE, ["mail:ada@acme.example", "slack:#ada"]),
        (DAY, ["mail:bob@acme.example", "slack:#eve"]),
        (2 * DAY, ["slack"]),
    ]
    assert [level.why for level in plan] == [
        "owner on record, level 1",
        "owner on record, level 2",
        "the default recipients",
    ]


def test_a_level_may_have_a_time_of_its_own_and_the_next_count_from_it() -> None:
    chain = Owners((("ada",), ("bob",), ("eve",)), (None, HOUR), "owners of workspace acme")
    plan = Routing((), DEFAULT, escalate_after=DAY).plan(asked(), PEOPLE, chain)
    assert [level.after for level in plan] == [AT_ONCE, HOUR, HOUR + DAY, HOUR + 2 * DAY]
    assert plan[0].why == "owners of workspace acme, level 1"


def test_a_route_that_matches_leaves_the_owners_out() -> None:
    plan = Routing((Route((EVE,)),), DEFAULT).plan(asked(), PEOPLE, CHAIN)
    assert names(plan) == [(AT_ONCE, ["slack"])]


def test_a_route_may_name_the_owners_among_others() -> None:
    plan = Routing((Route((EVE, Target("@owner"))),), escalate_after=DAY).plan(asked(), PEOPLE, CHAIN)
    assert names(plan) == [
        (AT_ONCE, ["slack", "mail:ada@acme.example", "slack:#ada"]),
        (DAY, ["mail:bob@acme.example", "slack:#eve"]),
    ]
    assert plan[0].why.endswith("route 1: owner on record, level 1")
    assert plan[1].why == "route 1: owner on record, level 2"


def test_a_route_s_steps_come_one_after_the_other() -> None:
    route = Route((ADA,), then=(Step((BOB,), HOUR), Step((EVE,), DAY)))
    assert names(Routing((route,)).plan(asked(), {})) == [
        (AT_ONCE, ["mail:ada@acme.example"]),
        (HOUR, ["mail:bob@acme.example"]),
        (DAY, ["slack"]),
    ]


def test_owners_in_a_later_step_wait_for_it() -> None:
    route = Route((EVE,), then=(Step((Target("@owner"),), HOUR),))
    plan = Routing((route,), escalate_after=DAY).plan(asked(), PEOPLE, CHAIN)
    assert [level.after for level in plan] == [AT_ONCE, HOUR, HOUR + DAY]


def test_nobody_is_told_twice_and_everybody_at_their_earliest() -> None:
    first = Route((ADA,), then=(Step((BOB,), DAY),), stop=False)
    second = Route((EVE,), then=(Step((ADA, BOB), HOUR),))
    assert names(Routing((first, second)).plan(asked(), {})) == [
        (AT_ONCE, ["mail:ada@acme.example", "slack"]),
        (HOUR, ["mail:bob@acme.example"]),
    ]


def test_who_can_be_reached_first_is_told_at_once() -> None:
    gone = Owners((("gone",), ("bob",)))
    assert names(Routing((), DEFAULT, escalate_after=DAY).plan(asked(), PEOPLE, gone)) == [
        (AT_ONCE, ["mail:bob@acme.example"]),
        (DAY, ["slack"]),
    ]


@pytest.mark.parametrize("owners", [Owners(), Owners((("gone",),)), Owners(((),))])
def test_where_no_owner_can_be_reached_the_default_is_told_at_once(owners: Owners) -> None:
    assert names(Routing((), DEFAULT).plan(asked(), PEOPLE, owners)) == [(AT_ONCE, ["slack"])]


def test_where_nobody_is_configured_nobody_is_told() -> None:
    assert Routing().plan(asked(), PEOPLE) == ()


def test_contacts_that_are_named_are_known_before_they_are_needed() -> None:
    assert list(references([ADA, Target("@ada"), Target("@owner"), Target("@bob")])) == ["ada", "bob"]


TARGETS = st.sampled_from([ADA, BOB, EVE, Target("@ada"), Target("@bob"), Target("@gone"), Target("@owner")])
AFTERS = st.integers(0, 5).map(lambda hours: hours * HOUR)
ROUTES = st.builds(
    Route,
    st.lists(TARGETS, max_size=3).map(tuple),
    platform=st.sampled_from([frozenset(), frozenset({"x"}), frozenset({"y"})]),
    then=st.lists(st.builds(Step, st.lists(TARGETS, max_size=2).map(tuple), AFTERS), max_size=3).map(tuple),
    stop=st.booleans(),
)
KEYS = st.sampled_from(["ada", "bob", "eve", "gone"])
OWNERS = st.builds(
    Owners,
    st.lists(st.lists(KEYS, max_size=2).map(tuple), max_size=4).map(tuple),
    st.lists(st.none() | AFTERS, max_size=4).map(tuple),
)


@given(st.lists(ROUTES, max_size=4), OWNERS, st.lists(TARGETS.filter(lambda one: one.key != "@owner"), max_size=2))
def test_any_plan_begins_at_once_goes_on_and_tells_everybody_once(
    routes: list[Route], owners: Owners, default: list[Target]
) -> None:
    plan = Routing(tuple(routes), tuple(default)).plan(asked(), PEOPLE, owners)
    told = [one.target for level in plan for one in level.recipients]
    assert len(told) == len(set(told))
    assert not [target for target in told if target.channel.startswith("@")]
    assert all(level.recipients for level in plan)
    afters = [level.after for level in plan]
    assert afters == sorted(set(afters))
    assert not afters or afters[0] == AT_ONCE
    assert all(level.why for level in plan)


@pytest.mark.parametrize("target", [ADA, EVE, Target("mail", "odd:address@acme.example"), Target("@ada")])
def test_a_target_is_written_as_it_is_read(target: Target) -> None:
    assert Target.parse(target.key) == target


def test_one_login_covers_its_family() -> None:
    assert login_family("youtube") == {"youtube", "gmb"}
    assert login_family("instagram") == {"facebook", "instagram"}
    assert login_family("reddit") == {"reddit"}
    assert login_family("brand-new") == {"brand-new"}
    assert family_of("gmb") == family_of("youtube") != family_of("facebook")
    assert family_of("brand-new") == "brand-new"


def test_platforms_never_heard_of_share_one_label() -> None:
    assert {platform_label(name) for name in ("brand-new", 'x"} 1\n', "")} == {"other"}
    assert [platform_label(name) for name in PLATFORMS] == list(PLATFORMS)
