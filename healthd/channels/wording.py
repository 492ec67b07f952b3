"""What a message says. Every channel lays out the same words, so each fact is put into a sentence once.

The sentences stand in ``templates/words``, one file for each language; here stands which of them a message is made of,
and what they are told. Layouts hold no sentences.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from healthd.channels.base import LINK, AccountFacts, Message, Notice, StormNotice, TroubleNotice
from healthd.channels.platforms import inert, platform_colour, platform_name
from healthd.channels.sentences import Book, Library, Warn, is_users, isolated, joined, say_in_log
from healthd.core.model import NoticeKind

__all__ = ["BY_HAND", "Fact", "Row", "Tone", "Wording", "Words", "platform_name", "tell"]

BY_HAND = "app.smartlyq.com → Accounts"
"""Where a person gets to the same place without our link, unless the settings name another."""

ROWS = 40
"""Accounts that a message lists; of more it gives the number."""
SHORT_ROWS = 10
"""Accounts that a short message, as in a chat, lists."""
MOST_PLATFORMS = 3
"""Platforms that a sentence names, and that advice is given for; of more it gives the number."""
_REPAIRS = 5
"""Repairs that a chronic notice lists, the latest."""


class Tone(StrEnum):
    """How a layout may colour the message."""

    BROKEN = "broken"
    SOON = "soon"
    """Not broken, or not known to be."""
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the summary. ``at`` is set where the value is a moment, for clients that show local time.
    ``in_row``: a layout that shows the account's row need not say it again.
    """

    label: str
    value: str
    at: datetime | None = None
    in_row: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One account: ``title`` is its name and handle in quotes, for text; ``name`` and ``handle`` stand alone.

    ``colour`` is the platform's, as ``#rrggbb``. ``notes`` are what else is known; the first is ``when`` in words.
    """

    title: str
    name: str
    handle: str
    platform: str
    colour: str
    notes: tuple[str, ...] = ()
    when: Fact | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """A message, ready to be laid out. Empty strings are things that this message does not say.

    ``commands`` are lines for a terminal, each labelled with what it does. ``rows`` are the message's accounts, and
    ``more`` says how many others there are, ``more_short`` where only ``short_rows`` are shown; with one account,
    ``facts`` hold it as well.
    """

    kind: NoticeKind
    language: str
    tone: Tone
    subject: str
    status: str
    headline: str
    happened: str
    consequence: str = ""
    greeting: str = ""
    todo: str = ""
    advice: tuple[str, ...] = ()
    button: str = ""
    open_link: str = ""
    acknowledge: str = ""
    snooze: str = ""
    link_note: str = ""
    by_hand: str = ""
    footer: str = ""
    colon: str = ":"
    facts: tuple[Fact, ...] = ()
    rows: tuple[Row, ...] = ()
    rows_label: str = ""
    more: str = ""
    more_short: str = ""
    commands: tuple[Fact, ...] = ()

    @property
    def several(self) -> bool:
        return len(self.rows) > 1

    @property
    def short_rows(self) -> tuple[Row, ...]:
        return self.rows[:SHORT_ROWS]


@dataclass(frozen=True)
class Mail:
    """A mail's parts, laid out."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class Wording:
    """Puts messages into words, by our templates or by those of ``folder``.

    ``warn`` hears of overrides that fail at the moment of sending; ``check`` finds them before.
    """

    folder: Path | None = None
    warn: Warn = say_in_log
    library: Library = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "library", Library(self.folder, self.warn))

    @property
    def languages(self) -> tuple[str, ...]:
        return self.library.languages

    def tell(self, message: Message, book: Book | None = None) -> Words:
        """The message in the words of its reader's language, or of another ``book``."""
        book = book or self.library.book(message.reader.language)
        match message:
            case TroubleNotice():
                return _Trouble(book, message).words()
            case StormNotice():
                return _Storm(book, message).words()
            case Notice(kind=NoticeKind.CHRONIC):
                return _Chronic(book, message).words()
            case Notice():
                return _About(book, message).words()

    def mail(self, message: Message) -> Mail:
        """The message as a mail. A layout of the user's that fails, or loses the link, is passed over."""
        words = self.tell(message)
        html, text = (self._lay_out(words, message.link, ending) for ending in ("html", "txt"))
        return Mail(words.subject, text, html)

    def _lay_out(self, words: Words, link: str | None, ending: str) -> str:
        for layout in self.library.layouts(words.kind, words.language, ending):
            try:
                laid_out = layout.render(words=words, link=link)
            except Exception as error:  # whatever an override does, the message must go out
                if not is_users(layout):
                    raise
                self.library.warn_once(f"{layout.name} could not be used ({type(error).__name__}); ours stands in")
            else:
                if not words.button or LINK in laid_out or not is_users(layout):
                    return laid_out
                self.library.warn_once(f"{layout.name} does not show the link; ours stands in")
        raise LookupError(f"no layout for a mail's {ending} part")

    def check(self) -> list[str]:
        """What is wrong with the folder's templates, each as a line that names the file; empty where nothing is."""
        from healthd.channels.proofreading import mistakes  # noqa: PLC0415 - loads the example messages

        return mistakes(self)


@cache
def plain() -> Wording:
    """Ours alone."""
    return Wording()


def tell(message: Message) -> Words:
    """The message in our own words."""
    return plain().tell(message)


def _handle(account: AccountFacts) -> str:
    username = account.username or ""
    if not username or username.startswith("@") or " " in username:
        return username
    return f"@{username}"


def _known_as(account: AccountFacts) -> str:
    return account.name or _handle(account) or account.ref


_SIGNS = str.maketrans("", "", "@")


@dataclass(frozen=True)
class _Telling:
    """What all messages have in common: a book to say things from, and a reader to say them to."""

    book: Book
    message: Message

    @property
    def workspace(self) -> Fact:
        return Fact(self._label("workspace"), inert(self.message.workspace))

    def _label(self, name: str) -> str:
        return self.book.say(f"label_{name}", {})

    def _moment(self, at: datetime) -> str:
        return self.book.moment(at, self.message.reader.zone)

    def _moment_fact(self, label: str, at: datetime) -> Fact:
        return Fact(self._label(label), self._moment(at), at)

    def _base_facts(self) -> dict[str, Any]:
        return {"workspace": self.book.quoted(self.message.workspace), "reader": inert(self.message.reader.name)}

    def _greeting(self) -> str:
        return self.book.say("greeting", self._base_facts()) if self.message.reader.name else ""

    def _say(self, form: str, facts: Mapping[str, Any]) -> dict[str, str]:
        return {part: self.book.say(f"{form}_{part}", facts) for part in _PARTS}

    def _made(self, tone: Tone, says: Mapping[str, str], **rest: Any) -> Words:
        return Words(
            kind=self.message.kind,
            language=self.book.language,
            tone=tone,
            subject=says["subject"],
            status=says["status"],
            headline=says["headline"],
            happened=says["happened"],
            consequence=says["consequence"],
            todo=says["todo"],
            greeting=self._greeting(),
            colon=self.book.say("colon", {}),
            **rest,
        )


_PARTS = ("subject", "status", "headline", "happened", "consequence", "todo")


@dataclass(frozen=True)
class _About(_Telling):
    """About accounts, for the people who can repair them."""

    message: Notice

    @property
    def _form(self) -> str:
        first_news = self.message.kind is NoticeKind.OPENED
        return "unconfirmed" if first_news and self._unconfirmed else self.message.kind.value

    @property
    def _unconfirmed(self) -> bool:
        return all(account.unconfirmed for account in self.message.accounts)

    @property
    def _several(self) -> bool:
        return self.message.total > 1

    def words(self) -> Words:
        facts = self.facts()
        says = {part: self._one_of(part, facts) for part in _PARTS}
        said = self._made(
            self._tone(),
            says,
            footer=self.book.say("footer", facts),
            facts=self._summary(facts),
            rows=tuple(self._row(account) for account in self.message.accounts[:ROWS]),
            rows_label=self._label("accounts"),
            more=self._more(ROWS),
            more_short=self._more(SHORT_ROWS),
        )
        return said if self.message.kind is NoticeKind.RESOLVED else self._ask(said, facts)

    def _one_of(self, part: str, facts: Mapping[str, Any]) -> str:
        block = f"several_{self._form}_{part}"
        if self._several and self.book.has(block):
            return self.book.say(block, facts)
        return self.book.say(f"{self._form}_{part}", facts)

    def _tone(self) -> Tone:
        if self.message.kind is NoticeKind.RESOLVED:
            return Tone.FIXED
        return Tone.SOON if self._unconfirmed or self.message.kind is NoticeKind.EXPIRING else Tone.BROKEN

    def _more(self, shown: int) -> str:
        more = self.message.total - min(len(self.message.accounts), shown)
        return self.book.say("more_accounts", {"more": more}) if more else ""

    def facts(self) -> dict[str, Any]:
        """What the sentences may use."""
        message, account, book = self.message, self.message.accounts[0], self.book
        platforms = tuple(dict.fromkeys(platform_name(one.platform) for one in message.accounts))
        many = len(platforms) > MOST_PLATFORMS
        span = self._span()
        days = [one.validity_days for one in message.accounts if one.validity_days is not None]
        return {
            **self._base_facts(),
            "account": book.quoted(_known_as(account)),
            "handle": book.quoted(_handle(account) or _known_as(account)),
            "platform": platform_name(account.platform),
            "platforms": book.say("many_platforms", {"count": len(platforms)}) if many else book.listed(platforms),
            "many": many,
            "total": message.total,
            "cause": account.cause.value,
            "unconfirmed": self._unconfirmed,
            "span": book.span(span),
            "span_for": book.span(span, "span_for"),
            "since": self._moment(min(one.broken_at for one in message.accounts)),
            "failed_posts": sum(one.failed_posts for one in message.accounts),
            "also_told": book.listed(tuple(map(inert, message.also_told))) if message.also_told else "",
            "told": len(message.also_told),
            "left": message.left,
            "days": max(min(days), 0) if days else None,
            "by_hand": message.by_hand,
            "link_minutes": message.link_minutes,
        }

    def _span(self) -> timedelta:
        accounts = self.message.accounts
        end = self.message.created_at
        if self.message.kind is NoticeKind.RESOLVED:
            end = max((one.resolved_at for one in accounts if one.resolved_at is not None), default=end)
        return end - min(one.broken_at for one in accounts)

    def _ask(self, said: Words, facts: Mapping[str, Any]) -> Words:
        """The message asks its reader to reconnect, with a link or without."""
        said = replace(
            said,
            advice=self._advice(),
            acknowledge=self.book.say("acknowledge_button", facts),
            snooze=self.book.say("snooze_button", facts),
        )
        if self.message.link is None:
            way = "by_hand" if self.message.by_hand else "alone"
            return replace(said, todo=self._todo(way, facts))
        minutes = self.message.link_minutes is not None
        button = "several_button" if self._several else "button"
        return replace(
            said,
            todo=said.todo or self._todo("link", facts),
            button=self.book.say(button, facts),
            open_link=self.book.say("open_link", facts),
            link_note=self.book.say("link_note_minutes" if minutes else "link_note", facts),
            by_hand=self.book.say("by_hand_note", facts) if self.message.by_hand else "",
            footer=joined((said.footer, self.book.say("footer_personal", facts))),
        )

    def _todo(self, way: str, facts: Mapping[str, Any]) -> str:
        return self.book.say(f"several_todo_{way}" if self._several else f"todo_{way}", facts)

    def _advice(self) -> tuple[str, ...]:
        platforms = dict.fromkeys(account.platform for account in self.message.accounts)
        if len(platforms) > MOST_PLATFORMS:
            return ()
        blocks = (f"advice_{platform}" for platform in platforms)
        return tuple(self.book.say(block, {}) for block in blocks if self.book.has(block))

    def _summary(self, facts: Mapping[str, Any]) -> tuple[Fact, ...]:
        profiles = {account.profile for account in self.message.accounts}
        profile = profiles.pop() if len(profiles) == 1 else None
        common = (self.workspace, *((Fact(self._label("profile"), self.book.quoted(profile)),) if profile else ()))
        if self._several:
            return common
        account = self.message.accounts[0]
        return (
            Fact(self._label("account"), self._title(account), in_row=True),
            Fact(self._label("platform"), str(facts["platform"]), in_row=True),
            *common,
            *self._when(account),
        )

    def _when(self, account: AccountFacts) -> tuple[Fact, ...]:
        """The moments of one account that this kind of message is about."""
        match self.message.kind:
            case NoticeKind.RESOLVED:
                fixed_at = account.resolved_at or self.message.created_at
                return self._moment_fact("broken_since", account.broken_at), self._moment_fact(
                    "working_since", fixed_at
                )
            case NoticeKind.EXPIRING:
                end = self._ends(account)
                return (Fact(self._label("ends"), self.book.say("about_day", {"day": end})),) if end else ()
            case _:
                label = "reported" if account.unconfirmed and self.message.kind is NoticeKind.OPENED else "since"
                return (self._moment_fact(label, account.broken_at),)

    def _ends(self, account: AccountFacts) -> str:
        if account.validity_days is None:
            return ""
        end = self.message.created_at + timedelta(days=max(account.validity_days, 0))
        return self.book.day(end, self.message.reader.zone)

    def _title(self, account: AccountFacts) -> str:
        """Name and handle, since one name may stand for several accounts."""
        handle = _handle(account)
        if not handle or not account.name or handle.translate(_SIGNS) == account.name.translate(_SIGNS):
            return self.book.quoted(_known_as(account))
        return f"{self.book.quoted(account.name)}, {self.book.quoted(handle)}"

    def _row(self, account: AccountFacts) -> Row:
        when = self._when(account)
        handle = _handle(account)
        shown = handle if handle.translate(_SIGNS) != _known_as(account).translate(_SIGNS) else ""
        return Row(
            title=self._title(account),
            name=isolated(inert(_known_as(account))),
            handle=isolated(inert(shown)),
            platform=platform_name(account.platform),
            colour=platform_colour(account.platform),
            notes=self._notes(account),
            when=when[-1] if when else None,
        )

    def _notes(self, account: AccountFacts) -> tuple[str, ...]:
        said: list[str] = []
        match self.message.kind:
            case NoticeKind.RESOLVED:
                at = account.resolved_at or self.message.created_at
                return (self.book.say("row_working", {"moment": self._moment(at)}),)
            case NoticeKind.EXPIRING:
                end = self._ends(account)
                return (self.book.say("row_ends", {"day": end}),) if end else ()
            case _:
                said.append(self.book.say("row_since", {"moment": self._moment(account.broken_at)}))
        if account.unconfirmed:
            said.append(self.book.say("row_unconfirmed", {}))
        if account.failed_posts:
            said.append(self.book.say("row_failed", {"failed_posts": account.failed_posts}))
        return tuple(said)


_BARE = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class _Chronic(_About):
    """For the operator, about one account that is repaired again and again."""

    def facts(self) -> dict[str, Any]:
        repairs = self.message.accounts[0].repaired_at
        first = min(repairs, default=self.message.accounts[0].broken_at)
        lasts = self.message.created_at - first
        return {
            **super().facts(),
            "repairs": len(repairs),
            "within": self.book.span(lasts),
            "within_for": self.book.span(lasts, "span_for"),
        }

    def words(self) -> Words:
        facts = self.facts()
        account = self.message.accounts[0]
        ref = account.ref if _BARE.fullmatch(account.ref) else inert(account.ref)
        command = f"healthd notices release {shlex.quote(f'{self.message.workspace}/{ref}')}"
        repairs = tuple(self._moment_fact("repaired", at) for at in account.repaired_at[-_REPAIRS:])
        return self._made(
            Tone.BROKEN,
            self._say("chronic", facts),
            footer=self.book.say("operator_footer", facts),
            facts=(*self._summary(facts), *repairs),
            rows=(self._row(account),),
            commands=(Fact(self.book.say("chronic_release", facts), command),),
        )


_TROUBLE_KINDS = frozenset({
    "unauthorized", "payment_required", "forbidden", "forbidden_link", "unprocessable", "rate_limited", "starved",
    "unavailable", "bad_answer", "webhook_missing", "webhook_wrong_url", "webhook_wrong_events", "webhook_failing",
    "webhook_paused", "webhook_several", "webhook_forbidden",
})  # fmt: skip


@dataclass(frozen=True)
class _Trouble(_Telling):
    """For the operator, about a workspace's API."""

    message: TroubleNotice

    def words(self) -> Words:
        message, over = self.message, self.message.ended_at
        kind = message.trouble if message.trouble in _TROUBLE_KINDS else "other"
        span = (over or message.created_at) - message.since
        facts = {**self._base_facts(), "remedy": message.remedy, "span": self.book.span(span)}
        facts["trouble"] = self.book.say(f"trouble_{kind}", facts)
        # Without its webhook a workspace is still looked after, which the other troubles do not let healthd do.
        about = "webhook" if kind.startswith("webhook_") else "trouble"
        says = self._say(about if over is None else f"{about}_over", facts)
        if over is None:
            says["todo"] = self.book.say(f"remedy_{kind}", facts)
        return self._made(
            Tone.BROKEN if over is None else Tone.FIXED,
            says,
            footer=self.book.say("operator_footer", facts),
            facts=self._summary(),
        )

    def _summary(self) -> tuple[Fact, ...]:
        """What somebody who asks the provider for help has to quote."""
        message = self.message
        asked = (Fact(self._label("question"), message.question),) if message.question else ()
        request = (Fact(self._label("request"), message.request_id),) if message.request_id else ()
        over = () if message.ended_at is None else (self._moment_fact("over_since", message.ended_at),)
        said = Fact(self._label("said"), inert(message.what))
        return (self.workspace, said, *asked, *request, self._moment_fact("since", message.since), *over)


OUTCOMES = {
    "every account recovered by itself": "recovered",
    "it lasts: what is still broken needs its people": "lasts",
    "it abated: few are still broken": "abated",
    "released": "released",
    "cancelled": "cancelled",
}
"""Why a storm's hold ended, as ``core.storm`` or the one who decided says it, and as the sentences call it."""


@dataclass(frozen=True)
class _Storm(_Telling):
    """For the operator, about a platform whose accounts broke all at once."""

    message: StormNotice

    def words(self) -> Words:
        over = self.message.ended_at is not None
        facts = self._facts()
        return self._made(
            Tone.FIXED if over else Tone.BROKEN,
            self._say("storm_over" if over else "storm", facts),
            footer=self.book.say("operator_footer", facts),
            facts=self._summary(facts),
            commands=() if over else self._decisions(facts),
        )

    def _facts(self) -> dict[str, Any]:
        message = self.message
        outcome = next((key for said, key in OUTCOMES.items() if message.outcome.startswith(said)), "other")
        return {
            **self._base_facts(),
            "platform": platform_name(message.platform),
            "broken": message.broken,
            "accounts": message.accounts,
            "still_broken": message.still_broken,
            "recovered": max(message.broken - message.still_broken, 0),
            "window": self.book.span(message.window),
            "longest": self.book.span(message.longest),
            "outcome": self.book.say(f"outcome_{outcome}", {}),
            "cancelled": outcome == "cancelled",
        }

    def _decisions(self, facts: Mapping[str, Any]) -> tuple[Fact, ...]:
        storm = shlex.quote(self.message.storm)
        return tuple(
            Fact(self.book.say(f"storm_{decision}", facts), f"healthd storms {decision} {storm}")
            for decision in ("release", "cancel")
        )

    def _summary(self, facts: Mapping[str, Any]) -> tuple[Fact, ...]:
        message = self.message
        over = () if message.ended_at is None else (self._moment_fact("over_since", message.ended_at),)
        return (
            self.workspace,
            Fact(self._label("platform"), str(facts["platform"])),
            Fact(self._label("broken"), self.book.say("share", facts)),
            Fact(self._label("storm"), message.storm),
            self._moment_fact("since", message.since),
            *over,
        )
