"""What a sweep's rows tell that is not known already."""

from __future__ import annotations

from collections.abc import Mapping

from healthd.core.model import Observation, Signal, Source
from healthd.engine import Engine
from healthd.store.accounts import Known

STILL_BROKEN = frozenset({Signal.BAD_TOKEN, Signal.ERROR})
"""What a sweep's row says of an account that posting to is to be paused."""


class Comparison:
    """Compares readings with what was known when they were asked for. ``active`` are the refs of accounts that are
    broken and to which posting goes on, where ``pausing`` says that somebody cares.
    """

    def __init__(self, engine: Engine, known: Mapping[str, Known], *, pausing: bool) -> None:
        self.known = known
        self.active: list[str] = []
        self._engine = engine
        self._pausing = pausing
        self._verdicts: dict[tuple[Known, Signal, int | None, bool | None], bool] = {}

    def is_news(self, ref: str, signal: Signal, validity_days: int | None, paused: bool | None) -> bool:
        if self._pausing and paused is False and signal in STILL_BROKEN:
            self.active.append(ref)
        before = self.known.get(ref)
        if before is None:
            return True
        # A million accounts say few different things, and each is thought about once.
        question = (before, signal, validity_days, paused)
        verdict = self._verdicts.get(question)
        if verdict is None:
            seen = Observation(ref, signal, Source.BULK, None, validity_days=validity_days, paused=paused)
            verdict = self._verdicts[question] = self._engine.is_news(before, seen)
        return verdict
