"""One account's timeline: everything that happened, and why, the newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from markupsafe import Markup, escape

from healthd.core.duration import in_words
from healthd.core.model import NoticeStatus, State
from healthd.store.decisions import Decision
from healthd.store.notices import StoredNotice
from healthd.telling import UNDECIDED
from healthd.web.operator import words
from healthd.web.operator.story import AccountPage


class Kind(StrEnum):
    """What a line tells of."""

    STATE = "state"
    INCIDENT = "incident"
    NOTICE = "notice"
    CLICK = "click"
    POST = "post"
    ACT = "act"


KINDS: Mapping[Kind, tuple[str, str]] = {
    Kind.STATE: ("Readings", "pulse"),
    Kind.INCIDENT: ("Incidents", "cut"),
    Kind.NOTICE: ("Notices", "send"),
    Kind.CLICK: ("Clicks", "hand"),
    Kind.POST: ("Failed posts", "cross"),
    Kind.ACT: ("What people did", "person"),
}
"""How each kind is called, and its icon."""

SOURCES = {
    "webhook": "A webhook",
    "bulk": "The sweep",
    "health": "A check",
    "inventory": "The inventory",
    "clock": "The clock",
}
SIGNALS = {
    "ok": "it works",
    "expiring": "it expires soon",
    "error": "something is wrong with it",
    "bad_token": "its token is dead",
    "bad_connection": "it has been failing for long",
    "token_expired": "its token expired",
    "disconnected": "it was disconnected",
    "connected": "it was connected",
    "gone": "it is gone",
    "confirm_timeout": "no answer came in time",
}
DECIDED = frozenset({"acknowledge", "snooze", "resume", "release", "mute", "unmute", "pause posting", "resume posting"})
"""Acts that leave a decision on record as well."""
OUTCOMES = {"minted": "which led on to the provider", "rate_limited": "but the API’s limit was reached"}


@dataclass(frozen=True, slots=True)
class Line:
    """``reason`` is why; ``href`` leads to more."""

    at: datetime
    kind: Kind
    tone: str
    what: Markup
    reason: str = ""
    who: str = ""
    href: str = ""

    @property
    def icon(self) -> str:
        return KINDS[self.kind][1]


@dataclass(frozen=True)
class Timeline:
    """``see`` hides addresses from those who may not see them."""

    page: AccountPage
    see: Callable[[str], str]

    @cached_property
    def _notices(self) -> dict[str, StoredNotice]:
        return {one.id: one for one in self.page.story.notices}

    def lines(self, wanted: Kind | None = None) -> list[Line]:
        """The newest first; of what happened at the same moment the effect before its cause."""
        lines = [one for one in self._all() if wanted is None or one.kind is wanted]
        lines.sort(key=lambda one: one.at)
        return lines[::-1]

    def kinds(self) -> dict[Kind, int]:
        """How many lines of each kind there are."""
        found = dict.fromkeys(Kind, 0)
        for one in self._all():
            found[one.kind] += 1
        return found

    def _all(self) -> Iterator[Line]:
        yield Line(self.page.stored.first_seen_at, Kind.STATE, "dim", Markup("First seen"))
        yield from self._readings()
        yield from self._incidents()
        yield from self._decisions()
        yield from self._waiting()
        yield from self._clicks()
        yield from self._posts()
        yield from self._acts()

    def _readings(self) -> Iterator[Line]:
        for row in self.page.story.history:
            after = State(row.after)
            source, signal = SOURCES.get(row.source, row.source), SIGNALS.get(row.signal, row.signal)
            moved = (
                Markup(": <b>{}</b> → <b>{}</b>").format(row.before, row.after)
                if row.before != row.after
                else Markup(", stays {}").format(row.after)
            )
            tone = words.STATES[after].tone if row.before != row.after else "dim"
            what = Markup("{} said that {}{}").format(source, signal, moved)
            late = " · it was heard later than it happened" if row.at and (row.recorded_at - row.at).days else ""
            yield Line(row.recorded_at, Kind.STATE, tone, what, f"{row.note or ''}{late}".strip(" ·"))

    def _incidents(self) -> Iterator[Line]:
        for one in self.page.story.incidents:
            doubt = "" if one.confirmed_at else ", unconfirmed"
            what = Markup("The incident began: {}{}").format(words.CAUSES[one.cause], doubt)
            href = f"/notices?incident={one.id}"
            yield Line(one.opened_at, Kind.INCIDENT, "bad", what, href=href)
            if one.resolved_at:
                how, span = one.resolution or "over", in_words(one.resolved_at - one.broken_at)
                ended = Markup("The incident ended: {} after {}").format(how, span)
                yield Line(one.resolved_at, Kind.INCIDENT, "good", ended, href=href)

    def _decisions(self) -> Iterator[Line]:
        for one in self.page.story.decisions:
            kind = Kind.ACT if one.who else Kind.NOTICE
            tone = _tone(one.what)
            href = f"/notices/{one.notice_id}" if one.notice_id else ""
            yield Line(one.at, kind, tone, self._decided(one), self.see(one.reason), self.see(one.who), href)

    def _decided(self, decision: Decision) -> Markup:
        """``"Reminder to Ada: sent"`` of a notice; of anything else what was decided."""
        notice = self._notices.get(decision.notice_id or "")
        kind, _, became = decision.what.partition(" ")
        if notice is None or kind != notice.kind or not notice.target.channel:
            return Markup("<b>{}</b>").format(decision.what[:1].upper() + decision.what[1:])
        to = self.page.called(notice.contact, notice.target, self.see)
        return Markup("<b>{}</b> to {}: {}").format(words.KINDS[notice.kind], to, became)

    def _waiting(self) -> Iterator[Line]:
        for one in self.page.story.notices:
            if one.status in UNDECIDED:
                look = words.NOTICES[one.status]
                to = self.page.called(one.contact, one.target, self.see) if one.target.channel else "nobody"
                tries = f", tried {words.count(one.attempts, 'time')}" if one.attempts else ""
                what = Markup("<b>{}</b> to {}: {}{}").format(words.KINDS[one.kind], to, look.word.lower(), tries)
                at = one.created_at if one.status is NoticeStatus.HELD else one.due_at
                yield Line(at, Kind.NOTICE, look.tone, what, self.see(one.reason or ""), href=f"/notices/{one.id}")

    def _clicks(self) -> Iterator[Line]:
        by_target = {one.target.key: one for one in self.page.told}
        for one in self.page.clicks:
            told = by_target.get(one.target)
            who: str | Markup = words.name(self.see(one.target).partition(":")[2] or one.target)
            if told is not None:
                who = self.page.called(told.contact, told.target, self.see)
            outcome = OUTCOMES.get(one.outcome, f"but there was no link: {one.outcome}")
            what = Markup("<b>Button pressed</b> on the page of {}, {}").format(escape(who), outcome)
            tone = "good" if one.outcome == "minted" else "warn"
            yield Line(one.at, Kind.CLICK, tone, what, f"from {one.client}")

    def _posts(self) -> Iterator[Line]:
        for one in self.page.failures:
            what = Markup("A post failed: <b>{}</b>").format(one.code)
            because = "because of its grant" if one.about_grant else "for another reason than its grant"
            tone = "bad" if one.about_grant else "warn"
            yield Line(one.at, Kind.POST, tone, what, f"{because}. {one.message} (post {one.post})")

    def _acts(self) -> Iterator[Line]:
        """Of what people did, that which no decision tells of already."""
        for one in self.page.audited:
            if one.action not in DECIDED:
                what = Markup("<b>{}</b>").format(one.action[:1].upper() + one.action[1:])
                yield Line(one.at, Kind.ACT, "dim", what, self.see(one.detail), self.see(one.who))


_TONES = (
    ("sent", "good"), ("released", "good"), ("planned", "dim"), ("held", "warn"), ("dead", "bad"), ("dropped", "dim"),
    ("bounced", "bad"),
)  # fmt: skip


def _tone(what: str) -> str:
    return next((tone for word, tone in _TONES if word in what), "dim")
