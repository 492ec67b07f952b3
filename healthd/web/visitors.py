"""How often an address may be wrong."""

from __future__ import annotations

from collections import OrderedDict

MOST_ADDRESSES = 10_000


class Mistakes:
    """A token bucket for each address: so many mistakes at once, and ``per_second`` more with time.

    Remembers a bounded number of addresses; the ones that were not heard of for longest are forgotten first.
    """

    def __init__(self, at_once: int = 20, per_second: float = 0.5) -> None:
        self._at_once, self._per_second = at_once, per_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def again(self, address: str, now: float) -> bool:
        """Counts a mistake; whether it was one too many."""
        left, at = self._left.pop(address, (float(self._at_once), now))
        left = min(self._at_once, left + max(0.0, now - at) * self._per_second) - 1
        self._left[address] = max(left, -1.0), now
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return left < 0
