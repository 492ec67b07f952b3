"""Who comes to the public listener, and how often they may be wrong."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

MOST_ADDRESSES = 10_000


def network(address: str, *, v4: int = 32, v6: int = 64) -> str:
    """The network that an address belongs to, by prefix lengths; whoever has one IPv6 address has 2^64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    prefix = v4 if parsed.version == 4 else v6
    return str(ipaddress.ip_network((parsed, prefix), strict=False))


class Seldom:
    """What may happen any number of times and is told once in a while, for each of its kinds by itself."""

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._told_at: dict[str, float] = {}

    def is_due(self, what: str, now: float) -> bool:
        """Whether it is told this time. ``now`` and the time between two are in seconds."""
        if now - self._told_at.get(what, -self._every) < self._every:
            return False
        self._told_at[what] = now
        return True


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
