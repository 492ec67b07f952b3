"""Webhooks about posts: what failed on which platform, whatever else the body holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthd.core.post_failures import PostFailure
from healthd.providers.allowance import Allowance
from healthd.providers.base import Event, UnparsedWebhook
from healthd.providers.smartlyq import SmartlyQ

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AT = datetime(2026, 11, 24, 11, 59, 58, tzinfo=UTC)
ERROR = {"code": "TOKEN_EXPIRED", "message": "The session has expired.", "retryable": False}
FAILED = {"platform": "facebook", "success": False, "error": ERROR}
PUBLISHED = {"platform": "linkedin", "success": True}


@pytest.fixture(scope="module")
def smartlyq() -> SmartlyQ:
    return SmartlyQ(workspace="acme", api_key="sqk_test_acme", allowance=Allowance(1.0, 100), now=lambda: NOW)


def body(*platforms: Any, name: str = "post.failed", **data: Any) -> bytes:
    facts = {"post_id": 4321, "status": "failed", "platforms": list(platforms), **data}
    return orjson.dumps({"id": "evt_1", "event": name, "created_at": "2026-11-24T11:59:58Z", "data": facts})


def failures(smartlyq: SmartlyQ, *platforms: Any, **data: Any) -> tuple[PostFailure, ...]:
    return smartlyq.parse(body(*platforms, **data), NOW).failures


@pytest.mark.parametrize("name", ["post.failed", "post.partial"])
def test_understands_what_failed_where_and_why(smartlyq: SmartlyQ, name: str) -> None:
    failed = PostFailure("4321", "facebook", "TOKEN_EXPIRED", "The session has expired.", False, AT)
    found = smartlyq.parse(body(FAILED, PUBLISHED, name=name, profile_id=128, profile_workspace_id=9), NOW)
    assert found == Event(name, "evt_1", None, "128", (failed,))


def test_several_platforms_are_several_failures_and_of_one_the_first_counts(smartlyq: SmartlyQ) -> None:
    again = {**FAILED, "error": {"code": "LATER"}}
    found = failures(smartlyq, FAILED, {"platform": "tiktok", "success": False}, again)
    assert [(one.platform, one.code) for one in found] == [("facebook", "TOKEN_EXPIRED"), ("tiktok", "")]


STRANGE_ROWS: list[Any] = [
    None, 7, "x", [], {}, PUBLISHED, {"success": False}, {"platform": "facebook"}, {**FAILED, "platform": 7},
    {**FAILED, "platform": ""}, {**FAILED, "success": None}, {**FAILED, "success": 0}, {**FAILED, "success": "false"},
]  # fmt: skip


def test_rows_that_say_nothing_clear_are_left_out_and_the_others_are_read(smartlyq: SmartlyQ) -> None:
    assert [one.platform for one in failures(smartlyq, *STRANGE_ROWS, FAILED)] == ["facebook"]


@pytest.mark.parametrize(
    "data",
    [
        {"post_id": None},
        {"post_id": -1},
        {"post_id": "../1"},
        {"platforms": None},
        {"platforms": {}},
        {"platforms": "x"},
    ],
    ids=str,
)
def test_a_post_that_cannot_be_told_from_others_is_no_evidence(smartlyq: SmartlyQ, data: dict[str, Any]) -> None:
    assert failures(smartlyq, FAILED, **data) == ()


@pytest.mark.parametrize("error", [None, 7, "no", [], {}, {"code": 7, "message": [], "retryable": "no"}], ids=str)
def test_an_error_without_words_is_a_failure_all_the_same(smartlyq: SmartlyQ, error: Any) -> None:
    assert failures(smartlyq, {**FAILED, "error": error}) == (PostFailure("4321", "facebook", "", "", None, AT),)


def test_what_the_platform_said_is_cleaned_cut_and_holds_no_secret(smartlyq: SmartlyQ) -> None:
    said = "No\r\n\u202e: EAABsbCS1iHgBAKZCZCVhZBZAz0 https://graph.example/?token=1 " + "word " * 10_000
    [one] = failures(smartlyq, {**FAILED, "error": {"code": "X\u0000\n" + "y" * 500, "message": said}})
    assert one.message.isprintable()
    assert one.message.startswith("No : … … word")
    assert len(one.message) <= 200
    assert one.code.isprintable()
    assert len(one.code) <= 60


def test_no_webhook_says_more_than_some_dozens_of_failures(smartlyq: SmartlyQ) -> None:
    many = ({**FAILED, "platform": f"platform-{number}"} for number in range(1000))
    assert len(failures(smartlyq, *many)) <= 64


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["platform", "success", "error", "code", "message", "post_id"]), inner)
    ),
    max_leaves=20,
)


@given(data=json, rows=st.lists(json, max_size=5))
def test_whatever_a_body_holds_it_is_read_or_refused_as_unreadable(smartlyq: SmartlyQ, data: Any, rows: Any) -> None:
    for held in (data, {"post_id": 1, "platforms": rows}):
        try:
            found = smartlyq.parse(orjson.dumps({"id": "evt_1", "event": "post.failed", "data": held}), NOW)
        except UnparsedWebhook:
            continue
        assert found.observation is None
        assert all(one.at.tzinfo is not None and one.post.isdecimal() for one in found.failures)
