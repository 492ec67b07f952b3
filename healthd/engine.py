"""The single door through which states change.

``Engine.apply`` takes what was observed and, in the caller's one transaction, writes what follows from it: accounts,
history, incidents, and the notices that people will get. Nothing is sent here, and nothing is asked of anybody.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, assert_never

from sqlalchemy import Connection

from healthd import dispatch, tracing
from healthd.core import machine
from healthd.core.cadence import ENDED_BY_ANY_ANSWER, trouble_due
from healthd.core.model import (
    BROKEN,
    Account,
    Cause,
    Lane,
    Listed,
    NoticeKind,
    Observation,
    Policy,
    Signal,
    Source,
    State,
    platform_label,
)
from healthd.core.post_failures import (
    AUTH_CODES,
    CANDIDATES,
    CONNECTED_BUT,
    LOOK_AGAIN,
    LOOK_APART,
    Meant,
    PostFailure,
    is_about_grant,
    meant,
)
from healthd.core.probing import CLICK_WINDOW, ProbePolicy, next_probe
from healthd.dispatch import Dispatch, Memory
from healthd.store import accounts, decisions, incidents, notices, pauses, post_failures, troubles
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident
from healthd.store.pauses import Action, Wanted
from healthd.store.storms import Storm
from healthd.store.troubles import Trouble

CLICK_PATIENCE = timedelta(minutes=2)
"""How long after a press an account may stay broken before somebody probably chose another one."""

CANNOT_PUBLISH = "cannot publish"

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
    storm: Storm | None = None
    """That its break has made."""
    resume: bool = False
    """Posting to it is to be resumed."""

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
    memory: Memory
    probe_now: Lane | None = None
    probe_siblings: bool = False

    def note(self, **facts: object) -> None:
        self.change = replace(self.change, **facts)  # type: ignore[arg-type]

    def wrote(self, notices: int) -> None:
        self.note(notices=self.change.notices + notices)

    @property
    def told(self) -> dispatch.Case:
        """The account as it is now, for those who decide who is told."""
        return dispatch.Case(self.connection, self.after, self.now, self.memory)

    def history(self) -> list[dict[str, Any]]:
        """What is worth a line in the account's history: every move, and every event.

        That a new account was found well says no more than its row does, and would be a million lines.
        """
        seen, change = self.observation, self.change
        # A post that failed has a line of its own beside the history.
        is_event = seen.source is Source.WEBHOOK and seen.signal is not Signal.POST_FAILED
        found_well = change.before is State.UNKNOWN and change.after in machine.FINE
        if not is_event and (found_well or not change.moved):
            return []
        note = "older than what is known" if change.fenced else seen.reason
        seen = seen if change.fenced else replace(seen, signal=change.signal)
        return [incidents.history_line(change.account_id, seen, change.before, change.after, self.now, note)]


@dataclass(frozen=True)
class Engine:
    """The operator's choices, applied. ``auto_pause`` names the workspaces whose broken accounts are paused;
    ``auth_codes`` are the errors of posts that speak of the account's permission. ``rng`` jitters the probes; time is
    told with every call.
    """

    policy: Policy = field(default_factory=Policy)
    probes: ProbePolicy = field(default_factory=ProbePolicy)
    dispatch: Dispatch = field(default_factory=Dispatch)
    auto_pause: frozenset[str] = frozenset()
    auth_codes: tuple[str, ...] = AUTH_CODES
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
        on_record = accounts.load(connection, workspace, (o.ref for o in observations))
        known, fresh = dict(on_record), self._newcomers(connection, observations, on_record)
        memory = Memory()
        looks = _FirstLooks(self.policy, now)
        heard: list[_Case | Change] = []
        for said in observations:
            stored = known.get(said.ref)
            if stored is None and said.ref in fresh:
                naming, account_id = fresh[said.ref]
                if said is naming and (well := looks.found_well(workspace, said)) is not None:
                    known[said.ref], change = self._found_well(well, said, now, profile, account_id)
                    heard.append(change)
                    continue
                stored = known[said.ref] = self._newcomer(workspace, naming, now, profile, account_id)
            if stored is None:
                continue
            if stored.id in memory.opening:
                self.dispatch.write_openings(connection, memory, now)  # what is done to it now may look for them
            observation = _without_old_pause(stored, said, now)
            step = machine.advance(stored.account, observation, self.policy, now)
            if observation.ref not in on_record and not _is_quiet(stored.account, step):
                accounts.create(connection, [stored])  # what is written of it refers to its row
                on_record[observation.ref] = stored
            case = self._one(connection, stored, observation, step, now, memory)
            known[observation.ref] = case.after
            heard.append(case)
        # A newcomer of whom there is nothing to tell is written once, as its first reading leaves it.
        accounts.create(connection, [stored for ref, stored in known.items() if ref not in on_record])
        changed = ((before, known[ref]) for ref, before in on_record.items())
        accounts.write(connection, [(before, after) for before, after in changed if after is not before])
        cases = [one for one in heard if isinstance(one, _Case)]
        incidents.record(connection, [line for case in cases for line in case.history()])
        self.dispatch.remember(connection, memory, now)
        looked: set[tuple[str, bool]] = set()
        for case in cases:
            # Those that broke together have the same siblings.
            behind = (case.told.family, case.change.opened is None)
            if case.probe_siblings and behind not in looked:
                looked.add(behind)
                self._probe_siblings(case)
        return [one.change if isinstance(one, _Case) else one for one in heard]

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
        """Takes in what the inventory shows: accounts never seen, new names, and removed ones that are back.

        ``probe_soon`` asks about new accounts as soon as the rotation allows, where no sweep over everything does.
        """
        entries = {entry.ref: entry for entry in listed}
        known = accounts.shown(connection, workspace, entries)
        fresh: list[StoredAccount] = []
        different: list[Listed] = []
        revived: list[Observation] = []
        for entry in entries.values():
            before = known.get(entry.ref)
            if before is None:
                seen = Observation(
                    entry.ref, Signal.CONNECTED, Source.INVENTORY, now, platform=entry.platform, name=entry.name
                )
                newcomer = self._newcomer(workspace, seen, now, profile)
                probe_at = now if probe_soon else newcomer.probe_at
                fresh.append(replace(newcomer, username=entry.username, probe_at=probe_at))
                continue
            names = (entry.name, entry.username or before.username, profile)
            if before.missing or names != (before.name, before.username, before.profile):
                different.append(entry)
            if before.removed:
                revived.append(Observation(entry.ref, Signal.CONNECTED, Source.INVENTORY, at=None))
        accounts.create(connection, fresh)
        accounts.write(connection, self._as_listed(connection, workspace, different, profile))
        return self.apply(connection, workspace, revived, now, profile) if revived else []

    def answers_again(self, connection: Connection, workspace: str, refs: Sequence[str], now: datetime) -> None:
        """The inventory shows these accounts. What was held while their profile was paused goes out now, if it is still
        true.
        """
        listed = accounts.shown(connection, workspace, refs)
        notices.release_held(connection, [one.id for one in listed.values() if not one.paused], now)

    def _as_listed(
        self, connection: Connection, workspace: str, entries: Sequence[Listed], profile: str
    ) -> list[tuple[StoredAccount, StoredAccount]]:
        """Accounts before and after what the inventory says of them."""
        known = accounts.load(connection, workspace, [entry.ref for entry in entries])
        pairs = []
        for entry in entries:
            before = known[entry.ref]
            username = entry.username or before.username
            after = replace(before, name=entry.name, username=username, profile=profile, missing_since=None)
            pairs.append((before, after))
        return pairs

    def time_out(
        self, connection: Connection, now: datetime, workspace: str | None = None, limit: int = 500
    ) -> list[Change]:
        """Tells suspects that nobody could confirm in time to the machine: those of one workspace, or all."""
        alarms: dict[str, list[Observation]] = {}
        for place, ref in accounts.overdue_confirmations(connection, now, limit, workspace):
            alarms.setdefault(place, []).append(Observation(ref, Signal.CONFIRM_TIMEOUT, Source.CLOCK, at=None))
        return [change for place, overdue in alarms.items() for change in self.apply(connection, place, overdue, now)]

    def posts_failed(
        self,
        connection: Connection,
        workspace: str,
        failures: Sequence[PostFailure],
        now: datetime,
        profile: str = "",
        event_id: str | None = None,
    ) -> tuple[list[Change], list[tuple[str, str]]]:
        """Takes in posts that could not be published: evidence, on which an account is looked at, and never more.

        Returns what that changed, and for each failure its platform and what it was taken for (a metric's label).
        """
        suspects: list[Observation] = []
        taken: list[tuple[str, str]] = []
        for failure in failures:
            found = post_failures.publishing(connection, workspace, profile, failure.platform, CANDIDATES + 1)
            whose, about_grant = meant([one.state for one in found]), is_about_grant(failure.code, self.auth_codes)
            label = ("grant" if whose is Meant.ONE else str(whose)) if about_grant else "other"
            if whose is Meant.ONE:
                stored = accounts.load(connection, workspace, [found[0].ref])[found[0].ref]
                if about_grant and self._cannot_publish(connection, stored, failure, now):
                    label = "connected"
                if about_grant and not _asked_lately(connection, stored, failure):
                    suspects.append(_suspicion(stored, failure, event_id))
                post_failures.record(connection, stored.id, failure, event_id, about_grant=about_grant)
            elif whose is Meant.SEVERAL and about_grant and len(found) <= CANDIDATES:
                for number, one in enumerate(found, 1):
                    accounts.schedule_probe(connection, [one.id], now + number * LOOK_APART, Lane.CONFIRM)
            taken.append((failure.platform, label))
        return self.apply(connection, workspace, suspects, now, profile), taken

    def _cannot_publish(
        self, connection: Connection, stored: StoredAccount, failure: PostFailure, now: datetime
    ) -> bool:
        """Whether the account's posts go on failing although a reading between them said that it is connected. Noted
        once a day: for whoever looks at the account, and for no one else.
        """
        as_of = stored.account.as_of
        if stored.account.state not in machine.FINE or as_of is None or failure.at < as_of:
            return False
        since = failure.at - CONNECTED_BUT
        if not post_failures.others_about_grant(connection, stored.id, failure.post, since, as_of):
            return False
        if not decisions.said_since(connection, stored.id, CANNOT_PUBLISH, now - CONNECTED_BUT):
            reason = f"posts fail with {failure.code} although it reads as connected: look at its permissions and roles"
            case = dispatch.Case(connection, stored, now)
            decisions.note(connection, [case.decided(CANNOT_PUBLISH, reason)])
        return True

    def trouble(self, connection: Connection, trouble: Trouble) -> bool:
        """Something stands between us and an API: the operator is told once, if it lasts. Whether it is news."""
        if not troubles.begin(connection, trouble):
            return False
        due = trouble_due(trouble.kind, trouble.since)
        self.dispatch.tell_operators(connection, trouble, NoticeKind.TROUBLE, self.dispatch.operators, due)
        return True

    def trouble_over(self, connection: Connection, workspace: str, now: datetime, question: str) -> list[Trouble]:
        """The API answered such a question: what stood in its way is over. Returns what ended."""
        lasting = troubles.current(connection, workspace)
        ended = [one for one in lasting if one.question == question or one.kind in ENDED_BY_ANY_ANSWER]
        if ended:
            troubles.end(connection, ended, now)
        for trouble in ended:
            told = notices.withdraw(connection, dispatch.subject_of(trouble), "over before it was sent")
            self.dispatch.tell_operators(connection, trouble, NoticeKind.TROUBLE_OVER, told, now)
        return ended

    def is_news(self, known: accounts.Known, observation: Observation) -> bool:
        """Whether a sweep's reading says anything that is not known already; most of a million say nothing."""
        settled = _SETTLED.get(known.state) is observation.signal
        settled = settled and (known.error_since is None or known.state is State.DISCONNECTED)
        paused_known = observation.paused is None or observation.paused == known.paused
        validity_known = observation.validity_days is None or observation.validity_days == known.validity_days
        return not (settled and paused_known and validity_known and not known.missing)

    def _newcomers(
        self, connection: Connection, observations: Sequence[Observation], known: Collection[str]
    ) -> dict[str, tuple[Observation, int]]:
        """For each account never seen before, what names its platform, and the id that it will have."""
        fresh = {o.ref: o for o in observations if o.ref not in known and o.platform}
        ids = accounts.new_ids(connection, len(fresh)) if fresh else ()
        return {ref: (naming, account_id) for (ref, naming), account_id in zip(fresh.items(), ids, strict=True)}

    def _newcomer(
        self, workspace: str, seen: Observation, now: datetime, profile: str, account_id: int = 0
    ) -> StoredAccount:
        return StoredAccount(
            id=account_id,
            account=_unknown(workspace, seen),
            profile=profile,
            name=seen.name or seen.ref,
            username=None,
            first_seen_at=now,
            probe_at=now + self.probes.account_interval * self.rng.random(),
        )

    def _found_well(
        self, well: Account, seen: Observation, now: datetime, profile: str, account_id: int
    ) -> tuple[StoredAccount, Change]:
        """A newcomer of whom a sweep says that all is well, as ``_one`` would leave it; these come by the million."""
        at, lane = next_probe(well, None, now, self.probes, self.rng)
        early = now + self.probes.account_interval * self.rng.random()
        stored = StoredAccount(
            account_id, well, profile, seen.name or seen.ref, None, now,
            probe_at=min(early, at or early), probe_lane=lane,
        )  # fmt: skip
        signal = Signal.OK if well.state is State.HEALTHY else Signal.EXPIRING
        change = Change(
            account_id, well.workspace, well.ref, well.platform, signal, seen.source, State.UNKNOWN, well.state,
            probe=lane,
        )  # fmt: skip
        return stored, change

    def _one(
        self,
        connection: Connection,
        stored: StoredAccount,
        observation: Observation,
        moved: machine.Advance,
        now: datetime,
        memory: Memory,
    ) -> _Case:
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
        case = _Case(connection, now, observation, stored, stored, change, memory)
        if moved.fenced:
            self._ask_again(case)
            return case
        case.after = replace(stored, account=moved.account)
        self._describe(case)
        for effect in moved.effects:
            self._perform(case, effect)
        self._posting(case)
        self._after_pause(case)
        self._after_click(case)
        self._plan_probe(case)
        if case.change.moved and not _is_found_well(stored.account, moved):
            reason = observation.reason or moved.signal
            case.wrote(self.dispatch.changed(case.told, case.change.before, case.change.after, reason))
        return case

    def _perform(self, case: _Case, effect: machine.Effect) -> None:
        match effect:
            case machine.OpenIncident():
                platform = platform_label(case.change.platform)
                with tracing.span("incident.open", workspace=case.change.workspace, platform=platform):
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
        asked_at = case.observation.asked_at
        if asked and turn is not None and asked_at is not None and asked_at < turn <= case.now:
            return  # somebody wanted another look after this question was asked: its answer is not that look
        at, lane = next_probe(case.after.account, case.after.clicked_at, case.now, self.probes, self.rng)
        if at is None:
            case.after = replace(case.after, probe_at=None, probe_lane=lane)
            return
        if case.probe_now is not None:
            at, lane = case.now, case.probe_now
            tracing.carry(case.after.id)
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
            case.wrote(released)

    def _posting(self, case: _Case) -> None:
        """Whether posting is to be paused or resumed, and whose act a pause was that a reading shows."""
        change, account = case.change, case.after
        if change.moved and change.after is State.REMOVED:
            pauses.withdraw(case.connection, account.id)
            case.after = replace(account, auto_paused_at=None)
            return
        if case.before.account.paused is not account.account.paused:
            self._pause_seen(case)
        if change.resolved is not None:
            self._after_repair(case)
        elif change.opened is not None and case.after.auto_paused_at is not None:
            pauses.withdraw(case.connection, account.id)  # broken again before it was resumed: it stays paused
        elif self._is_to_be_paused(case):
            pauses.want(
                case.connection, Wanted(account.id, account.account.workspace, Action.PAUSE, case.now, case.now)
            )

    def _is_to_be_paused(self, case: _Case) -> bool:
        opened = case.change.opened
        confirmed = case.change.confirmed is not None or (opened is not None and opened.confirmed_at is not None)
        return confirmed and case.change.workspace in self.auto_pause and not case.after.account.paused

    def _pause_seen(self, case: _Case) -> None:
        account, asked = case.after, case.observation.asked_at
        waiting = pauses.get(case.connection, account.id)
        tried = waiting is not None and waiting.tried_at is not None and asked is not None and asked >= waiting.tried_at
        if not account.account.paused and account.auto_paused_at is not None:
            told = ("posting resumed", pauses.REPAIRED if tried else "somebody else has resumed it")
            case.after = replace(account, auto_paused_at=None)
        elif account.account.paused and waiting is not None and waiting.action is Action.PAUSE:
            told = ("posting paused", pauses.BROKEN) if tried else ("posting not paused", "somebody else has paused it")
            case.after = replace(account, auto_paused_at=case.now if tried else None)
        else:
            return
        pauses.withdraw(case.connection, account.id)
        pauses.note(case.connection, account.id, *told, case.now)

    def _after_repair(self, case: _Case) -> None:
        """What healthd has paused, or may have paused, it resumes."""
        account, due = case.after, case.now
        waiting = pauses.get(case.connection, account.id)
        if waiting is not None and waiting.action is Action.PAUSE:
            pauses.withdraw(case.connection, account.id)
            if waiting.tried_at is not None:
                due = max(due, waiting.due_at)  # that call may still be under way, and must not come after this one
                known = replace(account.account, paused=True)
                account = case.after = replace(account, account=known, auto_paused_at=case.now)
        if account.auto_paused_at is not None:
            pauses.want(case.connection, Wanted(account.id, account.account.workspace, Action.RESUME, case.now, due))
            case.note(resume=True)

    def _after_click(self, case: _Case) -> None:
        """Still broken some time after somebody pressed the button, while another account was connected: it was
        probably chosen instead, and who pressed it is told which one to choose.
        """
        account = case.after
        clicked = account.clicked_at
        if clicked is None or account.account.state not in BROKEN or case.observation.source is not Source.HEALTH:
            return
        if not CLICK_PATIENCE <= case.now - clicked < CLICK_WINDOW:
            return
        incident = incidents.open_for(case.connection, account.id)
        if incident is None or not incidents.other_connected_since(case.connection, account, clicked):
            return
        target = incidents.latest_mint(case.connection, account.id, clicked)
        told = notices.told_through(case.connection, incident.id, target) if target else None
        if told is not None:
            case.wrote(self.dispatch.wrong_account(case.told, incident, told))

    def _open(self, case: _Case, effect: machine.OpenIncident) -> None:
        stored = case.after
        incident = Incident(
            id=_incident_id(stored.id, case.now),
            account_id=stored.id,
            workspace=stored.account.workspace,
            platform=stored.account.platform,
            cause=effect.cause or Cause.TOKEN,
            broken_at=_broken_at(case),
            opened_at=case.now,
            confirmed_at=None if effect.unconfirmed else case.now,
        )
        case.probe_siblings = True  # one act may have broken all that is behind the login
        case.wrote(self.dispatch.opened(case.told, incident))
        case.note(opened=incident, broken_at=incident.broken_at, storm=case.memory.storm_began)
        case.memory.storm_began = None

    def _confirm_incident(self, case: _Case) -> None:
        incident = incidents.open_for(case.connection, case.after.id)
        if incident is None or incident.confirmed_at is not None:
            return
        if incidents.confirm(case.connection, incident.id, case.now):
            case.note(confirmed=incident)

    def _resolve(self, case: _Case, effect: machine.ResolveIncident) -> None:
        incident = incidents.open_for(case.connection, case.after.id)
        if incident is None:
            return
        incidents.resolve(case.connection, incident.id, effect.how, case.now)
        incident = replace(incident, resolved_at=case.now, resolution=effect.how)
        case.wrote(self.dispatch.resolved(case.told, incident))
        case.after = replace(case.after, clicked_at=None)
        case.note(resolved=incident)

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
            written = self.dispatch.expiring(case.told, _warning(case, deadline))
        case.wrote(written)

    def _probe_siblings(self, case: _Case) -> None:
        """Those that are broken may have been repaired by the same act, those that are well broken by it."""
        find = accounts.broken_siblings if case.change.opened is None else accounts.well_siblings
        siblings = find(case.connection, case.after)
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


def _without_old_pause(stored: StoredAccount, observation: Observation, now: datetime) -> Observation:
    """What was asked before healthd paused the account knows nothing of that. A pause that lies ahead of now was noted
    before our clock was set back: it orders nothing.
    """
    since, asked = stored.auto_paused_at, observation.asked_at
    if observation.paused is not False or since is None or asked is None or not asked <= since <= now:
        return observation
    return replace(observation, paused=None)


def _asked_lately(connection: Connection, stored: StoredAccount, failure: PostFailure) -> bool:
    """Whether a post that failed shortly before has led to a question already."""
    since = failure.at - LOOK_AGAIN
    return post_failures.others_about_grant(connection, stored.id, failure.post, since, failure.at) > 0


def _suspicion(stored: StoredAccount, failure: PostFailure, event_id: str | None) -> Observation:
    reason = f"post {failure.post} failed: {failure.code}"
    return Observation(
        stored.account.ref, Signal.POST_FAILED, Source.WEBHOOK, failure.at, reason=reason, event_id=event_id
    )


_BUT_REF = attrgetter(*(name for name in Account.__dataclass_fields__ if name not in {"workspace", "ref"}))


@dataclass(slots=True)
class _FirstLooks:
    """What a sweep's reading makes of accounts never seen before: thought about once for all that read alike."""

    policy: Policy
    now: datetime
    thought: dict[tuple[object, ...], tuple[Any, ...] | None] = field(default_factory=dict)

    def found_well(self, workspace: str, seen: Observation) -> Account | None:
        """The account after its first reading, where nothing follows from that but the account itself."""
        if seen.source is not Source.BULK:
            return None
        alike = (seen.platform, seen.signal, seen.at, seen.asked_at, seen.validity_days, seen.paused)
        if alike not in self.thought:
            before = _unknown(workspace, seen)
            step = machine.advance(before, seen, self.policy, self.now)
            quiet = _is_found_well(before, step) and not step.effects and step.account.paused is before.paused
            self.thought[alike] = _BUT_REF(step.account) if quiet else None
        facts = self.thought[alike]
        return None if facts is None else Account(workspace, seen.ref, *facts)


def _unknown(workspace: str, seen: Observation) -> Account:
    """An account of which nothing is known but that it is there."""
    return Account(workspace, seen.ref, seen.platform or "", paused=bool(seen.paused))


def _is_found_well(before: Account, step: machine.Advance) -> bool:
    return before.state is State.UNKNOWN and step.account.state in machine.FINE


def _is_quiet(before: Account, step: machine.Advance) -> bool:
    """Whether nothing is written of a step but the account itself."""
    return not step.effects and (step.account.state is before.state or _is_found_well(before, step))


def _broken_at(case: _Case) -> datetime:
    """Since when, as far as anybody can tell: the provider's time of the news, or of the first bad reading."""
    account = case.before.account
    if account.state is State.SUSPECT:
        return min((at for at in (account.as_of, account.changed_at) if at is not None), default=case.now)
    return account.error_since or case.observation.at or case.now


def _warning(case: _Case, deadline: datetime) -> str:
    """What a warning's notices are about."""
    return f"expiring:{case.after.id}:{deadline.date()}"


def _incident_id(account_id: int, now: datetime) -> str:
    return f"{account_id}-{int(now.timestamp() * 1_000_000):x}"
