"""The promises, made precise, and checked against the disk after every step and in whole once a day.

Reads the database by a connection of its own and in plain SQL: the code under test does not judge itself.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from healthd.core.contacts import Hours
from healthd.core.model import BROKEN, NoticeKind, State
from healthd.engine import Change
from healthd.store.schema import EPOCH
from tests.simulation.channels import Message
from tests.simulation.life import Life
from tests.simulation.record import Record

_BROKEN = tuple(str(state) for state in BROKEN)
_MICROSECOND = timedelta(microseconds=1)
_TROUBLE = frozenset({NoticeKind.OPENED, NoticeKind.REMINDER, NoticeKind.ESCALATED})
_NAGS = frozenset({NoticeKind.REMINDER, NoticeKind.ESCALATED})
HANDING_OVER = timedelta(seconds=5)
"""A message is judged before it is handed over, and that takes a moment."""
SLACK = timedelta(minutes=12)
"""Confirmation, and the provider's clock beside ours."""


def micros(at: datetime) -> int:
    return (at - EPOCH) // _MICROSECOND


@dataclass
class Watch:
    """``most`` messages may one recipient get about one incident."""

    database: str
    life: Life
    record: Record
    now: Callable[[], datetime]
    most: int
    hours: Mapping[str, Hours]
    operator: str
    _openings: dict[tuple[str, str], str] = field(default_factory=dict)
    _told: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _connection: sqlite3.Connection | None = None

    def _ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        if self._connection is None:
            self._connection = sqlite3.connect(self.database, isolation_level=None)
        with closing(self._connection.execute(query, values)) as cursor:
            return cursor.fetchall()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _none(self, promise: str, what: str, query: str, *values: object) -> None:
        """The query finds what must not be: its first column is an account's ref."""
        found = self._ask(query, *values)
        if found:
            self.record.violated(promise, f"{what}: {found[0]} ({len(found)} in all)", str(found[0][0]))

    def committed(self, changes: Iterable[Change]) -> None:
        """After a transaction: what it touched is whole."""
        for change in changes:
            if change.moved or change.opened or change.resolved:
                self.record.note(
                    change.ref, f"{change.before} → {change.after}", f"{change.source} said {change.signal}"
                )
                self._account(change)

    def _account(self, change: Change) -> None:
        [(state, confirm_by, opened)] = self._ask(
            "select state, confirm_by, (select count(*) from incidents i where i.account_id = a.id and"
            " i.resolved_at is null) from accounts a where id = ?",
            change.account_id,
        )
        if opened != int(state in _BROKEN):
            self.record.violated("S1", f"{opened} incidents are open while it is {state}", change.ref)
        if (state == State.SUSPECT) != (confirm_by is not None):
            self.record.violated("S2", f"it is {state} and is to be confirmed by {confirm_by}", change.ref)
        if change.opened is not None:
            self._opened(change)
        if change.resolved is not None:
            self._none(
                "P5", "a message about what is repaired still waits",
                "select ?, kind, status from notices where incident_id = ? and kind in ('opened', 'reminder')"
                " and status in ('pending', 'held')",
                change.ref, change.resolved.id,
            )  # fmt: skip

    def _opened(self, change: Change) -> None:
        incident = change.opened
        assert incident is not None
        waiting = self._ask("select count(*) from notices where incident_id = ? and kind = 'opened'", incident.id)
        if waiting[0][0] == 0:
            self.record.violated("P3", "an incident was opened and nobody is to be told", change.ref)
        now, account = self.now(), self.life.sandbox.world.accounts.get(int(change.ref))
        since = min(incident.broken_at, now) - SLACK
        if incident.confirmed_at is not None:
            if not self.life.looked_broken(account, change.ref, since, now + SLACK) and not self._was_error(change):
                self.record.violated("P2", "an incident was opened, but no reading can have said so", change.ref)
        elif not any(since - timedelta(days=91) <= at for at in self.life.said[change.ref]):
            self.record.violated("P2", "an incident was opened on nobody's word", change.ref)

    def _was_error(self, change: Change) -> bool:
        """A hiccup in which an event, true or false, said *disconnected* is a second witness."""
        return change.after is State.DISCONNECTED and bool(self.life.said[change.ref])

    def arrived(self, message: Message) -> None:
        """A person or a robot has a message in hand."""
        rows = self._ask(
            "select a.ref, a.paused and a.auto_paused_at is null, n.subject, i.resolved_at, s.began_at, s.ended_at,"
            " n.doubtful,"
            " max(coalesce(i.acknowledged_until, 0), coalesce(i.snoozed_until, 0))"
            " from notices n left join accounts a on a.id = n.account_id left join incidents i on i.id = n.incident_id"
            " left join storms s on s.id = i.storm_id where n.id = ? or n.group_id = ? order by n.id",
            message.notice_id, message.notice_id,
        )  # fmt: skip
        if not rows:
            self.record.violated("P4", "a message was sent that is not on record", message.notice_id)
        self.record.note(str(rows[0][0]), f"message: {message.kind}", f"{message.to}, {len(rows)} in one")
        self._at_a_good_hour(message, str(rows[0][0]))
        for ref, paused, subject, resolved_at, began_at, ended_at, doubtful, taken_until in rows:
            # What may have arrived before is repeated as it was, for as long as any of it is true.
            repeated = doubtful and len(rows) > 1
            if message.kind in _TROUBLE and not repeated:
                self._still_true(str(ref), paused, resolved_at)
            if message.kind is NoticeKind.OPENED and not repeated:
                self._not_in_a_storm(str(ref), began_at, ended_at)
            if message.kind in _NAGS and not repeated and int(str(taken_until)) > micros(self.now()):
                self.record.violated("W5", f"a person got a {message.kind} although somebody is on it", str(ref))
            self._count(message, str(subject), str(ref))

    def _ago(self, at: object) -> timedelta:
        return self.now() - (EPOCH + int(str(at)) * _MICROSECOND)

    def _at_a_good_hour(self, message: Message, ref: str) -> None:
        hours = self.hours.get(message.to)
        if hours is not None and not hours.allows(self.now()) and not hours.allows(self.now() - HANDING_OVER):
            self.record.violated("W2", f"{message.to} got a message in quiet hours", ref)

    def _still_true(self, ref: str, paused: object, resolved_at: object) -> None:
        # Handing over takes a moment, in which the repair may be committed.
        if resolved_at is not None and self._ago(resolved_at) > HANDING_OVER:
            self.record.violated("P5", f"a person was told of trouble {self._ago(resolved_at)} after its end", ref)
        if paused:
            self.record.violated("S5", "a person was told of trouble with a paused account", ref)

    def _not_in_a_storm(self, ref: str, began_at: object, ended_at: object) -> None:
        if began_at is not None and ended_at is None and self._ago(began_at) > HANDING_OVER:
            self.record.violated("W4", "a person was told in the midst of a storm", ref)

    def _count(self, message: Message, subject: str, ref: str) -> None:
        key = (subject, message.to)
        counts = self._told[key]
        if message.kind in {NoticeKind.OPENED, NoticeKind.STORM}:
            known = self._openings.setdefault(key, message.notice_id)
            if known != message.notice_id and not self._in_doubt(known):
                self.record.violated("P4", "one incident was told twice as new", ref)
        if counts[message.notice_id] == 0 and len(counts) >= self.most:
            self.record.violated("P4", f"more than {self.most} messages about one incident", ref)
        counts[message.notice_id] += 1

    def _in_doubt(self, notice_id: str) -> bool:
        """Of a message about several accounts nobody knew whether it had arrived, and since then some were repaired."""
        return bool(self._ask("select 1 from notices where id = ? and doubtful", notice_id))

    def day(self) -> None:
        """The whole store, once a day."""
        self._none(
            "S16", "the kept counts are not the table's",
            "select workspace || '/' || platform || '/' || state, sum(n) from ("
            " select workspace, platform, state, paused, count(*) n from accounts group by 1, 2, 3, 4 union all"
            " select workspace, platform, state, paused, -total from account_counts)"
            " group by workspace, platform, state, paused having sum(n) != 0",
        )  # fmt: skip
        self._none(
            "S1", "open incidents and broken accounts do not match",
            "select a.ref, a.state, count(i.id) from accounts a left join incidents i on i.account_id = a.id and"
            " i.resolved_at is null group by a.id having count(i.id) != (a.state in ('expired', 'disconnected'))",
        )  # fmt: skip
        self._none(
            "P3", "an open incident of which nobody was told, is to be told, or withheld with a reason",
            "select a.ref, i.id from incidents i join accounts a on a.id = i.account_id where i.resolved_at is null"
            " and not exists (select 1 from notices n where n.incident_id = i.id and (n.status in"
            " ('pending', 'sending', 'sent') or n.reason is not null))",
        )  # fmt: skip
        self._none(
            "P5", "a message about a resolved incident still waits",
            "select a.ref, n.kind from notices n join incidents i on i.id = n.incident_id join accounts a on"
            " a.id = n.account_id where i.resolved_at is not null and n.kind in ('opened', 'reminder', 'escalated') and"
            " n.status in ('pending', 'held')",
        )  # fmt: skip
        self._none(
            "W3", "a message is held for what is over",
            "select a.ref, n.hold from notices n join accounts a on a.id = n.account_id left join storms s on"
            " n.hold = 'storm:' || s.id where n.status = 'held' and (s.ended_at is not null or n.hold is null or"
            " (n.hold = 'paused' and not a.paused))",
        )  # fmt: skip
        self._none(
            "W4", "a storm of which its operator is not told once",
            "select s.id, count(n.id) from storms s left join notices n on n.storm_id = s.id and n.kind = 'storm' group"
            " by s.id having count(n.id) != 1",
        )  # fmt: skip
        self._none(
            "L1", "a live account that nobody will ever look at again",
            "select ref, state from accounts where probe_at is null and state != 'removed'",
        )  # fmt: skip

    def while_up(self, since: datetime) -> None:
        """Once an hour, if the daemon has been up for a while by then."""
        now = self.now()
        if now - since < timedelta(minutes=10):
            return
        self._none(
            "S2", "an account is stuck in suspicion",
            "select ref, confirm_by from accounts where state = 'suspect' and confirm_by < ?",
            micros(now - timedelta(minutes=2)),
        )  # fmt: skip
        self._none(
            "L2", "a webhook that was acknowledged is not looked at",
            "select event_id, received_at from inbox where status = 'new' and received_at < ?",
            micros(now - timedelta(minutes=2)),
        )  # fmt: skip
        self._none(
            "L4", "a message is due and nobody sends it",
            "select a.ref, n.due_at, n.status from notices n join accounts a on a.id = n.account_id where n.status in"
            " ('pending', 'sending') and n.due_at < ? and coalesce(n.lease_until, 0) < ?",
            micros(now - timedelta(minutes=10)), micros(now - timedelta(minutes=10)),
        )  # fmt: skip

    def at_rest(self) -> None:
        """After two days without faults."""
        self.day()
        self._truth()
        self._none("L4", "the outbox has not drained",
                   "select a.ref, n.kind, n.status, n.due_at from notices n join accounts a on a.id = n.account_id"
                   " where n.status in ('pending', 'sending') and n.due_at < ?", micros(self.now()))  # fmt: skip
        self._none("W3", "a storm that never ends", "select id, began_at from storms where ended_at is null")
        self._none("L2", "the inbox has not drained", "select event_id from inbox where status = 'new'")
        self._none("S2", "an account is still suspect", "select ref from accounts where state = 'suspect'")
        self._none(
            "L5", "a repair that was never told to somebody who knew of the trouble",
            "select a.ref, n.channel, n.address from notices n join incidents i on i.id = n.incident_id join accounts a"
            " on a.id = n.account_id where n.kind in ('opened', 'escalated') and n.status = 'sent' and"
            " i.resolution = 'repaired' and"
            " not exists (select 1 from notices r where r.incident_id = n.incident_id and r.kind = 'resolved' and"
            " r.channel = n.channel and r.address = n.address)",
        )  # fmt: skip

    def _truth(self) -> None:
        """P8: what we believe is what the provider says."""
        world = self.life.sandbox.world
        for ref, state, paused in self._ask("select ref, state, paused from accounts"):
            account = world.accounts.get(int(str(ref)))
            if account is None:
                wanted = {State.REMOVED}
            elif account.token_expired:
                wanted = {State.EXPIRED}
            elif account.status == "error":
                wanted = {State.DISCONNECTED, State.EXPIRED}
            else:
                wanted = {State.HEALTHY, State.EXPIRING}
            if state not in wanted:
                self.record.violated("P8", f"it is {state}, the provider's truth is {wanted}", str(ref))
            if account is not None and bool(paused) == account.is_active:
                self.record.violated(
                    "P8", f"paused is {bool(paused)}, the provider says {not account.is_active}", str(ref)
                )
        known = {str(row[0]) for row in self._ask("select ref from accounts")}
        missing = [number for number in world.accounts if str(number) not in known]
        if missing:
            self.record.violated("P8", f"{len(missing)} accounts were never found", str(missing[0]))
