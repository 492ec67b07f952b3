"""The share of a workspace's API allowance that healthd may use, and who may use it first.

The provider counts all of a workspace's keys together, the customer's own publishing among them
(https://docs.smartlyq.com/guides/rate-limits). So there are two rules: never more than our share in any minute, and
less than that, down to nothing, when the customer's own traffic leaves little.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from healthd.core.model import Lane

WINDOW = 60.0
"""Seconds over which the provider counts."""
FIRST_LIMIT = 60
"""Requests a minute to expect before the provider has named its limit: its smallest tier."""
HIGHEST_LIMIT = 100_000
"""Requests a minute beyond which a limit is taken for a mistake."""
LONGEST_PAUSE = 3600.0

SHARE_BY_LANE: Mapping[Lane, float] = {Lane.CLICK: 1.0, Lane.CONFIRM: 0.95, Lane.BULK: 0.85, Lane.ROTATION: 0.7}
"""How much of our share a lane may fill: what is left over is there for those more urgent."""
RESERVE_BY_LANE: Mapping[Lane, float] = {Lane.CLICK: 0.0, Lane.CONFIRM: 0.05, Lane.BULK: 0.1, Lane.ROTATION: 0.25}
"""How much of the whole limit must be left for the customer before a lane takes anything."""
_SLOWEST = 0.1
_RECOVERY = 0.1


class Ledger:
    """The bookkeeping, told the time in seconds of one steady clock; it waits for nothing."""

    def __init__(self, rate_share: float, limit: int = FIRST_LIMIT) -> None:
        self.rate_share = rate_share
        self.limit = limit
        self._sent: deque[float] = deque()
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
        """Our requests within the last minute."""
        while self._sent and self._sent[0] <= now - WINDOW:
            self._sent.popleft()
        return len(self._sent)

    def wait(self, lane: Lane, now: float) -> float:
        """Seconds until a request in this lane may be worth another look; 0 when it may go now."""
        if now < self.paused_until:
            return self.paused_until - now
        allowed = max(1, int(self.share * SHARE_BY_LANE[lane]))
        used = self.used(now)
        if used >= allowed:
            return self._sent[used - allowed] + WINDOW - now
        if (
            self._remaining is not None
            and now < self._reset_at
            and self._remaining <= self.limit * RESERVE_BY_LANE[lane]
        ):
            return self._reset_at - now
        return 0.0

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


@dataclass(order=True, slots=True)
class _Waiter:
    lane: Lane
    number: int
    turn: asyncio.Future[None]
    since: float = 0.0


class Allowance:
    """The budget of one workspace. Calls wait here for their turn: the most urgent first, then in order of arrival.

    Time is the running loop's, so that a virtual one drives it as well.
    """

    def __init__(self, rate_share: float = 0.5, initial_limit: int = FIRST_LIMIT) -> None:
        self.ledger = Ledger(rate_share, initial_limit)
        self._queue: list[_Waiter] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

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
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if not waiter.turn.cancelled():  # the turn came in the moment in which its caller gave up
                self.ledger.refund()
                self._serve()
            raise

    def learn(self, limit: int, remaining: int, reset_in: float) -> None:
        """What the provider said of its limit; ``reset_in`` in seconds."""
        self.ledger.learn(limit, remaining, reset_in, _now())
        self._serve()

    def refused(self, seconds: float) -> None:
        """The provider asked us to stop for so many seconds."""
        self.ledger.refused(seconds, _now())

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
            heapq.heappop(self._queue)
            self.ledger.spend(now)
            first.turn.set_result(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
