"""``POST /slack/actions/{channel}``: the buttons of our messages in Slack, pressed.

Slack signs what it sends with the app's signing secret; nothing of the body is believed, or even read as JSON, before
that is proven (https://docs.slack.dev/authentication/verifying-requests-from-slack). It waits three seconds for an
answer, and shows whoever pressed a warning where there is none.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from healthd.bodies import Endpoint, Unread, form_fields, read_body
from healthd.core.text import clean
from healthd.dispatch import Dispatch
from healthd.providers.smartlyq import is_allowed_link
from healthd.store import incidents, notices
from healthd.store.database import Store, StoreUnavailable
from healthd.visitors import Mistakes, Seldom, network
from healthd.web import noting

BODY_LIMIT = 64 * 1024
BODY_WITHIN = 2.0
NOTED_WITHIN = 2.0
"""Seconds for the store, so that with the body's there is an answer before Slack stops waiting for one."""
TOLERANCE = timedelta(minutes=5)
"""How far Slack's clock and ours may be apart, and for how long a request that was overheard can be repeated."""
REPLIED_WITHIN = 5.0
REPLY_HOSTS = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
AT_ONCE = 16

SAID: Mapping[str, str] = {"acknowledge": "acknowledge", "snooze": "snooze:1d"}
"""What a button says, by its ``action_id``. Any other, such as the link to the page, needs no answer of ours."""

ANSWERS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "noted": (200, {}),
    "repaired": (200, {}),
    "unknown_notice": (200, {}),
    "ignored": (200, {}),
    "unreadable": (400, {}),
    "client_left": (400, {}),
    "refused": (401, {}),
    "method": (405, {"allow": "POST"}),
    "slow_body": (408, {"connection": "close"}),
    "too_large": (413, {"connection": "close"}),
    "overloaded": (429, {"retry-after": "5"}),
    "refused_too_often": (429, {}),
    "not_noted": (503, {"retry-after": "5"}),
}
"""Outcomes, their statuses and headers; no answer has a body. An unknown channel looks like a wrong signature."""
_NOTICE = re.compile(r"[0-9a-f]{24}", re.ASCII)
_SIGNATURE = re.compile(rb"v0=[0-9a-f]{64}")
_SECONDS = re.compile(r"\d{1,11}", re.ASCII)
_NO_SECRET = "-"  # noqa: S105 - what an unknown channel's requests are held against

log = structlog.get_logger("healthd.slack")


def _nobody(_: str, __: str) -> None:
    """For those who do not count."""


async def post_reply(url: str, text: str) -> None:
    """Says something to whoever pressed, and to nobody else. Raises ``httpx2.HTTPError`` or ``TimeoutError``."""
    from healthd.outbound import guarded_client, is_loopback  # noqa: PLC0415

    body = {"response_type": "ephemeral", "replace_original": False, "text": text}
    own = is_loopback(url.split("/")[2].rpartition(":")[0])
    async with (
        asyncio.timeout(REPLIED_WITHIN),
        guarded_client(timeout=REPLIED_WITHIN, allow_private=own) as client,
        client.stream("POST", url, json=body) as answer,
    ):
        answer.raise_for_status()


def slack_routes(
    *,
    store: Store,
    dispatch: Dispatch,
    secrets: Mapping[str, str],
    now: Callable[[], datetime],
    heard: Callable[[str, str], None] = _nobody,
    noted: Callable[[str], None] = lambda _: None,
    reply_hosts: Collection[str] = REPLY_HOSTS,
    reply: Callable[[str, str], Awaitable[None]] = post_reply,
) -> list[Route]:
    """The route for the public listener. ``secrets`` are the signing secrets by the channel's name.

    ``heard`` is told the channel's name, empty for an unknown one, and the outcome, one of ``ANSWERS``; ``noted`` what
    was said, as the page's ``on_noted`` is.
    """
    desk = SlackDesk(store, dispatch, secrets, now, heard, noted, reply_hosts, reply)
    return [Route("/slack/actions/{channel}", Endpoint(desk.answer))]


@dataclass(frozen=True, slots=True)
class Press:
    """A button that somebody pressed: ``said`` is one of ``noting.SAID``."""

    notice_id: str
    said: str
    who: str
    reply_to: str


class Unreadable(Exception):
    """Slack sent it, and it is not what Slack documents."""


@dataclass
class SlackDesk:
    """Takes presses."""

    store: Store
    dispatch: Dispatch
    secrets: Mapping[str, str]
    now: Callable[[], datetime]
    heard: Callable[[str, str], None]
    noted: Callable[[str], None]
    reply_hosts: Collection[str]
    reply: Callable[[str, str], Awaitable[None]]

    _mistakes: Mistakes = field(default_factory=Mistakes)
    _under_way: int = 0
    _told: Seldom = field(default_factory=Seldom)

    async def answer(self, request: Request) -> Response:
        channel = request.path_params["channel"]
        outcome, reply = await self._outcome(request, channel)
        self.heard(channel if channel in self.secrets else "", outcome)
        status, headers = ANSWERS[outcome]
        return Response(b"", status, dict(headers), background=reply)

    async def _outcome(self, request: Request, channel: str) -> tuple[str, BackgroundTask | None]:
        if request.method != "POST":
            return "method", None
        if self._under_way >= AT_ONCE:
            return "overloaded", None
        self._under_way += 1
        try:
            body = await read_body(request, BODY_LIMIT, BODY_WITHIN)
            if not is_signed(self.secrets.get(channel, _NO_SECRET), request.headers, body, self.now()):
                return self._refused(request), None
            return await self._heard_out(channel, body) if channel in self.secrets else (self._refused(request), None)
        except Unread as unread:
            return unread.outcome, None
        finally:
            self._under_way -= 1

    def _refused(self, request: Request) -> str:
        now, address = asyncio.get_running_loop().time(), request.client.host if request.client else ""
        if self._told.is_due("refused", now):
            log.warning("slack.refused", reason="no valid signature of a channel that takes presses")
        return "refused_too_often" if self._mistakes.again(network(address), now) else "refused"

    async def _heard_out(self, channel: str, body: bytes) -> tuple[str, BackgroundTask | None]:
        try:
            press = read_press(body)
        except Unreadable as error:
            log.warning("slack.unreadable", channel=channel, reason=str(error))
            return "unreadable", None
        if press is None:
            return "ignored", None
        try:
            async with asyncio.timeout(NOTED_WITHIN):
                outcome, says = await self.store.run(self._note, channel, press)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("slack.not_noted", channel=channel, reason=str(error) or "the store is too slow")
            return "not_noted", None
        if outcome == "noted":
            self.noted(press.said)
        log.info("slack.pressed", channel=channel, said=press.said, outcome=outcome, notice_id=press.notice_id)
        return outcome, BackgroundTask(self._reply, press.reply_to, says) if press.reply_to else None

    def _note(self, connection: Connection, channel: str, press: Press) -> tuple[str, str]:
        """One transaction: the outcome, and what is said to whoever pressed."""
        notice = notices.get(connection, press.notice_id)
        if notice is None or notice.target.channel != channel:
            return "unknown_notice", "This message is no longer on record."
        about, now = partial(incidents.of_message, connection, notice.message_id), self.now()
        if not noting.note(connection, self.dispatch, about(), press.said, now, press.who):
            return "repaired", "There is nothing left to repair here: everything works again."
        moments = (noting.quiet_until(one) for one in about() if one.resolved_at is None)
        until = min((at for at in moments if at is not None), default=now)
        date = f"<!date^{int(until.timestamp())}^{{date_short_pretty}}, {{time}}|{until:%Y-%m-%d %H:%M} UTC>"
        return "noted", f"Noted: no reminders until {date}, or until it is repaired."

    async def _reply(self, url: str, text: str) -> None:
        """Best effort: what was pressed is noted, whether or not its reader hears of it here."""
        if not is_allowed_link(url, self.reply_hosts):
            log.warning("slack.no_reply", reason="the address is not one of Slack's")
            return
        try:
            await self.reply(url, text)
        except Exception as error:  # noqa: BLE001 - nothing follows from it
            log.info("slack.no_reply", reason=type(error).__name__)


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Whether Slack signed these bytes with this secret, just now.

    Not by ``slack_sdk``'s verifier, which raises on a timestamp, a signature or a body that is no text, all of which
    anybody may send.
    """
    moment = headers.get("x-slack-request-timestamp", "")
    given = headers.get("x-slack-signature", "").encode("latin-1", "replace")
    if not _SECONDS.fullmatch(moment) or not _SIGNATURE.fullmatch(given):
        return False
    if abs(now.timestamp() - int(moment)) > TOLERANCE.total_seconds():
        return False
    wanted = hmac.new(secret.encode(), b"v0:%b:%b" % (moment.encode(), body), hashlib.sha256).hexdigest()
    return hmac.compare_digest(b"v0=" + wanted.encode(), given)


def read_press(body: bytes) -> Press | None:
    """What was pressed, or ``None`` where nothing follows from it. Raises ``Unreadable``."""
    try:
        payload = orjson.loads(form_fields(body)["payload"])
    except (ValueError, KeyError) as error:
        raise Unreadable(f"no payload ({type(error).__name__})") from None
    if not isinstance(payload, dict):
        raise Unreadable("the payload is no object")
    if payload.get("type") != "block_actions":
        return None
    for action in _dicts(payload.get("actions")):
        said = SAID.get(_text(action.get("action_id")))
        if said is not None:
            notice_id = _text(action.get("value"))
            if not _NOTICE.fullmatch(notice_id):
                raise Unreadable("the button names no notice")
            return Press(notice_id, said, _who(payload.get("user")), _text(payload.get("response_url")))
    return None


def _who(user: Any) -> str:
    names = user if isinstance(user, dict) else {}
    name = next((names[key] for key in ("username", "name", "id") if _text(names.get(key))), "")
    return f"slack:{clean(name, 40)}"


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
