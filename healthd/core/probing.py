"""When an account is asked about by itself again, and how urgently."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from healthd.core.model import BROKEN, Account, Lane, State

CLICK_WINDOW = timedelta(minutes=15)
"""How long an account is watched closely after somebody asked for a link: as long as the provider's link lives."""
_CLICK_FASTEST = timedelta(seconds=5)
_CLICK_SLOWEST = timedelta(seconds=60)
_CONFIRM_EVERY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """``account_interval``: how often every account gets a check of its own, at the least."""

    account_interval: timedelta = timedelta(hours=6)

    @property
    def broken_interval(self) -> timedelta:
        return self.account_interval / 12

    @property
    def watch_interval(self) -> timedelta:
        return self.account_interval / 24


def next_probe(
    account: Account, clicked_at: datetime | None, now: datetime, policy: ProbePolicy, rng: random.Random
) -> tuple[datetime | None, Lane]:
    """When and in which lane an account is probed after what was just learnt of it; ``None`` for never again.

    After a click the pace starts at 5 s and slows to 60 s; the rotation is jittered so that accounts never bunch up.
    """
    if account.state is State.REMOVED:
        return None, Lane.ROTATION
    if account.state is State.SUSPECT:
        return now + _CONFIRM_EVERY * rng.uniform(0.8, 1.2), Lane.CONFIRM
    if account.state in BROKEN:
        if clicked_at is not None and now - clicked_at < CLICK_WINDOW:
            pace = min(max((now - clicked_at) / 6, _CLICK_FASTEST), _CLICK_SLOWEST)
            return now + pace, Lane.CLICK
        return now + policy.broken_interval * rng.uniform(0.8, 1.2), Lane.ROTATION
    interval = policy.watch_interval if account.error_since is not None else policy.account_interval
    return now + interval * rng.uniform(0.9, 1.0), Lane.ROTATION
