"""What the accounts live through at the provider, and what becomes of the webhooks about it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from healthd.sandbox.app import Sandbox
from healthd.sandbox.sender import Delivery, stamp
from healthd.sandbox.world import PLATFORMS, Account
from healthd.store.pauses import FRESH
from tests.simulation.record import Record
from tests.simulation.weather import KINDS, Weather

YEAR = timedelta(days=365)
UNSEEN = FRESH + timedelta(minutes=5)
"""So long a person's pause may be overlooked: healthd pauses on a sweep's word that is a little older."""
_POSTING = re.compile(r"/accounts/(\d+)/(pause|resume)$")
_REFUSED = {"code": "TOKEN_EXPIRED", "message": "The session has ended.", "retryable": False}
_ODD = {"code": "AUTH_FAILED", "message": "Not now.", "retryable": True}


@dataclass(frozen=True, slots=True)
class Trouble:
    """How bad the world is. Rates are for one account and year, or for the whole world and year; parts are of all."""

    breaks: float = 0.8
    disconnects: float = 0.15
    hiccups: float = 0.1
    pauses: float = 0.1
    deletions: float = 0.03
    newcomers: float = 0.03
    false_alarms: float = 0.1
    repaired_elsewhere: float = 0.1
    failed_posts: float = 400
    """For each account, while it is broken."""
    odd_posts: float = 0.2
    """Posts that fail like those of a broken account, of one that is well."""
    auto_pause: float = 1
    """Whether healthd pauses what is broken."""
    api_storms: float = 20
    drizzle: float = 0.003
    platform_outages: float = 2
    channel_outages: float = 8
    flaky_channels: float = 0.02
    people_leave: float = 2
    own_traffic: float = 200
    lost: float = 0.1
    doubled: float = 0.1
    delayed: float = 0.1
    kills: float = 1 / 2500
    """The chance of each commit to be the last."""
    skew: float = 30.0
    """Seconds by which our clock may be wrong after a restart."""


@dataclass
class Life:
    """Lets things happen, in the order of their times."""

    sandbox: Sandbox
    weather: Weather
    trouble: Trouble
    rng: random.Random
    record: Record
    now: Callable[[], datetime]
    disturb_channel: Callable[[bool], None]
    someone_leaves: Callable[[], None]
    ended: bool = False
    _agenda: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    bad: dict[str, list[tuple[datetime, datetime | None]]] = field(default_factory=lambda: defaultdict(list))
    """By ref: from when to when the provider's readings say that the account is broken."""
    said: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    """By ref: when an event said that it is broken."""
    down: dict[str, list[tuple[datetime, datetime | None]]] = field(default_factory=lambda: defaultdict(list))
    paused: dict[str, datetime] = field(default_factory=dict)
    """By ref: since when a person has paused it."""
    _tried: set[str] = field(default_factory=set)
    """What healthd has tried to pause and not resumed since: whose pause it is then, nobody can tell."""

    def begin(self) -> None:
        """Draws the first of everything."""
        world = self.sandbox.world
        self.weather.called = self._called
        self._provider_tells = self.sandbox.api.tell
        self.sandbox.api.tell = self.tell  # type: ignore[method-assign]
        self._repair_unseen = world.repair
        world.repair = self._repaired  # type: ignore[method-assign]
        for account in list(world.accounts.values()):
            self._plan_for(account)
        plans: list[tuple[float, Callable[[], None]]] = [
            (self.trouble.api_storms, self._api_storm),
            (self.trouble.platform_outages, self._platform_outage),
            (self.trouble.channel_outages, self._channel_outage),
            (self.trouble.people_leave, self.someone_leaves),
            (self.trouble.own_traffic, self._own_traffic),
            (self.trouble.newcomers * len(world.accounts), self._newcomer),
        ]
        for rate, happens in plans:
            self._again(rate, happens)

    async def go_on(self) -> None:
        """Until everything is over."""
        while True:
            due = self._agenda[0][0] if self._agenda else self.now() + YEAR
            wait = (due - self.now()).total_seconds()
            if wait > 0:
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), wait)
                continue
            _, _, happens = heapq.heappop(self._agenda)
            happens()

    def end(self) -> None:
        """No new trouble; what is broken stays broken, and who repairs goes on repairing."""
        self.ended = True
        self._agenda.clear()
        self.weather.storm, self.weather.drizzle = "", 0.0
        for platform in list(self.sandbox.world.down):
            self._platform_up(platform)

    def at(self, span: timedelta, happens: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now() + span, next(self._numbers), happens))
        self._news.set()

    def _again(self, rate: float, happens: Callable[[], None], goes_on: Callable[[], bool] = lambda: True) -> None:
        """So many times a year, for as long as that goes on."""
        if rate <= 0:
            return

        def once() -> None:
            if goes_on():
                happens()
                self._again(rate, happens, goes_on)

        self.at(YEAR * self.rng.expovariate(rate), once)

    def _plan_for(self, account: Account) -> None:
        plans: list[tuple[float, Callable[[Account], None]]] = [
            (self.trouble.breaks, self._break),
            (self.trouble.disconnects, self._disconnect),
            (self.trouble.hiccups, self._hiccup),
            (self.trouble.pauses, self._pause),
            (self.trouble.deletions, self._delete),
            (self.trouble.false_alarms, self._false_alarm),
            (self.trouble.odd_posts, partial(self._post_fails, why=_ODD)),
        ]
        for rate, happens in plans:
            self._again(rate, partial(happens, account), lambda: account.id in self.sandbox.world.accounts)

    def _hours(self, mean: float) -> timedelta:
        return timedelta(hours=self.rng.expovariate(1 / mean))

    def looked_broken(self, account: Account | None, ref: str, since: datetime, until: datetime) -> bool:
        """Whether any reading within that time could have said that the account is broken."""
        spans = self.bad[ref] + (self.down[account.platform] if account is not None else [])
        return any(start <= until and (end is None or end >= since) for start, end in spans)

    def _goes_bad(self, account: Account) -> None:
        spans = self.bad[str(account.id)]
        if not spans or spans[-1][1] is not None:
            spans.append((self.now(), None))

    def _goes_well(self, ref: str) -> None:
        spans = self.bad[ref]
        if spans and spans[-1][1] is None:
            spans[-1] = spans[-1][0], self.now()

    def _break(self, account: Account) -> None:
        if account.broken:
            return
        self.sandbox.world.break_token(account)
        self._goes_bad(account)
        self.record.note(str(account.id), "token dies", account.platform)
        self.tell(account, "account.token_expired", reason="Token expired.")
        self._again(
            self.trouble.failed_posts, partial(self._post_fails, account), lambda: self._publishes_in_vain(account)
        )
        if self.rng.random() < self.trouble.repaired_elsewhere:
            self.at(self._hours(24), lambda: self._repair_elsewhere(account))

    def _repair_elsewhere(self, account: Account) -> None:
        if account.broken and account.id in self.sandbox.world.accounts:
            self.sandbox.world.repair(account)
            self.tell(account, "account.connected")

    def _disconnect(self, account: Account) -> None:
        if account.broken:
            return
        self.sandbox.world.break_connection(account)
        self._goes_bad(account)
        self.record.note(str(account.id), "connection breaks", account.platform)
        self.tell(account, "account.disconnected", reason="Access was revoked.")
        self._again(
            self.trouble.failed_posts, partial(self._post_fails, account), lambda: self._publishes_in_vain(account)
        )

    def _publishes_in_vain(self, account: Account) -> bool:
        return account.broken and account.id in self.sandbox.world.accounts

    def _post_fails(self, account: Account, why: dict[str, Any] = _REFUSED) -> None:
        """Nobody publishes to what is paused."""
        how = self._way(f"post of {account.id}") if account.is_active else None
        if how is not None:
            self.record.note(str(account.id), "post fails", why["code"])
            self.sandbox.api.tell_of_post(account, next(self._numbers), why, **how)

    def _hiccup(self, account: Account) -> None:
        """An error that goes away by itself within the hour that patience allows."""
        if account.broken:
            return
        account.status = "error"
        self.record.note(str(account.id), "hiccup begins")

        def over() -> None:
            if account.status == "error" and not account.token_expired and not self._is_bad(account):
                account.status = "connected"
                self.record.note(str(account.id), "hiccup ends")

        self.at(timedelta(minutes=self.rng.uniform(1, 50)), over)

    def _is_bad(self, account: Account) -> bool:
        spans = self.bad[str(account.id)]
        return bool(spans) and spans[-1][1] is None

    def _repaired(self, account: Account) -> None:
        self._repair_unseen(account)
        self._goes_well(str(account.id))
        self.record.note(str(account.id), "repaired", account.platform)

    def _pause(self, account: Account) -> None:
        ref = str(account.id)
        if not account.is_active:
            return
        account.is_active = False
        self.paused[ref] = self.now()
        self.record.note(ref, "paused")

        def resume() -> None:
            account.is_active = True
            self.paused.pop(ref, None)
            self.record.note(ref, "resumed")

        self.at(self._hours(72), resume)

    def _called(self, path: str, befalls: str) -> None:
        """healthd pauses and resumes, but nothing that a person has paused."""
        found = _POSTING.search(path)
        if found is None:
            return
        ref, what = found.groups()
        self.record.note(ref, f"healthd wants to {what} it", befalls)
        since, tried = self.paused.get(ref), ref in self._tried
        if since is not None and not tried and (what == "resume" or self.now() - since > UNSEEN):
            self.record.violated("S18", f"healthd would {what} what a person paused at {since}", ref)
        if what == "pause":
            self._tried.add(ref)
        elif not befalls:
            self._tried.discard(ref)

    def _delete(self, account: Account) -> None:
        self.sandbox.world.remove_account(account)
        self._goes_well(str(account.id))
        self.record.note(str(account.id), "deleted")
        self.tell(account, "account.disconnected", reason="Disconnected by its owner.")

    def _newcomer(self) -> None:
        account = self.sandbox.world.add_account("acme", self.rng.choice(PLATFORMS))
        self.record.note(str(account.id), "connected for the first time")
        self.tell(account, "account.connected")
        self._plan_for(account)

    def _false_alarm(self, account: Account) -> None:
        self.record.note(str(account.id), "false alarm")
        self.tell(account, "account.token_expired", reason="A worker was wrong.")

    def tell(self, account: Account, event: str, **more: Any) -> list[Delivery]:
        """The event's way: lost, doubled, late, or as it should be."""
        if event != "account.connected":
            self.said[str(account.id)].append(self.now())
        how = self._way(str(account.id), event)
        return [] if how is None else self._provider_tells(account, event, **(how | more))

    def _way(self, about: str, event: str = "") -> dict[str, Any] | None:
        """How a webhook goes; ``None`` where it is lost."""
        chance = self.rng.random()
        if chance < self.trouble.lost:
            self.record.note(about, "webhook lost", event)
            return None
        how: dict[str, Any] = {"created_at": stamp(self.now())}
        if chance < self.trouble.lost + self.trouble.delayed:
            how["delay"] = self.rng.expovariate(1 / 1800)
        if self.rng.random() < self.trouble.doubled:
            how["duplicates"] = self.rng.randint(1, 4)
        return how

    def _api_storm(self) -> None:
        kind = self.rng.choice(KINDS)
        self.weather.storm, self.weather.storm_share = kind, self.rng.choice((1.0, 1.0, 0.7))
        self.record.note("process", "api storm begins", kind)

        def over() -> None:
            if self.weather.storm == kind:
                self.weather.storm = ""
                self.record.note("process", "api storm ends", kind)

        self.at(self._hours(3), over)

    def _platform_outage(self) -> None:
        platform = self.rng.choice(PLATFORMS)
        if platform in self.sandbox.world.down:
            return
        self.sandbox.world.down.add(platform)
        self.down[platform].append((self.now(), None))
        self.record.note("process", "platform down", platform)
        for account in list(self.sandbox.world.accounts.values()):
            if account.platform == platform and not account.broken and self.rng.random() < 0.5:
                self.tell(account, "account.token_expired", reason="Token expired.")
        self.at(self._hours(2), lambda: self._platform_up(platform))

    def _platform_up(self, platform: str) -> None:
        if platform in self.sandbox.world.down:
            self.sandbox.world.down.discard(platform)
            self.down[platform][-1] = self.down[platform][-1][0], self.now()
            self.record.note("process", "platform up", platform)

    def _channel_outage(self) -> None:
        self.disturb_channel(True)
        self.at(self._hours(5), lambda: self.disturb_channel(False))

    def _own_traffic(self) -> None:
        """The customer publishes: a good part of a minute's allowance is gone."""
        workspace = self.sandbox.world.workspaces["acme"]
        limit = self.sandbox.world.rate_limit(workspace)
        self.sandbox.world.spend(workspace, int(limit * self.rng.uniform(0.2, 1.0)))
