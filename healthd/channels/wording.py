"""What a message says. Every channel lays out the same words, so each fact is put into a sentence once.

Another language is another module with a ``tell`` of its own: layouts hold no sentences.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from healthd.channels.base import Notice, TroubleNotice
from healthd.core.duration import in_words
from healthd.core.model import Cause, NoticeKind

PLATFORM_NAMES = {
    "bluesky": "Bluesky",
    "discord": "Discord",
    "facebook": "Facebook",
    "gmb": "Google Business Profile",
    "instagram": "Instagram",
    "linkedin": "LinkedIn",
    "pinterest": "Pinterest",
    "reddit": "Reddit",
    "snapchat": "Snapchat",
    "telegram": "Telegram",
    "threads": "Threads",
    "tiktok": "TikTok",
    "tumblr": "Tumblr",
    "twitter": "X (Twitter)",
    "whatsapp": "WhatsApp",
    "youtube": "YouTube",
}

BY_HAND = "app.smartlyq.com → Accounts"
"""Where a person gets to the same place without our link. A mail that asks for a log-in must offer such a way."""

_BUTTON = "Reconnect this account"
_QUOTES = str.maketrans("“”", '""')


class Tone(StrEnum):
    """How a layout may colour the message."""

    BROKEN = "broken"
    SOON = "soon"
    """Not broken, or not known to be."""
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the summary. ``at`` is set where the value is a moment, for clients that show local time."""

    label: str
    value: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """A message, ready to be laid out. Empty strings are things that this message does not say."""

    tone: Tone
    subject: str
    status: str
    headline: str
    happened: str
    consequence: str
    todo: str
    button: str
    link_note: str
    by_hand: str
    footer: str
    facts: tuple[Fact, ...]


def tell(notice: Notice | TroubleNotice) -> Words:
    """The notice in words."""
    if isinstance(notice, TroubleNotice):
        return _trouble(notice) if notice.ended_at is None else _trouble_over(notice)
    return _TELLERS[notice.kind](notice)


def moment(at: datetime) -> str:
    """``"23 Nov 2026, 14:05 UTC"``."""
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


_LINKABLE = re.compile(r"(?<=\w)(?=[.。．｡]\w)|(?<=:)(?=//)")


def _inert(text: str) -> str:
    """Mail clients and chats make links of bare addresses: a word joiner stands where one would hold together."""
    return _LINKABLE.sub("\u2060", text)


def platform_name(platform: str) -> str:
    """The platform as people call it. One that is new to us keeps the provider's name for it."""
    return PLATFORM_NAMES.get(platform) or _inert(platform)


def quoted(name: str) -> str:
    """A name that somebody else chose, in quotes: it becomes neither a link nor part of our sentence.

    Right-to-left names are isolated, so that they do not turn the sentence around.
    """
    name = _inert(name).translate(_QUOTES)
    if any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in name):
        name = f"\u2068{name}\u2069"
    return f"“{name}”"


def _handle(notice: Notice) -> str:
    username = notice.account_username or ""
    if not username or username.startswith("@") or " " in username:
        return username
    return f"@{username}"


def _account(notice: Notice) -> str:
    return quoted(notice.account_name or _handle(notice) or notice.account_ref)


def _account_on(notice: Notice) -> str:
    return f"{_account(notice)} on {platform_name(notice.platform)}"


def _whole_account(notice: Notice) -> str:
    """Name and handle, since one name may stand for several accounts."""
    handle = _handle(notice)
    if not handle or not notice.account_name or handle.lstrip("@") == notice.account_name.lstrip("@"):
        return _account(notice)
    return f"{_account(notice)}, {quoted(handle)}"


def _facts(notice: Notice, *more: Fact) -> tuple[Fact, ...]:
    profile = (Fact("Profile", quoted(notice.profile)),) if notice.profile else ()
    return (
        Fact("Account", _whole_account(notice)),
        Fact("Platform", platform_name(notice.platform)),
        Fact("Workspace", notice.workspace),
        *profile,
        *more,
    )


def _moment_fact(label: str, at: datetime) -> Fact:
    return Fact(label, moment(at), at)


_FOOTER = (
    "You get this because healthd lists you as a contact for the workspace “{workspace}”. healthd watches the social "
    "accounts connected there and writes when one of them needs a person."
)
_PERSONAL = " The link is meant for you: please do not forward it."


def _ask(
    notice: Notice, *, tone: Tone, status: str, headline: str, happened: str, consequence: str, facts: tuple[Fact, ...]
) -> Words:
    """A message that asks its reader to reconnect the account, with a link or without."""
    choose = f"choose {quoted(_handle(notice) or notice.account_name or notice.account_ref)} when asked."
    footer = _FOOTER.format(workspace=notice.workspace)
    says = Words(
        tone=tone,
        subject=headline,
        status=status,
        headline=headline,
        happened=happened,
        consequence=consequence,
        todo=f"Go to {BY_HAND}, reconnect the account there, and {choose}",
        button="",
        link_note="",
        by_hand="",
        footer=footer,
        facts=facts,
    )
    if notice.link is None:
        return says
    return replace(
        says,
        todo=f"To reconnect it, open the link, log in, and {choose} It usually takes a minute.",
        button=_BUTTON,
        link_note=_link_note(notice.link_minutes),
        by_hand=f"If you would rather not follow a link, go to {BY_HAND}.",
        footer=footer + _PERSONAL,
    )


def _link_note(minutes: int | None) -> str:
    if minutes is None:
        return "The link opens a page that shows what is wrong. Nothing changes until you press the button there."
    return f"This link works once, and only for {minutes} minutes after this message was sent."


_CAUSES = {
    Cause.TOKEN: "The permission to publish to this account has expired, or {platform} has withdrawn it.",
    Cause.CONNECTION: "The connection to this account on {platform} no longer works.",
}
_HEARSAY = (
    "We were told that this account lost its connection, but could not check it ourselves yet. "
    "If it turns out to work, there is nothing to do."
)


def _opened(notice: Notice) -> Words:
    if notice.unconfirmed:
        return _ask(
            notice,
            tone=Tone.SOON,
            status="Not confirmed yet",
            headline=f"{_account_on(notice)} may need to be reconnected",
            happened=_HEARSAY,
            consequence="If it is indeed disconnected, posts scheduled for it fail until it is reconnected.",
            facts=_facts(notice, _moment_fact("Reported", notice.broken_at)),
        )
    return _ask(
        notice,
        tone=Tone.BROKEN,
        status="Disconnected",
        headline=f"{_account_on(notice)} needs to be reconnected",
        happened=_CAUSES[notice.cause].format(platform=platform_name(notice.platform)),
        consequence="Posts scheduled for this account keep failing until it is reconnected.",
        facts=_facts(notice, _moment_fact("Since", notice.broken_at)),
    )


def _reminder(notice: Notice) -> Words:
    """Keeps the subject of the first message, so that mail clients show both as one conversation."""
    has = "may have" if notice.unconfirmed else "has"
    span = in_words(notice.created_at - notice.broken_at)
    headline = f"{_account_on(notice)} {has} been disconnected for {span}"
    return replace(_opened(notice), status="Reminder", headline=headline)


def _resolved(notice: Notice) -> Words:
    fixed_at = notice.resolved_at or notice.created_at
    headline = f"{_account_on(notice)} is connected again"
    happened = f"It was disconnected for {in_words(fixed_at - notice.broken_at)}, and works now."
    if notice.unconfirmed:
        headline = f"{_account_on(notice)} is connected"
        happened = "We could check it now, and it works. There is nothing to reconnect."
    return Words(
        tone=Tone.FIXED,
        subject=headline,
        status="Fixed",
        headline=headline,
        happened=happened,
        consequence="Posts that failed in the meantime may have to be published again: please have a look.",
        todo="",
        button="",
        link_note="",
        by_hand="",
        footer=_FOOTER.format(workspace=notice.workspace),
        facts=_facts(notice, _moment_fact("Broken since", notice.broken_at), _moment_fact("Working since", fixed_at)),
    )


_DEADLINES = {0: ("today", "Ends today"), 1: ("by tomorrow", "1 day left")}


def _expiring(notice: Notice) -> Words:
    days = notice.validity_days
    when, status, facts = "soon", "Ends soon", _facts(notice)
    if days is not None:
        days = max(days, 0)
        end = notice.created_at + timedelta(days=days)
        when, status = _DEADLINES.get(days, (f"within {days} days", f"{days} days left"))
        facts = _facts(notice, Fact("Ends", f"about {end.day} {end:%b %Y}"))
    return _ask(
        notice,
        tone=Tone.SOON,
        status=status,
        headline=f"{_account_on(notice)} needs to be renewed {when}",
        happened=(
            "It still works, but the permission to publish to it runs out, and "
            f"{platform_name(notice.platform)} lets only a person renew it, by reconnecting the account."
        ),
        consequence="After that, posts scheduled for this account fail until somebody does.",
        facts=facts,
    )


_TROUBLES = {
    "unauthorized": "its API key is refused",
    "payment_required": "its balance is used up",
    "forbidden": "its API key may not do what healthd needs",
    "forbidden_link": "its reconnect links lead to a host that is not allowed",
    "unprocessable": "its API refuses to make reconnect links",
    "rate_limited": "its API refuses healthd's calls as too many",
    "starved": "its rate limit leaves no calls for healthd",
    "unavailable": "its API does not answer",
    "bad_answer": "its API gives answers that make no sense",
}
_OPERATOR_FOOTER = (
    "You get this because healthd's settings name you as an operator (notices.operator). Nobody else was told: while "
    "healthd cannot look, no account is called broken."
)


def _trouble_facts(notice: TroubleNotice, *more: Fact) -> tuple[Fact, ...]:
    """What somebody who asks the provider for help has to quote."""
    said = Fact("The API said", _inert(notice.what))
    question = (Fact("Asked for", notice.question),) if notice.question else ()
    request = (Fact("Request", notice.request_id),) if notice.request_id else ()
    return (Fact("Workspace", notice.workspace), said, *question, *request, *more)


def _trouble_words(notice: TroubleNotice, *, tone: Tone, status: str, headline: str, happened: str, todo: str) -> Words:
    over = () if notice.ended_at is None else (_moment_fact("Over since", notice.ended_at),)
    return Words(
        tone=tone,
        subject=headline,
        status=status,
        headline=headline,
        happened=happened,
        consequence="",
        todo=todo,
        button="",
        link_note="",
        by_hand="",
        footer=_OPERATOR_FOOTER,
        facts=_trouble_facts(notice, _moment_fact("Since", notice.since), *over),
    )


def _trouble(notice: TroubleNotice) -> Words:
    what = _TROUBLES.get(notice.trouble, "its API cannot be used")
    return _trouble_words(
        notice,
        tone=Tone.BROKEN,
        status="healthd needs you",
        headline=f"healthd cannot look after {quoted(notice.workspace)}: {what}",
        happened="Until this is mended, accounts there may break without anybody hearing of it.",
        todo=notice.remedy,
    )


def _trouble_over(notice: TroubleNotice) -> Words:
    ended_at = notice.ended_at or notice.created_at
    return _trouble_words(
        notice,
        tone=Tone.FIXED,
        status="Over",
        headline=f"healthd looks after {quoted(notice.workspace)} again",
        happened=f"It is over, after {in_words(ended_at - notice.since)}. What was missed is being looked for.",
        todo="",
    )


_TELLERS: dict[NoticeKind, Callable[[Notice], Words]] = {
    NoticeKind.OPENED: _opened,
    NoticeKind.REMINDER: _reminder,
    NoticeKind.RESOLVED: _resolved,
    NoticeKind.EXPIRING: _expiring,
}
