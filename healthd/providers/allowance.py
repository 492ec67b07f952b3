"""The share of a workspace's API allowance that healthd may use, and who may use it first.

The provider counts all of a workspace's keys together, the customer's own publishing among them
(https://docs.smartlyq.com/guides/rate-limits). So there are two rules: never more than our share in any minute, and
less than that, down to nothing, when the customer's own traffic leaves little.

A minute is longer than a restart, and a command may run beside the daemon: so what is spent stands in a ``Record`` that
all processes of a store share, and a call goes out only once it stands there. Calls that may go together are put there
together, exactly as many as may go: no stock is taken in advance that a kill would waste, and a clean end has nothing
left to write. Each process counts its own calls by its steady clock, and only those of others by the record, whose
times are coarser and lie on the safe side.

What this cannot see: a wall clock that is set forward between two lives makes the first one's calls look older, and
calls made while the store could not be written are on record only once it can.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from healthd.core.model import Lane

log = structlog.get_logger("healthd.allowance")

WINDOW = 60.0
"""Seconds over which the provider counts."""
FIRST_LIMIT = 60
"""Requests a minute to expect before the provider has named its limit: its smallest tier."""
HIGHEST_LIMIT = 100_000
"""Requests a minute beyond which a limit is taken for a mistake."""
LONGEST_PAUSE = 3600.0
PATIENCE = 2.0
"""Seconds to wait for the record: as long as a webhook waits for the same store."""
SETTLING = PATIENCE + 1.0
"""Seconds by which a call may go out after the time at which it stands on record, in whole seconds."""
_CLOCKS_DIFFER = 0.001
"""Seconds by which a spend of others is remembered longer than the record keeps it: asked again in the moment between,
it would refuse for ever.
"""

SHARE_BY_LANE: Mapping[Lane, float] = {Lane.CLICK: 1.0, Lane.CONFIRM: 0.95, Lane.BULK: 0.85, Lane.ROTATION: 0.7}
"""How much of our share a lane may fill: what is left over is there for those more urgent."""
RESERVE_BY_LANE: Mapping[Lane, float] = {Lane.CLICK: 0.0, Lane.CONFIRM: 0.05, Lane.BULK: 0.1, Lane.ROTATION: 0.25}
"""How much of the whole limit must be left for the customer before a lane takes anything."""
LONGEST_BEHIND = 5.0
"""Seconds for which a sweep lets more urgent calls go first. Then it is as urgent as they: its one answer may be that
to thousands of them, which could keep it waiting for ever.
"""
_SLOWEST = 0.1
_RECOVERY = 0.1


@dataclass(frozen=True, slots=True)
class Taking:
    """What a process puts on record before its calls go out."""

    calls: int
    """How many are about to go, if they may."""
    beside: int
    """How many calls of others within the last minute leave room for these."""
    owed: int = 0
    """Calls that went out while there was no record to be had."""
    limit: int | None = None
    """The provider's limit, if it was learnt just now."""
    pause: float = 0.0
    """Seconds for which the provider asked just now to be left alone."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the record says of a workspace. The calls stand there only if they are ``granted``."""

    granted: bool
    others: Sequence[tuple[float, int]] = ()
    """Calls of other processes and earlier lives: how many seconds ago, and how many."""
    limit: int | None = None
    pause: float = 0.0
    """Seconds that are left of a pause."""


class Record(Protocol):
    """What outlives a process, and what several share."""

    @property
    def workspace(self) -> str: ...

    async def take(self, taking: Taking) -> Standing:
        """Puts calls on record in one transaction, unless there is a pause or others have taken more than ``beside``.

        May raise anything, and take its time: calls go on without it after ``PATIENCE``.
        """


class Ledger:
    """The bookkeeping, told the time in seconds of one steady clock; it waits for nothing."""

    def __init__(self, rate_share: float, limit: int = FIRST_LIMIT) -> None:
        self.rate_share = rate_share
        self.limit = limit
        self._sent: deque[float] = deque()
        self._heard: deque[float] = deque()
        self._remaining: int | None = None
        self._reset_at = 0.0
        self.paused_until = 0.0
        self._slowdown = 1.0
        self._slowed_at = 0.0

    @property
    def share(self) -> int:
        """Requests a minute that are ours."""
        return max(1, int(self.limit * self.rate_share * self._slowdown))

    def used(self, now: float) -> int:
        """Our requests within the last minute, those of other processes among them."""
        return self.own(now) + self.others(now)

    def own(self, now: float) -> int:
        return _within_the_minute(self._sent, now)

    def others(self, now: float) -> int:
        return _within_the_minute(self._heard, now)

    def room(self, lane: Lane, now: float) -> int:
        """How many requests in this lane may go now."""
        if now < self.paused_until:
            return 0
        room = self._allowed(lane) - self.used(now)
        if self._remaining is not None and now < self._reset_at:
            room = min(room, math.ceil(self._remaining - self.limit * RESERVE_BY_LANE[lane]))
        return max(0, room)

    def wait(self, lane: Lane, now: float) -> float:
        """Seconds until a request in this lane may be worth another look; 0 when it may go now."""
        if now < self.paused_until:
            return self.paused_until - now
        too_many = self.used(now) - self._allowed(lane)
        if too_many >= 0:
            oldest_first = heapq.merge(self._sent, self._heard)
            return next(itertools.islice(oldest_first, too_many, None)) + WINDOW - now
        return 0.0 if self.room(lane, now) else self._reset_at - now

    def _allowed(self, lane: Lane) -> int:
        return max(1, int(self.share * SHARE_BY_LANE[lane]))

    def spend(self, now: float) -> None:
        self._recover(now)
        self._sent.append(now)
        if self._remaining is not None:
            self._remaining -= 1

    def refund(self) -> None:
        """The latest request was not made after all."""
        if self._sent:
            self._sent.pop()
        if self._remaining is not None:
            self._remaining += 1

    def hear(self, standing: Standing, now: float) -> None:
        """Takes over what others did, and the pause that they were asked for."""
        times = (now - age + SETTLING + _CLOCKS_DIFFER for age, calls in standing.others for _ in range(calls))
        self._heard = deque(sorted(times))
        if standing.pause <= max(0.0, self.paused_until - now):
            return
        if self._slowdown < 1.0:  # this refusal, or an earlier one, has slowed us down already
            self.paused_until = self._slowed_at = now + standing.pause
        else:
            self.refused(standing.pause, now)

    def learn(self, limit: int, remaining: int, reset_in: float, now: float) -> None:
        """Takes over what an answer's ``X-RateLimit-*`` headers said; nonsense is passed over."""
        if 0 < limit <= HIGHEST_LIMIT:
            self.limit = limit
        if 0 <= remaining <= self.limit:
            self._remaining = remaining
            self._reset_at = now + min(max(reset_in, 1.0), WINDOW)

    def refused(self, seconds: float, now: float) -> None:
        """The provider said *too many*: stop for so long, then go on at half the pace, rising again by the minute.

        A refusal during the pause is of a request that was under way when it began, and halves nothing again.
        """
        if now >= self.paused_until:
            self._slowdown = max(_SLOWEST, self._slowdown / 2)
        self.paused_until = max(self.paused_until, now + min(max(seconds, 1.0), LONGEST_PAUSE))
        self._slowed_at = self.paused_until

    def _recover(self, now: float) -> None:
        if self._slowdown < 1.0 and now - self._slowed_at >= WINDOW:
            self._slowdown = min(1.0, self._slowdown + _RECOVERY)
            self._slowed_at = now


def _within_the_minute(times: deque[float], now: float) -> int:
    while times and times[0] <= now - WINDOW:
        times.popleft()
    return len(times)


@dataclass(order=True, slots=True)
class _Waiter:
    lane: Lane
    number: int
    turn: asyncio.Future[None]
    since: float = 0.0


class Allowance:
    """The budget of one workspace. Calls wait here for their turn: the most urgent first, then in order of arrival.

    Without a ``record`` nothing is known of other processes, and nothing outlives this one. Time is the running
    loop's, so that a virtual one drives it as well.
    """

    def __init__(self, rate_share: float = 0.5, initial_limit: int = FIRST_LIMIT, record: Record | None = None) -> None:
        self.ledger = Ledger(rate_share, initial_limit)
        self._queue: list[_Waiter] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._record = record
        self._recording: asyncio.Task[None] | None = None
        self._granted = math.inf if record is None else 0
        self._record_read = False
        self._unrecorded = 0
        self._learnt: int | None = None
        self._stopped = False
        self._failing = False

    @property
    def limit(self) -> int:
        return self.ledger.limit

    @property
    def share(self) -> int:
        return self.ledger.share

    @property
    def used(self) -> int:
        return self.ledger.used(_now())

    @property
    def waiting(self) -> Mapping[Lane, int]:
        return Counter(waiter.lane for waiter in self._queue if not waiter.turn.done())

    @property
    def longest_wait(self) -> float:
        """Seconds for which the most patient of those who wait has waited."""
        return max((_now() - waiter.since for waiter in self._queue if not waiter.turn.done()), default=0.0)

    async def take(self, lane: Lane) -> None:
        """Returns when it is this call's turn; the request is then counted as sent."""
        waiter = _Waiter(lane, next(self._numbers), asyncio.get_running_loop().create_future(), _now())
        heapq.heappush(self._queue, waiter)
        self._serve()
        aging = asyncio.get_running_loop().call_later(LONGEST_BEHIND, self._age, waiter) if lane is Lane.BULK else None
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if not waiter.turn.cancelled():  # the turn came in the moment in which its caller gave up
                self.ledger.refund()
                self._serve()
            raise
        finally:
            if aging is not None:
                aging.cancel()

    def _age(self, waiter: _Waiter) -> None:
        waiter.lane = Lane.CONFIRM
        heapq.heapify(self._queue)
        self._serve()

    def learn(self, limit: int, remaining: int, reset_in: float) -> None:
        """What the provider said of its limit; ``reset_in`` in seconds."""
        before = self.ledger.limit
        self.ledger.learn(limit, remaining, reset_in, _now())
        if self.ledger.limit != before:
            self._learnt = self.ledger.limit
            self._put_on_record_soon()
        self._serve()

    def refused(self, seconds: float) -> None:
        """The provider asked us to stop for so many seconds."""
        self.ledger.refused(seconds, _now())
        self._stopped = True
        self._put_on_record_soon()

    async def close(self) -> None:
        """Lets what is being put on record come to its end."""
        if self._timer is not None:
            self._timer.cancel()
        if self._recording is not None:
            await asyncio.wait([self._recording], timeout=PATIENCE)
            self._recording.cancel()

    def _serve(self) -> None:
        """Lets go whoever may go. A lane that must wait holds back the less urgent ones, which may do less still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = _now()
        while self._queue:
            first = self._queue[0]
            if first.turn.done():  # its caller gave up
                heapq.heappop(self._queue)
                continue
            wait = self.ledger.wait(first.lane, now)
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self._serve)
                return
            if self._granted < 1:
                self._put_on_record_soon()
                return
            heapq.heappop(self._queue)
            self._granted -= 1
            self.ledger.spend(now)
            first.turn.set_result(None)

    def _ready(self) -> int:
        """How many of those who wait may go now."""
        now, waiting, ready = _now(), self.waiting, 0
        for lane in sorted(waiting):
            going = min(waiting[lane], self.ledger.room(lane, now) - ready)
            ready += max(0, going)
            if going < waiting[lane]:
                break
        return ready

    def _put_on_record_soon(self) -> None:
        if self._record is not None and (self._recording is None or self._recording.done()):
            self._recording = asyncio.create_task(self._keep(self._record))

    async def _keep(self, record: Record) -> None:
        """Puts on record what is about to go and then lets it go, until nobody may go and there is no news."""
        while (calls := self._ready()) or self._learnt or self._stopped:
            granted = await self._put_on_record(record, calls)
            # A full disk must not stop the looking: calls go on as this process alone counts them, and are owed.
            self._granted = calls if granted is None else granted
            self._serve()
            if granted is None:
                self._unrecorded += calls - int(self._granted)
            # Whoever has given up meanwhile leaves a place that is not used later: the record knows its time.
            self._granted = 0
            if granted is None and not calls:
                return

    async def _put_on_record(self, record: Record, calls: int) -> int | None:
        """How many calls may go by the record; ``None`` when there is none to be had."""
        asked = _now()
        if not self._record_read:
            calls = 0
        owed = min(self._unrecorded, self.ledger.own(asked))
        learnt, stopped, self._learnt, self._stopped = self._learnt, self._stopped, None, False
        pause = max(0.0, self.ledger.paused_until - asked) if stopped else 0.0
        try:
            async with asyncio.timeout(PATIENCE):
                standing = await record.take(Taking(calls, self.ledger.others(asked), owed, learnt, pause))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the looking
            self._learnt, self._stopped = self._learnt or learnt, self._stopped or stopped
            self._record_fails(record, error)
            return None
        self._record_fails(record, None)
        self._record_read = True
        self._unrecorded = 0
        self.ledger.hear(standing, asked)
        if self._learnt is None and standing.limit is not None:
            self.ledger.limit = standing.limit
        return calls if standing.granted else 0

    def _record_fails(self, record: Record, error: Exception | None) -> None:
        """Says so when it begins, and when it is over."""
        if error is not None and not self._failing:
            reason = str(error) or type(error).__name__
            log.warning("allowance.not_on_record", workspace=record.workspace, reason=reason)
        elif error is None and self._failing:
            log.info("allowance.on_record_again", workspace=record.workspace)
        self._failing = error is not None


def _now() -> float:
    return asyncio.get_running_loop().time()
