"""Outgoing webhooks, against an endpoint on loopback that keeps every byte."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import ValidationError
from standardwebhooks import Webhook as Verifier

from healthd.channels.base import (
    LINK,
    AccountFacts,
    Content,
    Dead,
    Delivery,
    Message,
    Notice,
    Retry,
    StormNotice,
    TroubleNotice,
)
from healthd.channels.webhook import EVENTS, LONGEST_PAUSE, TYPES, Webhook, WebhookSettings, event
from healthd.core.model import Cause, NoticeKind, State, Target
from tests.loopback import Answer, Asked, answer, serving

PAGE = (Path(__file__).parents[2] / "docs" / "outgoing-webhooks.md").read_text("utf-8")
[SCHEMA] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
[RECEIVER] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
OLDER = "whsec_plJ3nmyCDGBKInavdOK15jsl0plJ3nmyCDGBKInavdOK"
REAL_LINK = 'https://healthd.acme.example/r/5f0c9a4e.Zm9v?a=1&b="2"'
AT = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
NOTICE_ID = "5f0c9a4e2b7d4d1a5f0c9a4e"

COFFEE = AccountFacts("1042", "facebook", "Acme Coffee", "acmecoffee", "Acme", Cause.TOKEN, False, AT)
PLACE = AccountFacts("1043", "instagram", "Acme Place", None, None, Cause.CONNECTION, True, AT)
OPENED = Notice(NOTICE_ID, NoticeKind.OPENED, 0, Target("app"), "acme", (COFFEE,), AT)
TROUBLE = TroubleNotice(
    NOTICE_ID, NoticeKind.TROUBLE, Target("app"), "acme", "unauthorized", "list", "It is refused.", "Set a new one.",
    AT, AT,
)  # fmt: skip
STORM = StormNotice(
    NOTICE_ID, NoticeKind.STORM, Target("app"), "acme", "facebook", 40, 100, timedelta(minutes=10), timedelta(hours=1),
    AT, AT,
)  # fmt: skip

MESSAGES: dict[NoticeKind, Message] = {
    **{kind: replace(OPENED, kind=kind) for kind in (NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED)},
    NoticeKind.RESOLVED: replace(OPENED, kind=NoticeKind.RESOLVED, link=None),
    NoticeKind.WRONG_ACCOUNT: replace(OPENED, kind=NoticeKind.WRONG_ACCOUNT),
    NoticeKind.CHRONIC: replace(OPENED, kind=NoticeKind.CHRONIC, link=None),
    NoticeKind.EXPIRING: replace(
        OPENED, kind=NoticeKind.EXPIRING, link=None, accounts=(replace(COFFEE, validity_days=5),)
    ),
    NoticeKind.TROUBLE: TROUBLE,
    NoticeKind.TROUBLE_OVER: replace(TROUBLE, kind=NoticeKind.TROUBLE_OVER, ended_at=AT),
    NoticeKind.STORM: STORM,
    NoticeKind.STORM_OVER: replace(STORM, kind=NoticeKind.STORM_OVER, ended_at=AT, outcome="released"),
}


def facts(**changes: Any) -> dict[str, Any]:
    return {"at": AT, "workspace": "acme", "account": "1042", "platform": "facebook", "name": "Acme Coffee", **changes}


def settings(url: str = "https://app.acme.example/hooks/healthd", **changes: Any) -> WebhookSettings:
    return WebhookSettings.model_validate({"type": "webhook", "url": url, "secrets": [SECRET], "timeout": 5, **changes})


def delivery(content: Content, link: str | None = REAL_LINK) -> Delivery:
    return Delivery(NOTICE_ID, NoticeKind.EVENT, Target("app"), content, link, AT)


@dataclass
class Endpoint:
    """Answers 204, or what it is told to say next."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    says: list[Answer] = field(default_factory=list)

    def respond(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self.says.pop(0) if self.says else answer(204)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    async with serving(made.respond) as address:
        made.url = f"http://{address}/hooks/healthd?key=s3cr3t"
        yield made


@asynccontextmanager
async def channel(url: str = "https://app.acme.example/hooks", **changes: Any) -> AsyncIterator[Webhook]:
    made = settings(url, **changes).open()
    try:
        yield made
    finally:
        await made.close()


def payload(content: Content) -> dict[str, Any]:
    said = json.loads(content["body"])
    assert isinstance(said, dict)
    return said


# What is said.


@pytest.mark.parametrize("kind", MESSAGES)
async def test_whatever_it_can_put_into_words_is_what_the_page_describes(kind: NoticeKind) -> None:
    async with channel() as hook:
        said = payload(hook.render(MESSAGES[kind]))
    Draft202012Validator(SCHEMA).validate(said)
    assert said["type"] == TYPES[kind]
    assert f"`{TYPES[kind]}`" in PAGE


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_what_the_page_describes(name: str) -> None:
    full = facts(
        username="acmecoffee", profile="Acme", state=State.EXPIRED, previous_state=State.SUSPECT, incident_id="inc1",
        cause=Cause.TOKEN, broken_since=AT, resolved_at=AT + timedelta(hours=1), reason="repaired",
    )  # fmt: skip
    for given_facts in (facts(), full):
        said = payload(event(name, **given_facts))
        Draft202012Validator(SCHEMA).validate(said)
        assert said["type"] == name
        assert f"`{name}`" in PAGE
    [account] = said["data"]["accounts"]
    assert (account["state"], account["previous_state"], account["cause"]) == ("expired", "suspect", "token")
    assert (said["data"]["incident_id"], said["data"]["reason"]) == ("inc1", "repaired")


def test_every_kind_of_notice_has_a_type() -> None:
    assert TYPES.keys() == MESSAGES.keys() == set(NoticeKind) - {NoticeKind.EVENT}


async def test_several_accounts_of_one_message_are_one_list() -> None:
    async with channel() as hook:
        data = payload(hook.render(replace(OPENED, accounts=(COFFEE, PLACE), more=3)))["data"]
    assert [(row["id"], row["cause"]) for row in data["accounts"]] == [("1042", "token"), ("1043", "connection")]
    assert data["more"] == 3


async def test_a_moment_is_told_in_utc_and_is_that_of_the_fact() -> None:
    elsewhere = AT.astimezone(ZoneInfo("Asia/Tokyo"))
    assert payload(event("account.changed", **facts(at=elsewhere)))["timestamp"] == "2026-11-23T14:05:00Z"


async def test_an_account_that_expires_is_not_called_broken() -> None:
    async with channel() as hook:
        [row] = payload(hook.render(MESSAGES[NoticeKind.EXPIRING]))["data"]["accounts"]
    assert (row["cause"], row["broken_since"], row["validity_days"]) == (None, None, 5)


HAVE_LINK = {"incident.opened", "incident.reminded", "incident.escalated"}


@pytest.mark.parametrize("name", EVENTS)
async def test_the_link_is_filled_in_at_sending_where_somebody_must_act(endpoint: Endpoint, name: str) -> None:
    content = event(name, **facts())
    assert REAL_LINK not in str(content)
    async with channel(endpoint.url) as hook:
        await hook.send(delivery(content))
        await hook.send(delivery(content, None))
    links = [json.loads(asked.body)["data"]["link"] for asked in endpoint.asked]
    assert links == [REAL_LINK if name in HAVE_LINK else None, None]
    assert b"healthd.invalid" not in endpoint.asked[0].body + endpoint.asked[1].body


@given(st.text(max_size=80), st.text(max_size=80) | st.sampled_from([LINK, f'"{LINK}"', '"}}', f'\\"{LINK}\\"']))
def test_any_name_arrives_as_it_is_and_nothing_is_filled_into_it(username: str, name: str) -> None:
    content = event("incident.opened", **facts(name=name, username=username))
    from healthd.channels import webhook

    for link in (REAL_LINK, None):
        data = json.loads(webhook._filled(content["body"], link))["data"]
        assert (data["accounts"][0]["name"], data["accounts"][0]["username"]) == (name, username)
        assert data["link"] == link


# What proves it.


async def test_the_specifications_own_library_verifies_it_with_the_new_secret_and_the_old(endpoint: Endpoint) -> None:
    content = event("incident.opened", **facts(name="Ünïcödé ☕️"))
    async with channel(endpoint.url, secrets=[SECRET, OLDER]) as hook:
        await hook.send(delivery(content))
    [asked] = endpoint.asked
    for secret in (SECRET, OLDER):
        said = Verifier(secret).verify(asked.body, dict(asked.headers))
        assert said["data"]["accounts"][0]["name"] == "Ünïcödé ☕️"
    assert asked.headers["webhook-signature"].split(" ")[0] == Verifier(SECRET).sign(
        NOTICE_ID, datetime.fromtimestamp(int(asked.headers["webhook-timestamp"]), UTC), asked.body.decode()
    ), "the newest signs first"
    assert (asked.method, asked.path) == ("POST", "/hooks/healthd?key=s3cr3t")
    assert asked.headers["content-type"] == "application/json"


async def test_a_repeat_is_the_same_bytes_under_the_same_id_at_another_time(endpoint: Endpoint) -> None:
    times = iter([AT, AT + timedelta(hours=7)])
    made = Webhook(settings(endpoint.url), now=lambda: next(times))
    endpoint.says = [answer(500)]
    content = event("incident.opened", **facts())
    with pytest.raises(Retry):
        await made.send(delivery(content))
    assert await made.send(delivery(content)) == {}
    await made.close()
    first, second = endpoint.asked
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == NOTICE_ID
    moments = [int(asked.headers["webhook-timestamp"]) for asked in endpoint.asked]
    assert moments == [int(AT.timestamp()), int(AT.timestamp()) + 7 * 3600]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_the_receiver_on_the_page_takes_what_is_signed_once_and_nothing_else() -> None:
    assert len(list(filter(None, RECEIVER.strip().splitlines()))) <= 15
    names: dict[str, Any] = {}
    exec(RECEIVER, names)
    quiet = type("Quiet", (names["Receiver"],), {"log_message": lambda *_: None})
    with running(quiet) as url:
        async with channel(url) as hook, channel(url, secrets=[OLDER]) as stranger:
            for _ in range(2):
                await hook.send(delivery(event("incident.opened", **facts())))
            with pytest.raises(Retry, match="401"):
                await stranger.send(delivery(event("incident.opened", **facts())))
    [said] = names["seen"].values()
    assert (said["type"], said["data"]["link"]) == ("incident.opened", REAL_LINK)


# What the endpoint answers.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_takes_it(endpoint: Endpoint, status: int) -> None:
    endpoint.says = [answer(status, b"thanks" if status != 204 else b"")]
    async with channel(endpoint.url) as hook:
        assert await hook.send(delivery(event("account.changed", **facts()))) == {}


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 409, 413, 415, 418, 422, 425, 429, 500, 502, 503, 504, 599]
)
async def test_whatever_somebody_may_mend_is_tried_again(endpoint: Endpoint, status: int) -> None:
    endpoint.says = [answer(status, b"<html>ada@acme.example</html>")]
    async with channel(endpoint.url) as hook:
        with pytest.raises(Retry, match=str(status)) as retry:
            await hook.send(delivery(event("account.changed", **facts())))
    assert not retry.value.unknown
    assert not re.search(r"s3cr3t|127\.0\.0\.1|ada@|html", retry.value.reason)


async def test_an_endpoint_that_is_gone_is_told_no_more(endpoint: Endpoint) -> None:
    endpoint.says = [answer(410)]
    async with channel(endpoint.url) as hook:
        with pytest.raises(Dead, match="gone"):
            await hook.send(delivery(event("account.changed", **facts())))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(endpoint: Endpoint, status: int) -> None:
    elsewhere = Endpoint()
    async with serving(elsewhere.respond) as address:
        endpoint.says = [answer(status, b"", {"location": f"http://{address}/"})]
        async with channel(endpoint.url) as hook:
            with pytest.raises(Retry, match=r"redirects .* set url to where it leads"):
                await hook.send(delivery(event("account.changed", **facts())))
    assert elsewhere.asked == []


PAUSES: dict[str, float | None] = {
    "0": 0.0,
    "120": 120.0,
    "99999": LONGEST_PAUSE,
    "99999999999999999999": None,
    "Mon, 23 Nov 2026 14:07:00 GMT": 120.0,
    "Mon, 23 Nov 2026 14:07:00": 120.0,
    "Mon, 23 Nov 2020 14:07:00 GMT": 0.0,
    "Mon, 23 Nov 2099 14:07:00 GMT": LONGEST_PAUSE,
    "Mon, 99 Nov 2099 14:07:00 GMT": None,
    "soon": None,
    "-5": None,
    "": None,
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", PAUSES)
async def test_a_pause_that_is_asked_for_is_kept_within_reason(endpoint: Endpoint, status: int, said: str) -> None:
    endpoint.says = [answer(status, b"", {"retry-after": said})]
    made = Webhook(settings(endpoint.url), now=lambda: AT)
    with pytest.raises(Retry) as retry:
        await made.send(delivery(event("account.changed", **facts())))
    await made.close()
    assert retry.value.after == PAUSES[said]


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def stammer(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 2O0 OK\r\n\r\n")


@pytest.mark.parametrize("way", [silence, hang_up, stammer])
async def test_no_answer_after_sending_may_mean_that_it_arrived(endpoint: Endpoint, way: Answer) -> None:
    endpoint.says = [way]
    async with channel(endpoint.url, timeout=0.3) as hook:
        with pytest.raises(Retry) as retry:
            await hook.send(delivery(event("account.changed", **facts())))
    assert retry.value.unknown
    assert len(endpoint.asked) == 1


async def test_what_was_never_sent_cannot_have_arrived() -> None:
    async with serving(lambda _: b"") as address:
        url = f"http://{address}/"
    async with channel(url) as hook:
        with pytest.raises(Retry) as retry:
            await hook.send(delivery(event("account.changed", **facts())))
    assert not retry.value.unknown


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(2000):
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_an_answer_without_end_has_been_given_all_the_same(endpoint: Endpoint) -> None:
    endpoint.says = [endless]
    async with channel(endpoint.url) as hook:
        assert await hook.send(delivery(event("account.changed", **facts()))) == {}


async def test_an_answer_whose_body_never_comes_has_been_given_all_the_same(endpoint: Endpoint) -> None:
    async def begin(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
        await writer.drain()
        await asyncio.Event().wait()

    endpoint.says = [begin]
    async with channel(endpoint.url) as hook:
        assert await hook.send(delivery(event("account.changed", **facts()))) == {}


async def test_one_connection_serves_several_events() -> None:
    connections: list[None] = []
    made = Endpoint()
    async with (
        serving(made.respond, connected=lambda: connections.append(None)) as address,
        channel(f"http://{address}/") as hook,
    ):
        made.says = [answer(200, b"thanks"), answer(500, b"sorry")]
        await hook.send(delivery(event("account.changed", **facts())))
        with pytest.raises(Retry):
            await hook.send(delivery(event("account.changed", **facts())))
        await hook.send(delivery(event("account.changed", **facts())))
    assert len(connections) == 1


# Where it may lead.


@pytest.mark.parametrize("host", ["10.0.0.7", "169.254.169.254", "[fd00::1]", "[::ffff:127.0.0.1]", "2130706433"])
async def test_an_address_inside_is_not_called(host: str) -> None:
    async with channel(f"https://{host}/") as hook:
        for attempt in (hook.check(), hook.send(delivery(event("account.changed", **facts())))):
            with pytest.raises(Retry, match="inside a private network") as retry:
                await attempt
            assert not retry.value.unknown
            assert host not in retry.value.reason


async def test_an_untrusted_certificate_is_told_as_one_and_nothing_is_sent() -> None:
    tls = SSLContext(PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    made = Endpoint()
    async with serving(made.respond, tls=tls) as address, channel(f"https://{address}/") as hook:
        with pytest.raises(Retry, match="no trusted TLS") as retry:
            await hook.send(delivery(event("account.changed", **facts())))
    assert not retry.value.unknown
    assert made.asked == []


async def test_a_check_sends_no_event(endpoint: Endpoint) -> None:
    endpoint.says = [answer(405)]
    async with channel(endpoint.url) as hook:
        assert "405" in await hook.check()
    [asked] = endpoint.asked
    assert (asked.method, asked.body) == ("HEAD", b"")
    assert not any(name.startswith("webhook-") for name in asked.headers)


# Settings.

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "plain http": ({"url": "http://app.acme.example/"}, "must be https"),
    "plain http to a name like loopback": ({"url": "http://localhost.evil.example/"}, "must be https"),
    "a user in the url": ({"url": "https://user:pw@app.acme.example/"}, "write it as"),
    "a fragment": ({"url": "https://app.acme.example/#x"}, "write it as"),
    "a line break": ({"url": "https://app.acme.example/\r\nX: y"}, "write it as"),
    "a port that is none": ({"url": "https://app.acme.example:99999/"}, "write it as"),
    "an address that is none": ({"url": "https://[::g]/"}, "write it as"),
    "two dots": ({"url": "https://app..example/"}, "write it as"),
    "no secret": ({"secrets": []}, "at least 1"),
    "a secret without its prefix": ({"secrets": [SECRET.removeprefix("whsec_")]}, "openssl rand"),
    "a secret that is no base64": ({"secrets": ["whsec_!!!"]}, "openssl rand"),
    "a short secret": ({"secrets": ["whsec_c2hvcnQ="]}, "openssl rand"),
    "an event that is none": ({"events": ["incident.closed"]}, "incident.opened"),
    "a severity that is none": ({"min_severity": "fatal"}, "info"),
    "a timeout beyond the lease": ({"timeout": 150}, "less than or equal"),
    "a key that is none": ({"secret": SECRET}, "not permitted"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_told_without_the_secret(name: str) -> None:
    changes, said = BAD[name]
    with pytest.raises(ValidationError, match=re.escape(said)) as refused:
        settings(**changes)
    assert SECRET.removeprefix("whsec_") not in str(refused.value)
    assert "user:pw" not in str(refused.value)


def test_one_secret_and_one_event_need_no_list() -> None:
    made = settings(secrets=SECRET, events="account.changed")
    assert (len(made.secrets), made.events) == (1, ("account.changed",))


def test_a_webhook_has_one_recipient() -> None:
    settings().validate_address("")
    with pytest.raises(ValueError, match="write only the channel's name"):
        settings().validate_address("ada")
