"""An engine at work on a real store, with a clock that a test winds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from healthd.core.cadence import Cadence
from healthd.core.model import (
    Account,
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
from healthd.core.routing import Routing
from healthd.dispatch import Dispatch
from healthd.engine import Change, Engine
from healthd.store import accounts, incidents, migrations, notices
from healthd.store.accounts import StoredAccount
from healthd.store.database import sqlite_engine
from healthd.store.incidents import Incident
from healthd.store.notices import Draft, Holding, StoredNotice

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
ADA, SLACK = Target("mail", "ada@acme.example"), Target("slack")


def told_at_once(*default: Target, **choices: Any) -> Dispatch:
    """Ada is told of everything, and no message waits for another, unless the test says otherwise."""
    cadence = replace(choices.pop("cadence", Cadence()), group_wait=timedelta(0), group_interval=timedelta(0))
    return Dispatch(**{"routing": Routing(default=default or (ADA,)), "cadence": cadence, **choices})


@cache
def _database() -> Database:
    database = sqlite_engine("sqlite://")
    with database.begin() as connection:
        migrations.upgrade(connection)
    return database


@contextmanager
def empty_store() -> Iterator[Connection]:
    """A transaction on an empty store that is undone at the end."""
    with _database().connect() as connection:
        yield connection
        connection.rollback()


@dataclass
class Desk:
    """What comes in, told briefly. ``platform`` makes readings create their accounts."""

    connection: Connection
    engine: Engine = field(default_factory=lambda: Engine(dispatch=told_at_once(), rng=random.Random(1)))
    now: datetime = NOON
    platform: str | None = "facebook"

    def reading(self, signal: Signal, ref: str = "1", source: Source = Source.HEALTH, **facts: Any) -> Observation:
        at = self.now.replace(microsecond=0)
        return Observation(ref, signal, source, **{"at": at, "asked_at": self.now, "platform": self.platform, **facts})

    def event(self, signal: Signal, ref: str = "1", **facts: Any) -> Observation:
        return self.reading(signal, ref, Source.WEBHOOK, asked_at=None, **facts)

    def apply(self, *observations: Observation, profile: str = "") -> list[Change]:
        self.now += timedelta(milliseconds=1)
        return self.engine.apply(self.connection, "acme", observations, self.now, profile)

    def discover(self, *listed: Listed, profile: str = "", **options: Any) -> list[Change]:
        self.now += timedelta(milliseconds=1)
        changes = self.engine.discover(self.connection, "acme", listed, self.now, profile, **options)
        self.engine.answers_again(self.connection, "acme", [entry.ref for entry in listed], self.now)
        return changes

    def read(self, signal: Signal, ref: str = "1", **facts: Any) -> Change:
        (change,) = self.apply(self.reading(signal, ref, **facts))
        return change

    def hear(self, signal: Signal, ref: str = "1", **facts: Any) -> Change:
        (change,) = self.apply(self.event(signal, ref, **facts))
        return change

    def time_out(self) -> list[Change]:
        self.now += timedelta(milliseconds=1)
        return self.engine.time_out(self.connection, self.now)

    def stored(self, ref: str = "1") -> StoredAccount:
        return accounts.load(self.connection, "acme", [ref])[ref]

    def state(self, ref: str = "1") -> State:
        return self.stored(ref).account.state

    def account(self, ref: str = "1") -> Account:
        return self.stored(ref).account

    def turn(self, ref: str = "1") -> tuple[datetime | None, Lane]:
        found = self.stored(ref)
        return found.probe_at, found.probe_lane

    def incident(self, ref: str = "1") -> Incident | None:
        return incidents.open_for(self.connection, self.stored(ref).id)

    def notices(self, ref: str = "1") -> list[StoredNotice]:
        """Oldest first."""
        return notices.of_account(self.connection, self.stored(ref).id)[::-1]

    def told(self, ref: str = "1") -> list[tuple[str, str]]:
        """``(kind, status)`` of the account's notices."""
        return sorted((notice.kind, notice.status) for notice in self.notices(ref))

    def remind(self, target: Target, due: datetime, ref: str = "1") -> None:
        """Plans the first reminder, as the outbox does once the opening has been sent."""
        incident, account = self.incident(ref), self.stored(ref)
        assert incident is not None
        draft = Draft(
            subject=incident.id, kind=NoticeKind.REMINDER, target=target, created_at=due, due_at=due, step=1,
            incident_id=incident.id, account_id=account.id, family="acme",
        )  # fmt: skip
        notices.write(self.connection, [draft])

    def hand_over(
        self,
        status: Callable[[StoredNotice], NoticeStatus | None] = lambda _: NoticeStatus.SENT,
        holding: Holding | None = None,
    ) -> int:
        """Does with every due notice what the outbox would; a ``None`` is a crash before its end was recorded."""
        cadence, until = self.engine.dispatch.cadence, self.now + 3 * MINUTE
        claimed = notices.claim(self.connection, self.now, f"lease-{self.now}", until, 100, (), cadence)
        for notice in (notice for batch in claimed for notice in batch.notices):
            outcome = status(notice)
            if outcome is not None:
                notices.settle(self.connection, [notice], outcome, sent_at=self.now, holding=holding)
        return sum(len(batch.notices) for batch in claimed)

    def break_down(self, ref: str = "1") -> None:
        """Two bad readings: an incident is open."""
        for _ in range(2):
            self.now += SECOND
            self.read(Signal.BAD_TOKEN, ref)
