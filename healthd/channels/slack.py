"""Slack: an app's token, which can thread and edit its messages, or an incoming webhook, which can only post."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from healthd.channels.base import LONGEST, Content, Dead, Delivery, Message, Receipt, Retry, fill
from healthd.channels.sentences import joined
from healthd.channels.wording import Fact, Row, Tone, Wording, Words, plain
from healthd.core.model import GOOD_NEWS, NoticeKind
from healthd.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2
    from slack_sdk.models.blocks import Block, ButtonElement, MarkdownTextObject, PlainTextObject

_URL = re.compile(r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?(?P<path>/[\x21-\x7e]*)")
_TOKEN = re.compile(r"(xoxe\.)?xoxb-[\x21-\x7e]+")
_CHANNEL = re.compile(r"[#@]?[\w.-]{1,80}")
_SECRET = re.compile(r"[A-Za-z0-9]{16,128}")
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


class SlackSettings(Section):
    """A Slack app's ``token`` and the ``channel`` it writes to, or an incoming ``webhook_url``."""

    type: Literal["slack"]
    token: SecretStr | None = None
    channel: str | None = None
    webhook_url: SecretStr | None = None
    signing_secret: SecretStr | None = None
    """With it, the app's interactivity endpoint is ours: messages get buttons to take a case on and to put it off."""
    api_url: str = "https://slack.com/api/"
    webhook_hosts: tuple[str, ...] = ("hooks.slack.com", "hooks.slack-gov.com")
    timeout: float = Field(default=15.0, gt=0, le=LONGEST)
    """Seconds for one message."""
    min_severity: Literal["info", "warning", "error", "critical"] = "info"

    @field_validator("token")
    @classmethod
    def _bot(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError("this is no bot token: copy the one that begins with xoxb- from OAuth & Permissions")
        return value

    @field_validator("channel")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None:
            _check_channel(value)
        return value

    @field_validator("signing_secret")
    @classmethod
    def _signing(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _SECRET.fullmatch(value.get_secret_value()):
            raise ValueError("this is no signing secret: copy it from Basic Information, App Credentials")
        return value

    @field_validator("api_url")
    @classmethod
    def _api(cls, value: str) -> str:
        if (match := _URL.fullmatch(value)) is None or not _is_safe(match) or not match["path"].endswith("/"):
            raise ValueError("write api_url as https://slack.com/api/ with a slash at its end")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> SlackSettings:
        if (self.token is None) == (self.webhook_url is None):
            raise ValueError("set either token (with channel), or webhook_url")
        if self.webhook_url is None:
            return self
        if self.signing_secret is not None:
            raise ValueError("buttons need an app with a token: leave signing_secret out, or set token instead")
        if self.channel is not None:
            raise ValueError("an incoming webhook posts to the one channel it was made for: leave channel out")
        match = _URL.fullmatch(self.webhook_url.get_secret_value())
        if match is None or not _is_safe(match) or match["host"].lower() not in self.webhook_hosts:
            hosts = ", ".join(self.webhook_hosts)
            raise ValueError(f"webhook_url must be https on one of {hosts}: copy it from the app's Incoming Webhooks")
        if not match["path"].startswith("/services/"):
            raise ValueError("webhook_url must be an incoming webhook, /services/T…/B…/…: a workflow takes other data")
        return self

    def validate_address(self, address: str) -> None:
        """Whether a route may name this address. Raises ``ValueError`` saying what to write."""
        if self.token is None:
            if address:
                raise ValueError("a Slack webhook has one recipient: write only the channel's name")
        elif address:
            _check_channel(address)
        elif self.channel is None:
            raise ValueError("say where to post: set the channel's `channel`, or write the route as name:#alerts")

    def open(self, wording: Wording | None = None) -> ByToken | ByWebhook:
        return ByWebhook(self, wording or plain()) if self.token is None else ByToken(self, wording or plain())


def _is_safe(url: re.Match[str]) -> bool:
    """https on its own port; on the own machine anything goes."""
    if url["host"] in _LOOPBACK:
        return int(url["port"] or 80) < 2**16
    return url["scheme"] == "https" and url["port"] in (None, "443")


def _check_channel(channel: str) -> None:
    if not _CHANNEL.fullmatch(channel):
        raise ValueError(f"{channel!r} is no Slack channel: write its id, such as C0123ABCD, or its name, as #alerts")


def rendered(wording: Wording, message: Message, *, interactive: bool) -> Content:
    """The message as Slack's blocks; ``interactive``: with the buttons that our own endpoint answers."""
    words = wording.tell(message)
    identity = message.id if interactive and message.kind in _ANSWERABLE else None
    content = {"text": _escape(words.headline), "blocks": _json(_blocks(words, message.link, identity))}
    if message.kind in GOOD_NEWS:
        content["reply"] = _json(_short(words))
    return content


class _Slack:
    """What both ways share: the look of a message, and a client that waits no longer than it may."""

    def __init__(self, settings: SlackSettings, wording: Wording, headers: Mapping[str, str]) -> None:
        import httpx2  # noqa: PLC0415

        from healthd.outbound import public_authorities  # noqa: PLC0415

        # It logs the address of every request, and an incoming webhook's address is its secret.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._timeout = settings.timeout
        self._wording = wording
        self._interactive = settings.signing_secret is not None
        # A connection that never came about is told apart from an answer that did not come.
        waits = httpx2.Timeout(settings.timeout, connect=settings.timeout * _CONNECT_SHARE)
        self._client = httpx2.AsyncClient(
            headers=headers, timeout=waits, follow_redirects=False, verify=public_authorities(trust_env=True)
        )

    def render(self, notice: Message) -> Content:
        return rendered(self._wording, notice, interactive=self._interactive)

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """All that one message needs, within the one deadline."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            raise Retry(_TOO_SLOW, unknown=True) from None

    async def _post(self, url: str, body: Mapping[str, Any]) -> httpx2.Response:
        """The answer to one request, unless it says *later*."""
        import httpx2  # noqa: PLC0415

        try:
            answer = await self._client.post(url, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise Retry(f"Slack could not be reached ({type(error).__name__})") from None
        except httpx2.TimeoutException:
            raise Retry(_TOO_SLOW, unknown=True) from None
        except httpx2.HTTPError as error:
            raise Retry(f"the connection to Slack was lost ({type(error).__name__})", unknown=True) from None
        if answer.status_code == 429:
            raise Retry("Slack asks for a pause (429)", after=_seconds(answer.headers.get("retry-after")))
        if answer.status_code >= 500 or answer.is_redirect:
            raise Retry(f"Slack answered {answer.status_code}")
        return answer


class ByWebhook(_Slack):
    """Meets ``Channel``. Slack gives no id back, so its messages stand alone and a repeat after a crash is possible."""

    def __init__(self, settings: SlackSettings, wording: Wording) -> None:
        super().__init__(settings, wording, {})
        assert settings.webhook_url is not None  # noqa: S101
        self._url = settings.webhook_url.get_secret_value()

    async def send(self, delivery: Delivery) -> Receipt:
        async with self._in_time():
            answer = await self._post(self._url, _message(delivery, "blocks"))
        status, said = answer.status_code, answer.text.strip()
        if status == 200 and said == "ok":
            return {}
        # Slack's own refusals are one word. Anything else comes from what stands between: a proxy, a log-in page.
        if status in _FINAL and _WORD.fullmatch(said):
            raise Dead(f"Slack refused the webhook ({status} {said})")
        raise Retry(f"the answer ({status}) is not one that Slack's webhooks give")

    async def check(self) -> str:
        return "the webhook's address is well-formed; only a message would show whether it works"


class ByToken(_Slack):
    """Meets ``Channel``. An incident is one thread, and its first message is edited once all is well again."""

    def __init__(self, settings: SlackSettings, wording: Wording) -> None:
        assert settings.token is not None  # noqa: S101
        super().__init__(settings, wording, {"Authorization": f"Bearer {settings.token.get_secret_value()}"})
        self._api = settings.api_url
        self._channel = settings.channel or ""

    async def send(self, delivery: Delivery) -> Receipt:
        async with self._in_time():
            return await self._tell(delivery)

    async def _tell(self, delivery: Delivery) -> Receipt:
        first = delivery.first or {}
        channel, thread = first.get("channel"), first.get("ts")
        if not channel or not thread:
            return await self._say(_message(delivery, "blocks"), delivery.target.address or self._channel)
        if delivery.kind in GOOD_NEWS:
            ended = [first] if delivery.all_over else []
            for message in (*ended, *delivery.also_over):
                if message.get("channel") and message.get("ts"):
                    place = {"channel": message["channel"], "ts": message["ts"]}
                    await self._rewrite(_message(delivery, "blocks") | place)
            return await self._say(_message(delivery, "reply"), channel, thread)
        return await self._say(_message(delivery, "blocks") | {"reply_broadcast": True}, channel, thread)

    async def check(self) -> str:
        async with self._in_time():
            answer = await self._call("auth.test", {})
        if (error := answer.get("error")) is not None:
            raise _verdict(error)
        return "Slack accepts the token"

    async def _say(self, message: Mapping[str, Any], channel: str, thread: str | None = None) -> Receipt:
        """Posts, into the thread if there is one and it still stands."""
        place = {"channel": channel} if thread is None else {"channel": channel, "thread_ts": thread}
        answer = await self._call("chat.postMessage", {**message, **place})
        error = answer.get("error")
        if error in _THREAD_GONE and thread is not None:
            alone = {key: value for key, value in message.items() if key != "reply_broadcast"}
            return await self._say(alone, channel)
        if error is not None:
            raise _verdict(error)
        return {"channel": str(answer.get("channel", channel)), "ts": str(answer.get("ts", ""))}

    async def _rewrite(self, message: Mapping[str, Any]) -> None:
        """Edits the first message. One that cannot be edited any more is no reason to withhold the news."""
        error = (await self._call("chat.update", message)).get("error")
        if error is not None and error not in _NOT_EDITABLE:
            raise _verdict(error)

    async def _call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Slack's answer, with ``error`` in it exactly where Slack said no."""
        answer = await self._post(self._api + method, body)
        try:
            said = answer.json()
        except (ValueError, RecursionError):
            raise Retry(f"Slack answered {answer.status_code} without JSON") from None
        if not isinstance(said, dict):
            raise Retry(f"Slack answered {answer.status_code} with JSON of another shape")
        if said.get("ok") is not True:
            return {"error": _word(said.get("error"))}
        return {key: value for key, value in said.items() if key != "error"}


_CONNECT_SHARE = 0.8
_TOO_SLOW = "Slack did not answer in time"

_FINAL = frozenset({400, 403, 404, 410})
"""A bad message; a forbidden, removed or archived webhook."""

_THREAD_GONE = frozenset({"thread_not_found", "invalid_thread_ts", "cannot_reply_to_message", "message_not_found"})
_NOT_EDITABLE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"})

# Trouble with the token or the app is the operator's to mend, and the notice waits for it; so does what is not listed.
_REASONS: dict[str, tuple[type[Retry | Dead], str]] = {
    "channel_not_found": (Dead, "there is no such channel, or the app may not see it"),
    "channel_is_archived": (Dead, "the channel is archived"),
    "is_archived": (Dead, "the channel is archived"),
    "user_not_found": (Dead, "there is no such person"),
    "user_disabled": (Dead, "the person's account is disabled"),
    "invalid_blocks": (Dead, "Slack cannot show the message"),
    "invalid_arguments": (Dead, "Slack cannot show the message"),
    "msg_too_long": (Dead, "the message is too long"),
    "account_inactive": (Retry, "the token's account is inactive: install the app again"),
    "invalid_auth": (Retry, "the token is not valid: set a new one"),
    "missing_scope": (Retry, "the app lacks a scope: give it chat:write and install it again"),
    "no_permission": (Retry, "the app lacks a permission: give it chat:write and install it again"),
    "not_authed": (Retry, "the token is not valid: set a new one"),
    "not_in_channel": (Retry, "the app is not in the channel: invite it"),
    "restricted_action": (Retry, "the workspace does not let the app post there: ask its administrator"),
    "token_expired": (Retry, "the token has expired: set a new one"),
    "token_revoked": (Retry, "the token was revoked: install the app again"),
}


def _verdict(error: str) -> Retry | Dead:
    kind, why = _REASONS.get(error, (Retry, "Slack refused the message"))
    return kind(f"{why} ({error})")


_WORD = re.compile(r"[a-z_]{2,50}")


def _word(said: object) -> str:
    """Slack's own word for an error; anything longer could hold what must not reach a log."""
    return said if isinstance(said, str) and _WORD.fullmatch(said) else "no reason given"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d{1,5}", text) else None


def _message(delivery: Delivery, part: str) -> dict[str, Any]:
    return {
        "text": delivery.content["text"],
        "blocks": json.loads(fill(delivery.content[part], delivery.link, _escape_json)),
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {"event_type": "healthd_notice", "event_payload": {"notice_id": delivery.notice_id}},
    }


_MARKS = {Tone.BROKEN: "🔴", Tone.SOON: "🟠", Tone.FIXED: "✅"}
_ANSWERABLE = frozenset({NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED, NoticeKind.WRONG_ACCOUNT})
"""What somebody can take on, or put off."""
_MOST_FIELDS = 10


def _blocks(words: Words, link: str | None, answerable: str | None) -> list[Block]:
    """``answerable``: the id of the notice that its reader may take on by a button."""
    from slack_sdk.models import blocks as kit  # noqa: PLC0415

    says = "\n\n".join(filter(None, (joined((words.happened, words.consequence)), words.todo, *words.advice)))
    blocks: list[Block] = [
        kit.HeaderBlock(text=_plain(f"{_MARKS[words.tone]} {words.headline}", 150)),
        kit.SectionBlock(text=_plain(says, 3000), fields=[_field(fact) for fact in words.facts[:_MOST_FIELDS]]),
        *(_row(row) for row in words.short_rows if words.several),
    ]
    if words.more_short:
        blocks.append(kit.ContextBlock(elements=[_plain(words.more_short, 2000)]))
    blocks += [kit.SectionBlock(text=_plain(f"{one.label}\n{one.value}", 3000)) for one in words.commands]
    if buttons := _buttons(words, link, answerable):
        blocks.append(kit.ActionsBlock(elements=buttons))
    small = " · ".join(filter(None, (words.status, joined((words.link_note, words.by_hand)))))
    blocks.append(kit.ContextBlock(elements=[_plain(small, 2000)]))
    return blocks


def _row(row: Row) -> Block:
    from slack_sdk.models import blocks as kit  # noqa: PLC0415

    about = " · ".join((row.platform, *row.notes[1:]))
    fields = [_plain(about, 2000), *([_field(row.when)] if row.when else ())]
    return kit.SectionBlock(text=_plain(row.title, 3000), fields=fields)


def _buttons(words: Words, link: str | None, answerable: str | None) -> list[ButtonElement]:
    from slack_sdk.models import blocks as kit  # noqa: PLC0415

    buttons = []
    if words.button and link is not None:
        text = _plain(words.button, 75)
        buttons.append(kit.ButtonElement(text=text, url=link, action_id="reconnect", style="primary"))
    if answerable is not None:
        for action, said in (("acknowledge", words.acknowledge), ("snooze", words.snooze)):
            buttons.append(kit.ButtonElement(text=_plain(said, 75), action_id=action, value=answerable))
    return buttons


def _short(words: Words) -> list[Block]:
    from slack_sdk.models import blocks as kit  # noqa: PLC0415

    return [kit.SectionBlock(text=_plain(f"{_MARKS[Tone.FIXED]} {words.headline}\n{words.happened}", 3000))]


def _plain(text: str, limit: int) -> PlainTextObject:
    """Text that Slack shows as it is: no mentions, links, or formatting, whatever a name may hold."""
    from slack_sdk.models.blocks import PlainTextObject  # noqa: PLC0415

    return PlainTextObject(text=_cut(text, limit), emoji=False)


def _cut(text: str, limit: int) -> str:
    """The text within a limit that Slack does not say how it counts: in UTF-16 it is safe either way."""
    if len(text.encode("utf-16-le")) <= 2 * limit:
        return text
    return text.encode("utf-16-le")[: 2 * (limit - 1)].decode("utf-16-le", "ignore") + "…"


def _field(fact: Fact) -> PlainTextObject | MarkdownTextObject:
    from slack_sdk.models.blocks import MarkdownTextObject  # noqa: PLC0415

    if fact.at is None:
        return _plain(f"{fact.label}\n{fact.value}", 2000)
    # The one piece of markup, made of our own words only: each reader sees the moment in their own time zone.
    local = f"<!date^{int(fact.at.timestamp())}^{{date_short_pretty}}, {{time}}|{_escape(fact.value)}>"
    return MarkdownTextObject(text=f"{_escape(fact.label)}\n{local}", verbatim=True)


def _json(blocks: list[Block]) -> str:
    """Slack's limits are checked here, by ``to_dict``."""
    return json.dumps([block.to_dict() for block in blocks], ensure_ascii=False)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escape_json(text: str) -> str:
    return json.dumps(text)[1:-1]
