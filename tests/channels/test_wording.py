"""What messages say, whatever the facts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from healthd.channels import ChannelSettings
from healthd.channels.base import LINK, Channel, Notice, TroubleNotice, fill
from healthd.channels.wording import BY_HAND, PLATFORM_NAMES, Tone, Words, moment, quoted, tell
from healthd.core.model import PLATFORMS, Cause, NoticeKind
from healthd.core.text import clean
from healthd.providers.base import Conflict, NotFound, ProviderError, Unauthorized
from tests.channels.samples import (
    BROKEN_AT,
    EVERY_KIND,
    EXPIRING,
    HOSTILE,
    OPENED,
    REAL_LINK,
    REMINDER,
    RESOLVED,
    UNCONFIRMED,
)

CHANNELS: dict[str, dict[str, str]] = {
    "mail": {"type": "email", "host": "localhost", "sender": "healthd@acme.example"},
    "slack": {"type": "slack", "token": "xoxb-1", "channel": "#alerts"},
    "apprise": {"type": "apprise", "url": "json://127.0.0.1"},
}


@pytest.fixture(scope="module", params=CHANNELS)
def channel(request: pytest.FixtureRequest) -> Channel:
    settings: TypeAdapter[ChannelSettings] = TypeAdapter(ChannelSettings)
    opened: Channel = settings.validate_python(CHANNELS[request.param]).open()
    return opened


ABOUT_ACCOUNTS = [kind for kind in NoticeKind if kind not in {NoticeKind.TROUBLE, NoticeKind.TROUBLE_OVER}]


def every_notice(kind: NoticeKind) -> Iterator[Notice]:
    """All that can be known or unknown about an account."""
    for platform, cause, unconfirmed, (link, minutes), username, profile, days in itertools.product(
        (*PLATFORMS, "mastodon"),
        Cause,
        (False, True),
        ((LINK, None), (LINK, 15), (None, None)),
        (None, "acmecoffee"),
        (None, "Café Zoë"),
        (None, -1, 0, 1, 7) if kind is NoticeKind.EXPIRING else (None,),
    ):
        yield replace(
            OPENED,
            kind=kind,
            platform=platform,
            cause=cause,
            unconfirmed=unconfirmed,
            link=link,
            link_minutes=minutes,
            account_username=username,
            profile=profile,
            validity_days=days,
        )


def sentences(words: Words) -> list[str]:
    return [words.happened, words.consequence, words.todo, words.link_note, words.by_hand, words.footer]


@pytest.mark.parametrize("kind", ABOUT_ACCOUNTS)
def test_every_message_is_whole_sentences_whatever_the_facts(kind: NoticeKind) -> None:
    for notice in every_notice(kind):
        words = tell(notice)
        for text in filter(None, sentences(words)):
            assert re.search(r"[.”]$", text), text
        everything = [*sentences(words), words.headline, words.subject, *(fact.value for fact in words.facts)]
        assert not re.search(r"None|[{}]|  | [.,]|@@", "\n".join(everything))
        assert words.headline
        assert words.status
        assert all(fact.value for fact in words.facts)


@pytest.mark.parametrize("kind", ABOUT_ACCOUNTS)
def test_a_link_is_offered_exactly_where_there_is_one_and_the_way_without_it_wherever_a_person_is_asked(
    kind: NoticeKind,
) -> None:
    for notice in every_notice(kind):
        words = tell(notice)
        asks = kind is not NoticeKind.RESOLVED
        assert bool(words.button) is bool(words.link_note) is (asks and notice.link is not None)
        assert (BY_HAND in words.todo + words.by_hand) is asks
        assert ("15 minutes" in words.link_note) is (asks and notice.link_minutes is not None)
        assert ("forward" in words.footer) is bool(words.button)


def test_every_channel_renders_every_message(channel: Channel) -> None:
    """Half of the product would do to find a variable that no template was given."""
    for kind in ABOUT_ACCOUNTS:
        for notice in itertools.islice(every_notice(kind), 0, None, 5):
            content = channel.render(notice)
            assert all(content.values())
            told = "".join(content.values())
            offered = kind is not NoticeKind.RESOLVED and notice.link is not None
            assert (LINK in told) is offered
            assert "http" not in told.replace(LINK, "")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_nothing_of_a_name_becomes_a_link_in_any_channel(channel: Channel, name: str) -> None:
    name = clean(name)
    hostile = replace(OPENED, account_name=name, account_username=name, profile=name, platform=name or "x")
    content = channel.render(hostile)
    harmless = channel.render(OPENED)
    for part, text in content.items():
        filled = fill(text, REAL_LINK)
        assert filled.count(REAL_LINK) == harmless[part].count(LINK), "only our own link, as often as ever"
        assert not re.search(r"\w\.example|\w://(?!healthd\.acme)", filled.replace(REAL_LINK, ""))
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", text)


def test_a_name_of_any_length_leaves_a_subject_that_can_be_read() -> None:
    for name in HOSTILE.values():
        subject = tell(replace(OPENED, account_name=clean(name))).subject
        assert len(subject) < 160
        assert subject.endswith("on Facebook needs to be reconnected")


def test_a_name_cannot_end_its_own_quotes() -> None:
    assert quoted("Acme” is fine. Pay at “evil") == '“Acme" is fine. Pay at "evil”'


def test_a_right_to_left_name_does_not_turn_the_sentence_around() -> None:
    assert quoted("قهوة") == "“\u2068قهوة\u2069”"
    assert quoted("Café 24") == "“Café 24”"


WHO = {
    "name and handle": ("Acme Coffee", "acmecoffee", "“Acme Coffee”, “@acmecoffee”", "“@acmecoffee”"),
    "a handle that has its sign": ("Acme Coffee", "@acmecoffee", "“Acme Coffee”, “@acmecoffee”", "“@acmecoffee”"),
    "a handle that is a name": ("Acme Coffee", "Acme Page", "“Acme Coffee”, “Acme Page”", "“Acme Page”"),
    "a name alone": ("Acme Coffee", None, "“Acme Coffee”", "“Acme Coffee”"),
    "a handle alone": ("", "acmecoffee", "“@acmecoffee”", "“@acmecoffee”"),
    "a name that is the handle": ("acmecoffee", "acmecoffee", "“acmecoffee”", "“@acmecoffee”"),
    "neither": ("", None, "“1042”", "“1042”"),
}


@pytest.mark.parametrize(("name", "username", "fact", "choose"), WHO.values(), ids=WHO)
def test_the_reader_is_told_which_account_to_choose(name: str, username: str | None, fact: str, choose: str) -> None:
    words = tell(replace(OPENED, account_name=name, account_username=username))
    assert words.facts[0].value == fact
    assert f"choose {choose} when asked." in words.todo


def test_every_platform_that_we_know_has_the_name_that_people_call_it() -> None:
    assert set(PLATFORM_NAMES) == set(PLATFORMS)


def test_a_platform_that_is_new_to_us_keeps_the_providers_name_for_it() -> None:
    assert "on mastodon needs" in tell(replace(OPENED, platform="mastodon")).headline


HEADLINES = {
    "opened": (OPENED, "needs to be reconnected", Tone.BROKEN, "Disconnected"),
    "unconfirmed": (UNCONFIRMED, "may need to be reconnected", Tone.SOON, "Not confirmed yet"),
    "reminder": (REMINDER, "has been disconnected for 3 days", Tone.BROKEN, "Reminder"),
    "unconfirmed reminder": (
        replace(REMINDER, unconfirmed=True), "may have been disconnected for 3 days", Tone.SOON, "Reminder",
    ),
    "resolved": (RESOLVED, "is connected again", Tone.FIXED, "Fixed"),
    "resolved, never confirmed": (replace(RESOLVED, unconfirmed=True), "is connected", Tone.FIXED, "Fixed"),
    "ends in 5 days": (EXPIRING, "needs to be renewed within 5 days", Tone.SOON, "5 days left"),
    "ends tomorrow": (replace(EXPIRING, validity_days=1), "needs to be renewed by tomorrow", Tone.SOON, "1 day left"),
    "ends today": (replace(EXPIRING, validity_days=0), "needs to be renewed today", Tone.SOON, "Ends today"),
    "has ended": (replace(EXPIRING, validity_days=-3), "needs to be renewed today", Tone.SOON, "Ends today"),
    "ends some day": (replace(EXPIRING, validity_days=None), "needs to be renewed soon", Tone.SOON, "Ends soon"),
}  # fmt: skip


@pytest.mark.parametrize(("notice", "ending", "tone", "status"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_says_what_is_the_matter(notice: Notice, ending: str, tone: Tone, status: str) -> None:
    words = tell(notice)
    assert words.headline == f"“Acme Coffee” on Facebook {ending}"
    assert (words.tone, words.status) == (tone, status)


def test_what_could_not_be_checked_is_not_claimed() -> None:
    words = tell(UNCONFIRMED)
    assert "could not check it ourselves" in words.happened
    assert "keep failing" not in words.consequence
    assert "It was disconnected" not in tell(replace(RESOLVED, unconfirmed=True)).happened


def test_the_good_news_says_how_long_it_took_and_what_is_left_to_do() -> None:
    words = tell(RESOLVED)
    assert words.happened == "It was disconnected for 5 hours, and works now."
    assert "published again" in words.consequence


def test_a_span_that_our_clocks_disagree_on_is_never_negative() -> None:
    early = replace(RESOLVED, resolved_at=BROKEN_AT - timedelta(minutes=3))
    assert "for less than a minute" in tell(early).happened


def test_moments_are_said_with_their_zone() -> None:
    assert moment(BROKEN_AT) == "23 Nov 2026, 14:05 UTC"


@pytest.mark.parametrize("notice", EVERY_KIND.values(), ids=EVERY_KIND)
def test_a_message_says_why_its_reader_gets_it(notice: Any) -> None:
    assert "a contact for the workspace “acme”" in tell(notice).footer
    assert asdict(tell(notice))["facts"][2]["value"] == "acme"


TROUBLE = TroubleNotice(
    id="d" * 24, kind=NoticeKind.TROUBLE, target=OPENED.target, workspace="acme", trouble="unauthorized", question="",
    what="HTTP 401 INVALID_API_KEY", remedy=Unauthorized.remedy, since=BROKEN_AT, created_at=BROKEN_AT,
    request_id="req_1",
)  # fmt: skip
OVER = replace(TROUBLE, id="e" * 24, kind=NoticeKind.TROUBLE_OVER, ended_at=BROKEN_AT + timedelta(hours=2))
KINDS = {kind.kind for kind in ProviderError.__subclasses__()} - {NotFound.kind, Conflict.kind}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_trouble_with_an_api_has_words_of_its_own(kind: str) -> None:
    words = tell(replace(TROUBLE, trouble=kind))
    assert "cannot be used" not in words.headline
    assert words.todo == TROUBLE.remedy
    assert "settings" in words.footer


@pytest.mark.parametrize("notice", [TROUBLE, OVER], ids=lambda notice: str(notice.kind))
def test_every_channel_tells_an_operator_what_to_do_and_offers_no_link(channel: Channel, notice: TroubleNotice) -> None:
    told = "".join(channel.render(notice).values())
    assert LINK not in told
    assert "acme" in told
    assert (Unauthorized.remedy[:20] in told) is (notice.ended_at is None)
    assert ("2 hours" in told) is (notice.ended_at is not None)
