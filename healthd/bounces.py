"""Mail that came back: what a mail server's report (RFC 3464) or a mail provider's webhook says of an address. Pure.

Anybody can write such a report, so one counts only where it names a message of ours, by its Message-ID, or comes from
the provider that sent the message and cannot say which it was. Reasons hold codes only: what servers say in words
quotes addresses.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, BinaryIO, Literal, TypeVar
from urllib.parse import parse_qs

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from healthd.core.text import clean
from healthd.sections import Section, as_list

Provider = Literal["ses", "postmark", "sendgrid", "mailgun", "resend", "dsn"]

KIB = 1024
LIMITS: Mapping[Provider, int] = {
    "ses": 512 * KIB,
    "postmark": 256 * KIB,
    "sendgrid": 1024 * KIB,
    "mailgun": 256 * KIB,
    "resend": 64 * KIB,
    "dsn": 1024 * KIB,
}
"""Bytes of one delivery. SendGrid sends in batches, and a report may carry the whole message back."""
MAIL_LIMIT = LIMITS["dsn"]
TOLERANCE = timedelta(minutes=5)
"""How old a signature may be."""

MOST_BOUNCES = 1000
MOST_PARTS = 10
"""Parts of a report that are looked at: the standard has three."""
MOST_LINES = 40_000
MOST_BOUNDARIES = 40
LONGEST_FIELD = 4096
"""Of a mail: Python's parser needs time by the product of lines and levels, and by the square of a field's length."""

_MAILBOX = re.compile(r"[\x21-\x3b\x3d\x3f\x41-\x7e]{1,64}@[A-Za-z0-9.-]{1,253}")
_OURS = re.compile(r"<?([0-9a-f]{24})@[A-Za-z0-9.-]{1,253}>?", re.ASCII)
_ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])", re.ASCII)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{1,39}", re.ASCII)
_CONTENT_TYPE = re.compile(rb"^content-type:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,200}", re.ASCII)
_TOPIC = re.compile(r"arn:aws(?:-cn|-us-gov)?:sns:(?P<region>[a-z0-9-]{1,40}):[0-9]{12}:[A-Za-z0-9_-]{1,256}", re.ASCII)
_SUBSCRIBE = re.compile(
    r"https://sns\.(?P<region>[a-z0-9-]{1,40})\.amazonaws\.com(?:\.cn)?/?\?(?P<query>[A-Za-z0-9%&=:._~+-]+)", re.ASCII
)


class Unreadable(Exception):
    """This is no bounce that anything follows from; the text says why, without quoting it."""


class Forged(Exception):
    """The provider's own signature, or the topic, is not the one that is configured."""


@dataclass(frozen=True, slots=True)
class Bounce:
    """What became of mail to ``address``. ``permanent``: writing there again is pointless, or unwelcome.

    ``notice_id`` is that of the message, where the report can name it: then only its own recipient may be marked.
    ``None`` comes only from a provider whose reports cannot, and counts for an address that was written to.
    """

    address: str
    permanent: bool
    reason: str
    notice_id: str | None
    at: datetime

    def concerns(self, address: str) -> bool:
        """Whether that address is meant: a report about whom it forwards to says nothing of it."""
        return self.address.casefold() == address.casefold()


@dataclass(frozen=True, slots=True)
class Heard:
    """What one delivery says. ``subscription`` is where the subscription of Amazon's topic is to be confirmed, once and
    by us; ``unconfirmed`` the ARN of a topic whose subscription is for the operator to confirm.
    """

    bounces: tuple[Bounce, ...] = ()
    subscription: str | None = None
    unconfirmed: str = ""


def _guessable(value: SecretStr) -> SecretStr:
    if not _TOKEN.fullmatch(value.get_secret_value()):
        raise ValueError("needs 32 letters, digits, - and _ or more: make one with `openssl rand -hex 32`")
    return value


def _not_empty(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().strip()) < 16:
        raise ValueError("is too short: copy the signing key from the provider's page about webhooks")
    return value


class BounceSettings(Section):
    """Who reports bounces to ``POST /bounces/NAME/TOKEN``.

    ``secrets`` are the provider's signing keys: Mailgun's sign a time, Resend's the whole body. ``topic`` is the ARN of
    the one Amazon topic that is listened to; once it is set, its subscription is confirmed.
    """

    provider: Provider
    token: Annotated[SecretStr, AfterValidator(_guessable)]
    secrets: Annotated[tuple[Annotated[SecretStr, AfterValidator(_not_empty)], ...], BeforeValidator(as_list)] = ()
    topic: str | None = None

    @model_validator(mode="after")
    def _its_own(self) -> BounceSettings:
        if self.secrets and self.provider not in _SIGNATURES:
            raise ValueError(
                f"{self.provider} signs nothing that healthd checks: leave secrets out, the token is enough"
            )
        if self.provider == "resend" and any(_key(secret.get_secret_value()) is None for secret in self.secrets):
            raise ValueError("a signing secret of Resend's begins with whsec_: copy it from the webhook's page")
        if self.topic is not None and (self.provider != "ses" or not _TOPIC.fullmatch(self.topic)):
            raise ValueError("topic is for ses, and the topic's ARN: arn:aws:sns:eu-west-1:123456789012:bounces")
        return self


def hear(settings: BounceSettings, headers: Mapping[str, str], body: bytes, now: datetime) -> Heard:
    """What a delivery says. ``headers`` have names in lower case. Raises ``Forged`` where the signature that is
    configured does not hold, and ``Unreadable`` for what is no report of this provider's.
    """
    secrets = [secret.get_secret_value() for secret in settings.secrets]
    if settings.provider == "dsn":
        return Heard(read_mail(body, now))
    # The signature of the whole body is checked before anything reads it.
    if settings.provider == "resend" and secrets and not _is_standard(secrets, headers, body, now):
        raise Forged("signature")
    said = _json(body)
    if settings.provider == "mailgun" and secrets and not _is_mailgun(secrets, _dict(said).get("signature"), now):
        raise Forged("signature")
    if settings.provider == "ses":
        return _ses(said, settings.topic, now)
    return Heard(_kept(_READERS[settings.provider](said, now)))


def read_stream(stream: BinaryIO, now: datetime) -> tuple[Bounce, ...]:
    """What the mail on a stream says, such as standard input. Raises ``Unreadable``."""
    return read_mail(stream.read(MAIL_LIMIT + 1), now)


def _kept(bounces: Iterator[Bounce | None]) -> tuple[Bounce, ...]:
    found = []
    for bounce in bounces:
        if bounce is not None:
            found.append(bounce)
        if len(found) == MOST_BOUNCES:
            break
    return tuple(found)


def _bounce(
    address: object, permanent: bool, what: str, codes: Sequence[object], message_id: object, at: object, now: datetime
) -> Bounce | None:
    """``None`` where it names no address, or a message that is not ours."""
    mailbox = _mailbox(address)
    named = _text(message_id)
    ours = _OURS.fullmatch(named)
    if mailbox is None or (named and ours is None):
        return None
    told = " ".join(dict.fromkeys(filter(None, map(_code, codes))))
    reason = clean(f"{what} ({told})" if told else what)
    return Bounce(mailbox, permanent, reason, ours[1] if ours else None, _moment(at, now))


def _mailbox(value: object) -> str | None:
    text = _text(value).removeprefix("<").removesuffix(">")
    return text if _MAILBOX.fullmatch(text) else None


def _code(value: object) -> str:
    """A status or a provider's own word; anything else could hold an address."""
    if isinstance(value, int) and not isinstance(value, bool) and 200 <= value < 1000:
        return str(value)
    text = _text(value)
    status = _ENHANCED.search(text)
    return status[0] if status else text if _WORD.fullmatch(text) else ""


def _is_about_address(status: object) -> bool:
    """Whether a permanent status (RFC 3463) is about the recipient. One about the message, about its size, or about a
    sender that a policy is against would be the same for any address; a mailbox that is full may be emptied.
    """
    found = _ENHANCED.search(_text(status))
    if found is None:
        return True
    kind, subject, detail = found[1], int(found[2]), int(found[3])
    return kind == "5" and subject not in {6, 7} and (subject, detail) not in _NOT_THE_ADDRESS


_NOT_THE_ADDRESS = frozenset({(1, 7), (1, 8), (2, 2), (2, 3), (3, 4), (4, 7)})


def _moment(value: object, now: datetime) -> datetime:
    """When it happened; now where that is not said, or lies ahead."""
    if isinstance(value, datetime):
        return min(value, now)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            at = datetime.fromtimestamp(value, UTC)
        else:
            at = datetime.fromisoformat(_text(value))
            at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return now
    return min(at, now)


def _json(body: bytes | str) -> object:
    try:
        # The standard library's parser takes half a surrogate pair, as subjects that were cut hold: orjson would refuse
        # the whole report for it.
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("it is not JSON") from None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value[:MOST_BOUNCES] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) and len(value) <= 2000 else ""


def _ses(said: object, topic: str | None, now: datetime) -> Heard:
    """https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html, in the envelope of SNS or without it."""
    envelope = _dict(said)
    kind = envelope.get("Type")
    if topic is not None and envelope.get("TopicArn") != topic:
        raise Forged("topic")
    if kind == "SubscriptionConfirmation":
        return _subscription(envelope, topic)
    if kind == "UnsubscribeConfirmation":
        raise Unreadable("the topic says that its subscription has ended")
    report = _dict(_json(_text_of_any_length(envelope.get("Message")))) if kind == "Notification" else envelope
    return Heard(_kept(_ses_report(report, now)))


def _text_of_any_length(value: object) -> str:
    return value if isinstance(value, str) else ""


def _subscription(envelope: Mapping[str, Any], topic: str | None) -> Heard:
    """For us to confirm only where the operator has named the topic, and at an address that can do nothing else: the
    sender chooses it.
    """
    named = _TOPIC.fullmatch(_text(envelope.get("TopicArn")))
    if named is None:
        raise Unreadable("a subscription without a topic")
    if topic is None:
        return Heard(unconfirmed=named[0])
    found = _SUBSCRIBE.fullmatch(_text(envelope.get("SubscribeURL")))
    asked = parse_qs(found["query"]) if found else {}
    confirms = asked.get("Action") == ["ConfirmSubscription"] and asked.get("TopicArn") == [topic]
    if found is None or found["region"] != named["region"] or not confirms:
        raise Unreadable("the address that would confirm the subscription is not Amazon's")
    return Heard(subscription=found[0])


def _ses_report(report: Mapping[str, Any], now: datetime) -> Iterator[Bounce | None]:
    kind = report.get("notificationType") or report.get("eventType")
    message_id = _ses_message_id(_dict(report.get("mail")))
    if kind == "Bounce":
        bounce = _dict(report.get("bounce"))
        kinds = (bounce.get("bounceType"), bounce.get("bounceSubType"))
        for row in map(_dict, _list(bounce.get("bouncedRecipients"))):
            final = kinds[0] == "Permanent" and _is_about_address(row.get("status"))
            codes = (*kinds, row.get("status"))
            yield _bounce(row.get("emailAddress"), final, "bounced", codes, message_id, bounce.get("timestamp"), now)
    elif kind == "Complaint":
        complaint = _dict(report.get("complaint"))
        feedback = complaint.get("complaintFeedbackType")
        for row in map(_dict, _list(complaint.get("complainedRecipients"))):
            unwelcome = feedback != "not-spam"
            at = complaint.get("timestamp")
            yield _bounce(row.get("emailAddress"), unwelcome, "complaint", (feedback,), message_id, at, now)


def _ses_message_id(mail: Mapping[str, Any]) -> str:
    """Ours as it was before SES wrote its own over it. SES tells it only where it was asked to include headers."""
    rows = map(_dict, _list(mail.get("headers")))
    named = [_text(row.get("value")) for row in rows if _text(row.get("name")).lower() == "message-id"]
    named.append(_text(_dict(mail.get("commonHeaders")).get("messageId")))
    ours = next((one for one in named if _OURS.fullmatch(one)), None)
    others = next((one for one in named if "@" in one and not one.rstrip(">").endswith("amazonses.com")), "")
    return ours or others


_POSTMARK = {"Bounce": "bounced", "SpamComplaint": "complaint"}
_POSTMARK_FINAL = frozenset(
    {"HardBounce", "BadEmailAddress", "ManuallyDeactivated", "SpamNotification", "SpamComplaint"}
)
_POSTMARK_NO_BOUNCE = frozenset({"AutoResponder", "AddressChange", "Subscribe", "OpenRelayTest"})


def _postmark(said: object, now: datetime) -> Iterator[Bounce | None]:
    """https://postmarkapp.com/developer/webhooks/bounce-webhook. An ``Inactive`` address gets no more mail from it."""
    report = _dict(said)
    kind, inactive = _text(report.get("Type")), report.get("Inactive") is True
    what = _POSTMARK.get(_text(report.get("RecordType")))
    if what is None or (kind in _POSTMARK_NO_BOUNCE and not inactive):
        return
    final = inactive or kind in _POSTMARK_FINAL
    # Its MessageID is Postmark's own.
    yield _bounce(report.get("Email"), final, what, (kind,), None, report.get("BouncedAt"), now)


_SENDGRID_DROPPED = frozenset({"Bounced Address", "Invalid", "Spam Reporting Address"})


def _sendgrid(said: object, now: datetime) -> Iterator[Bounce | None]:
    """https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event"""
    for row in map(_dict, _list(said)):
        kind, status = row.get("event"), row.get("status")
        codes: tuple[object, ...] = (status,)
        if kind == "bounce":
            final, what = row.get("type") != "blocked" and _is_about_address(status), "bounced"
            codes = (row.get("type"), status)
        elif kind == "dropped" and _text(row.get("reason")) in _SENDGRID_DROPPED:
            final, what, codes = True, "dropped", (row.get("reason"),)
        elif kind == "spamreport":
            final, what = True, "complaint"
        else:
            continue
        yield _bounce(row.get("email"), final, what, codes, row.get("smtp-id"), row.get("timestamp"), now)


_MAILGUN_NOT_FINAL = frozenset({"old", "espblock", "greylisted"})
"""Reasons of a permanent failure that are not the address's: it waited too long, or the sender is blocked."""


def _mailgun(said: object, now: datetime) -> Iterator[Bounce | None]:
    """https://documentation.mailgun.com/docs/mailgun/user-manual/events/webhooks"""
    row = _dict(_dict(said).get("event-data"))
    kind, why = _text(row.get("event")), _text(row.get("reason"))
    if kind not in {"failed", "complained"}:
        return
    status = _dict(row.get("delivery-status"))
    enhanced = status.get("enhanced-code")
    final = row.get("severity") == "permanent" and why not in _MAILGUN_NOT_FINAL and _is_about_address(enhanced)
    complained = kind == "complained"
    yield _bounce(
        row.get("recipient"),
        complained or final,
        "complaint" if complained else "bounced",
        (why, status.get("code"), enhanced),
        _dict(_dict(row.get("message")).get("headers")).get("message-id"),
        row.get("timestamp"),
        now,
    )


_RESEND = {"email.bounced": "bounced", "email.complained": "complaint"}


def _resend(said: object, now: datetime) -> Iterator[Bounce | None]:
    """https://resend.com/docs/webhooks/emails/bounced. It does not say whom of several recipients it is about, but each
    of our messages has one.
    """
    report = _dict(said)
    data, kind = _dict(report.get("data")), _text(report.get("type"))
    what, to = _RESEND.get(kind), _list(data.get("to"))
    if what is None or len(to) != 1:
        return
    bounce = _dict(data.get("bounce"))
    final = what == "complaint" or bounce.get("type") == "Permanent"
    codes = (bounce.get("type"), bounce.get("subType"))
    yield _bounce(to[0], final, what, codes, None, report.get("created_at"), now)


_READERS: Mapping[str, Callable[[object, datetime], Iterator[Bounce | None]]] = {
    "postmark": _postmark,
    "sendgrid": _sendgrid,
    "mailgun": _mailgun,
    "resend": _resend,
}

_SIGNATURES = frozenset({"mailgun", "resend"})


def _is_fresh(timestamp: object, now: datetime) -> bool:
    text = str(timestamp) if isinstance(timestamp, int) else _text(timestamp)
    if not re.fullmatch(r"[0-9]{1,11}", text):
        return False
    return abs(now.timestamp() - int(text)) <= TOLERANCE.total_seconds()


def _is_mailgun(secrets: Sequence[str], signature: object, now: datetime) -> bool:
    """``HMAC-SHA256(key, timestamp + token)`` in hexadecimal: it proves that Mailgun spoke, not what it said."""
    part = _dict(signature)
    timestamp, token, claimed = (part.get(name) for name in ("timestamp", "token", "signature"))
    timestamp = str(timestamp) if isinstance(timestamp, int) else timestamp
    if not all(isinstance(one, str) and one.isascii() and len(one) <= 200 for one in (timestamp, token, claimed)):
        return False
    message = f"{timestamp}{token}".encode()
    right = [hmac.compare_digest(hmac.digest(one.encode(), message, "sha256").hex(), str(claimed)) for one in secrets]
    return any(right) and _is_fresh(timestamp, now)


def _key(secret: str) -> bytes | None:
    encoded = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if secret.startswith("whsec_") and key else None


def _is_standard(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Standard Webhooks, under the names that Svix gave its headers or under those of the specification."""
    names = ("svix" if "svix-id" in headers else "webhook").__add__
    message_id, timestamp, claimed = (headers.get(names(part), "") for part in ("-id", "-timestamp", "-signature"))
    message = f"{message_id}.{timestamp}.".encode("latin-1", "replace") + body
    signatures = [one.removeprefix("v1,") for one in claimed.split(" ")[:16] if one.startswith("v1,") and one.isascii()]
    right = [
        hmac.compare_digest(base64.b64encode(hmac.digest(key, message, "sha256")).decode(), signature)
        for key in filter(None, map(_key, secrets))
        for signature in signatures
    ]
    return bool(message_id) and any(right) and _is_fresh(timestamp, now)


T = TypeVar("T")


def read_mail(raw: bytes, now: datetime) -> tuple[Bounce, ...]:
    """What a delivery status notification says of messages of ours: those that have failed. One about somebody else's
    message, or about a delay, says nothing. Raises ``Unreadable`` for any other mail.
    """
    raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if len(raw) > MAIL_LIMIT or raw.count(b"\n") > MOST_LINES:
        raise Unreadable("the mail is too long for a report")
    fields = _CONTENT_TYPE.findall(raw)
    if (
        max(map(len, fields), default=0) > LONGEST_FIELD
        or b"".join(fields).lower().count(b"boundary") > MOST_BOUNDARIES
    ):
        raise Unreadable("the mail is built of too many parts")
    try:
        return _report(message_from_bytes(raw), now)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - what the standard library raises at junk is written nowhere
        raise Unreadable(f"the mail is broken ({type(error).__name__})") from None


def _report(mail: Message, now: datetime) -> tuple[Bounce, ...]:
    payload = mail.get_payload()
    if mail.get_content_type() != "multipart/report" or not isinstance(payload, list):
        raise Unreadable("the mail is no report about a delivery")
    parts = [part for part in payload[:MOST_PARTS] if isinstance(part, Message)]
    status = _first(parts, lambda part: part if part.get_content_type() == "message/delivery-status" else None)
    if status is None:
        raise Unreadable("the mail is no report about a delivery")
    message_id = _first(parts, _returned_id) or _field(mail, "In-Reply-To")
    blocks = status.get_payload()
    if not isinstance(blocks, list) or not _OURS.fullmatch(message_id):
        return ()
    at = _mail_date(mail, now)
    failed = (
        _failed(block, message_id, at, now) for block in blocks[1 : 1 + MOST_BOUNCES] if isinstance(block, Message)
    )
    return _kept(iter(failed))


def _first(parts: Sequence[Message], found: Callable[[Message], T | None]) -> T | None:
    return next(filter(None, map(found, parts)), None)


def _returned_id(part: Message) -> str | None:
    """The Message-ID of what came back, whole or as headers."""
    payload: object = part.get_payload()
    if part.get_content_type() == "text/rfc822-headers":
        content = part.get_payload(decode=True)
        payload = [BytesHeaderParser().parsebytes(content)] if isinstance(content, bytes) else []
    elif part.get_content_type() not in _RETURNED:
        return None
    returned = payload[0] if isinstance(payload, list) and payload else None
    return _field(returned, "Message-ID") or None if isinstance(returned, Message) else None


_RETURNED = frozenset({"message/rfc822", "message/rfc822-headers", "message/global", "message/global-headers"})


def _failed(block: Message, message_id: str, at: datetime, now: datetime) -> Bounce | None:
    """RFC 3464, 2.3: one recipient's fields."""
    status = _field(block, "Status")
    kind, _, address = _field(block, "Final-Recipient").partition(";")
    if _field(block, "Action").lower() != "failed" or kind.strip().lower() not in {"rfc822", "utf-8"}:
        return None
    final = bool(_ENHANCED.match(status)) and _is_about_address(status)
    return _bounce(address, final, "bounced", (status,), message_id, at, now)


def _field(part: Message, name: str) -> str:
    value = part.get(name)
    return "" if value is None else clean(str(value), 500)


def _mail_date(mail: Message, now: datetime) -> datetime:
    try:
        at = parsedate_to_datetime(_field(mail, "Date"))
    except (ValueError, TypeError, OverflowError):
        return now
    return at if at.tzinfo else at.replace(tzinfo=UTC)
