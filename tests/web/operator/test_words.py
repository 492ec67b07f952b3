"""What the pages say of messages and addresses, without a daemon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from healthd.channels import anything_else, slack
from healthd.channels.base import LINK, Content
from healthd.channels.examples import Example, examples
from healthd.channels.wording import Wording
from healthd.core.masking import Mask
from healthd.core.model import NoticeKind, NoticeStatus, State, Target
from healthd.store.notices import StoredNotice
from healthd.web.operator.overview import Tile
from healthd.web.operator.parts import LEFT_OUT, NoticePage
from healthd.web.operator.words import ago, name, whose

NOW = datetime(2026, 11, 24, 14, 2, tzinfo=UTC)
MESSAGES = list(examples("en"))


def sent(content: Content) -> NoticePage:
    notice = StoredNotice(
        id="1", subject="s", incident_id=None, account_id=None, trouble_id=None, storm_id=None, kind=NoticeKind.OPENED,
        step=0, level=0, target=Target("chat"), contact="", family="", why="", status=NoticeStatus.SENT, reason=None,
        hold=None, created_at=NOW, due_at=NOW, attempts=1, content=content, receipt=None, rendered_at=NOW, sent_at=NOW,
    )  # fmt: skip
    return NoticePage(notice, notice, None)


@pytest.mark.parametrize("shown", MESSAGES, ids=[one.slug for one in MESSAGES])
def test_a_message_in_slack_is_shown_as_its_text_without_its_link(shown: Example) -> None:
    message = shown.message
    content = slack.rendered(Wording(), message, interactive=True)
    parts = dict(sent(content).texts())
    assert LINK not in "".join(parts.values())
    assert '"type"' not in parts["In Slack"]
    if message.link is not None and message.kind is NoticeKind.OPENED:
        assert "[ " in parts["In Slack"], "its buttons are shown"


def test_a_link_in_a_message_is_said_to_be_left_out() -> None:
    message = next(one.message for one in MESSAGES if one.message.link is not None)
    parts = dict(sent(anything_else.rendered(Wording(), message)).texts())
    assert LEFT_OUT in parts["Body"]
    assert LINK not in parts["Body"]


@pytest.mark.parametrize(
    ("contact", "target", "called", "said"),
    [
        ("ada", "mail:ada@acme.example", "Ada", "Ada"),
        ("ada@acme.example", "mail:ada@acme.example", "", "a…@acme.example"),
        ("", "mail:ada@acme.example", "", "a…@acme.example"),
        ("", "sms:+4930123456", "", "+…"),
        ("", "team-slack", "", "team-slack"),
    ],
)
def test_a_viewer_is_told_who_without_their_address(contact: str, target: str, called: str, said: str) -> None:
    assert whose(contact, Target.parse(target), Mask(["mail", "sms"]).text, called) == said


def test_a_name_is_isolated_and_shortened_and_its_whole_stands_in_its_title() -> None:
    assert name("<b>\u202e") == "<bdi>&lt;b&gt;\u202e</bdi>"
    long = "x" * 81
    assert name(long) == f'<bdi title="{long}">{"x" * 79}…</bdi>'


@pytest.mark.parametrize(
    ("minutes", "said"), [(0, "just now"), (-0.5, "in less than a minute"), (61, "an hour ago"), (-2880, "in 2 days")]
)
def test_spans_are_said_both_ways(minutes: float, said: str) -> None:
    assert ago(NOW - timedelta(minutes=minutes), NOW) == said


def test_one_broken_account_of_a_million_is_seen_in_the_bar() -> None:
    states = dict.fromkeys(State, 0) | {State.HEALTHY: 999_999, State.EXPIRED: 1}
    healthy, expired = Tile("facebook", states, 0, (0,) * 14).segments()
    assert expired[2] > 1
    assert healthy[2] + expired[2] == pytest.approx(100)
    assert expired[1] == pytest.approx(healthy[2])
