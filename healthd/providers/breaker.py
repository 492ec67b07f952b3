"""A circuit breaker for one workspace's API: while it fails, it is left alone, and asked once in a while.

Pure bookkeeping on one steady clock in seconds. A person's click may pass while it is open: somebody is waiting.
"""

from __future__ import annotations

import random

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 300.0


class Breaker:
    """Closed while the API works. A failure opens it for a pause, which doubles with each failure in a row; after the
    pause one call at a time may try whether it works again (half-open).
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.failures = 0
        self.opens_until = 0.0

    def failed(self, now: float) -> None:
        """A call met trouble of the API or the workspace. Calls under way together count once."""
        if self.failures and now < self.opens_until:
            return
        self.failures += 1
        pause = min(FIRST_PAUSE * 2 ** min(self.failures - 1, 16), LONGEST_PAUSE)
        self.opens_until = now + pause * self._rng.uniform(0.5, 1.0)

    def worked(self) -> None:
        self.failures, self.opens_until = 0, 0.0

    def is_open(self, now: float) -> bool:
        """Whether nothing but a click may go."""
        return now < self.opens_until

    @property
    def is_trying(self) -> bool:
        """Whether the API has not been seen to work since it failed: one call at a time."""
        return self.failures > 0
