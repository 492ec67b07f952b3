"""Spans of time: what people may write, and what they read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.duration import in_words, parse_duration

WRITTEN = {
    "90s": timedelta(seconds=90),
    "5m": timedelta(minutes=5),
    "1.5h": timedelta(minutes=90),
    "1h 30m": timedelta(minutes=90),
    "1h30m": timedelta(minutes=90),
    " 7 d ": timedelta(days=7),
    "2w": timedelta(weeks=2),
    "0s": timedelta(0),
}


@pytest.mark.parametrize(("text", "span"), WRITTEN.items())
def test_a_span_is_read_as_it_was_meant(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", " ", "5", "m", "5 minutes", "-5m", "5m,", "1e3s", "٥m", "5M", "5m\x00", "nan s"])
def test_what_is_no_span_is_answered_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 90s, 5m, 6h, 7d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["999999999999w", "9" * 400 + "s"])
def test_a_span_beyond_every_calendar_is_a_mistake_like_any_other(text: str) -> None:
    with pytest.raises(ValueError, match="longer"):
        parse_duration(text)


@given(st.text(max_size=30))
def test_nothing_but_a_value_error_comes_of_odd_text(text: str) -> None:
    try:
        assert parse_duration(text) >= timedelta(0)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - both ends are fine


SAID = {
    timedelta(seconds=-5): "less than a minute",
    timedelta(seconds=59): "less than a minute",
    timedelta(minutes=1): "a minute",
    timedelta(minutes=59, seconds=59): "59 minutes",
    timedelta(hours=1): "an hour",
    timedelta(hours=2, minutes=59): "2 hours",
    timedelta(days=1): "a day",
    timedelta(days=400): "400 days",
}


@pytest.mark.parametrize(("span", "words"), SAID.items())
def test_a_span_is_said_in_its_largest_unit(span: timedelta, words: str) -> None:
    assert in_words(span) == words
