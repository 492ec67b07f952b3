"""Observations for the machine, as they come in: a reading is an answer to a question, an event just arrives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from healthd.core.model import Account, Observation, Signal, Source

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

SOURCES: dict[Signal, tuple[Source, ...]] = {
    Signal.OK: (Source.BULK, Source.HEALTH),
    Signal.ERROR: (Source.BULK, Source.HEALTH),
    Signal.BAD_TOKEN: (Source.BULK, Source.HEALTH),
    Signal.TOKEN_EXPIRED: (Source.WEBHOOK,),
    Signal.DISCONNECTED: (Source.WEBHOOK,),
    Signal.CONNECTED: (Source.WEBHOOK, Source.INVENTORY),
    Signal.GONE: (Source.INVENTORY,),
    Signal.CONFIRM_TIMEOUT: (Source.CLOCK,),
    Signal.POST_FAILED: (Source.WEBHOOK,),
}
"""What can be observed, and where. ``EXPIRING``, ``BAD_CONNECTION`` and ``UNANSWERED`` are conclusions, which nobody
observes.
"""


def account(**facts: Any) -> Account:
    return Account(**{"workspace": "acme", "ref": "1", "platform": "facebook", **facts})


def seen(signal: Signal, at: datetime | None = NOON, **facts: Any) -> Observation:
    source = facts.pop("source", SOURCES[signal][0])
    if source in {Source.BULK, Source.HEALTH}:
        facts.setdefault("asked_at", at)
    return Observation("1", signal, source, None if source is Source.CLOCK else at, **facts)


@st.composite
def histories(
    draw: st.DrawFn, signals: tuple[Signal, ...] = tuple(SOURCES), longest: int = 20
) -> list[tuple[datetime, Observation]]:
    """``(now, observation)`` pairs in the order of their arrival, which is not the order of the provider's times."""
    now, found = NOON, []
    for signal in draw(st.lists(st.sampled_from(signals), max_size=longest)):
        now += draw(st.sampled_from([SECOND, 20 * SECOND, 6 * MINUTE, HOUR, DAY]))
        at = now - draw(st.sampled_from([0, 0, 0, 1, 60, 7200])) * SECOND
        source = draw(st.sampled_from(SOURCES[signal]))
        reading = source in {Source.BULK, Source.HEALTH}
        found.append(
            (
                now,
                seen(
                    signal,
                    at,
                    source=source,
                    validity_days=draw(st.none() | st.integers(0, 60)) if reading else None,
                    paused=draw(st.none() | st.booleans()) if reading else None,
                ),
            )
        )
    return found
