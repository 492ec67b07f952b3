"""How much goes into one transaction, where others wait for its end: as much as takes about so long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass
class Pace:
    """``number`` is how many to take next: at first the fewest, then what fits into ``span`` by how long those before
    took, between ``fewest`` and ``most``.
    """

    span: timedelta
    fewest: int
    most: int

    def __post_init__(self) -> None:
        self.number = min(self.fewest, self.most)

    def learn(self, done: int, took: timedelta) -> None:
        """So many took so long."""
        fitting = int(done * (self.span / max(took, timedelta.resolution)))
        self.number = min(self.most, max(self.fewest, fitting))
