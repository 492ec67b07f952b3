"""Providers' webhooks about bounces: what each says, and what proves that it said it."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook as Signer

from healthd.bounces import MOST_BOUNCES, Bounce, BounceSettings, Forged, Unreadable, hear
from tests.bounces.samples import (
    ADA,
    BODIES,
    MESSAGE_ID,
    NOTICE_ID,
    NOW,
    TOPIC,
    mailgun,
    postmark,
    resend,
    sendgrid,
    ses,
    ses_complaint,
    sns,
)

AT = datetime(2026, 11, 23, 14, tzinfo=UTC)
TOKEN = "t" * 40
KEY = "key-0123456789abcdef"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


def source(provider: str, **changes: Any) -> BounceSettings:
    return BounceSettings.model_validate({"provider": provider, "token": TOKEN, **changes})


def heard(provider: str, said: object) -> tuple[Bounce, ...]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return hear(source(provider), {}, body, NOW).bounces


@pytest.mark.parametrize("provider", BODIES)
def test_a_permanent_bounce_is_told_with_its_address_its_message_and_its_time(provider: str) -> None:
    [bounce] = heard(provider, BODIES[provider]())
    assert (bounce.address, bounce.permanent, bounce.at) == (ADA, True, AT)
    names_message = provider not in {"postmark", "resend"}
    assert bounce.notice_id == (NOTICE_ID if names_message else None)


@pytest.mark.parametrize("provider", BODIES)
def test_a_reason_holds_codes_and_no_address(provider: str) -> None:
    [bounce] = heard(provider, BODIES[provider]())
    assert re.fullmatch(r"bounced \([\w. ]+\)", bounce.reason), bounce.reason


KINDS: dict[str, tuple[str, Any, bool | None]] = {
    "ses: transient": ("ses", sns(ses(bounceType="Transient", bounceSubType="MailboxFull")), False),
    "ses: undetermined": ("ses", sns(ses(bounceType="Undetermined")), False),
    "ses: suppressed": (
        "ses",
        sns(ses(bounceSubType="OnAccountSuppressionList", bouncedRecipients=[{"emailAddress": ADA}])),
        True,
    ),
    "ses: a policy": ("ses", sns(ses(bouncedRecipients=[{"emailAddress": ADA, "status": "5.7.1"}])), False),
    "ses: as an event": ("ses", sns({"eventType": "Bounce", **ses(), "notificationType": None}), True),
    "ses: without an envelope": ("ses", ses(), True),
    "ses: a complaint": ("ses", sns(ses_complaint()), True),
    "ses: a complaint without a word": ("ses", sns(ses_complaint(None)), True),
    "ses: taken back": ("ses", sns(ses_complaint("not-spam")), False),
    "ses: a delivery": ("ses", sns({"notificationType": "Delivery", "delivery": {"recipients": [ADA]}}), None),
    "postmark: a soft bounce": ("postmark", postmark(Type="SoftBounce", Inactive=False), False),
    "postmark: blocked": ("postmark", postmark(Type="Blocked", Inactive=False), False),
    "postmark: given up": ("postmark", postmark(Type="Transient", Inactive=True), True),
    "postmark: no address": ("postmark", postmark(Type="BadEmailAddress", Inactive=False), True),
    "postmark: a complaint": ("postmark", postmark(RecordType="SpamComplaint", Type="SpamComplaint"), True),
    "postmark: on holiday": ("postmark", postmark(Type="AutoResponder", Inactive=False), None),
    "postmark: a delivery": ("postmark", {"RecordType": "Delivery", "Recipient": ADA}, None),
    "sendgrid: blocked": ("sendgrid", [sendgrid(type="blocked")], False),
    "sendgrid: a full mailbox": ("sendgrid", [sendgrid(status="5.2.2")], False),
    "sendgrid: dropped": ("sendgrid", [sendgrid(event="dropped", reason="Bounced Address")], True),
    "sendgrid: not its fault": ("sendgrid", [sendgrid(event="dropped", reason="Invalid SMTPAPI header")], None),
    "sendgrid: a complaint": ("sendgrid", [sendgrid(event="spamreport")], True),
    "sendgrid: delayed": ("sendgrid", [sendgrid(event="deferred")], None),
    "sendgrid: long after": ("sendgrid", [{k: v for k, v in sendgrid().items() if k != "smtp-id"}], True),
    "mailgun: for now": ("mailgun", mailgun(severity="temporary", reason="generic"), False),
    "mailgun: too old": ("mailgun", mailgun(reason="old"), False),
    "mailgun: blocked": ("mailgun", mailgun(reason="espblock"), False),
    "mailgun: suppressed": ("mailgun", mailgun(reason="suppress-bounce", **{"delivery-status": {"code": 605}}), True),
    "mailgun: a policy": ("mailgun", mailgun(**{"delivery-status": {"code": 550, "enhanced-code": "5.7.1"}}), False),
    "mailgun: a complaint": ("mailgun", mailgun(event="complained"), True),
    "mailgun: opened": ("mailgun", mailgun(event="opened"), None),
    "resend: for now": ("resend", resend(bounce={"type": "Transient", "subType": "General"}), False),
    "resend: a complaint": ("resend", resend("email.complained"), True),
    "resend: a delivery": ("resend", resend("email.delivered"), None),
    "resend: to two": ("resend", resend(to=[ADA, "eve@customer.example"]), None),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_only_what_is_final_marks_an_address(name: str) -> None:
    provider, said, final = KINDS[name]
    assert [bounce.permanent for bounce in heard(provider, said)] == ([] if final is None else [final])


FOREIGN = {
    "ses": lambda: sns({**ses(), "mail": {"headers": [{"name": "message-id", "value": "<4711@acme.example>"}]}}),
    "sendgrid": lambda: [sendgrid(**{"smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>"})],
    "mailgun": lambda: mailgun(message={"headers": {"message-id": "4711@acme.example"}}),
}


@pytest.mark.parametrize("provider", FOREIGN)
def test_what_else_goes_through_the_same_provider_is_not_ours(provider: str) -> None:
    make: Callable[[], Any] = FOREIGN[provider]
    assert heard(provider, make()) == ()


@pytest.mark.parametrize(
    ("mail", "notice_id"),
    [
        ({}, None),
        ({"commonHeaders": {"messageId": "0102018f-1234-000000"}}, None),
        ({"headers": [{"name": "Message-ID", "value": "<0102018f-1234@eu-west-1.amazonses.com>"}]}, None),
        ({"commonHeaders": {"messageId": MESSAGE_ID}}, NOTICE_ID),
    ],
)
def test_ses_may_tell_only_its_own_id(mail: dict[str, Any], notice_id: str | None) -> None:
    [bounce] = heard("ses", sns({**ses(), "mail": mail}))
    assert bounce.notice_id == notice_id


def test_a_batch_is_read_as_far_as_anybody_needs_it() -> None:
    bounces = heard("sendgrid", [sendgrid(email=f"a{number}@customer.example") for number in range(MOST_BOUNCES + 5)])
    assert len(bounces) == MOST_BOUNCES


def test_half_a_character_in_a_subject_does_not_lose_the_bounce() -> None:
    body = json.dumps(postmark(Subject="cut \ud83d")).encode()
    assert rb"\ud83d" in body
    assert len(heard("postmark", body)) == 1


# What is not believed.

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(ADA) | st.just(MESSAGE_ID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path]
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(inner, (*path, key))
    return found


def put(value: Any, path: tuple[str | int, ...], junk: Any) -> Any:
    if not path:
        return junk
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], junk)
    return copy


PLAIN: dict[str, Any] = {
    "ses": ses(),
    "postmark": postmark(),
    "sendgrid": [sendgrid()],
    "mailgun": mailgun(),
    "resend": resend(),
}


@pytest.mark.parametrize("provider", PLAIN)
@given(data=st.data())
def test_anything_in_any_place_leads_to_sound_bounces_or_to_none(provider: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(PLAIN[provider])))
    try:
        bounces = heard(provider, put(PLAIN[provider], path, data.draw(JUNK)))
    except Unreadable:
        return
    for bounce in bounces:
        assert re.fullmatch(r"[!-~]+@[A-Za-z0-9.-]+", bounce.address)
        assert re.fullmatch(r"(bounced|complaint|dropped)( \([\w. -]+\))?", bounce.reason), bounce.reason
        assert bounce.at <= NOW
        assert bounce.at.tzinfo is not None


@pytest.mark.parametrize("provider", PLAIN)
@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"[" * 500_000, b'{"a":' * 200_000, b"1" * 10_000, b"<html>", b"{}{}", b"nul"],
    ids=["nothing", "bytes", "a deep list", "a deep object", "a long number", "a page", "two", "half a word"],
)
def test_what_is_no_json_is_told_as_that(provider: str, body: bytes) -> None:
    with pytest.raises(Unreadable, match="not JSON"):
        heard(provider, body)


@pytest.mark.parametrize(
    "address", ["", "ada", "a@b\r\nBcc: eve@evil.example", "a b@c.example", "<script>@x", "é@x.example", 7]
)
def test_an_address_that_is_none_is_nobody(address: object) -> None:
    assert heard("postmark", postmark(Email=address)) == ()


@pytest.mark.parametrize("at", [1e300, float("nan"), -1e20, True, "soon", "2099-01-01T00:00:00Z", None, [], 10**400])
def test_a_time_that_cannot_be_is_now(at: object) -> None:
    [bounce] = heard("sendgrid", [sendgrid(timestamp=at)])
    assert bounce.at == NOW


# Amazon's topics.


def confirmation(**changes: Any) -> bytes:
    url = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
    return sns(
        "You have chosen to subscribe.",
        Type="SubscriptionConfirmation",
        SubscribeURL=url,
        Token="2336412f37",
        **changes,
    )


def test_a_topic_that_is_named_in_the_settings_is_confirmed() -> None:
    said = hear(source("ses", topic=TOPIC), {}, confirmation(), NOW)
    assert said.subscription is not None
    assert said.subscription.startswith("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&")


def test_without_one_the_operator_is_asked_and_nothing_is_fetched() -> None:
    said = hear(source("ses"), {}, confirmation(), NOW)
    assert (said.subscription, said.unconfirmed) == (None, TOPIC)


def test_a_topic_of_somebody_else_is_not_listened_to() -> None:
    other = TOPIC.replace("bounces", "evil")
    for body in (confirmation(TopicArn=other), sns(ses(), TopicArn=other), json.dumps(ses()).encode()):
        with pytest.raises(Forged):
            hear(source("ses", topic=TOPIC), {}, body, NOW)


SOMEWHERE_ELSE = [
    "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription&TopicArn={t}",
    "https://evil.example/?Action=ConfirmSubscription&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=ConfirmSubscription&TopicArn={t}",
    "https://evil.example\\@sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com:8443/?Action=ConfirmSubscription&TopicArn={t}",
    "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={t}",
    "https://sqs.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com/?Action=Publish&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Action=Publish&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=other",
    "https://sns.eu-west-1.amazonaws.com/x?Action=ConfirmSubscription&TopicArn={t}",
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={t}\r\nX: y",
    "https://[::1/",
    "",
    None,
]


@pytest.mark.parametrize("url", SOMEWHERE_ELSE)
def test_nothing_is_confirmed_anywhere_but_at_amazon(url: str | None) -> None:
    body = sns("", Type="SubscriptionConfirmation", SubscribeURL=url.format(t=TOPIC) if url else url)
    with pytest.raises(Unreadable, match="not Amazon's"):
        hear(source("ses", topic=TOPIC), {}, body, NOW)


def test_the_word_that_a_subscription_works_is_no_bounce() -> None:
    with pytest.raises(Unreadable):
        heard("ses", sns("Successfully validated SNS topic for Amazon SES event publishing."))


# Signatures.


def signed_mailgun(key: str = KEY, at: datetime = NOW, **changes: Any) -> bytes:
    timestamp, token = str(int(at.timestamp())), "a8ce0edb2dd8301dee6c2405235584e45aa91d1e"
    signature = hmac.digest(key.encode(), f"{timestamp}{token}".encode(), "sha256").hex()
    return json.dumps(
        {**mailgun(), "signature": {"timestamp": timestamp, "token": token, "signature": signature, **changes}}
    ).encode()


def test_mailguns_signature_is_asked_for_where_its_key_is_known() -> None:
    settings = source("mailgun", secrets=["old-key-0123456789", KEY])
    assert len(hear(settings, {}, signed_mailgun(), NOW).bounces) == 1


@pytest.mark.parametrize(
    "body",
    [
        signed_mailgun("another-key-012345"),
        signed_mailgun(at=NOW - timedelta(seconds=301)),
        signed_mailgun(at=NOW + timedelta(seconds=301)),
        signed_mailgun(timestamp="1795442699"),
        signed_mailgun(signature=""),
        signed_mailgun(signature=None),
        signed_mailgun(signature=["0"]),
        signed_mailgun(signature="é" * 64),
        signed_mailgun(timestamp="१७९५४४२७००"),
        signed_mailgun(token="x" * 100_000),
        json.dumps({"event-data": mailgun()["event-data"]}).encode(),
        b"[]",
    ],
)
def test_a_mailgun_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Forged):
        hear(source("mailgun", secrets=KEY), {}, body, NOW)


def signed_resend(secret: str = WHSEC, at: datetime = NOW, prefix: str = "svix") -> dict[str, str]:
    return {
        f"{prefix}-id": "msg_1",
        f"{prefix}-timestamp": str(int(at.timestamp())),
        f"{prefix}-signature": Signer(secret).sign("msg_1", at, BODIES["resend"]().decode()),
    }


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
def test_resends_signature_is_that_of_the_standard(prefix: str) -> None:
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    settings = source("resend", secrets=[other, WHSEC])
    headers = signed_resend(prefix=prefix)
    assert len(hear(settings, headers, BODIES["resend"](), NOW).bounces) == 1
    headers[f"{prefix}-signature"] = f"v1a,xyz v1,AAAA {headers[f'{prefix}-signature']}"
    assert len(hear(settings, headers, BODIES["resend"](), NOW).bounces) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed_resend("whsec_" + base64.b64encode(b"x" * 32).decode()),
        signed_resend(at=NOW - timedelta(seconds=301)),
        signed_resend(at=NOW + timedelta(seconds=301)),
        {**signed_resend(), "svix-id": "msg_2"},
        {**signed_resend(), "svix-timestamp": "1795442699"},
        {**signed_resend(), "svix-signature": ""},
        {**signed_resend(), "svix-signature": "v1,é"},
        {**signed_resend(), "svix-signature": "v1"},
        {**signed_resend(), "svix-id": "é"},
        {**signed_resend(), "svix-signature": "v1,x " * 5000 + signed_resend()["svix-signature"]},
    ],
)
def test_a_resend_that_is_none_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forged):
        hear(source("resend", secrets=WHSEC), headers, BODIES["resend"](), NOW)


def test_a_changed_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(Forged):
        hear(source("resend", secrets=WHSEC), signed_resend(), BODIES["resend"]() + b" ", NOW)
    with pytest.raises(Forged):
        hear(source("resend", secrets=WHSEC), signed_resend(), b"{", NOW)


# Settings.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"token": "short"}, "openssl rand"),
        ({"token": "x/../" * 20}, "openssl rand"),
        ({"provider": "gmail"}, "postmark"),
        ({"provider": "postmark", "secrets": [KEY]}, "leave secrets out"),
        ({"provider": "resend", "secrets": [KEY]}, "whsec_"),
        ({"provider": "mailgun", "secrets": ["short"]}, "too short"),
        ({"provider": "postmark", "topic": TOPIC}, "topic is for ses"),
        ({"topic": "bounces"}, "ARN"),
        ({"tokn": TOKEN}, "not permitted"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)) as refused:
        source(changes.pop("provider", "ses"), **changes)
    assert KEY not in str(refused.value)
