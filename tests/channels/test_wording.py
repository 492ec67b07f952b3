"""What messages say, whatever the facts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter

from healthd.channels import ChannelSettings
from healthd.channels.base import LINK, Channel, Message, Notice, Reader, StormNotice, TroubleNotice, fill
from healthd.channels.platforms import LOOKS
from healthd.channels.sentences import LANGUAGES
from healthd.channels.wording import BY_HAND, MOST_PLATFORMS, OUTCOMES, ROWS, SHORT_ROWS, Tone, Words, plain, tell
from healthd.core import storm
from healthd.core.model import FOR_OPERATORS, PLATFORMS, Cause, NoticeKind
from healthd.core.storm import StormFacts, StormPolicy
from healthd.core.text import clean
from healthd.providers.base import Conflict, NotFound, ProviderError, Unauthorized
from tests.channels.samples import (
    ACCOUNT,
    BESIDE,
    BROKEN_AT,
    CHRONIC,
    ESCALATED,
    EVERY_KIND,
    EXPIRING,
    HOSTILE,
    OPENED,
    OVER,
    REAL_LINK,
    REMINDER,
    RESOLVED,
    STORM,
    STORM_OVER,
    TROUBLE,
    UNCONFIRMED,
    WRONG_ACCOUNT,
    about,
    of_all,
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


ABOUT_ACCOUNTS = [kind for kind in NoticeKind if kind not in {*FOR_OPERATORS, NoticeKind.EVENT}]
EVERY_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


def read_in(language: str, message: Message) -> Any:
    return replace(message, reader=Reader("Ada Lovelace", language))


def every_notice(kind: NoticeKind, language: str = "en") -> Iterator[Notice]:
    """All that can be known or unknown about accounts."""
    for platform, cause, unconfirmed, (link, minutes), username, profile, days, more in itertools.product(
        ("facebook", "gmb", "mastodon"),
        Cause,
        (False, True),
        ((LINK, None), (LINK, 15), (None, None)),
        (None, "acmecoffee"),
        (None, "Café Zoë"),
        (None, -1, 0, 1, 7) if kind is NoticeKind.EXPIRING else (None,),
        ((), (BESIDE,), (BESIDE, replace(BESIDE, unconfirmed=True))),
    ):
        yield replace(
            OPENED,
            kind=kind,
            accounts=(
                replace(
                    ACCOUNT, platform=platform, cause=cause, unconfirmed=unconfirmed, username=username,
                    profile=profile, validity_days=days,
                ),
                *more,
            ),
            link=link,
            link_minutes=minutes,
            also_told=("Grace Hopper", "team-slack")[: len(more)],
            left=len(more),
            reader=Reader("Ada" if username else "", language),
            created_at=BROKEN_AT + timedelta(minutes=37),
        )  # fmt: skip


def sentences(words: Words) -> list[str]:
    return [words.happened, words.consequence, words.todo, words.link_note, words.by_hand, words.footer, *words.advice]


@EVERY_LANGUAGE
@pytest.mark.parametrize("kind", ABOUT_ACCOUNTS)
def test_every_message_is_whole_sentences_whatever_the_facts(kind: NoticeKind, language: str) -> None:
    for notice in itertools.islice(every_notice(kind, language), 0, None, 7 if language == "en" else 23):
        words = tell(notice)
        for text in filter(None, sentences(words)):
            assert re.search(r"[.”。」:：]$", text), text
        everything = [*sentences(words), words.headline, words.subject, words.greeting]
        everything += [fact.value for fact in words.facts] + [note for row in words.rows for note in row.notes]
        assert not re.search(r"None|[{}]|  | [.,]|@@|。 ", "\n".join(everything))
        assert words.headline
        assert words.status
        assert words.language == language
        assert all(fact.value for fact in words.facts)


@EVERY_LANGUAGE
@pytest.mark.parametrize("kind", ABOUT_ACCOUNTS)
def test_a_link_is_offered_exactly_where_there_is_one_and_the_way_without_it_wherever_a_person_is_asked(
    kind: NoticeKind, language: str
) -> None:
    personal = plain().library.book(language).say("footer_personal", {})
    for notice in itertools.islice(every_notice(kind, language), 0, None, 7 if language == "en" else 23):
        words = tell(notice)
        asks = kind is not NoticeKind.RESOLVED
        assert bool(words.button) is bool(words.link_note) is (asks and notice.link is not None)
        assert (BY_HAND in words.todo + words.by_hand) is asks
        assert ("15" in words.link_note) is (asks and notice.link_minutes is not None)
        assert words.footer.endswith(personal) is bool(words.button)


def test_where_no_way_by_hand_is_known_none_is_invented() -> None:
    for link in (LINK, None):
        words = tell(replace(OPENED, by_hand="", link=link))
        assert "smartlyq" not in str(words)
        assert words.by_hand == ""
        assert "“@acmecoffee”" in words.todo


def test_every_channel_renders_every_message(channel: Channel) -> None:
    """A part of the product does to find a variable that no template was given."""
    for kind, language in zip(ABOUT_ACCOUNTS, itertools.cycle(LANGUAGES), strict=False):
        for notice in itertools.islice(every_notice(kind, language), 0, None, 29):
            content = channel.render(notice)
            assert all(content.values())
            told = "".join(content.values())
            offered = kind is not NoticeKind.RESOLVED and notice.link is not None
            assert (LINK in told) is offered
            assert "http" not in told.replace(LINK, "")


@EVERY_LANGUAGE
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_nothing_of_a_name_becomes_a_link_in_any_channel(channel: Channel, name: str, language: str) -> None:
    """Of one account, of several, of whoever else was told, and of the reader."""
    name = clean(name)
    for notice in (OPENED, of_all(REMINDER, BESIDE), WRONG_ACCOUNT):
        harmless = replace(notice, also_told=("Grace",), reader=Reader("Ada", language))
        facts = {"name": name, "username": name, "profile": name, "platform": name or "x"}
        hostile = replace(about(harmless, **facts), also_told=(name,) if name else (), reader=Reader(name, language))
        usual = channel.render(about(harmless, platform="mastodon"))
        for part, text in channel.render(hostile).items():
            filled = fill(text, REAL_LINK)
            assert filled.count(REAL_LINK) == usual[part].count(LINK), "only our own link, as often as ever"
            assert not re.search(r"\w\.example|\w://(?!healthd\.acme)", filled.replace(REAL_LINK, ""))
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", text)


@EVERY_LANGUAGE
def test_a_name_of_any_length_leaves_a_subject_that_can_be_read(language: str) -> None:
    ours = len(tell(read_in(language, about(OPENED, name="x"))).subject)
    for name in HOSTILE.values():
        subject = tell(read_in(language, about(OPENED, name=clean(name)))).subject
        assert len(subject) < ours + 90
        assert "Facebook" in subject


QUOTES = {"en": "“”", "de": "„“", "es": "«»", "fr": "«\u00a0\u00a0»", "pt": "“”", "ja": "「」"}


@EVERY_LANGUAGE
def test_a_name_cannot_end_its_own_quotes(language: str) -> None:
    book, marks = plain().library.book(language), QUOTES[language]
    first, last = marks[: len(marks) // 2], marks[len(marks) // 2 :]
    closing = last.strip("\u00a0")
    assert book.quoted(f"Acme{closing} is fine. Pay at “evil") == f'{first}Acme" is fine. Pay at "evil{last}'


def test_a_right_to_left_name_does_not_turn_the_sentence_around() -> None:
    quoted = plain().library.book("en").quoted
    assert quoted("قهوة") == "“\u2068قهوة\u2069”"
    assert quoted("Café 24") == "“Café 24”"
    assert tell(about(OPENED, name="قهوة")).rows[0].name == "\u2068قهوة\u2069"


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
    words = tell(about(OPENED, name=name, username=username))
    assert words.facts[0].value == fact
    assert f"choose {choose} when asked." in words.todo


def test_every_platform_that_we_know_has_the_name_that_people_call_it() -> None:
    assert set(LOOKS) == set(PLATFORMS)


def test_a_platform_that_is_new_to_us_keeps_the_providers_name_for_it() -> None:
    assert "on mastodon needs" in tell(about(OPENED, platform="mastodon")).headline
    assert not tell(about(OPENED, platform="mastodon")).advice


def luminance(colour: str) -> float:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("platform", [*PLATFORMS, "mastodon"])
@pytest.mark.parametrize("card", ["#f4f6f9", "#fdfdfe", "#1d2229", "#262c35"])
def test_the_colour_of_a_platform_stands_out_from_light_and_from_dark(platform: str, card: str) -> None:
    lighter, darker = sorted((luminance(tell(about(OPENED, platform=platform)).rows[0].colour), luminance(card)))[::-1]
    assert (lighter + 0.05) / (darker + 0.05) >= 2.7


@EVERY_LANGUAGE
@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_platform_has_advice_of_its_own_in_each_language(platform: str, language: str) -> None:
    [advice] = tell(read_in(language, about(OPENED, platform=platform))).advice
    assert LOOKS[platform].name.split(" ")[0] in advice


HEADLINES = {
    "opened": (OPENED, "needs to be reconnected", Tone.BROKEN, "Disconnected"),
    "unconfirmed": (UNCONFIRMED, "may need to be reconnected", Tone.SOON, "Not confirmed yet"),
    "reminder": (REMINDER, "has been disconnected for 3 days", Tone.BROKEN, "Reminder"),
    "unconfirmed reminder": (
        about(REMINDER, unconfirmed=True), "may have been disconnected for 3 days", Tone.SOON, "Reminder",
    ),
    "resolved": (RESOLVED, "is connected again", Tone.FIXED, "Fixed"),
    "resolved, never confirmed": (about(RESOLVED, unconfirmed=True), "is connected", Tone.FIXED, "Fixed"),
    "escalated": (
        ESCALATED, "is still disconnected, and nobody has repaired it", Tone.BROKEN, "Needs your help",
    ),
    "ends in 5 days": (EXPIRING, "needs to be renewed within 5 days", Tone.SOON, "5 days left"),
    "ends tomorrow": (about(EXPIRING, validity_days=1), "needs to be renewed by tomorrow", Tone.SOON, "1 day left"),
    "ends today": (about(EXPIRING, validity_days=0), "needs to be renewed today", Tone.SOON, "Ends today"),
    "has ended": (about(EXPIRING, validity_days=-3), "needs to be renewed today", Tone.SOON, "Ends today"),
    "ends some day": (about(EXPIRING, validity_days=None), "needs to be renewed soon", Tone.SOON, "Ends soon"),
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
    assert "It was disconnected" not in tell(about(RESOLVED, unconfirmed=True)).happened


def test_the_good_news_says_how_long_it_took_and_what_is_left_to_do() -> None:
    words = tell(RESOLVED)
    assert words.happened == "It was disconnected for 5 hours, and works now."
    assert "published again" in words.consequence


def test_a_span_that_our_clocks_disagree_on_is_never_negative() -> None:
    early = about(RESOLVED, resolved_at=BROKEN_AT - timedelta(minutes=3))
    assert "for less than a minute" in tell(early).happened


def test_moments_are_said_on_the_readers_clock_and_with_its_name() -> None:
    said = {
        ("en", "UTC"): "23 Nov 2026, 14:05\u00a0UTC",
        ("en", "America/New_York"): "23 Nov 2026, 09:05\u00a0EST",
        ("de", "Europe/Berlin"): "23. Nov. 2026, 15:05\u00a0CET",
        ("pt", "America/Sao_Paulo"): "23 de nov. de 2026, 11:05\u00a0UTC−3",
        ("fr", "Asia/Kathmandu"): "23 nov. 2026 à 19:50\u00a0UTC+5:45",
        ("ja", "Asia/Tokyo"): "2026年11月23日 23:05\u00a0JST",
    }
    for (language, zone), moment in said.items():
        fact = tell(replace(OPENED, reader=Reader("", language, ZoneInfo(zone)))).facts[-1]
        assert (fact.value, fact.at) == (moment, BROKEN_AT)


@pytest.mark.parametrize("notice", EVERY_KIND.values(), ids=EVERY_KIND)
def test_a_message_says_why_its_reader_gets_it(notice: Message) -> None:
    words = tell(notice)
    why = "as an operator" if notice.kind in FOR_OPERATORS else "a contact for the workspace “acme”"
    assert why in words.footer
    assert "acme" in [fact.value for fact in words.facts]


# Several accounts of one person.


def test_several_accounts_are_one_message_that_names_their_platforms_and_their_number() -> None:
    words = tell(of_all(OPENED, BESIDE, replace(BESIDE, ref="8", unconfirmed=True)))
    assert words.headline == words.subject == "3 accounts on Facebook and Instagram need to be reconnected"
    assert words.button == "Reconnect 3 accounts"
    assert [(row.name, row.handle, row.platform) for row in words.rows[:2]] == [
        ("Acme Coffee", "@acmecoffee", "Facebook"), ("Acme Café", "@acmecafe", "Instagram"),
    ]  # fmt: skip
    assert words.rows[1].notes == ("since 23 Nov 2026, 14:05\u00a0UTC", "4 posts failed")
    assert "not confirmed yet" in words.rows[2].notes
    assert len(words.advice) == 2
    assert words.tone is Tone.BROKEN


def test_more_accounts_than_a_message_can_list_are_counted() -> None:
    many = of_all(OPENED, *(replace(BESIDE, ref=str(number)) for number in range(60)))
    words = tell(replace(many, more=5))
    assert len(words.rows) == ROWS
    assert words.more == f"and {66 - ROWS} more"
    assert len(words.short_rows) == SHORT_ROWS
    assert words.more_short == f"and {66 - SHORT_ROWS} more"
    assert words.headline.startswith("66 accounts")


def test_more_platforms_than_a_sentence_can_name_are_counted() -> None:
    mixed = of_all(OPENED, *(replace(BESIDE, platform=platform) for platform in PLATFORMS[1 : MOST_PLATFORMS + 1]))
    words = tell(mixed)
    assert words.headline == "4 accounts on 4 platforms need to be reconnected"
    assert words.advice == ()


def test_two_accounts_that_nobody_confirmed_are_not_called_broken() -> None:
    words = tell(of_all(UNCONFIRMED, replace(BESIDE, unconfirmed=True)))
    assert words.headline == "2 accounts on Facebook and Instagram may need to be reconnected"
    assert words.tone is Tone.SOON


def test_a_reminder_of_several_keeps_their_subject_and_says_how_long_the_longest_lasts() -> None:
    words = tell(of_all(REMINDER, replace(BESIDE, broken_at=BROKEN_AT + timedelta(days=1))))
    assert words.subject == tell(of_all(OPENED, BESIDE)).subject
    assert "the longest for 3 days" in words.headline


def test_a_good_end_of_some_says_how_many_are_left() -> None:
    both = of_all(RESOLVED, replace(BESIDE, resolved_at=BROKEN_AT + timedelta(hours=1)))
    words = tell(replace(both, left=3))
    assert words.headline == "2 accounts on Facebook and Instagram are connected again"
    assert words.status == "Partly fixed"
    assert "3 other accounts are still disconnected." in words.happened
    assert "still" not in tell(both).happened


def test_the_first_to_run_out_gives_several_their_deadline() -> None:
    words = tell(of_all(EXPIRING, replace(BESIDE, validity_days=1)))
    assert words.headline == "2 accounts on Facebook and Instagram need to be renewed, the first by tomorrow"
    assert words.rows[0].notes == ("ends about 28 Nov 2026",)


# What else is said of an account.


def test_a_reminder_says_what_has_failed_and_who_else_was_told() -> None:
    words = tell(replace(about(REMINDER, failed_posts=4), also_told=("Grace Hopper", "team-slack")))
    assert "4 posts have failed meanwhile." in words.happened
    assert "Grace Hopper and team-slack were told as well." in words.happened
    assert words.subject == tell(OPENED).subject
    bare = tell(REMINDER)
    assert bare.happened == "It is still disconnected."


def test_who_hears_of_it_late_is_told_since_when_who_was_asked_and_why_it_comes_to_them() -> None:
    words = tell(ESCALATED)
    assert words.happened == (
        "It has been disconnected for 3 days. Grace Hopper was asked first; since nothing has changed, "
        "you are next in line."
    )
    assert words.subject == tell(OPENED).subject, "reminders to the same reader join this conversation"
    assert "Whoever was asked first" in tell(replace(ESCALATED, also_told=())).happened


def test_who_connected_another_account_is_told_which_to_choose() -> None:
    words = tell(WRONG_ACCOUNT)
    assert words.headline == "Another account was connected: “@acmecoffee” is still disconnected"
    assert "choose “@acmecoffee”" in words.todo
    assert words.button


def test_a_reader_is_greeted_by_name_where_one_is_known() -> None:
    assert tell(read_in("en", OPENED)).greeting == "Hello Ada Lovelace,"
    assert tell(OPENED).greeting == ""


# For operators.


def test_a_chronic_loop_is_told_with_its_evidence_and_the_way_to_ask_the_people_all_the_same() -> None:
    words = tell(CHRONIC)
    assert words.headline == "“Acme Coffee” on Facebook keeps breaking: repaired 4 times in 12 days"
    assert [fact.at for fact in words.facts if fact.label == "Repaired"] == list(CHRONIC.accounts[0].repaired_at)
    assert "not asked once more" in words.consequence
    assert [command.value for command in words.commands] == ["healthd notices release acme/1042"]
    assert words.button == ""


def test_a_storm_is_told_with_its_size_its_end_and_the_two_decisions() -> None:
    words = tell(STORM)
    assert words.headline == "412 of 1,250 Facebook accounts of “acme” broke at once"
    assert "within 10 minutes" in words.happened
    assert "at most 1 hour" in words.consequence
    assert [c.value for c in words.commands] == ["healthd storms release 9b1d2c", "healthd storms cancel 9b1d2c"]


ENDS: dict[str, tuple[StormNotice, str, str]] = {
    "few are left": (STORM_OVER, "It abated", "3 accounts are still disconnected, and their people are told now."),
    "all recovered": (
        replace(STORM_OVER, still_broken=0, outcome="every account recovered by itself"),
        "412 of 412", "Nobody else has to be told.",
    ),
    "it was cancelled": (replace(STORM_OVER, outcome="cancelled by ada"), "do not go out", "Nobody else is told."),
    "one recovered": (replace(STORM_OVER, still_broken=411), "1 of 412 accounts recovered by itself.", "411 accounts"),
    "of something new": (replace(STORM_OVER, outcome="the moon rose"), "The hold was ended.", "3 accounts"),
}  # fmt: skip


@pytest.mark.parametrize(("notice", "happened", "consequence"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_storm_says_why_it_ended_and_who_is_told_now(
    notice: StormNotice, happened: str, consequence: str
) -> None:
    words = tell(notice)
    assert happened in words.happened
    assert consequence in words.consequence
    assert words.commands == ()
    assert words.tone is Tone.FIXED


def test_each_way_in_which_a_storm_ends_by_itself_has_words() -> None:
    policy = StormPolicy()
    late = BROKEN_AT + timedelta(minutes=20)
    ends = {
        storm.ends(StormFacts(BROKEN_AT, BROKEN_AT, 0, 1000), late, policy),
        storm.ends(StormFacts(BROKEN_AT, BROKEN_AT, 5, 1000), late, policy),
        storm.ends(StormFacts(BROKEN_AT, late, 900, 1000), BROKEN_AT + policy.longest, policy),
    }
    assert len(ends) == 3
    assert ends <= set(OUTCOMES)


KINDS = {kind.kind for kind in ProviderError.__subclasses__()} - {NotFound.kind, Conflict.kind}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_trouble_with_an_api_has_words_of_its_own(kind: str) -> None:
    words = tell(replace(TROUBLE, trouble=kind))
    assert "cannot be used" not in words.headline
    assert words.todo == TROUBLE.remedy
    assert "settings" in words.footer
    others = {tell(read_in(language, replace(TROUBLE, trouble=kind))).todo for language in LANGUAGES}
    assert len(others) == len(LANGUAGES)


@pytest.mark.parametrize("notice", [TROUBLE, OVER], ids=["trouble", "over"])
def test_every_channel_tells_an_operator_what_to_do_and_offers_no_link(channel: Channel, notice: TroubleNotice) -> None:
    told = "".join(channel.render(notice).values())
    assert LINK not in told
    assert "acme" in told
    assert (Unauthorized.remedy[:20] in told) is (notice.ended_at is None)
    assert ("2 hours" in told) is (notice.ended_at is not None)
