"""Apprise: its JSON service posts to a server on loopback."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from typing import Any
from urllib.parse import unquote

import pytest

from healthd.channels.anything_else import AnythingElse, AppriseSettings
from healthd.channels.base import Dead, Reader, Retry
from healthd.channels.sentences import LANGUAGES
from healthd.core.model import Target
from healthd.core.text import clean
from tests.channels.samples import (
    BESIDE,
    EVERY_KIND,
    EXPIRING,
    HOSTILE,
    OPENED,
    REAL_LINK,
    RESOLVED,
    about,
    deliver,
    of_all,
)
from tests.channels.web_peer import WebPeer, hang_up, silence, web_peer
from tests.loopback import Answer, answer

SECRET = "s3cr3t-path"


@pytest.fixture
async def peer() -> AsyncIterator[WebPeer]:
    async with web_peer(lambda _: answer(200, b"")) as peer:
        yield peer


def service(peer: WebPeer, timeout: float = 5) -> AnythingElse:
    url = f"{peer.url.replace('http:', 'json:')}/{SECRET}"
    return AppriseSettings.model_validate({"type": "apprise", "url": url, "timeout": timeout}).open()


async def test_the_service_gets_title_body_and_the_link_as_filled_in(peer: WebPeer) -> None:
    channel = service(peer)
    assert await channel.send(deliver(channel, OPENED)) == {}
    [posted] = peer.posted
    assert posted.path == f"/{SECRET}"
    assert posted.body["title"] == "“Acme Coffee” on Facebook needs to be reconnected"
    assert posted.body["message"].count(REAL_LINK) == 1
    assert posted.headers["user-agent"] == "healthd", "services that show a sender show ours"


@pytest.mark.parametrize(("notice", "severity"), [(OPENED, "failure"), (EXPIRING, "warning"), (RESOLVED, "success")])
async def test_services_that_colour_messages_are_told_how_bad_it_is(peer: WebPeer, notice: Any, severity: str) -> None:
    channel = service(peer)
    await channel.send(deliver(channel, notice))
    assert peer.posted[0].body["type"] == severity


NOT_NOW: dict[str, tuple[Answer, str]] = {
    "an error of its own": (answer(500, b"oops"), "the service answered 500"),
    "a refusal": (answer(403, b"no"), "the service answered 403"),
    "a pause": (answer(429, b"", {"retry-after": "30"}), "the service answered 429"),
    "a hung-up line": (hang_up, "could not be reached, or refused the message"),
}


@pytest.mark.parametrize(("said", "reason"), NOT_NOW.values(), ids=NOT_NOW)
async def test_a_refusal_is_tried_again_with_its_code_and_without_the_url(
    peer: WebPeer, said: Answer, reason: str
) -> None:
    peer.says(said)
    channel = service(peer)
    with pytest.raises(Retry, match=reason) as retry:
        await channel.send(deliver(channel, OPENED))
    assert not re.search(rf"{SECRET}|127\.0", retry.value.reason)


async def test_nobody_listening_is_tried_again() -> None:
    async with web_peer(lambda _: b"") as gone:
        pass
    channel = service(gone)
    with pytest.raises(Retry, match="could not be reached"):
        await channel.send(deliver(channel, OPENED))


async def test_a_silent_service_is_given_up_in_time(peer: WebPeer) -> None:
    peer.says(silence)
    channel = service(peer, timeout=0.3)
    with pytest.raises(Retry) as retry:
        await channel.send(deliver(channel, OPENED))
    assert len(peer.posted) == 1
    assert retry.value.unknown, "it may have been taken"


async def test_an_optional_service_that_failed_was_not_told(peer: WebPeer) -> None:
    """Apprise counts a service marked optional as reached."""
    peer.says(answer(500))
    url = f"{peer.url.replace('http:', 'json:')}/x?optional=yes"
    channel = AppriseSettings.model_validate({"type": "apprise", "url": url}).open()
    with pytest.raises(Retry, match="500"):
        await channel.send(deliver(channel, OPENED))


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_no_name_becomes_a_mention_or_a_link(peer: WebPeer, name: str) -> None:
    name = clean(name)
    channel = service(peer)
    for notice, language in product((OPENED, of_all(OPENED, BESIDE)), LANGUAGES):
        hostile = about(notice, name=name, username=name, profile=name)
        content = channel.render(replace(hostile, also_told=(name, name), reader=Reader(name, language)))
        said = content["title"] + "\n" + content["body"]
        assert not re.search(r"@everyone|@here|<[@!#]|<https?:|\]\(|evil\.example", said)
        assert said.count("https://") == 1, "only our own link"


async def test_several_accounts_are_a_list_and_the_rest_is_counted(peer: WebPeer) -> None:
    channel = service(peer)
    await channel.send(deliver(channel, of_all(OPENED, *[BESIDE] * 21)))
    message = peer.posted[0].body["message"]
    assert len(re.findall(r"^- “Acme", message, re.MULTILINE)) == 10
    assert "and 12 more" in message


# One URL for many recipients.


def by_address(peer: WebPeer, url: str = "{peer}/{address}/in") -> AppriseSettings:
    at = url.replace("{peer}", peer.url.replace("http:", "json:"))
    return AppriseSettings.model_validate({"type": "apprise", "url": at, "timeout": 5})


async def test_each_recipient_is_reached_at_their_own_address(peer: WebPeer) -> None:
    channel = by_address(peer).open()
    for address in ("12345", "@ada_lovelace", "+15551234567", "ada@acme.example"):
        await channel.send(deliver(channel, replace(OPENED, target=Target("chat", address))))
    asked = [unquote(posted.path) for posted in peer.posted]
    assert asked == ["/12345/in", "/@ada_lovelace/in", "/+15551234567/in", "/ada@acme.example/in"]


ADDRESSES = {
    "a number": ("-10012345", None),
    "a name": ("@ada_lovelace", None),
    "a telephone": ("+15551234567", None),
    "a mail address": ("ada@acme.example", None),
    "nobody": ("", "write the recipient behind the channel's name"),
    "a path": ("ada/../eve", "letters, digits"),
    "a query": ("ada?to=eve", "letters, digits"),
    "two": ("ada,eve", "letters, digits"),
    "an escape": ("ada%2feve", "letters, digits"),
    "a line break": ("ada\neve", "letters, digits"),
    "letters of other scripts": ("адa", "letters, digits"),
    "without end": ("a" * 129, "letters, digits"),
}


@pytest.mark.parametrize(("address", "hint"), ADDRESSES.values(), ids=ADDRESSES)
async def test_an_address_is_taken_whole_or_refused(peer: WebPeer, address: str, hint: str | None) -> None:
    settings = by_address(peer)
    channel = settings.open()
    delivery = deliver(channel, replace(OPENED, target=Target("chat", address)))
    if hint is None:
        settings.validate_address(address)
        await channel.send(delivery)
        return
    with pytest.raises(ValueError, match=hint):
        settings.validate_address(address)
    with pytest.raises(Dead) as dead:
        await channel.send(delivery)
    assert peer.posted == []
    assert "ada" not in dead.value.reason


async def test_a_check_of_a_url_for_many_names_the_service(peer: WebPeer) -> None:
    assert "JSON" in await by_address(peer).open().check()


SERVICES = [
    "tgram://123456789:abcdefg_hijklmnop/{address}",
    "twilio://AC" + "0" * 32 + ":" + "0" * 32 + "@15551230000/{address}",
    "mailto://user:s3cr3t@mail.example?to={address}", "json://a.example/{address}", "ntfy://{address}",
]  # fmt: skip


@pytest.mark.parametrize("url", SERVICES, ids=lambda url: str(url).partition(":")[0])
def test_services_that_write_to_people_take_the_placeholder(url: str) -> None:
    settings = AppriseSettings.model_validate({"type": "apprise", "url": url})
    settings.validate_address("+15551234567")


@pytest.mark.parametrize("notice", EVERY_KIND.values(), ids=EVERY_KIND)
async def test_every_kind_of_notice_is_taken(peer: WebPeer, notice: Any) -> None:
    channel = service(peer)
    await channel.send(deliver(channel, notice))
    [posted] = peer.posted
    assert posted.body["title"]
    assert (REAL_LINK in posted.body["message"]) is (notice.link is not None)


class Heard(logging.Handler):
    """What reaches the root logger, and with it the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def test_neither_the_url_nor_the_link_is_in_a_log_line(peer: WebPeer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    logging.getLogger().addHandler(heard)
    try:
        logging.getLogger("tests").debug("the handler works")
        peer.says(answer(500), answer(200))
        channel = service(peer)
        with pytest.raises(Retry):
            await channel.send(deliver(channel, OPENED))
        await channel.send(deliver(channel, OPENED))
    finally:
        logging.getLogger().removeHandler(heard)
    assert len(peer.posted) == 2
    assert "the handler works" in heard.lines
    assert not [line for line in heard.lines if SECRET in line or REAL_LINK in line]


async def test_a_check_names_the_service_and_tells_nobody_anything(peer: WebPeer) -> None:
    assert "JSON" in await service(peer).check()
    assert peer.posted == []


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no such service": ({"url": "nosuch://s3cr3t@host"}, "cannot use the nosuch:// URL"),
    "no URL at all": ({"url": "s3cr3t"}, "cannot use the URL"),
    "nothing": ({"url": ""}, "cannot use the URL"),
    "a service's URL without its parts": ({"url": "tgram://s3cr3t"}, "cannot use the tgram:// URL"),
    "two services": ({"url": "json://a.example/s3cr3t, json://b.example"}, "give each its own channel"),
    "two recipients in one message": ({"url": "json://a.example/{address}/{address}/s3cr3t"}, "write {address} once"),
    "longer than a lease": ({"url": "json://a.example/s3cr3t", "timeout": 600}, "150"),
    "an unknown key": ({"url": "json://a.example/s3cr3t", "token": "s3cr3t"}, "token"),
}


@pytest.mark.parametrize(("chosen", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_settings_is_answered_with_what_to_write_and_never_with_the_secret(
    chosen: dict[str, Any], hint: str
) -> None:
    with pytest.raises(ValueError) as mistake:  # noqa: PT011
        AppriseSettings.model_validate({"type": "apprise", **chosen})
    assert hint in str(mistake.value)
    assert "s3cr3t" not in str(mistake.value)


def test_a_route_names_only_the_channel(peer: WebPeer) -> None:
    settings = AppriseSettings.model_validate({"type": "apprise", "url": "json://a.example"})
    settings.validate_address("")
    with pytest.raises(ValueError, match="write only the channel's name"):
        settings.validate_address("ada")


def test_nobody_pays_for_a_library_whose_channel_is_not_configured() -> None:
    late = "{'apprise', 'slack_sdk', 'aiosmtplib', 'jinja2', 'httpx2', 'babel'}"
    code = f"import sys, healthd.channels; print(*sorted({late} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
