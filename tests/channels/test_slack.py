"""Slack by token and by webhook, against a server on loopback that keeps Slack's rules."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from healthd.channels.base import Dead, Message, Reader, Receipt, Retry
from healthd.channels.sentences import LANGUAGES
from healthd.channels.slack import ByToken, ByWebhook, SlackSettings
from healthd.core.model import NoticeKind, Target
from healthd.core.text import clean
from tests.channels import samples
from tests.channels.samples import BESIDE, HOSTILE, REAL_LINK, about, deliver, follow_up, of_all
from tests.channels.web_peer import HOOK, TOKEN, Slack, WebPeer, hang_up, silence, web_peer
from tests.loopback import Answer, answer

TEAM = Target("team")
EVERY_KIND: dict[str, Message] = {name: replace(notice, target=TEAM) for name, notice in samples.EVERY_KIND.items()}
OPENED, REMINDER, RESOLVED = (
    replace(notice, target=TEAM) for notice in (samples.OPENED, samples.REMINDER, samples.RESOLVED)
)
MOMENT = re.compile(r"[^\n<>|*_`]+\n<!date\^\d+\^[^|<>]+\|[\w\s.,:'+−]+>")
"""A label of ours, and a moment that Slack shows in the reader's own time."""
SIGNING_SECRET = "0123456789abcdef0123456789abcdef"


def by_token(url: str, **changes: Any) -> ByToken:
    facts = {"type": "slack", "token": TOKEN, "channel": "#alerts", "api_url": f"{url}/api/", "timeout": 5}
    channel = SlackSettings.model_validate({**facts, **changes}).open()
    assert isinstance(channel, ByToken)
    return channel


def by_webhook(url: str, **changes: Any) -> ByWebhook:
    facts = {"type": "slack", "webhook_url": url + HOOK, "webhook_hosts": ["127.0.0.1"], "timeout": 5}
    channel = SlackSettings.model_validate({**facts, **changes}).open()
    assert isinstance(channel, ByWebhook)
    return channel


@pytest.fixture
def slack() -> Slack:
    return Slack()


@pytest.fixture
async def peer(slack: Slack) -> AsyncIterator[WebPeer]:
    async with web_peer(slack.respond) as peer:
        yield peer


@pytest.fixture
async def bot(peer: WebPeer) -> AsyncIterator[ByToken]:
    channel = by_token(peer.url)
    yield channel
    await channel.close()


@pytest.fixture(scope="module")
def renderer() -> ByToken:
    """Only for ``render``: it speaks to nobody."""
    return by_token("http://127.0.0.1:1")


@asynccontextmanager
async def opened(way: str, peer: WebPeer, **changes: Any) -> AsyncIterator[ByToken | ByWebhook]:
    channel = by_token(peer.url, **changes) if way == "token" else by_webhook(peer.url, **changes)
    try:
        yield channel
    finally:
        await channel.close()


def texts(part: Any) -> Iterator[tuple[str, str]]:
    """Every text in the blocks, as type and content."""
    if isinstance(part, list):
        for inner in part:
            yield from texts(inner)
    elif isinstance(part, dict):
        if part.get("type") in {"plain_text", "mrkdwn"}:
            yield part["type"], part["text"]
        else:
            for inner in part.values():
                yield from texts(inner)


def buttons(body: dict[str, Any]) -> list[str]:
    return [element["url"] for element in elements(body) if "url" in element]


def elements(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [element for block in body["blocks"] if block["type"] == "actions" for element in block["elements"]]


# An incident in a channel.


async def test_the_first_message_is_posted_and_its_place_is_remembered(slack: Slack, bot: ByToken) -> None:
    receipt = await bot.send(deliver(bot, OPENED))
    [(place, message)] = slack.messages.items()
    assert (receipt["channel"], receipt["ts"]) == place
    assert place[0] == "C0ALERTS"
    assert "thread_ts" not in message
    assert buttons(message) == [REAL_LINK]


async def test_a_route_may_name_another_channel(slack: Slack, bot: ByToken) -> None:
    await bot.send(deliver(bot, replace(OPENED, target=Target("team", "C0OTHER"))))
    assert [channel for channel, _ in slack.messages] == ["C0OTHER"]


async def test_a_reminder_is_told_in_the_same_thread_and_shown_in_the_channel(slack: Slack, bot: ByToken) -> None:
    first = await bot.send(deliver(bot, OPENED))
    await bot.send(follow_up(bot, REMINDER, first))
    reminder = list(slack.messages.values())[1]
    assert (reminder["thread_ts"], reminder["reply_broadcast"]) == (first["ts"], True)
    assert reminder["channel"] == first["channel"], "the id that Slack gave back, since names may change"
    assert "3 days" in reminder["text"]


async def test_a_repair_edits_the_first_message_and_is_told_in_its_thread(slack: Slack, bot: ByToken) -> None:
    first = await bot.send(deliver(bot, OPENED))
    await bot.send(follow_up(bot, RESOLVED, first))
    edited, reply = slack.messages.values()
    assert "is connected again" in edited["text"]
    assert buttons(edited) == [], "the link of the first message is gone"
    assert reply["thread_ts"] == first["ts"]
    assert "reply_broadcast" not in reply
    assert "5 hours" in str(reply["blocks"])


async def test_a_repair_of_some_is_told_in_the_thread_and_the_first_message_stays_as_it_was(
    slack: Slack, bot: ByToken
) -> None:
    first = await bot.send(deliver(bot, of_all(OPENED, BESIDE)))
    await bot.send(follow_up(bot, replace(RESOLVED, left=1), first, all_over=False))
    opened, reply = slack.messages.values()
    assert "need to be reconnected" in opened["text"]
    assert buttons(opened) == [REAL_LINK], "the other account still needs it"
    assert reply["thread_ts"] == first["ts"]
    assert "1 other account is still disconnected" in str(reply["blocks"])


async def test_several_accounts_have_a_section_each_and_the_rest_is_counted(slack: Slack, bot: ByToken) -> None:
    many = of_all(OPENED, *(replace(BESIDE, ref=str(number), name=f"Acme {number}") for number in range(21)))
    await bot.send(deliver(bot, many))
    [message] = slack.messages.values()
    sections = [block["text"]["text"] for block in message["blocks"] if block["type"] == "section"][1:]
    assert len(sections) == 10
    assert sections[0] == "“Acme Coffee”, “@acmecoffee”"
    assert "and 12 more" in [text for _, text in texts(message["blocks"])]
    assert buttons(message) == [REAL_LINK]


# Buttons, where the app's interactivity endpoint is ours.

ANSWERABLE = {"opened", "unconfirmed", "reminder", "escalated", "wrong account", "two accounts"}


@pytest.mark.parametrize("notice", EVERY_KIND.values(), ids=EVERY_KIND)
def test_what_somebody_can_take_on_has_buttons_to_do_so_and_nothing_else_has(
    request: pytest.FixtureRequest, notice: Message
) -> None:
    channel = by_token("http://127.0.0.1:1", signing_secret=SIGNING_SECRET)
    body = {"blocks": json.loads(channel.render(notice)["blocks"])}
    answers = [(one["action_id"], one.get("value")) for one in elements(body) if one["action_id"] != "reconnect"]
    expected = request.node.callspec.id in ANSWERABLE
    assert answers == ([("acknowledge", notice.id), ("snooze", notice.id)] if expected else [])


def test_without_a_signing_secret_there_are_no_buttons_that_nobody_would_answer(renderer: ByToken) -> None:
    body = {"blocks": json.loads(renderer.render(OPENED)["blocks"])}
    assert [one["action_id"] for one in elements(body)] == ["reconnect"]


async def test_a_repair_is_told_even_if_the_first_message_was_deleted(slack: Slack, bot: ByToken) -> None:
    first = await bot.send(deliver(bot, OPENED))
    slack.delete(first["channel"], first["ts"])
    receipt = await bot.send(follow_up(bot, RESOLVED, first))
    [(place, message)] = slack.messages.items()
    assert place == (receipt["channel"], receipt["ts"])
    assert "thread_ts" not in message
    assert "is connected again" in message["text"]


async def test_a_reminder_stands_alone_if_the_first_message_was_deleted(slack: Slack, bot: ByToken) -> None:
    first = await bot.send(deliver(bot, OPENED))
    slack.delete(first["channel"], first["ts"])
    await bot.send(follow_up(bot, REMINDER, first))
    [message] = slack.messages.values()
    assert not {"thread_ts", "reply_broadcast"} & message.keys()


@pytest.mark.parametrize("first", [None, {}, {"channel": "C0ALERTS"}, {"channel": "C0ALERTS", "ts": ""}])
async def test_a_repair_whose_first_message_is_not_known_is_posted_whole(
    slack: Slack, bot: ByToken, first: Receipt | None
) -> None:
    await bot.send(deliver(bot, RESOLVED, thread=OPENED.id, first=first))
    [message] = slack.messages.values()
    assert [block["type"] for block in message["blocks"]] == ["header", "section", "context"]


async def test_a_repair_cut_off_between_edit_and_reply_is_finished_by_the_next_try(
    slack: Slack, peer: WebPeer, bot: ByToken
) -> None:
    first = await bot.send(deliver(bot, OPENED))
    delivery = follow_up(bot, RESOLVED, first)
    peer.says(answer(200, {"ok": True}), hang_up)
    with pytest.raises(Retry):
        await bot.send(delivery)
    await bot.send(delivery)
    edited, reply = slack.messages.values()
    assert "is connected again" in edited["text"]
    assert reply["thread_ts"] == first["ts"]


async def test_a_webhook_posts_every_message_by_itself(slack: Slack, peer: WebPeer) -> None:
    async with opened("webhook", peer) as hook:
        assert await hook.send(deliver(hook, OPENED)) == {}
        assert await hook.send(deliver(hook, RESOLVED, thread=OPENED.id, first={})) == {}
    assert ["needs" in body["text"] for body in slack.hooked] == [True, False]
    assert not any("thread_ts" in body or "channel" in body for body in slack.hooked)


# What every message carries.


@pytest.mark.parametrize("way", ["token", "webhook"])
@pytest.mark.parametrize("notice", EVERY_KIND.values(), ids=EVERY_KIND)
async def test_every_message_names_its_notice_and_asks_slack_not_to_open_its_links(
    peer: WebPeer, way: str, notice: Any
) -> None:
    async with opened(way, peer) as channel:
        await channel.send(deliver(channel, notice))
    [posted] = peer.posted
    assert posted.body["metadata"] == {"event_type": "healthd_notice", "event_payload": {"notice_id": notice.id}}
    assert posted.body["unfurl_links"] is posted.body["unfurl_media"] is False


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("platform", ["gmb", "z" * 80])
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_becomes_a_mention_a_link_or_formatting_and_slack_takes_every_message(
    renderer: ByToken, name: str, platform: str, language: str
) -> None:
    name, slack, reader = clean(name), Slack(), Reader(clean(name), language)
    single = about(replace(OPENED, reader=reader), name=name, username=name, profile=name, platform=platform)
    hostile = about(of_all(single, *[BESIDE] * 11), name=name, username=name, platform=platform)
    for notice in (single, hostile, replace(hostile, kind=NoticeKind.RESOLVED, link=None, left=1)):
        content = renderer.render(notice)
        for part in {"blocks", "reply"} & content.keys():
            blocks = json.loads(content[part])
            assert slack._wrong({"text": content["text"], "blocks": blocks}) is None
            marked = [text for kind, text in texts(blocks) if kind == "mrkdwn"]
            assert all(re.fullmatch(r"[^\n<>|*_`]+\n<!date\^\d+\^[^|<>]+\|[\w\s.,:'+−]+>", text) for text in marked), (
                marked
            )
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", content["text"])
        assert "evil.example" not in html.unescape(content["text"]) + content["blocks"]


async def test_a_name_is_shown_as_it_is_written(slack: Slack, bot: ByToken) -> None:
    await bot.send(deliver(bot, about(OPENED, name="<!channel> *R&D*")))
    [message] = slack.messages.values()
    assert any("“<!channel> *R&D*”" in text for kind, text in texts(message["blocks"]) if kind == "plain_text")
    assert message["text"].startswith("“&lt;!channel&gt; *R&amp;D*” on Facebook")


async def test_each_reader_sees_moments_in_their_own_time(slack: Slack, bot: ByToken) -> None:
    await bot.send(deliver(bot, OPENED))
    [message] = slack.messages.values()
    [moment] = [text for kind, text in texts(message["blocks"]) if kind == "mrkdwn"]
    assert f"<!date^{int(samples.BROKEN_AT.timestamp())}^" in moment
    assert "|23 Nov 2026, 14:05\u00a0UTC>" in moment


async def test_a_link_with_quotes_in_it_leaves_the_blocks_whole(slack: Slack, bot: ByToken) -> None:
    link = 'https://healthd.acme.example/r/"x\\y"'
    await bot.send(deliver(bot, OPENED, link))
    [message] = slack.messages.values()
    assert buttons(message) == [link]


def test_what_is_stored_opens_nothing() -> None:
    assert REAL_LINK not in str(by_webhook("http://127.0.0.1:1").render(OPENED))


# What Slack, or what stands before it, may answer.

NOT_NOW: dict[str, tuple[Answer, float | None]] = {
    "a pause": (answer(429, b"", {"retry-after": "30"}), 30),
    "a pause without end": (answer(429, b"", {"retry-after": "9999999"}), None),
    "a pause until a date": (answer(429, b"", {"retry-after": "Mon, 23 Nov 2026 14:05:00 GMT"}), None),
    "a pause without a length": (answer(429), None),
    "an error of its own": (answer(500, b"rollup_error"), None),
    "a gateway's page": (answer(502, b"<html>Bad gateway</html>"), None),
    "a proxy's page": (answer(403, b"<html>Blocked by policy</html>", {"content-type": "text/html"}), None),
    "a log-in page": (answer(200, b"<html>Welcome to Hotel Wi-Fi</html>", {"content-type": "text/html"}), None),
    "nothing": (answer(200, b""), None),
    "half of an answer": (answer(200, b'{"ok": tr'), None),
    "another shape": (answer(200, ["ok"]), None),
    "a shape without end": (answer(200, b"[" * 100_000), None),
    "bytes that are no text": (answer(200, b"\xff\xfe\x00ok"), None),
    "a hung-up line": (hang_up, None),
}


@pytest.mark.parametrize("way", ["token", "webhook"])
@pytest.mark.parametrize(("said", "after"), NOT_NOW.values(), ids=NOT_NOW)
async def test_an_answer_that_settles_nothing_is_tried_again(
    peer: WebPeer, way: str, said: Answer, after: float | None
) -> None:
    peer.says(said)
    async with opened(way, peer) as channel:
        with pytest.raises(Retry) as retry:
            await channel.send(deliver(channel, OPENED))
    assert retry.value.after == after
    assert retry.value.unknown is (said is hang_up), "an answer settles whether it was taken; a lost one does not"
    assert "s3cr3t" not in retry.value.reason
    assert "html" not in retry.value.reason


@pytest.mark.parametrize("way", ["token", "webhook"])
async def test_a_silent_slack_is_given_up_in_time(peer: WebPeer, way: str) -> None:
    peer.says(silence)
    async with opened(way, peer, timeout=0.2) as channel:
        with pytest.raises(Retry, match="Slack did not answer in time") as retry:
            await channel.send(deliver(channel, OPENED))
    assert retry.value.unknown


async def test_the_deadline_holds_for_all_requests_of_a_message_together(peer: WebPeer) -> None:
    """The edit is answered drop by drop, each within any timeout of a single read."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    peer.says(drip)
    async with opened("token", peer, timeout=0.3) as channel:
        with pytest.raises(Retry, match="Slack did not answer in time"):
            await channel.send(follow_up(channel, RESOLVED, {"channel": "C0ALERTS", "ts": "1.1"}))


@pytest.mark.parametrize("way", ["token", "webhook"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_with_the_secret(peer: WebPeer, way: str, status: int) -> None:
    async with web_peer(lambda _: answer(200, {"ok": True})) as elsewhere:
        peer.says(answer(status, b"", {"location": f"{elsewhere.url}/api/chat.postMessage"}))
        async with opened(way, peer) as channel:
            with pytest.raises(Retry, match=f"Slack answered {status}"):
                await channel.send(deliver(channel, OPENED))
    assert elsewhere.posted == []


ERRORS: dict[str, type[Exception]] = {
    "channel_not_found": Dead,
    "is_archived": Dead,
    "user_disabled": Dead,
    "invalid_blocks": Dead,
    "msg_too_long": Dead,
    "invalid_auth": Retry,
    "token_revoked": Retry,
    "account_inactive": Retry,
    "missing_scope": Retry,
    "not_in_channel": Retry,
    "restricted_action": Retry,
    "ratelimited": Retry,
    "internal_error": Retry,
    "an_error_of_next_year": Retry,
}


@pytest.mark.parametrize(("error", "expected"), ERRORS.items(), ids=ERRORS)
async def test_an_error_of_the_api_is_final_only_if_nobody_can_mend_it(
    peer: WebPeer, bot: ByToken, error: str, expected: type[Exception]
) -> None:
    peer.says(answer(200, {"ok": False, "error": error}))
    with pytest.raises((Retry, Dead), match=error) as refused:
        await bot.send(deliver(bot, OPENED))
    assert type(refused.value) is expected


@pytest.mark.parametrize("error", [None, 7, "ada@acme.example is gone", "x" * 200, {"code": "xoxb-s3cr3t"}])
async def test_an_error_that_is_not_slacks_own_word_is_not_repeated(peer: WebPeer, bot: ByToken, error: object) -> None:
    peer.says(answer(200, {"ok": False, "error": error}))
    with pytest.raises(Retry, match=r"Slack refused the message \(no reason given\)"):
        await bot.send(deliver(bot, OPENED))


async def test_an_answer_without_the_place_of_the_message_still_counts_as_posted(
    slack: Slack, peer: WebPeer, bot: ByToken
) -> None:
    peer.says(answer(200, {"ok": True}))
    first = await bot.send(deliver(bot, OPENED))
    await bot.send(follow_up(bot, RESOLVED, first))
    [message] = slack.messages.values()
    assert "thread_ts" not in message


REVOKED = {
    "invalid_payload": 400,
    "no_text": 400,
    "action_prohibited": 403,
    "invalid_token": 403,
    "no_service": 404,
    "channel_not_found": 404,
    "channel_is_archived": 410,
}


@pytest.mark.parametrize(("word", "status"), REVOKED.items(), ids=REVOKED)
async def test_a_webhook_that_slack_says_is_gone_is_dead_at_once(peer: WebPeer, word: str, status: int) -> None:
    peer.says(answer(status, word.encode()))
    async with opened("webhook", peer) as hook:
        with pytest.raises(Dead, match=f"{status} {word}"):
            await hook.send(deliver(hook, OPENED))


async def test_nobody_listening_is_tried_again() -> None:
    async with web_peer(lambda _: b"") as gone:
        pass
    async with opened("token", gone) as channel:
        with pytest.raises(Retry, match=r"Slack could not be reached \(ConnectError\)") as retry:
            await channel.send(deliver(channel, OPENED))
    assert not retry.value.unknown


@pytest.mark.parametrize("way", ["token", "webhook"])
async def test_the_secret_is_in_no_log_line(peer: WebPeer, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(way, peer) as channel:
        await channel.send(deliver(channel, OPENED))
    assert len(peer.posted) == 1
    assert not re.search(r"s3cr3t|xoxb|/services/", caplog.text)


async def test_a_check_asks_slack_about_the_token_and_tells_nobody_anything(
    slack: Slack, peer: WebPeer, bot: ByToken
) -> None:
    assert await bot.check() == "Slack accepts the token"
    assert [posted.path for posted in peer.posted] == ["/api/auth.test"]
    async with opened("token", peer, token="xoxb-wrong") as other:
        with pytest.raises(Retry, match="the token is not valid"):
            await other.check()
    assert slack.messages == {}


async def test_a_check_of_a_webhook_says_what_it_cannot_know(peer: WebPeer) -> None:
    async with opened("webhook", peer) as hook:
        assert "only a message would show" in await hook.check()
    assert peer.posted == []


# What may be configured.

BY_TOKEN = {"type": "slack", "token": "xoxb-s3cr3t", "channel": "#alerts"}
BY_HOOK = {"type": "slack", "webhook_url": "https://hooks.slack.com/services/T0/B0/s3cr3t"}


@pytest.mark.parametrize(
    "chosen",
    [
        BY_TOKEN,
        BY_HOOK,
        {**BY_TOKEN, "token": "xoxe.xoxb-1-s3cr3t", "channel": "C0123ABCD"},
        {**BY_TOKEN, "api_url": "http://127.0.0.1:8080/api/"},
        {"type": "slack", "webhook_url": "https://hooks.slack-gov.com:443/services/T0/B0/s3cr3t"},
        {**BY_TOKEN, "signing_secret": SIGNING_SECRET, "min_severity": "error"},
    ],
)
def test_either_way_is_set_up_with_two_lines(chosen: dict[str, Any]) -> None:
    assert SlackSettings.model_validate(chosen).type == "slack"


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "neither way": ({"type": "slack"}, "set either token (with channel), or webhook_url"),
    "both ways": ({**BY_TOKEN, **BY_HOOK}, "set either token (with channel), or webhook_url"),
    "a person's token": ({**BY_TOKEN, "token": "xoxp-s3cr3t"}, "begins with xoxb-"),
    "a token with a line feed": ({**BY_TOKEN, "token": "xoxb-s3cr3t\n"}, "begins with xoxb-"),
    "a channel in words": ({**BY_TOKEN, "channel": "the alerts channel"}, "such as C0123ABCD, or its name, as #alerts"),
    "a channel for a webhook": ({**BY_HOOK, "channel": "#alerts"}, "leave channel out"),
    "a webhook in clear": ({"webhook_url": "http://hooks.slack.com/services/T0/B0/s3cr3t"}, "must be https"),
    "a webhook elsewhere": ({"webhook_url": "https://evil.example/services/T0/B0/s3cr3t"}, "hooks.slack.com"),
    "a webhook on a look-alike": ({"webhook_url": "https://hooks.slack.com.evil.example/services/s3cr3t"}, "hooks."),
    "a webhook with a user": ({"webhook_url": "https://x@hooks.slack.com/services/s3cr3t"}, "Incoming Webhooks"),
    "a webhook on another port": ({"webhook_url": "https://hooks.slack.com:8443/services/s3cr3t"}, "must be https"),
    "a backslash": ({"webhook_url": "https://evil.example\\@hooks.slack.com/services/s3cr3t"}, "must be https"),
    "a workflow's trigger": ({"webhook_url": "https://hooks.slack.com/triggers/T0/s3cr3t"}, "/services/T…/B…/…"),
    "an API in clear": ({**BY_TOKEN, "api_url": "http://slack.com/api/"}, "https://slack.com/api/"),
    "an API without a slash": ({**BY_TOKEN, "api_url": "https://slack.com/api"}, "with a slash at its end"),
    "a port that is none": ({**BY_TOKEN, "api_url": "http://127.0.0.1:99999/api/"}, "api_url"),
    "buttons on a webhook": ({**BY_HOOK, "signing_secret": SIGNING_SECRET}, "leave signing_secret out"),
    "a signing secret that is none": ({**BY_TOKEN, "signing_secret": "s3cr3t"}, "App Credentials"),
    "a severity that is none": ({**BY_TOKEN, "min_severity": "high"}, "'info', 'warning', 'error' or 'critical'"),
    "longer than a lease": ({**BY_TOKEN, "timeout": 600}, "150"),
    "an unknown key": ({**BY_TOKEN, "webhook": "s3cr3t"}, "webhook"),
}


@pytest.mark.parametrize(("chosen", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_settings_is_answered_with_what_to_write_and_never_with_the_secret(
    chosen: dict[str, Any], hint: str
) -> None:
    with pytest.raises(ValueError) as mistake:  # noqa: PT011
        SlackSettings.model_validate({"type": "slack", **chosen})
    assert hint in str(mistake.value)
    assert "s3cr3t" not in str(mistake.value)


ADDRESSES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "the configured channel": (BY_TOKEN, "", None),
    "a channel by name": (BY_TOKEN, "#alerts", None),
    "a channel by id": ({"type": "slack", "token": "xoxb-1"}, "C0123ABCD", None),
    "a person": (BY_TOKEN, "U024BE7LH", None),
    "no channel at all": ({"type": "slack", "token": "xoxb-1"}, "", "name:#alerts"),
    "a sentence": (BY_TOKEN, "alerts please", "or its name, as #alerts"),
    "a webhook": (BY_HOOK, "", None),
    "a channel for a webhook": (BY_HOOK, "#alerts", "write only the channel's name"),
}


@pytest.mark.parametrize(("chosen", "address", "hint"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_route_names_a_channel_that_can_be_posted_to(chosen: dict[str, Any], address: str, hint: str | None) -> None:
    settings = SlackSettings.model_validate(chosen)
    if hint is None:
        settings.validate_address(address)
        return
    with pytest.raises(ValueError, match=re.escape(hint)):
        settings.validate_address(address)
