"""When somebody may be written to, on the clock of their own zone, and how contacts are written down."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone, tzinfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from healthd.core.contacts import (
    CONTACT_KEY,
    EVERY_DAY,
    Hours,
    format_days,
    format_quiet,
    format_zone,
    parse_days,
    parse_quiet,
    parse_zone,
)

BERLIN, KATHMANDU, NEW_YORK = map(parse_zone, ("Europe/Berlin", "Asia/Kathmandu", "America/New_York"))
NIGHT = parse_quiet("22:00-07:00")
WEEK = parse_days("mon-fri")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        (Hours(), "2026-11-24 03:00", "2026-11-24 03:00"),
        (Hours(quiet=NIGHT), "2026-11-24 12:00", "2026-11-24 12:00"),
        (Hours(quiet=NIGHT), "2026-11-24 21:59:59", "2026-11-24 21:59:59"),
        (Hours(quiet=NIGHT), "2026-11-24 22:00", "2026-11-25 07:00"),
        (Hours(quiet=NIGHT), "2026-11-25 06:59:59", "2026-11-25 07:00"),
        (Hours(quiet=NIGHT), "2026-11-25 07:00", "2026-11-25 07:00"),
        (Hours(quiet=parse_quiet("12:00-13:30")), "2026-11-25 12:00", "2026-11-25 13:30"),
        (Hours(quiet=parse_quiet("12:00-13:30")), "2026-11-25 00:00", "2026-11-25 00:00"),
        # Berlin is an hour ahead of UTC in winter and two in summer.
        (Hours(BERLIN, NIGHT), "2026-11-24 21:00", "2026-11-25 06:00"),
        (Hours(BERLIN, NIGHT), "2026-07-01 20:00", "2026-07-02 05:00"),
        (Hours(KATHMANDU, NIGHT), "2026-11-24 16:15", "2026-11-25 01:15"),
        # From Friday evening to Monday morning.
        (Hours(BERLIN, NIGHT, WEEK), "2026-11-27 21:30", "2026-11-30 06:00"),
        (Hours(days=WEEK), "2026-11-28 09:00", "2026-11-30 00:00"),
        (Hours(NEW_YORK, days=WEEK), "2026-11-28 04:59", "2026-11-28 04:59"),
        (Hours(NEW_YORK, days=WEEK), "2026-11-28 05:00", "2026-11-30 05:00"),
        (Hours(quiet=NIGHT, days=parse_days("sun")), "2026-11-29 22:00", "2026-12-06 07:00"),
        # Quiet over the night in which the clocks change, both ways.
        (Hours(BERLIN, NIGHT), "2027-03-27 22:00", "2027-03-28 05:00"),
        (Hours(BERLIN, NIGHT), "2026-10-24 21:00", "2026-10-25 06:00"),
    ],
)
def test_it_opens_when_quiet_hours_and_days_off_are_over(hours: Hours, now: str, opens: str) -> None:
    assert hours.opens_at(utc(now)) == utc(opens)


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
     "America/St_Johns", "Africa/Casablanca", "Antarctica/Troll"]
).map(parse_zone)  # fmt: skip
TIMES = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
QUIET = st.tuples(TIMES, TIMES).filter(lambda span: span[0] != span[1])
HOURS = st.builds(Hours, ZONES, st.none() | QUIET, st.frozensets(st.integers(0, 6), min_size=1))
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(HOURS, MOMENTS)
@example(Hours(BERLIN, parse_quiet("22:00-02:30")), utc("2027-03-28 00:10"))
def test_nothing_is_sent_in_quiet_hours_or_on_a_day_off(hours: Hours, now: datetime) -> None:
    opens = hours.opens_at(now)
    local = opens.astimezone(hours.zone)
    assert opens >= now
    assert opens.tzinfo is UTC
    assert local.weekday() in hours.days
    if hours.quiet is not None:
        start, end = hours.quiet
        at = local.time()
        assert not (start <= at < end if start < end else at >= start or at < end)


@given(HOURS, MOMENTS)
def test_nothing_waits_longer_than_to_the_end_of_the_quiet_and_the_next_working_day(
    hours: Hours, now: datetime
) -> None:
    """Looked at every quarter of an hour: the first one that is allowed is no earlier than what was said. Nights in
    which clocks change are looked at apart.
    """
    opens = hours.opens_at(now)
    at = now
    while at < opens:
        assume(_offset(at, hours.zone) == _offset(opens, hours.zone))
        assert not hours.allows(at)
        at += timedelta(minutes=15)


def test_the_hour_that_comes_twice_does_not_cost_a_day() -> None:
    second_ten_past_two = utc("2026-10-25 01:10")
    opens = Hours(BERLIN, parse_quiet("22:00-02:30")).opens_at(second_ten_past_two)
    assert opens == utc("2026-10-25 01:30")


def _offset(at: datetime, zone: tzinfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()


@given(HOURS, MOMENTS)
def test_what_is_allowed_is_sent_at_once_and_asking_twice_changes_nothing(hours: Hours, now: datetime) -> None:
    opens = hours.opens_at(now)
    assert (opens == now) is hours.allows(now)
    assert hours.opens_at(opens) == opens


def test_times_of_another_zone_are_understood() -> None:
    now = datetime(2026, 11, 24, 23, 30, tzinfo=timezone(timedelta(hours=2)))
    assert Hours(quiet=NIGHT).allows(now), "it is 21:30 in UTC"


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("", EVERY_DAY),
        ("  ", EVERY_DAY),
        ("mon-sun", EVERY_DAY),
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("Monday - Friday", None),
        ("Monday-Friday", {0, 1, 2, 3, 4}),
        ("mon, wed;sat", {0, 2, 5}),
        ("sat-mon", {5, 6, 0}),
        ("fri", {4}),
        ("mon,wed,sat-sun", {0, 2, 5, 6}),
        ("someday", None),
        ("mon-", {0}),
        ("-mon", None),
        ("1-5", None),
    ],
)
def test_days_are_written_as_people_do(text: str, days: set[int] | None) -> None:
    if days is None:
        with pytest.raises(ValueError, match="write them as mon-fri"):
            parse_days(text)
    else:
        assert parse_days(text) == days


@given(st.frozensets(st.integers(0, 6), min_size=1))
def test_days_are_read_as_they_were_written(days: frozenset[int]) -> None:
    assert parse_days(format_days(days)) == days


@given(st.none() | QUIET)
def test_quiet_hours_are_read_as_they_were_written(quiet: tuple[time, time] | None) -> None:
    assert parse_quiet(format_quiet(quiet)) == quiet


@pytest.mark.parametrize(
    "text", ["22-7", "24:00-07:00", "22:60-07:00", "22:00", "nights", "22:00-07:00 06:00", "٢٢:٠٠-٠٧:٠٠"]
)
def test_quiet_hours_that_cannot_be_read_say_how_to_write_them(text: str) -> None:
    with pytest.raises(ValueError, match="write them as 22:00-07:00"):
        parse_quiet(text)


def test_quiet_for_ever_is_refused() -> None:
    with pytest.raises(ValueError, match="quiet for ever"):
        parse_quiet("07:00-07:00")


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "CET+1", "../../etc/passwd", "/etc/passwd", "Europe", "x\0y", "Europe/" + "x" * 5000]
)
def test_a_zone_that_there_is_not_says_how_to_write_one(name: str) -> None:
    with pytest.raises(ValueError, match="write it as Europe/Berlin"):
        parse_zone(name)


@pytest.mark.parametrize("name", ["", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_zone_is_read_as_it_was_written(name: str) -> None:
    assert format_zone(parse_zone(f" {name} ")) == name


@pytest.mark.parametrize(
    ("key", "good"),
    [("ada", True), ("ada.lovelace+x@acme.example", True), ("7", True), ("Ada", False), ("", False), (".ada", False),
     ("ada lovelace", False), ("a" * 127, True), ("a" * 128, False), ("ada\n", False), ("ädä", False)],
)  # fmt: skip
def test_keys_can_be_written_in_a_route_and_typed(key: str, good: bool) -> None:
    assert bool(CONTACT_KEY.fullmatch(key)) is good
