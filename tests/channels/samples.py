"""Notices to render and deliver, and the names that people and attackers give to accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from healthd.channels.base import (
    LINK,
    AccountFacts,
    Channel,
    Delivery,
    Message,
    Notice,
    Receipt,
    StormNotice,
    TroubleNotice,
)
from healthd.channels.wording import BY_HAND
from healthd.core.model import Cause, NoticeKind, Target
from healthd.providers.base import Unauthorized

BROKEN_AT = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
REAL_LINK = "https://healthd.acme.example/r/v1.k1.Zm9vYmFyYmF6.c2VjcmV0?a=1&b=2"

ACCOUNT = AccountFacts(
    ref="1042",
    platform="facebook",
    name="Acme Coffee",
    username="acmecoffee",
    profile=None,
    cause=Cause.TOKEN,
    unconfirmed=False,
    broken_at=BROKEN_AT,
)
OPENED = Notice(
    id="5f0c9a4e2b7d4d1a5f0c9a4e",
    kind=NoticeKind.OPENED,
    step=0,
    target=Target("mail", "ada@acme.example"),
    workspace="acme",
    accounts=(ACCOUNT,),
    created_at=BROKEN_AT,
    by_hand=BY_HAND,
)


def about(notice: Notice, **facts: Any) -> Notice:
    """The notice with other facts about each of its accounts."""
    return replace(notice, accounts=tuple(replace(account, **facts) for account in notice.accounts))


def of_all(notice: Notice, *more: AccountFacts) -> Notice:
    """The notice about further accounts as well."""
    return replace(notice, accounts=(*notice.accounts, *more))


BESIDE = replace(ACCOUNT, ref="7", platform="instagram", name="Acme Café", username="acmecafe", failed_posts=4)
UNCONFIRMED = about(OPENED, unconfirmed=True)
REMINDER = replace(
    OPENED, id="a" * 24, kind=NoticeKind.REMINDER, step=1, created_at=BROKEN_AT + timedelta(days=3, hours=1)
)
ESCALATED = replace(REMINDER, id="c1" * 12, kind=NoticeKind.ESCALATED, step=0, also_told=("Grace Hopper",))
WRONG_ACCOUNT = replace(OPENED, id="c2" * 12, kind=NoticeKind.WRONG_ACCOUNT)
RESOLVED = about(
    replace(OPENED, id="b" * 24, kind=NoticeKind.RESOLVED, link=None, created_at=BROKEN_AT + timedelta(hours=5)),
    resolved_at=BROKEN_AT + timedelta(hours=5),
)
EXPIRING = about(replace(OPENED, id="c" * 24, kind=NoticeKind.EXPIRING, link=None), validity_days=5)
CHRONIC = about(
    replace(OPENED, id="c3" * 12, kind=NoticeKind.CHRONIC, link=None),
    repaired_at=tuple(BROKEN_AT - timedelta(days=days) for days in (12, 8, 3, 1)),
)
TROUBLE = TroubleNotice(
    id="d" * 24, kind=NoticeKind.TROUBLE, target=OPENED.target, workspace="acme", trouble="unauthorized", question="",
    what="HTTP 401 INVALID_API_KEY", remedy=Unauthorized.remedy, since=BROKEN_AT, created_at=BROKEN_AT,
    request_id="req_1",
)  # fmt: skip
OVER = replace(TROUBLE, id="e" * 24, kind=NoticeKind.TROUBLE_OVER, ended_at=BROKEN_AT + timedelta(hours=2))
STORM = StormNotice(
    id="d1" * 12, kind=NoticeKind.STORM, target=OPENED.target, workspace="acme", platform="facebook", broken=412,
    accounts=1250, window=timedelta(minutes=10), longest=timedelta(hours=1), since=BROKEN_AT, created_at=BROKEN_AT,
    storm="9b1d2c",
)  # fmt: skip
STORM_OVER = replace(
    STORM, id="d2" * 12, kind=NoticeKind.STORM_OVER, still_broken=3, outcome="it abated: few are still broken",
    ended_at=BROKEN_AT + timedelta(minutes=40),
)  # fmt: skip
EVERY_KIND: dict[str, Message] = {
    "opened": OPENED,
    "unconfirmed": UNCONFIRMED,
    "reminder": REMINDER,
    "escalated": ESCALATED,
    "wrong account": WRONG_ACCOUNT,
    "resolved": RESOLVED,
    "expiring": EXPIRING,
    "chronic": CHRONIC,
    "two accounts": of_all(OPENED, BESIDE),
    "two resolved": of_all(RESOLVED, replace(BESIDE, resolved_at=BROKEN_AT + timedelta(hours=1))),
    "trouble": TROUBLE,
    "trouble over": OVER,
    "storm": STORM,
    "storm over": STORM_OVER,
}

HOSTILE = {
    "new lines and another header": "Acme\r\nBcc: eve@evil.example\r\n\r\nHello",
    "an encoded word with a header in it": "=?utf-8?q?=0D=0ABcc=3A_eve@evil.example?=",
    "an encoded word in base64": "=?utf-8?b?DQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
    "vertical tabs and line separators": "A\x0bc\x0cm\x1ce\x1d\x1e\x85C\u2028o\u2029f",
    "a lone surrogate and NUL": "Acme \ud800\x00 Coffee",
    "five thousand characters": "Kaffee" * 900,
    "ten thousand bytes of emoji": "☕️" * 1700,
    "direction overrides": "Acme \u202egpj.exe\u202c \u2066x\u2069 \u200bCoffee",
    "script": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "an attribute": "\"'><a href='https://evil.example/'>Fix</a>&amp;&lt;",
    "mentions in Slack": "<!channel> <!here|@here> <@U024BE7LH> <#C024BE7LR> &lt;!channel&gt;",
    "a link in Slack": "<https://evil.example/|Reconnect this account>",
    "a date in Slack": "<!date^0^{date}^https://evil.example/|now>",
    "formatting": "*bold* _italic_ ~gone~ `code` ```block``` > quote",
    "mentions elsewhere": "@everyone @here <@&123456> #general",
    "a link in Markdown": "[Fix](https://evil.example/) ![x](https://evil.example/x.png)",
    "an address of the web": "https://evil.example/login",
    "a bare domain": "www.evil.example",
    "a domain with other dots": "evil。example．com",
    "click here": "click here: http://127.0.0.1/fix",
    "our own placeholder": LINK,
    "a leading dot": ".\n.. .acme .",
    "a closing quote": "Acme” is fine. Pay at “evil",
    "right to left": "قهوة أكمي",
    "emoji joined into one": "👩‍👩‍👧‍👦 Family 👩🏽‍💻",
    "braces": "{workspace} {{ config }} {% raw %} %s",
    "nothing": "",
}


def deliver(channel: Channel, notice: Message, link: str | None = REAL_LINK, **more: Any) -> Delivery:
    """The notice as the outbox hands it over."""
    return Delivery(
        notice_id=notice.id,
        kind=notice.kind,
        target=notice.target,
        content=channel.render(notice),
        link=link if notice.link is not None else None,
        created_at=notice.created_at,
        **more,
    )


def follow_up(channel: Channel, notice: Message, first: Receipt, **more: Any) -> Delivery:
    """A later notice of the incident that ``OPENED`` began."""
    return deliver(channel, notice, thread=OPENED.id, first=first, **more)
