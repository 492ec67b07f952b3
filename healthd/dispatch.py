"""Who is told of what, and when: what a change of state means for people, written in the transaction that changes it.

Nothing is sent here. The engine says what happened to an account; this decides which notices follow, holds them where
asking people would be wrong (a storm, a chronic loop, nobody to ask), and writes down why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from healthd.bounces import Bounce
from healthd.channels.webhook import event
from healthd.core import cadence, storm
from healthd.core.cadence import Cadence
from healthd.core.contacts import Contact
from healthd.core.duration import in_words
from healthd.core.model import Lane, NoticeKind, Resolution, Target, family_of
from healthd.core.owners import Assignment
from healthd.core.routing import Level, Owners, Recipient, Routed, Routing, references
from healthd.core.storm import StormFacts, StormPolicy
from healthd.store import accounts, contacts, decisions, incidents, notices, storms
from healthd.store.accounts import StoredAccount
from healthd.store.contacts import KeptAnswer
from healthd.store.decisions import Decision
from healthd.store.incidents import Incident, Link
from healthd.store.notices import Draft, Holding, StoredNotice
from healthd.store.storms import Storm
from healthd.store.troubles import Trouble

NOBODY = Recipient(Target(""))
"""Stands where a notice would go if anybody were configured: the notice is withheld, and the reason is on record."""

ASK = Recipient(Target("@resolver"))
"""Stands for the recipients that the customer's own endpoint has yet to name: the outbox asks it."""

STORM = "many accounts of the platform broke at once"
NOBODY_IS_CONFIGURED = "no route, no owner and no default recipient is configured"
LOOK_AGAIN_AT = 500
"""Accounts of a storm that are looked at again each time it is judged."""


@dataclass(frozen=True, slots=True)
class Hook:
    """An outgoing webhook, and the events that it wants."""

    channel: str
    events: frozenset[str]


@dataclass
class Memory:
    """What one transaction has looked up or counted already: thousands of accounts may break in it."""

    contacts: dict[str, Contact | None] = field(default_factory=dict)
    broken_lately: dict[tuple[str, str], int] = field(default_factory=dict)
    alone: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    last_sent: dict[tuple[Target, str], datetime | None] = field(default_factory=dict)
    storms: dict[tuple[str, str], Storm | None] = field(default_factory=dict)
    """Those that last."""
    nobody_owns: dict[str, bool] = field(default_factory=dict)
    """Workspaces of whose accounts it is on record nowhere whom they belong to."""
    joined: list[tuple[str, str]] = field(default_factory=list)
    """Storms and incidents that belong to them: written together at the end, for they may be thousands."""
    decided: list[Decision] = field(default_factory=list)
    """Written together at the end, too."""
    storm_began: Storm | None = None
    opening: dict[int, Incident] = field(default_factory=dict)
    """Incidents that begin, by account, and what refers to them: written together, too."""
    links: list[Link] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)

    def has_to_write(self, incident: Incident) -> bool:
        """Whether the incident is not written yet: what refers to it waits for it."""
        return incident.account_id in self.opening


@dataclass(frozen=True)
class Case:
    """One account, at one moment, in one transaction."""

    connection: Connection
    account: StoredAccount
    now: datetime
    memory: Memory = field(default_factory=Memory)

    @property
    def place(self) -> tuple[str, str]:
        return self.account.account.workspace, self.account.account.platform

    @property
    def family(self) -> str:
        """What one message may be about: the accounts behind one login of one end customer."""
        workspace, platform = self.place
        return "/".join((workspace, self.account.profile, family_of(platform)))

    def decided(self, what: str, reason: str, incident: str | None = None, who: str = "") -> Decision:
        return Decision(self.now, self.account.id, what, reason, incident, who=who)


@dataclass(frozen=True)
class Dispatch:
    """The operator's choices about who is told. ``asks_for_contacts``: the customer's own endpoint is asked who is
    responsible; its answers are believed for ``cache_for``.
    """

    routing: Routing = field(default_factory=Routing)
    cadence: Cadence = field(default_factory=Cadence)
    storms: StormPolicy = field(default_factory=StormPolicy)
    operators: tuple[Target, ...] = ()
    hooks: tuple[Hook, ...] = ()
    asks_for_contacts: bool = False
    cache_for: timedelta = timedelta(minutes=15)
    link_lifetime: timedelta = timedelta(days=7)

    def plan(self, case: Case) -> tuple[Level, ...]:
        """Who is told about this account, level by level."""
        account = case.account.account
        owners, labels = self.owners(case)
        asked = Routed(account.workspace, account.platform, account.ref, case.account.profile, labels)
        named = {key for level in owners.levels for key in level}
        for _, route in self.routing.matching(asked):
            named.update(key for step in route.steps() for key in references(step.to))
        named.update(references(self.routing.default))
        return self.routing.plan(asked, self._contacts(case.connection, named, case.memory), owners)

    def owners(self, case: Case) -> tuple[Owners, Mapping[str, str]]:
        """Whom the account belongs to, and its labels: what the customer's endpoint said last goes before what is on
        record here.
        """
        account, profile = case.account.account, case.account.profile
        unowned = case.memory.nobody_owns
        if account.workspace not in unowned:
            unowned[account.workspace] = not contacts.has_assignments(case.connection, account.workspace)
        found = Assignment()
        if not unowned[account.workspace]:
            found = contacts.assignment(case.connection, account.workspace, account.platform, profile, account.ref)
        kept = self._kept(case)
        if kept is None:
            return Owners(found.owners, why=found.why or Owners().why), found.labels
        labels = {**found.labels, **kept.answer.labels}
        if not any(kept.answer.owners):
            return Owners(found.owners, why=found.why or Owners().why), labels
        afters = tuple(level.after for level in kept.answer.levels)
        return Owners(kept.answer.owners, afters, "named by the contacts endpoint"), labels

    def _kept(self, case: Case) -> KeptAnswer | None:
        if not self.asks_for_contacts:
            return None
        account = case.account.account
        return contacts.kept_answer(case.connection, account.workspace, case.account.profile, account.ref)

    def _contacts(self, connection: Connection, keys: Iterable[str], memory: Memory) -> Mapping[str, Contact]:
        unknown = [key for key in keys if key not in memory.contacts]
        if unknown:
            memory.contacts.update(dict.fromkeys(unknown))
            memory.contacts.update(contacts.directory(connection, unknown).contacts)
        return {key: found for key, found in memory.contacts.items() if found is not None}

    def opened(self, case: Case, incident: Incident) -> int:
        """An incident has begun: how many notices that means. It is written with the case's memory (``remember``)."""
        case.memory.opening[incident.account_id] = incident
        written = self._emit(case, "incident.opened", incident)
        lasting = self._in_storm(case, incident)
        holding = Holding("storm", lasting.id, STORM) if lasting is not None else self._chronic(case, incident)
        if not self.asks_for_contacts or self._knows(case):
            return written + self.tell(case, incident, holding)
        if holding is not None:
            case.memory.decided.append(case.decided("held", holding.reason, incident.id))
        return written + self._write(case, incident, NoticeKind.OPENED, [ASK], due_at=case.now, holding=holding)

    def _knows(self, case: Case) -> bool:
        kept = self._kept(case)
        return kept is not None and case.now - kept.fetched_at < self.cache_for

    def tell(self, case: Case, incident: Incident, holding: Holding | None = None) -> int:
        """Writes what each level of recipients gets: the first now, the others when it is still broken then. Whoever
        calls it lets the case's memory be written afterwards (``remember``).
        """
        levels = self.plan(case)
        if not levels:
            case.memory.decided.append(case.decided("held", NOBODY_IS_CONFIGURED, incident.id))
            held = Holding("nobody", reason=NOBODY_IS_CONFIGURED)
            return self._write(case, incident, NoticeKind.OPENED, [NOBODY], due_at=case.now, holding=held)
        written = 0
        for number, level in enumerate(levels):
            for recipient in level.recipients:
                self._link(case, incident, recipient, number)
            if number == 0:
                for recipient in level.recipients:
                    due = self._first_due(case, NoticeKind.OPENED, recipient)
                    written += self._write(
                        case, incident, NoticeKind.OPENED, [recipient], due_at=due, why=level.why, holding=holding
                    )
            else:
                # A storm holds them when they are due; what goes to an operator instead is held from the beginning.
                instead = holding if holding is not None and holding.kind == "chronic" else None
                written += self._write(
                    case, incident, NoticeKind.ESCALATED, level.recipients, due_at=case.now + level.after,
                    why=level.why, level=number, holding=instead,
                )  # fmt: skip
            case.memory.decided.append(case.decided("planned", _planned(level, number), incident.id))
        if holding is not None:
            case.memory.decided.append(case.decided("held", holding.reason, incident.id))
        return written

    def _link(self, case: Case, incident: Incident, recipient: Recipient, level: int) -> None:
        kind = NoticeKind.ESCALATED if level else NoticeKind.OPENED
        first = notices.notice_id(incident.id, recipient.target, kind, 0)
        expires = max(case.now, incident.opened_at) + self.link_lifetime
        link = Link(incidents.link_id(first), incident.id, case.account.id, recipient.target.key, expires, None)
        if case.memory.has_to_write(incident):
            case.memory.links.append(link)
        else:
            incidents.ensure_links(case.connection, [link], case.now)

    def _first_due(self, case: Case, kind: NoticeKind, recipient: Recipient) -> datetime:
        place = (*case.place, case.account.profile)
        if place not in case.memory.alone:
            case.memory.alone[place] = not accounts.has_siblings(case.connection, case.account)
        group = (recipient.target, case.family)
        if group not in case.memory.last_sent:
            case.memory.last_sent[group] = notices.last_sent(case.connection, recipient.target, case.family, kind)
        alone = case.memory.alone[place]
        return cadence.first_due(kind, case.now, case.memory.last_sent[group], alone=alone, policy=self.cadence)

    def _write(
        self,
        case: Case,
        incident: Incident | None,
        kind: NoticeKind,
        recipients: Sequence[Recipient],
        *,
        due_at: datetime,
        step: int = 0,
        level: int = 0,
        why: str = "",
        holding: Holding | None = None,
        subject: str | None = None,
    ) -> int:
        drafts = [
            Draft(
                subject=subject or (incident.id if incident else ""),
                kind=kind,
                target=recipient.target,
                contact=recipient.contact,
                created_at=due_at,
                due_at=due_at,
                incident_id=incident.id if incident else None,
                account_id=case.account.id,
                family=case.family if recipient != ASK else "",  # each is a question of its own
                step=step,
                level=level,
                why=why,
                holding=holding,
            )
            for recipient in recipients
        ]
        return self._put(case, incident, drafts)

    def _put(self, case: Case, incident: Incident | None, drafts: Sequence[Draft]) -> int:
        """Writes notices, those of an incident that is not written yet with it. How many are new."""
        if incident is None or not case.memory.has_to_write(incident):
            return notices.write(case.connection, drafts)
        case.memory.drafts += drafts
        return len(drafts)

    def resolved(self, case: Case, incident: Incident) -> int:
        """It is over: what waits is withdrawn, and who had been told is told of a repair."""
        case = replace(case, now=incident.resolved_at or case.now)
        how = incident.resolution
        dropped = notices.drop_waiting(case.connection, incident.id, f"{how} before it was sent")
        decisions.note(case.connection, _noted(dropped, "dropped", f"{how} before it was sent", case.now))
        if how is Resolution.REMOVED:
            incidents.revoke_links(case.connection, incident.id, case.now)
        written = self._emit(case, "incident.resolved", incident)
        if how is Resolution.REPAIRED:
            for told in notices.told(case.connection, incident.id):
                written += self.good_news(case, incident, told)
        return written

    def good_news(self, case: Case, incident: Incident, told: StoredNotice) -> int:
        """Tells one who was told of the trouble. Who repairs several accounts of one message hears of all at once."""
        others = notices.still_broken(case.connection, told.message_id, incident.id)
        due = case.now + self.cadence.group_interval if others else case.now
        recipient = Recipient(told.target, told.contact)
        return self._write(case, incident, NoticeKind.RESOLVED, [recipient], due_at=due)

    def remind(self, case: Case, incident: Incident, notice: StoredNotice, start: datetime, began: datetime) -> int:
        """Plans the next reminder after ``start`` whose time is still to come when the sending of this one began: what
        was sent late is not followed by another at once.
        """
        step = notice.step + 1 if notice.kind is NoticeKind.REMINDER else 1
        while (due := cadence.reminder_due(start, step, self.cadence)) is not None and due <= began:
            step += 1
        if due is None:
            return 0
        recipient = Recipient(notice.target, notice.contact)
        return self._write(
            case, incident, NoticeKind.REMINDER, [recipient], due_at=due, step=step, level=notice.level, why=notice.why
        )

    def expiring(self, case: Case, subject: str) -> int:
        """A person must act by a date that is near."""
        levels = self.plan(case)
        recipients = levels[0].recipients if levels else (NOBODY,)
        holding = None if levels else Holding("nobody", reason=NOBODY_IS_CONFIGURED)
        return self._write(
            case, None, NoticeKind.EXPIRING, recipients, due_at=case.now, subject=subject, holding=holding,
            why=levels[0].why if levels else "",
        )  # fmt: skip

    def wrong_account(self, case: Case, incident: Incident, told: StoredNotice) -> int:
        """Whoever pressed the button has connected another account. They are told once; the page says it each time."""
        recipient = Recipient(told.target, told.contact)
        return self._write(case, incident, NoticeKind.WRONG_ACCOUNT, [recipient], due_at=case.now)

    def changed(self, case: Case, before: str, after: str, reason: str) -> int:
        """For machines: the account's state is another one."""
        return self._emit(case, "account.changed", None, before=before, after=after, reason=reason)

    def emit(self, case: Case, name: str, incident: Incident, notice: StoredNotice) -> int:
        """For machines: a reminder or an escalation has been sent."""
        return self._emit(case, name, incident, subject=f"{name}:{notice.id}")

    def _emit(
        self,
        case: Case,
        name: str,
        incident: Incident | None,
        *,
        subject: str = "",
        before: str = "",
        after: str = "",
        reason: str = "",
    ) -> int:
        wanted = [hook for hook in self.hooks if name in hook.events]
        if not wanted:
            return 0
        account = case.account.account
        content = event(
            name,
            at=case.now,
            workspace=account.workspace,
            account=account.ref,
            platform=account.platform,
            name=case.account.name,
            username=case.account.username,
            profile=case.account.profile or None,
            state=after or account.state,
            previous_state=before or None,
            incident_id=incident.id if incident else None,
            cause=incident.cause if incident else None,
            broken_since=incident.broken_at if incident else None,
            resolved_at=incident.resolved_at if incident else None,
            reason=reason or None,
        )
        subject = subject or f"{name}:{incident.id if incident else f'{case.account.id}:{case.now.isoformat()}'}"
        drafts = [
            Draft(
                subject=subject, kind=NoticeKind.EVENT, target=Target(hook.channel), created_at=case.now,
                due_at=case.now, incident_id=incident.id if incident else None, account_id=case.account.id,
                family=subject, content=content,
            )
            for hook in wanted
        ]  # fmt: skip
        return self._put(case, incident, drafts)

    def _in_storm(self, case: Case, incident: Incident) -> Storm | None:
        """The storm that this incident belongs to: the one that lasts, or the one that it has just made."""
        workspace, platform = case.place
        if case.place not in case.memory.storms:
            case.memory.storms[case.place] = storms.current(case.connection, workspace, platform)
        lasting = case.memory.storms[case.place]
        if lasting is not None:
            case.memory.joined.append((lasting.id, incident.id))
            return lasting
        since = case.now - self.storms.window
        if case.place not in case.memory.broken_lately:
            lately = storms.broken_lately(case.connection, workspace, platform, since)
            case.memory.broken_lately[case.place] = lately
        case.memory.broken_lately[case.place] += 1
        broken = case.memory.broken_lately[case.place]
        if broken <= self.storms.least:
            return None
        there = storms.accounts_there(case.connection, workspace, platform)
        return self._begin_storm(case, broken, there) if self.storms.breaks_out(broken, there) else None

    def _begin_storm(self, case: Case, broken: int, there: int) -> Storm:
        workspace, platform = case.place
        now, since = case.now, case.now - self.storms.window
        judge_at = storm.looks_again_at(StormFacts(now, now, broken, there), now, self.storms)
        began = Storm(storms.storm_id(workspace, platform, now), workspace, platform, now, now, judge_at, broken, there)
        self.write_openings(case.connection, case.memory, now)
        storms.begin(case.connection, began, since)
        held = notices.hold_storm(case.connection, Holding("storm", began.id, STORM))
        decisions.note(case.connection, _noted(held, "held", STORM, now))
        self.tell_operators(case.connection, began, NoticeKind.STORM, self.operators, now)
        case.memory.storm_began = case.memory.storms[case.place] = began
        return began

    def remember(self, connection: Connection, memory: Memory, now: datetime) -> None:
        """Writes what was put off until a transaction's end."""
        self.write_openings(connection, memory, now)
        storms.join(connection, memory.joined, now)
        decisions.note(connection, memory.decided)

    def write_openings(self, connection: Connection, memory: Memory, now: datetime) -> None:
        """Writes incidents that begin, and what refers to them."""
        incidents.create(connection, list(memory.opening.values()))
        incidents.ensure_links(connection, memory.links, now)
        notices.write(connection, memory.drafts)
        memory.opening.clear()
        memory.links.clear()
        memory.drafts.clear()

    def tell_operators(
        self,
        connection: Connection,
        subject: Storm | Trouble,
        kind: NoticeKind,
        targets: Sequence[Target | Recipient],
        due: datetime,
    ) -> int:
        """Of what concerns no single account. How many notices that means."""
        drafts = [
            Draft(
                subject=subject_of(subject), kind=kind, target=recipient.target, contact=recipient.contact,
                storm_id=subject.id if isinstance(subject, Storm) else None,
                trouble_id=subject.id if isinstance(subject, Trouble) else None,
                created_at=due, due_at=due,
            )
            for recipient in self.reached(connection, targets)
        ]  # fmt: skip
        return notices.write(connection, drafts)

    def reached(self, connection: Connection, targets: Sequence[Target | Recipient]) -> tuple[Recipient, ...]:
        """Targets as the places where they are reached, contacts among them."""
        named = tuple(one for one in targets if isinstance(one, Target))
        plan = Routing(default=named).plan(Routed("", "", ""), self._contacts(connection, references(named), Memory()))
        found = tuple(one for one in targets if isinstance(one, Recipient))
        return (plan[0].recipients if plan else ()) + found

    def judge_storms(self, connection: Connection, now: datetime) -> list[tuple[Storm, str]]:
        """Looks again at the storms that last. Returns those that ended, with the reason."""
        ended = []
        for one in storms.all_current(connection):
            if one.judge_at > now:
                continue
            facts = StormFacts(one.began_at, one.last_at, storms.still_broken(connection, one.id), one.accounts)
            why = storm.ends(facts, now, self.storms)
            if why is None:
                storms.judge_again(connection, one.id, storm.looks_again_at(facts, now, self.storms))
                broken = storms.broken_accounts(connection, one.id, LOOK_AGAIN_AT)
                accounts.schedule_probe(connection, broken, now, Lane.CONFIRM)
            else:
                self.end_storm(connection, one, why, now)
                ended.append((one, why))
        return ended

    def end_storm(
        self, connection: Connection, one: Storm, why: str, now: datetime, who: str = "", *, cancel: bool = False
    ) -> int:
        """The hold ends: what is still true goes out, or, where a person says so, never will. How many notices are let
        go or withdrawn.
        """
        if not storms.end(connection, one.id, now, why, who or None):
            return 0
        what = "cancelled" if cancel else "released"
        touched = notices.cancel_storm(connection, one.id, f"cancelled by {who}") if cancel else []
        # Of a storm that is cancelled these go to people who had been told before it began.
        released = notices.release(connection, Holding("storm", one.id), now)
        touched += released if not cancel else []
        reason = f"storm {one.id}: {why}"
        decisions.note(connection, [Decision(now, None, what, reason, who=who)])
        decisions.note(connection, _noted(touched, what, reason, now, who))
        told = notices.withdraw(connection, subject_of(one), "over before it was sent")
        return len(touched) + self.tell_operators(connection, one, NoticeKind.STORM_OVER, told, now)

    def _chronic(self, case: Case, incident: Incident) -> Holding | None:
        """An account that is repaired again and again: its operator hears of it, where there is one."""
        if not self.operators or not self.cadence.chronic_repairs:
            return None
        since = case.now - self.cadence.chronic_within
        repairs = incidents.repairs_since(case.connection, case.account.id, since)
        if not cadence.is_chronic(len(repairs), self.cadence):
            return None
        recipients = self.reached(case.connection, self.operators)
        if not recipients:
            return None
        self._write(
            case, incident, NoticeKind.CHRONIC, recipients, due_at=case.now, why="the account breaks again and again"
        )
        days = self.cadence.chronic_within.days
        reason = f"repaired {len(repairs)} times within {days} days: its operator is told instead"
        return Holding("chronic", incident.id, reason)

    def release(self, case: Case, incident: Incident, who: str) -> int:
        """A person decides that what is held of an incident goes out all the same."""
        released = notices.release_incident(case.connection, incident.id, case.now)
        decisions.note(case.connection, [case.decided("released", f"{released} notices", incident.id, who)])
        return released

    def acknowledge(self, case: Case, incident: Incident, who: str) -> datetime:
        """Somebody takes it on: no reminders and no escalation until then, or until it is repaired."""
        until = case.now + self.cadence.acknowledge_for
        incidents.acknowledge(case.connection, incident.id, case.now, until, who)
        decisions.note(
            case.connection, [case.decided("acknowledged", f"until {until:%Y-%m-%d %H:%M} UTC", incident.id, who)]
        )
        return until

    def snooze(self, case: Case, incident: Incident, until: datetime, who: str) -> None:
        """No reminders and no escalation until then."""
        incidents.snooze(case.connection, incident.id, until)
        decisions.note(
            case.connection, [case.decided("snoozed", f"until {until:%Y-%m-%d %H:%M} UTC", incident.id, who)]
        )

    def resume(self, case: Case, incident: Incident, who: str) -> None:
        """Whoever took it on does so no longer: what waited for that goes on."""
        incidents.resume(case.connection, incident.id)
        notices.wake(case.connection, incident.id, case.now)
        decisions.note(case.connection, [case.decided("resumed", "reminders go on", incident.id, who)])

    def mute(self, case: Case, until: datetime, who: str) -> None:
        """Nobody is told of the account before then, whatever becomes of it: only good news is."""
        accounts.mute(case.connection, case.account.id, until)
        notices.wake_muted(case.connection, case.account.id, until)
        decisions.note(case.connection, [case.decided("muted", f"until {until:%Y-%m-%d %H:%M} UTC", who=who)])

    def unmute(self, case: Case, who: str) -> int:
        """People are told again: how much waited for that, and is asked about now whether it is still true."""
        accounts.mute(case.connection, case.account.id, None)
        woken = notices.wake_muted(case.connection, case.account.id, case.now)
        decisions.note(case.connection, [case.decided("unmuted", f"{woken} notices waited for it", who=who)])
        return woken

    def try_again(self, connection: Connection, now: datetime, limit: int = 200) -> int:
        """Accounts of which nobody could be told: perhaps somebody is on record by now. How many notices that made."""
        written = 0
        for notice in notices.for_nobody(connection, limit):
            account, incident = account_of(connection, notice), incident_of(connection, notice)
            if account is None:
                continue
            case = Case(connection, account, now)
            if not self.plan(case):
                notices.still_for_nobody(connection, notice, now)
                if incident is not None and self.asks_for_contacts and not self._knows(case):
                    # Its step makes it another question than the one that had no answer.
                    step = int(now.timestamp())
                    written += self._write(case, incident, NoticeKind.OPENED, [ASK], due_at=now, step=step)
                continue
            notices.discard(connection, notice, "somebody is on record now")
            written += self.tell(case, incident) if incident is not None else self.expiring(case, notice.subject)
            self.remember(connection, case.memory, now)
        return written

    def bounced(
        self, connection: Connection, bounces: Iterable[Bounce], channels: Sequence[str], source: str, now: datetime
    ) -> int:
        """What a mail server or provider says of messages of ours. How many bounces were believed: only those about
        what was really sent, to the address that it was sent to.
        """
        believed = 0
        for bounce in bounces:
            if not bounce.permanent:
                continue
            targets = notices.wrote_to(connection, channels, bounce.address)
            if bounce.notice_id is not None:
                notice = notices.get(connection, bounce.notice_id)
                mine = notice is not None and bounce.concerns(notice.target.address)
                targets = [notice.target] if notice is not None and mine else []
            for target in targets:
                self.unreachable(connection, target, bounce.reason, source, now)
                believed += 1
        return believed

    def unreachable(self, connection: Connection, target: Target, reason: str, source: str, now: datetime) -> int:
        """An address turned out to reach nobody: it is not written to again, and of what it was told of the next in the
        chain hears now. How many incidents that concerns.
        """
        contacts.mark_bad(connection, target, now, reason, source)
        concerned = 0
        for notice in notices.open_to(connection, target):
            account, incident = account_of(connection, notice), incident_of(connection, notice)
            if account is None or incident is None:
                continue
            notices.lose(connection, notice, f"it came back: {reason}")
            self.unreached(Case(connection, account, now), incident, notice, f"{target.channel}: {reason}")
            concerned += 1
        return concerned

    def unreached(self, case: Case, incident: Incident, notice: StoredNotice, reason: str) -> int:
        """Nothing reaches this recipient: where nobody else of the level is left, the next one is told at once."""
        if notices.anybody_left(case.connection, incident.id, notice.level):
            return 0
        moved = notices.bring_forward(case.connection, incident.id, notice.level, case.now)
        what = "escalated" if moved else "nobody left"
        decisions.note(case.connection, [case.decided(what, reason, incident.id)])
        return moved


def account_of(connection: Connection, notice: StoredNotice) -> StoredAccount | None:
    """The account that a notice is about, unless it is about none."""
    return accounts.by_id(connection, notice.account_id) if notice.account_id is not None else None


def incident_of(connection: Connection, notice: StoredNotice) -> Incident | None:
    """The incident that a notice is about, as it stands now, unless it is about none."""
    return incidents.get(connection, notice.incident_id) if notice.incident_id is not None else None


def decided(notice: StoredNotice, what: str, reason: str, now: datetime, who: str = "") -> Decision:
    """What became of a notice, and why."""
    to = notice.contact or notice.target.key or "nobody"
    what, reason = f"{notice.kind} {what}", f"{to}: {reason}"
    return Decision(now, notice.account_id, what, reason, notice.incident_id, notice.id, who)


def _noted(about: Iterable[StoredNotice], what: str, reason: str, now: datetime, who: str = "") -> list[Decision]:
    return [decided(one, what, reason, now, who) for one in about]


def subject_of(one: Storm | Trouble) -> str:
    """What the operator's notices of it are about."""
    return f"{'storm' if isinstance(one, Storm) else 'trouble'}:{one.id}"


def _planned(level: Level, number: int) -> str:
    names = ", ".join(one.contact or one.target.key for one in level.recipients)
    when = f"after {in_words(level.after)}" if number else "at once"
    return f"{names} {when} ({level.why})"
