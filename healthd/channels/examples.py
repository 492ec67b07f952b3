"""Messages of every kind with made-up facts: what a check of templates renders, and what the gallery shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from healthd.channels.base import AccountFacts, Message, Notice, Reader, StormNotice, TroubleNotice
from healthd.channels.wording import BY_HAND
from healthd.core.model import PLATFORMS, Cause, NoticeKind, Target

BROKEN_AT = datetime(2026, 11, 23, 14, 5, tzinfo=UTC)
_TARGET = Target("mail", "ada@acme.example")
_READERS = {
    "en": ("Ada Lovelace", "Europe/London"),
    "de": ("Ada Lovelace", "Europe/Berlin"),
    "es": ("Ada Lovelace", "Europe/Madrid"),
    "fr": ("Ada Lovelace", "Europe/Paris"),
    "pt": ("Ada Lovelace", "America/Sao_Paulo"),
    "ja": ("山田 花子", "Asia/Tokyo"),
}
_LATER = BROKEN_AT + timedelta(days=3, hours=1)


@dataclass(frozen=True, slots=True)
class Example:
    """``name`` says what is special about it; ``slug`` makes file names."""

    slug: str
    name: str
    message: Message


def _account(name: str = "Acme Coffee", username: str | None = "acmecoffee", **facts: object) -> AccountFacts:
    account = AccountFacts(
        ref="1042", platform="facebook", name=name, username=username, profile="Acme Group", cause=Cause.TOKEN,
        unconfirmed=False, broken_at=BROKEN_AT,
    )  # fmt: skip
    return replace(account, **facts)  # type: ignore[arg-type]


def _notice(kind: NoticeKind, *accounts: AccountFacts, later: datetime = BROKEN_AT, **facts: object) -> Notice:
    notice = Notice(
        id="5f0c9a4e2b7d4d1a5f0c9a4e", kind=kind, step=0, target=_TARGET, workspace="acme",
        accounts=accounts or (_account(),), created_at=later, by_hand=BY_HAND,
    )  # fmt: skip
    return replace(notice, **facts)  # type: ignore[arg-type]


_THREE = (
    _account(failed_posts=4),
    _account("Acme Coffee Roasters", "acme.roasters", platform="instagram", unconfirmed=True),
    _account("Acme Café Zoë", "acmezoe", platform="instagram", broken_at=BROKEN_AT + timedelta(hours=26)),
)
_GOOGLE = (
    _account("Acme Coffee TV", "acmecoffeetv", platform="youtube", validity_days=1),
    _account("Acme Coffee, Main Street", None, platform="gmb", validity_days=6),
)
_LONG = "The Very Long Name of a Coffee Shop That Somebody Chose Without Thinking of Phones"


def _many() -> tuple[AccountFacts, ...]:
    return tuple(
        _account(
            f"Acme Coffee {number}", f"acmecoffee{number}",
            ref=str(number), platform=PLATFORMS[number % len(PLATFORMS)],
            broken_at=BROKEN_AT + timedelta(minutes=number), unconfirmed=number % 7 == 0, failed_posts=number % 3,
        )
        for number in range(1, 41)
    )  # fmt: skip


def _fixed(*accounts: AccountFacts) -> tuple[AccountFacts, ...]:
    return tuple(replace(account, resolved_at=_LATER) for account in accounts)


_TROUBLE = TroubleNotice(
    id="d" * 24, kind=NoticeKind.TROUBLE, target=_TARGET, workspace="acme", trouble="unauthorized",
    question="health of all", what="HTTP 401 INVALID_API_KEY",
    remedy="Put a valid API key into this workspace's api_key; healthd picks it up at the next start.",
    since=BROKEN_AT, created_at=BROKEN_AT, request_id="req_7c1f",
)  # fmt: skip
_NO_WEBHOOK = replace(
    _TROUBLE, trouble="webhook_missing", question="subscription", request_id=None,
    what="the provider has no webhook that leads to https://healthd.example.com/webhooks/acme",
    remedy="Run `healthd webhook register`, which makes one and shows its secret.",
)  # fmt: skip
_STORM = StormNotice(
    id="e" * 24, kind=NoticeKind.STORM, target=_TARGET, workspace="acme", platform="facebook", broken=412,
    accounts=1250, window=timedelta(minutes=10), longest=timedelta(hours=1), since=BROKEN_AT, created_at=BROKEN_AT,
    storm="9b1d2c",
)  # fmt: skip
_STORM_OVER = replace(
    _STORM, kind=NoticeKind.STORM_OVER, still_broken=3, outcome="it abated: few are still broken",
    ended_at=BROKEN_AT + timedelta(minutes=40), created_at=BROKEN_AT + timedelta(minutes=40),
)  # fmt: skip

_PEOPLE = (
    Example("opened", "opened: one account", _notice(NoticeKind.OPENED)),
    Example("opened-several", "opened: three accounts", _notice(NoticeKind.OPENED, *_THREE)),
    Example("opened-connection", "opened: connection, no handle, no link",
            _notice(NoticeKind.OPENED, _account(username=None, cause=Cause.CONNECTION, platform="linkedin"),
                    link=None)),
    Example("opened-direct", "opened: a link of the provider’s own",
            _notice(NoticeKind.OPENED, _account(platform="tiktok"), link_minutes=15)),
    Example("opened-nowhere", "opened: neither a link nor a way by hand",
            _notice(NoticeKind.OPENED, _account(platform="pinterest"), link=None, by_hand="")),
    Example("opened-long", "opened: a long name",
            _notice(NoticeKind.OPENED, _account(_LONG, "thatverylonghandleofacoffeeshop", platform="gmb"))),
    Example("opened-rtl", "opened: a right-to-left name",
            _notice(NoticeKind.OPENED, _account("قهوة أكمي الطازجة", "قهوة", platform="twitter"))),
    Example("opened-forty", "opened: forty accounts and twelve more",
            _notice(NoticeKind.OPENED, *_many(), more=12)),
    Example("unconfirmed", "opened: not confirmed yet",
            _notice(NoticeKind.OPENED, _account(unconfirmed=True, platform="threads"))),
    Example("unconfirmed-several", "opened: two accounts, not confirmed yet",
            _notice(NoticeKind.OPENED, *(replace(one, unconfirmed=True) for one in _GOOGLE))),
    Example("reminder", "reminder: one account",
            _notice(NoticeKind.REMINDER, _account(failed_posts=4), later=_LATER, step=1, also_told=("Grace Hopper",))),
    Example("reminder-unconfirmed", "reminder: not confirmed yet",
            _notice(NoticeKind.REMINDER, _account(unconfirmed=True), later=_LATER, step=1)),
    Example("reminder-several", "reminder: three accounts",
            _notice(NoticeKind.REMINDER, *_THREE, later=_LATER, step=2, also_told=("Grace Hopper", "team-slack"))),
    Example("escalated", "escalated: one account",
            _notice(NoticeKind.ESCALATED, _account(failed_posts=1), later=_LATER, also_told=("Grace Hopper",))),
    Example("escalated-unnamed", "escalated: nobody is named",
            _notice(NoticeKind.ESCALATED, _account(unconfirmed=True), later=_LATER)),
    Example("escalated-several", "escalated: three accounts",
            _notice(NoticeKind.ESCALATED, *_THREE, later=_LATER,
                    also_told=("Grace Hopper", "Alan Turing", "team-slack"))),
    Example("wrong-account", "another account was connected",
            _notice(NoticeKind.WRONG_ACCOUNT, later=BROKEN_AT + timedelta(hours=1))),
    Example("wrong-account-several", "another account was connected: two are still broken",
            _notice(NoticeKind.WRONG_ACCOUNT, *_GOOGLE, later=BROKEN_AT + timedelta(hours=1))),
    Example("resolved", "resolved: one account",
            _notice(NoticeKind.RESOLVED, *_fixed(_account()), later=_LATER, link=None)),
    Example("resolved-unconfirmed", "resolved: it had never been confirmed",
            _notice(NoticeKind.RESOLVED, *_fixed(_account(unconfirmed=True)), later=_LATER, link=None)),
    Example("resolved-left", "resolved: two accounts, one is left",
            _notice(NoticeKind.RESOLVED, *_fixed(*_THREE[1:]), later=_LATER, link=None, left=1)),
    Example("expiring", "expiring: five days left", _notice(NoticeKind.EXPIRING, _account(validity_days=5))),
    Example("expiring-today", "expiring: today", _notice(NoticeKind.EXPIRING, _account(validity_days=0))),
    Example("expiring-some-day", "expiring: nobody knows when",
            _notice(NoticeKind.EXPIRING, _account(platform="mastodon"))),
    Example("expiring-several", "expiring: two accounts", _notice(NoticeKind.EXPIRING, *_GOOGLE)),
)  # fmt: skip
_OPERATORS = (
    Example("trouble", "trouble with an API", _TROUBLE),
    Example("trouble-unknown", "trouble of a new kind", replace(_TROUBLE, trouble="new", question="", request_id=None)),
    Example("trouble-over", "trouble is over", replace(
        _TROUBLE, kind=NoticeKind.TROUBLE_OVER, ended_at=BROKEN_AT + timedelta(hours=2))),
    Example("webhook", "trouble with the webhook", _NO_WEBHOOK),
    Example("webhook-over", "trouble with the webhook is over", replace(
        _NO_WEBHOOK, kind=NoticeKind.TROUBLE_OVER, ended_at=BROKEN_AT + timedelta(hours=2))),
    Example("storm", "a storm", _STORM),
    Example("storm-over", "a storm abated", _STORM_OVER),
    Example("storm-recovered", "a storm: all recovered",
            replace(_STORM_OVER, still_broken=0, outcome="every account recovered by itself")),
    Example("storm-cancelled", "a storm was cancelled", replace(_STORM_OVER, outcome="cancelled")),
    Example("chronic", "repaired again and again", _notice(
        NoticeKind.CHRONIC, _account(repaired_at=tuple(BROKEN_AT - timedelta(days=days) for days in (12, 8, 3, 1))),
        later=BROKEN_AT + timedelta(minutes=2), link=None)),
)  # fmt: skip


def _reader(language: str) -> Reader:
    name, key = _READERS.get(language.partition("-")[0], _READERS["en"])
    zone: tzinfo = ZoneInfo(key)
    return Reader(name, language, zone)


def examples(language: str) -> Iterator[Example]:
    """Every kind, in the shapes that sentences and layouts must stand."""
    reader = _reader(language)
    for example in (*_PEOPLE, *_OPERATORS):
        yield replace(example, message=replace(example.message, reader=reader))
    for platform in PLATFORMS:
        account = _account(platform=platform)
        told = _notice(NoticeKind.OPENED, account, reader=reader)
        yield Example(f"platform-{platform}", f"opened: {platform}", told)
