"""What is known of one account: read at once, and put into sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup
from sqlalchemy import Connection

from healthd.core.contacts import Contact
from healthd.core.duration import in_words
from healthd.core.model import BROKEN, TELLS_OF_TROUBLE, NoticeKind, NoticeStatus, Resolution, State, Target
from healthd.engine import Engine
from healthd.store import access, accounts, contacts, pages, post_failures, profiles, storms
from healthd.store.access import Audited
from healthd.store.incidents import Incident
from healthd.store.notices import StoredNotice
from healthd.store.pages import Click
from healthd.store.post_failures import FailedPost
from healthd.store.profiles import Scope
from healthd.store.storms import Storm
from healthd.telling import DryRun, Story, dry_run, story
from healthd.web.operator import words
from healthd.web.operator.words import time_tag

MOST_AUDITED = 100


@dataclass(frozen=True)
class Told:
    """One recipient of what is said about an incident: what was handed over, what will be, and their presses."""

    target: Target
    contact: str
    notices: Sequence[StoredNotice]
    clicks: Sequence[Click]

    @property
    def sent(self) -> list[StoredNotice]:
        """The latest first."""
        found = [one for one in self.notices if one.status is NoticeStatus.SENT]
        return sorted(found, key=lambda one: one.sent_at or one.created_at, reverse=True)

    @property
    def first(self) -> StoredNotice | None:
        """What told them first that it is broken."""
        return next((one for one in reversed(self.sent) if one.kind in TELLS_OF_TROUBLE), None)

    @property
    def coming(self) -> StoredNotice | None:
        """What they get next."""
        waiting = [one for one in self.notices if one.status in {NoticeStatus.PENDING, NoticeStatus.SENDING}]
        return min(waiting, key=lambda one: one.due_at, default=None)

    @property
    def kept(self) -> StoredNotice | None:
        """What they did not get: held, or given up."""
        kept = (one for one in self.notices if one.status in {NoticeStatus.HELD, NoticeStatus.DEAD})
        return max(kept, key=lambda one: one.created_at, default=None)

    @property
    def dropped(self) -> StoredNotice | None:
        return next((one for one in self.notices if one.status is NoticeStatus.DROPPED), None)


@dataclass(frozen=True)
class AccountPage:
    """``told`` is about the incident that is open, or else the last one."""

    story: Story
    dry: DryRun
    incident: Incident | None
    last: Incident | None
    told: Sequence[Told]
    clicks: Sequence[Click]
    failures: Sequence[FailedPost]
    audited: Sequence[Audited]
    scope: Scope | None
    storm: Storm | None
    people: Mapping[str, Contact]

    @property
    def stored(self) -> accounts.StoredAccount:
        return self.story.stored

    @property
    def state(self) -> State:
        return self.stored.account.state

    @property
    def is_broken(self) -> bool:
        return self.state in BROKEN

    def called(self, contact: str, target: Target, see: Callable[[str], str]) -> Markup:
        """Whose address it is, by name where one is known."""
        known = self.people.get(contact)
        return words.name(words.whose(contact, target, see, known.name if known else ""))


def load(connection: Connection, account_id: int, engine: Engine, now: datetime) -> AccountPage | None:
    """All that the page shows, in a fixed number of queries."""
    stored = accounts.by_id(connection, account_id)
    if stored is None:
        return None
    told_all = story(connection, stored, engine, now)
    incident = next((one for one in told_all.incidents if one.resolved_at is None), None)
    last = incident or next(iter(told_all.incidents), None)
    clicks = pages.clicks_of(connection, account_id)
    keys = {one.contact for one in told_all.notices if one.contact}
    return AccountPage(
        story=told_all,
        dry=dry_run(connection, stored, engine, now),
        incident=incident,
        last=last,
        told=_told(told_all.notices, clicks, last) if last else (),
        clicks=clicks,
        failures=post_failures.of_account(connection, account_id),
        audited=access.audit_of(connection, None, MOST_AUDITED, account_id),
        scope=profiles.get(connection, stored.account.workspace, stored.profile) if stored.profile else None,
        storm=storms.get(connection, incident.storm_id) if incident and incident.storm_id else None,
        people=contacts.directory(connection, keys).contacts,
    )


def _told(found: Sequence[StoredNotice], clicks: Sequence[Click], incident: Incident) -> list[Told]:
    by_target: dict[Target, list[StoredNotice]] = {}
    for one in sorted(found, key=lambda notice: (notice.level, notice.created_at)):
        if one.incident_id == incident.id and one.kind is not NoticeKind.EVENT and one.target.channel:
            by_target.setdefault(one.target, []).append(one)
    mine = [one for one in clicks if one.incident_id == incident.id]
    return [
        Told(target, notices[0].contact, notices, [one for one in mine if one.target == target.key])
        for target, notices in by_target.items()
    ]


_TIMES = {1: "once", 2: "twice"}
_HEADLINES = {
    State.HEALTHY: Markup("Works{}."),
    State.EXPIRING: Markup("Works still, and expires soon{}."),
    State.SUSPECT: Markup("Suspect{}: it is being checked before anybody is told."),
    State.EXPIRED: Markup("Broken{}: its token expired."),
    State.DISCONNECTED: Markup("Broken{}: it was disconnected."),
    State.REMOVED: Markup("Removed{}: the provider no longer has it."),
    State.UNKNOWN: Markup("Nothing is known of it yet{}."),
}
"""``{}`` is since when."""


@dataclass(frozen=True)
class Teller:
    """Puts an account's page into sentences. ``see`` hides addresses from those who may not see them."""

    page: AccountPage
    ways: Mapping[str, str]
    now: datetime
    see: Callable[[str], str]

    def headline(self) -> Markup:
        page, account = self.page, self.page.stored.account
        since = time_tag(page.incident.broken_at if page.incident else account.changed_at, self.now, "day")
        if page.is_broken and page.incident is not None:
            doubt = "" if page.incident.confirmed_at else " The provider has not confirmed it yet."
            return Markup("Broken since {}: {}.{}").format(since, words.CAUSES[page.incident.cause], doubt)
        return _HEADLINES[account.state].format(Markup(" since {}").format(since) if account.changed_at else "")

    def sentences(self) -> list[Markup]:
        """What else there is to know, the most important first."""
        page = self.page
        said = self._broken() if page.is_broken and page.incident else self._fine()
        return [*said, *self._quiet()]

    def _broken(self) -> list[Markup]:
        said = [self._of(one) for one in self.page.told if one.first is not None]
        if not said:
            said.append(self._nobody())
        upcoming = [one for one in self.page.told if one.first is None and one.coming is not None]
        said += [
            Markup("{} is told {}, if it is still broken then.").format(
                self._who(one), time_tag(one.coming.due_at, self.now)
            )
            for one in upcoming
            if one.coming is not None
        ]
        incident = self.page.incident
        if incident is not None and incident.page_at is not None and not self._clicks():
            opened = time_tag(incident.page_at, self.now)
            said.append(Markup("The reconnect page was opened {}, by a person or a mail scanner.").format(opened))
        others = [one for one in self._clicks() if all(one.target != told.target.key for told in self.page.told)]
        if others:
            said.append(Markup("The link of an operator was used {}.").format(time_tag(others[0].at, self.now)))
        return said

    def _clicks(self) -> list[Click]:
        incident = self.page.incident
        return [one for one in self.page.clicks if incident and one.incident_id == incident.id]

    def _who(self, told: Told) -> Markup:
        return self.page.called(told.contact, told.target, self.see)

    def _of(self, told: Told) -> Markup:
        first = told.first
        if first is None:
            return Markup()
        way = self.ways.get(told.target.channel, "")
        by = words.WAYS.get(way, f"through {told.target.channel}")
        told_at = time_tag(first.sent_at, self.now)
        reminded = sum(one.kind is NoticeKind.REMINDER for one in told.sent)
        again = f" and reminded {_TIMES.get(reminded) or f'{reminded} times'}" if reminded else ""
        return Markup("{} was told {} {}{}, and {}.").format(self._who(told), by, told_at, again, self._pressed(told))

    def _pressed(self, told: Told) -> Markup:
        if not told.clicks:
            return Markup("has not pressed the button yet")
        latest = told.clicks[0]
        when = time_tag(latest.at, self.now)
        if latest.outcome != "minted":
            return Markup("pressed the button {}, but the provider gave no link ({})").format(when, latest.outcome)
        return Markup("pressed the button {}, but has not repaired it").format(when)

    def _nobody(self) -> Markup:
        kept = next((one.kept for one in self.page.told if one.kept), None)
        kept = kept or next((one for one in self.page.story.notices if one.status is NoticeStatus.HELD), None)
        if kept is None:
            return Markup("Nobody has been told yet.")
        if kept.status is NoticeStatus.DEAD:
            return Markup("Nobody was told: the notice was given up ({}).").format(self.see(kept.reason or "no reason"))
        why = words.HOLDS.get((kept.hold or "").partition(":")[0], kept.reason or "it is held")
        return Markup("Nobody was told: {}.").format(self.see(why))

    def _fine(self) -> list[Markup]:
        page, account = self.page, self.page.stored.account
        said = []
        if page.stored.probe_at is not None and account.as_of is not None:
            said.append(Markup("The provider last said so {}.").format(time_tag(account.as_of, self.now)))
        if account.state is State.EXPIRING and account.validity_days is not None:
            said.append(Markup("{} left.").format(words.count(account.validity_days, "day")))
        last = page.last
        if last is not None and last.resolved_at is not None and last.resolution is Resolution.REPAIRED:
            said.append(
                Markup("It was last repaired {}, after {}.").format(
                    time_tag(last.resolved_at, self.now), in_words(last.resolved_at - last.broken_at)
                )
            )
        elif last is None:
            said.append(Markup("It has not been broken as far back as the record goes."))
        return said

    def _quiet(self) -> list[Markup]:
        """Why people are not told, or not reminded."""
        stored, incident, now = self.page.stored, self.page.incident, self.now
        said = []
        if incident and incident.acknowledged_until and incident.acknowledged_until > now:
            who = words.name(self.see(incident.acknowledged_by or "Somebody"))
            until = time_tag(incident.acknowledged_until, now, "day")
            said.append(Markup("{} is on it: no reminders until {}.").format(who, until))
        if incident and incident.snoozed_until and incident.snoozed_until > now:
            said.append(Markup("No reminders until {}.").format(time_tag(incident.snoozed_until, now, "day")))
        if stored.muted_until and stored.muted_until > now:
            until = time_tag(stored.muted_until, now, "day")
            said.append(Markup("Muted: nobody is told of it until {}.").format(until))
        if stored.account.paused:
            by = " by healthd, because it is broken" if stored.auto_paused_at else ""
            said.append(Markup("Posting is paused{}.").format(by))
        if self.page.storm is not None and self.page.storm.ended_at is None:
            said.append(Markup("A storm lasts on its platform: people are not told yet."))
        return said
