"""Outgoing webhooks by the Standard Webhooks specification: for machines, such as the customer's own app.

https://github.com/standard-webhooks/standard-webhooks. A body is the same bytes and an id the same id on every attempt;
only the time and the signature are those of the attempt.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator

from healthd.channels.base import (
    LINK,
    LONGEST,
    AccountFacts,
    Content,
    Dead,
    Delivery,
    Message,
    Notice,
    Receipt,
    Retry,
    StormNotice,
    TroubleNotice,
    fill,
)
from healthd.core.model import NoticeKind
from healthd.sections import Section, as_list

if TYPE_CHECKING:
    import httpx2

EventName = Literal[
    "incident.opened", "incident.reminded", "incident.escalated", "incident.resolved", "account.changed"
]
EVENTS: tuple[EventName, ...] = get_args(EventName)
"""What a webhook can be told of every account, whoever else is told."""

TYPES: Mapping[NoticeKind, str] = {
    NoticeKind.OPENED: "incident.opened",
    NoticeKind.REMINDER: "incident.reminded",
    NoticeKind.ESCALATED: "incident.escalated",
    NoticeKind.RESOLVED: "incident.resolved",
    NoticeKind.WRONG_ACCOUNT: "incident.wrong_account",
    NoticeKind.CHRONIC: "incident.chronic",
    NoticeKind.EXPIRING: "account.expiring",
    NoticeKind.TROUBLE: "workspace.trouble",
    NoticeKind.TROUBLE_OVER: "workspace.trouble_over",
    NoticeKind.STORM: "workspace.storm",
    NoticeKind.STORM_OVER: "workspace.storm_over",
}
"""The types of what people are told, in the words of a machine."""

HAS_LINK = frozenset({"incident.opened", "incident.reminded", "incident.escalated"})

ANSWER_LIMIT = 4096
"""Bytes of an answer that are read, for the sake of the connection: only its status counts."""
LONGEST_PAUSE = 3600.0
"""Seconds. A longer wish would outlast the time in which a notice is tried at all."""
_GRACE = 1.0

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?:[/?][\x21\x22\x24-\x7e]*)?"
)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_PREFIX = "whsec_"


def _signs(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    encoded = text.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(
            "is no secret of the Standard Webhooks kind, whsec_ and then 24 to 64 bytes in base64: make one with "
            '`echo "whsec_$(openssl rand -base64 32)"`'
        )
    return value


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return all(0 < len(label) < 64 for label in host.split(".")) and len(host) <= 253
    with suppress(ValueError):
        return bool(IPv6Address(host.strip("[]")))
    return False


Secret = Annotated[SecretStr, AfterValidator(_signs)]
"""A key by the Standard Webhooks specification."""
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(as_list)]


class WebhookSettings(Section):
    """An endpoint of the customer's own. All ``secrets`` sign, the newest first: so they can be changed at leisure."""

    type: Literal["webhook"]
    url: SecretStr
    secrets: Secrets = Field(min_length=1, max_length=8)
    events: Annotated[tuple[EventName, ...], BeforeValidator(as_list)] = EVENTS
    """Which events it hears of."""
    min_severity: Literal["info", "warning", "error", "critical"] = "info"
    timeout: float = Field(default=20.0, gt=0, le=LONGEST - _GRACE)
    """Seconds for one attempt. The specification advises 15 to 30."""
    allow_private: bool = False
    """Whether it may stand in a private network, such as the one that healthd itself is in."""

    @field_validator("url")
    @classmethod
    def _safe(cls, value: SecretStr) -> SecretStr:
        found = _URL.fullmatch(value.get_secret_value())
        if found is None or int(found["port"] or 443) > 65535 or not _is_host(found["host"]):
            raise ValueError("is no address of an endpoint: write it as https://app.acme.example/hooks/healthd")
        if found["scheme"] != "https" and found["host"] not in _LOOPBACK:
            raise ValueError("must be https (plain http only on this machine): the link in it repairs accounts")
        return value

    @property
    def on_this_machine(self) -> bool:
        found = _URL.fullmatch(self.url.get_secret_value())
        return found is not None and found["host"] in _LOOPBACK

    def validate_address(self, address: str) -> None:
        """Whether a route may name this address. Raises ``ValueError`` saying what to write."""
        if address:
            raise ValueError("a webhook has one recipient, which its url names: write only the channel's name")

    def open(self, wording: object = None) -> Webhook:
        """``wording`` is for people."""
        return Webhook(self)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Webhook:
    """Meets ``Channel``. ``now`` dates each attempt."""

    settings: WebhookSettings
    now: Callable[[], datetime] = _utc_now
    _client: httpx2.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        from standardwebhooks import Webhook as Signer  # noqa: PLC0415

        from healthd.outbound import guarded_client  # noqa: PLC0415

        self._signers = [Signer(secret.get_secret_value()) for secret in self.settings.secrets]
        self._client = guarded_client(
            timeout=self.settings.timeout,
            # The operator's own word: an address on loopback is private by its nature.
            allow_private=self.settings.allow_private or self.settings.on_this_machine,
            headers={"user-agent": "healthd", "content-type": "application/json"},
        )

    def render(self, notice: Message) -> Content:
        data = _DATA[type(notice)](notice)
        return _content(TYPES[notice.kind], notice.created_at, data, link=notice.link is not None)

    async def send(self, delivery: Delivery) -> Receipt:
        body = _filled(delivery.content["body"], delivery.link)
        status, pause = await self._asked("POST", body, self._signed(delivery.notice_id, body))
        if 200 <= status < 300:
            return {}
        raise _verdict(status, pause)

    async def check(self) -> str:
        status, _ = await self._asked("HEAD", "", {})
        return (
            f"something answers there ({status} to HEAD), and the address is allowed; only an event would show "
            "whether it takes the signature"
        )

    async def close(self) -> None:
        await self._client.aclose()

    def _signed(self, notice_id: str, body: str) -> dict[str, str]:
        at = self.now().astimezone(UTC)
        signatures = [signer.sign(msg_id=notice_id, timestamp=at, data=body) for signer in self._signers]
        return {
            "webhook-id": notice_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    async def _asked(self, method: str, body: str, headers: Mapping[str, str]) -> tuple[int, float | None]:
        """The status of the answer, and for how many seconds it asks to be left alone. Raises ``Retry`` without one."""
        import httpx2  # noqa: PLC0415

        from healthd.outbound import why_not  # noqa: PLC0415

        url = self.settings.url.get_secret_value()
        try:
            # The client gives up a connection at its own deadline, and then it is known that nothing was sent.
            async with (
                asyncio.timeout(self.settings.timeout + _GRACE),
                self._client.stream(method, url, content=body.encode("ascii"), headers=headers) as answer,
            ):
                await _drain(answer)
                return answer.status_code, self._pause(answer.headers.get("retry-after"))
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
            unsent = unsent or isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol)
            raise Retry(f"the call to the endpoint failed: {why_not(error)}", unknown=not unsent) from None

    def _pause(self, said: str | None) -> float | None:
        """``Retry-After`` in seconds: it may be a number of them, or a date."""
        if said is None:
            return None
        if re.fullmatch(r"[0-9]{1,10}", said):
            return min(float(said), LONGEST_PAUSE)
        with suppress(ValueError, OverflowError):
            at = parsedate_to_datetime(said)
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - self.now()
            return min(max(wait, timedelta(0)).total_seconds(), LONGEST_PAUSE)
        return None


async def _drain(answer: httpx2.Response) -> None:
    """Reads a small answer to its end, so that its connection can serve again."""
    import httpx2  # noqa: PLC0415

    from healthd.outbound import read_limited  # noqa: PLC0415

    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(_GRACE):
            await read_limited(answer, ANSWER_LIMIT)


def _verdict(status: int, pause: float | None) -> Retry | Dead:
    """What an answer other than 2xx means. The specification calls all of them failures to be tried again, but one: 410
    says that the endpoint wants no more. 400, 401, 403 and 404 are what a receiver says while it is being deployed, or
    before it knows the secret; whoever runs it can mend that, and the event is not lost meanwhile.
    """
    if status == 410:
        return Dead("the endpoint is gone (410) and wants no more events: take the channel out, or set another url")
    if 300 <= status < 400:
        return Retry(f"the endpoint redirects ({status}), which is not followed: set url to where it leads", pause)
    if status in {401, 403}:
        return Retry(f"the endpoint refused the event ({status}): does it know one of the secrets?", pause)
    if status == 404:
        return Retry("there is no such endpoint (404): check url", pause)
    if status in {429, 503}:
        return Retry(f"the endpoint asks for a pause ({status})", pause)
    return Retry(f"the endpoint answered {status}", pause)


def event(
    kind: str,
    /,
    *,
    at: datetime,
    workspace: str,
    account: str,
    platform: str,
    name: str,
    username: str | None = None,
    profile: str | None = None,
    state: str | None = None,
    previous_state: str | None = None,
    incident_id: str | None = None,
    cause: str | None = None,
    broken_since: datetime | None = None,
    resolved_at: datetime | None = None,
    reason: str | None = None,
) -> Content:
    """The content of an ``EVENT`` notice: one of ``EVENTS``, about one account, as it stood at that time. All text has
    passed ``core.text.clean``; times are aware UTC.
    """
    row = _account(
        account, platform, name, username, profile, cause, broken_since, resolved_at,
        state=state, previous_state=previous_state,
    )  # fmt: skip
    data = {"workspace": workspace, "incident_id": incident_id, "reason": reason, "accounts": [row], "more": 0}
    return _content(kind, at, data, link=kind in HAS_LINK)


def _account(
    ref: str,
    platform: str,
    name: str,
    username: str | None,
    profile: str | None,
    cause: str | None,
    broken_since: datetime | None,
    resolved_at: datetime | None,
    *,
    state: str | None = None,
    previous_state: str | None = None,
    validity_days: int | None = None,
) -> dict[str, Any]:
    return {
        "id": ref,
        "platform": platform,
        "name": name,
        "username": username,
        "profile": profile,
        "state": state,
        "previous_state": previous_state,
        "cause": cause,
        "broken_since": _iso(broken_since),
        "resolved_at": _iso(resolved_at),
        "validity_days": validity_days,
    }


def _about_accounts(notice: Notice) -> dict[str, Any]:
    def row(facts: AccountFacts) -> dict[str, Any]:
        broke = notice.kind is not NoticeKind.EXPIRING
        return _account(
            facts.ref, facts.platform, facts.name, facts.username, facts.profile,
            facts.cause if broke else None, facts.broken_at if broke else None, facts.resolved_at,
            validity_days=facts.validity_days,
        )  # fmt: skip

    return {
        "workspace": notice.workspace,
        "incident_id": None,
        "reason": None,
        "accounts": [row(facts) for facts in notice.accounts],
        "more": notice.more,
    }


def _about_trouble(notice: TroubleNotice) -> dict[str, Any]:
    return {
        "workspace": notice.workspace,
        "trouble": notice.trouble,
        "question": notice.question,
        "what": notice.what,
        "remedy": notice.remedy,
        "since": _iso(notice.since),
        "ended_at": _iso(notice.ended_at),
        "request_id": notice.request_id,
    }


def _about_storm(notice: StormNotice) -> dict[str, Any]:
    return {
        "workspace": notice.workspace,
        "storm": notice.storm,
        "platform": notice.platform,
        "broken": notice.broken,
        "accounts": notice.accounts,
        "since": _iso(notice.since),
        "ended_at": _iso(notice.ended_at),
        "outcome": notice.outcome or None,
        "still_broken": notice.still_broken,
    }


_DATA: Mapping[type, Callable[[Any], dict[str, Any]]] = {
    Notice: _about_accounts,
    TroubleNotice: _about_trouble,
    StormNotice: _about_storm,
}


def _content(kind: str, at: datetime, data: Mapping[str, Any], *, link: bool) -> Content:
    """The body with a place for the link at its very end."""
    body = json.dumps({"type": kind, "timestamp": _iso(at), "data": data}, separators=(",", ":"))
    # A name may be our own placeholder. Written so it is the same text in JSON, and nothing is filled into it.
    body = body.replace(LINK, LINK.replace("/", "\\/"))
    tail = f',"link":{_PLACE if link else "null"}'
    return {"type": kind, "body": body.removesuffix("}}") + tail + "}}"}


_PLACE = json.dumps(LINK)


def _filled(body: str, link: str | None) -> str:
    if link is None:
        return body.replace(_PLACE, "null")
    return fill(body, link, lambda text: json.dumps(text)[1:-1])


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
