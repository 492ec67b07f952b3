"""Whatever happens to accounts, and however late, often and out of order we hear of it, what is in the store agrees
with itself; and once every account has been looked at, with the truth.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, func, select

from healthd.core import cadence
from healthd.core.machine import FINE
from healthd.core.model import (
    BROKEN,
    Lane,
    Listed,
    NoticeKind,
    NoticeStatus,
    Observation,
    Signal,
    Source,
    State,
    Target,
)
from healthd.engine import Change, Engine
from healthd.store import accounts, incidents, notices
from healthd.store import schema as tables
from healthd.store.accounts import StoredAccount
from healthd.store.incidents import Incident, Link
from healthd.store.notices import Holding, StoredNotice
from tests.engine.desk import ADA, MINUTE, SECOND, SLACK, Desk, empty_store, told_at_once

REFS = {"1": "youtube", "2": "gmb", "3": "linkedin"}
"""Two behind one login, and one with a deadline."""
NEWS = {Signal.CONNECTED: True, Signal.TOKEN_EXPIRED: False, Signal.DISCONNECTED: False}
"""Whether the account works after it."""
refs = st.sampled_from(sorted(REFS))
which = st.integers(0, 10**6)


@dataclass(frozen=True)
class Book:
    """The whole of a small store."""

    accounts: list[StoredAccount]
    notices: list[StoredNotice]
    incidents: dict[str, Incident]
    counts: Counter[tuple[str, str, State, bool]]
    moves: Counter[tuple[int, str, str]]

    @property
    def open(self) -> list[Incident]:
        return [incident for incident in self.incidents.values() if incident.resolved_at is None]

    @classmethod
    def read(cls, connection: Connection) -> Book:
        known = list(accounts.load(connection, "acme", REFS).values())
        cases = [case for stored in known for case in incidents.of_account(connection, stored.id, 1000)]
        moved = tables.history.c
        lines = connection.execute(
            select(moved.account_id, moved.before, moved.after, func.count())
            .where(moved.before != moved.after)
            .group_by(moved.account_id, moved.before, moved.after)
        )
        return cls(
            known,
            [notice for stored in known for notice in notices.of_account(connection, stored.id, 1000)],
            {case.id: case for case in cases},
            Counter({row[:4]: row[4] for row in accounts.counts(connection)}),
            Counter({(row[0], row[1], row[2]): row[3] for row in lines}),
        )


class Accounts(RuleBasedStateMachine):
    """The model is the provider's truth, and what was handed over to whom; the rest is read from the store."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        connection = self.stack.enter_context(empty_store())
        engine = Engine(dispatch=told_at_once(ADA, SLACK), rng=random.Random(1))
        self.desk = Desk(connection, engine)
        self.works = dict.fromkeys(REFS, True)
        self.exists = dict.fromkeys(REFS, True)
        self.paused = dict.fromkeys(REFS, False)
        self.days_left: dict[str, int | None] = dict.fromkeys(REFS)
        self.events: list[Observation] = []
        self.answers: list[Observation] = []
        self.handed_over: set[tuple[str | None, Target]] = set()
        self.moves: Counter[tuple[int, str, str]] = Counter()
        self.page = -1

    def teardown(self) -> None:
        with self.stack:
            if sys.exception() is None:
                self.everything_is_looked_at()

    # What happens at the provider

    @rule(ref=refs, news=st.sampled_from([*NEWS]), at_once=st.booleans())
    def changes(self, ref: str, news: Signal, at_once: bool) -> None:
        self.works[ref] = NEWS[news]
        self.events.append(self.desk.event(news, ref, platform=REFS[ref]))
        if at_once:
            self._apply(self.events[-1])

    @rule(ref=refs, exists=st.booleans())
    def is_deleted_or_back(self, ref: str, exists: bool) -> None:
        self.exists[ref] = exists

    @rule(ref=refs, paused=st.booleans())
    def is_paused_or_resumed(self, ref: str, paused: bool) -> None:
        self.paused[ref] = paused

    @rule(ref=refs, days=st.none() | st.integers(0, 60))
    def lives_for_so_many_days(self, ref: str, days: int | None) -> None:
        self.days_left[ref] = days

    # How we hear of it

    @precondition(lambda self: self.events)
    @rule(number=which, times=st.integers(1, 3))
    def hears_of_some_event(self, number: int, times: int) -> None:
        """New or old, and perhaps not for the first time."""
        self._apply(*[self.events[number % len(self.events)]] * times)

    @rule(ref=refs, news=st.sampled_from([*NEWS]))
    def hears_what_is_not_so(self, ref: str, news: Signal) -> None:
        self._apply(self.desk.event(news, ref, platform=REFS[ref]))

    @rule(ref=refs, at_once=st.booleans())
    def a_post_fails(self, ref: str, at_once: bool) -> None:
        """Whatever the account is like."""
        self.events.append(self.desk.event(Signal.POST_FAILED, ref, platform=None))
        if at_once:
            self._apply(self.events[-1])

    @rule(ref=refs, source=st.sampled_from([Source.HEALTH, Source.BULK]))
    def asks(self, ref: str, source: Source) -> None:
        if self.exists[ref]:
            self.answers.append(self._truth(ref, source))

    @precondition(lambda self: self.answers)
    @rule(number=which)
    def hears_some_answer(self, number: int) -> None:
        self._apply(self.answers.pop(number % len(self.answers)))

    @rule()
    def sweeps(self) -> None:
        self._apply(*[self._truth(ref, Source.BULK) for ref in REFS if self.exists[ref]])

    @rule(ref=refs)
    def reads_an_error(self, ref: str) -> None:
        self._apply(self.desk.reading(Signal.ERROR, ref, platform=REFS[ref]))

    @rule()
    def lists(self) -> None:
        found = [Listed(ref, REFS[ref], f"Account {ref}") for ref in REFS if self.exists[ref]]
        self._note(self.desk.discover(*found))
        absent = [ref for ref in REFS if not self.exists[ref]]
        accounts.mark_missing(self.desk.connection, "acme", absent, self.desk.now)

    @rule(ref=refs)
    def finds_nobody_there(self, ref: str) -> None:
        stored = accounts.load(self.desk.connection, "acme", [ref]).get(ref)
        if stored is not None and stored.missing_since is not None and not self.exists[ref]:
            self._apply(self.desk.reading(Signal.GONE, ref, Source.INVENTORY, platform=REFS[ref]))

    @rule(span=st.sampled_from([SECOND, 10 * SECOND, 6 * MINUTE, timedelta(hours=2), timedelta(days=2)]))
    def time_passes(self, span: timedelta) -> None:
        self.desk.now += span

    @rule()
    def silence_is_noticed(self) -> None:
        self._note(self.desk.time_out())

    # What others do with it

    @rule(crashes=st.booleans(), ends=st.sampled_from([NoticeStatus.SENT, NoticeStatus.PENDING, NoticeStatus.DEAD]))
    def outbox_works(self, crashes: bool, ends: NoticeStatus) -> None:
        def outcome(notice: StoredNotice) -> NoticeStatus | None:
            assert notice.account_id is not None
            stored = accounts.by_id(self.desk.connection, notice.account_id)
            incident = incidents.get(self.desk.connection, notice.incident_id) if notice.incident_id else None
            assert stored is not None
            situation = cadence.Situation(
                open_incident=incident is not None and incident.resolved_at is None,
                broken_again=stored.account.state in BROKEN,
                paused=stored.account.paused,
                expiring=stored.account.state is State.EXPIRING,
            )
            verdict = cadence.verdict(notice.kind, self.desk.now, situation)
            if not isinstance(verdict, cadence.Send):
                return NoticeStatus.HELD if isinstance(verdict, cadence.Hold) else NoticeStatus.DROPPED
            if crashes or ends is NoticeStatus.SENT:
                self.handed_over.add((notice.incident_id, notice.target))
            return None if crashes else ends

        self.desk.hand_over(outcome, Holding("paused"))

    @rule(ref=refs)
    def plans_a_reminder(self, ref: str) -> None:
        incident = self._open(ref)
        if incident is not None:
            self.desk.remind(ADA, self.desk.now, ref)

    @rule(ref=refs)
    def somebody_presses_the_button(self, ref: str) -> None:
        incident = self._open(ref)
        if incident is not None:
            first = notices.notice_id(incident.id, ADA, NoticeKind.OPENED, 0)
            link = incidents.link(self.desk.connection, incidents.link_id(first))
            assert isinstance(link, Link), "every incident has its link"
            incidents.record_mint(self.desk.connection, link, "minted", "browser", self.desk.now)
            accounts.schedule_probe(self.desk.connection, [link.account_id], self.desk.now + 5 * SECOND, Lane.CLICK)

    @rule()
    def everything_is_looked_at(self) -> None:
        """Afterwards what we believe is the truth, whatever else comes in late."""
        self.lists()
        for _ in range(2):
            for ref in REFS:
                self.desk.now += SECOND
                if self.exists[ref]:
                    self._apply(self._truth(ref, Source.HEALTH))
                else:
                    self.finds_nobody_there(ref)
        for ref, stored in self._stored().items():
            if not self.exists[ref]:
                assert stored.account.state is State.REMOVED
            elif self.works[ref]:
                assert stored.account.state in FINE
            else:
                assert stored.account.state is State.EXPIRED
            if self.exists[ref]:
                assert stored.account.paused == self.paused[ref]
        self._what_is_late_changes_nothing()

    def _what_is_late_changes_nothing(self) -> None:
        before = self._stored()
        self._apply(*self.events, *self.answers)
        after = self._stored()
        assert [after[ref].account for ref in before] == [stored.account for stored in before.values()]

    def _truth(self, ref: str, source: Source) -> Observation:
        return self.desk.reading(
            Signal.OK if self.works[ref] else Signal.BAD_TOKEN,
            ref,
            source,
            platform=REFS[ref],
            paused=self.paused[ref],
            validity_days=self.days_left[ref],
        )

    def _apply(self, *observations: Observation) -> None:
        self._note(self.desk.apply(*observations))

    def _note(self, changes: list[Change]) -> None:
        for change in changes:
            found_well = change.before is State.UNKNOWN and change.after in FINE
            if change.moved and not found_well:
                self.moves[change.account_id, change.before, change.after] += 1

    def _stored(self) -> dict[str, StoredAccount]:
        return accounts.load(self.desk.connection, "acme", REFS)

    def _open(self, ref: str) -> Incident | None:
        stored = self._stored().get(ref)
        return None if stored is None else incidents.open_for(self.desk.connection, stored.id)

    # What holds at every moment

    @property
    def book(self) -> Book:
        """What is in the store; read again only when something was written."""
        driver = self.desk.connection.connection.driver_connection
        assert driver is not None
        if self.page != driver.total_changes:
            self.page, self._book = driver.total_changes, Book.read(self.desk.connection)
        return self._book

    @invariant()
    def an_incident_is_open_exactly_while_its_account_is_broken(self) -> None:
        opened = sorted(incident.account_id for incident in self.book.open)
        assert opened == sorted(stored.id for stored in self.book.accounts if stored.account.state in BROKEN)

    @invariant()
    def each_recipient_has_one_opening_of_each_incident(self) -> None:
        opened = Counter(
            (notice.incident_id, notice.target) for notice in self.book.notices if notice.kind is NoticeKind.OPENED
        )
        assert opened == Counter({(known, target): 1 for known in self.book.incidents for target in (ADA, SLACK)})

    @invariant()
    def a_closed_incident_has_nothing_waiting_but_its_good_news(self) -> None:
        for notice in self.book.notices:
            if notice.incident_id and notice.status in {NoticeStatus.PENDING, NoticeStatus.HELD}:
                resolved_at = self.book.incidents[notice.incident_id].resolved_at
                assert notice.kind is NoticeKind.RESOLVED or resolved_at is None

    @invariant()
    def good_news_goes_only_to_those_who_may_know_of_the_trouble(self) -> None:
        for notice in self.book.notices:
            if notice.kind is NoticeKind.RESOLVED:
                assert (notice.incident_id, notice.target) in self.handed_over

    @invariant()
    def counts_are_those_of_a_recount(self) -> None:
        machines = [stored.account for stored in self.book.accounts]
        facts = Counter((known.workspace, known.platform, known.state, known.paused) for known in machines)
        assert self.book.counts == facts

    @invariant()
    def a_suspect_has_a_time_to_be_confirmed_and_every_live_account_a_turn(self) -> None:
        for stored in self.book.accounts:
            suspected = stored.account.state is State.SUSPECT
            assert (stored.account.confirm_by is not None) == suspected
            assert (stored.probe_at is None) == (stored.account.state is State.REMOVED)
            assert not suspected or stored.probe_lane <= Lane.CONFIRM

    @invariant()
    def every_move_is_in_the_history(self) -> None:
        assert self.book.moves >= self.moves

    @invariant()
    def whoever_is_broken_has_word_on_its_way_or_handed_over_or_withheld_during_a_pause(self) -> None:
        paused = {stored.id for stored in self.book.accounts if stored.account.paused}
        still_open = {incident.id for incident in self.book.open}
        for notice in self.book.notices:
            if notice.incident_id in still_open and notice.kind is NoticeKind.OPENED:
                assert notice.status is not NoticeStatus.DROPPED
                assert notice.status is not NoticeStatus.HELD or notice.account_id in paused

    @initialize(known=st.booleans())
    def begins(self, known: bool) -> None:
        if known:
            self.lists()
            self.sweeps()


TestAccountsInAnyOrder = Accounts.TestCase
TestAccountsInAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
