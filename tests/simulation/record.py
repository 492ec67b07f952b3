"""What happened, in order: enough to tell two runs apart, and to tell the story of what went wrong."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn

KEPT = 60
"""Lines of one subject that a failure prints."""


class Violated(BaseException):
    """A promise was broken. ``subject`` is the account's ref, or a word for what else it is about. No handler of the
    code under test may catch it.
    """

    def __init__(self, promise: str, what: str, subject: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise, self.what, self.subject = promise, what, subject


@dataclass
class Record:
    """``counts`` sums up; ``digest`` is equal for two runs exactly when the same happened in both."""

    now: Callable[[], datetime]
    counts: Counter[str] = field(default_factory=Counter)
    broken: Violated | None = None
    """The first promise that was broken."""
    told: Callable[[Violated], None] = lambda _: None
    _digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    _lines: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT)))

    def violated(self, promise: str, what: str, subject: str) -> NoReturn:
        """Ends the simulation. Raises ``Violated``."""
        error = Violated(promise, what, subject)
        if self.broken is None:
            self.broken = error
            self.told(error)
        raise error

    def note(self, subject: str, what: str, detail: str = "") -> None:
        self.counts[what] += 1
        line = f"{self.now():%Y-%m-%d %H:%M:%S.%f}  {what:<28} {detail}".rstrip()
        self._digest.update(f"{subject} {line}\n".encode())
        self._lines[subject].append(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def history(self, subject: str) -> list[str]:
        """The last lines about one subject, and of the process beside it."""
        return sorted({*self._lines[subject], *list(self._lines["process"])[-10:]})
