"""The single door through which states change.

``Engine.apply`` takes what was observed and, in the caller's one transaction, writes what follows from it: accounts,
history, incidents, and the notices that people will get. Nothing is sent here, and nothing is asked of anybody.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from sqlalchemy import Connection

from healthd.core import machine
from healthd.core.cadence import ENDED_BY_ANY_ANSWER, trouble_due
from healthd.core.model import (
    Account,
    Cause,
    Lane,
    Listed,
    NoticeKind,
    NoticeStatus,
    Observation,
    Policy,
    Resolution,
    Signal,
    Source,
    State,
    Target,
)
from healthd.core.probing import ProbePolicy, next_probe
from healthd.core.routing import Routing
from healthd.store import accounts, incidents, notices, troubles
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident, Link
from healthd.store.troubles import Trouble

NOBODY = Target("")
"""Stands where a notice would go if anybody were configured: the notice is withheld, and the reason is on record."""

SAME_DEADLINE = timedelta(days=3)
"""``validity_days`` is a whole number: two readings of one deadline may differ by that much."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one observation did, for logs, metrics and whoever must be woken."""

    account_id: int
    workspace: str
    ref: str
    platform: str
    signal: Signal
    source: Source
    before: State
    after: State
    fenced: bool = False
    opened: Incident | None = None
    resolved: Incident | None = None
    confirmed: Incident | None = None
    probe: Lane | None = None
    notices: int = 0
    broken_at: datetime | None = None

    @property
    def moved(self) -> bool:
        return self.before is not self.after


@dataclass(slots=True)
class _Case:
    """One account while an observation is worked through."""

    connection: Connection
    now: datetime
    observation: Observation
    before: StoredAccount
    after: StoredAccount
    change: Change
    probe_now: Lane | None = None
    probe_siblings: bool = False

    def note(self, **facts: object) -> None:
        self.change = replace(self.change, **facts)  # type: ignore[arg-type]

    def history(self) -> list[dict[str, Any]]:
        """What is worth a line in the account's history: every move, and every event.

        That a new account was found well says no more than its row does, and would be a million lines.
        """
        seen, change = self.observation, self.change
        is_event = seen.source is Source.WEBHOOK
        found_well = change.before is State.UNKNOWN and change.after in machine.FINE
        if not is_event and (found_well or not change.moved):
            return []
        note = "older than what is known" if change.fenced else seen.reason
        seen = seen if change.fenced else replace(seen, signal=change.signal)
        return [incidents.history_line(change.account_id, seen, change.before, change.after, self.now, note)]


@dataclass(frozen=True)
class Engine:
    """The operator's choices, applied. ``rng`` jitters the probes; time is told with every call."""

    policy: Policy = field(default_factory=Policy)
    probes: ProbePolicy = field(default_factory=ProbePolicy)
    routing: Routing = field(default_factory=Routing)
    operators: tuple[Target, ...] = ()
    link_lifetime: timedelta = timedelta(days=7)
    rng: random.Random = field(default_factory=random.Random)

    def apply(
        self,
        connection: Connection,
        workspace: str,
        observations: Sequence[Observation],
        now: datetime,
        profile: str = "",
    ) -> list[Change]:
        """Works through observations in order. Accounts never seen before are created when the observation names
        their platform. Returns a ``Change`` for each that was heard, fenced ones included.
        """
        known = self._load(connection, workspace, observations, now, profile)
        first = dict(known)
        cases: list[_Case] = []
        for observation in observations:
            stored = known.get(observation.ref)
            if stored is None:
                continue
            case = self._one(connection, stored, observation, now)
            known[observation.ref] = case.after
            cases.append(case)
        incidents.record(connection, [line for case in cases for line in case.history()])
        accounts.write(connection, [(first[ref], after) for ref, after in known.items() if after is not first[ref]])
        for case in cases:
            if case.probe_siblings:
                self._probe_siblings(case)
        return [case.change for case in cases]

    def discover(
        self,
        connection: Connection,
        workspace: str,
        listed: Sequence[Listed],
        now: datetime,
        profile: str,
        *,
        probe_soon: bool = False,
    ) -> list[Change]:
        """Takes in what the inventory shows: accounts never seen, new names, and removed ones that are back. What was
        held while their profile was paused goes out now, if it is still true.

        ``probe_soon`` asks about new accounts as soon as the rotation allows, where no sweep over everything does.
        """
        shown = {entry.ref: entry for entry in listed}
        known = accounts.load(connection, workspace, shown)
        fresh, renamed, revived = [], [], []
        for entry in shown.values():
            before = known.get(entry.ref)
            if before is None:
                seen = Observation(
                    entry.ref, Signal.CONNECTED, Source.INVENTORY, now, platform=entry.platform, name=entry.name
                )
                newcomer = replace(self._newcomer(workspace, seen, now, profile), username=entry.username)
                fresh.append(replace(newcomer, probe_at=now) if probe_soon else newcomer)
                continue
            after = replace(
                before, name=entry.name, username=entry.username or before.username, profile=profile, missing_since=None
            )
            if after != before:
                renamed.append((before, after))
            if before.account.state is State.REMOVED:
                revived.append(Observation(entry.ref, Signal.CONNECTED, Source.INVENTORY, at=None))
        accounts.create(connection, fresh)
        accounts.write(connection, renamed)
        notices.release_held(connection, [held.id for held in known.values() if not held.account.paused], now)
        return self.apply(connection, workspace, revived, now, profile) if revived else []

    def time_out(self, connection: Connection, now: datetime, limit: int = 500) -> list[Change]:
        """Tells suspects that nobody could confirm in time to the machine."""
        alarms: dict[str, list[Observation]] = {}
        for workspace, ref in accounts.overdue_confirmations(connection, now, limit):
            alarms.setdefault(workspace, []).append(Observation(ref, Signal.CONFIRM_TIMEOUT, Source.CLOCK, at=None))
        return [
            change
            for workspace, overdue in alarms.items()
            for change in self.apply(connection, workspace, overdue, now)
        ]

    def trouble(self, connection: Connection, trouble: Trouble) -> bool:
        """Something stands between us and an API: the operator is told once, if it lasts. Whether it is news."""
        if not troubles.begin(connection, trouble):
            return False
        self._tell_operators(connection, trouble, NoticeKind.TROUBLE, self.operators, trouble.since)
        return True

    def trouble_over(self, connection: Connection, workspace: str, now: datetime, question: str) -> list[Trouble]:
        """The API answered such a question: what stood in its way is over. Returns what ended."""
        lasting = troubles.current(connection, workspace)
        ended = [one for one in lasting if one.question == question or one.kind in ENDED_BY_ANY_ANSWER]
        if ended:
            troubles.end(connection, ended, now)
        for trouble in ended:
            told = notices.withdraw(connection, trouble_subject(trouble), "over before it was sent")
            self._tell_operators(connection, trouble, NoticeKind.TROUBLE_OVER, told, now)
        return ended

    def _tell_operators(
        self, connection: Connection, trouble: Trouble, kind: NoticeKind, targets: Sequence[Target], now: datetime
    ) -> None:
        due = trouble_due(trouble.kind, now) if kind is NoticeKind.TROUBLE else now
        notices.write(
            connection,
            subject=trouble_subject(trouble),
            trouble_id=trouble.id,
            kind=kind,
            targets=targets,
            due_at=due,
            now=due,
        )

    def is_news(self, known: accounts.Known, observation: Observation) -> bool:
        """Whether a sweep's reading says anything that is not known already; most of a million say nothing."""
        settled = _SETTLED.get(known.state) is observation.signal
        settled = settled and (known.error_since is None or known.state is State.DISCONNECTED)
        paused_known = observation.paused is None or observation.paused == known.paused
        validity_known = observation.validity_days is None or observation.validity_days == known.validity_days
        return not (settled and paused_known and validity_known and not known.missing)

    def _load(
        self,
        connection: Connection,
        workspace: str,
        observations: Sequence[Observation],
        now: datetime,
        profile: str,
    ) -> dict[str, StoredAccount]:
        known = accounts.load(connection, workspace, (o.ref for o in observations))
        fresh = {
            o.ref: self._newcomer(workspace, o, now, profile) for o in observations if o.ref not in known and o.platform
        }
        if fresh:
            accounts.create(connection, list(fresh.values()))
            known |= accounts.load(connection, workspace, fresh)
        return known

    def _newcomer(self, workspace: str, seen: Observation, now: datetime, profile: str) -> StoredAccount:
        return StoredAccount(
            id=0,
            account=Account(workspace, seen.ref, seen.platform or "", paused=bool(seen.paused)),
            profile=profile,
            name=seen.name or seen.ref,
            username=None,
            first_seen_at=now,
            probe_at=now + self.probes.account_interval * self.rng.random(),
        )

    def _one(self, connection: Connection, stored: StoredAccount, observation: Observation, now: datetime) -> _Case:
        moved = machine.advance(stored.account, observation, self.policy, now)
        change = Change(
            account_id=stored.id,
            workspace=stored.account.workspace,
            ref=stored.account.ref,
            platform=stored.account.platform,
            signal=moved.signal,
            source=observation.source,
            before=stored.account.state,
            after=moved.account.state,
            fenced=moved.fenced,
        )
        case = _Case(connection, now, observation, stored, stored, change)
        if moved.fenced:
            self._ask_again(case)
            return case
        case.after = replace(stored, account=moved.account)
        self._describe(case)
        for effect in moved.effects:
            self._perform(case, effect)
        self._after_pause(case)
        self._plan_probe(case)
        return case

    def _perform(self, case: _Case, effect: machine.Effect) -> None:
        match effect:
            case machine.OpenIncident():
                self._open(case, effect)
            case machine.ConfirmIncident():
                self._confirm_incident(case)
            case machine.ResolveIncident():
                self._resolve(case, effect)
            case machine.Warn():
                self._warn(case)
            case machine.Confirm():
                case.probe_now = Lane.CONFIRM
            case machine.Watch():
                # ``next_probe`` sees a run of errors itself; only its first reading has to bring the probe forward.
                case.probe_now = Lane.CONFIRM if case.before.account.error_since is None else None
            case machine.ProbeSiblings():
                case.probe_siblings = True  # once everything else is written, so that nothing is written over it
            case _:
                assert_never(effect)

    def _describe(self, case: _Case) -> None:
        """Keeps the newest name, and forgets that a listed account was missed."""
        if case.observation.name and case.observation.name != case.after.name:
            case.after = replace(case.after, name=case.observation.name)
        if case.after.missing_since is not None and case.observation.signal in machine.READINGS:
            case.after = replace(case.after, missing_since=None)

    def _plan_probe(self, case: _Case) -> None:
        turn, asked = case.after.probe_at, case.observation.source is Source.HEALTH
        if case.probe_now is None and turn is not None and not asked and not case.change.moved:
            return
        at, lane = next_probe(case.after.account, case.after.clicked_at, case.now, self.probes, self.rng)
        if at is None:
            case.after = replace(case.after, probe_at=None, probe_lane=lane)
            return
        if case.probe_now is not None:
            at, lane = case.now, case.probe_now
        elif turn is not None and not asked:
            at = min(at, turn)  # its own turn stays where the rotation put it, or a sweep's first look would bunch all
        case.after = replace(case.after, probe_at=at, probe_lane=lane)
        case.note(probe=lane)

    def _ask_again(self, case: _Case) -> None:
        """An answer that came too late to be believed leaves its question open."""
        turn = case.after.probe_at
        if case.observation.source is not Source.HEALTH or turn is None:
            return
        at, lane = next_probe(case.after.account, case.after.clicked_at, case.now, self.probes, self.rng)
        if at is not None and at < turn:
            case.after = replace(case.after, probe_at=at, probe_lane=lane)

    def _after_pause(self, case: _Case) -> None:
        """On resume the account is looked at at once, and what was held goes out if it is still true."""
        if case.before.account.paused and not case.after.account.paused:
            case.probe_now = Lane.CONFIRM
            released = notices.release_held(case.connection, [case.after.id], case.now)
            case.note(notices=case.change.notices + released)

    def _open(self, case: _Case, effect: machine.OpenIncident) -> None:
        stored = case.after
        incident = Incident(
            id=_incident_id(stored.id, case.now),
            account_id=stored.id,
            workspace=stored.account.workspace,
            cause=effect.cause or Cause.TOKEN,
            broken_at=_broken_at(case),
            opened_at=case.now,
            confirmed_at=None if effect.unconfirmed else case.now,
            resolved_at=None,
            resolution=None,
        )
        incidents.create(case.connection, incident)
        targets = self.targets(stored)
        for target in targets:
            link = Link(
                incidents.link_id(notices.notice_id(incident.id, target, NoticeKind.OPENED, 0)),
                incident.id,
                stored.id,
                target.key,
                case.now + self.link_lifetime,
                None,
            )
            incidents.ensure_link(case.connection, link, case.now)
        written = self._write(case, incident.id, NoticeKind.OPENED, targets, incident=incident)
        case.note(opened=incident, notices=case.change.notices + written, broken_at=incident.broken_at)

    def targets(self, stored: StoredAccount) -> tuple[Target, ...]:
        """Who is told about this account."""
        account = stored.account
        return self.routing.targets(account.workspace, account.platform, account.ref, stored.profile)

    def _confirm_incident(self, case: _Case) -> None:
        incident = incidents.open_for(case.connection, case.after.id)
        if incident is not None and incidents.confirm(case.connection, incident.id, case.now):
            case.note(confirmed=incident)

    def _resolve(self, case: _Case, effect: machine.ResolveIncident) -> None:
        incident = incidents.open_for(case.connection, case.after.id)
        if incident is None:
            return
        incidents.resolve(case.connection, incident.id, effect.how, case.now)
        notices.drop_waiting(case.connection, incident.id, f"{effect.how} before it was sent")
        written = 0
        if effect.how is Resolution.REPAIRED:
            told = notices.told(case.connection, incident.id)
            written = self._write(case, incident.id, NoticeKind.RESOLVED, told, incident=incident)
        case.after = replace(case.after, clicked_at=None)
        case.note(
            resolved=replace(incident, resolved_at=case.now, resolution=effect.how),
            notices=case.change.notices + written,
        )

    def _warn(self, case: _Case) -> None:
        days = case.after.account.validity_days
        if days is None:
            return
        deadline = (case.observation.at or case.now) + timedelta(days=days)
        warned = case.after.warned_deadline
        if warned is not None and abs(deadline - warned) <= SAME_DEADLINE:
            # A warning that fell due during a moment of doubt was withdrawn, and holds after all.
            written = notices.renew_dropped(case.connection, _warning(case, warned), case.now)
        else:
            case.after = replace(case.after, warned_deadline=deadline)
            written = self._write(case, _warning(case, deadline), NoticeKind.EXPIRING, self.targets(case.after))
        case.note(notices=case.change.notices + written)

    def _write(
        self,
        case: _Case,
        subject: str,
        kind: NoticeKind,
        targets: Sequence[Target],
        *,
        incident: Incident | None = None,
    ) -> int:
        nobody = not targets and kind is not NoticeKind.RESOLVED
        return notices.write(
            case.connection,
            subject=subject,
            incident_id=incident.id if incident else None,
            account_id=case.after.id,
            kind=kind,
            targets=(NOBODY,) if nobody else targets,
            due_at=case.now,
            now=case.now,
            status=NoticeStatus.HELD if nobody else NoticeStatus.PENDING,
            reason="no route and no default recipient is configured" if nobody else None,
        )

    def _probe_siblings(self, case: _Case) -> None:
        siblings = accounts.broken_siblings(case.connection, case.after)
        accounts.schedule_probe(case.connection, siblings, case.now, Lane.CONFIRM)
        if siblings:
            case.note(probe=Lane.CONFIRM)


_SETTLED: dict[State, Signal] = {
    State.HEALTHY: Signal.OK,
    State.EXPIRING: Signal.OK,
    State.EXPIRED: Signal.BAD_TOKEN,
    State.DISCONNECTED: Signal.ERROR,
}
"""The reading that tells nothing new in each state, as long as the numbers beside it are the same."""


def _broken_at(case: _Case) -> datetime:
    """Since when, as far as anybody can tell: the provider's time of the news, or of the first bad reading."""
    account = case.before.account
    if account.state is State.SUSPECT:
        return min((at for at in (account.as_of, account.changed_at) if at is not None), default=case.now)
    return account.error_since or case.observation.at or case.now


def trouble_subject(trouble: Trouble) -> str:
    """What the operator's notices of a trouble are about."""
    return f"trouble:{trouble.id}"


def _warning(case: _Case, deadline: datetime) -> str:
    """What a warning's notices are about."""
    return f"expiring:{case.after.id}:{deadline.date()}"


def _incident_id(account_id: int, now: datetime) -> str:
    return f"{account_id}-{int(now.timestamp() * 1_000_000):x}"
