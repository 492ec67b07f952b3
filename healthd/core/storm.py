"""The gate for mass failures: when a platform breaks, people are not asked to repair what nobody has broken.

Hundreds of accounts that "expire" within minutes are one fault of the platform, or of whoever refreshes tokens there.
The people's notices are held, the operator gets one, accounts are looked at again, and the hold ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class StormPolicy:
    """More than ``least`` accounts, and more than ``share`` of a workspace's accounts of one platform, broken within
    ``window`` make a storm. It abates when nothing has broken for ``calm``; ``longest`` after it began whoever is still
    broken is taken at its word.
    """

    least: int = 25
    share: float = 0.1
    window: timedelta = timedelta(minutes=10)
    calm: timedelta = timedelta(minutes=15)
    longest: timedelta = timedelta(hours=1)

    def limit(self, accounts: int) -> int:
        """How many of so many accounts may break within the window before it is a storm."""
        return max(self.least, int(self.share * accounts))

    def breaks_out(self, broken_lately: int, accounts: int) -> bool:
        return broken_lately > self.limit(accounts)


@dataclass(frozen=True, slots=True)
class StormFacts:
    """A storm as it stands: how many of its accounts are broken still, and when the last one broke."""

    began_at: datetime
    last_at: datetime
    still_broken: int
    accounts: int


def ends(storm: StormFacts, now: datetime, policy: StormPolicy) -> str | None:
    """Why the hold ends now, or ``None`` while it lasts."""
    if storm.still_broken == 0:
        return "every account recovered by itself"
    if now - storm.began_at >= policy.longest:
        return "it lasts: what is still broken needs its people"
    quiet = now - storm.last_at >= policy.calm
    if quiet and not policy.breaks_out(storm.still_broken, storm.accounts):
        return "it abated: few are still broken"
    return None


def looks_again_at(storm: StormFacts, now: datetime, policy: StormPolicy) -> datetime:
    """When a storm that lasts is judged again: often enough that a recovery is not held up."""
    return min(now + policy.calm / 5, max(storm.began_at + policy.longest, now + timedelta(seconds=1)))
